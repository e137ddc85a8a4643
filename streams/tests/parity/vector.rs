//! A vector, and what a topology gives for its input.

use std::{collections::BTreeMap, fs};

use headwater_core::Timestamp;
use headwater_streams::{Settings, testing::TopologyTestDriver};
use serde::Deserialize;

use crate::{
    parity,
    wiring::{Notes, Text, Wiring},
};

/// What Kafka's driver gave.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    #[serde(rename = "operator")]
    _operator: String,
    #[serde(rename = "topology")]
    _topology: String,
    read_as: ReadAs,
    /// Topics, and places of [`Wiring::seen`].
    outputs: Vec<String>,
    steps: Vec<Step>,
}

/// How keys and values stand in a vector.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ReadAs {
    Text,
    /// In hexadecimal.
    Bytes,
}

/// A record that goes in, and what comes out for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    topic: String,
    key: Text,
    value: Text,
    timestamp: i64,
    output: Vec<Output>,
}

#[derive(Deserialize, Debug, PartialEq, Clone)]
#[serde(deny_unknown_fields)]
struct Output {
    topic: String,
    key: Text,
    value: Text,
    /// Not known where a function of the user saw the record.
    timestamp: Option<i64>,
}

/// Where we differ on purpose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    /// `DESIGN.md, difference <number>`, or `decision <number>`.
    because: String,
    #[serde(rename = "why")]
    _why: String,
    /// What comes out instead, by the number of the step; the first is 1.
    #[serde(default)]
    output: BTreeMap<usize, Vec<Output>>,
    /// Part of the error that tells that there is no such topology.
    refused: Option<String>,
}

/// What happens to the process while a scenario runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nothing.
    Quiet,
    /// It dies after every record, and its stores have no memory.
    Hard,
}

/// Runs the topology of scenario `name` on its input. `Err` says where it gives something else than it should, `Ok`
/// whether that is what Kafka Streams gives.
pub(crate) fn compare(name: &str, build: fn(&Wiring), life: Life) -> Result<String, String> {
    let file = parity().join("vectors").join(name);
    let vector: Vector = parsed(
        &fs::read_to_string(file.with_extension("json")).map_err(|error| format!("no vector: {error}"))?,
        name,
    );
    assert_eq!(name.rsplit('/').next().unwrap(), vector.name);
    let ours: Option<Ours> =
        fs::read_to_string(file.with_extension("ours.json")).ok().map(|text| parsed(&text, name));
    check(ours.as_ref(), &vector)?;

    let wiring = Wiring::default();
    build(&wiring);
    let Wiring { builder, notes } = wiring;
    let topology = builder.build().map_err(|error| error.to_string());
    if let Some(refused) = ours.as_ref().and_then(|ours| ours.refused.as_ref()) {
        let error = topology.err().filter(|error| error.contains(refused));
        return error
            .map(|_| "refused, as it should be".to_owned())
            .ok_or_else(|| format!("not refused: {refused}"));
    }
    let topology = topology?;
    let memory_bytes = if life == Life::Hard { 1 } else { Settings::new("").memory_bytes };
    let settings = Settings { memory_bytes, ..Settings::new("parity") };
    let mut driver = TopologyTestDriver::with(topology, settings, 1).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for (number, step) in (1..).zip(&vector.steps) {
        let instead = ours.as_ref().and_then(|ours| ours.output.get(&number));
        let expected = instead.unwrap_or(&step.output);
        let output =
            run(&mut driver, &notes, step, &vector).map_err(|error| format!("step {number}: {error}"))?;
        if life == Life::Hard {
            driver.crash().map_err(|error| format!("after step {number}: {error}"))?;
        }
        if &output != expected {
            let (came, should) = (lines(&output), lines(expected));
            wrong
                .push(format!("  step {number}, {}:\n    came:  {came}\n    should: {should}", record(step)));
        }
    }
    if wrong.is_empty() {
        let how = ours.map(|ours| format!("not as Kafka Streams, as it should ({})", ours.because));
        return Ok(how.unwrap_or_else(|| "as Kafka Streams".to_owned()));
    }
    Err(format!("\n{}", wrong.join("\n")))
}

fn parsed<T: for<'a> Deserialize<'a>>(text: &str, name: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether what is written down as our own still is a difference, and one that is documented.
fn check(ours: Option<&Ours>, vector: &Vector) -> Result<(), String> {
    let Some(ours) = ours else { return Ok(()) };
    for (number, output) in &ours.output {
        let step = number.checked_sub(1).and_then(|index| vector.steps.get(index));
        let step = step.ok_or_else(|| format!("there is no step {number} that could differ"))?;
        if &step.output == output {
            return Err(format!(
                "step {number} is written down as a difference, and Kafka Streams gives the same"
            ));
        }
    }
    let documented = match ours.because.rsplit_once(' ') {
        Some(("DESIGN.md, difference", number)) => {
            number.parse().is_ok_and(|number: u8| (1..=DIFFERENCES).contains(&number))
        }
        Some(("decision", number)) => is_decision(number),
        _ => false,
    };
    if ours.output.is_empty() == ours.refused.is_none() || !documented {
        return Err(format!("not a documented difference: {}", ours.because));
    }
    Ok(())
}

/// Entries in "Where we differ from Kafka Streams on purpose".
const DIFFERENCES: u8 = 9;

fn is_decision(number: &str) -> bool {
    let mut decisions = fs::read_dir(parity().join("../../docs/decisions")).unwrap();
    number.len() == 4
        && decisions
            .any(|file| file.unwrap().file_name().to_string_lossy().starts_with(&format!("{number}-")))
}

/// One record in, and what came out, place by place.
fn run(
    driver: &mut TopologyTestDriver,
    notes: &Notes,
    step: &Step,
    vector: &Vector,
) -> headwater_core::Result<Vec<Output>> {
    let bytes = |text: &Text| text.as_ref().map(|text| text.as_bytes().to_vec());
    let (key, value) = (bytes(&step.key), bytes(&step.value));
    driver.append_bytes(&step.topic, key.as_deref(), value.as_deref(), Timestamp(step.timestamp))?;
    driver.run()?;
    let seen = notes.take();
    let mut outputs = Vec::new();
    for place in &vector.outputs {
        let topic = place.clone();
        if notes.is_place(place) {
            let here = seen.iter().filter(|(at, ..)| at == place);
            outputs.extend(here.map(|(_, key, value)| Output {
                topic: topic.clone(),
                key: key.clone(),
                value: value.clone(),
                timestamp: None,
            }));
            continue;
        }
        let records = driver.read::<Option<Vec<u8>>, Option<Vec<u8>>>(place)?;
        outputs.extend(records.into_iter().map(|record| Output {
            topic: topic.clone(),
            key: vector.read_as.text(record.key),
            value: vector.read_as.text(record.value),
            timestamp: Some(record.timestamp.0),
        }));
    }
    Ok(outputs)
}

impl ReadAs {
    fn text(self, bytes: Option<Vec<u8>>) -> Text {
        bytes.map(|bytes| match self {
            Self::Text => String::from_utf8(bytes).unwrap(),
            Self::Bytes => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

fn record(step: &Step) -> String {
    let Step { topic, key, value, timestamp, .. } = step;
    format!("{topic}:{}={}@{timestamp}", nullable(key), nullable(value))
}

fn lines(outputs: &[Output]) -> String {
    let line = |Output { topic, key, value, timestamp }: &Output| {
        let at = timestamp.map(|at| format!("@{at}")).unwrap_or_default();
        format!("{topic}:{}={}{at}", nullable(key), nullable(value))
    };
    outputs.iter().map(line).collect::<Vec<_>>().join(" ")
}

fn nullable(text: &Text) -> &str {
    text.as_deref().unwrap_or("-")
}
