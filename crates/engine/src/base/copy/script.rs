//! Taking a script of `pg_dump` apart: statements, rows of COPY, and psql's own commands.
//!
//! ```text
//!             line begins with \                    ; outside of everything
//!  between ─────────────────────▶ meta    statement ─────────────────────▶ between
//!     │  anything else                        ▲  │ "COPY ... FROM stdin;"
//!     └───────────────────────────────────────┘  ▼
//!                                              rows ──── \. ────▶ between
//! ```
//!
//! Owns PostgreSQL's lexical rules, as psql has them (`src/fe_utils/psqlscan.l`): strings, quoted names, dollar quotes,
//! nested comments, parentheses, and `BEGIN ATOMIC ... END` bodies. psql itself is not used: a hostile source could have
//! it run commands of its own on this machine (CVE-2025-8714). Leaves running statements to `load`.
//!
//! No token of the language spans two lines but those with a state here, so that whole lines are looked at.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memmem};

/// Bytes of one statement. PostgreSQL takes a gigabyte; a definition of this size is no definition, and rows come by
/// COPY, which has no bound.
const STATEMENT_BYTES_MAX: usize = 256 << 20;

/// A piece of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// One statement, without the comments before it.
    Statement {
        /// Its text, with its semicolon.
        text: String,
        /// What the comment before it says that it makes.
        entry: Option<Entry>,
    },
    /// A COPY whose rows follow.
    CopyStart {
        /// Its text, with its semicolon.
        text: String,
    },
    /// Rows, cut anywhere.
    CopyData {
        /// The bytes.
        data: Bytes,
        /// Line ends among them: in COPY's text form, one a row.
        rows: u64,
    },
    /// The rows' end.
    CopyEnd,
    /// A command of psql's, such as `\restrict`.
    Meta {
        /// The whole line.
        line: String,
    },
}

/// What a comment of `pg_dump` says about the statement after it: `-- Name: x; Type: TABLE; Schema: s; Owner: o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The object's name.
    pub(super) name: String,
    /// Its kind, in `pg_dump`'s words.
    pub(super) kind: String,
}

/// Why a script cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A statement of absurd size.
    #[error("a statement of the dump has more than {} MiB", STATEMENT_BYTES_MAX >> 20)]
    TooLong,
    /// A statement that is not UTF-8.
    #[error("a statement of the dump is not UTF-8")]
    Encoding,
    /// The script ends within a statement or within rows.
    #[error("the dump ends in the middle of {what}")]
    Truncated {
        /// Of what.
        what: &'static str,
    },
}

/// Where the lexer is within a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Nothing,
    Text { escapes: bool },
    Name,
    Dollar(Vec<u8>),
    Comment { depth: u32 },
}

/// What psql tracks to know a semicolon within a function's body from its end.
#[derive(Debug, Default)]
struct Nesting {
    parentheses: u32,
    begins: u32,
    /// First letters of the first words, in lower case.
    words: Vec<u8>,
}

/// Takes bytes in as they come and gives pieces out.
#[derive(Debug)]
pub(super) struct Splitter {
    input: BytesMut,
    statement: Vec<u8>,
    within: Within,
    nesting: Nesting,
    entry: Option<Entry>,
    in_rows: bool,
    at_line_start: bool,
    is_finished: bool,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self {
            input: BytesMut::new(),
            statement: Vec::new(),
            within: Within::Nothing,
            nesting: Nesting::default(),
            entry: None,
            in_rows: false,
            at_line_start: true,
            is_finished: false,
        }
    }

    /// The buffer to read into.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// The next piece; none when more input is needed, or at the end of a finished script.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, ScriptError> {
        if self.in_rows {
            return self.next_rows();
        }
        while let Some(line) = self.take_line() {
            if let Some(piece) = self.scan(line)? {
                return Ok(Some(piece));
            }
            if self.statement.len() > STATEMENT_BYTES_MAX {
                return Err(ScriptError::TooLong);
            }
        }
        let is_blank = self.statement.iter().all(u8::is_ascii_whitespace);
        if self.is_finished && !(is_blank && self.within == Within::Nothing) {
            return Err(ScriptError::Truncated {
                what: "a statement",
            });
        }
        Ok(None)
    }

    /// A whole line with its end; at the end of the script, what is left.
    fn take_line(&mut self) -> Option<BytesMut> {
        match memchr(b'\n', &self.input) {
            Some(end) => Some(self.input.split_to(end + 1)),
            None if self.is_finished && !self.input.is_empty() => Some(self.input.split()),
            None => None,
        }
    }

    /// Takes a line into the statement. What follows a statement's end on the same line goes back to the input.
    fn scan(&mut self, line: BytesMut) -> Result<Option<Piece>, ScriptError> {
        let is_between = self.statement.is_empty() && self.within == Within::Nothing;
        if is_between {
            if line.starts_with(b"\\") {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                return Ok(Some(Piece::Meta { line }));
            }
            if line.starts_with(b"--") {
                self.read_comment(&line);
                return Ok(None);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
        }
        let end = self.scan_tokens(&line);
        let taken = end.unwrap_or(line.len());
        self.statement.extend_from_slice(&line[..taken]);
        if end.is_none() {
            return Ok(None);
        }
        let rest = line[taken..].trim_ascii_start();
        if !rest.is_empty() {
            let mut input = BytesMut::from(rest);
            input.extend_from_slice(&self.input);
            self.input = input;
        }
        self.end_statement().map(Some)
    }

    fn read_comment(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if let Some(entry) = parse_entry(line.trim_end()) {
            self.entry = Some(entry);
        }
    }

    fn end_statement(&mut self) -> Result<Piece, ScriptError> {
        self.nesting = Nesting::default();
        let text = std::mem::take(&mut self.statement);
        let text = String::from_utf8(text).map_err(|_| ScriptError::Encoding)?;
        if text.starts_with("COPY ") && text.ends_with(" FROM stdin;") {
            self.in_rows = true;
            self.at_line_start = true;
            return Ok(Piece::CopyStart { text });
        }
        Ok(Piece::Statement {
            text,
            entry: self.entry.clone(),
        })
    }

    /// The place behind the statement's semicolon, if the line has it.
    fn scan_tokens(&mut self, line: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < line.len() {
            at = match &mut self.within {
                Within::Nothing => {
                    if line[at] == b';' && self.nesting.parentheses == 0 && self.nesting.begins == 0
                    {
                        return Some(at + 1);
                    }
                    self.scan_token(line, at)
                }
                Within::Text { escapes } => {
                    let escapes = *escapes;
                    self.scan_quoted(line, at, b'\'', escapes)
                }
                Within::Name => self.scan_quoted(line, at, b'"', false),
                Within::Dollar(tag) => match memmem::find(&line[at..], tag) {
                    Some(found) => {
                        let end = at + found + tag.len();
                        self.within = Within::Nothing;
                        end
                    }
                    None => line.len(),
                },
                Within::Comment { depth } => {
                    let (end, left) = scan_comment(line, at, *depth);
                    self.within = match left {
                        0 => Within::Nothing,
                        depth => Within::Comment { depth },
                    };
                    end
                }
            };
        }
        None
    }

    /// One token outside of quotes; the place behind it.
    fn scan_token(&mut self, line: &[u8], at: usize) -> usize {
        let rest = &line[at..];
        match rest[0] {
            b'-' if rest.starts_with(b"--") => line.len(),
            b'/' if rest.starts_with(b"/*") => {
                self.within = Within::Comment { depth: 1 };
                at + 2
            }
            b'\'' => self.enter(Within::Text { escapes: false }, at),
            b'"' => self.enter(Within::Name, at),
            b'$' => match dollar_tag(rest) {
                Some(tag) => {
                    self.within = Within::Dollar(tag.to_vec());
                    at + tag.len()
                }
                None => at + 1,
            },
            b'(' => {
                self.nesting.parentheses += 1;
                at + 1
            }
            b')' => {
                self.nesting.parentheses = self.nesting.parentheses.saturating_sub(1);
                at + 1
            }
            first if is_word_start(first) => {
                let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                let word = &rest[..length];
                if word.eq_ignore_ascii_case(b"e") && rest.get(length) == Some(&b'\'') {
                    return self.enter(Within::Text { escapes: true }, at + length);
                }
                self.nesting.add(word);
                at + length
            }
            _ => at + 1,
        }
    }

    fn enter(&mut self, within: Within, at: usize) -> usize {
        self.within = within;
        at + 1
    }

    /// Goes on within quotes. A doubled quote leaves them and enters them again, which comes to the same.
    fn scan_quoted(&mut self, line: &[u8], at: usize, quote: u8, escapes: bool) -> usize {
        let mut at = at;
        while at < line.len() {
            match line[at] {
                b'\\' if escapes => at += 2,
                byte if byte == quote => {
                    let is_doubled = line.get(at + 1) == Some(&quote);
                    if !is_doubled {
                        self.within = Within::Nothing;
                        return at + 1;
                    }
                    at += 2;
                }
                _ => at += 1,
            }
        }
        // An escaped line end belongs to the line.
        at.min(line.len())
    }

    fn next_rows(&mut self) -> Result<Option<Piece>, ScriptError> {
        let found = find_end(&self.input, self.at_line_start);
        match found {
            RowsEnd::At(0) => {
                let line = self.take_line();
                debug_assert!(line.is_some(), "the end mark is a whole line");
                self.in_rows = false;
                Ok(Some(Piece::CopyEnd))
            }
            RowsEnd::At(end) | RowsEnd::NotBefore(end) if end > 0 => {
                let data = self.input.split_to(end).freeze();
                self.at_line_start = data.last() == Some(&b'\n');
                let rows = memchr_iter(b'\n', &data).count() as u64;
                Ok(Some(Piece::CopyData { data, rows }))
            }
            RowsEnd::At(_) | RowsEnd::NotBefore(_) if self.is_finished => {
                Err(ScriptError::Truncated {
                    what: "a table's rows",
                })
            }
            RowsEnd::At(_) | RowsEnd::NotBefore(_) => Ok(None),
        }
    }
}

impl Nesting {
    /// psql's rule: within CREATE [OR REPLACE] {FUNCTION | PROCEDURE}, BEGIN opens a body, CASE within one opens what
    /// END closes too.
    fn add(&mut self, word: &[u8]) {
        if self.words.len() < 4 {
            self.words.push(word[0].to_ascii_lowercase());
        }
        let makes_routine = matches!(
            self.words.as_slice(),
            [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']
        );
        if !makes_routine || self.parentheses > 0 {
            return;
        }
        let is_case = word.eq_ignore_ascii_case(b"case") && self.begins > 0;
        if is_case || word.eq_ignore_ascii_case(b"begin") {
            self.begins += 1;
        } else if word.eq_ignore_ascii_case(b"end") {
            self.begins = self.begins.saturating_sub(1);
        }
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// `$tag$` or `$$` at the beginning, which opens a dollar quote; none for a parameter or an operator.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let end = text[1..].iter().position(|byte| *byte == b'$')? + 1;
    let tag = &text[1..end];
    let is_tag = match tag.first() {
        None => true,
        Some(first) => is_word_start(*first) && tag.iter().all(|byte| is_word(*byte)),
    };
    is_tag.then_some(&text[..=end])
}

/// Goes on within a comment; the place behind what was seen, and how many levels are open there.
fn scan_comment(line: &[u8], at: usize, depth: u32) -> (usize, u32) {
    let mut depth = depth;
    let mut at = at;
    while at < line.len() && depth > 0 {
        let rest = &line[at..];
        if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    (at, depth)
}

/// Where rows end.
enum RowsEnd {
    /// The end mark begins here.
    At(usize),
    /// Up to here there are rows; what follows may become the end mark.
    NotBefore(usize),
}

/// Looks for the line `\.`. Rows cannot have it: a backslash in data is doubled.
fn find_end(input: &[u8], at_line_start: bool) -> RowsEnd {
    const MARK: &[u8] = b"\\.\n";
    let mut start = at_line_start.then_some(0);
    let mut searched = 0;
    loop {
        if let Some(at) = start {
            let rest = &input[at..];
            if rest.starts_with(MARK) {
                return RowsEnd::At(at);
            }
            if MARK.starts_with(rest) {
                return RowsEnd::NotBefore(at);
            }
        }
        // Only a backslash at a line's start is of interest, and few lines begin with one.
        match memmem::find(&input[searched..], b"\n\\") {
            Some(found) => {
                let at = searched + found + 1;
                start = Some(at);
                searched = at;
            }
            None => return RowsEnd::NotBefore(input.len()),
        }
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (_, fields) = line.split_once("Name: ")?;
    let is_head = line.starts_with("-- Name: ") || line.starts_with("-- Data for Name: ");
    let (name, fields) = fields.split_once("; Type: ")?;
    let (kind, _) = fields.split_once("; Schema: ")?;
    is_head.then(|| Entry {
        name: name.to_owned(),
        kind: kind.to_owned(),
    })
}

#[cfg(test)]
mod tests;
