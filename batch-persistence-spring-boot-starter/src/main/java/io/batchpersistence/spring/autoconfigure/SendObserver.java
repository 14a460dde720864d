package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchSender;
import io.batchpersistence.RecoveryTarget;

/** What is done around attempts to send. Names no class of Micrometer, which may be absent. */
interface SendObserver {

    /** Nothing. */
    SendObserver NONE = new SendObserver() {
        @Override
        public BatchSender sender(BatchSender sender) {
            return sender;
        }

        @Override
        public RecoveryTarget sending(BatchSender sender) {
            return RecoveryTarget.of(sender);
        }

        @Override
        public RecoveryTarget settling(RecoveryTarget target) {
            return target;
        }
    };

    /** For first sends. */
    BatchSender sender(BatchSender sender);

    /** Sends what is recovered, and acknowledges. */
    RecoveryTarget sending(BatchSender sender);

    /** For who settles what is recovered, now or later. */
    RecoveryTarget settling(RecoveryTarget target);
}
