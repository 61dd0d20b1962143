//! `source`: names for databases.

use std::fs::File;

use crate::harness::Harness;

#[test]
fn a_source_is_named_after_its_database_or_as_asked() {
    let harness = Harness::new();
    let outcome = harness.run("source add postgres://reader@db:5432/inventory");
    assert!(
        outcome
            .stderr
            .contains("bough db-branches create ID --source inventory"),
        "{}",
        outcome.stderr
    );
    harness
        .run("source add postgres://reader@db:5432/inventory --name inv")
        .success()
        .unwrap();
    assert_eq!(
        harness.engine.requests(),
        ["PUT /v1/sources/inventory", "PUT /v1/sources/inv"]
    );
    let listed = harness.run("source ls -o json").success().unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&listed[0]).unwrap(), @r#"
    {
      "added_at": "2020-09-13T12:26:40Z",
      "addresses": [],
      "base": null,
      "copied_at": null,
      "database": "inventory",
      "failure": null,
      "looked_at": null,
      "name": "inv",
      "prepare_sha256": null,
      "progress": null,
      "rate_bytes_max": null,
      "refresh_seconds": null,
      "slot": null,
      "system_identifier": "7400000000000000001",
      "url": "postgres://reader@db:5432/inventory",
      "user": "reader",
      "version": 16,
      "warm": 0
    }
    "#);
}

#[test]
fn a_url_on_standard_input_stays_off_the_process_list() {
    let harness = Harness::new();
    let file = harness.env.root().join("url.txt");
    std::fs::write(&file, "postgres://reader:hunter2@db/inventory\n").unwrap();
    // Through a shell: the harness closes standard input.
    let line = format!(
        "{} source add - < {}",
        env!("CARGO_BIN_EXE_bough"),
        file.display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).env_clear();
    command.env("BOUGH_DATA_DIR", harness.env.data_directory());
    let outcome = harness.finish(command);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
    assert!(File::open(file).is_ok());
    let script = harness.engine.script();
    assert_eq!(
        script.requests[0].1["url"],
        "postgres://reader:hunter2@db/inventory"
    );
}

#[test]
fn what_cannot_be_named_is_told() {
    let harness = Harness::new();
    let show = |line: &str| harness.show(&harness.run(line));
    insta::assert_snapshot!(show("source add"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: no source is named
    hint: name a source, give a URL, `-` to read one from standard input, or set BOUGH_SOURCE_URL
    "#);
    insta::assert_snapshot!(show("source add inventory"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: inventory is a name, not a connection string
    hint: a connection string looks like postgres://user:password@host:5432/database
    "#);
    insta::assert_snapshot!(show("source add postgres://db:1/with%20space"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot call the source after its database: "with space" cannot name a source: 1 to 63 letters, digits, '-', '_' and '.', a letter or digit first
    hint: name it with --name
    "#);
}

#[test]
fn an_unknown_source_exits_with_1_and_what_exists() {
    let harness = Harness::new();
    insta::assert_snapshot!(harness.show(&harness.run("source rm x")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no source x: there is none
    "#);
    harness
        .run("source add postgres://reader@db/a")
        .success()
        .unwrap();
    harness
        .run("source add postgres://reader@db/b")
        .success()
        .unwrap();
    insta::assert_snapshot!(harness.show(&harness.run("source rm x")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no source x: there are a, b
    "#);
    harness.run("source rm a").success().unwrap();
    assert_eq!(harness.engine.script().sources.len(), 1);
}
