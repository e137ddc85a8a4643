//! Counts words: the smallest program with a command line.
//!
//! ```sh
//! cargo run --example word_count -- run --create-topics
//! echo 'tea for two, and two for tea' | headwater produce lines
//! headwater consume word-counts --keys
//! ```

use std::process::ExitCode;

use headwater::prelude::*;

fn main() -> ExitCode {
    App::new("word-count").about("Counts the words of the topic `lines`").topology(count_words).main()
}

fn count_words(builder: &StreamsBuilder) -> Result<()> {
    builder
        .stream::<Option<String>, String>("lines")
        .flat_map_values(|_, line| words(&line))
        .group_by("by-word", |_, word| word.clone())
        .count("counts")
        .to_stream()
        .map_values(|_, count| count.map(|count| count.to_string()))
        .to("word-counts");
    Ok(())
}

fn words(line: &str) -> Vec<String> {
    let words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}
