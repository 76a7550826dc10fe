import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** Which rules apply and whether they are met; a model words a summary of what is missing. */
final class Compliance extends Checks {
  private static final Set<String> EU_STATES = Set.of(
      "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split(" "));

  Compliance(JsonNode data, Model model) {
    super(data, model);
  }

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

  ObjectNode check(String caseId, JsonNode request) {
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
}
