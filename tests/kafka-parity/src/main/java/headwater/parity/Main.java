package headwater.parity;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes the vectors of all scenarios into the folder that is its argument: {@code <family>/<scenario>.json}. */
public final class Main {
    private Main() {}

    private static Map<String, List<Scenario>> families() {
        Map<String, List<Scenario>> families = new LinkedHashMap<>();
        families.put("stateless", Stateless.scenarios());
        families.put("aggregates", Aggregates.scenarios());
        families.put("windows", Windows.scenarios());
        families.put("sessions", Sessions.scenarios());
        families.put("tables", Tables.scenarios());
        families.put("stream-table-joins", StreamTableJoins.scenarios());
        families.put("stream-stream-joins", StreamStreamJoins.scenarios());
        families.put("processors", Processors.scenarios());
        return families;
    }

    public static void main(String[] arguments) throws IOException {
        Path target = Path.of(arguments[0]);
        Path state = Files.createTempDirectory("kafka-parity");
        int count = 0;
        for (Map.Entry<String, List<Scenario>> family : families().entrySet()) {
            Path folder = Files.createDirectories(target.resolve(family.getKey()));
            for (Scenario scenario : family.getValue()) {
                Path file = folder.resolve(scenario.name() + ".json");
                if (Files.exists(file)) {
                    throw new IllegalArgumentException("two scenarios have one name, or the folder is not empty: " + file);
                }
                Files.writeString(file, new Run(scenario).vector(state));
                count++;
            }
        }
        System.out.println(count + " vectors");
    }
}
