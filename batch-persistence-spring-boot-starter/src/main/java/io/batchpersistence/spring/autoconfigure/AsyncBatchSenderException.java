package io.batchpersistence.spring.autoconfigure;

/** A sender that returns before it has sent anything. */
final class AsyncBatchSenderException extends IllegalStateException implements StartUpFailure {

    AsyncBatchSenderException(String bean) {
        super("The BatchSender bean '" + bean
                + "' is asynchronous (@Async): its method send returns at once, which means that the"
                + " batch is delivered, and whatever fails afterwards on another thread would be lost with the batch.");
    }

    @Override
    public String action() {
        return "Remove @Async from the class and from its method send: senders are called on threads of their own anyway, several at"
                + " a time, see batch_persistence.recovery.concurrency. To settle a batch later, on another thread, listen to"
                + " RecoveredBatchEvent instead (such a listener may be @Async) and call its acknowledge() or fail(reason).";
    }
}
