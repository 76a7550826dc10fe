import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Check digits, dates and comparison by rule; a model for names that are alike and for printed text. */
final class Document extends Checks {
  private static final Pattern INSTRUCTION = Pattern.compile(
      "ignore (all )?(previous|prior) instructions|approve this|set confidence|system prompt", Pattern.CASE_INSENSITIVE);

  Document(JsonNode data, Model model) {
    super(data, model);
  }

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
    boolean genuine = digitIsRight(checks, "number", two.substring(0, 9), two.charAt(9))
        & digitIsRight(checks, "birth_date", two.substring(13, 19), two.charAt(19))
        & digitIsRight(checks, "expiry_date", two.substring(21, 27), two.charAt(27))
        & digitIsRight(checks, "optional_data", two.substring(28, 42), two.charAt(42))
        & digitIsRight(checks, "composite", two.substring(0, 10) + two.substring(13, 20) + two.substring(21, 43), two.charAt(43));
    return new Zone(plain(one.substring(0, 2)), plain(one.substring(2, 5)), plain(two.substring(0, 9)),
        plain(gap < 0 ? names : names.substring(0, gap)), plain(gap < 0 ? "" : names.substring(gap)),
        plain(two.substring(10, 13)), two.charAt(20), mrzDate(two.substring(13, 19), true),
        mrzDate(two.substring(21, 27), false), checks, genuine);
  }

  private static boolean digitIsRight(ArrayNode checks, String over, String text, char found) {
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

  ObjectNode check(String caseId, JsonNode request, JsonNode task) {
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
}
