//! Statements about the format, a file each: what is accepted, what is refused and in which words, and what is told.
//!
//! The vectors compare with what upstream's reader was seen to do; `statements.txt` has the rest of what its pages and
//! its checks say, concern by concern. A line of it is one of
//!
//! - `## CONCERN`, for its readers,
//! - `file NAME`, whose extension says the format of what follows,
//! - `within TEXT`, with `@` where what follows is put in,
//! - `accept TEXT`,
//! - `refuse TEXT => WORDS`, which an error has in its text, and
//! - `warn TEXT => WORDS`: accepted, with a warning that has these words.
//!
//! In a text `\n`, `\t` and `\uFEFF` are those characters.

use std::path::Path;
use std::sync::Arc;

use config::{Config, Environment, Rejected, Surroundings};

fn read(file: &str, text: &str) -> Result<Config, Rejected> {
    let environment = Environment::from([("SET".into(), "on".into())]);
    let surroundings = Surroundings {
        git_branch: Some("feature/Log-in".to_owned()),
        environment: Arc::new(environment),
        ..Surroundings::new("/nowhere", "k3y")
    };
    config::read_text(Path::new(file), text, &surroundings)
}

/// What is wrong with a statement, if anything.
fn contradict(verb: &str, file: &str, text: &str, words: &str) -> Option<String> {
    match (verb, read(file, text)) {
        ("accept", Ok(_)) => None,
        ("accept" | "warn", Err(rejected)) => Some(format!("refused: {rejected}")),
        ("refuse", Ok(_)) => Some("accepted".to_owned()),
        ("refuse", Err(rejected)) => {
            let said = rejected.to_string();
            (!said.contains(words)).then_some(said)
        }
        ("warn", Ok(config)) => {
            let said: Vec<&str> = config.warnings.iter().map(|it| it.text.as_str()).collect();
            (!said.iter().any(|said| said.contains(words))).then(|| format!("{said:?}"))
        }
        (other, _) => Some(format!("{other:?} is no verb")),
    }
}

#[test]
fn every_statement_holds() {
    let (mut file, mut within) = ("f.json", "@");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (index, line) in include_str!("statements.txt").lines().enumerate() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "" | "##" => within = "@",
            "file" => file = rest,
            "within" => within = rest,
            _ => {
                let (text, words) = rest.split_once(" =>").unwrap_or((rest, ""));
                let text = within
                    .replacen('@', text, 1)
                    .replace("\\n", "\n")
                    .replace("\\t", "\t")
                    .replace("\\uFEFF", "\u{feff}");
                count += 1;
                if let Some(said) = contradict(verb, file, &text, words.trim_start()) {
                    wrong.push(format!("statements.txt:{}: {line}\n    {said}", index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 750, "only {count}");
}

/// What a file's template gives in the place of a value.
fn rendered(template: &str) -> String {
    let text = format!(r#"{{"kube_context": "{template}"}}"#);
    match read("f.json", &text) {
        Ok(config) => config.kube_context.unwrap_or_default(),
        Err(rejected) => rejected.to_string(),
    }
}

/// Functions, filters and tests of the language as upstream's files have it.
#[test]
fn templates_give_what_they_give_upstream() {
    for line in include_str!("templates.txt").lines() {
        let (template, expected) = line.split_once(" => ").expect("a template and a value");
        assert_eq!(rendered(template), expected, "{template}");
    }
}
