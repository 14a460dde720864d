package io.batchpersistence.internal.segment;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.internal.codec.Formats;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.test.Batches;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * A segment without records and with a dictionary, as an earlier process may have left it. A store that opens it
 * compresses with that dictionary from then on, however small its segments are.
 */
public final class PlantedDictionary {

    /** The name of the file. */
    public static final String FILE = "0000000001.segment";

    private static final int SIZE = 640;

    private PlantedDictionary() {}

    /** The content of the file. */
    public static byte[] segment() {
        return SegmentHead.toBytes(1, dictionary(), 512);
    }

    static ZstdDictionary dictionary() {
        List<byte[]> samples = new ArrayList<>();
        for (int entries = 1; entries <= 60; entries++) {
            samples.add(Formats.codec(BatchFormat.PROTOBUF).encode(Batches.entries(entries)));
        }
        return Objects.requireNonNull(ZstdDictionary.train(samples, SIZE));
    }
}
