//! What every command says of itself.

use std::path::Path;

use super::{run, text};

#[test]
fn help_reads_well() {
    let commands = [
        "",
        "topics",
        "topics create",
        "topics list",
        "topics describe",
        "topics alter",
        "topics delete",
        "produce",
        "consume",
        "groups",
        "groups list",
        "groups describe",
        "groups reset-offsets",
        "groups delete",
        "log",
        "log dump",
        "log verify",
    ];
    for command in commands {
        let words = command.split(' ').filter(|word| !word.is_empty()).chain(["--help"]);
        let output = run(Path::new("none"), &words.collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let help = text(&output.stdout);
        let name = if command.is_empty() { "headwater" } else { command };
        insta::assert_snapshot!(name.replace(' ', "_"), help);
        // Those that only have commands below them need none.
        assert!(help.contains("Commands:") || help.contains("Examples:\n"), "{command} has no examples");
    }
}
