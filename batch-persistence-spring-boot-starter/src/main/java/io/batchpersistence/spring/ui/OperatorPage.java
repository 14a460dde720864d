package io.batchpersistence.spring.ui;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spring.operator.BatchOperator;
import io.batchpersistence.spring.operator.Conditions;
import io.batchpersistence.spring.operator.OperatorRequestException;
import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.aot.hint.BindingReflectionHintsRegistrar;
import org.springframework.aot.hint.RuntimeHints;
import org.springframework.aot.hint.RuntimeHintsRegistrar;
import org.springframework.http.CacheControl;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpMethod;
import org.springframework.http.HttpStatus;
import org.springframework.http.InvalidMediaTypeException;
import org.springframework.http.MediaType;
import org.springframework.security.web.csrf.CsrfToken;
import org.springframework.util.ClassUtils;
import org.springframework.web.servlet.function.RouterFunction;
import org.springframework.web.servlet.function.RouterFunctions;
import org.springframework.web.servlet.function.ServerRequest;
import org.springframework.web.servlet.function.ServerResponse;
import tools.jackson.core.JacksonException;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.json.JsonMapper;

/**
 * The routes of the page and of its JSON. Thread-safe.
 *
 * <p>The application's customization of its own responses does not affect these: a separate mapper writes them as the
 * page expects them, and each response, including refusals, has the headers that isolate the page.
 *
 * <p>A request that changes something is accepted as the page's own if it has a header that a form can't send, has JSON
 * content, and contains no sign of another origin; in addition, Spring Security's CSRF token is required if the
 * application uses it.
 */
public final class OperatorPage {

    private static final Logger log = LogSanitizer.logger(OperatorPage.class);

    /** A script of another origin can send this header only if the application's CORS configuration allows it. */
    static final String REQUEST_HEADER = "X-Batch-Persistence";

    private static final String CONTENT_SECURITY_POLICY = "default-src 'none'; script-src 'self'; style-src 'self';"
            + " connect-src 'self'; img-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

    /** The maximum size of a request body in bytes; a request with a thousand ids of the maximum length is smaller. */
    private static final int MAX_BODY = 1 << 20;

    private static final Duration MAX_HISTORY = Duration.ofDays(1);

    private static final TypeReference<Map<String, @Nullable Object>> OBJECT = new TypeReference<>() {};

    private static final MediaType HTML = MediaType.parseMediaType("text/html;charset=utf-8");
    private static final MediaType CSS = MediaType.parseMediaType("text/css;charset=utf-8");
    private static final MediaType SCRIPT = MediaType.parseMediaType("text/javascript;charset=utf-8");
    private static final MediaType SVG = MediaType.parseMediaType("image/svg+xml");

    private static final boolean SPRING_SECURITY = ClassUtils.isPresent(
            "org.springframework.security.web.csrf.CsrfToken", OperatorPage.class.getClassLoader());

    private final BatchOperator operator;
    private final BacklogHistory history;
    private final String path;
    private final boolean readOnly;
    private final Predicate<HttpServletRequest> maySeeEntries;
    private final @Nullable String application;
    private final JsonMapper json = JsonMapper.shared();

    /**
     * Creates the page.
     *
     * @param operator the queries and commands of the page
     * @param history the backlog over time
     * @param path the path of the page, without a trailing slash
     * @param readOnly whether the page must not change anything
     * @param maySeeEntries whether a request may see the content of a batch
     * @param application the application's name, for the page's title; {@code null} if it has none
     */
    public OperatorPage(
            BatchOperator operator,
            BacklogHistory history,
            String path,
            boolean readOnly,
            Predicate<HttpServletRequest> maySeeEntries,
            @Nullable String application) {
        this.operator = operator;
        this.history = history;
        this.path = path;
        this.readOnly = readOnly;
        this.maySeeEntries = maySeeEntries;
        this.application = application;
    }

    /**
     * Returns all routes of the page.
     *
     * @return only routes below the path
     */
    public RouterFunction<ServerResponse> routes() {
        StaticFile page = new StaticFile("page.html", HTML);
        StaticFile style = new StaticFile("page.css", CSS);
        StaticFile script = new StaticFile("page.js", SCRIPT);
        StaticFile icon = new StaticFile("icon.svg", SVG);
        String api = path + "/api";
        return RouterFunctions.route()
                .GET(path, request -> toThePage())
                .GET(path + "/", page::answer)
                .GET(path + "/page.css", style::answer)
                .GET(path + "/page.js", script::answer)
                .GET(path + "/icon.svg", icon::answer)
                .GET(api, request -> read(request, () -> summary()))
                .GET(api + "/session", request -> read(request, () -> session(request.servletRequest())))
                .GET(api + "/history", request -> read(request, () -> series(request)))
                .GET(api + "/batches", request -> read(request, () -> operator.batches(conditions(request.params()))))
                .GET(api + "/reasons", request -> read(request, () -> operator.reasons(conditions(request.params()))))
                .GET(api + "/batch", request -> read(request, () -> batch(request)))
                .POST(api + "/{operation}", this::operate)
                .build();
    }

    // ---- seeing -----------------------------------------------------------------------------

    /** Relative, so that it also works behind a proxy that adds its own path prefix. */
    private ServerResponse toThePage() {
        String name = path.substring(path.lastIndexOf('/') + 1);
        return answer(HttpStatus.FOUND).location(URI.create(name + "/")).build();
    }

    private BatchOperator.Summary summary() {
        history.sample();
        return operator.summary();
    }

    private BacklogHistory.Series series(ServerRequest request) {
        String minutes = request.param("minutes").orElse("60");
        try {
            Duration length = Duration.ofMinutes(Integer.parseInt(minutes));
            if (!length.isNegative() && !length.isZero() && length.compareTo(MAX_HISTORY) <= 0) {
                history.sample();
                return history.series(length);
            }
        } catch (NumberFormatException e) {
            // Reported below.
        }
        throw new RefusedException(
                HttpStatus.BAD_REQUEST, "minutes must be a number from 1 to " + MAX_HISTORY.toMinutes());
    }

    /**
     * What the page needs to know about its own session.
     *
     * @param access the access level as in the configuration
     * @param application the application's name
     * @param csrfHeader the header that must contain the token in each request that changes something
     * @param csrfToken the CSRF token
     */
    record Session(
            String access,
            @Nullable String application,
            @Nullable String csrfHeader,
            @Nullable String csrfToken) {}

    private Session session(HttpServletRequest request) {
        String access = readOnly ? "read_only" : "unrestricted";
        if (!readOnly && SPRING_SECURITY) {
            return SecurityToken.add(access, application, request);
        }
        return new Session(access, application, null, null);
    }

    /** A separate class, so that it is loaded only if Spring Security is on the class path. */
    private static final class SecurityToken {
        static Session add(String access, @Nullable String application, HttpServletRequest request) {
            if (request.getAttribute(CsrfToken.class.getName()) instanceof CsrfToken token) {
                return new Session(access, application, token.getHeaderName(), token.getToken());
            }
            return new Session(access, application, null, null);
        }
    }

    private BatchOperator.Detail batch(ServerRequest request) {
        return operator.batch(request.param("id").orElse(null), maySeeEntries.test(request.servletRequest()));
    }

    /**
     * Refuses unknown names: an ignored condition could make an operation, such as discard, select too many batches.
     */
    private static Conditions conditions(Map<String, List<String>> parameters) {
        Conditions conditions = Conditions.NONE;
        for (Map.Entry<String, List<String>> parameter : parameters.entrySet()) {
            if (!Conditions.names().contains(parameter.getKey())) {
                throw new RefusedException(
                        HttpStatus.BAD_REQUEST,
                        "there is no '" + LogSanitizer.of(parameter.getKey()) + "'; there are " + Conditions.names());
            }
            conditions = conditions.with(parameter.getKey(), parameter.getValue());
        }
        return conditions;
    }

    private ServerResponse read(ServerRequest request, Supplier<?> what) {
        if (!isOurs(request)) {
            return refusal(HttpStatus.FORBIDDEN, "the request comes from another origin");
        }
        return answered(what);
    }

    // ---- doing ------------------------------------------------------------------------------

    private ServerResponse operate(ServerRequest request) throws IOException {
        if (readOnly) {
            return problem(
                    answer(HttpStatus.METHOD_NOT_ALLOWED).allow(HttpMethod.GET),
                    "the page is read-only: batch_persistence.ui.access is read_only");
        }
        if (!isOurs(request)) {
            return refusal(HttpStatus.FORBIDDEN, "the request comes from another origin");
        }
        if (request.headers().firstHeader(REQUEST_HEADER) == null) {
            return refusal(HttpStatus.FORBIDDEN, "the header " + REQUEST_HEADER + " is missing");
        }
        if (!isJson(request)) {
            return refusal(HttpStatus.FORBIDDEN, "Content-Type must be application/json");
        }
        byte[] body = request.servletRequest().getInputStream().readNBytes(MAX_BODY + 1);
        if (body.length > MAX_BODY) {
            return refusal(HttpStatus.CONTENT_TOO_LARGE, "a request has at most " + MAX_BODY + " bytes");
        }
        return answered(() -> operate(request.pathVariable("operation"), body));
    }

    private BatchOperator.Result operate(String operation, byte[] body) {
        Map<String, List<String>> parameters = new HashMap<>();
        try {
            Map<String, @Nullable Object> object = json.readValue(body, OBJECT);
            // The body is the text "null".
            if (object == null) {
                throw notAnObject();
            }
            object.forEach((name, value) -> parameters.put(name, texts(name, value)));
        } catch (JacksonException e) {
            throw notAnObject();
        }
        boolean dryRun = flag("dryRun", parameters.remove("dryRun"));
        Double perSecond = rate("perSecond", parameters.remove("perSecond"));
        return operator.operate(operation, conditions(parameters), dryRun, perSecond);
    }

    private static RefusedException notAnObject() {
        return new RefusedException(HttpStatus.BAD_REQUEST, "the body must be a JSON object");
    }

    private static List<String> texts(String name, @Nullable Object value) {
        List<String> texts = new ArrayList<>();
        for (Object one : value instanceof Collection<?> many ? many : Collections.singletonList(value)) {
            if (!(one instanceof String || one instanceof Number || one instanceof Boolean)
                    || one.toString().isBlank()) {
                throw new RefusedException(
                        HttpStatus.BAD_REQUEST, name + " must be a text, a number, or a list of texts, and not blank");
            }
            texts.add(one.toString());
        }
        return texts;
    }

    private static boolean flag(String name, @Nullable List<String> values) {
        if (values == null || values.equals(List.of("false"))) {
            return false;
        }
        if (values.equals(List.of("true"))) {
            return true;
        }
        // Never guess between a dry run and the real operation.
        throw new RefusedException(HttpStatus.BAD_REQUEST, name + " must be true or false");
    }

    private static @Nullable Double rate(String name, @Nullable List<String> values) {
        try {
            return values == null ? null : Double.valueOf(values.get(0));
        } catch (NumberFormatException | IndexOutOfBoundsException e) {
            throw new RefusedException(HttpStatus.BAD_REQUEST, name + " must be a number");
        }
    }

    private static boolean isJson(ServerRequest request) {
        try {
            return request.headers()
                    .contentType()
                    .filter(type -> type.equalsTypeAndSubtype(MediaType.APPLICATION_JSON))
                    .isPresent();
        } catch (InvalidMediaTypeException e) {
            return false;
        }
    }

    /**
     * Whether the browser reports that a page of this origin, or the user in the address bar, has made the request.
     * Clients that are not browsers report nothing; they don't send a user's cookies without the user's knowledge.
     */
    private static boolean isOurs(ServerRequest request) {
        HttpHeaders headers = request.headers().asHttpHeaders();
        String site = headers.getFirst("Sec-Fetch-Site");
        if (site != null) {
            return site.equals("same-origin") || (site.equals("none") && HttpMethod.GET.equals(request.method()));
        }
        // For older browsers, and browsers that don't trust this host.
        String origin = headers.getOrigin();
        return origin == null || isThisHost(origin, request.servletRequest());
    }

    private static boolean isThisHost(String origin, HttpServletRequest request) {
        try {
            URI uri = new URI(origin);
            int port = uri.getPort() >= 0 ? uri.getPort() : "https".equals(uri.getScheme()) ? 443 : 80;
            return request.getServerName().equalsIgnoreCase(uri.getHost()) && request.getServerPort() == port;
        } catch (URISyntaxException e) {
            return false;
        }
    }

    // ---- answers ----------------------------------------------------------------------------

    /**
     * The response if a request can't be fulfilled.
     *
     * @param message the reason, for a person
     */
    record Problem(String message) {}

    private static final class RefusedException extends RuntimeException {

        final HttpStatus status;

        RefusedException(HttpStatus status, String message) {
            super(message);
            this.status = status;
        }
    }

    private ServerResponse answered(Supplier<?> what) {
        Object value;
        try {
            value = what.get();
        } catch (RefusedException e) {
            return refusal(e.status, String.valueOf(e.getMessage()));
        } catch (OperatorRequestException e) {
            return refusal(HttpStatus.valueOf(e.reason().status()), String.valueOf(e.getMessage()));
        } catch (BatchPersistenceException e) {
            return refusal(HttpStatus.SERVICE_UNAVAILABLE, String.valueOf(e.getMessage()));
        } catch (RuntimeException e) {
            // The application's own error page would not have our headers.
            log.error("A request of the operators' page failed", e);
            return refusal(HttpStatus.INTERNAL_SERVER_ERROR, "the request failed; the application's log says why");
        }
        return written(answer(HttpStatus.OK), value);
    }

    private ServerResponse refusal(HttpStatus status, String message) {
        return problem(answer(status), message);
    }

    private ServerResponse problem(ServerResponse.BodyBuilder answer, String message) {
        return written(answer, new Problem(message));
    }

    private ServerResponse written(ServerResponse.BodyBuilder answer, Object value) {
        return answer.contentType(MediaType.APPLICATION_JSON).build((request, response) -> {
            response.getOutputStream().write(json.writeValueAsBytes(value));
            return null;
        });
    }

    private static ServerResponse.BodyBuilder answer(HttpStatus status) {
        return ServerResponse.status(status)
                .cacheControl(CacheControl.noStore())
                .headers(headers -> {
                    headers.set("Content-Security-Policy", CONTENT_SECURITY_POLICY);
                    headers.set("Cross-Origin-Resource-Policy", "same-origin");
                    headers.set("Referrer-Policy", "no-referrer");
                    headers.set("X-Content-Type-Options", "nosniff");
                    headers.set("X-Frame-Options", "DENY");
                });
    }

    /** Hints for a native image: the static files, and the types that are serialized as JSON. */
    public static final class Hints implements RuntimeHintsRegistrar {

        /** For Spring. */
        public Hints() {}

        @Override
        public void registerHints(RuntimeHints hints, @Nullable ClassLoader classes) {
            for (String file : List.of("page.html", "page.css", "page.js", "icon.svg")) {
                hints.resources().registerPattern("io/batchpersistence/spring/ui/" + file);
            }
            new BindingReflectionHintsRegistrar()
                    .registerReflectionHints(
                            hints.reflection(),
                            BatchOperator.Summary.class,
                            BatchOperator.Batches.class,
                            BatchOperator.Reasons.class,
                            BatchOperator.Detail.class,
                            BatchOperator.Result.class,
                            BacklogHistory.Series.class,
                            Session.class,
                            Problem.class);
        }
    }

    /** One of the files beside this class, which is not a location that handlers of static resources serve. */
    private static final class StaticFile {

        private final MediaType type;
        private final byte[] content;
        private final String tag;

        StaticFile(String name, MediaType type) {
            this.type = type;
            try (InputStream in = OperatorPage.class.getResourceAsStream(name)) {
                if (in == null) {
                    throw new IllegalStateException(name + " is missing in the library");
                }
                content = in.readAllBytes();
                tag = '"'
                        + HexFormat.of()
                                .formatHex(MessageDigest.getInstance("SHA-256").digest(content), 0, 8)
                        + '"';
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            } catch (NoSuchAlgorithmException e) {
                // Every Java platform has SHA-256.
                throw new AssertionError(e);
            }
        }

        /**
         * Browsers cache the file but revalidate it every time: after an update of the library the old script would not
         * fit.
         */
        ServerResponse answer(ServerRequest request) {
            return request.checkNotModified(tag)
                    .orElseGet(() -> OperatorPage.answer(HttpStatus.OK)
                            .cacheControl(CacheControl.noCache())
                            .eTag(tag)
                            .contentType(type)
                            .build((servletRequest, response) -> {
                                response.getOutputStream().write(content);
                                return null;
                            }));
        }
    }
}
