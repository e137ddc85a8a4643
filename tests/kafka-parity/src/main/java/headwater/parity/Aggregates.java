package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.both;
import static headwater.parity.Wiring.grouped;
import static headwater.parity.Wiring.store;

import java.util.List;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;

/** Streams that are grouped and aggregated without windows. */
final class Aggregates {
    private Aggregates() {}

    private static final String MIXED = "k=a@5 j=b@3 k=c@7 k=d@6 k=e@7 j=f@1";
    private static final String NULLS = "k=a@1 k=-@2 -=b@3 -=-@4 k=c@2 j=-@9";

    static List<Scenario> scenarios() {
        return List.of(
            scenario("count", "count", "in -> group_by_key -> count -> out", MIXED,
                w -> text(w.stream("in").groupByKey().count(Materialized.as("counts"))).to("out")),
            scenario("count-nulls", "count", "in -> group_by_key -> count -> out", NULLS,
                w -> text(w.stream("in").groupByKey().count(Materialized.as("counts"))).to("out")),
            scenario("count-as-bytes", "count", "in -> group_by_key -> count -> out, 64-bit numbers", "k=a@1 k=b@2",
                w -> w.stream("in").groupByKey().count(Materialized.as("counts")).toStream().to("out")).asBytes(),
            scenario("group-by-count", "group_by, count", "in -> group_by(value) -> count -> out",
                "1=a@5 2=b@3 1=a@4 3=a@9 2=c@1 2=b@2",
                w -> text(w.stream("in").groupBy((k, v) -> v, grouped("by-value")).count(Materialized.as("counts"))).to("out")),
            scenario("group-by-null", "group_by, count", "in -> group_by(value, and nothing for x) -> count -> out",
                "1=a@5 2=x@3 1=a@4 2=x@9 1=b@9",
                w -> text(w.stream("in").groupBy((k, v) -> v.equals("x") ? null : v, grouped("by-value"))
                    .count(Materialized.as("counts"))).to("out")),
            scenario("group-by-null-values", "group_by, count", "in -> group_by(key and an x) -> count -> out", NULLS,
                w -> text(w.stream("in").groupBy((k, v) -> k + "x", grouped("by-x")).count(Materialized.as("counts"))).to("out")),
            scenario("reduce", "reduce", "in -> group_by_key -> reduce(one after the other) -> out", MIXED,
                w -> w.stream("in").groupByKey().reduce(String::concat, store("texts")).toStream().to("out")),
            scenario("reduce-nulls", "reduce", "in -> group_by_key -> reduce(one after the other) -> out", NULLS,
                w -> w.stream("in").groupByKey().reduce(String::concat, store("texts")).toStream().to("out")),
            scenario("reduce-maximum", "reduce", "in -> group_by_key -> reduce(the greater) -> out",
                "k=b@1 k=a@5 k=d@3 k=c@9 k=d@2 j=z@0",
                w -> w.stream("in").groupByKey().reduce((a, b) -> a.compareTo(b) >= 0 ? a : b, store("greatest")).toStream()
                    .to("out")),
            scenario("reduce-repartitioned", "group_by, reduce", "in -> group_by(first letter) -> reduce -> out",
                "1=a1@5 2=b1@3 3=a2@4 4=a3@9",
                w -> w.stream("in").groupBy((k, v) -> v.substring(0, 1), grouped("by-letter"))
                    .reduce(String::concat, store("texts")).toStream().to("out")),
            scenario("aggregate", "aggregate", "in -> group_by_key -> aggregate(from < on, one after the other) -> out", MIXED,
                w -> appended(w.stream("in").groupByKey()).toStream().to("out")),
            scenario("aggregate-nulls", "aggregate", "in -> group_by_key -> aggregate(from < on, one after the other) -> out", NULLS,
                w -> appended(w.stream("in").groupByKey()).toStream().to("out")),
            scenario("aggregate-sees-the-key", "aggregate", "in -> group_by_key -> aggregate(key and value) -> out", "k=a@1 j=b@2 k=c@2",
                w -> w.stream("in").groupByKey().aggregate(() -> "", (k, v, a) -> a + both(k, v), store("texts")).toStream()
                    .to("out")),
            scenario("aggregate-that-deletes", "aggregate",
                "in -> group_by_key -> aggregate(from < on, one after the other; x deletes) -> out",
                "k=a@5 k=b@6 k=x@7 k=c@3 k=x@1 k=x@2 k=d@4",
                w -> w.stream("in").groupByKey()
                    .aggregate(() -> "<", (k, v, a) -> v.equals("x") ? null : a + v, store("texts")).toStream().to("out")),
            scenario("aggregate-sum", "aggregate", "in -> map_values(number) -> group_by_key -> aggregate(sum) -> out, 64-bit numbers",
                "k=5@1 k=-7@2 j=1@2 k=2@1",
                w -> w.stream("in").mapValues(v -> Long.valueOf(v)).groupByKey(Grouped.with(Serdes.String(), Serdes.Long()))
                    .aggregate(() -> 0L, (k, v, a) -> a + v, Materialized.with(Serdes.String(), Serdes.Long()))
                    .toStream().to("out")).asBytes(),
            scenario("two-aggregates", "count, reduce", "in -> group_by_key -> count -> counts; reduce -> texts", "k=a@5 k=b@3 j=c@3",
                w -> {
                    KGroupedStream<String, String> group = w.stream("in").groupByKey();
                    text(group.count(Materialized.as("counts-store"))).to("counts");
                    group.reduce(String::concat, store("texts-store")).toStream().to("texts");
                }),
            scenario("count-of-counts", "count, group_by of a table", "in -> group_by_key -> count -> group_by(the count) -> count -> out",
                "k=a@5 j=b@3 k=c@4 i=d@9 j=e@1 k=f@2",
                w -> text(w.stream("in").groupByKey().count(Materialized.as("counts")).mapValues(Wiring::text)
                    .groupBy((k, v) -> KeyValue.pair(v, k), grouped("by-count")).count(Materialized.as("histogram"))).to("out")),
            scenario("aggregate-as-table", "count, filter and map_values of a table",
                "in -> group_by_key -> count -> filter(even) -> map_values -> out", "k=a@5 k=b@3 k=c@4 j=d@9 k=e@1",
                w -> w.stream("in").groupByKey().count(Materialized.as("counts")).filter((k, v) -> v % 2 == 0)
                    .mapValues(v -> "even " + v).toStream().to("out")),
            scenario("many-keys-in-order", "count", "in -> group_by_key -> count -> out, keys in no order",
                "z=1@1 a=1@1 m=1@1 b=1@0 z=2@1 a=2@2 m=2@1 b=2@1",
                w -> text(w.stream("in").groupByKey().count(Materialized.as("counts"))).to("out")));
    }

    private static KTable<String, String> appended(KGroupedStream<String, String> group) {
        return group.aggregate(() -> "<", (k, v, a) -> a + v, store("texts"));
    }

    private static KStream<String, String> text(KTable<String, Long> counts) {
        return counts.toStream().mapValues(Wiring::text);
    }
}
