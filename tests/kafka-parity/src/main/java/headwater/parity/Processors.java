package headwater.parity;

import static headwater.parity.Scenario.scenario;
import static headwater.parity.Wiring.grouped;

import java.time.Duration;
import java.util.List;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.Cancellable;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Processors of the user's own, with stores and punctuators. */
final class Processors {
    private Processors() {}

    static List<Scenario> scenarios() {
        return List.of(
            scenario("changes-only", "process with a store", "in -> process(forwards what is not the last of its key) -> out",
                "k=a@1 k=a@2 j=a@2 k=b@1 k=b@5 k=a@3 j=a@9",
                w -> {
                    store(w, "last");
                    w.stream("in").process(Changes::new, "last").to("out");
                }),
            scenario("store-with-deletes", "process with a store", "in -> process(stores, deletes at null; forwards what was there) -> out",
                "k=a@1 k=-@2 k=-@2 k=b@3 j=c@3 j=d@1",
                w -> {
                    store(w, "rows");
                    w.stream("in").process(Previous::new, "rows").to("out");
                }),
            scenario("store-ranges", "process with ranges of a store",
                "in -> process(stores; forwards the keys from a to c, these backwards, those that begin with a, and all) -> out",
                "b=1@1 a=2@2 ab=3@3 c=4@4 d=5@5 ca=6@5 ab=-@6 aa=7@7",
                w -> {
                    store(w, "rows");
                    w.stream("in").process(Ranges::new, "rows").to("out");
                }),
            scenario("forwards-many", "process", "in -> process(forwards each record three times, at other times and keys) -> out", "k=a@5 j=b@3",
                w -> w.stream("in").process(Triple::new).to("out")),
            scenario("stream-time", "process", "in -> process(forwards the stream time) -> out", "k=a@5 k=b@3 j=c@9 k=d@7 k=e@9",
                w -> w.stream("in").process(StreamTime::new).to("out")),
            // Kafka's semantics, section "golden vectors".
            scenario("punctuate", "process with a punctuator", "in -> process(punctuates each 10 ms of stream time) -> out",
                "k=a@12 k=b@15 k=c@20 k=d@57 k=e@59 k=f@60",
                w -> w.stream("in").process(() -> new Ticks(10)).to("out")),
            scenario("punctuate-from-zero", "process with a punctuator", "in -> process(punctuates each 10 ms of stream time) -> out",
                "k=a@0 k=b@0 k=c@9 k=d@10 k=e@10 k=f@11",
                w -> w.stream("in").process(() -> new Ticks(10)).to("out")),
            scenario("punctuate-out-of-order", "process with a punctuator", "in -> process(punctuates each 10 ms of stream time) -> out",
                "k=a@25 k=b@12 k=c@29 k=d@3 k=e@30 k=f@30 k=g@29",
                w -> w.stream("in").process(() -> new Ticks(10)).to("out")),
            scenario("punctuate-two-intervals", "process with two punctuators",
                "in -> process(punctuates each 10 and each 25 ms of stream time) -> out", "k=a@1 k=b@10 k=c@20 k=d@25 k=e@30 k=f@50 k=g@100",
                w -> w.stream("in").process(() -> new Ticks(10, 25)).to("out")),
            scenario("punctuate-and-cancel", "process with a punctuator",
                "in -> process(punctuates each 10 ms of stream time, three times) -> out", "k=a@1 k=b@10 k=c@20 k=d@30 k=e@40",
                w -> w.stream("in").process(() -> new Cancelled(3)).to("out")),
            scenario("punctuate-over-a-store", "process with a store and a punctuator",
                "in -> process(counts by key; each 10 ms of stream time forwards all counts, and forgets them) -> out",
                "b=x@1 a=x@2 b=x@9 c=x@10 a=x@11 b=x@25 a=x@24 ab=x@26 a=x@47",
                w -> {
                    store(w, "counts");
                    w.stream("in").process(Flushed::new, "counts").to("out");
                }),
            scenario("punctuate-before-the-next-operator", "process with a punctuator, then a window",
                "in -> process(punctuates each 10 ms of stream time) -> group_by(key) -> count -> out", "k=a@1 k=b@10 j=c@15 k=d@35",
                w -> w.stream("in").process(() -> new Ticks(10)).groupByKey(grouped("by-key")).count(Materialized.as("counts"))
                    .toStream().mapValues(Wiring::text).to("out")),
            scenario("processor-repartitioned", "process with a store after a repartition",
                "in -> select_key(value) -> repartition -> process(forwards what is not the last of its key) -> out",
                "1=a@1 1=a@2 2=b@2 3=a@1 1=b@5",
                w -> {
                    store(w, "last");
                    w.stream("in").selectKey((k, v) -> v).repartition(Repartitioned.as("by-value"))
                        .mapValues((k, v) -> v).process(Changes::new, "last").to("out");
                }),
            scenario("process-values", "process_values", "in -> process(stores, forwards what was there, by its key) -> group_by_key -> count -> out",
                "k=a@1 k=b@2 j=c@2",
                w -> {
                    store(w, "rows");
                    w.stream("in").process(Previous::new, "rows").groupByKey(grouped("by-key")).count(Materialized.as("counts"))
                        .toStream().mapValues(Wiring::text).to("out");
                }));
    }

    private static void store(Wiring wiring, String name) {
        wiring.builder.addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), Serdes.String()));
    }

    /** What the processors here have in common. */
    private abstract static class OfText implements Processor<String, String, String, String> {
        ProcessorContext<String, String> context;

        @Override
        public void init(ProcessorContext<String, String> context) {
            this.context = context;
        }

        KeyValueStore<String, String> store(String name) {
            return context.getStateStore(name);
        }
    }

    private static final class Changes extends OfText {
        @Override
        public void process(Record<String, String> record) {
            if (!record.value().equals(store("last").get(record.key()))) {
                store("last").put(record.key(), record.value());
                context.forward(record);
            }
        }
    }

    private static final class Previous extends OfText {
        @Override
        public void process(Record<String, String> record) {
            String previous = store("rows").get(record.key());
            store("rows").put(record.key(), record.value());
            context.forward(record.withValue(previous));
        }
    }

    private static final class Ranges extends OfText {
        @Override
        public void process(Record<String, String> record) {
            KeyValueStore<String, String> rows = store("rows");
            rows.put(record.key(), record.value());
            send(record, "range", rows.range("a", "c"));
            send(record, "backwards", rows.reverseRange("a", "c"));
            send(record, "prefix", rows.prefixScan("a", new StringSerializer()));
            send(record, "all", rows.all());
        }

        private void send(Record<String, String> record, String name, KeyValueIterator<String, String> rows) {
            StringBuilder text = new StringBuilder();
            try (rows) {
                rows.forEachRemaining(row -> text.append(row.key).append(row.value).append(','));
            }
            context.forward(record.withKey(name).withValue(text.toString()));
        }
    }

    private static final class Triple extends OfText {
        @Override
        public void process(Record<String, String> record) {
            context.forward(record.withTimestamp(record.timestamp() + 10));
            context.forward(record);
            context.forward(record.withKey(record.value()).withTimestamp(0));
        }
    }

    private static final class StreamTime extends OfText {
        @Override
        public void process(Record<String, String> record) {
            context.forward(record.withValue(String.valueOf(context.currentStreamTimeMs())));
        }
    }

    private static final class Ticks extends OfText {
        private final long[] intervals;

        Ticks(long... intervals) {
            this.intervals = intervals;
        }

        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            for (long interval : intervals) {
                context.schedule(Duration.ofMillis(interval), PunctuationType.STREAM_TIME,
                    time -> context.forward(new Record<>("tick-" + interval, String.valueOf(time), time)));
            }
        }

        @Override
        public void process(Record<String, String> record) {
            context.forward(record);
        }
    }

    private static final class Cancelled extends OfText {
        private int left;
        private Cancellable schedule;

        Cancelled(int times) {
            left = times;
        }

        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            schedule = context.schedule(Duration.ofMillis(10), PunctuationType.STREAM_TIME, this::tick);
        }

        private void tick(long time) {
            context.forward(new Record<>("tick", String.valueOf(time), time));
            left--;
            if (left == 0) {
                schedule.cancel();
            }
        }

        @Override
        public void process(Record<String, String> record) {
            context.forward(record);
        }
    }

    private static final class Flushed extends OfText {
        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            context.schedule(Duration.ofMillis(10), PunctuationType.STREAM_TIME, this::flush);
        }

        private void flush(long time) {
            try (KeyValueIterator<String, String> all = store("counts").all()) {
                all.forEachRemaining(row -> {
                    context.forward(new Record<>(row.key, row.value, time));
                    store("counts").delete(row.key);
                });
            }
        }

        @Override
        public void process(Record<String, String> record) {
            String count = store("counts").get(record.key());
            store("counts").put(record.key(), String.valueOf(count == null ? 1 : Integer.parseInt(count) + 1));
        }
    }
}
