package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.grouped;
import static headwater.parity.Wiring.store;

import java.util.List;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;

/** Tables that are read from a topic, and what is made of them. */
final class Tables {
    private Tables() {}

    private static final String UPDATES = "k=a@5 j=b@3 k=c@7 k=c@8 k=d@6 j=-@9 j=-@9 i=-@1 j=e@2 k=f@7";
    private static final String NULLS = "k=a@1 -=b@2 -=-@3 k=-@2 k=c@1 j=-@4";
    /** Rows move between the groups a and b; the value is the group, then what stands in it. */
    private static final String MOVES = "1=a1@1 2=a2@2 1=b1@3 2=a3@4 3=b3@2 1=-@5 2=b2@3 9=-@9 3=a3@9 2=-@1 3=-@9";

    static List<Scenario> scenarios() {
        return List.of(
            scenario("table", "table", "in as a table -> to_stream -> out", UPDATES,
                w -> w.table("in").toStream().to("out")),
            scenario("null-keys", "table", "in as a table -> to_stream -> out", NULLS,
                w -> w.table("in").toStream().to("out")),
            scenario("equal-timestamps", "table", "in as a table -> to_stream -> out", "k=a@5 k=b@5 j=c@5 k=-@5 k=d@5",
                w -> w.table("in").toStream().to("out")),
            scenario("to-stream-with-key", "table, to_stream, select_key", "in as a table -> to_stream -> select_key(key twice) -> out",
                UPDATES, w -> w.table("in").toStream((k, v) -> k + k).to("out")),
            scenario("filter", "filter of a table", "in as a table -> filter(not d and not b) -> to_stream -> out", UPDATES,
                w -> w.table("in").filter((k, v) -> !v.equals("d") && !v.equals("b")).toStream().to("out")),
            scenario("filter-unseen", "filter of a table",
                "in as a table -> filter(greater than m) -> to_stream -> out",
                "k=a@1 k=b@2 k=z@3 k=y@4 k=c@5 k=d@6 k=-@7 j=-@8 j=z@9 j=-@9",
                w -> w.table("in").filter((k, v) -> v.compareTo("m") > 0).toStream().to("out")),
            scenario("filter-unseen-without-store", "filter of a table",
                "in as a table without a store -> filter(greater than m) -> to_stream -> out",
                "k=a@1 k=b@2 k=z@3 k=y@4 k=c@5 k=d@6 k=-@7 j=-@8 j=z@9 j=-@9",
                w -> w.builder.<String, String>table("in").filter((k, v) -> v.compareTo("m") > 0).toStream().to("out")),
            scenario("filter-not", "filter_not of a table", "in as a table -> filter_not(greater than m) -> to_stream -> out",
                "k=a@1 k=b@2 k=z@3 k=y@4 k=c@5 k=-@7 j=z@9 j=-@9",
                w -> w.table("in").filterNot((k, v) -> v.compareTo("m") > 0).toStream().to("out")),
            scenario("map-values", "map_values of a table", "in as a table -> map_values(key and value) -> to_stream -> out", UPDATES,
                w -> w.table("in").mapValues((k, v) -> k + v).toStream().to("out")),
            scenario("filter-map-filter", "filter and map_values of a table",
                "in as a table -> filter(not b) -> map_values(loud) -> filter(not d!) -> to_stream -> out", UPDATES,
                w -> w.table("in").filter((k, v) -> !v.equals("b")).mapValues(v -> v + "!").filter((k, v) -> !v.equals("d!"))
                    .toStream().to("out")),
            scenario("used-twice", "table", "in as a table -> filter -> some; map_values -> all", UPDATES,
                w -> {
                    KTable<String, String> table = w.table("in");
                    table.filter((k, v) -> v.compareTo("c") > 0).toStream().to("some");
                    table.mapValues(v -> v + "!").toStream().to("all");
                }),
            scenario("group-count", "group_by and count of a table", "in as a table -> group_by(first letter) -> count -> out", MOVES,
                w -> text(byLetter(w.table("in")).count(Materialized.as("counts"))).to("out")),
            scenario("group-reduce", "group_by and reduce of a table",
                "in as a table -> group_by(first letter) -> reduce(added behind; the first such taken out) -> out", MOVES,
                w -> byLetter(w.table("in")).reduce(String::concat, Tables::without, store("texts")).toStream().to("out")),
            scenario("group-aggregate", "group_by and aggregate of a table",
                "in as a table -> group_by(first letter) -> aggregate(from < on, +value, -value) -> out", MOVES,
                w -> logged(byLetter(w.table("in"))).toStream().to("out")),
            scenario("group-same-key", "group_by and aggregate of a table",
                "in as a table -> group_by(first letter) -> aggregate(from < on, +value, -value) -> out",
                "1=a1@5 1=a2@3 1=a2@9 1=-@1 1=-@2 1=a3@4",
                w -> logged(byLetter(w.table("in"))).toStream().to("out")),
            scenario("group-timestamps", "group_by and aggregate of a table",
                "in as a table -> group_by(first letter) -> aggregate(from < on, +value, -value) -> out",
                "1=a1@9 2=a2@3 1=b1@5 2=b2@20 1=a1@1 2=-@2",
                w -> logged(byLetter(w.table("in"))).toStream().to("out")),
            scenario("group-null-keys", "group_by and aggregate of a table",
                "in as a table -> group_by(first letter, no key for n..) -> aggregate(from < on, +value, -value) -> out",
                "1=a1@1 1=n1@2 1=a2@3 2=n@6 2=-@7 2=n@8 2=a3@9",
                w -> logged(w.table("in").groupBy(
                    (k, v) -> KeyValue.pair(v.startsWith("n") ? null : v.substring(0, 1), v), grouped("by-letter")))
                    .toStream().to("out")),
            scenario("group-filtered", "filter and group_by of a table",
                "in as a table -> filter(not ..2) -> group_by(first letter) -> aggregate(from < on, +value, -value) -> out", MOVES,
                w -> logged(byLetter(w.table("in").filter((k, v) -> !v.endsWith("2")))).toStream().to("out")),
            scenario("group-mapped", "map_values and group_by of a table",
                "in as a table -> map_values(key behind) -> group_by(first letter) -> count -> out", MOVES,
                w -> text(byLetter(w.table("in").mapValues((k, v) -> v + k)).count(Materialized.as("counts"))).to("out")),
            scenario("of-an-aggregate-grouped", "group_by of an aggregate",
                "in -> group_by_key -> reduce(the last) -> group_by(first letter) -> aggregate(from < on, +value, -value) -> out",
                "1=a1@1 2=a2@2 1=b1@3 1=-@4 2=b2@3 2=b3@9",
                w -> logged(byLetter(w.stream("in").groupByKey().reduce((a, b) -> b, store("last")))).toStream().to("out")));
    }

    private static KGroupedTable<String, String> byLetter(KTable<String, String> table) {
        return table.groupBy((k, v) -> KeyValue.pair(v.substring(0, 1), v), grouped("by-letter"));
    }

    private static KTable<String, String> logged(KGroupedTable<String, String> group) {
        return group.aggregate(() -> "<", (k, v, a) -> a + "+" + v, (k, v, a) -> a + "-" + v, store("texts"));
    }

    private static KStream<String, String> text(KTable<String, Long> counts) {
        return counts.toStream().mapValues(Wiring::text);
    }

    private static String without(String all, String one) {
        int at = all.indexOf(one);
        return at < 0 ? all : all.substring(0, at) + all.substring(at + one.length());
    }
}
