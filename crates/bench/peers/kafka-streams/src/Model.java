import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.HexFormat;

/** The model over OpenAI's chat API. A call blocks its stream thread: Kafka Streams has no other way to wait. */
final class Model {
  private static final int ATTEMPTS = 8;
  private final ObjectMapper json = new ObjectMapper();
  private final HttpClient http =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5)).build();
  private final URI uri = URI.create(System.getenv("MODEL_URL") + "/chat/completions");
  private final String name = System.getenv().getOrDefault("MODEL", "gpt-4o-mini");
  private final JsonNode data;

  Model(JsonNode data) {
    this.data = data;
  }

  /** The answer, or null if the model will not give one. */
  JsonNode ask(String agent, String caseId, String schema, JsonNode value) {
    JsonNode asked = data.path("prompts").path(schema);
    ObjectNode body = json.createObjectNode().put("model", name).put("temperature", 0).put("max_tokens", 800);
    body.putArray("messages")
        .add(message("system", asked.path("system").asText() + "\n\n" + data.path("preface").asText()))
        .add(message("user", fence(asked.path("name").asText(), value.toString())));
    ObjectNode format = body.putObject("response_format").put("type", "json_schema").putObject("json_schema");
    format.put("name", schema).put("strict", true).set("schema", asked.path("schema"));
    HttpRequest request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(30))
        .header("content-type", "application/json").header("authorization", "Bearer any")
        .header("x-agent", agent).header("x-correlation-id", caseId)
        .POST(HttpRequest.BodyPublishers.ofString(body.toString())).build();
    try {
      return send(request);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("stopped while asking the model", e);
    }
  }

  private JsonNode send(HttpRequest request) throws InterruptedException {
    String why = "";
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      long wait = Math.min(8000, 250L << attempt);
      try {
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        int status = answer.statusCode();
        if (status == 200) {
          String content = json.readTree(answer.body()).at("/choices/0/message/content").asText(null);
          return content == null ? null : json.readTree(content);
        }
        if (status == 400 || status == 422) return null;
        if (status != 429 && status < 500) throw new IllegalStateException("the model answers " + status);
        wait = answer.headers().firstValue("retry-after").map(s -> (long) (Double.parseDouble(s) * 1000)).orElse(wait);
        why = "status " + status;
      } catch (IOException e) {
        why = e.toString();
      }
      Thread.sleep(wait);
    }
    // The stream thread ends, the transaction is aborted, and the record is read again.
    throw new IllegalStateException("the model does not answer: " + why);
  }

  private ObjectNode message(String role, String content) {
    return json.createObjectNode().put("role", role).put("content", content);
  }

  private static String fence(String name, String content) {
    try {
      byte[] hash = MessageDigest.getInstance("SHA-256").digest(("0 " + name + content).getBytes(StandardCharsets.UTF_8));
      String mark = HexFormat.of().formatHex(hash, 0, 8);
      return "<<<outside: " + name + " " + mark + ">>>\n" + content + "\n<<<end " + mark + ">>>";
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }
}
