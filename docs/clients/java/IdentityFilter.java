import jakarta.servlet.*;
import jakarta.servlet.http.*;
import java.io.IOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.Principal;
import java.util.*;

/**
 * Who the user is, by the headers that Coatcheck sets: a servlet filter. Copy this file.
 *
 * <p>getRemoteUser() is the user's ID, isUserInRole() knows the roles, and the attribute "coatcheck" is the User, which
 * is null for a client that is not signed in. With required, or with roles of which one is enough, others are refused.
 *
 * <p>Headers are believed, not verified: the service must be reachable through Envoy only.
 */
public final class IdentityFilter implements Filter {
  private static final String PREFIX = "x-user-";

  /** The user of a request. Texts has id, and, where they came, name, session and the fields. */
  public record User(Map<String, String> texts, List<String> roles) implements Principal {
    @Override public String getName() { return texts.get("id"); }
  }

  private final Set<String> parts;
  private final boolean required;
  private final Set<String> roles;

  public IdentityFilter(Set<String> fields, boolean required, Set<String> roles) {
    this.parts = new HashSet<>(fields);
    this.parts.addAll(List.of("id", "name", "roles", "session"));
    this.required = required || !roles.isEmpty();
    this.roles = roles;
  }

  @Override
  public void doFilter(ServletRequest in, ServletResponse out, FilterChain next) throws IOException, ServletException {
    HttpServletRequest request = (HttpServletRequest) in;
    HttpServletResponse response = (HttpServletResponse) out;
    User user;
    try {
      user = userOf(request);
    } catch (IllegalArgumentException e) { // Coatcheck does not send such headers: another program added to them
      refuse(response, 400);
      return;
    }
    if (required && user == null) {
      refuse(response, 401);
    } else if (!roles.isEmpty() && Collections.disjoint(roles, user.roles())) {
      refuse(response, 403);
    } else {
      request.setAttribute("coatcheck", user);
      next.doFilter(new HttpServletRequestWrapper(request) {
        @Override public String getRemoteUser() { return user == null ? null : user.getName(); }
        @Override public Principal getUserPrincipal() { return user; }
        @Override public boolean isUserInRole(String role) { return user != null && user.roles().contains(role); }
      }, response);
    }
  }

  /** The user, or null. Each header comes at most once, in one spelling, never empty. */
  private User userOf(HttpServletRequest request) {
    Map<String, String> texts = new HashMap<>();
    List<String> roles = new ArrayList<>();
    for (String name : new LinkedHashSet<>(Collections.list(request.getHeaderNames()))) {
      String lower = name.toLowerCase(Locale.ROOT), ours = lower.replaceAll("[^a-z0-9]", "-");
      if (!ours.startsWith(PREFIX) || !parts.contains(ours.substring(PREFIX.length()))) {
        continue;
      }
      List<String> lines = Collections.list(request.getHeaders(name));
      if (!ours.equals(lower) || lines.size() != 1) {
        throw new IllegalArgumentException();
      } else if (ours.equals(PREFIX + "roles")) {
        for (String role : lines.get(0).split(",", -1)) {
          roles.add(decode(role));
        }
      } else {
        texts.put(ours.substring(PREFIX.length()), decode(lines.get(0)));
      }
    }
    return texts.containsKey("id") ? new User(texts, roles) : null;
  }

  /** Undoes the one encoding that Coatcheck makes: visible ASCII as it is, the rest, % and "," as %XX. */
  private static String decode(String value) {
    String text = URLDecoder.decode(value.replace("+", "%2B"), StandardCharsets.UTF_8);
    StringBuilder encoded = new StringBuilder();
    for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
      boolean asIs = b > ' ' && b < 0x7f && b != '%' && b != ',';
      encoded.append(asIs ? String.valueOf((char) b) : String.format("%%%02X", b));
    }
    if (text.isEmpty() || !encoded.toString().equals(value)) {
      throw new IllegalArgumentException();
    }
    return text;
  }

  private static void refuse(HttpServletResponse response, int status) {
    response.setHeader("Cache-Control", "no-store");
    if (status == 401) {
      response.setHeader("WWW-Authenticate", "Session");
    }
    response.setStatus(status);
  }
}
