package io.batchpersistence.spring.actuate;

import java.time.Duration;

/** Receives the measurements of sends. Has no dependency on Micrometer, which may be absent. Thread-safe. */
interface SendMeters {

    /** Records nothing; the tag is the collector type itself. */
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

    /** The value of the tag {@code collector}; the number of distinct values is limited. */
    String tagOf(String collectorType);

    /** A batch was handed to its sender, this long after it had become due. */
    void handedOver(String collectorType, Duration overdue);

    /** A batch of this age has been sent. */
    void delivered(String collectorType, Duration age);
}
