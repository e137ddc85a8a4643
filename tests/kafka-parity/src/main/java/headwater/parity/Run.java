package headwater.parity;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.TopologyDescription;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.test.TestRecord;

/** Runs a scenario on Kafka's own test driver: one record in, then all that came out for it. */
final class Run {
    private final Scenario scenario;
    private final Wiring wiring = new Wiring();
    private final Topology topology;
    /** Topics that the topology writes, its own internal ones not counted. */
    private final TreeSet<String> outputs = new TreeSet<>();

    Run(Scenario scenario) {
        this.scenario = scenario;
        scenario.build().accept(wiring);
        topology = wiring.builder.build();
        for (TopologyDescription.Subtopology subtopology : topology.describe().subtopologies()) {
            for (TopologyDescription.Node node : subtopology.nodes()) {
                if (node instanceof TopologyDescription.Sink sink && !sink.topic().endsWith("-repartition")) {
                    outputs.add(sink.topic());
                }
            }
        }
    }

    /** Without caches and without throttles by the wall clock, so that every result is seen where it belongs. */
    private static Properties settings(Path state) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "parity");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:1");
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0L);
        settings.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        settings.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
        return settings;
    }

    /** The vector. */
    String vector(Path state) {
        TreeSet<String> places = new TreeSet<>(outputs);
        places.addAll(wiring.looks);
        List<String> steps = new ArrayList<>();
        try (TopologyTestDriver driver = new TopologyTestDriver(topology, settings(state), Instant.EPOCH)) {
            for (Input input : Input.parse(scenario.input())) {
                steps.add(Json.step(input, step(driver, input)));
            }
        }
        return Json.vector(scenario, places, steps);
    }

    private List<Output> step(TopologyTestDriver driver, Input input) {
        wiring.seen.clear();
        TestInputTopic<String, String> topic =
                driver.createInputTopic(input.topic(), new StringSerializer(), new StringSerializer());
        topic.pipeInput(new TestRecord<>(input.key(), input.value(), new RecordHeaders(), input.timestamp()));
        List<Output> step = new ArrayList<>();
        TreeSet<String> places = new TreeSet<>(outputs);
        places.addAll(wiring.looks);
        for (String place : places) {
            if (wiring.looks.contains(place)) {
                wiring.seen.stream().filter(output -> output.topic().equals(place)).forEach(step::add);
            } else {
                step.addAll(read(driver, place));
            }
        }
        return step;
    }

    private List<Output> read(TopologyTestDriver driver, String topic) {
        var bytes = new ByteArrayDeserializer();
        return driver.createOutputTopic(topic, bytes, bytes).readRecordsToList().stream()
                .map(record -> new Output(topic, shown(record.key()), shown(record.value()), record.timestamp()))
                .toList();
    }

    private String shown(byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        return scenario.hex() ? HexFormat.of().formatHex(bytes) : new String(bytes, StandardCharsets.UTF_8);
    }
}
