//! Measuring time, and what many measurements say together. The one file of the bench that reads the time.

use std::time::Instant;

use anyhow::Result;

/// A running watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    started: Instant,
    lap: Instant,
}

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "this is the stopwatch")]
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            lap: now,
        }
    }

    /// Milliseconds since the last lap, or since the start.
    #[expect(clippy::disallowed_methods, reason = "this is the stopwatch")]
    pub(crate) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now.duration_since(self.lap);
        self.lap = now;
        lap.as_secs_f64() * 1000.0
    }

    /// Milliseconds since the start.
    pub(super) fn total(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1000.0
    }
}

/// Runs `work` and gives its milliseconds.
pub(super) fn time_ms(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let watch = Stopwatch::start();
    work()?;
    Ok(watch.total())
}

/// The middle of the values, or the mean of the two in the middle; NaN for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest value that at least 95 of 100 do not exceed; the largest of fewer than 20. NaN for none.
pub(super) fn p95(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    // The nearest rank, counted from one.
    let rank = (sorted.len() * 95).div_ceil(100);
    match rank {
        0 => f64::NAN,
        _ => sorted[rank - 1],
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: f64, b: f64) -> bool {
        (a - b).abs() < f64::EPSILON
    }

    #[test]
    fn medians() {
        assert!(same(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(same(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_95th_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!(same(p95(&values), 95.0));
        assert!(same(p95(&values[..20]), 99.0));
        assert!(same(p95(&[7.0, 9.0]), 9.0));
        assert!(p95(&[]).is_nan());
    }

    #[test]
    fn laps_add_up_to_the_total() {
        let mut watch = Stopwatch::start();
        let laps = watch.lap() + watch.lap();
        assert!(laps >= 0.0 && laps <= watch.total());
    }
}
