package headwater.parity;

import java.util.Collection;
import java.util.List;
import java.util.stream.Collectors;

/** How a vector is written: the same bytes for the same records, one line for each. */
final class Json {
    private Json() {}

    static String vector(Scenario scenario, Collection<String> outputs, List<String> steps) {
        String names = outputs.stream().map(Json::text).collect(Collectors.joining(", "));
        return "{\n"
                + "  \"name\": " + text(scenario.name()) + ",\n"
                + "  \"operator\": " + text(scenario.operator()) + ",\n"
                + "  \"topology\": " + text(scenario.topology()) + ",\n"
                + "  \"read_as\": " + text(scenario.hex() ? "bytes" : "text") + ",\n"
                + "  \"outputs\": [" + names + "],\n"
                + "  \"steps\": [\n" + String.join(",\n", steps) + "\n  ]\n"
                + "}\n";
    }

    static String step(Input input, List<Output> outputs) {
        String records = outputs.stream().map(Json::output).collect(Collectors.joining(",\n"));
        return "    {"
                + fields(input.topic(), input.key(), input.value(), input.timestamp())
                + ", \"output\": [" + (records.isEmpty() ? "" : "\n" + records + "\n    ") + "]}";
    }

    private static String output(Output output) {
        return "      {" + fields(output.topic(), output.key(), output.value(), output.timestamp()) + "}";
    }

    private static String fields(String topic, String key, String value, Long timestamp) {
        return "\"topic\": " + text(topic) + ", \"key\": " + text(key) + ", \"value\": " + text(value)
                + ", \"timestamp\": " + timestamp;
    }

    /** Scenarios are written in ASCII, and what could need an escape is refused. */
    private static String text(String text) {
        if (text == null) {
            return "null";
        }
        if (!text.chars().allMatch(c -> c >= ' ' && c <= '~' && c != '"' && c != '\\')) {
            throw new IllegalArgumentException("would need an escape: " + text);
        }
        return '"' + text + '"';
    }
}
