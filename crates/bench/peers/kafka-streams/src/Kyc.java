import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.commons.codec.language.Soundex;
import org.apache.commons.text.similarity.JaroWinklerSimilarity;

/** The checks of the KYC agents: what common/kyc.py says, in Java. It names what is left out. */
final class Kyc {
  static final List<String> AGENTS = List.of("identity", "document", "fraud", "compliance");
  static final ObjectMapper JSON = new ObjectMapper();
  private static final double RULES = 0.99, CLEARED = 0.98, CLEARED_UNEXPLAINED = 0.96, WITHOUT_ANSWER = 0.90, WITHOUT_ZONE = 0.80;
  private static final JaroWinklerSimilarity JARO_WINKLER = new JaroWinklerSimilarity();
  private static final Soundex SOUNDEX = new Soundex();
  private static final Pattern INSTRUCTION = Pattern.compile(
      "ignore (all )?(previous|prior) instructions|approve this|set confidence|system prompt", Pattern.CASE_INSENSITIVE);
  private static final Set<String> EU_STATES = Set.of(
      "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split(" "));
  private static final Map<String, String> TO_SEND = Map.of(
      "valid_identity_document", "a valid passport or identity card", "proof_of_identity", "a valid passport or identity card",
      "readable_document", "a clear picture of your identity document",
      "proof_of_address", "a document that shows your address, such as a recent utility bill",
      "source_of_funds", "a document that shows where your money comes from, such as a payslip");

  private final JsonNode data, policy;
  private final Model model;

  Kyc(JsonNode data) {
    this.data = data;
    this.policy = data.path("policy");
    this.model = new Model(data);
  }

  static ObjectNode object() {
    return JSON.createObjectNode();
  }

  private static ObjectNode finding(String effect, String code, String detail, JsonNode evidence) {
    ObjectNode f = object().put("code", code).put("effect", effect).put("detail", detail);
    f.set("evidence", evidence == null ? object() : evidence);
    return f;
  }

  private static ObjectNode part(String agent, double confidence, String disposition, ObjectNode output, ArrayNode findings) {
    output.set("findings", findings);
    ObjectNode part = object().put("agent", agent).put("version", "0.1.0").put("confidence", confidence);
    part.put("disposition", disposition).set("output", output);
    return part;
  }

  ObjectNode check(String agent, String caseId, JsonNode request, JsonNode task) {
    return switch (agent) {
      case "identity" -> identity(caseId, request, task);
      case "document" -> document(caseId, request, task);
      case "compliance" -> compliance(caseId, request);
      default -> throw new IllegalArgumentException(agent);
    };
  }

  static String squeeze(String text) {
    return text.toUpperCase(Locale.ROOT).replaceAll("[^A-Z0-9]", "");
  }

  static List<String> words(String text) {
    String plain = text.replaceAll("['’`]", "").toUpperCase(Locale.ROOT);
    return Arrays.stream(plain.split("[^A-Z0-9]+")).filter(w -> !w.isEmpty()).toList();
  }

  private static LocalDate date(JsonNode text) {
    try {
      return LocalDate.parse(text.asText("").trim());
    } catch (DateTimeException e) {
      return null;
    }
  }

  private static LocalDate today() {
    return LocalDate.now(ZoneOffset.UTC);
  }

  private static double round(double value) {
    return Math.round(value * 1000) / 1000.0;
  }

  // Identity.

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

  private ObjectNode identity(String caseId, JsonNode request, JsonNode task) {
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

  private static ObjectNode asked(ObjectNode value, JsonNode task) {
    value.set("round", task.path("round"));
    value.set("question", task.get("question"));
    return value;
  }

  // Document.

  private static char digit(String characters) {
    int sum = 0;
    for (int i = 0; i < characters.length(); i++) {
      char c = characters.charAt(i);
      sum += (c == '<' ? 0 : Character.digit(c, 36)) * new int[] {7, 3, 1}[i % 3];
    }
    return (char) ('0' + sum % 10);
  }

  /** A date; null where it is left open; LocalDate.MIN where there is no such date. */
  private static LocalDate mrzDate(String text, boolean birth) {
    if (text.contains("<")) return null;
    try {
      int year = Integer.parseInt(text.substring(0, 2)), month = Integer.parseInt(text.substring(2, 4));
      int day = Integer.parseInt(text.substring(4)), century = today().getYear() / 100 * 100;
      if (birth) {
        LocalDate born = LocalDate.of(century + year, month, day);
        return born.isAfter(today()) ? LocalDate.of(century - 100 + year, month, day) : born;
      }
      int now = today().getYear(), nearest = century + year;
      for (int candidate : new int[] {nearest - 100, nearest + 100})
        if (Math.abs(candidate - now) < Math.abs(nearest - now)) nearest = candidate;
      return LocalDate.of(nearest, month, day);
    } catch (DateTimeException | NumberFormatException e) {
      return LocalDate.MIN;
    }
  }

  private record Zone(String code, String issuer, String number, String surname, String given, String nationality, char sex,
      LocalDate birth, LocalDate expiry, ArrayNode checks, boolean genuine) {}

  private static Zone zone(JsonNode lines) {
    List<String> read = new ArrayList<>();
    if (lines.isTextual()) lines.asText().lines().forEach(read::add);
    else lines.forEach(l -> read.add(l.asText()));
    List<String> zone = read.stream().map(l -> l.replaceAll("\\s", "").toUpperCase(Locale.ROOT)).filter(l -> !l.isEmpty()).toList();
    if (zone.size() != 2 || !zone.stream().allMatch(l -> l.matches("[A-Z0-9<]{44}"))) return null;
    String one = zone.get(0), two = zone.get(1), names = one.substring(5);
    int gap = names.indexOf("<<");
    ArrayNode checks = JSON.createArrayNode();
    boolean genuine = check(checks, "number", two.substring(0, 9), two.charAt(9))
        & check(checks, "birth_date", two.substring(13, 19), two.charAt(19))
        & check(checks, "expiry_date", two.substring(21, 27), two.charAt(27))
        & check(checks, "optional_data", two.substring(28, 42), two.charAt(42))
        & check(checks, "composite", two.substring(0, 10) + two.substring(13, 20) + two.substring(21, 43), two.charAt(43));
    return new Zone(plain(one.substring(0, 2)), plain(one.substring(2, 5)), plain(two.substring(0, 9)),
        plain(gap < 0 ? names : names.substring(0, gap)), plain(gap < 0 ? "" : names.substring(gap)),
        plain(two.substring(10, 13)), two.charAt(20), mrzDate(two.substring(13, 19), true),
        mrzDate(two.substring(21, 27), false), checks, genuine);
  }

  private static boolean check(ArrayNode checks, String over, String text, char found) {
    char expected = digit(text);
    boolean valid = found == expected || over.equals("optional_data") && found == '<' && text.replace("<", "").isEmpty();
    checks.add(object().put("over", over).put("expected", "" + expected).put("found", "" + found).put("valid", valid));
    return valid;
  }

  private static String plain(String text) {
    return text.replace('<', ' ').trim().replaceAll(" +", " ");
  }

  /** The score of the worst part; -1 if there is nothing to compare. */
  private static double namesAlike(List<String> declared, List<String> surname, List<String> given) {
    if (declared.isEmpty() || surname.isEmpty() && given.isEmpty()) return -1;
    List<String> document = new ArrayList<>(surname);
    document.addAll(given);
    List<String> inOrder = new ArrayList<>(given);
    inOrder.addAll(surname);
    String whole = String.join("", declared);
    if (whole.equals(String.join("", document)) || whole.equals(String.join("", inOrder))) return 1;
    double worst = 1;
    for (String d : declared) worst = Math.min(worst, best(d, document));
    for (String s : surname) worst = Math.min(worst, best(s, declared));
    return worst;
  }

  private static double best(String word, List<String> others) {
    double best = 0;
    for (String other : others) {
      boolean initial = Math.min(word.length(), other.length()) == 1 && word.charAt(0) == other.charAt(0);
      best = Math.max(best, word.equals(other) ? 1 : initial ? 0.95 : JARO_WINKLER.apply(word, other));
    }
    return best;
  }

  private static void zoneFindings(Zone seen, ArrayNode found) {
    if (!seen.genuine) {
      ObjectNode evidence = object();
      ArrayNode wrong = evidence.putArray("check_digits");
      seen.checks.forEach(c -> { if (!c.path("valid").asBoolean()) wrong.add(c); });
      found.add(finding("gate", "DOC_CHECK_DIGIT", wrong.size() + " of 5 check digits are wrong", evidence));
    }
    if (seen.expiry != null && seen.expiry != LocalDate.MIN && seen.expiry.isBefore(today())) {
      ObjectNode evidence = object().put("expiry_date", seen.expiry.toString());
      evidence.putArray("needed").add("valid_identity_document");
      found.add(finding("gate", "DOC_EXPIRED", "the document expired on " + seen.expiry, evidence));
    }
    if (seen.birth == LocalDate.MIN || seen.expiry == LocalDate.MIN || "MFX<".indexOf(seen.sex) < 0 || seen.surname.isEmpty())
      found.add(finding("gate", "DOC_FIELD_INVALID", "the zone holds what no issuer prints", null));
  }

  private static void differ(ArrayNode apart, String field, String declared, String document) {
    if (declared != null && document != null && !declared.isEmpty() && !document.isEmpty() && !declared.equals(document))
      apart.add(object().put("field", field).put("declared", declared).put("document", document));
  }

  private static String state(JsonNode text) {
    return text.asText("").matches("[A-Za-z]{3}") ? text.asText().toUpperCase(Locale.ROOT) : "";
  }

  private ObjectNode document(String caseId, JsonNode request, JsonNode task) {
    JsonNode applicant = request.path("applicant"), declared = request.path("document");
    Zone seen = zone(declared.path("mrz"));
    String text = declared.path("text").asText("");
    ArrayNode found = JSON.createArrayNode();
    double bound = RULES;
    JsonNode comparison = null, said = null;
    if (INSTRUCTION.matcher(text).find())
      found.add(finding("note", "INSTRUCTION_IN_DOCUMENT", "the application holds instructions; they were not followed", null));
    if (seen == null) {
      ObjectNode evidence = object();
      evidence.putArray("needed").add("readable_document");
      String code = declared.path("mrz").isEmpty() ? "DOC_MISSING" : "DOC_UNREADABLE";
      found.add(finding("gate", code, "there is no zone that can be read", evidence));
      bound = WITHOUT_ZONE;
    } else {
      zoneFindings(seen, found);
      ArrayNode apart = JSON.createArrayNode();
      LocalDate born = date(applicant.path("birth_date"));
      differ(apart, "document.number", squeeze(declared.path("number").asText("")), squeeze(seen.number));
      differ(apart, "applicant.birth_date", born == null ? null : born.toString(), seen.birth == null ? null : seen.birth.toString());
      differ(apart, "applicant.nationality", state(applicant.path("nationality")), seen.nationality);
      differ(apart, "document.issuer", state(declared.path("issuer")), seen.issuer);
      String name = applicant.path("name").asText(""), onDocument = seen.given + " " + seen.surname;
      double likeness = namesAlike(words(name), words(seen.surname), words(seen.given));
      if (likeness >= 0 && likeness < 0.8) differ(apart, "applicant.name", name, onDocument);
      if (!apart.isEmpty()) {
        ObjectNode evidence = object();
        evidence.set("differences", apart);
        found.add(finding("gate", "DOC_MISMATCH", "the document says otherwise", evidence));
      }
      if (likeness >= 0.8 && likeness <= 0.999) {
        ObjectNode names = object().put("declared", name).put("document", onDocument).put("score", round(likeness));
        comparison = model.ask("document", caseId, "name_comparison", asked(names, task));
        double sure = comparison == null ? WITHOUT_ANSWER : comparison.path("confidence").asDouble();
        bound = Math.min(bound, Math.min(likeness >= 0.92 ? 0.98 : 0.90, sure));
        found.add(finding("note", "NAME_VARIANT", "the declared name is written otherwise on the document: " + onDocument,
            object().put("score", round(likeness)).put("model_confidence", sure)));
      }
    }
    String shown = Arrays.stream(text.substring(0, Math.min(8000, text.length())).split("(?<=[.!?])\\s+"))
        .filter(s -> !INSTRUCTION.matcher(s).find()).collect(Collectors.joining(" "));
    if (!shown.isBlank()) {
      said = readText(caseId, shown, task, found);
      if (said == null) bound = Math.min(bound, WITHOUT_ANSWER);
    }
    ObjectNode output = object();
    if (seen != null) {
      output.putObject("fields").put("format", "TD3").put("code", seen.code).put("issuer", seen.issuer).put("number", seen.number)
          .put("surname", seen.surname).put("given_names", seen.given).put("nationality", seen.nationality)
          .put("birth_date", String.valueOf(seen.birth)).put("expiry_date", String.valueOf(seen.expiry));
      output.set("check_digits", seen.checks);
    }
    output.set("text", said);
    output.set("name_comparison", comparison);
    boolean doubtful = false;
    for (JsonNode f : found) doubtful |= f.path("effect").asText().equals("gate");
    return part("document", bound, doubtful ? "doubtful" : "genuine", output, found);
  }

  private JsonNode readText(String caseId, String shown, JsonNode task, ArrayNode found) {
    JsonNode said = model.ask("document", caseId, "document_text", asked(object().put("text", shown), task));
    if (said == null) {
      found.add(finding("note", "DOC_TEXT_UNREAD", "the model would not read the printed text", null));
      return null;
    }
    ObjectNode evidence = object();
    ArrayNode dropped = evidence.putArray("dropped");
    for (String field : List.of("document_number", "birth_date", "expiry_date"))
      if (said.path(field).isTextual() && !squeeze(shown).contains(squeeze(said.path(field).asText()))) dropped.add(field);
    if (!dropped.isEmpty())
      found.add(finding("note", "DOC_TEXT_UNGROUNDED", "the model gave fields that do not stand in the text", evidence));
    return said;
  }

  // Fraud.

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

  ObjectNode fraud(String caseId, JsonNode request, History history) {
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

  // Compliance.

  private boolean isMet(String item, JsonNode request) {
    JsonNode applicant = request.path("applicant"), document = request.path("document");
    if (item.equals("identification_number")) return !(applicant.path(item).asText("") + document.path("number").asText("")).isBlank();
    JsonNode shownBy = data.path("shown_by").path(item);
    if (shownBy.isMissingNode()) return !applicant.path(item).asText("").isBlank();
    if (item.equals("proof_of_identity") && (!document.path("mrz").isEmpty() || !document.path("text").asText("").isEmpty())) return true;
    for (JsonNode provided : request.path("documents_provided")) {
      if (provided.asText().equals(item)) return true;
      for (JsonNode by : shownBy) if (by.equals(provided)) return true;
    }
    return false;
  }

  private ObjectNode compliance(String caseId, JsonNode request) {
    String said = request.path("jurisdiction").asText("").trim().toUpperCase(Locale.ROOT);
    String code = EU_STATES.contains(said) ? "EU" : said;
    String risk = request.path("risk").asText("standard").toLowerCase(Locale.ROOT);
    boolean known = false;
    Map<String, ArrayNode> items = new LinkedHashMap<>();
    ArrayNode citations = JSON.createArrayNode();
    for (JsonNode rule : data.path("rules")) {
      String of = rule.path("jurisdiction").asText();
      boolean forRisk = !rule.has("risks");
      for (JsonNode r : rule.path("risks")) forRisk |= r.asText().equals(risk);
      if (!of.equals("*") && !of.equals(code) || !forRisk) continue;
      known |= of.equals(code);
      for (JsonNode item : rule.path("requires")) items.computeIfAbsent(item.asText(), i -> JSON.createArrayNode()).add(rule.path("id"));
      if (rule.path("requires").isEmpty()) continue;
      String text = rule.path("text").asText();
      ObjectNode cited = citations.addObject();
      cited.set("rule", rule.path("id"));
      for (String member : List.of("title", "source", "version")) cited.set(member, rule.path(member));
      cited.put("excerpt", text.substring(0, Math.min(240, text.length())));
    }
    ArrayNode required = JSON.createArrayNode(), missing = JSON.createArrayNode();
    ArrayNode documents = JSON.createArrayNode(), information = JSON.createArrayNode(), found = JSON.createArrayNode();
    items.forEach((item, rules) -> {
      ObjectNode r = required.addObject().put("item", item).put("met", isMet(item, request));
      r.set("rules", rules);
      if (r.path("met").asBoolean()) return;
      missing.add(r);
      (data.path("shown_by").has(item) ? documents : information).add(item);
    });
    for (ArrayNode names : List.of(documents, information)) {
      if (names.isEmpty()) continue;
      String what = names == documents ? "DOCUMENT" : "INFORMATION";
      found.add(finding("gate", "MISSING_" + what, "mandatory " + what.toLowerCase(Locale.ROOT) + " missing: " + names, object().set("needed", names)));
    }
    if (!known) found.add(finding("note", "JURISDICTION_UNKNOWN", "no rules are known for " + code, null));
    ObjectNode output = object().put("jurisdiction", code).put("risk", risk).put("rules_version", data.path("rules_version").asText());
    output.set("required", required);
    output.set("citations", citations);
    output.putNull("summary");
    if (!missing.isEmpty()) {
      ObjectNode asked = object();
      asked.set("missing", missing);
      asked.set("rules", citations);
      JsonNode summary = model.ask("compliance", caseId, "compliance_summary", asked);
      if (summary != null) output.set("summary", summary.path("summary"));
    }
    return part("compliance", known ? RULES : 0.70, missing.isEmpty() ? "complete" : "incomplete", output, found);
  }

  // Composer.

  private static boolean holds(JsonNode list, String code) {
    for (JsonNode c : list) if (c.asText().equals(code)) return true;
    return false;
  }

  /** The outcome, or an object with the one member "ask": agent to question. */
  ObjectNode compose(String caseId, JsonNode state, Set<String> missing) {
    JsonNode parts = state.path("parts");
    int round = state.path("round").asInt();
    ArrayNode found = JSON.createArrayNode();
    for (String agent : missing)
      found.add(finding("gate", "AGENT_MISSING", agent + " did not answer", null).put("agent", agent));
    double confidence = missing.isEmpty() ? 1 : 0;
    TreeSet<String> codes = new TreeSet<>(), gates = new TreeSet<>(), needed = new TreeSet<>();
    for (JsonNode part : parts) {
      confidence = Math.min(confidence, part.path("confidence").asDouble());
      for (JsonNode f : part.at("/output/findings")) {
        ObjectNode copy = ((ObjectNode) f.deepCopy()).put("agent", part.path("agent").asText());
        if (holds(policy.path("hard_gates"), f.path("code").asText())) copy.put("effect", "gate");
        found.add(copy);
      }
    }
    for (JsonNode f : found) {
      codes.add(f.path("code").asText());
      if (f.path("effect").asText().equals("gate")) gates.add(f.path("code").asText());
      f.at("/evidence/needed").forEach(n -> needed.add(n.asText()));
    }
    double publish = policy.path("publish_above").asDouble();
    boolean approved = gates.isEmpty() && confidence > publish;
    boolean mayAsk = gates.isEmpty() && confidence >= policy.path("follow_up_above").asDouble();
    if (!approved && mayAsk && round < policy.path("max_follow_up_rounds").asInt()) return questions(parts, publish);
    String reason = approved ? "all checks passed" : String.join(", ", gates);
    if (!approved && gates.isEmpty()) {
      reason = "confidence " + confidence + " is not enough";
      gates.add("CONFIDENCE_TOO_LOW");
    }
    ObjectNode record = object().put("correlation_id", caseId).put("state", approved ? "approved" : "human").put("reason", reason)
        .put("confidence", confidence);
    codes.forEach(record.putArray("codes")::add);
    gates.forEach(record.putArray("gates")::add);
    needed.forEach(record.putArray("needed_from_applicant")::add);
    missing.forEach(record.putArray("missing")::add);
    record.set("findings", found);
    record.set("parts", parts);
    record.put("rounds", round);
    ObjectNode versions = record.putObject("versions").put("composer", "0.1.0").putObject("agents");
    for (JsonNode part : parts) versions.set(part.path("agent").asText(), part.path("version"));
    record.set("opened_at", state.path("opened_at"));
    return record.put("decided_at", System.currentTimeMillis());
  }

  private static ObjectNode questions(JsonNode parts, double publish) {
    ObjectNode asks = object(), ask = asks.putObject("ask");
    for (JsonNode part : parts) {
      if (part.path("confidence").asDouble() > publish) continue;
      List<String> doubts = new ArrayList<>();
      part.at("/output/findings").forEach(f -> doubts.add(f.path("code").asText() + ": " + f.path("detail").asText()));
      ask.put(part.path("agent").asText(), String.format(Locale.ROOT,
          "You were %.2f sure, which is not enough to decide. Look again at %s", part.path("confidence").asDouble(), String.join("; ", doubts)));
    }
    return asks;
  }

  /** A fraud alert, or null. */
  ObjectNode alert(String caseId, JsonNode part) {
    ArrayNode codes = JSON.createArrayNode();
    for (JsonNode f : part.at("/output/findings"))
      if (f.path("effect").asText().equals("gate") && holds(policy.path("fraud_alerts"), f.path("code").asText())) codes.add(f.path("code"));
    if (codes.isEmpty()) return null;
    ObjectNode alert = object().put("correlation_id", caseId).put("agent", part.path("agent").asText());
    alert.set("codes", codes);
    alert.set("findings", part.at("/output/findings"));
    return alert.put("raised_at", System.currentTimeMillis());
  }

  // Customer.

  ObjectNode customer(String caseId, JsonNode request, JsonNode outcome) {
    boolean approved = outcome.path("state").asText().equals("approved");
    ObjectNode asked = object();
    ArrayNode pleaseSend = asked.putArray("please_send");
    if (!approved)
      outcome.path("needed_from_applicant").forEach(n -> { if (TO_SEND.containsKey(n.asText())) pleaseSend.add(TO_SEND.get(n.asText())); });
    asked.put("situation", approved ? "approved" : "in_review");
    JsonNode draft = model.ask("customer", caseId, "customer_message", asked);
    String name = request.at("/applicant/name").asText("applicant");
    String body = draft == null ? "Thank you for your application. We will write to you again." : draft.path("body").asText();
    ObjectNode letter = asked.deepCopy().put("correlation_id", caseId).put("to", name);
    letter.set("email", request.path("applicant").get("email"));
    return letter.put("subject", draft == null ? "Your application" : draft.path("subject").asText())
        .put("worded_by", draft == null ? "template" : "model").put("body", "Dear " + name + ",\n\n" + body + "\n\nYour onboarding team");
  }
}
