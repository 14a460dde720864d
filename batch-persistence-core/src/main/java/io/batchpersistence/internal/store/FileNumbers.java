package io.batchpersistence.internal.store;

/** Numbers in file names: always the same ASCII digits, whatever the default locale. */
public final class FileNumbers {

    private FileNumbers() {}

    /**
     * Pads a number with leading zeros. Cheap, because each read builds a name.
     *
     * @param number not negative
     * @param digits minimum number of digits
     * @return ASCII digits
     */
    public static String padded(long number, int digits) {
        String text = Long.toString(number);
        return "0".repeat(Math.max(0, digits - text.length())) + text;
    }
}
