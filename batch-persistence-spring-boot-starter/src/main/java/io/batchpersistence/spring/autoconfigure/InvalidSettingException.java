package io.batchpersistence.spring.autoconfigure;

/** A setting, or a combination of settings, that is invalid. */
final class InvalidSettingException extends IllegalArgumentException implements StartUpFailure {

    private final String key;
    private final String action;

    /**
     * Creates an exception for one key.
     *
     * @param key the key as in YAML, below {@code batch_persistence}
     * @param problem what is wrong, starting with a verb: "is 0, but …"
     * @param action what to change
     */
    InvalidSettingException(String key, String problem, String action) {
        super("batch_persistence." + key + " " + problem);
        this.key = key;
        this.action = action;
    }

    /** The key without the prefix, with underscores. */
    String key() {
        return key;
    }

    @Override
    public String action() {
        return action;
    }
}
