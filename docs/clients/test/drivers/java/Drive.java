import com.google.gson.*;
import jakarta.servlet.http.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.*;
import redis.clients.jedis.*;

/** Runs the Java clients for the tests: a line of JSON for each call, and a Tomcat behind the filter. */
public final class Drive {
  private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  private static SessionManager manager(String user) {
    var config = DefaultJedisClientConfig.builder().user(user).password(System.getenv("REDIS_PASSWORD")).timeoutMillis(1000).build();
    var pool = new ConnectionPoolConfig();
    pool.setMaxTotal(1); // a call that holds one while it waits for another would have as many calls as a pool has wait for ever
    pool.setMaxWait(java.time.Duration.ofSeconds(1));
    return new SessionManager(RedisClient.builder().hostAndPort("127.0.0.1", Integer.parseInt(System.getenv("REDIS_PORT"))).clientConfig(config).poolConfig(pool).build());
  }

  private static final SessionManager login = manager("login"), reader = manager("reader");

  public static void main(String[] args) throws Exception {
    java.util.logging.LogManager.getLogManager().reset();
    serve();
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    var out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    for (String line; (line = in.readLine()) != null;) {
      out.println(JSON.toJson(answer(JSON.fromJson(line, JsonObject.class))));
    }
    System.exit(0);
  }

  private static Map<String, Object> answer(JsonObject call) {
    try {
      return call(call);
    } catch (Exception e) {
      String kind = e instanceof SessionRecord.NotFound || e instanceof SessionApi.NotFound ? "not_found" : e instanceof SessionRecord.FieldExists || e instanceof SessionApi.FieldExists ? "exists"
          : e instanceof SessionRecord.Ended ? "ended" : e instanceof IllegalArgumentException ? "invalid" : "unknown";
      var trace = new StringWriter();
      e.printStackTrace(new PrintWriter(trace));
      return Map.of("error", kind, "text", trace.toString());
    }
  }

  private static Map<String, Object> call(JsonObject c) {
    switch (c.get("do").getAsString()) {
      case "begin":
        return Collections.singletonMap("mark", login.begin(text(c, "user_id")));
      case "create":
        var account = new SessionRecord.Account(text(c, "user_id"), text(c, "username"), List.of(JSON.fromJson(c.get("roles"), String[].class)),
            text(c, "address"), text(c, "user_agent"), map(c));
        return Map.of("id", login.create(text(c, "mark"), account));
      case "touch":
        return Collections.singletonMap("session", told(login.touch(text(c, "id"), JSON.fromJson(c.get("names"), String[].class))));
      case "get":
        return Collections.singletonMap("session", told(reader.get(text(c, "key"), JSON.fromJson(c.get("names"), String[].class))));
      case "add":
        login.add(text(c, "key"), map(c));
        return Map.of();
      case "revoke":
        return Map.of("ended", login.revoke(text(c, "key")));
      case "api_get":
        return Collections.singletonMap("session", told(api(c).get(text(c, "key"), JSON.fromJson(c.get("names"), String[].class))));
      case "api_check":
        Map<String, String> name = text(c, "id").isEmpty() ? Map.of("key", text(c, "key")) : Map.of("id", text(c, "id"));
        var answer = api(c).check(name, List.of(JSON.fromJson(c.get("roles"), String[].class)), c.get("touch").getAsBoolean(), JSON.fromJson(c.get("names"), String[].class));
        return answer == null ? Map.of() : Map.of("allowed", answer.allowed(), "reason", answer.reason(), "session", told(answer.session()));
      case "api_check_none":
        return Map.of("allowed", api(c).check(Collections.singletonMap("id", null), List.of("a"), false) != null);
      case "api_add":
        api(c).add(text(c, "key"), map(c));
        return Map.of();
      case "api_revoke":
        return Map.of("ended", api(c).revoke(text(c, "key")));
      case "api_revoke_user":
        return Map.of("revoked", api(c).revokeUser(text(c, "user_id"), text(c, "key").isEmpty() ? null : text(c, "key")));
      default:
        throw new IllegalStateException();
    }
  }

  private static final java.net.http.HttpClient http = trusting(System.getenv("CA_FILE"));

  /** An HTTP client that trusts one authority. */
  private static java.net.http.HttpClient trusting(String file) {
    try (var in = new FileInputStream(file)) {
      var store = java.security.KeyStore.getInstance(java.security.KeyStore.getDefaultType());
      store.load(null, null);
      store.setCertificateEntry("ca", java.security.cert.CertificateFactory.getInstance("X.509").generateCertificate(in));
      var trust = javax.net.ssl.TrustManagerFactory.getInstance(javax.net.ssl.TrustManagerFactory.getDefaultAlgorithm());
      trust.init(store);
      var tls = javax.net.ssl.SSLContext.getInstance("TLS");
      tls.init(null, trust.getTrustManagers(), null);
      return java.net.http.HttpClient.newBuilder().sslContext(tls).build();
    } catch (java.security.GeneralSecurityException | IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private static SessionApi api(JsonObject c) { return new SessionApi(http, text(c, "url"), java.nio.file.Path.of(System.getenv("TOKEN_FILE"))); }

  private static Map<String, Object> told(SessionApi.Session s) {
    return s == null ? null : Map.of("key", s.key(), "user_id", s.userId(), "username", s.username(), "roles", s.roles(), "fields", s.fields());
  }

  private static String text(JsonObject c, String name) {
    return c.get(name) == null || c.get(name).isJsonNull() ? null : c.get(name).getAsString();
  }

  private static Map<String, String> map(JsonObject c) {
    Map<String, String> fields = new HashMap<>();
    c.getAsJsonObject("fields").entrySet().forEach(e -> fields.put(e.getKey(), e.getValue().getAsString()));
    return fields;
  }

  private static Map<String, Object> told(SessionRecord.Session s) {
    return s == null ? null : Map.of("key", s.key(), "user_id", s.userId(), "username", s.username(), "roles", s.roles(),
        "expires_at", s.expiresAt().toEpochMilli(), "fields", s.fields());
  }

  private static void serve() throws Exception {
    String[] address = System.getenv("HTTP_ADDR").split(":");
    var tomcat = new Tomcat();
    tomcat.setBaseDir(System.getenv("TOMCAT_DIR"));
    tomcat.setHostname(address[0]);
    tomcat.setPort(Integer.parseInt(address[1]));
    tomcat.getConnector().setProperty("address", address[0]);
    Context context = tomcat.addContext("", null);
    for (String kind : new String[] {"optional", "required"}) {
      filter(context, new IdentityFilter(Set.of("tenant"), false, Set.of()), "/java/" + kind + "/whoami");
      filter(context, new IdentityFilter(Set.of("tenant"), true, Set.of()), "/java/" + kind + "/signed-in");
      filter(context, new IdentityFilter(Set.of("tenant"), true, Set.of("admin")), "/java/" + kind + "/admin");
    }
    Tomcat.addServlet(context, "page", new HttpServlet() {
      @Override protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        var user = (IdentityFilter.User) request.getAttribute("coatcheck");
        Map<String, Object> told = user == null ? null : new HashMap<>(user.texts());
        if (user != null) {
          told.put("roles", user.roles());
          if (!request.getRemoteUser().equals(user.getName()) || !user.roles().stream().allMatch(request::isUserInRole)) {
            throw new IllegalStateException();
          }
        }
        response.setContentType("application/json");
        response.setCharacterEncoding("UTF-8");
        response.getWriter().print(JSON.toJson(told));
      }
    });
    context.addServletMappingDecoded("/", "page");
    tomcat.start();
  }

  private static void filter(Context context, IdentityFilter filter, String path) {
    var def = new FilterDef();
    def.setFilterName(path);
    def.setFilter(filter);
    context.addFilterDef(def);
    var map = new FilterMap();
    map.setFilterName(path);
    map.addURLPattern(path);
    context.addFilterMap(map);
  }
}
