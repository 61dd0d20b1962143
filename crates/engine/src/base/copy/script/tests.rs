//! The lexical rules, each with what would go wrong without it, whatever way the script is cut into chunks.

use proptest::prelude::*;

use super::*;

/// Everything that comes out of a script, its rows joined.
fn split_in(script: &[u8], chunk: usize) -> Result<Vec<Piece>, ScriptError> {
    let mut splitter = Splitter::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for part in script.chunks(chunk.max(1)) {
        splitter.input().extend_from_slice(part);
        drain(&mut splitter, &mut pieces)?;
    }
    splitter.finish();
    drain(&mut splitter, &mut pieces)?;
    Ok(pieces)
}

fn drain(splitter: &mut Splitter, pieces: &mut Vec<Piece>) -> Result<(), ScriptError> {
    while let Some(piece) = splitter.next()? {
        match (pieces.last_mut(), piece) {
            (
                Some(Piece::CopyData { data, rows }),
                Piece::CopyData {
                    data: more,
                    rows: further,
                },
            ) => {
                *data = [data.as_ref(), more.as_ref()].concat().into();
                *rows += further;
            }
            (_, piece) => pieces.push(piece),
        }
    }
    Ok(())
}

fn statements(script: &str) -> Vec<String> {
    let pieces = split_in(script.as_bytes(), script.len()).unwrap();
    let text = |piece| {
        let Piece::Statement { text, .. } = piece else {
            panic!("not a statement: {piece:?}")
        };
        text
    };
    pieces.into_iter().map(text).collect()
}

#[test]
fn a_semicolon_ends_a_statement_only_outside_of_everything() {
    for one in [
        "SELECT 'a;b';",
        "SELECT 'it''s; here';",
        "SELECT '\\';",
        "SELECT E'it\\'s; here';",
        "SELECT e'\\\\';",
        "SELECT type'\\';",
        "SELECT \"a;b\"\"c;d\";",
        "SELECT $$a;b$$;",
        "SELECT $x$ $$;$y$;$x$;",
        "SELECT a$b$c;",
        "SELECT $1;",
        "SELECT 1 /* ; /* ; */ ; */;",
        "SELECT 1 -- ; '\n;",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
        "SELECT 'two\nlines; here';",
        "SELECT E'escaped line end \\\n;';",
        "SELECT 'ä;ö', \"ü;\";",
    ] {
        assert_eq!(statements(one), [one], "{one}");
    }
}

#[test]
fn bodies_of_sql_functions_are_part_of_their_statement() {
    for one in [
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;",
        "CREATE OR REPLACE PROCEDURE p()\n    BEGIN ATOMIC\n INSERT INTO t VALUES (1);\nEND;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 ELSE 2 END; END;",
    ] {
        assert_eq!(statements(one), [one], "{one}");
    }
    // A column may be called begin.
    assert_eq!(statements("CREATE TABLE t (begin int); SELECT 1;").len(), 2);
    assert_eq!(statements("BEGIN; COMMIT;"), ["BEGIN;", "COMMIT;"]);
}

#[test]
fn statements_on_one_line_come_apart_and_comments_between_are_dropped() {
    let script =
        "-- a comment; with 'quotes\nSET a = 1; SET b = 2;\n\n--\n-- another\nSET c = 3;\n";
    assert_eq!(
        statements(script),
        ["SET a = 1;", "SET b = 2;", "SET c = 3;"]
    );
}

#[test]
fn the_comment_before_a_statement_says_what_it_makes() {
    let script = "--\n-- Name: Order Items; Type: TABLE; Schema: public; Owner: app\n--\n\nCREATE TABLE x ();\n";
    let pieces = split_in(script.as_bytes(), 7).unwrap();
    let Piece::Statement { entry, .. } = &pieces[0] else {
        panic!("{pieces:?}");
    };
    let entry = entry.as_ref().unwrap();
    assert_eq!(
        (entry.name.as_str(), entry.kind.as_str()),
        ("Order Items", "TABLE")
    );
}

#[test]
fn rows_end_at_their_mark_alone() {
    let script =
        "COPY public.t (a, b) FROM stdin;\n1\t\\N\n\\\\.\tx\n\\.x\n;'\"$$\n\\.\nSELECT 1;\n";
    let pieces = split_in(script.as_bytes(), script.len()).unwrap();
    assert_eq!(
        pieces,
        [
            Piece::CopyStart {
                text: "COPY public.t (a, b) FROM stdin;".to_owned()
            },
            Piece::CopyData {
                data: Bytes::from("1\t\\N\n\\\\.\tx\n\\.x\n;'\"$$\n"),
                rows: 4
            },
            Piece::CopyEnd,
            Piece::Statement {
                text: "SELECT 1;".to_owned(),
                entry: None
            },
        ]
    );
    let empty = "COPY t (a) FROM stdin;\n\\.\n";
    let pieces = split_in(empty.as_bytes(), 3).unwrap();
    assert_eq!(pieces[1], Piece::CopyEnd);
}

#[test]
fn rows_may_hold_anything_but_statements_are_text() {
    let mut script = b"COPY t (a) FROM stdin;\n".to_vec();
    script.extend_from_slice(b"\xff\xfe\n\\.\n");
    let pieces = split_in(&script, 1).unwrap();
    assert_eq!(
        pieces[1],
        Piece::CopyData {
            data: Bytes::from_static(b"\xff\xfe\n"),
            rows: 1
        }
    );
    assert_eq!(split_in(b"SELECT '\xff';", 100), Err(ScriptError::Encoding));
}

#[test]
fn commands_of_psql_are_told_apart_and_never_hide_in_quotes() {
    let script = "\\restrict abc\nSELECT '\n\\! rm';\n\\unrestrict abc\n";
    let pieces = split_in(script.as_bytes(), script.len()).unwrap();
    assert_eq!(
        pieces[0],
        Piece::Meta {
            line: "\\restrict abc".to_owned()
        }
    );
    assert_eq!(
        pieces[1],
        Piece::Statement {
            text: "SELECT '\n\\! rm';".to_owned(),
            entry: None
        }
    );
    assert_eq!(
        pieces[2],
        Piece::Meta {
            line: "\\unrestrict abc".to_owned()
        }
    );
}

#[test]
fn a_script_that_was_cut_off_is_an_error() {
    for (script, what) in [
        ("SELECT 1", "a statement"),
        ("SELECT 'x", "a statement"),
        ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", "a statement"),
        ("/* x", "a statement"),
        ("COPY t (a) FROM stdin;\n1\n", "a table's rows"),
        ("COPY t (a) FROM stdin;\n1\n\\.", "a table's rows"),
    ] {
        let cut = split_in(script.as_bytes(), 4);
        assert_eq!(cut, Err(ScriptError::Truncated { what }), "{script}");
    }
    assert_eq!(split_in(b"-- only a comment", 4), Ok(vec![]));
}

/// Pieces of text that matter to the lexer, in any order.
fn fragment() -> impl Strategy<Value = String> {
    let fragments = [
        "'",
        "\"",
        "$$",
        "$a$",
        "$",
        "E'",
        "\\",
        "--",
        "/*",
        "*/",
        ";",
        "\n",
        "(",
        ")",
        "x",
        " ",
        "begin ",
        "end",
        "create function f ",
        "COPY t (a) FROM stdin;\n",
        "\\.\n",
        "\\.",
        "ä",
        "1\t2\n",
    ];
    let some = prop::collection::vec(prop::sample::select(fragments.to_vec()), 0..40);
    some.prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_pieces_do_not_depend_on_the_chunks(script in fragment(), chunk in 1_usize..20) {
        let whole = split_in(script.as_bytes(), script.len());
        prop_assert_eq!(split_in(script.as_bytes(), chunk), whole);
    }

    #[test]
    fn any_text_comes_back_whole_from_a_literal(text in "[^\\x00]*") {
        let quoted = crate::postgres::sql::literal(&text);
        let script = format!("SELECT {quoted};\nSELECT 2;");
        prop_assert_eq!(statements(&script), vec![format!("SELECT {quoted};"), "SELECT 2;".to_owned()]);
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), chunk in 1_usize..50) {
        drop(split_in(&bytes, chunk));
    }
}
