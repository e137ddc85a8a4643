//! What a program and each of its commands say of themselves.

use crate::program::{printed, word_count};

const COMMANDS: &[&str] =
    &["", "run", "replay", "replays", "replays list", "replays delete", "describe", "topics", "lag", "reset"];

#[test]
fn help_reads_well() {
    let folder = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let help = printed(&word_count(folder.path(), &format!("{command} --help")), 0);
        let name = if command.is_empty() { "word-count" } else { command };
        insta::assert_snapshot!(name.replace(' ', "_"), help);
        // The one that only has commands below it needs none.
        assert!(help.contains("Commands:") || help.contains("Examples:\n"), "{command} has no examples");
        assert!(help.lines().all(|line| !line.contains("  app ")), "{command}: the program has a name");
    }
}
