//! The page about the numbers, in Markdown.

use std::fmt::Write;

use super::report::{Machine, Report};
use super::row::{Row, number};

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench --markdown`; the same numbers as JSON come with `--json`. Nothing here is typed by hand.

";

const READING: &str = "## How to read it

- **ready** is the time from the request to the engine, over its Unix socket, until a *new* connection by the branch's
  URL has read and updated the last row of the largest table. The same steps on an ordinary running server take turns
  with it, and the *value* that a goal is about is what a branch takes beyond them: the median, or for goals of the
  95th percentile that percentile, less the ordinary server's median. *p50* and *p95* are the whole time.
- A **baseline** ran in the same run on the same machine, in turns with ours where it is a pair; *x* is the median of
  ours over it.
- Sources are PostgreSQL servers with pgbench's tables, or with many small tables, `fsync` off, caches warm. Filesystems
  that the machine does not have itself lie in sparse files, mounted by loop devices.
- Each pair runs once before it counts. *n* is the number of counted runs; from fewer than 20 the 95th percentile is
  the largest.

";

/// The whole page; `drawing` is the plot's path from it.
pub(super) fn write(report: &Report, drawing: &str) -> String {
    let mut page = String::from(HEAD);
    page.push_str(&machine(&report.machine));
    page.push_str(READING);
    writeln!(page, "## Time against size\n\n![Time until a copy is used, against the size of the source]({drawing})\n").expect("a String takes any text");
    page.push_str(&table(&report.rows));
    page.push_str(&steps(&report.rows));
    page.push_str(&not_measured(&report.rows));
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn machine(machine: &Machine) -> String {
    format!(
        "## Machine\n\n\
         {} x {}, {} MB of memory, Linux {}, temporary files on {}, PostgreSQL {}, commit `{}`.\n\
         The load average was {} at the end: other work ran on the machine as far as that exceeds the bench's own.\n\n\
         ```sh\n{}\n```\n\n",
        machine.processors,
        machine.processor,
        machine.memory_mb,
        machine.kernel,
        machine.filesystem,
        machine.postgres,
        machine.commit,
        machine.load,
        machine.command
    )
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "## Numbers\n\n\
         | row | value | goal | | p50 | p95 | baseline | x | n | what |\n\
         |---|---:|---|---|---:|---:|---:|---:|---:|---|\n",
    );
    for row in rows {
        let Some(value) = row.value else { continue };
        let of = |number_of: Option<f64>| number_of.map_or_else(String::new, number);
        let verdict = match (&row.goal, row.met) {
            (Some(_), Some(true)) => "met",
            (Some(_), Some(false)) => "**not met**",
            (Some(_), None) => "not known",
            (None, _) => "",
        };
        let baseline = match (row.baseline, &row.against) {
            (Some(baseline), Some(against)) => format!("{} ({against})", number(baseline)),
            (_, _) => String::new(),
        };
        writeln!(
            text,
            "| {} | {} {} | {} | {verdict} | {} | {} | {} | {} | {} | {} |",
            row.name,
            number(value),
            row.unit,
            cell(row.goal.as_deref().unwrap_or_default()),
            of(row.p50),
            of(row.p95),
            cell(&baseline),
            of(row.ratio),
            row.runs.map_or_else(String::new, |runs| runs.to_string()),
            cell(&what(row)),
        )
        .expect("a String takes any text");
    }
    text.push('\n');
    text
}

fn what(row: &Row) -> String {
    let files = row.files.map(|files| format!("{files} files"));
    let words = row.note.iter().cloned().chain(files);
    words.collect::<Vec<_>>().join("; ")
}

/// Text that ends no cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn steps(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for step in rows.iter().flat_map(|row| &row.steps) {
        if !names.contains(&step.name.as_str()) {
            names.push(&step.name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "## Where the time goes\n\n\
         Medians of each step, in milliseconds. What comes *of which* is part of the second, as the engine's log tells \
         it; the rest of that second step is the question whether the source has moved, or its copy.\n\n| row |",
    );
    let mut add = |words: String| text.push_str(&words);
    for name in &names {
        add(format!(" {name} |"));
    }
    add(format!("\n|---|{}\n", "---:|".repeat(names.len())));
    for row in rows.iter().filter(|row| !row.steps.is_empty()) {
        add(format!("| {} |", row.name));
        for name in &names {
            let step = row.steps.iter().find(|step| step.name == *name);
            add(format!(
                " {} |",
                step.map_or_else(String::new, |step| number(step.ms))
            ));
        }
        add("\n".to_owned());
    }
    add("\n".to_owned());
    text
}

fn not_measured(rows: &[Row]) -> String {
    let mut text = String::from("## Not measured\n\n");
    let missing = rows.iter().filter(|row| row.value.is_none());
    let lines: Vec<String> = missing
        .map(|row| {
            let why = row.not_measured.as_deref().unwrap_or("for no told reason");
            format!("- `{}`: {}\n", row.name, why.replace('\n', " "))
        })
        .collect();
    if lines.is_empty() {
        text.push_str("Nothing.\n");
    }
    text.push_str(&lines.concat());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Step;

    #[test]
    fn a_page_has_every_row_measured_or_not() {
        let steps = vec![Step {
            name: "all".to_owned(),
            ms: 2.0,
        }];
        let measured = Row {
            steps,
            ..Row::new("a", "ms").value(2.0)
        };
        let report = Report {
            machine: Machine::default(),
            rows: vec![
                measured.goal("<= 1 ms", false).against("a | b", 4.0),
                Row::not_measured("b", "no loop\ndevices".to_owned()),
            ],
        };
        let page = write(&report, "x/ready.svg");
        assert!(
            page.contains("| a | 2.00 ms | <= 1 ms | **not met** |"),
            "{page}"
        );
        assert!(page.contains("4.00 (a \\| b)"), "{page}");
        assert!(page.contains("- `b`: no loop devices\n"), "{page}");
        assert!(page.contains("(x/ready.svg)"), "{page}");
        assert!(page.contains("| a | 2.00 |"), "{page}");
        assert!(page.ends_with("devices\n"), "{page}");
    }
}
