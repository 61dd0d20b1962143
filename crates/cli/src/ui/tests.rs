//! What reaches which stream, and in what form.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock;

/// A stream that tests can read back.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PLAIN: Look = Look {
    quiet: false,
    colours: false,
    terminal: false,
    width: None,
};

fn ui(look: Look) -> (Ui, Paper, Paper) {
    let (out, err) = (Paper::default(), Paper::default());
    (Ui::onto(look, out.clone(), err.clone()), out, err)
}

#[derive(Serialize)]
struct Names(Vec<&'static str>);

impl Report for Names {
    fn text(&self, page: Page) -> String {
        let mut table = Table::new(page, &["NAME", "SIZE"]);
        for name in &self.0 {
            table.row([(*name).to_owned(), String::new()]);
        }
        table.text()
    }
}

#[test]
fn a_narrow_terminal_breaks_a_table_between_words_and_never_a_name() {
    let page = Page {
        width: Some(20),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut table = Table::new(page, &["NAME", "WHY"]);
    table.row([
        "pg-746727604a61cacd".to_owned(),
        "it was asked for".to_owned(),
    ]);
    let text = table.text();
    assert!(text.contains("pg-746727604a61cacd"), "{text}");
    assert!(text.lines().count() > 2, "{text}");
}

#[test]
fn results_go_to_standard_output_in_the_asked_form() {
    let (ui, out, err) = ui(PLAIN);
    ui.report(&Names(vec!["a", "long name"]), Format::Text)
        .unwrap();
    ui.report(&Names(vec!["a"]), Format::Json).unwrap();
    insta::assert_snapshot!(out.text(), @r#"
    NAME       SIZE
    a          -
    long name  -
    [
      "a"
    ]
    "#);
    assert_eq!(err.text(), "");
}

#[test]
fn quiet_silences_notes_and_nothing_else() {
    let (ui, out, err) = ui(Look {
        quiet: true,
        ..PLAIN
    });
    ui.note("going on");
    ui.progress()
        .show("a", line("copying", "a: copying"), clock::monotonic());
    ui.warn("mind this");
    ui.report(&Names(vec![]), Format::Text).unwrap();
    assert_eq!(err.text(), "warning: mind this\n");
    assert_eq!(out.text(), "NAME  SIZE\n");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let (ui, out, err) = ui(PLAIN);
    ui.note("table \x1b]0;owned\x07");
    ui.report(&Names(vec!["\x1b[2J"]), Format::Text).unwrap();
    assert!(!out.text().contains('\x1b') && !err.text().contains('\x1b'));
}

#[test]
fn colours_are_on_labels_alone() {
    let (ui, _, err) = ui(Look {
        colours: true,
        ..PLAIN
    });
    ui.hint("do this");
    assert_eq!(err.text(), "\x1b[1;36mhint:\x1b[0m do this\n");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let ui = Ui::onto(PLAIN, Closed, Closed);
    assert!(ui.report(&Names(vec!["a"]), Format::Text).is_ok());
    ui.note("nobody hears");
}

fn line(step: &'static str, text: &str) -> ProgressLine {
    ProgressLine {
        step,
        text: text.to_owned(),
        done: None,
    }
}

#[test]
fn plain_progress_has_a_line_a_step_and_few_within_one() {
    let (ui, _, err) = ui(PLAIN);
    let start = clock::monotonic();
    let mut progress = ui.progress();
    progress.show("a", line("copying", "a: 1 MB"), start);
    for second in 1..=4 {
        let text = format!("a: {second}1 MB");
        progress.show(
            "a",
            line("copying", &text),
            start + Duration::from_secs(second),
        );
    }
    progress.show(
        "a",
        line("copying", "a: 51 MB"),
        start + Duration::from_secs(5),
    );
    progress.show(
        "a",
        line("starting", "a: starting"),
        start + Duration::from_secs(6),
    );
    assert_eq!(err.text(), "a: 1 MB\na: 51 MB\na: starting\n");
}

#[test]
fn fields_align_and_indent_further_lines() {
    let mut fields = Fields::new();
    fields.field("Name", "pg-1");
    fields.field("Notes", "one\ntwo");
    fields.maybe("Absent", None::<String>);
    assert_eq!(fields.text(), "Name   pg-1\nNotes  one\n       two\n");
}
