//! Times and numbers in words. Pure.

use jiff::Timestamp;

/// Units of time, largest first, with their seconds.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

/// A span in its two largest units: `4 min 20 s`, `2 d 3 h`, `0 s`.
pub(crate) fn span(seconds: u64) -> String {
    let first = UNITS
        .iter()
        .position(|(_, unit)| seconds >= *unit)
        .unwrap_or(UNITS.len() - 1);
    let (name, unit) = UNITS[first];
    let whole = format!("{} {name}", seconds / unit);
    match UNITS.get(first + 1) {
        Some((next, smaller)) if seconds % unit >= *smaller => {
            format!("{whole} {} {next}", seconds % unit / smaller)
        }
        Some(_) | None => whole,
    }
}

/// Whole seconds from `start` to `end`; zero where `end` is earlier.
pub(crate) fn seconds_between(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.as_second() - start.as_second()).unwrap_or(0)
}

/// How long ago: `12 s ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(seconds_between(then, now)))
}

/// When it will be: `in 4 min 20 s`.
pub(crate) fn ahead(then: Timestamp, now: Timestamp) -> String {
    if then <= now {
        "now".to_owned()
    } else {
        format!("in {}", span(seconds_between(now, then)))
    }
}

/// A moment of time to the second, in UTC: `2026-01-31T12:00:05Z`.
pub(crate) fn moment(then: Timestamp) -> String {
    format!("{then:.0}")
}

/// A name of somebody else's as it may stand within a line: what would break the line, or turn it round, is escaped.
pub(crate) fn plain(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        let turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// A number with its thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 session`, `2 sessions`.
pub(crate) fn things(number: impl TryInto<usize>, thing: &str) -> String {
    match number.try_into().unwrap_or(usize::MAX) {
        1 => format!("1 {thing}"),
        number if thing.ends_with("ch") => format!("{number} {thing}es"),
        number => format!("{number} {thing}s"),
    }
}

/// The text as one word of a POSIX shell.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (260, "4 min 20 s"),
            (3_600, "1 h"),
            (3_605, "1 h"),
            (3_665, "1 h 1 min"),
            (183_600, "2 d 3 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn times_are_told_from_now() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(ago(at(100), at(112)), "12 s ago");
        assert_eq!(ago(at(112), at(100)), "0 s ago");
        assert_eq!(ahead(at(400), at(100)), "in 5 min");
        assert_eq!(ahead(at(100), at(100)), "now");
        assert_eq!(moment(at(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(things(1, "branch"), "1 branch");
        assert_eq!(things(2, "branch"), "2 branches");
        assert_eq!(things(0, "session"), "0 sessions");
    }

    #[test]
    fn a_name_stays_within_its_line() {
        assert_eq!(plain("inventory é"), "inventory é");
        assert_eq!(plain("x\nbough: forged"), r"x\nbough: forged");
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c"), r"a\u{1b}[2Jb\u{202e}c");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("postgres://u@h:1/d"), "postgres://u@h:1/d");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
    }
}
