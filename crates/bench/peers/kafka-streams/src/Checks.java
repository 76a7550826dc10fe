import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.apache.commons.text.similarity.JaroWinklerSimilarity;

/** What the checks share: the data, the model, and how an answer is written. */
abstract class Checks {
  static final List<String> AGENTS = List.of("identity", "document", "fraud", "compliance");
  static final ObjectMapper JSON = new ObjectMapper();
  static final double RULES = 0.99, CLEARED = 0.98, CLEARED_UNEXPLAINED = 0.96, WITHOUT_ANSWER = 0.90, WITHOUT_ZONE = 0.80;
  static final JaroWinklerSimilarity JARO_WINKLER = new JaroWinklerSimilarity();

  final JsonNode data, policy;
  final Model model;

  Checks(JsonNode data, Model model) {
    this.data = data;
    this.policy = data.path("policy");
    this.model = model;
  }

  static ObjectNode object() {
    return JSON.createObjectNode();
  }

  static ObjectNode finding(String effect, String code, String detail, JsonNode evidence) {
    ObjectNode f = object().put("code", code).put("effect", effect).put("detail", detail);
    f.set("evidence", evidence == null ? object() : evidence);
    return f;
  }

  static ObjectNode part(String agent, double confidence, String disposition, ObjectNode output, ArrayNode findings) {
    output.set("findings", findings);
    ObjectNode part = object().put("agent", agent).put("version", "0.1.0").put("confidence", confidence);
    part.put("disposition", disposition).set("output", output);
    return part;
  }

  static String squeeze(String text) {
    return text.toUpperCase(Locale.ROOT).replaceAll("[^A-Z0-9]", "");
  }

  static List<String> words(String text) {
    String plain = text.replaceAll("['’`]", "").toUpperCase(Locale.ROOT);
    return Arrays.stream(plain.split("[^A-Z0-9]+")).filter(w -> !w.isEmpty()).toList();
  }

  static LocalDate date(JsonNode text) {
    try {
      return LocalDate.parse(text.asText("").trim());
    } catch (DateTimeException e) {
      return null;
    }
  }

  static LocalDate today() {
    return LocalDate.now(ZoneOffset.UTC);
  }

  static double round(double value) {
    return Math.round(value * 1000) / 1000.0;
  }

  static ObjectNode asked(ObjectNode value, JsonNode task) {
    value.set("round", task.path("round"));
    value.set("question", task.get("question"));
    return value;
  }

  static boolean holds(JsonNode list, String code) {
    for (JsonNode c : list) if (c.asText().equals(code)) return true;
    return false;
  }
}
