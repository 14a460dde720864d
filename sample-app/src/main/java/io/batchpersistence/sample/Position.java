package io.batchpersistence.sample;

/**
 * A place in a file.
 *
 * @param offset in bytes
 * @param line the number of the line that contains this place, from 1
 * @param part the number of parts of that line before this place; 0 at the start of a line
 */
record Position(long offset, long line, int part) {

    static final Position START = new Position(0, 1, 0);

    Position {
        if (offset < 0 || line < 1 || part < 0) {
            throw new IllegalArgumentException(
                    "no such position: offset " + offset + ", line " + line + ", part " + part);
        }
    }

    Position afterLine(long bytes) {
        return new Position(offset + bytes, line + 1, 0);
    }

    Position afterPart(long bytes) {
        return new Position(offset + bytes, line, part + 1);
    }
}
