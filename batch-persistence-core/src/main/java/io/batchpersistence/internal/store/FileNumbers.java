package io.batchpersistence.internal.store;

/** Numbers in file names: always the same ASCII digits, whatever the default locale. */
public final class FileNumbers {

    private FileNumbers() {}

    /**
     * A number with leading zeros. Cheap: a name is made for each read.
     *
     * @param number not negative
     * @param digits how many at least
     * @return ASCII digits
     */
    public static String padded(long number, int digits) {
        String text = Long.toString(number);
        return "0".repeat(Math.max(0, digits - text.length())) + text;
    }
}
