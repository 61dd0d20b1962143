//! Scalars, places, anchors, merge keys, and what is refused.

use super::*;

fn read(text: &str) -> Tree {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {} at {:?}", error.text, error.span))
}

fn error(text: &str) -> (Span, String) {
    match parse(text) {
        Ok(_) => panic!("{text:?} was read"),
        Err(error) => (error.span, error.text),
    }
}

/// The tree as JSON-like text, with `~` before plain texts.
fn show(tree: &Tree) -> String {
    match &tree.value {
        Value::Null => "null".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(digits) => digits.clone(),
        Value::Text(text) if tree.is_plain => format!("~{text}"),
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|member| format!("{}: {}", member.key, show(&member.value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

#[test]
fn scalars_are_what_the_core_schema_says() {
    for (text, expected) in [
        ("a: 16", "{a: 16}"),
        ("a: 16.0", "{a: 16.0}"),
        ("a: 0x10", "{a: 16}"),
        ("a: 0o17", "{a: 15}"),
        ("a: +1", "{a: 1}"),
        ("a: -1.5e+3", "{a: -1.5e+3}"),
        ("a: .5", "{a: .5}"),
        ("a: .", "{a: ~.}"),
        ("a: e5", "{a: ~e5}"),
        ("a: 1e", "{a: ~1e}"),
        ("a: \"16\"", "{a: \"16\"}"),
        ("a: '16'", "{a: \"16\"}"),
        ("a: !!str 16", "{a: \"16\"}"),
        ("a: ! 16", "{a: \"16\"}"),
        ("a: !<tag:yaml.org,2002:int> 16", "{a: 16}"),
        ("a: !!map {b: 1}", "{a: {b: 1}}"),
        ("a: yes", "{a: ~yes}"),
        ("a: 'yes'", "{a: \"yes\"}"),
        ("a: true", "{a: true}"),
        (
            "a: [True, TRUE, false, False, FALSE]",
            "{a: [true, true, false, false, false]}",
        ),
        (
            "a: [.inf, -.Inf, .NAN, -.nan]",
            "{a: [.inf, -.Inf, .NAN, ~-.nan]}",
        ),
        ("a:", "{a: null}"),
        ("a: ~", "{a: null}"),
        ("a: |\n  x\n  y\n", "{a: \"x\\ny\\n\"}"),
        ("16: x", "{16: ~x}"),
        ("- [a, {b: c}]\n- d\n", "[[~a, {b: ~c}], ~d]"),
        ("# only\n--- # start\na: 1\n...\n", "{a: 1}"),
    ] {
        assert_eq!(show(&read(text)), expected, "{text:?}");
    }
}

#[test]
fn values_and_keys_keep_their_places() {
    let text = "über: x\ntarget:\n  path: 'deployment/ä'\n  namespace: n\nlast: 1\n";
    let Value::Object(members) = read(text).value else {
        panic!("not an object")
    };
    assert_eq!(&text[members[0].key_span.clone()], "über");
    assert_eq!(&text[members[1].key_span.clone()], "target");
    assert_eq!(
        &text[members[1].value.span.clone()],
        "path: 'deployment/ä'\n  namespace: n"
    );
    let Value::Object(inner) = &members[1].value.value else {
        panic!("not an object")
    };
    assert_eq!(&text[inner[0].value.span.clone()], "'deployment/ä'");
    assert_eq!(&text[inner[1].value.span.clone()], "n");
}

#[test]
fn aliases_and_merge_keys_bring_values() {
    for (text, expected) in [
        ("a: &t pod/a\nb: *t\n", "{a: ~pod/a, b: ~pod/a}"),
        (
            "a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  y: 3\n",
            "{a: {x: 1, y: 2}, b: {y: 3, x: 1}}",
        ),
        (
            "- &one {x: 1}\n- &two {x: 2, z: 3}\n- <<: [*one, *two]\n",
            "[{x: 1}, {x: 2, z: 3}, {x: 1, z: 3}]",
        ),
    ] {
        assert_eq!(show(&read(text)), expected, "{text:?}");
    }
}

#[test]
fn an_empty_document_is_an_empty_object() {
    for text in ["", "# nothing\n", "---\n", "---\n# nothing\n...\n", "~\n"] {
        assert_eq!(show(&read(text)), "{}", "{text:?}");
    }
}

#[test]
fn what_this_format_cannot_use_is_an_error_with_its_place() {
    for (text, place, expected) in [
        (
            "a: 1\n---\nb: 2\n",
            5,
            "the file goes on with a second document",
        ),
        ("a: !mine 1\n", 3, "the tag !mine means nothing here"),
        ("a: !!int x\n", 3, "the tag !!int does not fit this value"),
        (
            "? [a]\n: 1\n",
            2,
            "a key is a word, not a list or an object",
        ),
        (
            "a: &x\n  b: *x\n",
            11,
            "this alias stands within what it stands for",
        ),
        ("a:\n  <<: 1\n", 9, "\"<<\" brings in objects alone"),
    ] {
        let (span, said) = error(text);
        assert_eq!((span.start, said.as_str()), (place, expected), "{text:?}");
    }
    assert!(parse("a: !<tag:example.com,2026:x> 1\n").is_err());
    for text in [
        "a: [1",
        "a: \"x",
        "a: b: c",
        "a:\n\t- b\n",
        "a: *nowhere\n",
        "]",
        "a: @x",
    ] {
        let (_, said) = error(text);
        let is_told = said.starts_with("not YAML: ")
            || said.ends_with("is not expected here")
            || said.starts_with("a tab");
        assert!(is_told, "{text:?}: {said}");
    }
}

#[test]
fn aliases_of_aliases_come_to_an_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    let (_, said) = error(&text);
    assert!(said.contains("more than 10000 values"), "{said}");
    let aliases = |count: usize| format!("a: &a [x, y, z]\nb: [{}]\n", "*a,".repeat(count));
    assert!(
        parse(&aliases(2_500)).is_ok(),
        "10,000 values, the lists counted"
    );
    assert!(parse(&aliases(2_501)).is_err());
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let deep = "- ".repeat(200_000);
    let keys: String = (0..2_000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    for text in [deep, keys, "[".repeat(200_000), "{a: ".repeat(200_000)] {
        assert!(parse(&text).is_err());
    }
}
