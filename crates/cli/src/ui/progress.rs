//! Progress of something that takes long: drawn on a terminal, listed at a bounded rate elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::Ui;
use crate::settings::Look;

/// The shortest time between two plain lines about the same step: a log of an hour stays readable.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// How often a drawn line turns its spinner.
const TICK: Duration = Duration::from_millis(120);

/// One moment of one thing's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgressLine {
    /// The step; a plain line is due whenever it changes.
    pub(crate) step: &'static str,
    /// The whole line.
    pub(crate) text: String,
    /// How much is done, and of how much.
    pub(crate) done: Option<(u64, u64)>,
}

struct Shown {
    line: ProgressLine,
    at: Instant,
    bar: Option<ProgressBar>,
}

/// The progress of several things by name. Cleared from the terminal when dropped.
pub(crate) struct Progress<'ui> {
    ui: &'ui Ui,
    bars: Option<MultiProgress>,
    quiet: bool,
    shown: BTreeMap<String, Shown>,
}

impl<'ui> Progress<'ui> {
    pub(super) fn new(ui: &'ui Ui, look: Look) -> Self {
        let drawn = look.terminal && !look.quiet;
        Self {
            ui,
            bars: drawn.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            quiet: look.quiet,
            shown: BTreeMap::new(),
        }
    }

    /// Shows where `name` is at `now`.
    pub(crate) fn show(&mut self, name: &str, line: ProgressLine, now: Instant) {
        if self.quiet {
            return;
        }
        let before = self.shown.remove(name);
        let is_due = match &before {
            None => true,
            Some(shown) if shown.line.step != line.step => true,
            Some(shown) => shown.line != line && now.duration_since(shown.at) >= PLAIN_INTERVAL,
        };
        let bar = match (
            &self.bars,
            before.as_ref().and_then(|shown| shown.bar.clone()),
        ) {
            (Some(_), Some(bar)) => Some(bar),
            (Some(bars), None) => Some(add_bar(bars)),
            (None, _) => None,
        };
        match &bar {
            Some(bar) => draw(bar, &line),
            None if is_due => self.ui.note(&line.text),
            None => {}
        }
        let at = match &before {
            Some(shown) if !is_due => shown.at,
            Some(_) | None => now,
        };
        self.shown.insert(name.to_owned(), Shown { line, at, bar });
    }

    /// Takes `name` off what is drawn.
    pub(crate) fn finish(&mut self, name: &str) {
        if let Some(Shown { bar: Some(bar), .. }) = self.shown.remove(name) {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, above what is drawn.
    pub(crate) fn note(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.ui.note(line)),
            None => self.ui.note(line),
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        for bar in self.shown.values().filter_map(|shown| shown.bar.as_ref()) {
            bar.finish_and_clear();
        }
        if let Some(bars) = &self.bars {
            // The terminal is gone; nothing is left to clear.
            let _ = bars.clear();
        }
    }
}

fn add_bar(bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::new_spinner());
    bar.enable_steady_tick(TICK);
    bar
}

fn draw(bar: &ProgressBar, line: &ProgressLine) {
    let template = match line.done {
        Some((done, total)) => {
            bar.set_length(total.max(1));
            bar.set_position(done.min(total));
            "{spinner} [{bar:24}] {msg}"
        }
        None => "{spinner} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("both templates are well-formed");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(super::printable(&line.text));
}
