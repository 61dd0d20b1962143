//! A row of the result: what was measured, beside what was asked for and what else is possible.

use serde::{Deserialize, Serialize};

/// A part of a measured time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    /// What is done in it.
    pub(super) name: String,
    /// Its median, in milliseconds.
    pub(super) ms: f64,
}

/// One measured number, or the reason why there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// The number that the goal is about; none where it could not be measured.
    pub(super) value: Option<f64>,
    /// Of value, baseline and quantiles.
    pub(super) unit: String,
    /// What design and issues ask for, in words; none where nothing is asked.
    pub(super) goal: Option<String>,
    /// Whether it is reached.
    pub(super) met: Option<bool>,
    /// The median of the other way, in the same run.
    pub(super) baseline: Option<f64>,
    /// What the other way is.
    pub(super) against: Option<String>,
    /// Median of ours over baseline.
    pub(super) ratio: Option<f64>,
    /// The median of ours, the same steps on an ordinary server included.
    pub(super) p50: Option<f64>,
    /// The 95th percentile of ours.
    pub(super) p95: Option<f64>,
    /// Counted runs.
    pub(super) runs: Option<u32>,
    /// The source's size.
    pub(super) size_mb: Option<u32>,
    /// Files of the copy.
    pub(super) files: Option<u64>,
    /// Where the time goes, as far as it can be seen from outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<Step>,
    /// What a reader must know of this number.
    pub(super) note: Option<String>,
    /// Why there is no number.
    pub(super) not_measured: Option<String>,
}

impl Row {
    /// A row of this name and unit.
    pub(super) fn new(name: &str, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ..Self::default()
        }
    }

    /// A row without a number.
    pub(super) fn not_measured(name: &str, why: String) -> Self {
        Self {
            not_measured: Some(why),
            ..Self::new(name, "")
        }
    }

    /// The same with its number.
    pub(super) fn value(self, value: f64) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    /// The same with a goal and whether it is reached.
    pub(super) fn goal(self, goal: &str, met: bool) -> Self {
        Self {
            goal: Some(goal.to_owned()),
            met: Some(met),
            ..self
        }
    }

    /// The same with a goal that this run cannot tell about.
    pub(super) fn goal_elsewhere(self, goal: &str) -> Self {
        Self {
            goal: Some(goal.to_owned()),
            ..self
        }
    }

    /// The same beside another way.
    pub(super) fn against(self, against: &str, baseline: f64) -> Self {
        let ours = self.p50.or(self.value);
        Self {
            against: Some(against.to_owned()),
            baseline: Some(baseline),
            ratio: ours
                .map(|ours| ours / baseline)
                .filter(|ratio| ratio.is_finite()),
            ..self
        }
    }

    /// The same with a word for the reader.
    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }

    /// The row in one line.
    pub(super) fn line(&self) -> String {
        let (Some(value), name, unit) = (self.value, &self.name, &self.unit) else {
            let why = self.not_measured.as_deref().unwrap_or("for no told reason");
            return format!("{}: not measured: {why}", self.name);
        };
        let quantiles = match (self.p50, self.p95) {
            (Some(p50), Some(p95)) => {
                format!(" (p50 {} {unit}, p95 {} {unit})", number(p50), number(p95))
            }
            (_, _) => String::new(),
        };
        let against = match (self.baseline, &self.against, self.ratio) {
            (Some(baseline), Some(against), Some(ratio)) => format!(
                " against {} {unit} of {against} (x {})",
                number(baseline),
                number(ratio)
            ),
            (_, _, _) => String::new(),
        };
        format!(
            "{name}: {} {unit}{quantiles}{against}{}",
            number(value),
            self.verdict()
        )
    }

    fn verdict(&self) -> String {
        match (&self.goal, self.met) {
            (Some(goal), Some(true)) => format!("; goal {goal}: met"),
            (Some(goal), Some(false)) => format!("; goal {goal}: not met"),
            (Some(goal), None) => format!("; goal {goal}: not known"),
            (None, _) => String::new(),
        }
    }
}

/// Three significant digits, without an exponent.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_with_its_verdict() {
        let row = Row {
            p50: Some(12.0),
            p95: Some(14.0),
            ..Row::new("a", "ms").value(2.345)
        };
        let row = row.goal("<= 3 ms", true).against("the other way", 24.0);
        assert_eq!(
            row.line(),
            "a: 2.35 ms (p50 12.0 ms, p95 14.0 ms) against 24.0 ms of the other way (x 0.50); goal <= 3 ms: met"
        );
        assert_eq!(Row::new("a", "ms").value(1234.5).line(), "a: 1234 ms");
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let row = Row::not_measured("a", "no loop devices".to_owned());
        assert_eq!(row.line(), "a: not measured: no loop devices");
    }

    #[test]
    fn a_row_survives_its_file() {
        let row = Row::new("a", "ms").value(1.0).goal("<= 3 ms", true);
        let text = serde_json::to_string(&row).expect("plain data");
        assert_eq!(serde_json::from_str::<Row>(&text).expect("plain data"), row);
    }
}
