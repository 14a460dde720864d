package io.batchpersistence.spring.actuate;

import java.time.Duration;

/** Where numbers about sends go. Knows nothing of Micrometer, which may be absent. Thread-safe. */
interface SendMeters {

    /** Counts nothing, and tells collector types apart as they are. */
    SendMeters NONE = new SendMeters() {
        @Override
        public String tagOf(String collectorType) {
            return collectorType;
        }

        @Override
        public void handedOver(String collectorType, Duration overdue) {}

        @Override
        public void delivered(String collectorType, Duration age) {}
    };

    /** The value of the tag {@code collector}, of which there is only a bounded number. */
    String tagOf(String collectorType);

    /** A batch went to its sender, that long after it had become due. */
    void handedOver(String collectorType, Duration overdue);

    /** A batch of that age has been sent. */
    void delivered(String collectorType, Duration age);
}
