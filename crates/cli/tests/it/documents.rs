//! Every command that a document shows is one of the program's, with flags that it has.
//!
//! That the commands also do what the documents say is tested where each of them is. Commands of mirrord's own are its.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fixtures::TestEnv;

use crate::harness::{environment, run};

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "docs/guide"] {
        for entry in fs::read_dir(root.join(folder)).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The commands in a document's blocks of code, and those in running text.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            let line = line.trim_start().trim_start_matches("$ ");
            found.extend(is_ours(line).then(|| line.to_owned()));
        } else {
            let inline = line.split('`').skip(1).step_by(2);
            found.extend(inline.filter(|code| is_ours(code)).map(str::to_owned));
        }
    }
    found
}

fn is_ours(line: &str) -> bool {
    line.starts_with("bough ")
}

/// The words of a command that are the program's own: up to the user's command, a pipe, or a remark.
fn own_words(command: &str) -> Vec<&str> {
    let ends = ["--", "|", ">", "<", "#", "&&", ";", "\\"];
    command
        .split_whitespace()
        .skip(1)
        .take_while(|word| !ends.contains(word) && !word.starts_with('#'))
        .collect()
}

/// The help of the deepest command that the words name.
fn help_of(
    env: &TestEnv,
    words: &[&str],
    known: &mut BTreeMap<String, Option<String>>,
) -> Option<String> {
    let verbs: Vec<&str> = words
        .iter()
        .copied()
        .take_while(|word| {
            word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
        })
        .take(3)
        .collect();
    (1..=verbs.len()).rev().find_map(|length| {
        let line = format!("{} --help", verbs[..length].join(" "));
        known
            .entry(line.clone())
            .or_insert_with(|| {
                let outcome = run(env, &line);
                outcome.status.success().then_some(outcome.stdout)
            })
            .clone()
    })
}

#[test]
fn every_command_that_a_document_shows_is_there() {
    let env = environment();
    let mut known = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("the document is read");
        for command in commands(&text) {
            count += 1;
            let words = own_words(&command);
            let Some(help) = help_of(&env, &words, &mut known) else {
                wrong.push(format!("{}: {command}: no such command", path.display()));
                continue;
            };
            for flag in words
                .iter()
                .filter(|word| word.starts_with('-') && word.len() > 1)
            {
                let flag = flag.split('=').next().unwrap_or(flag);
                let flag = flag.trim_end_matches(|c: char| !c.is_alphanumeric());
                let is_there = help
                    .split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | '<' | '=' | '`'))
                    .any(|word| word.trim_end_matches("...") == flag);
                if !is_there {
                    wrong.push(format!("{}: {command}: no flag {flag}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 30, "only {count}");
}
