package headwater.parity;

import java.util.Arrays;
import java.util.List;

/**
 * A record that goes into a topology. A list of them is written as {@code topic:key=value@timestamp}, with spaces between;
 * a lone {@code -} is null, and the topic is {@code in} when none is said.
 */
record Input(String topic, String key, String value, long timestamp) {
    static List<Input> parse(String text) {
        return Arrays.stream(text.trim().split("\\s+")).map(Input::one).toList();
    }

    private static Input one(String token) {
        int equals = token.indexOf('=');
        int at = token.lastIndexOf('@');
        int colon = token.lastIndexOf(':', equals);
        if (equals < 0 || at < equals) {
            throw new IllegalArgumentException("not a record: " + token);
        }
        String topic = colon < 0 ? "in" : token.substring(0, colon);
        String key = nullable(token.substring(colon + 1, equals));
        return new Input(topic, key, nullable(token.substring(equals + 1, at)), Long.parseLong(token.substring(at + 1)));
    }

    private static String nullable(String text) {
        return text.equals("-") ? null : text;
    }
}
