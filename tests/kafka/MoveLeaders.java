import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

/**
 * Moves the leaders of all partitions at a fixed pace, also while a broker is away, which Kafka's own tool refuses.
 *
 * The first of a partition's replicas is its preferred leader: the order of the replicas is turned by one, and preferred
 * leaders are elected. Prints a line per turn: "moved N". Run by tool.sh:
 *   MoveLeaders.java --bootstrap-server HOST:PORT EVERY_MS FOR_MS
 */
public final class MoveLeaders {
    public static void main(String[] args) throws Exception {
        if (args.length != 4 || !args[0].equals("--bootstrap-server")) {
            System.err.println("usage: MoveLeaders.java --bootstrap-server HOST:PORT EVERY_MS FOR_MS");
            System.exit(64);
        }
        long every = Long.parseLong(args[2]);
        long end = System.nanoTime() + Duration.ofMillis(Long.parseLong(args[3])).toNanos();
        Properties config = new Properties();
        config.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, args[1]);
        config.put(AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "4000");
        config.put(AdminClientConfig.REQUEST_TIMEOUT_MS_CONFIG, "2000");
        try (Admin admin = Admin.create(config)) {
            for (long next = System.nanoTime(); next < end; next += Duration.ofMillis(every).toNanos()) {
                Thread.sleep(Math.max(0, Duration.ofNanos(next - System.nanoTime()).toMillis()));
                try {
                    System.out.println("moved " + turn(admin));
                } catch (ExecutionException error) {
                    // The controller may be the broker that is away; the next turn finds another.
                    System.out.println("moved 0: " + error.getCause());
                }
            }
        }
    }

    /** Turns the replicas of every partition by one, elects, and counts the leaders that moved. */
    private static int turn(Admin admin) throws Exception {
        Set<String> topics = admin.listTopics().names().get();
        Map<TopicPartition, Optional<NewPartitionReassignment>> plan = new HashMap<>();
        for (var topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            for (TopicPartitionInfo partition : topic.partitions()) {
                List<Integer> replicas = new ArrayList<>();
                partition.replicas().forEach(node -> replicas.add(node.id()));
                replicas.add(replicas.remove(0));
                plan.put(new TopicPartition(topic.name(), partition.partition()),
                    Optional.of(new NewPartitionReassignment(replicas)));
            }
        }
        admin.alterPartitionReassignments(plan).all().get();
        int moved = 0;
        var elected = admin.electLeaders(ElectionType.PREFERRED, new HashSet<>(plan.keySet())).partitions().get();
        for (Optional<Throwable> refused : elected.values()) {
            // Refused where the leader is the preferred one already, or the preferred one is away.
            moved += refused.isPresent() ? 0 : 1;
        }
        return moved;
    }
}
