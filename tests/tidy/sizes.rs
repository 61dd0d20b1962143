//! How long files and functions are, the most of them: the longest are held by `sources` and by clippy.

use crate::repository::Texts;

/// Nine of ten files have at most this many lines; files of tests do not count.
pub(crate) const FILE_LINES_P90_MAX: usize = 400;

/// Nine of ten functions have at most this many lines, head and braces included.
pub(crate) const FUNCTION_LINES_P90_MAX: usize = 40;

/// What is wrong with the sizes of most files and functions.
pub(crate) fn too_long_as_a_rule(sources: &Texts) -> Vec<String> {
    let product = sources.iter().filter(|(path, _)| !is_of_tests(path));
    let product: Vec<&String> = product.map(|(_, text)| text).collect();
    let files = product.iter().map(|text| text.lines().count()).collect();
    let functions = product.iter().flat_map(|text| functions(text)).collect();
    let found = [
        ("file", percentile_90(files), FILE_LINES_P90_MAX),
        ("function", percentile_90(functions), FUNCTION_LINES_P90_MAX),
    ];
    let long = found.into_iter().filter(|(_, lines, max)| lines > max);
    long.map(|(what, lines, max)| {
        format!(
            "one {what} in ten has more than {lines} lines, and {max} are enough for nine of ten"
        )
    })
    .collect()
}

fn is_of_tests(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The least length that nine of ten do not pass; 0 of none.
fn percentile_90(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    let place = (lengths.len() * 9).div_ceil(10);
    place.checked_sub(1).map_or(0, |last| lengths[last])
}

/// Lengths of the functions of a formatted file: the brace that closes one stands where its first line begins.
fn functions(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let length = |begin: usize| {
        let indent = lines[begin].len() - lines[begin].trim_start().len();
        let rest = &lines[begin..];
        let closes = |line: &&str| line.len() == indent + 1 && line.ends_with('}');
        let ends = |line: &&str| {
            closes(line) || (line.len() - line.trim_start().len() == indent && line.ends_with(';'))
        };
        let end = rest.iter().position(ends)?;
        // Of a trait, without a body.
        closes(&rest[end]).then_some(end + 1)
    };
    let begins = (0..lines.len()).filter(|number| is_head(lines[*number]));
    begins.filter_map(length).collect()
}

fn is_head(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let known = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word)
    };
    let first = words.find(|word| !known(word) && !word.ends_with(')'));
    first == Some("fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_as_long_as_from_its_head_to_its_brace() {
        let text = "//! x\npub(crate) async fn a() {\n    if x {\n    }\n}\n\ntrait T {\n    fn b(&self);\n\n    fn c(&self) {\n    }\n}\n\
            fn d(\n    x: u8,\n) {\n}\n// fn e() {\n";
        assert_eq!(functions(text), [4, 2, 4]);
    }

    #[test]
    fn nine_of_ten_must_be_short_and_the_tenth_need_not() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    x;\n".repeat(lines - 2));
        let short = body(FUNCTION_LINES_P90_MAX).repeat(9);
        let of = |text: String| Texts::from([("a/src/a.rs".to_owned(), text)]);
        let mut most = of(short);
        most.insert("a/src/b.rs".to_owned(), body(50));
        assert_eq!(too_long_as_a_rule(&most), [""; 0]);
        let half = format!("{}{}", body(50), body(50));
        assert_eq!(too_long_as_a_rule(&of(half)).len(), 1);
        let long = "x\n".repeat(FILE_LINES_P90_MAX + 1);
        assert_eq!(too_long_as_a_rule(&of(long.clone())).len(), 1);
        let tests = Texts::from([("tests/a.rs".to_owned(), long)]);
        assert_eq!(too_long_as_a_rule(&tests), [""; 0]);
    }
}
