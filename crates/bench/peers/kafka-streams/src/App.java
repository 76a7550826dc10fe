import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The KYC flow on Kafka Streams: every agent is a processor, the composer joins in a state store, and what is read, kept
 * and written is one transaction (exactly_once_v2).
 *
 * <p>Environment: BROKERS, MODEL_URL, IN_TOPIC, OUT_TOPIC; PREFIX of the topics between and application id; PARTITIONS; REPLICAS;
 * THREADS (stream threads, PARTITIONS if not said); GUARANTEE; COMMIT_MS; SETTLE_MS before fraud judges; DEADLINE_S of a
 * case; STATE_DIR; MODE=topics, in which tasks and results are topics so that the agents of a case work side by side, or
 * MODE=direct, in which the agents of a case run one after the other in one thread and nothing is written between.
 */
public final class App {
  private static final Map<String, String> ENV = System.getenv();
  private static final String IN = ENV.get("IN_TOPIC"), OUT = ENV.get("OUT_TOPIC");
  private static final String PREFIX = ENV.getOrDefault("PREFIX", OUT + ".kafka-streams");
  private static final int PARTITIONS = number("PARTITIONS", 6);
  private static final long SETTLE = number("SETTLE_MS", 2000), DEADLINE = number("DEADLINE_S", 300) * 1000L;
  private static final boolean DIRECT = ENV.getOrDefault("MODE", "topics").equals("direct");
  private static final String RESULTS = PREFIX + ".results", SEEN = PREFIX + ".seen", DLQ = IN + ".dlq";
  private static final String ALERTS = OUT + ".alerts", MESSAGES = OUT + ".messages";
  private static final Duration REMEMBERED = Duration.ofHours(24);

  private static Kyc kyc;
  private static final Fraud.History HISTORY = new Fraud.History();

  private static int number(String name, int otherwise) {
    return Integer.parseInt(ENV.getOrDefault(name, "" + otherwise));
  }

  private static String tasks(String agent) {
    return PREFIX + ".tasks." + agent;
  }

  private static byte[] bytes(JsonNode value) {
    try {
      return Checks.JSON.writeValueAsBytes(value);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static JsonNode json(byte[] value) {
    try {
      return Checks.JSON.readTree(value);
    } catch (IOException e) {
      return null;
    }
  }

  private static ObjectNode task(int round, String question, JsonNode request) {
    return (ObjectNode) Checks.object().put("round", round).put("question", question).set("request", request);
  }

  /** A processor of records with text keys. */
  private abstract static class Step implements Processor<String, byte[], String, byte[]> {
    ProcessorContext<String, byte[]> context;

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
    }

    void send(String child, String key, JsonNode value) {
      context.forward(new Record<>(key, bytes(value), context.currentSystemTimeMs()), child);
    }
  }

  private static final class Supervisor extends Step {
    @Override
    public void process(Record<String, byte[]> record) {
      JsonNode request = record.value() == null ? null : json(record.value());
      String key = record.key();
      if (key == null) key = context.recordMetadata().map(m -> m.topic() + "-" + m.partition() + "-" + m.offset()).orElse("?");
      if (request == null || !readable(request)) {
        context.forward(record.withKey(key), "to-dlq");
        return;
      }
      ObjectNode plan = Checks.object().put("kind", "plan").put("opened_at", context.currentSystemTimeMs());
      Checks.AGENTS.forEach(plan.putArray("agents")::add);
      plan.set("request", request);
      send("to-seen", key, request);
      send(DIRECT ? "composer" : "to-results", key, plan);
      for (String agent : Checks.AGENTS) send(DIRECT ? agent : "to-" + agent, key, task(0, null, request));
    }
  }

  /** Whether it is an application; what is not is a dead letter. */
  private static boolean readable(JsonNode request) {
    for (String member : List.of("document", "source"))
      if (request.hasNonNull(member) && !request.path(member).isObject()) return false;
    return request.at("/applicant/name").isTextual();
  }

  private static class Agent extends Step {
    final String name;

    Agent(String name) {
      this.name = name;
    }

    @Override
    public void process(Record<String, byte[]> record) {
      JsonNode task = json(record.value());
      answer(record.key(), task, kyc.check(name, record.key(), task.path("request"), task));
    }

    void answer(String key, JsonNode task, JsonNode part) {
      ObjectNode result = Checks.object().put("kind", "part");
      result.set("round", task.path("round"));
      result.set("part", part);
      send(DIRECT ? "composer" : "to-results", key, result);
    }
  }

  /** Judges a case once it has settled; until then its task is in a store. */
  private static final class FraudAgent extends Agent {
    private KeyValueStore<String, byte[]> settling;
    private final LinkedHashMap<String, Long> due = new LinkedHashMap<>();

    FraudAgent() {
      super("fraud");
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      super.init(context);
      settling = context.getStateStore("settling");
      try (var all = settling.all()) {
        all.forEachRemaining(task -> due.put(task.key, context.currentSystemTimeMs() + SETTLE));
      }
      if (SETTLE > 0) context.schedule(Duration.ofMillis(50), PunctuationType.WALL_CLOCK_TIME, this::judge);
    }

    @Override
    public void process(Record<String, byte[]> record) {
      JsonNode task = json(record.value());
      if (SETTLE == 0) {
        answer(record.key(), task, kyc.fraud.check(record.key(), task.path("request"), HISTORY));
        return;
      }
      settling.put(record.key(), record.value());
      due.putIfAbsent(record.key(), context.currentSystemTimeMs() + SETTLE);
    }

    private void judge(long now) {
      for (String key : passed(due, now)) {
        JsonNode task = json(settling.delete(key));
        answer(key, task, kyc.fraud.check(key, task.path("request"), HISTORY));
      }
    }
  }

  /** Takes what is due; all wait equally long, so that the oldest is first. */
  private static List<String> passed(LinkedHashMap<String, Long> due, long now) {
    List<String> passed = new ArrayList<>();
    for (var entry : due.entrySet()) {
      if (entry.getValue() > now) break;
      passed.add(entry.getKey());
    }
    passed.forEach(due::remove);
    return passed;
  }

  /** Joins. A case is one value in the store `cases`; a case that is closed is a key in `closed` for a day. */
  private static final class Composer extends Step {
    private KeyValueStore<String, byte[]> cases;
    private WindowStore<String, byte[]> closed;
    private final LinkedHashMap<String, Long> due = new LinkedHashMap<>();

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      super.init(context);
      cases = context.getStateStore("cases");
      closed = context.getStateStore("closed");
      try (var all = cases.all()) {
        // What has no plan yet has no deadline either: it is waited for.
        Map<String, Long> opened = new HashMap<>();
        all.forEachRemaining(c -> {
          JsonNode state = json(c.value);
          if (state.has("request")) opened.put(c.key, state.path("opened_at").asLong());
        });
        opened.entrySet().stream().sorted(Map.Entry.comparingByValue()).forEach(c -> due.put(c.getKey(), c.getValue() + DEADLINE));
      }
      context.schedule(Duration.ofSeconds(1), PunctuationType.WALL_CLOCK_TIME, this::watchDeadlines);
    }

    @Override
    public void process(Record<String, byte[]> record) {
      String key = record.key();
      if (isClosed(key)) return;
      JsonNode result = json(record.value());
      byte[] known = cases.get(key);
      ObjectNode state = known == null ? Checks.object().put("round", 0) : (ObjectNode) json(known);
      ObjectNode parts = state.withObjectProperty("parts");
      if (result.path("kind").asText().equals("plan")) {
        if (state.has("request")) return;
        state.set("request", result.path("request"));
        state.set("opened_at", result.path("opened_at"));
        state.set("waits_for", result.path("agents"));
        due.put(key, context.currentSystemTimeMs() + DEADLINE);
      } else {
        JsonNode part = result.path("part");
        int round = result.path("round").asInt();
        String agent = part.path("agent").asText();
        if (parts.has(agent) && round != state.path("round").asInt()) return;
        parts.set(agent, part);
        state.withObjectProperty("answered").put(agent, round);
        ObjectNode alert = round == 0 ? kyc.outcome.alert(key, part) : null;
        if (alert != null) send("to-alerts", key, alert);
      }
      Set<String> missing = missing(state);
      if (state.has("request") && missing.isEmpty()) settle(key, state, missing);
      else cases.put(key, bytes(state));
    }

    private static Set<String> missing(JsonNode state) {
      Set<String> missing = new TreeSet<>();
      for (JsonNode agent : state.path("waits_for"))
        if (state.path("answered").path(agent.asText()).asInt(-1) != state.path("round").asInt()) missing.add(agent.asText());
      return missing;
    }

    private void settle(String key, ObjectNode state, Set<String> missing) {
      ObjectNode decided = kyc.outcome.compose(key, state, missing);
      if (decided.has("ask")) {
        int round = state.path("round").asInt() + 1;
        state.put("round", round).putArray("waits_for");
        decided.path("ask").properties().forEach(q -> {
          state.withArrayProperty("waits_for").add(q.getKey());
          send("to-" + q.getKey(), key, task(round, q.getValue().asText(), state.path("request")));
        });
        cases.put(key, bytes(state));
        return;
      }
      cases.delete(key);
      due.remove(key);
      closed.put(key, new byte[] {1}, context.currentSystemTimeMs());
      send("to-out", key, decided);
      ObjectNode task = Checks.object();
      task.set("request", state.path("request"));
      task.set("outcome", decided);
      send(DIRECT ? "customer" : "to-customer", key, task);
    }

    private boolean isClosed(String key) {
      Instant now = Instant.ofEpochMilli(context.currentSystemTimeMs());
      try (var found = closed.fetch(key, now.minus(REMEMBERED), now)) {
        return found.hasNext();
      }
    }

    private void watchDeadlines(long now) {
      for (String key : passed(due, now)) {
        ObjectNode state = (ObjectNode) json(cases.get(key));
        settle(key, state, missing(state));
      }
    }
  }

  private static final class Customer extends Step {
    @Override
    public void process(Record<String, byte[]> record) {
      JsonNode task = json(record.value());
      send("to-messages", record.key(), kyc.outcome.customer(record.key(), task.path("request"), task.path("outcome")));
    }
  }

  /** Every instance sees every case, as the fraud agent of the reference application does. */
  private static final class Observer implements Processor<String, byte[], Void, Void> {
    private KeyValueStore<String, byte[]> seen;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
      seen = context.getStateStore("seen");
    }

    @Override
    public void process(Record<String, byte[]> record) {
      seen.put(record.key(), record.value());
      HISTORY.add(record.key(), json(record.value()));
    }
  }

  private static StoreBuilder<KeyValueStore<String, byte[]>> store(String name) {
    return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), Serdes.ByteArray());
  }

  private static Topology topology() {
    Topology t = new Topology();
    ProcessorSupplier<String, byte[], Void, Void> observer = Observer::new;
    t.addGlobalStore(
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("seen"), Serdes.String(), Serdes.ByteArray()).withLoggingDisabled(),
        "from-seen", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), SEEN, "observer", observer);
    t.addSource("requests", IN).addProcessor("supervisor", Supervisor::new, "requests");
    t.addSink("to-dlq", DLQ, "supervisor").addSink("to-seen", SEEN, "supervisor");
    List<String> parents = new ArrayList<>();
    for (String agent : Checks.AGENTS) {
      ProcessorSupplier<String, byte[], String, byte[]> supplier = agent.equals("fraud") ? FraudAgent::new : () -> new Agent(agent);
      t.addSource("from-" + agent, tasks(agent));
      if (DIRECT) t.addProcessor(agent, supplier, "from-" + agent, "supervisor");
      else t.addProcessor(agent, supplier, "from-" + agent);
      parents.add(agent);
    }
    t.addStateStore(store("settling"), "fraud");
    String[] agents = parents.toArray(String[]::new);
    if (DIRECT) {
      parents.add("supervisor");
      t.addProcessor("composer", Composer::new, parents.toArray(String[]::new));
      for (String agent : agents) t.addSink("to-" + agent, tasks(agent), "composer");
      t.addProcessor("customer", Customer::new, "composer");
    } else {
      t.addSource("results", RESULTS).addProcessor("composer", Composer::new, "results");
      for (String agent : agents) t.addSink("to-" + agent, tasks(agent), "supervisor", "composer");
      parents.add("supervisor");
      t.addSink("to-results", RESULTS, parents.toArray(String[]::new));
      t.addSource("from-customer", tasks("customer")).addProcessor("customer", Customer::new, "from-customer");
      t.addSink("to-customer", tasks("customer"), "composer");
    }
    t.addStateStore(store("cases"), "composer");
    t.addStateStore(Stores.windowStoreBuilder(
        Stores.persistentWindowStore("closed", REMEMBERED, Duration.ofHours(1), false), Serdes.String(), Serdes.ByteArray()), "composer");
    t.addSink("to-out", OUT, "composer").addSink("to-alerts", ALERTS, "composer").addSink("to-messages", MESSAGES, "customer");
    return t;
  }

  private static Properties settings() {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, PREFIX);
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ENV.get("BROKERS"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, ENV.getOrDefault("GUARANTEE", StreamsConfig.EXACTLY_ONCE_V2));
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, number("THREADS", PARTITIONS));
    p.put(StreamsConfig.STATE_DIR_CONFIG, ENV.get("STATE_DIR"));
    p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    if (ENV.containsKey("COMMIT_MS")) p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, number("COMMIT_MS", 100));
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    return p;
  }

  private static void createTopics() throws InterruptedException, ExecutionException {
    List<String> names = new ArrayList<>(List.of(IN, OUT, RESULTS, SEEN, DLQ, ALERTS, MESSAGES, tasks("customer")));
    Checks.AGENTS.forEach(agent -> names.add(tasks(agent)));
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", ENV.get("BROKERS")))) {
      for (String name : names) {
        try {
          admin.createTopics(List.of(new NewTopic(name, PARTITIONS, (short) number("REPLICAS", 1)))).all().get();
        } catch (ExecutionException e) {
          if (!(e.getCause() instanceof TopicExistsException)) throw e;
        }
      }
    }
  }

  public static void main(String[] args) throws Exception {
    kyc = new Kyc(Checks.JSON.readTree(new File(args[0])));
    createTopics();
    KafkaStreams streams = new KafkaStreams(topology(), settings());
    CountDownLatch stopped = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(e -> {
      e.printStackTrace();
      return StreamThreadExceptionResponse.REPLACE_THREAD;
    });
    AtomicBoolean said = new AtomicBoolean();
    streams.setStateListener((now, before) -> {
      if (now == KafkaStreams.State.RUNNING && !said.getAndSet(true)) System.out.println("READY");
      if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) stopped.countDown();
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
    streams.start();
    stopped.await();
  }
}
