package headwater.parity;

import java.util.function.Consumer;

/**
 * A topology, and the records that go into it.
 *
 * @param name also that of its vector and of the topology in Rust
 * @param operator what it is about
 * @param topology the topology in words
 * @param input see {@link Input}
 * @param hex whether what comes out is compared as bytes, instead of as text
 * @param build writes the topology
 */
record Scenario(String name, String operator, String topology, String input, boolean hex, Consumer<Wiring> build) {
    static Scenario scenario(String name, String operator, String topology, String input, Consumer<Wiring> build) {
        return new Scenario(name, operator, topology, input, false, build);
    }

    /** What comes out is bytes, and stands in hexadecimal in the vector. */
    Scenario asBytes() {
        return new Scenario(name, operator, topology, input, true, build);
    }
}
