// Makes the *.hex files beside it with Apache Kafka's own encoder:
//   java -cp "target/kafka-reference/libs/*" crates/kafka/src/batch/vectors/Vectors.java crates/kafka/src/batch/vectors
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

public class Vectors {
    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    static SimpleRecord[] records() {
        Header[] headers = {
            new RecordHeader("b", bytes("1")), new RecordHeader("a", null), new RecordHeader("b", bytes("2")),
            new RecordHeader("empty", new byte[0])
        };
        return new SimpleRecord[] {
            new SimpleRecord(1_700_000_000_000L, bytes("k1"), bytes("v1"), headers),
            new SimpleRecord(1_699_999_999_990L, (byte[]) null, (byte[]) null, new Header[0]),
            new SimpleRecord(1_700_000_000_500L, new byte[] {(byte) 0xff, (byte) 0xfe}, bytes("x".repeat(3000)), new Header[0]),
        };
    }

    static void write(Path dir, String name, MemoryRecords... parts) throws Exception {
        StringBuilder hex = new StringBuilder();
        for (MemoryRecords part : parts) {
            ByteBuffer buffer = part.buffer().duplicate();
            byte[] all = new byte[buffer.remaining()];
            buffer.get(all);
            hex.append(HexFormat.of().formatHex(all)).append('\n');
        }
        Files.writeString(dir.resolve(name + ".hex"), hex.toString());
    }

    static MemoryRecords marker(long offset, long producer, ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(
            offset, 1_700_000_000_900L, 3, producer, (short) 1, new EndTransactionMarker(type, 7));
    }

    static MemoryRecords transactional(long offset, long producer, String value) {
        return MemoryRecords.withTransactionalRecords(
            offset, Compression.NONE, producer, (short) 1, 0, 3, new SimpleRecord(1_700_000_000_000L, (byte[]) null, bytes(value)));
    }

    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[0]);
        for (CompressionType type : CompressionType.values()) {
            write(dir, type.name, MemoryRecords.withRecords(40L, Compression.of(type).build(), records()));
        }
        // Two producers, one of which aborts; between them a record without a transaction.
        write(dir, "transactions",
            transactional(0, 1, "aborted"), transactional(1, 2, "committed"),
            MemoryRecords.withRecords(2L, Compression.NONE, new SimpleRecord(1_700_000_000_000L, (byte[]) null, bytes("plain"))),
            marker(3, 1, ControlRecordType.ABORT), transactional(4, 1, "committed later"),
            marker(5, 2, ControlRecordType.COMMIT), marker(6, 1, ControlRecordType.COMMIT));
    }
}
