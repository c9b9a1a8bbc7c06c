// A caller of the API in Java, with nothing but what the JDK comes with.
//
//     java Caller.java COORDINATOR SECRET APP_SECRET FILE_ID
//
// prints a URL a line: signed GET, signed POST, app key with a JWT.

import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

import static java.nio.charset.StandardCharsets.UTF_8;

public class Caller {
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        String coordinator = arguments[0], secret = arguments[1], appSecret = arguments[2];
        TreeMap<String, String> parameters = new TreeMap<>();
        parameters.put("user_id", "jürgen müller");
        parameters.put("file_id", arguments[3]);
        String query = parameters.entrySet().stream()
                .map(parameter -> parameter.getKey() + "=" + URLEncoder.encode(parameter.getValue(), UTF_8))
                .collect(Collectors.joining("&"));
        String target = "/api/request-download?" + query;

        Map<String, String> headers = signatureHeaders(secret, "GET", "", target);
        print("download_url", call(request(coordinator + target, headers).GET()));

        parameters.put("filename", "年度 報告.bin");
        String canonical = json(parameters, "", ":", ",");
        MessageDigest md5 = MessageDigest.getInstance("MD5");
        String contentMd5 = Base64.getEncoder().encodeToString(md5.digest(canonical.getBytes(UTF_8)));
        headers = signatureHeaders(secret, "POST", contentMd5, "/api/links");
        headers.put("Content-MD5", contentMd5);
        headers.put("Content-Type", "application/json");
        // Spaces: not the form that was signed.
        String body = json(parameters, "\n    ", " : ", " , ");
        print("link", call(request(coordinator + "/api/links", headers)
                .POST(HttpRequest.BodyPublishers.ofString(body, UTF_8))));

        long now = System.currentTimeMillis() / 1000;
        Map<String, String> app = new TreeMap<>();
        app.put("AppKey", "java-app");
        app.put("Authorization", "Bearer " + jwt(appSecret, "{\"iat\":" + now + ",\"exp\":3600}"));
        print("download_url", call(request(coordinator + target, app).GET()));
    }

    private static Map<String, String> signatureHeaders(
            String secret, String method, String contentMd5, String target) throws Exception {
        TreeMap<String, String> headers = new TreeMap<>();
        headers.put("Auth-Access-Key", "java");
        headers.put("Auth-Nonce", UUID.randomUUID().toString());
        headers.put("Auth-Timestamp", Long.toString(System.currentTimeMillis() / 1000));
        String lines = headers.entrySet().stream()
                .map(header -> header.getKey() + ": " + header.getValue())
                .collect(Collectors.joining("\n"));
        String text = String.join("\n", method, contentMd5, lines, target);
        headers.put("Auth-Signature", Base64.getEncoder().encodeToString(mac(secret, text)));
        return headers;
    }

    private static String jwt(String secret, String claims) throws Exception {
        Base64.Encoder url = Base64.getUrlEncoder().withoutPadding();
        String header = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
        String signed = url.encodeToString(header.getBytes(UTF_8)) + "." + url.encodeToString(claims.getBytes(UTF_8));
        // The base64 text of the MAC, encoded once more.
        String text = Base64.getEncoder().encodeToString(mac(secret, signed));
        return signed + "." + url.encodeToString(text.getBytes(UTF_8));
    }

    private static byte[] mac(String secret, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(secret.getBytes(UTF_8), "HmacSHA256"));
        return mac.doFinal(text.getBytes(UTF_8));
    }

    /** An object of texts that need no escapes. */
    private static String json(Map<String, String> fields, String before, String colon, String comma) {
        return fields.entrySet().stream()
                .map(field -> before + '"' + field.getKey() + '"' + colon + '"' + field.getValue() + '"')
                .collect(Collectors.joining(comma, "{", "}"));
    }

    private static HttpRequest.Builder request(String url, Map<String, String> headers) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(30));
        headers.forEach(request::header);
        return request;
    }

    private static String call(HttpRequest.Builder request) throws Exception {
        return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString(UTF_8)).body();
    }

    private static void print(String name, String answer) {
        Matcher found = Pattern.compile('"' + name + "\":\"([^\"]+)\"").matcher(answer);
        if (!found.find()) {
            System.err.println(answer);
            System.exit(1);
        }
        System.out.println(found.group(1));
    }
}
