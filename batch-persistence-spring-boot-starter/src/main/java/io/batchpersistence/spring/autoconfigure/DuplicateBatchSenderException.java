package io.batchpersistence.spring.autoconfigure;

/** Two senders serve the same collector type. */
final class DuplicateBatchSenderException extends IllegalStateException implements StartUpFailure {

    DuplicateBatchSenderException(String collectorType, String first, String second) {
        super("The BatchSender beans '" + first + "' and '" + second + "' both send the batches of the collector type '"
                + collectorType
                + "'. A sender's collector types are those of its @CollectorType, or its bean name if it has"
                + " none.");
    }

    @Override
    public String action() {
        return "Remove one of the two beans, or name another collector type in its @CollectorType.";
    }
}
