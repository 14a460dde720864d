package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.internal.spi.RemovalReason;
import java.time.Instant;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Frame bytes that the golden journal of the segment store does not contain. */
class JournalFrameBytesTest {

    private final JournalFrames frames = new JournalFrames(7, new JournalFrames.Reasons());

    private void assertWritten(String hex) {
        assertThat(HexFormat.of().formatHex(frames.array(), 0, frames.length())).isEqualTo(hex);
    }

    @Test
    void settled_and_what_is_told_of_files_are_written_as_ever() {
        frames.settled(1, new BatchIndex().type("c"), RemovalReason.EXPIRED);
        frames.fileEnd(3, new PayloadLog.FileEnd(4, 5));
        frames.files(6);
        assertWritten("b501000a20d3ba6e00000000000000010263" + "b50d0014df4e6da2000000030000000000000004"
                + "0000000000000005" + "b50c0004847eb0ce00000006");
    }

    @Test
    void paused_is_written_as_ever() {
        BatchIndex.Type type = new BatchIndex().type("b");
        type.paused = true;
        frames.paused(type);
        type.paused = false;
        frames.paused(type);
        assertWritten("b50b00026b76cbc30162" + "b50b000278d453b40062");
    }

    @Test
    void withdrawn_is_written_as_ever() {
        frames.withdrawn(1, new BatchIndex().type("c"));
        assertWritten("b5020009" + "a0a03f2f" + "0000000000000001" + "63");
    }

    @Test
    void forgotten_is_written_as_ever() {
        frames.forgotten(new BatchIndex().type("c"));
        assertWritten("b50a0001ab01039f63");
    }

    @Test
    void earlier_failures_are_written_as_ever() {
        List<FailedAttempt> earlier = List.of(
                new FailedAttempt(Instant.ofEpochMilli(10), "x"), new FailedAttempt(Instant.ofEpochMilli(20), "x"));
        frames.persistedState(5, new PersistedState(true, 30, 3, 30, BatchIndex.NEVER, "x", earlier));
        assertWritten(
                // Reason 1 is x.
                "b50600058353e4080000000178"
                        + "b5050020ba5b75f20000000000000005" + "000000000000000a00000001"
                        + "000000000000001400000001"
                        + "b5040020d913289a0000000000000005000000000000001e00000003000000000000001e00000001");
    }
}
