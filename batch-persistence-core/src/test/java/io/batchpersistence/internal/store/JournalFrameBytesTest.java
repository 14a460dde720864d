package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HexFormat;
import org.junit.jupiter.api.Test;

/** Bytes of the frames that the golden journal of the segment store does not contain. */
class JournalFrameBytesTest {

    @Test
    void settled_and_file_end_are_written_as_ever() {
        BatchIndex index = new BatchIndex();
        index.type("a");
        index.type("b");
        JournalFrames frames = new JournalFrames(7, new JournalFrames.Names());
        frames.settled(1, index.type("c"), Cause.EXPIRED);
        frames.clear(); // the type's name, which the golden journal has
        frames.settled(1, index.type("c"), Cause.EXPIRED);
        frames.fileEnd(3, 4);
        assertThat(HexFormat.of().formatHex(frames.array(), 0, frames.length()))
                .isEqualTo("b502000d7c07f8f200000000000000010000000202" + "b509000c5932349c000000030000000000000004");
    }

    @Test
    void paused_is_written_as_ever() {
        BatchIndex index = new BatchIndex();
        index.type("a");
        JournalFrames frames = new JournalFrames(7, new JournalFrames.Names());
        index.type("b").paused = true;
        frames.paused(index.type("b"));
        frames.clear(); // the type's name
        frames.paused(index.type("b"));
        index.type("b").paused = false;
        frames.paused(index.type("b"));
        assertThat(HexFormat.of().formatHex(frames.array(), 0, frames.length()))
                .isEqualTo("b50d00051306e87a0000000101" + "b50d0005e16d6b790000000100");
    }
}
