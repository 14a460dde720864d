package io.batchpersistence;

import java.nio.channels.UnresolvedAddressException;
import java.nio.channels.UnsupportedAddressTypeException;
import java.util.Set;

/**
 * Recognizes exceptions that mean that a batch could not be turned into a request, so that the collector is not the
 * cause.
 */
final class BatchFaults {

    /**
     * Simple class names, because the core depends on none of these libraries: Kafka, Spring and others; Jackson;
     * Spring's HTTP clients. The exceptions that they throw when a response can't be read have other names, and are not
     * the batch's fault.
     */
    private static final Set<String> NAMES = Set.of(
            "SerializationException",
            "NotSerializableException",
            "RecordTooLargeException",
            "StreamWriteException",
            "JsonGenerationException",
            "InvalidDefinitionException",
            "HttpMessageNotWritableException",
            "EncodingException");

    private BatchFaults() {}

    /** Checks the exception itself and not its causes: the code that wrapped it may have sent something already. */
    static boolean isOne(Throwable failure) {
        if (failure instanceof UnresolvedAddressException || failure instanceof UnsupportedAddressTypeException) {
            // An IllegalArgumentException by inheritance only: the cause is the network.
            return false;
        }
        if (failure instanceof NullPointerException || failure instanceof IllegalArgumentException) {
            return true;
        }
        for (Class<?> type = failure.getClass(); type != Throwable.class; type = type.getSuperclass()) {
            if (NAMES.contains(type.getSimpleName())) {
                return true;
            }
        }
        return false;
    }
}
