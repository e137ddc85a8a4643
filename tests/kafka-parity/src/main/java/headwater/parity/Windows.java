package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.grouped;
import static headwater.parity.Wiring.windowStore;

import java.time.Duration;
import java.util.List;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.WindowStore;

/** Tumbling and hopping windows. */
final class Windows {
    private Windows() {}

    private static final TimeWindows TEN = TimeWindows.ofSizeWithNoGrace(ms(10));
    private static final TimeWindows TEN_GRACE_5 = TimeWindows.ofSizeAndGrace(ms(10), ms(5));
    private static final TimeWindows HOPPING = TimeWindows.ofSizeWithNoGrace(ms(10)).advanceBy(ms(5));
    private static final TimeWindows HOPPING_GRACE_5 = TimeWindows.ofSizeAndGrace(ms(10), ms(5)).advanceBy(ms(5));
    private static final TimeWindows HOPPING_BY_3 = TimeWindows.ofSizeAndGrace(ms(10), ms(2)).advanceBy(ms(3));
    private static final EmitStrategy CLOSE = EmitStrategy.onWindowClose();

    private static final String NULLS = "k=a@1 k=-@2 -=b@3 -=-@4 j=-@5 k=c@6";

    static List<Scenario> scenarios() {
        return List.of(
            // Kafka's semantics, section "golden vectors".
            count("tumbling-count", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "k=x@0 k=x@9 k=x@10 k=x@14 k=x@9 k=x@15 k=x@9"),
            count("tumbling-keys", "tumbling 10 ms", TEN, "k=x@1 j=x@2 k=x@9 j=x@10 k=x@11 i=x@25 j=x@29 k=x@30"),
            count("tumbling-no-grace", "tumbling 10 ms", TEN, "k=x@9 k=x@10 k=x@9 k=x@10 k=x@19 k=x@0 k=x@20 k=x@19"),
            count("tumbling-grace-edge", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "k=x@3 j=x@14 k=x@4 j=x@15 k=x@4 k=x@10 j=x@24 k=x@10 j=x@25 k=x@19"),
            count("tumbling-late-by-another-key", "tumbling 10 ms", TEN, "k=x@3 j=x@30 k=x@4 k=x@29 k=x@30"),
            count("tumbling-equal-timestamps", "tumbling 10 ms", TEN, "k=x@10 k=x@10 j=x@10 k=x@10 j=x@10"),
            count("tumbling-out-of-order", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "k=x@8 k=x@2 k=x@5 k=x@12 k=x@9 k=x@11 k=x@8"),
            count("tumbling-far-apart", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "k=x@5 k=x@1000000 k=x@999999 k=x@6 k=x@999985 k=x@999990"),
            count("tumbling-nulls", "tumbling 10 ms", TEN, NULLS),
            count("tumbling-null-keys-move-no-time", "tumbling 10 ms", TEN, "k=x@1 -=x@30 k=x@2 j=x@10 -=x@3 k=x@3"),
            scenario("tumbling-aggregate-nulls", "aggregate in tumbling windows",
                "in -> group_by_key -> tumbling 10 ms -> aggregate(from < on, one after the other) -> out", NULLS,
                w -> text(w.stream("in").groupByKey().windowedBy(TEN)
                    .aggregate(() -> "<", (k, v, a) -> a + v, windowStore("texts"))).to("out")),
            scenario("tumbling-reduce", "reduce in tumbling windows",
                "in -> group_by_key -> tumbling 10 ms, grace 5 ms -> reduce(one after the other) -> out",
                "k=a@5 k=b@3 j=c@3 k=d@11 k=e@9 k=f@14 k=g@15 k=h@9",
                w -> text(w.stream("in").groupByKey().windowedBy(TEN_GRACE_5).reduce(String::concat, windowStore("texts"))).to("out")),
            scenario("tumbling-aggregate", "aggregate in tumbling windows",
                "in -> group_by_key -> tumbling 10 ms, grace 5 ms -> aggregate(from < on, one after the other) -> out",
                "k=a@5 k=b@3 j=c@3 k=d@11 k=e@9 k=f@14 k=g@15 k=h@9",
                w -> text(w.stream("in").groupByKey().windowedBy(TEN_GRACE_5)
                    .aggregate(() -> "<", (k, v, a) -> a + v, windowStore("texts"))).to("out")),
            scenario("tumbling-repartitioned", "group_by, count in tumbling windows",
                "in -> group_by(value) -> tumbling 10 ms, grace 5 ms -> count -> out",
                "1=a@5 2=b@3 3=a@4 4=a@12 5=b@9 6=a@15 7=b@9 8=b@14",
                w -> text(w.stream("in").groupBy((k, v) -> v, grouped("by-value")).windowedBy(TEN_GRACE_5)
                    .count(Materialized.as("counts"))).to("out")),
            scenario("tumbling-keys-as-bytes", "count in tumbling windows, windowed keys on a topic",
                "in -> group_by_key -> tumbling 10 ms -> count -> out, windowed keys and 64-bit numbers", "k=x@1 key=x@12 k=x@300",
                w -> w.stream("in").groupByKey().windowedBy(TEN).count(Materialized.as("counts")).toStream()
                    .to("out", Produced.with(
                        WindowedSerdes.timeWindowedSerdeFrom(String.class, 10), Serdes.Long()))).asBytes(),
            count("hopping-count", "hopping 10 ms by 5 ms", HOPPING, "k=x@3 k=x@7 k=x@12"),
            count("hopping-from-zero", "hopping 10 ms by 3 ms, grace 2 ms", HOPPING_BY_3, "k=x@0 k=x@2 k=x@3 k=x@9 k=x@10 k=x@12"),
            count("hopping-partly-late", "hopping 10 ms by 5 ms", HOPPING, "k=x@12 k=x@20 k=x@14 k=x@12 k=x@24 k=x@19 k=x@25 k=x@19"),
            count("hopping-grace-edge", "hopping 10 ms by 5 ms, grace 5 ms", HOPPING_GRACE_5, "k=x@7 k=x@14 k=x@7 k=x@15 k=x@7 k=x@19 k=x@7 k=x@20 k=x@7 k=x@12"),
            count("hopping-uneven", "hopping 10 ms by 3 ms, grace 2 ms", HOPPING_BY_3, "k=x@20 j=x@21 k=x@19 k=x@29 k=x@20 k=x@16 k=x@33 k=x@21"),
            scenario("hopping-aggregate", "aggregate in hopping windows",
                "in -> group_by_key -> hopping 10 ms by 5 ms, grace 5 ms -> aggregate(from < on, one after the other) -> out",
                "k=a@5 k=b@3 j=c@9 k=d@11 k=e@9 k=f@16 k=g@10",
                w -> text(w.stream("in").groupByKey().windowedBy(HOPPING_GRACE_5)
                    .aggregate(() -> "<", (k, v, a) -> a + v, windowStore("texts"))).to("out")),
            closing("close-tumbling", "tumbling 10 ms", TEN, "k=x@1 k=x@9 k=x@10 k=x@5 k=x@19 k=x@20 k=x@45"),
            closing("close-order", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "b=x@3 a=x@4 b=x@12 a=x@9 c=x@14 c=x@40 a=x@9 a=x@55"),
            closing("close-grace-edge", "tumbling 10 ms, grace 5 ms", TEN_GRACE_5, "k=x@3 k=x@14 k=x@9 k=x@15 k=x@9 k=x@24 k=x@10 k=x@25 k=x@19 k=x@35"),
            closing("close-many-at-once", "tumbling 10 ms", TEN, "c=x@1 a=x@12 b=x@23 a=x@24 a=x@35 z=x@1000 z=x@1001 z=x@1010"),
            closing("close-late-record-adds-nothing", "tumbling 10 ms", TEN, "k=x@5 k=x@10 k=x@6 j=x@7 k=x@20"),
            closing("close-nothing-was-open", "tumbling 10 ms", TEN, "k=x@100 k=x@90 k=x@110 k=x@500 k=x@505 k=x@510"),
            closing("close-repeated-time", "tumbling 10 ms", TEN, "k=x@5 j=x@10 j=x@10 k=x@10 i=x@20 i=x@20"),
            // KStreamWindowAggregateTest.shouldEmitFromLastEmitTime, without the restart.
            scenario("close-hopping", "emit on close, aggregate in hopping windows",
                "in -> group_by_key -> hopping 10 ms by 5 ms, grace 5 ms -> emit on close -> aggregate(from 0 on, + and value) -> out",
                "A=1@0 B=2@5 C=3@15 D=4@25 D=5@40",
                w -> text(w.stream("in").groupByKey().windowedBy(HOPPING_GRACE_5).emitStrategy(CLOSE)
                    .aggregate(() -> "0", (k, v, a) -> a + "+" + v, windowStore("texts").withRetention(Duration.ofHours(1)))).to("out")),
            closing("close-hopping-late", "hopping 10 ms by 5 ms", HOPPING, "k=x@12 k=x@20 k=x@14 k=x@12 k=x@24 k=x@19 k=x@25 k=x@19 k=x@50"),
            scenario("close-reduce", "emit on close, reduce in tumbling windows",
                "in -> group_by_key -> tumbling 10 ms, grace 5 ms -> emit on close -> reduce(one after the other) -> out",
                "k=a@5 k=b@3 j=c@3 k=d@11 k=e@9 k=f@15 k=g@9 k=h@30",
                w -> text(w.stream("in").groupByKey().windowedBy(TEN_GRACE_5).emitStrategy(CLOSE)
                    .reduce(String::concat, windowStore("texts").withRetention(Duration.ofHours(1)))).to("out")),
            closing("close-nulls", "tumbling 10 ms", TEN, NULLS + " i=x@20"),
            scenario("close-when-time-jumps", "emit on close, count in windows",
                "in -> group_by_key -> tumbling 10 ms, grace 5 ms -> emit on close -> count -> out, a store with the retention that is the default",
                "b=x@3 a=x@4 b=x@12 c=x@40 c=x@41 c=x@55",
                w -> text(windowed(w, TEN_GRACE_5).emitStrategy(CLOSE).count(Materialized.as("counts"))).to("out")),
            scenario("close-repartitioned", "emit on close, group_by, count in tumbling windows",
                "in -> group_by(value) -> tumbling 10 ms -> emit on close -> count -> out", "1=b@5 2=a@3 3=b@9 4=a@12 5=c@8 6=c@35",
                w -> text(w.stream("in").groupBy((k, v) -> v, grouped("by-value")).windowedBy(TEN).emitStrategy(CLOSE)
                    .count(kept("counts"))).to("out")),
            scenario("windows-summed-by-key", "count in tumbling windows, then count by key",
                "in -> group_by_key -> tumbling 10 ms -> count -> group_by(the key alone) -> count -> out",
                "k=x@1 j=x@2 k=x@9 k=x@10 k=x@21",
                w -> w.stream("in").groupByKey().windowedBy(TEN).count(Materialized.as("counts")).toStream()
                    .map((k, v) -> KeyValue.pair(k.key(), v.toString())).groupByKey(grouped("by-key"))
                    .count(Materialized.as("updates")).toStream().mapValues(Wiring::text).to("out")),
            scenario("windowed-two-stages", "count in tumbling windows, then in greater ones",
                "in -> group_by_key -> tumbling 10 ms -> emit on close -> count -> group_by(the key alone) -> tumbling 20 ms -> reduce -> out",
                "k=x@1 j=x@2 k=x@9 k=x@12 j=x@21 k=x@25 k=x@33 k=x@47",
                w -> text(w.stream("in").groupByKey().windowedBy(TEN).emitStrategy(CLOSE).count(kept("counts")).toStream()
                    .map((k, v) -> KeyValue.pair(k.key(), v.toString())).groupByKey(grouped("by-key"))
                    .windowedBy(TimeWindows.ofSizeWithNoGrace(ms(20))).reduce((a, b) -> a + "+" + b, windowStore("texts"))).to("out")));
    }

    private static Scenario count(String name, String windows, TimeWindows spec, String input) {
        return scenario(name, "count in windows", "in -> group_by_key -> " + windows + " -> count -> out", input,
            w -> text(windowed(w, spec).count(Materialized.as("counts"))).to("out"));
    }

    private static Scenario closing(String name, String windows, TimeWindows spec, String input) {
        return scenario(name, "emit on close, count in windows",
            "in -> group_by_key -> " + windows + " -> emit on close -> count -> out", input,
            w -> text(windowed(w, spec).emitStrategy(CLOSE).count(kept("counts"))).to("out"));
    }

    /** A store that keeps windows until they were sent, also when time jumps: by default it forgets them before. */
    private static Materialized<String, Long, WindowStore<Bytes, byte[]>> kept(String name) {
        return Materialized.<String, Long, WindowStore<Bytes, byte[]>>as(name).withRetention(Duration.ofHours(1));
    }

    private static TimeWindowedKStream<String, String> windowed(Wiring wiring, TimeWindows windows) {
        return wiring.stream("in").groupByKey().windowedBy(windows);
    }

    private static <V> KStream<String, String> text(KTable<Windowed<String>, V> results) {
        return results.toStream().map((key, value) -> KeyValue.pair(Wiring.text(key), Wiring.text(value)));
    }

    private static Duration ms(long ms) {
        return Duration.ofMillis(ms);
    }
}
