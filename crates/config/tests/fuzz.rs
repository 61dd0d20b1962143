//! The reader takes any bytes: no panic, bounded time, errors with places within the file, and no secret in them.
//!
//! A bounded loop of its own rather than a fuzzer's: it runs wherever tests run, and says the same of one commit each
//! time. `BOUGH_FUZZ_SEED` tries other files, `BOUGH_FUZZ_RUNS` more of them.

use std::path::Path;
use std::time::Duration;

use config::{Config, Rejected, Surroundings};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::Value;

/// How many files are tried where nobody says otherwise: a few seconds in a debug build.
const RUNS: u32 = 10_000;

/// The files that an ordinary run tries.
const SEED: u64 = 1;

/// Of a processor: above what any file of the size limit takes in a debug build.
const TIME_MAX: Duration = Duration::from_secs(20);

const EXTENSIONS: [&str; 3] = ["json", "yaml", "toml"];

/// What makes a file a template.
const TEMPLATE_MARKS: [&str; 3] = ["{{", "{%", "{#"];

/// Characters that mean something in one of the formats.
const MARKS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ",",
    "\n",
    " ",
    "  ",
    "\t",
    "#",
    "-",
    "- ",
    "? ",
    "&a",
    "*a",
    "<<: ",
    "|\n",
    "!!",
    "%",
    "@",
    "`",
    "\\",
    "\\u0000",
    "\u{0}",
    "\u{feff}",
    "ü",
    "🌳",
    "//",
    "/*",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "=",
    "[[",
    "]]",
    ".",
    "null",
    "true",
    "yes",
    "0x",
    "1e99",
    "-1",
    "~",
    "---\n",
    "...\n",
    "{{ key }}",
    "{{ get_env(name=\"A\") }}",
    "{% if key is matching('",
    " | replace(from=\"",
    "{% for a in range(end=",
    "{% endfor %}",
    "99999999999999999999999999",
    "label/",
    "$(",
];

/// What this thread has used of a processor: a busy machine makes no file slower.
fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).expect("time goes forward")
}

fn read(name: &str, text: &str) -> Result<Config, Rejected> {
    let surroundings = Surroundings {
        git_branch: Some("main".to_owned()),
        ..Surroundings::new("/nowhere", "k3y")
    };
    let before = used();
    let outcome = config::read_text(Path::new(name), text, &surroundings);
    let taken = used() - before;
    assert!(taken < TIME_MAX, "{name}: {taken:?}");
    outcome
}

fn check(name: &str, text: &str) {
    match read(name, text) {
        Ok(config) => {
            let again =
                serde_json::to_string(&config.resolved.reveal()).expect("JSON can be written");
            // What a template gave may look like one.
            if TEMPLATE_MARKS.iter().any(|mark| again.contains(mark)) {
                return;
            }
            // What is written back is read again.
            let again = read("again.json", &again)
                .unwrap_or_else(|rejected| panic!("{rejected}\n{name}:\n{text}"));
            assert_eq!(again.resolved, config.resolved, "{text}");
        }
        Err(rejected) => {
            assert!(!rejected.errors.is_empty());
            // In a rendered file places are those of what its template gave.
            let is_template = TEMPLATE_MARKS.iter().any(|mark| text.contains(mark));
            let lines = text.split('\n').count();
            for error in &rejected.errors {
                assert!(
                    is_template || (1..=lines).contains(&error.place.line),
                    "{error}"
                );
                assert!(error.place.column >= 1 && error.excerpt.width >= 1);
                assert!(error.excerpt.line.chars().count() <= 120);
            }
        }
    }
}

/// Every vector as it is, and in the other formats where it is plain JSON.
fn corpus() -> Vec<String> {
    let mut texts = Vec::new();
    for line in include_str!("vectors.jsonl").lines() {
        let vector: Value = serde_json::from_str(line).expect("a record is JSON");
        let input = vector["input"].as_str().expect("a text").to_owned();
        if let Ok(value) = serde_json::from_str::<Value>(&input) {
            texts.push(toml_of(&value));
            texts.push(yaml_of(&value, 0));
        }
        texts.push(input);
    }
    texts
}

fn yaml_of(value: &Value, indent: usize) -> String {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .map(|(key, value)| format!("\n{pad}{key}: {}", yaml_of(value, indent + 1)))
            .collect(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("\n{pad}- {}", yaml_of(item, indent + 1).trim_start()))
            .collect(),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value.to_string(),
    }
}

fn toml_of(value: &Value) -> String {
    let Value::Object(members) = value else {
        return String::new();
    };
    members
        .iter()
        .map(|(key, value)| format!("{key} = {}\n", inline_toml(value)))
        .collect()
}

fn inline_toml(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{key:?} = {}", inline_toml(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Cuts, doubles, swaps and inserts at places of chance.
fn mutate(text: &str, chance: &mut StdRng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..chance.random_range(1..6) {
        let from = chance.random_range(0..=chars.len());
        let to = (from + chance.random_range(0..20)).min(chars.len());
        match chance.random_range(0..4) {
            0 => drop(chars.drain(from..to)),
            1 => {
                let part: Vec<char> = chars[from..to].to_vec();
                let at = chance.random_range(0..=chars.len());
                chars.splice(at..at, part);
            }
            2 => {
                let mark = MARKS[chance.random_range(0..MARKS.len())];
                chars.splice(from..to, mark.chars());
            }
            _ => {
                let code = char::from_u32(chance.next_u32() % 0x300).unwrap_or('x');
                chars.splice(from..from, [code]);
            }
        }
    }
    chars.into_iter().collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn mutated_files_in_every_format_are_read_or_refused() {
    let seed = number("BOUGH_FUZZ_SEED").unwrap_or(SEED);
    println!("BOUGH_FUZZ_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    let runs = number("BOUGH_FUZZ_RUNS").unwrap_or(u64::from(RUNS));
    for _ in 0..runs {
        let text = &corpus[chance.random_range(0..corpus.len())];
        let text = mutate(text, &mut chance);
        let extension = EXTENSIONS[chance.random_range(0..EXTENSIONS.len())];
        check(&format!("f.{extension}"), &text);
    }
}

/// The names of a filter over connections hold for names as well, which have no protocol.
#[test]
fn what_one_part_takes_from_another_is_written_back_as_its_own() {
    check(
        "f.json",
        r#"{"feature": {"network": {"outgoing": {"filter": {"local": ["tcp://db.shop:5432"]}}}}}"#,
    );
}

#[test]
fn the_corpus_itself_is_read_in_other_formats() {
    let mut accepted = 0;
    for text in corpus() {
        for extension in EXTENSIONS {
            accepted += usize::from(read(&format!("f.{extension}"), &text).is_ok());
            check(&format!("f.{extension}"), &text);
        }
    }
    // Each accepted vector in three formats, JSON being YAML as well.
    assert!(accepted > 250, "only {accepted}");
}

/// Bytes of the worst files: as many as a file may have where time is given, fewer in an ordinary run.
fn bomb_size() -> usize {
    if number("BOUGH_FUZZ_RUNS").is_some() {
        1 << 20
    } else {
        1 << 18
    }
}

fn fill(part: &str) -> String {
    part.repeat(bomb_size() / part.len())
}

/// `{n}` in `part` is the number of its copy; together they are half as large as a file may be.
fn number_copies(part: &str) -> String {
    let copies = bomb_size() / 2 / (part.len() + 4);
    (0..copies)
        .map(|n| part.replace("{n}", &n.to_string()))
        .collect()
}

/// A list of branches that is as long as a file may be.
fn branches(entry: &str) -> String {
    let entries = vec![entry; bomb_size() / (entry.len() + 2)];
    format!("{{\"db_branches\":[{}]}}", entries.join(","))
}

/// A regular expression under `feature.env.mapping`.
fn mapping(pattern: &str) -> String {
    format!("{{\"feature\":{{\"env\":{{\"mapping\":{{\"{pattern}\":\"x\"}}}}}}}}")
}

fn json_bombs() -> Vec<String> {
    let long_key = "k".repeat(bomb_size() / 2);
    let children = number_copies("\"k{n}\":1,");
    let filter = "{\"feature\":{\"network\":{\"outgoing\":{\"filter\":{\"local\":[";
    let pattern = r#"{"env_var_name":"A","value_pattern":"(((a+)+)+)"}"#;
    vec![
        fill("["),
        fill("{\"a\":"),
        fill("\""),
        format!("{{\"{long_key}\":{{{children}\"z\":1}}}}"),
        format!("{{{children}\"z\":1}}"),
        format!("{{\"a\":\"{{{{ key }}}}\",{children}\"z\":1}}"),
        branches("{\"type\":\"pg\"}"),
        branches("{\"type\":\"pg\",\"connection\":{\"url\":\"U\"}}"),
        branches("{\"type\":\"mysql\",\"connection\":{\"url\":\"U\"}}"),
        branches(&format!(
            "{{\"type\":\"pg\",\"id\":\"x\",\"connection\":{{\"params\":{{\"host\":{pattern}}}}}}}"
        )),
        mapping(&fill("(a|")),
        mapping(&fill("(?=a")),
        mapping(&"a{1000}{1000}".repeat(100)),
        format!("{{\"target\":\"{}\"}}", fill("a/")),
        format!("{filter}{}\"x\"]}}}}}}}}}}", fill("\"a\",")),
        fill("{{ key }}"),
        "{{ ".to_owned() + &fill("("),
        fill("{% if a %}"),
        format!("{{% if false %}}{}", fill("{% elif false %}")),
    ]
}

fn yaml_bombs() -> Vec<String> {
    let merged = number_copies("  k{n}: 1\n");
    let parts = [
        "- ",
        "[",
        "? ",
        "a: ",
        "&a ",
        "*a ",
        "a: b\n",
        "\"",
        "!!",
        "- a\n",
        "x",
        "x ",
        "# ",
        "{",
        "{a, ",
        "[a, ",
        "\n",
        "\t",
        "--- a\n",
        "%TAG ! x\n",
    ];
    let mut bombs: Vec<String> = parts.into_iter().map(fill).collect();
    bombs.push(format!("a: |\n{}", fill(" x\n")));
    bombs.push(format!("a:\n{merged}\n<<:\n{merged}"));
    bombs
}

fn toml_bombs() -> Vec<String> {
    let parts = ["[", "[[a]]\n", "a.", "a = [", "a = {", "[a.b]\n", "'"];
    let mut bombs: Vec<String> = parts.into_iter().map(fill).collect();
    bombs.push(format!("a = \"\"\"{}", fill("x\n")));
    bombs.push(number_copies("[k{n}]\na = 1\n"));
    bombs.push(number_copies("k.k{n} = 1\n"));
    bombs
}

#[test]
fn the_worst_files_of_the_size_limit_come_to_an_end() {
    for (extension, bombs) in [
        ("json", json_bombs()),
        ("yaml", yaml_bombs()),
        ("toml", toml_bombs()),
    ] {
        for text in bombs {
            check(&format!("bomb.{extension}"), &text);
        }
    }
}

/// What is let through and costs the most: long texts, taken through filters by a loop as long as one may be.
#[test]
fn the_worst_templates_that_are_let_through_come_to_an_end() {
    let long = "{% set a = 'abcdefgh' | replace(from='a', to='__') | replace(from='b', to='__') %}"
        .replace("__", &"x".repeat(7000));
    let filters = " | upper | lower".repeat(40);
    let loops =
        |body: &str| format!("{long}{{% for n in range(end=1000) %}}{body}{{% endfor %}}{{}}");
    for body in [
        format!("{{% if a{filters} == n %}}x{{% endif %}}"),
        "{% if a is matching('^(x|x|xx)+(?!y)$') %}x{% endif %}".to_owned(),
        "{% if n is matching('x{1000}{1000}') %}x{% endif %}".to_owned(),
        "{% set_global b = [a] | concat(with=[a, a, a]) %}".to_owned(),
    ] {
        check("f.json", &loops(&body));
    }
    let chained = " | concat(with=range(end=900))".repeat(300);
    check("f.json", &format!("{{% set a = [1]{chained} %}}{{}}"));
    check(
        "f.json",
        &format!("{{{{ 'a'{} }}}}", " | upper".repeat(1500)),
    );
}

#[test]
fn a_template_that_would_run_for_ever_is_refused() {
    let set = "{% set a = 'xxxxxxxxxxxxxxxx' %}".to_owned();
    for text in [
        "{% for a in range(end=9999) %}{% for b in range(end=9999) %}{% endfor %}{% endfor %}"
            .to_owned(),
        "{% set r = range(end=9999) %}{% for a in r %}{{ [x for x in r] }}{% endfor %}".to_owned(),
        set.clone() + &"{% set a = a ~ a %}".repeat(60) + "{{ a }}",
        "{% component a() %}{{<a/>}}{% endcomponent a %}{{<a/>}}".to_owned(),
        format!(
            "{{{{ '{0}' | replace(from='a', to='{0}') }}}}",
            "a".repeat(100_000)
        ),
        "{{ 'a\nb' | indent(width=9999999999999) }}".to_owned(),
    ] {
        let rejected = read("f.json", &text).expect_err("it is refused");
        assert!(
            rejected.errors[0].text.starts_with("template: "),
            "{rejected}"
        );
    }
}
