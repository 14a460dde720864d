package io.batchpersistence;

import java.time.Duration;

/** Checks shared by the settings records. */
final class Settings {

    private Settings() {}

    static void positive(Duration value, String name) {
        if (value.isNegative() || value.isZero()) {
            throw new IllegalArgumentException(name + " must be positive, but is " + value);
        }
    }
}
