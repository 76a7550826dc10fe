import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** What a case shares with others. All of it is rules. */
final class Fraud extends Checks {
  Fraud(JsonNode data, Model model) {
    super(data, model);
  }

  record Traits(String network, String device, String document, String birthDate, String name) {
    static Traits of(JsonNode request) {
      List<String> name = new ArrayList<>(words(request.at("/applicant/name").asText("")));
      name.sort(null);
      return new Traits(request.at("/source/ip").asText(""), request.at("/source/device_id").asText(""),
          squeeze(request.at("/document/number").asText("")), request.at("/applicant/birth_date").asText(""), String.join(" ", name));
    }

    List<String> keys() {
      List<String> keys = new ArrayList<>();
      if (!network.isEmpty()) keys.add("n" + network);
      if (!device.isEmpty()) keys.add("d" + device);
      if (!document.isEmpty()) keys.add("o" + document);
      if (!birthDate.isEmpty()) keys.add("b" + birthDate);
      return keys;
    }
  }

  /** What was seen of other cases, by every thread: the first sight of each, at most so many. */
  static final class History {
    private static final int MOST = 100_000;
    private final LinkedHashMap<String, Traits> cases = new LinkedHashMap<>();
    private final Map<String, Set<String>> byKey = new TreeMap<>();

    synchronized void add(String caseId, JsonNode request) {
      if (cases.containsKey(caseId)) return;
      Traits own = Traits.of(request);
      cases.put(caseId, own);
      for (String key : own.keys()) byKey.computeIfAbsent(key, k -> new TreeSet<>()).add(caseId);
      if (cases.size() > MOST) {
        String oldest = cases.keySet().iterator().next();
        for (String key : cases.remove(oldest).keys()) byKey.getOrDefault(key, new TreeSet<>()).remove(oldest);
      }
    }

    synchronized Map<String, Traits> related(String caseId, Traits own) {
      Map<String, Traits> found = new TreeMap<>();
      for (String key : own.keys())
        byKey.getOrDefault(key, Set.of()).stream().filter(c -> !c.equals(caseId)).limit(200).forEach(c -> found.put(c, cases.get(c)));
      return found;
    }

    synchronized int size() {
      return cases.size();
    }
  }

  private static void signal(ArrayNode signals, String code, double weight, String detail, Set<String> cases, boolean alert) {
    ObjectNode s = signals.addObject().put("code", code).put("weight", weight).put("detail", detail).put("alert", alert);
    ArrayNode named = s.putArray("cases");
    cases.stream().sorted().limit(20).forEach(named::add);
  }

  ObjectNode check(String caseId, JsonNode request, History history) {
    Traits own = Traits.of(request);
    Map<String, Traits> related = history.related(caseId, own);
    ArrayNode signals = JSON.createArrayNode();
    for (boolean ip : new boolean[] {true, false}) {
      String mine = ip ? own.network : own.device, code = ip ? "IP" : "DEVICE", what = ip ? "address" : "device";
      if (mine.isEmpty()) continue;
      Set<String> others = new HashSet<>();
      related.forEach((c, t) -> { if (mine.equals(ip ? t.network : t.device)) others.add(c); });
      String detail = (others.size() + 1) + " applications from one " + what + " (" + mine + ")";
      if (others.size() + 1 >= policy.path(ip ? "ip_threshold" : "device_threshold").asInt())
        signal(signals, "SHARED_" + code, 0.8, detail, others, true);
      else if (!others.isEmpty()) signal(signals, code + "_SEEN_BEFORE", 0.01, detail, others, false);
    }
    Set<String> again = new HashSet<>(), reused = new HashSet<>();
    related.forEach((c, t) -> {
      boolean same = !own.birthDate.isEmpty() && t.birthDate.equals(own.birthDate) && JARO_WINKLER.apply(t.name, own.name) >= 0.92;
      if (same) again.add(c);
      else if (!own.document.isEmpty() && t.document.equals(own.document)) reused.add(c);
    });
    if (!reused.isEmpty())
      signal(signals, "DOCUMENT_REUSED", 0.02, "the document was used before, with another name or date of birth", reused, false);
    if (!again.isEmpty())
      signal(signals, "LIKE_PAST_CASE", 0, "someone of this name and date of birth applied before", again, false);
    double none = 1;
    boolean alert = false;
    ArrayNode found = JSON.createArrayNode();
    for (JsonNode s : signals) {
      none *= 1 - s.path("weight").asDouble();
      alert |= s.path("alert").asBoolean();
      ObjectNode evidence = object();
      evidence.set("weight", s.path("weight"));
      evidence.set("cases", s.path("cases"));
      found.add(finding(s.path("alert").asBoolean() ? "gate" : "note", s.path("code").asText(), s.path("detail").asText(), evidence));
    }
    double total = round(1 - none);
    ObjectNode output = object().put("score", total).put("compared_with", history.size());
    output.set("signals", signals);
    return part("fraud", alert ? RULES : Math.min(1 - total, RULES), alert ? "alert" : "clear", output, found);
  }
}
