//! The quick start of the README is what the command does.

use std::{env, path::Path, process::Command};

use super::text;

/// The commands of the first `console` block below the heading, each with what it prints.
fn commands(readme: &str) -> Vec<(String, String)> {
    let section = readme.split_once("\n## Quick start\n").expect("the README has a quick start").1;
    let block = section.split_once("```console\n").expect("with a block of commands").1;
    let block = block.split_once("```").expect("that ends").0;
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.into(), String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    commands
}

#[test]
fn the_quick_start_works_in_four_commands() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let commands = commands(&readme);
    assert_eq!(commands.len(), 4, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_headwater")).parent().unwrap();
    let path = env::join_paths(
        [binary.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    for (command, expected) in commands {
        let output = Command::new("sh")
            .args(["-c", &format!("{command} 2>&1")])
            .current_dir(folder.path())
            .env("PATH", path.as_ref().unwrap())
            .env_remove("HEADWATER_LOG")
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), expected, "{command}");
        assert_eq!(output.status.code(), Some(0), "{command}");
    }
}
