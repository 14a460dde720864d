package io.batchpersistence;

import java.nio.channels.UnresolvedAddressException;
import java.nio.channels.UnsupportedAddressTypeException;
import java.util.Set;

/** Which exceptions come from a batch that can't be turned into a request, so that the collector is not to blame. */
final class BatchFaults {

    /**
     * Simple names, for the core knows none of these libraries: Kafka, Spring and others; Jackson; Spring's HTTP clients. What they
     * throw when an answer can't be read has other names, and is no fault of the batch.
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

    /** Looks at the exception itself and not at its causes: who has wrapped it may have sent something already. */
    static boolean isOne(Throwable failure) {
        if (failure instanceof UnresolvedAddressException || failure instanceof UnsupportedAddressTypeException) {
            return false; // an IllegalArgumentException by ancestry only: the network's fault
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
