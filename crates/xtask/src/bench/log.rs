//! The engine's log as a witness: how long a branch was in each of its states.

/// Complaints that are shown: the first of a failure's consequences are enough.
const COMPLAINTS_MAX: usize = 5;

/// A state and the milliseconds that a branch was in it.
pub(super) type Stay = (String, f64);

/// The states of one branch in the order of its life, up to the first `ready`. The state before the first line of the
/// log, in which the snapshot is found and the source asked, is not among them.
pub(super) fn stays(log: &str, branch: &str) -> Vec<Stay> {
    let named = format!("branch={branch} ");
    let lines = log
        .lines()
        .filter(|line| line.contains(" stepped ") && line.contains(&named));
    let mut stays = Vec::new();
    let mut before: Option<(String, f64)> = None;
    for line in lines {
        let (Some(now), Some(state)) = (milliseconds(line), state(line)) else {
            continue;
        };
        if let Some((earlier, since)) = before {
            stays.push((earlier, now - since));
        }
        if state == "ready" {
            break;
        }
        before = Some((state.to_owned(), now));
    }
    stays
}

/// The last warnings and errors, a line each.
pub(super) fn complaints(log: &str) -> Vec<&str> {
    let is_complaint = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
    let mut last: Vec<&str> = log
        .lines()
        .rev()
        .filter(is_complaint)
        .take(COMPLAINTS_MAX)
        .collect();
    last.reverse();
    last
}

/// The time within its day of a line that begins with RFC 3339; days do not end between two lines of a measurement
/// often enough to matter.
fn milliseconds(line: &str) -> Option<f64> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0)
}

/// The state that a line names between quotes.
fn state(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("state=\"")?;
    rest.split_once('"').map(|(state, _)| state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complaints_are_shown() {
        let complaint = |number: u32| format!("2026-11-23T04:10:10Z  WARN x: {number}\n");
        let log: String = (0..10).map(complaint).collect::<String>() + "2026  INFO x: fine\n";
        let found = complaints(&log);
        assert_eq!(found.len(), COMPLAINTS_MAX);
        assert!(found[4].ends_with(": 9"), "{found:?}");
        assert!(complaints("").is_empty());
    }

    #[test]
    fn stays_are_between_the_lines_of_one_branch() {
        let line = |seconds: &str, branch: &str, state: &str| {
            format!(
                "2026-11-23T04:10:{seconds}Z  INFO engine::branch::driver: stepped branch={branch} state=\"{state}\"\n"
            )
        };
        let log = [
            line("10.000000", "pg-1", "being cloned"),
            line("10.001000", "pg-12", "being cloned"),
            "2026-11-23T04:10:10.002000Z  WARN other: branch=pg-1 words\n".to_owned(),
            line("10.020500", "pg-1", "starting"),
            line("10.050500", "pg-1", "ready"),
            line("10.900000", "pg-1", "being deleted"),
            line("10.950000", "pg-1", "gone"),
        ];
        let found = stays(&log.concat(), "pg-1");
        let rounded: Vec<(&str, f64)> = found
            .iter()
            .map(|(state, ms)| (state.as_str(), (ms * 10.0).round() / 10.0))
            .collect();
        assert_eq!(rounded, [("being cloned", 20.5), ("starting", 30.0)]);
        assert!(stays("", "pg-1").is_empty());
    }
}
