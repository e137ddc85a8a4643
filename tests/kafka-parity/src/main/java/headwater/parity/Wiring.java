package headwater.parity;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.function.BiConsumer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** What topologies are written with: a builder, and what functions of the user saw. */
final class Wiring {
    final StreamsBuilder builder = new StreamsBuilder();
    /** Places where functions look at records; they stand in a vector as topics without timestamps. */
    final TreeSet<String> looks = new TreeSet<>();
    final List<Output> seen = new ArrayList<>();

    KStream<String, String> stream(String topic) {
        return builder.stream(topic);
    }

    /** A table that has a store. */
    KTable<String, String> table(String topic) {
        return builder.table(topic, Materialized.as(topic + "-table"));
    }

    /** Writes down what a function of the user is called with. */
    BiConsumer<String, String> seen(String place) {
        looks.add(place);
        return (key, value) -> seen.add(new Output(place, key, value, null));
    }

    static Grouped<String, String> grouped(String name) {
        return Grouped.with(name, Serdes.String(), Serdes.String());
    }

    /** A store of text. */
    static Materialized<String, String, KeyValueStore<Bytes, byte[]>> store(String name) {
        return Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as(name)
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.String());
    }

    static Materialized<String, String, WindowStore<Bytes, byte[]>> windowStore(String name) {
        return Materialized.<String, String, WindowStore<Bytes, byte[]>>as(name)
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.String());
    }

    static Materialized<String, String, SessionStore<Bytes, byte[]>> sessionStore(String name) {
        return Materialized.<String, String, SessionStore<Bytes, byte[]>>as(name)
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.String());
    }

    /** {@code key@start-end}. */
    static String text(Windowed<String> windowed) {
        return windowed.key() + "@" + windowed.window().start() + "-" + windowed.window().end();
    }

    /** As text, where null stays null. */
    static <V> String text(V value) {
        return value == null ? null : value.toString();
    }

    /** Two values in one, where null is {@code null}. */
    static String both(Object left, Object right) {
        return left + "-" + right;
    }
}
