import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** The composer: gates first, then bands; a follow-up round asks those that are not sure. And the letter. */
final class Outcome extends Checks {
  private static final Map<String, String> TO_SEND = Map.of(
      "valid_identity_document", "a valid passport or identity card", "proof_of_identity", "a valid passport or identity card",
      "readable_document", "a clear picture of your identity document",
      "proof_of_address", "a document that shows your address, such as a recent utility bill",
      "source_of_funds", "a document that shows where your money comes from, such as a payslip");

  Outcome(JsonNode data, Model model) {
    super(data, model);
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
