package headwater.parity;

import static headwater.parity.Scenario.scenario;

import java.time.Duration;
import java.util.List;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.StreamJoined;

/** Streams that are joined with streams. */
final class StreamStreamJoins {
    private StreamStreamJoins() {}

    /** The input of AbstractJoinIntegrationTest, in order of time. */
    static final String IN_ORDER = "L:k=-@1 R:k=-@2 L:k=A@3 R:k=a@4 L:k=B@5 R:k=b@6 L:k=-@7 R:k=-@8 L:k=C@9 R:k=c@10 R:k=-@11 "
        + "L:k=-@12 R:k=-@13 R:k=d@14 L:k=D@15 L:-=E@16 R:-=e@17";
    /** The same, out of order. */
    static final String OUT_OF_ORDER = "L:k=-@1 R:k=-@2 L:k=A@3 R:k=a@4 L:k=B@5 R:k=b@6 L:k=-@7 R:k=-@8 L:k=C@9 R:k=c@10 R:k=-@11 "
        + "L:k=-@12 R:k=-@13 R:k=d@7 L:k=D@6 L:k=-@2 R:k=-@3 R:k=e@14 L:k=E@15 L:k=-@10 R:k=-@9 L:k=F@4 R:k=f@3";

    private static final JoinWindows WIDE = JoinWindows.ofTimeDifferenceWithNoGrace(ms(10_000));
    private static final JoinWindows TEN = JoinWindows.ofTimeDifferenceWithNoGrace(ms(10));
    private static final JoinWindows TEN_GRACE_5 = JoinWindows.ofTimeDifferenceAndGrace(ms(10), ms(5));
    private static final JoinWindows HUNDRED_GRACE_10 = JoinWindows.ofTimeDifferenceAndGrace(ms(100), ms(10));
    private static final JoinWindows SAME_TIME = JoinWindows.ofTimeDifferenceWithNoGrace(ms(0));
    private static final JoinWindows BEFORE_10_AFTER_2 = JoinWindows.ofTimeDifferenceWithNoGrace(ms(2)).before(ms(10));
    private static final JoinWindows AFTER_ONLY = JoinWindows.ofTimeDifferenceWithNoGrace(ms(10)).before(ms(0));
    private static final JoinWindows BEFORE_ONLY = JoinWindows.ofTimeDifferenceWithNoGrace(ms(10)).after(ms(0));

    private static final String EDGES = "left:k=A@100 right:k=a@89 right:k=b@90 right:k=c@100 right:k=d@110 right:k=e@111 "
        + "left:k=B@121 left:k=C@122 right:k=z@200 left:k=Z@400";
    private static final String NULLS = "left:k=-@1 left:-=A@2 right:-=a@3 right:k=-@4 left:-=-@5 left:k=B@6 right:k=b@7 "
        + "right:-=c@8 left:k=C@100 right:k=d@200 left:k=D@300";

    static List<Scenario> scenarios() {
        return List.of(
            join("inner", Kind.INNER, "10 s", WIDE, sides(IN_ORDER, "left", "right")),
            join("left", Kind.LEFT, "10 s", WIDE, sides(IN_ORDER, "left", "right")),
            join("outer", Kind.OUTER, "10 s", WIDE, sides(IN_ORDER, "left", "right")),
            join("inner-out-of-order", Kind.INNER, "10 s", WIDE, sides(OUT_OF_ORDER, "left", "right")),
            join("left-out-of-order", Kind.LEFT, "10 s", WIDE, sides(OUT_OF_ORDER, "left", "right")),
            join("outer-out-of-order", Kind.OUTER, "10 s", WIDE, sides(OUT_OF_ORDER, "left", "right")),
            join("inner-edges", Kind.INNER, "10 ms", TEN, EDGES),
            join("left-edges", Kind.LEFT, "10 ms", TEN, EDGES),
            join("outer-edges", Kind.OUTER, "10 ms", TEN, EDGES),
            join("inner-asymmetric", Kind.INNER, "10 ms before, 2 ms after", BEFORE_10_AFTER_2,
                "left:k=A@100 right:k=a@89 right:k=b@90 right:k=c@102 right:k=d@103 left:k=B@112 left:k=C@113 left:k=D@98 left:k=E@99"),
            join("left-asymmetric", Kind.LEFT, "10 ms before, 2 ms after", BEFORE_10_AFTER_2,
                "left:k=A@100 left:j=B@100 right:k=a@102 right:x=b@102 right:x=c@103 left:z=C@113 right:x=d@115 right:x=e@116"),
            join("outer-asymmetric", Kind.OUTER, "10 ms before, 2 ms after", BEFORE_10_AFTER_2,
                "right:k=a@100 left:k=A@110 right:j=b@110 left:x=B@120 left:x=C@121 left:x=D@122 left:x=E@123 right:y=c@200"),
            join("inner-after-only", Kind.INNER, "0 ms before, 10 ms after", AFTER_ONLY,
                "left:k=A@10 right:k=a@9 right:k=b@10 right:k=c@20 right:k=d@21 left:k=B@11 left:k=C@22"),
            join("inner-before-only", Kind.INNER, "10 ms before, 0 ms after", BEFORE_ONLY,
                "left:k=A@20 right:k=a@9 right:k=b@10 right:k=c@20 right:k=d@21 left:k=B@31 left:k=C@32"),
            join("inner-same-time", Kind.INNER, "0 ms", SAME_TIME,
                "left:k=A@10 right:k=a@10 right:k=b@11 left:k=B@11 left:k=C@11 right:k=c@10"),
            join("outer-same-time", Kind.OUTER, "0 ms", SAME_TIME,
                "left:k=A@10 right:k=a@10 right:k=b@11 left:j=B@11 left:k=C@12 right:k=c@12 right:k=d@13 left:k=D@14"),
            // KStreamKStreamLeftJoinTest: who is not matched comes when the window has closed, by a record of either side.
            join("left-unmatched", Kind.LEFT, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:k0=A0@0 left:k1=A1@0 right:k0=a0@101 right:k1=a1@101 right:k2=a2@101 right:k3=a3@101 left:k0=dummy@1201"),
            join("left-unmatched-edge", Kind.LEFT, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:k0=A0@0 right:x=a@109 right:x=b@110 right:x=c@111 right:x=d@112"),
            join("outer-unmatched", Kind.OUTER, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:k0=A0@0 right:k1=a1@0 right:k2=a2@50 left:k2=A2@60 right:x=x@110 left:y=y@111 right:k3=a3@500 left:z=z@1000"),
            join("outer-unmatched-order", Kind.OUTER, "10 ms", TEN,
                "right:b=r1@2 left:b=l1@30 right:c=r2@31 left:a=l2@31 right:a=r3@45 left:c=l3@46 left:a=l4@31 right:z=r4@100 left:z=l5@200"),
            join("outer-order-at-one-time", Kind.OUTER, "10 ms", TEN,
                "left:c=C@5 right:b=b@5 left:a=A@5 right:d=d@5 left:a=B@5 right:b=a@5 left:z=Z@50"),
            join("left-match-in-grace", Kind.LEFT, "10 ms, grace 5 ms", TEN_GRACE_5,
                "left:k=A@10 left:x=X@24 right:k=a@20 left:x=Y@26 left:x=Z@60"),
            join("left-out-of-order-in-grace", Kind.LEFT, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:x=X@205 left:k=A@100 right:k=a@150 left:x=Y@320"),
            join("left-out-of-order-unmatched", Kind.LEFT, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:x=X@205 left:k=A@100 left:j=B@95 left:x=Y@210 left:x=Z@211 left:x=W@400"),
            join("outer-out-of-order-unmatched", Kind.OUTER, "100 ms, grace 10 ms", HUNDRED_GRACE_10,
                "left:x=X@205 right:k=a@100 left:k=A@101 right:j=b@96 left:y=Y@216 left:z=Z@800"),
            join("inner-late", Kind.INNER, "10 ms, grace 5 ms", TEN_GRACE_5,
                "left:k=A@100 right:k=a@100 left:x=X@115 right:k=b@100 left:x=Y@116 right:k=c@100 right:k=d@105 right:k=e@110 left:k=B@95 left:x=Z@1000 left:k=C@100 right:k=f@100"),
            join("left-late", Kind.LEFT, "10 ms", TEN,
                "left:x=X@100 left:k=A@50 right:k=a@50 left:k=B@89 left:k=C@90 right:k=b@95 left:x=Y@200 left:x=Z@300"),
            join("left-duplicates", Kind.LEFT, "10 ms", TEN,
                "left:k=A@5 left:k=A@5 left:k=B@5 right:k=a@6 left:j=C@7 left:j=C@7 left:j=D@7 left:x=X@50 left:x=Y@100"),
            join("inner-duplicates", Kind.INNER, "10 ms", TEN,
                "left:k=A@5 left:k=A@5 right:k=a@5 right:k=a@5 right:k=a@4 left:k=B@6"),
            join("inner-keys", Kind.INNER, "10 ms", TEN,
                "left:a=A@1 left:b=B@2 right:b=b@3 right:a=a@4 left:ab=C@5 right:ab=c@5 right:a=d@20 left:a=D@12 left:b=E@40"),
            join("inner-nulls", Kind.INNER, "10 ms", TEN, NULLS),
            join("left-nulls", Kind.LEFT, "10 ms", TEN, NULLS),
            join("outer-nulls", Kind.OUTER, "10 ms", TEN, NULLS),
            scenario("itself", "inner join of a stream with itself",
                "in -> inner join with in, 10 ms -> out", "k=A@1 k=B@5 j=C@5 k=C@12 k=D@3 k=E@30",
                w -> {
                    KStream<String, String> in = w.stream("in");
                    in.join(in, Wiring::both, TEN, joined()).to("out");
                }),
            scenario("repartitioned", "inner join of two streams after repartitions",
                "left, right -> select_key(first letter) -> repartition each -> inner join, 10 ms -> out",
                "left:1=aA@1 right:2=ax@2 right:3=bx@3 left:4=bB@13 left:5=bC@14 right:6=ay@4",
                w -> byLetter(w, "left").join(byLetter(w, "right"), Wiring::both, TEN, joined()).to("out")),
            scenario("left-repartitioned", "left join of two streams after repartitions",
                "left, right -> select_key(first letter) -> repartition each -> left join, 10 ms -> out",
                "left:1=aA@1 right:2=bx@2 left:3=bB@5 left:4=cC@12 right:5=cx@13 left:6=xX@50 right:7=yx@60 left:8=yY@70",
                w -> byLetter(w, "left").leftJoin(byLetter(w, "right"), Wiring::both, TEN, joined()).to("out")));
    }

    private enum Kind { INNER, LEFT, OUTER }

    private static Scenario join(String name, Kind kind, String windows, JoinWindows spec, String input) {
        String how = kind.name().toLowerCase();
        return scenario(name, how + " join of two streams", "left, right -> " + how + " join, " + windows + " -> out", input,
            w -> {
                KStream<String, String> left = w.stream("left");
                KStream<String, String> right = w.stream("right");
                KStream<String, String> results = switch (kind) {
                    case INNER -> left.join(right, Wiring::both, spec, joined());
                    case LEFT -> left.leftJoin(right, Wiring::both, spec, joined());
                    case OUTER -> left.outerJoin(right, Wiring::both, spec, joined());
                };
                results.to("out");
            });
    }

    private static KStream<String, String> byLetter(Wiring wiring, String topic) {
        return wiring.stream(topic).selectKey((k, v) -> v.substring(0, 1)).repartition(Repartitioned.as(topic + "-by-letter"));
    }

    private static StreamJoined<String, String, String> joined() {
        return StreamJoined.with(Serdes.String(), Serdes.String(), Serdes.String()).withName("join").withStoreName("join");
    }

    /** An input whose sides are `L` and `R`, with the names of topics. */
    static String sides(String input, String left, String right) {
        return input.replace("L:", left + ":").replace("R:", right + ":");
    }

    private static Duration ms(long ms) {
        return Duration.ofMillis(ms);
    }
}
