package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.both;

import java.util.Arrays;
import java.util.List;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Repartitioned;

/** Operators without state, repartitions, and streams that become tables. */
final class Stateless {
    private Stateless() {}

    /** Nulls in every place, equal timestamps, and one that goes back. */
    private static final String NULLS = "k=a@1 k=-@2 -=b@2 -=-@2 k=c@1";

    static List<Scenario> scenarios() {
        return List.of(
            scenario("filter", "filter", "in -> filter(value begins with a) -> out",
                "k=apple@1 k=pear@2 j=avocado@2 k=banana@2 k=apricot@1",
                w -> w.stream("in").filter((k, v) -> v.startsWith("a")).to("out")),
            scenario("filter-nulls", "filter", "in -> filter(value is null or key is null) -> out", NULLS,
                w -> w.stream("in").filter((k, v) -> k == null || v == null).to("out")),
            scenario("filter-not", "filter_not", "in -> filter_not(value begins with a) -> out",
                "k=apple@1 k=pear@2 j=avocado@2 k=banana@2 k=cherry@1",
                w -> w.stream("in").filterNot((k, v) -> v.startsWith("a")).to("out")),
            scenario("map", "map", "in -> map(swap key and value) -> out", "k=a@5 j=b@3 k=c@3",
                w -> w.stream("in").map((k, v) -> KeyValue.pair(v, k)).to("out")),
            scenario("map-nulls", "map", "in -> map(swap key and value, either null) -> out", NULLS,
                w -> w.stream("in").map((k, v) -> KeyValue.pair(v, k)).to("out")),
            scenario("map-values", "map_values", "in -> map_values(key and value) -> out", "k=a@5 j=b@3 k=c@3",
                w -> w.stream("in").mapValues((k, v) -> both(k, v)).to("out")),
            scenario("map-values-nulls", "map_values", "in -> map_values(null becomes text, c becomes null) -> out", NULLS,
                w -> w.stream("in").mapValues((k, v) -> v == null ? "nothing" : v.equals("c") ? null : v).to("out")),
            scenario("flat-map", "flat_map", "in -> flat_map(a letter each, as key and value) -> out", "k=ba@5 k=@3 k=c@4",
                w -> w.stream("in").flatMap((k, v) -> letters(v).stream().map(l -> KeyValue.pair(l, k)).toList()).to("out")),
            scenario("flat-map-values", "flat_map_values", "in -> flat_map_values(a letter each) -> out",
                "k=ba@5 j=@3 -=c@4 k=xyz@4",
                w -> w.stream("in").flatMapValues(v -> letters(v)).to("out")),
            scenario("flat-map-values-nulls", "flat_map_values", "in -> flat_map_values(the value, and null) -> out", NULLS,
                w -> w.stream("in").flatMapValues(v -> Arrays.asList(v, null)).to("out")),
            scenario("select-key", "select_key", "in -> select_key(value) -> out", "k=a@5 j=b@3 k=-@3 -=c@9",
                w -> w.stream("in").selectKey((k, v) -> v).to("out")),
            scenario("peek", "peek", "in -> peek(before) -> map_values(twice) -> peek(after) -> out", NULLS,
                w -> {
                    var before = w.seen("before");
                    var after = w.seen("after");
                    w.stream("in").peek(before::accept).mapValues(v -> both(v, v)).peek(after::accept).to("out");
                }),
            scenario("for-each", "for_each", "in -> for_each; in -> out", NULLS,
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.foreach(w.seen("each")::accept);
                    in.to("out");
                }),
            scenario("children-in-order", "flat_map_values, peek",
                "in -> flat_map_values(a letter each) -> peek(seen); the same again with key 2; in -> peek(seen)",
                "1=ab@1 1=c@0",
                w -> {
                    KStream<String, String> letters = w.stream("in").flatMapValues(v -> letters(v));
                    var seen = w.seen("seen");
                    letters.foreach(seen::accept);
                    letters.map((k, v) -> KeyValue.pair("2", v)).foreach(seen::accept);
                    letters.map((k, v) -> KeyValue.pair("3", v)).foreach(seen::accept);
                }),
            scenario("split", "split", "in -> split: a.. -> first, ..z -> second, nothing for the rest",
                "k=az@1 k=bz@2 k=b@2 k=a@1 -=z@1",
                w -> w.stream("in").split(Named.as("s"))
                    .branch((k, v) -> v.startsWith("a"), Branched.withConsumer(s -> s.to("first")))
                    .branch((k, v) -> v.endsWith("z"), Branched.withConsumer(s -> s.to("second")))),
            scenario("split-default", "split", "in -> split: null -> nulls, a.. -> map_values -> first, the rest -> rest", NULLS,
                w -> w.stream("in").split(Named.as("s"))
                    .branch((k, v) -> v == null, Branched.withConsumer(s -> s.to("nulls")))
                    .branch((k, v) -> v.startsWith("a"), Branched.withConsumer(s -> s.mapValues(v -> v + "!").to("first")))
                    .defaultBranch(Branched.withConsumer(s -> s.to("rest")))),
            scenario("merge", "merge", "one, two -> merge -> out", "one:k=a@5 two:k=b@3 one:k=-@3 two:-=c@9 one:k=d@1",
                w -> w.stream("one").merge(w.stream("two")).to("out")),
            scenario("merge-with-itself", "merge", "in, in -> map_values(loud), in -> filter(a) -> merge -> out", "k=a@5 k=b@3",
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.merge(in.mapValues(v -> v + "!")).merge(in.filter((k, v) -> v.equals("a"))).to("out");
                }),
            scenario("two-sinks", "to", "in -> copy; in -> map_values(loud) -> loud; in -> copy", NULLS,
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.to("copy");
                    in.mapValues(v -> v + "!").to("loud");
                    in.to("copy");
                }),
            scenario("through-a-topic", "to, stream", "in -> map_values(loud) -> middle; middle -> select_key(value) -> out",
                "k=a@5 k=b@3 -=c@4",
                w -> {
                    w.stream("in").mapValues(v -> v + "!").to("middle");
                    w.stream("middle").selectKey((k, v) -> v).to("out");
                }),
            scenario("repartition", "repartition", "in -> select_key(value) -> repartition -> out", "k=a@5 k=b@3 k=a@3 j=b@9",
                w -> w.stream("in").selectKey((k, v) -> v).repartition(Repartitioned.as("by-value")).to("out")),
            scenario("repartition-null-values", "repartition", "in -> repartition -> out", "k=a@5 k=-@3 j=-@9",
                w -> w.stream("in").repartition(Repartitioned.as("again")).to("out")),
            scenario("repartition-null-keys", "repartition", "in -> repartition -> out", NULLS,
                w -> w.stream("in").repartition(Repartitioned.as("again")).to("out")),
            scenario("repartition-diamond", "repartition, merge",
                "in -> select_key(value) -> repartition; in; both -> merge -> out", "k=a@5 j=b@3 k=c@3",
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.selectKey((k, v) -> v).repartition(Repartitioned.as("by-value")).merge(in).to("out");
                }),
            scenario("to-table", "to_table", "in -> to_table -> to_stream -> out", "k=a@5 k=b@3 j=c@3 k=b@7 k=-@8 k=-@9 x=-@9 k=d@1",
                w -> w.stream("in").toTable(Wiring.store("rows")).toStream().to("out")),
            scenario("to-table-null-keys", "to_table", "in -> to_table -> to_stream -> out", NULLS,
                w -> w.stream("in").toTable(Wiring.store("rows")).toStream().to("out")),
            scenario("to-table-repartitioned", "to_table", "in -> select_key(value) -> repartition -> to_table -> to_stream -> out",
                "k=a@5 j=b@3 k=a@3 k=b@7",
                w -> w.stream("in").selectKey((k, v) -> v).repartition(Repartitioned.as("by-value"))
                    .toTable(Wiring.store("rows")).toStream().to("out")));
    }

    static List<String> letters(String text) {
        return text.chars().mapToObj(c -> String.valueOf((char) c)).toList();
    }
}
