package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.grouped;
import static headwater.parity.Wiring.sessionStore;

import java.time.Duration;
import java.util.List;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;

/** Session windows. */
final class Sessions {
    private Sessions() {}

    private static final SessionWindows FIVE = SessionWindows.ofInactivityGapWithNoGrace(ms(5));
    private static final SessionWindows FIVE_GRACE_10 = SessionWindows.ofInactivityGapAndGrace(ms(5), ms(10));
    private static final SessionWindows FIVE_GRACE_100 = SessionWindows.ofInactivityGapAndGrace(ms(5), ms(100));
    private static final EmitStrategy CLOSE = EmitStrategy.onWindowClose();

    private static final String NULLS = "k=a@1 k=-@2 -=b@3 -=-@4 j=-@5 k=c@6";

    static List<Scenario> scenarios() {
        return List.of(
            // SuppressScenarioTest.shouldSupportFinalResultsForSessionWindows, its raw results.
            count("count", "gap 5 ms", FIVE, "k1=x@0 k1=x@5 k1=x@1 k2=x@11 k1=x@5 k1=x@30"),
            count("derived", "gap 5 ms", FIVE, "k=x@0 x=x@4 k=x@3 x=x@12 k=x@3"),
            count("gap-edge", "gap 5 ms, grace 100 ms", FIVE_GRACE_100, "k=x@0 k=x@5 j=x@0 j=x@6 k=x@11 j=x@11"),
            count("boundary-own-key", "gap 5 ms", FIVE, "k=x@0 k=x@5"),
            count("boundary-other-key", "gap 5 ms", FIVE, "k=x@0 x=x@5 k=x@5"),
            count("bridge", "gap 5 ms, grace 100 ms", FIVE_GRACE_100, "k=x@0 k=x@10 k=x@5"),
            count("bridge-many", "gap 5 ms, grace 100 ms", FIVE_GRACE_100, "k=x@0 k=x@6 k=x@12 k=x@3 k=x@9 k=x@20 k=x@17"),
            count("same-timestamp", "gap 5 ms", FIVE, "k=x@3 k=x@3 k=x@3 j=x@3 k=x@4 k=x@4"),
            count("inside", "gap 5 ms, grace 100 ms", FIVE_GRACE_100, "k=x@0 k=x@4 k=x@2 k=x@0 k=x@4"),
            count("backwards", "gap 5 ms, grace 100 ms", FIVE_GRACE_100, "k=x@20 k=x@17 k=x@13 k=x@7 k=x@10"),
            count("late", "gap 5 ms", FIVE, "k=x@0 j=x@10 k=x@5 k=x@4 j=x@20 k=x@14 k=x@15"),
            count("late-joins-live", "gap 5 ms", FIVE, "k=x@10 k=x@14 j=x@18 k=x@10 k=x@11"),
            count("grace", "gap 5 ms, grace 10 ms", FIVE_GRACE_10, "k=x@0 j=x@14 k=x@2 j=x@17 k=x@7 k=x@1 j=x@23 k=x@7"),
            count("keys", "gap 5 ms", FIVE, "b=x@1 a=x@2 b=x@4 a=x@9 b=x@9 a=x@10"),
            count("nulls", "gap 5 ms", FIVE, NULLS),
            count("null-keys-move-no-time", "gap 5 ms", FIVE, "k=x@1 -=x@30 k=x@2 j=x@10 -=x@3 k=x@3"),
            scenario("aggregate", "aggregate in sessions",
                "in -> group_by_key -> sessions, gap 5 ms, grace 100 ms -> aggregate(one after the other, joined as they are) -> out",
                "k=a@0 k=b@10 k=c@5 k=d@7 k=e@30 k=f@27",
                w -> text(joined(windowed(w, FIVE_GRACE_100))).to("out")),
            scenario("aggregate-with-init", "aggregate in sessions",
                "in -> group_by_key -> sessions, gap 5 ms, grace 100 ms -> aggregate(from < on, one after the other; merge: in brackets) -> out",
                "k=a@0 k=b@10 k=c@5 k=d@7 k=e@30 k=f@27",
                w -> text(bracketed(windowed(w, FIVE_GRACE_100))).to("out")),
            scenario("aggregate-nulls", "aggregate in sessions",
                "in -> group_by_key -> sessions, gap 5 ms -> aggregate(one after the other, joined as they are) -> out", NULLS,
                w -> text(joined(windowed(w, FIVE))).to("out")),
            scenario("reduce", "reduce in sessions",
                "in -> group_by_key -> sessions, gap 5 ms, grace 100 ms -> reduce(one after the other) -> out",
                "k=a@0 k=b@10 j=x@10 k=c@5 k=d@7 k=e@30 k=f@27 k=g@20",
                w -> text(windowed(w, FIVE_GRACE_100).reduce(String::concat, sessionStore("texts"))).to("out")),
            scenario("repartitioned", "group_by, count in sessions",
                "in -> group_by(value) -> sessions, gap 5 ms -> count -> out", "1=a@0 2=b@3 3=a@4 4=a@9 5=b@20 6=a@21",
                w -> text(w.stream("in").groupBy((k, v) -> v, grouped("by-value")).windowedBy(FIVE)
                    .count(Materialized.as("counts"))).to("out")),
            scenario("keys-as-bytes", "count in sessions, windowed keys on a topic",
                "in -> group_by_key -> sessions, gap 5 ms -> count -> out, windowed keys and 64-bit numbers", "k=x@1 k=x@4 key=x@300",
                w -> windowed(w, FIVE).count(Materialized.as("counts")).toStream()
                    .to("out", Produced.with(WindowedSerdes.sessionWindowedSerdeFrom(String.class), Serdes.Long()))).asBytes(),
            closing("close", "gap 5 ms", FIVE, "k1=x@0 k1=x@5 k1=x@1 k2=x@11 k1=x@5 k1=x@30"),
            closing("close-edge", "gap 5 ms", FIVE, "k=x@0 k=x@3 j=x@8 j=x@9 k=x@14 j=x@15 j=x@20"),
            closing("close-order", "gap 5 ms", FIVE, "b=x@1 a=x@3 c=x@1 c=x@2 b=x@4 a=x@8 z=x@50 z=x@100"),
            closing("close-grace", "gap 5 ms, grace 10 ms", FIVE_GRACE_10, "k=x@0 j=x@14 k=x@2 j=x@17 k=x@1 j=x@18 k=x@7 j=x@40"),
            scenario("close-reduce", "emit on close, reduce in sessions",
                "in -> group_by_key -> sessions, gap 5 ms, grace 10 ms -> emit on close -> reduce(one after the other) -> out",
                "k=a@0 k=b@10 k=c@5 j=d@12 k=e@40 j=f@80",
                w -> text(windowed(w, FIVE_GRACE_10).emitStrategy(CLOSE).reduce(String::concat, sessionStore("texts"))).to("out")));
    }

    private static Scenario count(String name, String windows, SessionWindows spec, String input) {
        return scenario(name, "count in sessions", "in -> group_by_key -> sessions, " + windows + " -> count -> out", input,
            w -> text(windowed(w, spec).count(Materialized.as("counts"))).to("out"));
    }

    private static Scenario closing(String name, String windows, SessionWindows spec, String input) {
        return scenario(name, "emit on close, count in sessions",
            "in -> group_by_key -> sessions, " + windows + " -> emit on close -> count -> out", input,
            w -> text(windowed(w, spec).emitStrategy(CLOSE).count(Materialized.as("counts"))).to("out"));
    }

    /** One after the other, with aggregates that are joined in the same way. */
    private static KTable<Windowed<String>, String> joined(SessionWindowedKStream<String, String> sessions) {
        return sessions.aggregate(() -> "", (k, v, a) -> a + v, (k, a, b) -> a + b, sessionStore("texts"));
    }

    /** Shows what was merged with what, and in which order. */
    private static KTable<Windowed<String>, String> bracketed(SessionWindowedKStream<String, String> sessions) {
        return sessions.aggregate(() -> "<", (k, v, a) -> a + v, (k, a, b) -> "(" + a + "|" + b + ")", sessionStore("texts"));
    }

    private static SessionWindowedKStream<String, String> windowed(Wiring wiring, SessionWindows windows) {
        return wiring.stream("in").groupByKey().windowedBy(windows);
    }

    private static <V> KStream<String, String> text(KTable<Windowed<String>, V> results) {
        return results.toStream().map((key, value) -> KeyValue.pair(Wiring.text(key), Wiring.text(value)));
    }

    private static Duration ms(long ms) {
        return Duration.ofMillis(ms);
    }
}
