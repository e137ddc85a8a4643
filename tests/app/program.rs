//! Runs an example as a process, and prepares what it reads.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use headwater::{Embedded, prelude::*};

/// An example that was built together with this test.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    let example = profile.join("examples").join(name);
    assert!(example.is_file(), "build the example first: cargo build --example {name}");
    example
}

/// The example in a folder of its own, where no config file and no variable says anything.
pub(crate) fn command(name: &str, folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(example(name));
    for variable in
        ["LOG", "APPLICATION_ID", "WORKERS", "STATE_DIR", "COMMIT_INTERVAL", "MEMORY", "LOG_FORMAT", "CONFIG"]
    {
        command.env_remove(format!("HEADWATER_{variable}"));
    }
    command.env_remove("RUST_LOG").current_dir(folder).args(arguments.split_whitespace());
    command
}

pub(crate) fn word_count(folder: &Path, arguments: &str) -> Output {
    command("word_count", folder, arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What it printed; it must have ended with `code`.
#[track_caller]
pub(crate) fn printed(output: &Output, code: i32) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}\n{stderr}", text(&output.stdout));
    text(&output.stdout).to_owned()
}

/// What it complained about; it must have ended with `code`.
#[track_caller]
pub(crate) fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr).to_owned()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Appends lines to the topic `lines` of the log in `folder/headwater-data`, one second apart from `first` on.
pub(crate) fn write_lines(folder: &Path, first: i64, lines: &[&str]) {
    block_on(async {
        let embedded = Embedded::open(folder.join("headwater-data")).unwrap();
        embedded.create_topic("lines", 2).await.unwrap();
        let records: Vec<_> = (first..)
            .zip(lines)
            .map(|(at, line)| Record::new(format!("line-{at}"), (*line).to_owned(), Timestamp(at * 1000)))
            .collect();
        embedded.send("lines", &records).await.unwrap();
        embedded.close().await.unwrap();
    });
}

/// The last count of each word, as the topic `word-counts` has it.
pub(crate) fn counts(log: &Path) -> Vec<(String, String)> {
    let records = block_on(async {
        let embedded = Embedded::open(log).unwrap();
        let records = embedded.read_all::<String, String>("word-counts").await.unwrap();
        embedded.close().await.unwrap();
        records
    });
    let last: std::collections::BTreeMap<_, _> = records.into_iter().map(|r| (r.key, r.value)).collect();
    last.into_iter().collect()
}

pub(crate) fn pairs(counts: &[(&str, &str)]) -> Vec<(String, String)> {
    counts.iter().map(|(word, count)| ((*word).to_owned(), (*count).to_owned())).collect()
}

/// A program that runs until it is asked to end. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads what it says until a line is as wanted, and returns that.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut said = String::new();
        for line in self.lines.by_ref().map_while(std::result::Result::ok) {
            if wanted(&line) {
                return line;
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("it ended without saying so:\n{said}");
    }

    /// Waits until `happened`; fails when the program ends before.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, mut happened: impl FnMut() -> bool) {
        while !happened() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before that happened");
            std::thread::yield_now();
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(signal).arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self) -> Output {
        // What it says must not fill the pipe.
        let said: Vec<_> = self.lines.by_ref().map_while(std::result::Result::ok).collect();
        let mut stdout = Vec::new();
        std::io::Read::read_to_end(&mut self.child.stdout.take().unwrap(), &mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        Output { status, stdout, stderr: said.join("\n").into_bytes() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
