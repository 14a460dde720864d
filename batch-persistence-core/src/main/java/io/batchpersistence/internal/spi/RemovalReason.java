package io.batchpersistence.internal.spi;

/** Why a batch was removed. The number is part of the journal's format and never changes its meaning. */
public enum RemovalReason {
    /** The collector has it. */
    DELIVERED(1),
    /** Outlived its TTL. */
    EXPIRED(2),
    /** Dropped to make room. */
    EVICTED(3),
    /** Removed on request. */
    DISCARDED(4),
    /** Lost to damage on disk. */
    CORRUPT(5);

    private final int id;

    RemovalReason(int id) {
        this.id = id;
    }

    /** Its number in the journal. */
    public int id() {
        return id;
    }

    /**
     * The reason with that number in the journal.
     *
     * @throws IllegalArgumentException if there is none
     */
    public static RemovalReason of(int id) {
        for (RemovalReason reason : values()) {
            if (reason.id == id) {
                return reason;
            }
        }
        throw new IllegalArgumentException("unknown cause " + id);
    }
}
