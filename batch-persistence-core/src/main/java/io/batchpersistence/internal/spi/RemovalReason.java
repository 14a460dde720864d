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

    /**
     * Returns its number in the journal.
     *
     * @return the number
     */
    public int id() {
        return id;
    }

    /**
     * Returns the reason with a number.
     *
     * @param id its number in the journal
     * @return the reason
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
