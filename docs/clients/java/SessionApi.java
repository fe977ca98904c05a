import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;

/**
 * Coatcheck's session API by JSON over HTTP, for services that may not read Redis. Copy this file.
 *
 * <pre>
 * var api = new SessionApi(HttpClient.newHttpClient(), "https://coatcheck-api:9003", Path.of("/run/secrets/token"));
 * Session session = api.get(key, "cart"); // key: x-user-session; null: no session
 * Answer answer = api.check(Map.of("key", key), List.of("admin"), false); // null: no session
 * </pre>
 *
 * Only null, false and NotFound say that there is no session. Every other exception says that it is unknown: answer
 * 503. No exception holds an ID or a value.
 */
public final class SessionApi {
  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();
  private static final String ID = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]";

  /** The session is gone, and nothing was added. */
  public static final class NotFound extends RuntimeException {}

  /** A field is there already, and none was added. */
  public static final class FieldExists extends RuntimeException {}

  /** The API does not say: a code of Connect, such as unavailable or permission_denied. */
  public static final class CallFailed extends RuntimeException {
    CallFailed(String code) { super(code); }
  }

  /** A live session, with the application fields that were asked for. */
  public record Session(String key, String userId, String username, List<String> roles, Map<String, String> fields, String expiresAt) {}

  /** What a check says. */
  public record Answer(boolean allowed, String reason, Session session) {}

  private final HttpClient http;
  private final String url;
  private final Path tokenFile;

  public SessionApi(HttpClient http, String url, Path tokenFile) {
    this.http = http;
    this.url = url;
    this.tokenFile = tokenFile;
  }

  public Session get(String key, String... fields) {
    JsonObject answer = ask("Get", Map.of("session", Map.of("key", key), "fields", fields));
    return answer == null ? null : session(answer);
  }

  /** Asks for roles. By {"id": the cookie's value} it takes the right by_id; to touch, the right touch. */
  public Answer check(Map<String, String> name, List<String> anyOf, boolean touch, String... fields) {
    if (name.containsKey("id") && !String.valueOf(name.get("id")).matches(ID)) {
      return null;
    }
    JsonObject answer = ask("Check", Map.of("session", name, "roles", Map.of("anyOf", anyOf), "touch", touch, "fields", fields));
    boolean allowed = answer != null && answer.has("allowed") && answer.get("allowed").getAsBoolean();
    return answer == null ? null : new Answer(allowed, answer.get("reason").getAsString(), session(answer));
  }

  /** Adds fields, all or none; overwrites none, and creates no record. */
  public void add(String key, Map<String, String> fields) { call("AddFields", Map.of("session", Map.of("key", key), "fields", fields)); }

  /** Ends a session, and reports whether there was one. */
  public boolean revoke(String key) { return ask("Revoke", Map.of("session", Map.of("key", key))) != null; }

  /** Ends all sessions of a user, or all but one (else null), and returns how many. */
  public int revokeUser(String userId, String exceptKey) {
    Map<String, Object> but = exceptKey == null ? Map.of() : Map.of("except", Map.of("key", exceptKey));
    Map<String, Object> message = new HashMap<>(but);
    message.put("userId", userId);
    JsonElement revoked = call("RevokeUser", message).get("revoked");
    return revoked == null ? 0 : revoked.getAsInt();
  }

  private JsonObject ask(String method, Map<String, ?> message) {
    try {
      return call(method, message);
    } catch (NotFound e) {
      return null;
    }
  }

  private JsonObject call(String method, Map<String, ?> message) {
    String body = JSON.toJson(message);
    if (!StandardCharsets.UTF_8.newEncoder().canEncode(body)) { // half a surrogate pair would become a question mark: another user's ID
      throw new CallFailed("invalid_argument");
    }
    try {
      String token = Files.readAllLines(tokenFile).get(0).trim(); // each time, because it rotates
      HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/coatcheck.sessions.v1.SessionService/" + method))
          .header("Authorization", "Bearer " + token).header("Content-Type", "application/json").timeout(Duration.ofSeconds(1))
          .POST(HttpRequest.BodyPublishers.ofString(body)).build();
      HttpResponse<String> response = within(http.sendAsync(request, HttpResponse.BodyHandlers.ofString()));
      JsonObject answer = JSON.fromJson(response.body(), JsonObject.class);
      if (response.statusCode() == 200 && answer != null) {
        return answer;
      }
      String code = answer == null || !answer.has("code") ? "" : answer.get("code").getAsString(); // not the status: a proxy's 404 says nothing
      throw code.equals("not_found") ? new NotFound() : code.equals("already_exists") ? new FieldExists() : new CallFailed(code);
    } catch (ExecutionException e) {
      throw new CallFailed(e.getCause().getClass().getSimpleName());
    } catch (IOException | JsonParseException | IllegalArgumentException | TimeoutException e) { // whose texts may have the token
      throw new CallFailed(e.getClass().getSimpleName());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new CallFailed("canceled");
    }
  }

  /** A whole answer, in two seconds: the timeout of a request ends with the headers. */
  private static <T> T within(CompletableFuture<T> answer) throws ExecutionException, InterruptedException, TimeoutException {
    try {
      return answer.get(2, TimeUnit.SECONDS);
    } finally {
      answer.cancel(true);
    }
  }

  /** The session of an answer: what is empty is not told. */
  private static Session session(JsonObject answer) {
    Session s = JSON.fromJson(answer.get("session"), Session.class);
    return new Session(Objects.requireNonNullElse(s.key(), ""), s.userId(), Objects.requireNonNullElse(s.username(), ""),
        Objects.requireNonNullElse(s.roles(), List.of()), Objects.requireNonNullElse(s.fields(), Map.of()), s.expiresAt());
  }
}
