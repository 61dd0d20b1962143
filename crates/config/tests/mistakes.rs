//! What people get wrong, and what they are told: each with its place, a caret, and what to write instead.

use std::path::Path;

use config::{Diagnostic, Surroundings};

fn show(diagnostics: &[Diagnostic]) -> String {
    let show = |diagnostic: &Diagnostic| {
        let mut lines = vec![diagnostic.to_string()];
        lines.extend(
            diagnostic
                .excerpt
                .to_string()
                .lines()
                .map(|line| format!("  | {line}")),
        );
        lines.extend(diagnostic.hint.iter().map(|hint| format!("  hint: {hint}")));
        lines.join("\n")
    };
    diagnostics.iter().map(show).collect::<Vec<_>>().join("\n")
}

fn errors(file: &str, text: &str) -> String {
    let surroundings = Surroundings::new("/nowhere", "random");
    match config::read_text(Path::new(file), text, &surroundings) {
        Ok(_) => "accepted".to_owned(),
        Err(rejected) => show(&rejected.errors),
    }
}

fn of_branch(keys: &str) -> String {
    let text = format!(
        "{{\n  \"target\": \"deployment/inventory\",\n  \"feature\": {{\"db_branches\": [\n    {{\n      {keys}\n    }}\n  ]}}\n}}"
    );
    errors("mirrord.json", &text)
}

#[test]
fn a_misspelt_key() {
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"feature\": {\n    \"netwrok\": {\"incoming\": \"mirror\"}\n  }\n}"), @r#"
    mirrord.json:3:5: feature.netwrok: "feature" has no key "netwrok"
      | "netwrok": {"incoming": "mirror"}
      | ^^^^^^^^^
      hint: did you mean "network"?
    "#);
}

#[test]
fn a_misspelt_word() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"feature": {"network": {"incoming": "miror"}}}"#), @r#"
    mirrord.json:1:38: feature.network.incoming: "miror" is none of "mirror", "steal", "off"
      | {"feature": {"network": {"incoming": "miror"}}}
      |                                      ^^^^^^^
      hint: did you mean "mirror"?
    "#);
}

#[test]
fn several_mistakes_at_once() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{
  "target": "deployments/inventory",
  "feature": {
    "fs": "disabled",
    "env": {"include": "A", "exclude": "B"},
    "network": {"outgoing": "yes"}
  },
  "operater": true
}"#), @r#"
    mirrord.json:2:13: target: "deployments" in "deployments/inventory" is not a kind of target: expected one of pod, deployment, deploy, rollout, job, cronjob, statefulset, service, replicaset, label
      | "target": "deployments/inventory",
      |           ^^^^^^^^^^^^^^^^^^^^^^^
      hint: did you mean "deployment"?
    mirrord.json:4:11: feature.fs: "disabled" is none of "local", "localwithoverrides", "read", "write"
      | "fs": "disabled",
      |       ^^^^^^^^^^
    mirrord.json:5:12: feature.env: "include" and "exclude" exclude each other
      | "env": {"include": "A", "exclude": "B"},
      |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: keep one of them
    mirrord.json:6:29: feature.network.outgoing: expected true, false or an object, found a string
      | "network": {"outgoing": "yes"}
      |                         ^^^^^
      hint: write true, without quotes
    mirrord.json:8:3: operater: the file has no key "operater"
      | "operater": true
      | ^^^^^^^^^^
      hint: did you mean "operator"?
    "#);
}

#[test]
fn a_key_at_the_wrong_level() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": "pod/a", "network": {"incoming": "steal"}}"#), @r#"
    mirrord.json:1:21: network: the file has no key "network"
      | {"target": "pod/a", "network": {"incoming": "steal"}}
      |                     ^^^^^^^^^
      hint: "network" stands under "feature"
    "#);
    insta::assert_snapshot!(errors("mirrord.json", r#"{"feature": {"operator": true}}"#), @r#"
    mirrord.json:1:14: feature.operator: "feature" has no key "operator"
      | {"feature": {"operator": true}}
      |              ^^^^^^^^^^
      hint: "operator" stands at the root of the file
    "#);
}

#[test]
fn a_comma_too_few() {
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"target\": \"pod/a\"\n  \"operator\": true\n}"), @r#"
    mirrord.json:2:20: a comma is missing here
      | "target": "***/***"
      |                    ^
    "#);
}

#[test]
fn a_quote_too_few() {
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"target: \"pod/a\"\n}"), @r#"
    mirrord.json:2:13: 'p' is not expected here
      | "target: "***/***"
      |           ^^^
      hint: a quotation mark may be missing before this, or one within a text may need a backslash
    "#);
}

#[test]
fn a_tab_within_quotes() {
    insta::assert_snapshot!(errors("mirrord.json", "{\"operator\": true, \"key\": \"a\tb\"}"), @r#"
    mirrord.json:1:29: a string holds a raw control character, such as a line break or a tab
      | {"operator": true, "key": "*** ***"}
      |                               ^
      hint: close the string on its line, or write \n or \t
    "#);
}

#[test]
fn an_object_that_is_not_closed() {
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"feature\": {\"env\": true\n"), @r#"
    mirrord.json:2:14: the object is not closed
      | "feature": {"env": true
      |            ^
      hint: add "}"
    "#);
}

#[test]
fn a_key_given_twice() {
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"target\": \"pod/a\",\n  \"target\": \"pod/b\"\n}"), @r#"
    mirrord.json:3:3: target: the key "target" is given twice (first on line 2)
      | "target": "pod/b"
      | ^^^^^^^^
    "#);
}

#[test]
fn an_extension_that_means_nothing() {
    insta::assert_snapshot!(errors("mirrord.jsonc", "{}"), @r#"
    mirrord.jsonc:1:1: the extension "jsonc" is not that of a configuration file
      | {}
      | ^
      hint: expected .json (comments and trailing commas are allowed), .yaml, .yml, .toml, or none for JSON
    "#);
}

#[test]
fn an_empty_file() {
    insta::assert_snapshot!(errors("mirrord.json", ""), @r#"
    mirrord.json:1:1: the file is empty
      | 
      | ^
      hint: the smallest configuration is {}
    "#);
}

#[test]
fn a_namespace_beside_the_workload() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": {"deployment": "a", "namespace": "n"}}"#), @r#"
    mirrord.json:1:13: target.deployment: "deployment" does not stand beside "namespace"
      | {"target": {"deployment": "a", "namespace": "n"}}
      |             ^^^^^^^^^^^^
      hint: put the workload under "path": {"path": {...}, "namespace": ...}
    "#);
}

#[test]
fn the_other_spelling_of_a_kind() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": {"path": {"statefulset": "a"}}}"#), @r#"
    mirrord.json:1:22: target.path.statefulset: "target.path" has no key "statefulset"
      | {"target": {"path": {"statefulset": "a"}}}
      |                      ^^^^^^^^^^^^^
      hint: did you mean "stateful_set"?
    "#);
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": "svc/a"}"#), @r#"
    mirrord.json:1:12: target: "svc" in "svc/a" is not a kind of target: expected one of pod, deployment, deploy, rollout, job, cronjob, statefulset, service, replicaset, label
      | {"target": "svc/a"}
      |            ^^^^^^^
      hint: did you mean "service"?
    "#);
    for (word, kind) in [("sts", "statefulset"), ("rs", "replicaset"), ("po", "pod")] {
        let said = errors("mirrord.json", &format!(r#"{{"target": "{word}/a"}}"#));
        let hint = format!("hint: did you mean \"{kind}\"?");
        assert!(said.ends_with(&hint), "{said}");
    }
}

#[test]
fn a_type_of_database_that_is_none() {
    insta::assert_snapshot!(of_branch(r#""type": "postgres", "connection": {"url": "DATABASE_URL"}"#), @r#"
    mirrord.json:5:15: feature.db_branches[0].type: "postgres" is no type of database
      | "type": "postgres", "connection": {"url": "DATABASE_URL"}
      |         ^^^^^^^^^^
      hint: did you mean "pg"?
    "#);
}

#[test]
fn a_connection_that_is_a_string() {
    insta::assert_snapshot!(of_branch(r#""type": "pg", "connection": "DATABASE_URL""#), @r#"
    mirrord.json:5:35: feature.db_branches[0].connection: expected an object such as {"url": "DATABASE_URL"}, found a string
      | "type": "pg", "connection": "DATABASE_URL"
      |                             ^^^^^^^^^^^^^^
      hint: write {"url": "DATABASE_URL"}
    "#);
}

#[test]
fn a_connection_string_where_a_variable_is_named() {
    let url = r#""type": "pg", "connection": {"url": "postgres://shop:hunter2@db/shop"}"#;
    insta::assert_snapshot!(of_branch(url), @r#"
    mirrord.json:5:43: feature.db_branches[0].connection.url: this is a value, and the name of a variable is expected
      | "type": "pg", "connection": {"url": "***"}
      |                                     ^^^^^
      hint: name the variable that holds it, such as "DATABASE_URL"
    "#);
    let bare = r#""type": "pg", "connection": "postgres://shop:hunter2@db/shop""#;
    insta::assert_snapshot!(of_branch(bare), @r#"
    mirrord.json:5:35: feature.db_branches[0].connection: expected an object such as {"url": "DATABASE_URL"}, found a string
      | "type": "pg", "connection": "***"
      |                             ^^^^^
      hint: name the variable that holds it, such as {"url": "DATABASE_URL"}
    "#);
}

#[test]
fn a_connection_that_is_missing() {
    insta::assert_snapshot!(of_branch(r#""type": "pg", "id": "x""#), @r#"
    mirrord.json:4:5: feature.db_branches[0]: the key "connection" is missing
      | {
      | ^
      hint: add "connection": an object such as {"url": "DATABASE_URL"}
    "#);
}

#[test]
fn a_version_that_is_a_fraction() {
    insta::assert_snapshot!(of_branch(r#""type": "pg", "version": 15.10, "connection": {"url": "U"}"#), @r#"
    mirrord.json:5:32: feature.db_branches[0].version: 15.10 is a number, and a version is none: 15.10 would be 15.1
      | "type": "pg", "version": 15.10, "connection": {"url": "U"}
      |                          ^^^^^
      hint: quote it: "15.10"
    "#);
}

#[test]
fn a_copy_that_says_two_things() {
    insta::assert_snapshot!(
        of_branch(r#""type": "pg", "connection": {"url": "U"}, "copy": {"mode": "all", "tables": {"users": {}}}"#), @r#"
    mirrord.json:5:83: feature.db_branches[0].copy.tables: "tables" and the mode "all" exclude each other
      | "type": "pg", "connection": {"url": "U"}, "copy": {"mode": "all", "tables": {"users": {}}}
      |                                                                             ^^^^^^^^^^^^^
      hint: write "mode": "schema" to have rows of these tables alone
    "#);
}

#[test]
fn a_ttl_given_twice() {
    insta::assert_snapshot!(
        of_branch(r#""type": "pg", "connection": {"url": "U"}, "ttl_secs": 300, "ttl_mins": 5"#), @r#"
    mirrord.json:5:78: feature.db_branches[0].ttl_mins: "ttl_secs" and "ttl_mins" exclude each other
      | "type": "pg", "connection": {"url": "U"}, "ttl_secs": 300, "ttl_mins": 5
      |                                                                        ^
      hint: keep one of them
    "#);
}

#[test]
fn a_pattern_without_a_group() {
    insta::assert_snapshot!(of_branch(
        r#""type": "pg", "connection": {"params": {"host": {"env_var_name": "SPRING_URL", "value_pattern": "//[^:]+"}}}"#
    ), @r#"
    mirrord.json:5:103: feature.db_branches[0].connection.params.host.value_pattern: the pattern has no group: nothing says which part is the value
      | "type": "pg", "connection": {"params": {"host": {"env_var_name": "SPRING_URL", "value_pattern": "//[^:]+"}}}
      |                                                                                                 ^^^^^^^^^
      hint: put the part in parentheses, such as "^([^:]+):"
    "#);
}

#[test]
fn a_variable_that_would_not_arrive() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{
  "target": "deployment/inventory",
  "feature": {
    "env": {"exclude": ["DATABASE_*", "OTHER"]},
    "db_branches": [{"type": "pg", "id": "x", "connection": {"url": "DATABASE_URL"}}]
  }
}"#), @r#"
    mirrord.json:4:24: feature.env.exclude: feature.db_branches[0] needs DATABASE_URL, and this excludes it
      | "env": {"exclude": ["DATABASE_*", "OTHER"]},
      |                    ^^^^^^^^^^^^^^^^^^^^^^^
      hint: remove it from "exclude"
    "#);
}

#[test]
fn a_literal_password_is_not_shown() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{
  "feature": {
    "env": {"override": {"DATABASE_URL": "postgres://shop:hunter2@db/shop", "PGPASSWORD": "hunter2", "PORT": 1}},
    "db_branches": [{"type": "pg", "id": "x", "connection": {"url": "DATABASE_URL"}}]
  }
}"#), @r#"
    mirrord.json:3:110: feature.env.override.PORT: expected a string, found a number
      | "env": {"override": {"DATABASE_URL": "***", "PGPASSWORD": "***", "PORT": 1}},
      |                                                                          ^
      hint: put it in quotes
    "#);
}

#[test]
fn a_variable_of_a_template_that_is_not_there() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": "deployment/{{ git_brunch }}"}"#), @r#"
    mirrord.json:1:27: template: there is no variable "git_brunch"
      | {"target": "***/{{ git_brunch }}"}
      |                    ^^^^^^^^^^
      hint: did you mean "git_branch"?
    "#);
    insta::assert_snapshot!(errors("mirrord.json", "{\n  \"target\": \"deployment/{{ servce }}\"\n}"), @r#"
    mirrord.json:2:28: template: there is no variable "servce"
      | "target": "***/{{ servce }}"
      |                   ^^^^^^
      hint: there are key and git_branch; get_env(name="servce") reads a variable of the environment
    "#);
}

#[test]
fn a_tab_in_yaml() {
    insta::assert_snapshot!(errors("mirrord.yaml", "feature:\n\tfs: local\n"), @r#"
    mirrord.yaml:2:2: a tab stands where the line is indented
      | fs: local
      | ^
      hint: YAML is indented with spaces
    "#);
}

#[test]
fn an_indent_too_many_in_yaml() {
    insta::assert_snapshot!(errors("mirrord.yaml", "target: pod/a\n  namespace: n\n"), @r#"
    mirrord.yaml:2:12: a key is not expected here
      | namespace: ***
      |          ^
      hint: begin the line where the keys beside it begin, and put a text with ": " in it in quotes
    "#);
}

#[test]
fn a_misspelt_key_in_yaml() {
    insta::assert_snapshot!(
        errors("mirrord.yml", "target: deployment/inventory\nfeature:\n  db_branch:\n    - type: pg\n"), @r#"
    mirrord.yml:3:3: feature.db_branch: "feature" has no key "db_branch"
      | db_branch:
      | ^^^^^^^^^
      hint: did you mean "db_branches"?
    "#);
}

#[test]
fn a_number_where_yaml_needs_quotes() {
    insta::assert_snapshot!(errors("mirrord.yaml", "feature:\n  env:\n    override:\n      PORT: 8080\n"), @r#"
    mirrord.yaml:4:13: feature.env.override.PORT: expected a string, found a number
      | PORT: 8080
      |       ^^^^
      hint: put it in quotes
    "#);
    insta::assert_snapshot!(
        errors("mirrord.yaml", "feature:\n  db_branches:\n    - type: pg\n      version: 15.10\n      connection:\n        url: DATABASE_URL\n"), @r#"
    mirrord.yaml:4:16: feature.db_branches[0].version: 15.10 is a number, and a version is none: 15.10 would be 15.1
      | version: 15.10
      |          ^^^^^
      hint: quote it: "15.10"
    "#);
}

#[test]
fn a_key_given_twice_in_yaml() {
    insta::assert_snapshot!(errors("mirrord.yaml", "target: pod/a\noperator: true\ntarget: pod/b\n"), @r#"
    mirrord.yaml:3:1: target: the key "target" is given twice (first on line 1)
      | target: pod/b
      | ^^^^^^
    "#);
}

#[test]
fn a_value_without_quotes_in_toml() {
    insta::assert_snapshot!(errors("mirrord.toml", "target = pod/a\n"), @r#"
    mirrord.toml:1:10: a text stands in quotes
      | target = ***/***
      |          ^^^^^^^
    "#);
}

#[test]
fn a_table_in_the_wrong_place_in_toml() {
    insta::assert_snapshot!(errors("mirrord.toml", "[network]\nincoming = \"steal\"\n"), @r#"
    mirrord.toml:1:2: network: the file has no key "network"
      | [network]
      |  ^^^^^^^
      hint: "network" stands under "feature"
    "#);
}

#[test]
fn a_table_given_twice_in_toml() {
    insta::assert_snapshot!(errors("mirrord.toml", "[feature]\nfs = \"local\"\n[feature]\nenv = true\n"), @r#"
    mirrord.toml:3:2: the key is given twice
      | [feature]
      |  ^^^^^^^
      hint: put what both say under one
    "#);
}

#[test]
fn yaml_on_standard_input() {
    insta::assert_snapshot!(errors("-", "target: pod/a\n"), @r#"
    -:1:1: this word is neither true, false nor null
      | target: ***/***
      | ^^^^^^
      hint: standard input is read as JSON: what is YAML or TOML is told by a file's extension
    "#);
}

#[test]
fn a_key_of_another_database() {
    insta::assert_snapshot!(
        of_branch(r#""type": "mysql", "connection": {"url": "U"}, "location": "local""#), @r#"
    mirrord.json:5:52: feature.db_branches[0].location: "feature.db_branches[0]" has no key "location"
      | "type": "mysql", "connection": {"url": "U"}, "location": "local"
      |                                              ^^^^^^^^^^
      hint: "location" is for branches of redis
    "#);
}

#[test]
fn a_filter_that_the_language_has_not() {
    let file = "{\n  \"key\": \"{{ git_branch | default(value='ä') | lowr }}\"\n}";
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:2:48: template: there is no filter "lowr"
      | "key": "{{ git_branch | default(value='***') | lowr }}"
      |                                                ^^^^
      hint: did you mean "lower"?
    "#);
    insta::assert_snapshot!(errors("mirrord.json", r#"{"key": "{{ now() }}"}"#), @r#"
    mirrord.json:1:13: template: there is no function "now"
      | {"key": "{{ ***() }}"}
      |             ^^^^^
      hint: a file says the same at any time: set a variable and read it with get_env
    "#);
}

#[test]
fn a_tag_that_is_not_closed() {
    insta::assert_snapshot!(errors("mirrord.json", "{\"key\": \"{{ key\"}"), @r#"
    mirrord.json:1:10: template: "{{" is not closed
      | {"key": "{{ key"}
      |          ^^
      hint: add "}}"
    "#);
    let comment = errors("mirrord.json", "{\"key\": \"{# a\"}");
    assert!(comment.ends_with("hint: add \"#}\""), "{comment}");
    insta::assert_snapshot!(errors("mirrord.json", "{\"key\": \"{% if git_branch %}x\"}"), @r#"
    mirrord.json:1:10: template: "if" has no end
      | {"key": "{% if git_branch %}***"}
      |          ^^^^^^^^^^^^^^^^^^^
      hint: add {% endif %}
    "#);
}

#[test]
fn a_branch_of_git_where_there_is_none() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"key": "{{ git_branch }}"}"#), @r#"
    mirrord.json:1:13: template: there is no variable "git_branch"
      | {"key": "{{ git_branch }}"}
      |             ^^^^^^^^^^
      hint: git has no branch checked out here: set MIRRORD_BRANCH_NAME, or write {{ git_branch | default(value="x") }}
    "#);
}

#[test]
fn quotes_where_none_belong() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"operator": "true", "agent": {"ttl": "5"}}"#), @r#"
    mirrord.json:1:14: operator: expected true or false, found a string
      | {"operator": "true", "agent": {"ttl": "5"}}
      |              ^^^^^^
      hint: write true, without quotes
    mirrord.json:1:39: agent.ttl: expected a whole number from 0 to 65535, found a string
      | {"operator": "true", "agent": {"ttl": "5"}}
      |                                       ^^^
      hint: write 5, without quotes
    "#);
    insta::assert_snapshot!(errors("mirrord.yaml", "operator: \"yes\"\n"), @r#"
    mirrord.yaml:1:11: operator: expected true or false, found a string
      | operator: "yes"
      |           ^^^^^
      hint: write true, without quotes
    "#);
}

#[test]
fn several_mistakes_in_one_branch() {
    let branch = r#""type": "postgres", "ttl_sec": 300, "conection": {"url": "DATABASE_URL"}"#;
    insta::assert_snapshot!(of_branch(branch), @r#"
    mirrord.json:5:15: feature.db_branches[0].type: "postgres" is no type of database
      | "type": "postgres", "ttl_sec": 300, "conection": {"url": "DATABASE_URL"}
      |         ^^^^^^^^^^
      hint: did you mean "pg"?
    mirrord.json:5:27: feature.db_branches[0].ttl_sec: "feature.db_branches[0]" has no key "ttl_sec"
      | "type": "postgres", "ttl_sec": 300, "conection": {"url": "DATABASE_URL"}
      |                     ^^^^^^^^^
      hint: did you mean "ttl_secs"?
    mirrord.json:5:43: feature.db_branches[0].conection: "feature.db_branches[0]" has no key "conection"
      | "type": "postgres", "ttl_sec": 300, "conection": {"url": "DATABASE_URL"}
      |                                     ^^^^^^^^^^^
      hint: did you mean "connection"?
    "#);
}

#[test]
fn columns_behind_tabs_and_other_alphabets() {
    let json = "{\n\t\"target\": \"deployment/ä\",\t\"featur\": {},\n\t\"kube_context\": 1\n}";
    insta::assert_snapshot!(errors("mirrord.json", json), @r#"
    mirrord.json:2:28: featur: the file has no key "featur"
      | "target": "deployment/ä", "featur": {},
      |                           ^^^^^^^^
      hint: did you mean "feature"?
    mirrord.json:3:18: kube_context: expected a string, found a number
      | "kube_context": 1
      |                 ^
      hint: put it in quotes
    "#);
    let yaml =
        "target:\n  path: deployment/ïnventory\nfeature:\n  env:\n    override:\n      ÄÖÜ: 1\n";
    insta::assert_snapshot!(errors("mirrord.yaml", yaml), @r#"
    mirrord.yaml:6:12: feature.env.override.ÄÖÜ: expected a string, found a number
      | ÄÖÜ: 1
      |      ^
      hint: put it in quotes
    "#);
    let toml = "[feature.env]\n\"ü\" = 1\n\toverride2 = 3\n";
    insta::assert_snapshot!(errors("mirrord.toml", toml), @r#"
    mirrord.toml:2:1: feature.env.ü: "feature.env" has no key "ü"
      | "ü" = 1
      | ^^^
      hint: its keys are "include", "exclude", "override", "mapping", "unset", "env_file", "load_from_process"
    mirrord.toml:3:2: feature.env.override2: "feature.env" has no key "override2"
      | override2 = 3
      | ^^^^^^^^^
      hint: did you mean "override"?
    "#);
}

#[test]
fn a_target_that_only_an_operator_finds() {
    let file = r#"{"target": "statefulset/search", "operator": false}"#;
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:1:46: operator: a target of the kind statefulset is found by the cluster's operator, and this is false
      | {"target": "statefulset/search", "operator": false}
      |                                              ^^^^^
      hint: remove "operator", or write true
    "#);
}

#[test]
fn a_target_by_no_label() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": "label/app"}"#), @r#"
    mirrord.json:1:12: target: "label/app" selects no pods: expected label/key=value, with a comma between several
      | {"target": "label/app"}
      |            ^^^^^^^^^^^
    "#);
}

#[test]
fn a_namespace_beside_the_target() {
    let file = r#"{"target": "deployment/a", "namespace": "n"}"#;
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:1:28: namespace: the file has no key "namespace"
      | {"target": "deployment/a", "namespace": "n"}
      |                            ^^^^^^^^^^^
      hint: "namespace" stands under "target"
    "#);
}

#[test]
fn a_branchs_key_beside_the_list() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"target": "pod/a", "ttl_secs": 300}"#), @r#"
    mirrord.json:1:21: ttl_secs: the file has no key "ttl_secs"
      | {"target": "pod/a", "ttl_secs": 300}
      |                     ^^^^^^^^^^
      hint: "ttl_secs" stands in an entry of "feature.db_branches"
    "#);
}

#[test]
fn a_comma_too_few_in_a_branch() {
    let branch = "\"type\": \"pg\", \"ttl_secs\": 300 \"copy\": {\"mode\": \"schema\", \"tables\": \"hunter2\"}";
    insta::assert_snapshot!(of_branch(branch), @r#"
    mirrord.json:5:36: a comma is missing here
      | "type": "pg", "ttl_secs": *** "copy": {"mode": "schema", "tables": "***"}
      |                              ^
    "#);
}

#[test]
fn a_comma_too_few_in_a_connection() {
    let branch =
        r#""connection": {"params": {"host": "hunter2" "user": {"env_var_name": "PGUSER"}}}"#;
    insta::assert_snapshot!(of_branch(branch), @r#"
    mirrord.json:5:50: a comma is missing here
      | "connection": {"params": {"host": "***" "user": {"env_var_name": "***"}}}
      |                                        ^
    "#);
}

#[test]
fn a_filter_beside_the_mode() {
    let file = r#"{"feature": {"network": {"incoming": {"mode": "steal", "header_filter": "a"}}}}"#;
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:1:47: feature.network.incoming.mode: there is no target to steal from
      | {"feature": {"network": {"incoming": {"mode": "steal", "header_filter": "a"}}}}
      |                                               ^^^^^^^
      hint: add a "target", or name one with --target
    mirrord.json:1:56: feature.network.incoming.header_filter: "feature.network.incoming" has no key "header_filter"
      | {"feature": {"network": {"incoming": {"mode": "steal", "header_filter": "a"}}}}
      |                                                        ^^^^^^^^^^^^^^^
      hint: "header_filter" stands under "feature.network.incoming.http_filter"
    "#);
}

#[test]
fn variables_in_the_place_of_rules() {
    insta::assert_snapshot!(errors("mirrord.json", r#"{"feature": {"env": {"LOG_LEVEL": "debug"}}}"#), @r#"
    mirrord.json:1:22: feature.env.LOG_LEVEL: "feature.env" has no key "LOG_LEVEL"
      | {"feature": {"env": {"LOG_LEVEL": "debug"}}}
      |                      ^^^^^^^^^^^
      hint: values of variables stand under "override"
    "#);
    insta::assert_snapshot!(errors("mirrord.json", r#"{"feature": {"env": ["LOG_LEVEL"]}}"#), @r#"
    mirrord.json:1:21: feature.env: expected true, false or an object, found a list
      | {"feature": {"env": ["LOG_LEVEL"]}}
      |                     ^^^^^^^^^^^^^
      hint: write {"include": [...]} to name variables
    "#);
}

#[test]
fn a_misspelt_rule_is_no_variable() {
    for env in [r#"{"log_level": "debug"}"#, r#"{"LOG_LEVEL": 1}"#] {
        let said = errors(
            "mirrord.json",
            &format!(r#"{{"feature": {{"env": {env}}}}}"#),
        );
        assert!(
            !said.contains("override\"\n") && !said.ends_with("under \"override\""),
            "{said}"
        );
    }
}

#[test]
fn one_where_a_list_stands() {
    let file = r#"{"feature": {"db_branches": {"type": "pg", "connection": {"url": "U"}}}}"#;
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:1:29: feature.db_branches: expected a list, found an object
      | {"feature": {"db_branches": {"type": "pg", "connection": {"url": "U"}}}}
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: put it in brackets: [...]
    "#);
    let file = r#"{"feature": {"network": {"incoming": {"ports": 8080}}}}"#;
    insta::assert_snapshot!(errors("mirrord.json", file), @r#"
    mirrord.json:1:48: feature.network.incoming.ports: expected a list, found a number
      | {"feature": {"network": {"incoming": {"ports": 8080}}}}
      |                                                ^^^^
      hint: put it in brackets: [...]
    "#);
}

#[test]
fn tables_as_a_list() {
    let branch = r#""type": "pg", "connection": {"url": "U"}, "copy": {"mode": "schema", "tables": ["users"]}"#;
    insta::assert_snapshot!(of_branch(branch), @r#"
    mirrord.json:5:86: feature.db_branches[0].copy.tables: expected an object, found a list
      | "type": "pg", "connection": {"url": "U"}, "copy": {"mode": "schema", "tables": ["users"]}
      |                                                                                ^^^^^^^^^
      hint: write {"users": {}} to have all of a table
    "#);
}

#[test]
fn parts_of_a_connection_without_their_key() {
    insta::assert_snapshot!(of_branch(r#""type": "pg", "connection": {"host": "H", "port": "P"}"#), @r#"
    mirrord.json:5:35: feature.db_branches[0].connection: the connection names neither "url" nor "params"
      | "type": "pg", "connection": {"host": "H", "port": "P"}
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: put the parts under "params": {"params": {"host": "DB_HOST", ...}}
    "#);
    let secret = r#""type": "pg", "connection": {"type": "secret", "name": "s", "key": "k"}"#;
    insta::assert_snapshot!(of_branch(secret), @r#"
    mirrord.json:5:35: feature.db_branches[0].connection: the connection names neither "url" nor "params"
      | "type": "pg", "connection": {"type": "secret", "name": "s", "key": "k"}
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: put all of it under "url": {"url": {...}}
    "#);
    insta::assert_snapshot!(of_branch(r#""type": "pg", "connection": {"params": {"port": 5432}}"#), @r#"
    mirrord.json:5:55: feature.db_branches[0].connection.params.port: expected the name of a variable or an object with "env_var_name", found a number
      | "type": "pg", "connection": {"params": {"port": 5432}}
      |                                                 ^^^^
      hint: name the variable that holds it, or give both: {"env_var_name": "DB_PORT", "value": "5432"}
    "#);
}
