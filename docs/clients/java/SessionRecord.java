import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.Strictness;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.*;

/** What a session's record holds: docs/sessions.md as code. {@link SessionManager} sends it to Redis. */
public final class SessionRecord {
  /** In milliseconds: session.idle_timeout and session.absolute_timeout of the checks, and a day. */
  static final long IDLE = 30 * 60_000, ABSOLUTE = 12 * 3_600_000, DAY = 24 * 3_600_000;

  static final List<String> CHECKED = List.of("v", "user_id", "username", "roles", "expires_at");
  private static final Set<String> RESERVED =
      Set.of("v", "user_id", "username", "roles", "expires_at", "created_at", "address", "user_agent");
  private static final String HASH = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"; // canonical base64url of 32 bytes
  private static final String TIME = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
  private static final DateTimeFormatter UTC = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);
  private static final SecureRandom RANDOM = new SecureRandom();
  private static final Base64.Encoder BASE64URL = Base64.getUrlEncoder().withoutPadding();
  private static final Gson JSON = new GsonBuilder().setStrictness(Strictness.STRICT).disableHtmlEscaping().create();

  /** A newer program wrote the record: answer 503. */
  public static final class UnknownLayout extends RuntimeException {}

  /** The session is gone, and nothing was added. */
  public static final class NotFound extends RuntimeException {}

  /** A field is there already, and none was added. */
  public static final class FieldExists extends RuntimeException {}

  /** All sessions of the user were ended since begin: begin the login again. */
  public static final class Ended extends RuntimeException {}

  /** The record breaks the layout, and authenticates no client. */
  static final class Broken extends Exception {}

  /** A live session, with the application fields that were asked for. */
  public record Session(String key, String userId, String username, List<String> roles, Instant expiresAt, Map<String, String> fields) {}

  /** A user who signs in. No part is null. */
  public record Account(String userId, String username, List<String> roles, String address, String userAgent, Map<String, String> fields) {}

  static boolean isId(String text) { return text != null && text.matches(HASH); }

  static boolean isKey(String text) { return text != null && text.matches("session:" + HASH); }

  static String newId() {
    byte[] secret = new byte[32];
    RANDOM.nextBytes(secret);
    return BASE64URL.encodeToString(secret);
  }

  static String keyOf(String id) {
    try {
      return "session:" + BASE64URL.encodeToString(MessageDigest.getInstance("SHA-256").digest(bytes(id)));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  /** The end of a session that is used now: requests within a step ask for the same. */
  static long slide(long now) {
    long step = Math.min(IDLE / 10, 60_000);
    return (now + IDLE + step - 1) / step * step;
  }

  /** The record of a new session. What is wrong with the account is said without a value. */
  static Map<String, String> encode(Account a, long now, long end) {
    if (a.userId().isEmpty() || size(a.userId()) > 256 || size(a.username()) > 256 || size(a.address()) > 256 || size(a.userAgent()) > 1024) {
      throw new IllegalArgumentException("userId is empty, or a part of the session is too long");
    }
    if (a.roles().size() > 256 || a.roles().stream().anyMatch(role -> role.isEmpty() || size(role) > 128)) {
      throw new IllegalArgumentException("too many roles, or one that is empty or too long");
    }
    checkFields(a.fields());
    Map<String, String> record = new HashMap<>(Map.of("user_id", a.userId(), "username", a.username(), "address", a.address(), "user_agent", a.userAgent()));
    record.values().removeIf(String::isEmpty);
    record.putAll(a.fields());
    record.putAll(Map.of("v", "1", "roles", JSON.toJson(a.roles()),
        "created_at", UTC.format(Instant.ofEpochMilli(now)), "expires_at", UTC.format(Instant.ofEpochMilli(end))));
    return record;
  }

  static void checkFields(Map<String, String> fields) {
    fields.forEach((name, value) -> {
      if (RESERVED.contains(name) || name.isEmpty() || size(name) > 128 || name.chars().anyMatch(Character::isISOControl) || size(value) > 1 << 20) {
        throw new IllegalArgumentException("a field has a reserved name, is too long, or has control characters in its name");
      }
    });
  }

  /** The session in the values of CHECKED and of fields; null: there is none. */
  static Session decode(String key, List<byte[]> all, String[] fields, long left, long now) throws Broken {
    List<byte[]> values = all.subList(0, CHECKED.size());
    if (left == -2 || values.stream().allMatch(Objects::isNull)) {
      return null;
    }
    byte[] version = values.get(0);
    if (version != null && version.length > 0 && !Arrays.equals(version, bytes("1"))) {
      throw new UnknownLayout();
    }
    try {
      List<String> texts = new ArrayList<>();
      for (byte[] value : values) {
        texts.add(value == null ? "" : StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(value)).toString());
      }
      List<String> roles = new ArrayList<>();
      for (JsonElement role : values.get(3) == null ? new JsonArray() : JSON.fromJson(texts.get(3), JsonArray.class)) {
        if (!role.getAsJsonPrimitive().isString() || size(role.getAsString()) > 128) {
          throw new Broken();
        }
        roles.add(role.getAsString());
      }
      Instant end = texts.get(4).matches(TIME) ? OffsetDateTime.parse(texts.get(4)).toInstant() : null;
      if (version == null || version.length == 0 || left < 0 || texts.get(1).isEmpty() || size(texts.get(1)) > 256
          || size(texts.get(2)) > 256 || roles.size() > 256 || end == null || end.toEpochMilli() > now + ABSOLUTE + DAY) {
        throw new Broken();
      }
      Map<String, String> found = new HashMap<>();
      for (int i = 0; i < fields.length; i++) {
        byte[] value = all.get(CHECKED.size() + i);
        found.computeIfAbsent(fields[i], name -> value == null ? null : new String(value, StandardCharsets.UTF_8));
      }
      return new Session(key, texts.get(1), texts.get(2), roles, end, found);
    } catch (CharacterCodingException | RuntimeException e) {
      throw new Broken(); // without its cause, which may quote the record
    }
  }

  static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

  /** The bytes of a text; without end with half a surrogate pair, which would become a question mark: two users would be one. */
  static int size(String text) { return StandardCharsets.UTF_8.newEncoder().canEncode(text) ? bytes(text).length : Integer.MAX_VALUE; }

  private SessionRecord() {}
}
