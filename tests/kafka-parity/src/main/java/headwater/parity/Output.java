package headwater.parity;

/** A record that came out; without timestamp, when a function of the user saw it. */
record Output(String topic, String key, String value, Long timestamp) {}
