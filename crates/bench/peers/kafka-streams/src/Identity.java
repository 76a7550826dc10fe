import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.commons.codec.language.Soundex;

/** Jaro-Winkler over the whole and over the parts, Soundex widens, a second identifier decides. */
final class Identity extends Checks {
  private static final Soundex SOUNDEX = new Soundex();

  Identity(JsonNode data, Model model) {
    super(data, model);
  }

  private record Score(double value, boolean byParts, boolean soundsAlike) {}

  private static Score score(List<String> name, List<String> listed) {
    double full = JARO_WINKLER.apply(String.join(" ", name), String.join(" ", listed));
    record Pair(double value, int i, int j) {}
    List<Pair> pairs = new ArrayList<>();
    for (int i = 0; i < name.size(); i++)
      for (int j = 0; j < listed.size(); j++) pairs.add(new Pair(JARO_WINKLER.apply(name.get(i), listed.get(j)), i, j));
    pairs.sort(Comparator.comparingDouble(Pair::value).reversed());
    Set<Integer> taken = new HashSet<>(), used = new HashSet<>();
    double sum = 0;
    for (Pair p : pairs)
      if (!taken.contains(p.i) && !used.contains(p.j)) {
        taken.add(p.i);
        used.add(p.j);
        sum += p.value;
      }
    double parts = sum / name.size();
    Set<String> sounds = listed.stream().map(SOUNDEX::encode).collect(Collectors.toSet());
    boolean alike = name.size() > 1 && name.stream().allMatch(w -> sounds.contains(SOUNDEX.encode(w)));
    return new Score(Math.max(full, parts), parts > full, alike);
  }

  private ObjectNode match(JsonNode entry, List<String> name, LocalDate born, String number) {
    Score best = null;
    String listedName = null;
    for (JsonNode listed : entry.path("names")) {
      Score s = score(name, words(listed.asText()));
      if (best == null || s.value > best.value) {
        best = s;
        listedName = listed.asText();
      }
    }
    boolean alike = best.value >= policy.path("match_threshold").asDouble()
        || best.soundsAlike && best.value >= policy.path("sounds_alike_threshold").asDouble();
    if (!alike) return null;
    ObjectNode m = object().put("list", entry.path("list").asText()).put("entry", entry.path("entry").asText())
        .put("listed_name", listedName).put("score", round(best.value)).put("by", best.byParts ? "parts" : "full")
        .put("sounds_alike", best.soundsAlike);
    judge(m, entry, best.value, born, number);
    return m;
  }

  private void judge(ObjectNode m, JsonNode entry, double value, LocalDate born, String number) {
    for (JsonNode known : entry.path("numbers"))
      if (!number.isEmpty() && known.asText().equals(squeeze(number))) {
        m.put("verdict", "confirmed").put("reason", "the document number is the listed person's");
        return;
      }
    JsonNode births = entry.path("births");
    if (born == null || births.isEmpty()) {
      m.put("verdict", "possible").put("reason", "a date of birth is not known");
      return;
    }
    int slack = policy.path("birth_year_tolerance").asInt();
    for (JsonNode b : births)
      if (b.path("day").asText().equals(born.toString())) {
        boolean sure = value >= policy.path("confirm_threshold").asDouble();
        m.put("verdict", sure ? "confirmed" : "possible").put("reason", "both were born on " + born);
        return;
      }
    for (JsonNode b : births) {
      int from = b.has("day") ? Integer.parseInt(b.path("day").asText().substring(0, 4)) : b.path("from").asInt();
      int to = b.has("day") ? from : b.path("to").asInt();
      if (from - slack <= born.getYear() && born.getYear() <= to + slack) {
        m.put("verdict", "possible").put("reason", "born on " + born + "; the listed person " + from + " to " + to);
        return;
      }
    }
    m.put("verdict", "cleared").put("reason", "born on " + born + "; the listed person " + births.get(0));
  }

  private static final List<String> SERIOUS = List.of("confirmed", "possible", "cleared");

  ObjectNode check(String caseId, JsonNode request, JsonNode task) {
    JsonNode applicant = request.path("applicant");
    List<String> name = words(applicant.path("name").asText(""));
    ArrayNode found = JSON.createArrayNode();
    if (name.isEmpty()) {
      found.add(finding("gate", "NAME_MISSING", "there is no name to screen", null));
      return part("identity", RULES, "doubtful", object(), found);
    }
    List<ObjectNode> matches = new ArrayList<>();
    for (JsonNode entry : data.path("listed")) {
      ObjectNode m = match(entry, name, date(applicant.path("birth_date")), request.at("/document/number").asText(""));
      if (m != null) matches.add(m);
    }
    matches.sort(Comparator.<ObjectNode>comparingInt(m -> SERIOUS.indexOf(m.path("verdict").asText()))
        .thenComparing(m -> -m.path("score").asDouble()));
    ArrayNode listed = JSON.createArrayNode().addAll(matches);
    ObjectNode output = object();
    output.putArray("lists").add("ofac_sdn").add("un");
    output.set("matches", listed);
    for (ObjectNode m : matches) {
      String verdict = m.path("verdict").asText();
      String is = verdict.equals("cleared") ? "is not " : verdict.equals("possible") ? "may be " : "is ";
      String detail = "the applicant " + is + m.path("listed_name").asText() + ": " + m.path("reason").asText();
      found.add(finding(verdict.equals("cleared") ? "note" : "gate", "SANCTIONS_" + verdict.toUpperCase(Locale.ROOT), detail, m));
    }
    found.add(finding("note", "REGISTRY_SKIPPED", "no document registry is configured", null));
    if (matches.isEmpty()) return part("identity", RULES, "clear", output.putNull("assessment"), found);
    ObjectNode known = object();
    known.set("name", applicant.path("name"));
    known.set("birth_date", applicant.get("birth_date"));
    known.set("nationality", applicant.get("nationality"));
    known.set("matches", listed);
    JsonNode said = model.ask("identity", caseId, "match_assessment", asked(known, task));
    output.set("assessment", said);
    String worst = matches.get(0).path("verdict").asText();
    double confidence = CLEARED;
    if (worst.equals("cleared"))
      confidence = Math.min(CLEARED, said == null ? CLEARED_UNEXPLAINED : said.path("confidence").asDouble());
    String disposition = worst.equals("confirmed") ? "hit" : worst.equals("possible") ? "possible_hit" : "clear";
    return part("identity", confidence, disposition, output, found);
  }
}
