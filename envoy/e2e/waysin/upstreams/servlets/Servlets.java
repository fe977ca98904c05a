import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.coyote.http2.Http2Protocol;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.http.UriCompliance;
import org.eclipse.jetty.http2.server.HTTP2CServerConnectionFactory;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * Two servlet containers, each once as it comes and once as old applications
 * want it, on ports of their own. Each port answers HTTP/1.1 and cleartext
 * HTTP/2.
 */
public class Servlets {
    static final Map<String, String> PAGES = new LinkedHashMap<>();

    static {
        PAGES.put("/public/*", "public");
        PAGES.put("/optional/*", "optional");
        PAGES.put("/admin/*", "admin");
        PAGES.put("/secret", "secret");
        PAGES.put("/api/*", "api");
        PAGES.put("/", "other");
    }

    public static void main(String[] args) throws Exception {
        Thread.setDefaultUncaughtExceptionHandler((t, e) -> e.printStackTrace());
        tomcat();
        jetty();
        System.out.println("ready");
        Thread.currentThread().join();
    }

    static void tomcat() throws Exception {
        File base = Files.createTempDirectory("ways-in-tomcat").toFile();
        base.deleteOnExit();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(base.getPath());
        Connector strict = connector(), loose = connector();
        loose.setEncodedSolidusHandling("decode");
        loose.setAllowBackslash(true);
        loose.setProperty("relaxedPathChars", "\"<>[\\]^`{|}");
        tomcat.setConnector(strict);
        tomcat.getService().addConnector(loose);
        Context context = tomcat.addContext("", null);
        PAGES.forEach((pattern, page) -> {
            Tomcat.addServlet(context, page, new Page(page));
            context.addServletMappingDecoded(pattern, page);
        });
        tomcat.start();
        listening("tomcat", strict.getLocalPort());
        listening("tomcat-loose", loose.getLocalPort());
    }

    static Connector connector() {
        Connector connector = new Connector();
        connector.setPort(0);
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("allowedTrailerHeaders", "x-user-id,x-user-roles,x_user_id,x.user.id,x-user-session,x-user-anything");
        connector.addUpgradeProtocol(new Http2Protocol());
        return connector;
    }

    static void jetty() throws Exception {
        Server server = new Server();
        ServerConnector strict = connector(server, UriCompliance.DEFAULT), loose = connector(server, UriCompliance.UNSAFE);
        ServletContextHandler context = new ServletContextHandler("/");
        context.getServletHandler().setDecodeAmbiguousURIs(true);
        PAGES.forEach((pattern, page) -> context.addServlet(new ServletHolder(page, new Page(page)), pattern));
        server.setHandler(context);
        server.start();
        listening("jetty", strict.getLocalPort());
        listening("jetty-loose", loose.getLocalPort());
    }

    static ServerConnector connector(Server server, UriCompliance compliance) {
        HttpConfiguration config = new HttpConfiguration();
        config.setUriCompliance(compliance);
        ServerConnector connector = new ServerConnector(server, new HttpConnectionFactory(config), new HTTP2CServerConnectionFactory(config));
        connector.setHost("127.0.0.1");
        connector.setPort(0);
        server.addConnector(connector);
        return connector;
    }

    static void listening(String name, int port) {
        System.out.println("listening " + name + " 127.0.0.1:" + port);
    }

    /** Answers which page it is and what it was sent, as a servlet sees it. */
    static class Page extends HttpServlet {
        final String page;

        Page(String page) {
            this.page = page;
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            request.getInputStream().readAllBytes();
            Map<String, Object> seen = new LinkedHashMap<>();
            seen.put("page", page);
            seen.put("method", request.getMethod());
            seen.put("path", request.getServletPath() + (request.getPathInfo() == null ? "" : request.getPathInfo()));
            seen.put("target", request.getRequestURI());
            seen.put("headers", headers(request));
            seen.put("cookies", cookies(request));
            seen.put("trailers", request.isTrailerFieldsReady() ? request.getTrailerFields() : Map.of());
            byte[] body = json(seen).getBytes(StandardCharsets.UTF_8);
            response.setHeader("X-Page", page);
            response.setHeader("X-Method", request.getMethod());
            response.setContentType("application/json");
            response.setContentLength(body.length);
            response.getOutputStream().write(body);
        }

        static Map<String, Object> headers(HttpServletRequest request) {
            Map<String, Object> found = new LinkedHashMap<>();
            for (String name : Collections.list(request.getHeaderNames())) {
                found.put(name, Collections.list(request.getHeaders(name)));
            }
            return found;
        }

        static Map<String, Object> cookies(HttpServletRequest request) {
            Map<String, Object> found = new LinkedHashMap<>();
            if (request.getCookies() != null) {
                for (Cookie cookie : request.getCookies()) {
                    found.put(cookie.getName(), cookie.getValue());
                }
            }
            return found;
        }
    }

    static String json(Object value) {
        List<String> parts = new ArrayList<>();
        if (value instanceof Map<?, ?> map) {
            map.forEach((k, v) -> parts.add(json(String.valueOf(k)) + ":" + json(v)));
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof List<?> list) {
            list.forEach(v -> parts.add(json(v)));
            return "[" + String.join(",", parts) + "]";
        }
        StringBuilder text = new StringBuilder("\"");
        for (char c : String.valueOf(value).toCharArray()) {
            text.append(c < ' ' || c == '"' || c == '\\' || c > '~' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return text.append('"').toString();
    }
}
