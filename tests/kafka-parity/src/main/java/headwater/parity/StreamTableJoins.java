package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.store;

import java.util.List;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Repartitioned;

/** Streams that are joined with tables. */
final class StreamTableJoins {
    private StreamTableJoins() {}

    static List<Scenario> scenarios() {
        String nulls = "table:k=t@1 stream:-=a@2 stream:k=-@3 stream:-=-@4 stream:k=b@5 table:-=u@6 stream:-=c@7 stream:x=d@8 stream:x=-@9";
        String times = "stream:k=a@5 table:k=t@5 stream:k=b@5 table:k=u@1 stream:k=c@3 table:k=-@9 stream:k=d@2 table:k=v@20 stream:k=e@1";
        String keys = "table:a=1@1 table:b=2@1 stream:a=x@2 stream:b=x@2 stream:c=x@2 table:a=3@3 stream:a=y@3 table:b=-@4 stream:b=y@4";
        return List.of(
            inner("inner", StreamStreamJoins.sides(StreamStreamJoins.OUT_OF_ORDER, "stream", "table")),
            left("left", StreamStreamJoins.sides(StreamStreamJoins.OUT_OF_ORDER, "stream", "table")),
            inner("inner-in-order", StreamStreamJoins.sides(StreamStreamJoins.IN_ORDER, "stream", "table")),
            left("left-in-order", StreamStreamJoins.sides(StreamStreamJoins.IN_ORDER, "stream", "table")),
            inner("inner-nulls", nulls),
            left("left-nulls", nulls),
            inner("inner-times", times),
            left("left-times", times),
            inner("inner-keys", keys),
            left("left-keys", keys),
            scenario("that-gives-null", "join of stream and table",
                "stream, table -> inner join(null for x) -> out", "table:k=t@1 stream:k=a@2 stream:k=x@3 stream:k=b@2",
                w -> w.stream("stream").join(w.table("table"), (v, t) -> v.equals("x") ? null : v + t).to("out")),
            scenario("rekeyed", "join of stream and table after a repartition",
                "stream -> select_key(value) -> repartition; table -> inner join -> out",
                "table:a=t@1 stream:1=a@2 stream:2=b@3 table:b=u@1 stream:3=b@2 stream:4=a@9",
                w -> w.stream("stream").selectKey((k, v) -> v).repartition(Repartitioned.as("by-value"))
                    .join(w.table("table"), Wiring::both).to("out")),
            scenario("to-table", "join of stream and to_table",
                "stream; table -> map_values -> to_table -> left join -> out",
                "stream:k=a@1 table:k=t@2 stream:k=b@3 table:k=u@1 stream:k=c@4",
                w -> w.stream("stream").leftJoin(w.stream("table").mapValues(v -> v + "!").toTable(store("rows")), Wiring::both).to("out")),
            scenario("filtered", "join of stream and filtered table",
                "stream; table -> filter(not x) -> map_values -> left join -> out",
                "table:k=t@1 stream:k=a@1 table:k=x@2 stream:k=b@3 table:k=u@4 stream:k=c@4 table:k=-@5 stream:k=d@6",
                w -> {
                    KTable<String, String> table = w.table("table").filter((k, v) -> !v.equals("x")).mapValues(v -> v + "!");
                    w.stream("stream").leftJoin(table, Wiring::both).to("out");
                }),
            scenario("counts", "join of stream and aggregate",
                "stream; table -> group_by_key -> count -> inner join -> out",
                "stream:k=a@1 table:k=x@2 stream:k=b@3 table:k=y@1 table:k=-@9 stream:k=c@4 stream:j=d@5",
                w -> w.stream("stream").join(w.stream("table").groupByKey().count(Materialized.as("counts")), Wiring::both).to("out")),
            scenario("own-topic", "join of stream and its own aggregate",
                "in -> group_by_key -> count; in -> inner join with the counts -> out", "k=a@1 k=b@2 j=c@3 k=d@1",
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.join(in.groupByKey().count(Materialized.as("counts")), Wiring::both).to("out");
                }),
            scenario("own-topic-joined-first", "join of stream and its own aggregate",
                "in -> map_values; in -> group_by_key -> count; the first -> left join with the counts -> out", "k=a@1 k=b@2 j=c@3 k=d@1",
                w -> {
                    KStream<String, String> in = w.stream("in");
                    KStream<String, String> loud = in.mapValues(v -> v + "!");
                    loud.leftJoin(in.groupByKey().count(Materialized.as("counts")), Wiring::both).to("out");
                }));
    }

    private static Scenario inner(String name, String input) {
        return scenario(name, "inner join of stream and table", "stream, table -> inner join -> out", input,
            w -> w.stream("stream").join(w.table("table"), Wiring::both).to("out"));
    }

    private static Scenario left(String name, String input) {
        return scenario(name, "left join of stream and table", "stream, table -> left join -> out", input,
            w -> w.stream("stream").leftJoin(w.table("table"), Wiring::both).to("out"));
    }
}
