import java.util.*;
import java.util.stream.Stream;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.Response;
import redis.clients.jedis.UnifiedJedis;
import redis.clients.jedis.args.ExpiryOption;
import redis.clients.jedis.exceptions.JedisDataException;

/**
 * Coatcheck's sessions by Jedis. Copy it with SessionRecord.java.
 *
 * <pre>
 * var config = DefaultJedisClientConfig.builder().user(user).password(password).timeoutMillis(1000).build();
 * var pool = new ConnectionPoolConfig();
 * pool.setMaxWait(Duration.ofSeconds(1)); // for a connection: by itself, without end
 * var sessions = new SessionManager(RedisClient.builder().hostAndPort(host, 6379).clientConfig(config).poolConfig(pool).build());
 * String mark = sessions.begin(userId); // before the account is looked at
 * String id = sessions.create(mark, account); // for the cookie alone
 * Session session = sessions.touch(id); // null: not signed in
 * </pre>
 *
 * Only null, false, NotFound and Ended say that there is no session. Every other exception says that it is
 * unknown: answer 503. No exception holds an ID or a value.
 */
public final class SessionManager {
  private static final String ADD = """
      if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
      for i = 1, #ARGV, 2 do
        if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then return -1 end
      end
      for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
      return 1""";
  private static final long PROVISIONAL = 5 * 60_000;

  private final UnifiedJedis redis;

  public SessionManager(UnifiedJedis redis) { this.redis = redis; }

  /** The user's mark, which may be null. */
  public String begin(String userId) {
    if (SessionRecord.size(userId) > 256) {
      throw new IllegalArgumentException("userId is no text, or too long");
    }
    return redis.hmget("user-ended:" + userId, "mark").get(0);
  }

  /** Makes a session and returns its ID. */
  public String create(String mark, SessionRecord.Account account) {
    String id = SessionRecord.newId(), key = SessionRecord.keyOf(id), hash = key.substring("session:".length()), index = "user-sessions:" + account.userId();
    long now = System.currentTimeMillis(), end = now + SessionRecord.ABSOLUTE, until = Math.min(SessionRecord.slide(now), end);
    Map<String, String> record = SessionRecord.encode(account, now, end);
    try (AbstractTransaction list = redis.multi()) { // first: a revocation of all must find the session
      list.zadd(index, end, hash);
      list.pexpireAt(index, end + SessionRecord.DAY, ExpiryOption.NX);
      list.pexpireAt(index, end + SessionRecord.DAY, ExpiryOption.GT);
      list.exec();
    }
    try (AbstractTransaction write = redis.multi()) { // for a while: a write that arrives late is over when it does
      write.hset(key, record);
      write.pexpireAt(key, Math.min(now + PROVISIONAL, until));
      write.exec();
    }
    redis.zadd(index, end, hash); // again: a revocation may have emptied the list
    redis.pexpireAt(index, end + SessionRecord.DAY, ExpiryOption.NX);
    if (!Objects.equals(begin(account.userId()), mark)) {
      revoke(key);
      throw new SessionRecord.Ended();
    }
    redis.pexpireAt(key, until, ExpiryOption.GT);
    if (redis.pttl(key) == -2) {
      throw new SessionRecord.Ended();
    }
    return id;
  }

  /** The live session of an ID, or null. Slides its idle timeout. */
  public SessionRecord.Session touch(String id, String... fields) {
    return SessionRecord.isId(id) ? read(SessionRecord.keyOf(id), fields, true) : null;
  }

  /** The live session of a key, such as x-user-session, or null. */
  public SessionRecord.Session get(String key, String... fields) { return SessionRecord.isKey(key) ? read(key, fields, false) : null; }

  /** Adds fields, all or none; overwrites none, and creates no record. */
  public void add(String key, Map<String, String> fields) {
    SessionRecord.checkFields(fields);
    if (get(key) == null) {
      throw new SessionRecord.NotFound();
    }
    List<String> pairs = new ArrayList<>();
    fields.forEach((name, value) -> Collections.addAll(pairs, name, value));
    long done = (Long) redis.eval(ADD, List.of(key), pairs);
    if (done != 1) {
      throw done == -1 ? new SessionRecord.FieldExists() : new SessionRecord.NotFound();
    }
  }

  /** Ends a session, and reports whether there was one. */
  public boolean revoke(String key) {
    if (!SessionRecord.isKey(key)) {
      return false;
    }
    String userId = redis.hmget(key, "user_id").get(0);
    boolean ended = redis.del(key) == 1;
    if (ended && userId != null) { // else a login may have listed it, to write it in a moment
      redis.zrem("user-sessions:" + userId, key.substring("session:".length()));
    }
    return ended;
  }

  private SessionRecord.Session read(String key, String[] fields, boolean use) {
    byte[][] names = Stream.concat(SessionRecord.CHECKED.stream(), Stream.of(fields)).map(SessionRecord::bytes).toArray(byte[][]::new);
    long now = System.currentTimeMillis();
    SessionRecord.Session session;
    try (AbstractPipeline pipeline = redis.pipelined()) {
      Response<Long> slid = use ? pipeline.pexpireAt(key, SessionRecord.slide(now), ExpiryOption.GT) : null;
      Response<List<byte[]>> values = pipeline.hmget(SessionRecord.bytes(key), names);
      Response<Long> left = pipeline.pttl(key);
      pipeline.sync();
      if (slid != null) {
        slid.get(); // says where Redis refused it
      }
      session = SessionRecord.decode(key, values.get(), fields, left.get(), now);
    } catch (SessionRecord.Broken e) {
      return null; // coatcheck session verify says why
    } catch (JedisDataException e) {
      if (e.getMessage().startsWith("WRONGTYPE")) {
        return null;
      }
      throw e;
    }
    if (session == null || session.expiresAt().toEpochMilli() > now) {
      return session;
    }
    if (use) { // Redis' clock decides when it ends. The pipeline's connection is back: calls that hold one and want another lock up a pool
      redis.pexpireAt(key, session.expiresAt().toEpochMilli(), ExpiryOption.LT);
    }
    return null;
  }
}
