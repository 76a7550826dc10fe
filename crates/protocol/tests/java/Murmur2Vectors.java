import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.Random;
import java.util.Set;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/**
 * Prints what the Java client makes of some 200 keys: hash and partition. generate.sh beside this file runs it; the
 * same keys come out every time.
 */
public final class Murmur2Vectors {
    private static final int[] PARTITIONS = {1, 2, 3, 6, 12, 50, 1000};
    private static final String[] TEXTS = {
        "", "0", "1", "21", "a", "ab", "abc", "abcd", "abcde", "foobar", "case-7", "kyc.requests", " ", "\0", "\n",
        "a-little-bit-long-string", "a-little-bit-longer-string", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
        "é", "ß", "Žofie", "Ελλάδα", "Київ", "東京", "日本語のキー", "한국어", "العربية", "עברית", "हिन्दी", "🙂", "🏳️‍🌈", "e\u0301",
        "00000000-0000-0000-0000-000000000000", "2b0b5f57-5bd0-5a6c-9c4d-1d2f3a4b5c6d",
    };

    public static void main(String[] args) {
        Set<String> seen = new LinkedHashSet<>();
        for (String text : TEXTS) {
            seen.add(hex(text.getBytes(StandardCharsets.UTF_8)));
        }
        // One byte of each kind of sign and tail, then binary keys of every length up to 64, then long ones.
        for (int b : new int[] {0x00, 0x01, 0x7f, 0x80, 0x81, 0xfe, 0xff}) {
            byte[] key = new byte[1 + (b & 3)];
            java.util.Arrays.fill(key, (byte) b);
            seen.add(hex(key));
        }
        Random random = new Random(2);
        for (int length = 1; length <= 64; length++) {
            seen.add(hex(bytes(random, length)));
            seen.add(hex(bytes(random, length)));
        }
        for (int length : new int[] {100, 255, 256, 257, 1000, 1023}) {
            seen.add(hex(bytes(random, length)));
        }
        for (int i = 0; i < 32; i++) {
            seen.add(hex(("case-" + Long.toUnsignedString(random.nextLong(), 36)).getBytes(StandardCharsets.UTF_8)));
        }
        System.out.println("# Made by tests/java/generate.sh with Apache Kafka's Java client. Do not edit.");
        StringBuilder header = new StringBuilder("key_hex,murmur2");
        for (int partitions : PARTITIONS) {
            header.append(",of_").append(partitions);
        }
        System.out.println(header);
        seen.forEach(Murmur2Vectors::print);
    }

    private static void print(String hex) {
        byte[] key = HexFormat.of().parseHex(hex);
        StringBuilder line = new StringBuilder(hex).append(',').append(Utils.murmur2(key));
        for (int partitions : PARTITIONS) {
            line.append(',').append(BuiltInPartitioner.partitionForKey(key, partitions));
        }
        System.out.println(line);
    }

    private static byte[] bytes(Random random, int length) {
        byte[] key = new byte[length];
        random.nextBytes(key);
        return key;
    }

    private static String hex(byte[] key) {
        return HexFormat.of().formatHex(key);
    }
}
