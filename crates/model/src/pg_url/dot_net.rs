//! The form of .NET: `Host=db;Port=5432;Username=app;Password=p;Database=shop`, as Npgsql reads it.
//!
//! Owns its pairs in order, each with the bytes that it was written with, and its words for libpq's keywords. Leaves meaning
//! of the keywords to `pg_url`. Sources: Npgsql's documentation, "Connection String Parameters"; quoting as ADO.NET's
//! `DbConnectionStringBuilder` has it.

use super::{Address, PgUrlError, parse_port, split_host_port};

/// Npgsql's words, without blanks and in small letters, for libpq's keywords. The first of each is written where none stood.
const WORDS: [(&str, &str, &[&str]); 8] = [
    ("host", "Host", &["host", "server"]),
    ("port", "Port", &["port"]),
    ("user", "Username", &["username", "userid", "uid", "user"]),
    ("password", "Password", &["password", "pwd", "psw"]),
    ("dbname", "Database", &["database", "db"]),
    ("sslmode", "SSL Mode", &["sslmode"]),
    ("sslrootcert", "Root Certificate", &["rootcertificate"]),
    ("channel_binding", "Channel Binding", &["channelbinding"]),
];

/// Npgsql's words for values of `sslmode`, in libpq's.
const SSL_MODES: [(&str, &str); 6] = [
    ("disable", "Disable"),
    ("allow", "Allow"),
    ("prefer", "Prefer"),
    ("require", "Require"),
    ("verify-ca", "VerifyCA"),
    ("verify-full", "VerifyFull"),
];

/// One `key=value`, or what stands between two `;` and is none.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    /// As it was written, without the `;`.
    text: String,
    /// libpq's keyword, or the key in small letters without blanks; empty for what is no pair.
    key: String,
    value: String,
}

/// The pairs in the order of the text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct DotNet(Vec<Pair>);

fn keyword(written: &str) -> String {
    let bare: String = written
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let known = WORDS
        .iter()
        .find(|(_, _, words)| words.contains(&bare.as_str()));
    known.map_or(bare, |(keyword, _, _)| (*keyword).to_owned())
}

/// Where the `;` of `text` are that end a pair: outside of quotes, which only a value begins with.
fn split_pairs(text: &str) -> Result<Vec<&str>, PgUrlError> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quote, mut is_at_value) = (None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) if is_at_value => quote = Some(c),
            (';', None) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
                is_at_value = false;
            }
            ('=', None) => is_at_value = true,
            (c, None) => is_at_value &= c.is_whitespace(),
        }
    }
    if quote.is_some() {
        let key = text[begin..].split('=').next().unwrap_or_default();
        return Err(PgUrlError::Quote(key.trim().to_owned()));
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

/// Whether the value that `text` begins with ends at a `;` that another pair follows, where one of libpq's ends at a blank.
fn ends_at_semicolon(text: &str) -> bool {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c));
    let behind = match quote {
        Some(quote) => text[1..].split_once(quote).map(|(_, behind)| behind),
        None => text.find(';').map(|at| &text[at..]),
    };
    let value = text.split(';').next().unwrap_or_default();
    let holds_another = value
        .split_whitespace()
        .skip(1)
        .any(|word| word.contains('='));
    let next = behind.and_then(|behind| behind.trim_start().strip_prefix(';'));
    next.is_some_and(|next| next.contains('=')) && (quote.is_some() || !holds_another)
}

fn read_pair(text: &str) -> Pair {
    let (key, value) = text.split_once('=').unwrap_or_default();
    let value = value.trim();
    let quoted = ['\'', '"'].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
    });
    let key = keyword(key);
    let mut value = quoted.unwrap_or_else(|| value.to_owned());
    if key == "sslmode" {
        let small = value.to_ascii_lowercase().replace('-', "");
        let mode = SSL_MODES
            .iter()
            .find(|(_, word)| word.eq_ignore_ascii_case(&small));
        value = mode.map_or(value, |(mode, _)| (*mode).to_owned());
    }
    Pair {
        text: text.to_owned(),
        key,
        value,
    }
}

/// A value as a pair has it: in quotes where it would end early or lose its blanks.
fn quote(value: &str) -> String {
    let is_plain = !value.contains([';', '\'', '"', '=']) && value.trim() == value;
    if is_plain {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('"', "\"\""))
    }
}

impl DotNet {
    /// Splits `text`; none where it is not of this form. A `key=value` string of libpq's, whose values end at blanks, is not.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, PgUrlError> {
        let (key, value) = text.split_once('=').unwrap_or_default();
        let is_key = key.chars().all(|c| c.is_ascii_alphabetic() || c == ' ');
        // A password of libpq's may look so by itself.
        let may_be = is_key && !key.trim().is_empty() && key != "password";
        if !may_be || !ends_at_semicolon(value.trim_start()) {
            return Ok(None);
        }
        let pairs = split_pairs(text)?.into_iter().map(read_pair).collect();
        let pairs = Self(pairs);
        let names_one = WORDS
            .iter()
            .any(|(keyword, _, _)| pairs.get(keyword).is_some());
        Ok(names_one.then_some(pairs))
    }

    /// As ADO.NET has it the last of several counts.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        let found = pairs.find(|pair| pair.key == key && !key.is_empty());
        found.map(|pair| pair.value.as_str())
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.0.iter().filter(|pair| !pair.key.is_empty());
        pairs
            .map(|pair| (pair.key.clone(), pair.value.clone()))
            .collect()
    }

    pub(super) fn names_host(&self) -> bool {
        self.get("host").is_some_and(|hosts| !hosts.is_empty())
    }

    pub(super) fn names_port(&self) -> bool {
        let hosts = self.get("host").unwrap_or_default();
        self.get("port").is_some_and(|port| !port.is_empty())
            || hosts.split(',').any(|host| split_host_port(host).is_some())
    }

    /// Each host may have a port of its own; `Port` is that of the others.
    pub(super) fn addresses(&self) -> Result<Vec<Address>, PgUrlError> {
        let common = parse_port(self.get("port").unwrap_or_default())?;
        let hosts = self.get("host").unwrap_or_default();
        let read = |host: &str| {
            let (host, port) = match split_host_port(host.trim()) {
                Some((host, port)) => (host, parse_port(port)?),
                None => (host.trim(), common),
            };
            let host = if host.is_empty() { "localhost" } else { host };
            Ok(Address {
                host: host.to_owned(),
                port,
            })
        };
        hosts.split(',').map(read).collect()
    }

    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        let mut pairs = self.clone();
        let word = WORDS.iter().find(|(keyword, _, _)| *keyword == key);
        let mode = SSL_MODES.iter().find(|(mode, _)| *mode == value);
        let written = match mode {
            Some((_, word)) if key == "sslmode" => (*word).to_owned(),
            Some(_) | None => quote(value),
        };
        let place = pairs.0.iter().rposition(|pair| pair.key == key);
        let own = place.and_then(|place| pairs.0[place].text.split_once('='));
        let name = own.map_or_else(
            || word.map_or(key, |(_, word, _)| word).to_owned(),
            |(name, _)| name.to_owned(),
        );
        let pair = Pair {
            text: format!("{name}={written}"),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        // A text may end with `;`, which a pair more goes before.
        let end = pairs.0.iter().rposition(|pair| !pair.key.is_empty());
        match place {
            Some(place) => pairs.0[place] = pair,
            None => pairs.0.insert(end.map_or(0, |end| end + 1), pair),
        }
        pairs
    }

    pub(super) fn without(&self, key: &str) -> Self {
        let mut pairs = self.clone();
        pairs.0.retain(|pair| pair.key != key);
        pairs
    }

    pub(super) fn with_address(&self, address: &Address) -> Self {
        self.with("host", &address.host)
            .with("port", &address.port.to_string())
    }

    /// With `***` in place of whatever may be secret.
    pub(super) fn redacted(&self) -> Self {
        let mut pairs = self.clone();
        for pair in &mut pairs.0 {
            if pair.key.contains("password") || pair.key.contains("secret") {
                let name = pair.text.split('=').next().unwrap_or_default().to_owned();
                pair.text = format!("{name}=***");
                "***".clone_into(&mut pair.value);
            }
        }
        pairs
    }

    pub(super) fn to_text(&self) -> String {
        let pairs: Vec<&str> = self.0.iter().map(|pair| pair.text.as_str()).collect();
        pairs.join(";")
    }
}
