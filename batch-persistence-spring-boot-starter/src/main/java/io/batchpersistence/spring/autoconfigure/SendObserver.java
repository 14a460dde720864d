package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchSender;
import io.batchpersistence.RecoveryTarget;

/** Wraps attempts to send. Names no class of Micrometer, which may be absent. */
interface SendObserver {

    /** Observes nothing. */
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

    /** Wraps the sender of a first send. */
    BatchSender sender(BatchSender sender);

    /** Wraps a sender for recovery, which acknowledges after sending. */
    RecoveryTarget sending(BatchSender sender);

    /** Wraps a target that settles recovered batches itself, now or later. */
    RecoveryTarget settling(RecoveryTarget target);
}
