//! Names as SQL writes them: parts between dots, and letters of which it is known whether quotes stood around them.

/// One letter of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letter {
    /// The letter itself; of a doubled quote within quotes, one.
    pub(super) is: char,
    /// Whether it stood in quotes, where it means nothing but itself.
    pub(super) is_quoted: bool,
}

/// The parts of a name, without its quotes and dots; none with an open quote.
pub(super) fn parts(name: &str) -> Option<Vec<Vec<Letter>>> {
    let mut parts = vec![Vec::new()];
    let mut is_quoted = false;
    let mut chars = name.chars().peekable();
    while let Some(is) = chars.next() {
        match is {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
            }
            '"' => {
                is_quoted = !is_quoted;
                continue;
            }
            '.' if !is_quoted => {
                parts.push(Vec::new());
                continue;
            }
            _ => {}
        }
        let part = parts.last_mut().expect("there is always a part");
        part.push(Letter { is, is_quoted });
    }
    (!is_quoted).then_some(parts)
}
