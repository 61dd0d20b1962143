//! The `key=value` form: `host=db port=5432 user='a b'`, quoting as libpq reads it (section 34.1.1.1).
//!
//! Owns its pairs in order. Leaves meaning of keys to `pg_url`.

use std::iter::Peekable;
use std::str::Chars;

use super::{Address, PgUrlError, pair_addresses};

/// Keys with their unquoted values, in the order of the text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyValue(Vec<(String, String)>);

/// libpq's keywords for where, who and what (section 34.1.2): a connection string has one at least.
const PLACES: [&str; 7] = [
    "host", "hostaddr", "port", "dbname", "user", "password", "service",
];

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

fn read_value(key: &str, chars: &mut Peekable<Chars<'_>>) -> Result<String, PgUrlError> {
    let quoted = chars.next_if_eq(&'\'').is_some();
    let unclosed = || PgUrlError::Quote(key.to_owned());
    let mut value = String::new();
    while let Some(c) = chars.next_if(|c| quoted || !c.is_whitespace()) {
        match c {
            '\\' => value.push(chars.next().ok_or_else(unclosed)?),
            '\'' if quoted => return Ok(value),
            other => value.push(other),
        }
    }
    if quoted { Err(unclosed()) } else { Ok(value) }
}

impl KeyValue {
    pub(super) fn parse(text: &str) -> Result<Self, PgUrlError> {
        let mut chars = text.chars().peekable();
        let mut pairs = Vec::new();
        loop {
            skip_spaces(&mut chars);
            if chars.peek().is_none() {
                break;
            }
            let mut key = String::new();
            while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                key.push(c);
            }
            skip_spaces(&mut chars);
            if key.is_empty() || chars.next() != Some('=') {
                return Err(PgUrlError::Form);
            }
            skip_spaces(&mut chars);
            let value = read_value(&key, &mut chars)?;
            pairs.push((key, value));
        }
        // Drivers have keywords of their own, but none goes without each of these.
        if !pairs.iter().any(|(key, _)| PLACES.contains(&key.as_str())) {
            return Err(PgUrlError::Form);
        }
        Ok(Self(pairs))
    }

    pub(super) fn names_host(&self) -> bool {
        let mut named = ["host", "hostaddr"]
            .into_iter()
            .filter_map(|key| self.get(key));
        named.any(|hosts| !hosts.is_empty())
    }

    /// With `***` in place of whatever may be secret.
    pub(super) fn redacted(&self) -> Self {
        let mut pairs = self.clone();
        for (key, value) in &mut pairs.0 {
            if key.contains("password") || key.contains("secret") {
                "***".clone_into(value);
            }
        }
        pairs
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    pub(super) fn addresses(&self) -> Result<Vec<Address>, PgUrlError> {
        let hosts = self
            .get("host")
            .or_else(|| self.get("hostaddr"))
            .unwrap_or_default();
        pair_addresses(hosts, self.get("port").unwrap_or_default())
    }

    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        let mut pairs = self.clone();
        match pairs.0.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, old)) => value.clone_into(old),
            None => pairs.0.push((key.to_owned(), value.to_owned())),
        }
        pairs
    }

    pub(super) fn without(&self, key: &str) -> Self {
        let mut pairs = self.clone();
        pairs.0.retain(|(name, _)| name != key);
        pairs
    }

    pub(super) fn with_address(&self, address: &Address) -> Self {
        let mut pairs = self
            .with("host", &address.host)
            .with("port", &address.port.to_string());
        pairs.0.retain(|(key, _)| key != "hostaddr");
        pairs
    }

    pub(super) fn to_text(&self) -> String {
        let quote = |value: &str| {
            let plain = !value.is_empty()
                && !value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\');
            if plain {
                value.to_owned()
            } else {
                format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
            }
        };
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={}", quote(value)))
            .collect();
        pairs.join(" ")
    }
}
