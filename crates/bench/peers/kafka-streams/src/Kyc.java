import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** The checks of the KYC agents: what common/kyc.py says, in Java. It names what is left out. */
final class Kyc {
  private final Identity identity;
  private final Document document;
  private final Compliance compliance;
  final Fraud fraud;
  final Outcome outcome;

  Kyc(JsonNode data) {
    Model model = new Model(data);
    identity = new Identity(data, model);
    document = new Document(data, model);
    compliance = new Compliance(data, model);
    fraud = new Fraud(data, model);
    outcome = new Outcome(data, model);
  }

  ObjectNode check(String agent, String caseId, JsonNode request, JsonNode task) {
    return switch (agent) {
      case "identity" -> identity.check(caseId, request, task);
      case "document" -> document.check(caseId, request, task);
      case "compliance" -> compliance.check(caseId, request);
      default -> throw new IllegalArgumentException(agent);
    };
  }
}
