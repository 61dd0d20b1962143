//! A question to the target's resolver and its answer.
//!
//! Names stand in presentation form (RFC 1035 section 5.1, with `\DDD` escapes), records with their data as in a DNS
//! message without compression (RFC 3597), so that any type passes through unread.

use bytes::{BufMut, Bytes, BytesMut};

use super::HOST_NAME_MAX;
use crate::codec::{
    DecodeError, Wire, put_bytes, put_count, take_bytes, take_count, take_text, take_u8, take_u16,
    take_u32,
};

/// Records of one answer. More would not fit a DNS message of 64 KiB in practice.
pub const RECORDS_MAX: usize = 1024;

/// Bytes of a record's data, as in a DNS message.
pub const RECORD_DATA_MAX: usize = 65_535;

/// A question by name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuery {
    /// The name. With a dot at its end it is taken as it is; without one the target's `search` and `ndots` apply, and
    /// the answer leads from the asked name to the found one by a CNAME.
    pub name: String,
    /// The record type, as IANA numbers them: 1 is A, 28 is AAAA.
    pub kind: u16,
}

/// Records, none if the name exists without one of that type; or why there is no answer.
pub type DnsAnswer = Result<Vec<DnsRecord>, DnsFailure>;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// Whose record it is, absolute.
    pub name: String,
    /// Its type.
    pub kind: u16,
    /// For how long it may be kept.
    pub ttl_seconds: u32,
    /// Its data, uncompressed.
    pub data: Bytes,
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The servers failed (SERVFAIL), or cannot be reached.
    ServerFailed,
    /// The servers refuse to answer (REFUSED).
    Refused,
    /// No server answered in time.
    TimedOut,
    /// The name cannot stand in a question.
    BadName,
}

impl Wire for DnsQuery {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.name.as_bytes());
        out.put_u16(self.kind);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            name: take_text(input, HOST_NAME_MAX, "name")?,
            kind: take_u16(input, "record type")?,
        })
    }
}

impl Wire for DnsRecord {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.name.as_bytes());
        out.put_u16(self.kind);
        out.put_u32(self.ttl_seconds);
        put_bytes(out, &self.data);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            name: take_text(input, HOST_NAME_MAX, "name")?,
            kind: take_u16(input, "record type")?,
            ttl_seconds: take_u32(input, "time to live")?,
            data: take_bytes(input, RECORD_DATA_MAX, "record data")?,
        })
    }
}

impl Wire for Vec<DnsRecord> {
    fn put(&self, out: &mut BytesMut) {
        put_count(out, self.len());
        for record in self {
            record.put(out);
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        let count = take_count(input, RECORDS_MAX, "records")?;
        (0..count).map(|_| DnsRecord::take(input)).collect()
    }
}

impl Wire for DnsFailure {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::NoSuchName => 1,
            Self::ServerFailed => 2,
            Self::Refused => 3,
            Self::TimedOut => 4,
            Self::BadName => 5,
        });
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "DNS failure")? {
            1 => Ok(Self::NoSuchName),
            2 => Ok(Self::ServerFailed),
            3 => Ok(Self::Refused),
            4 => Ok(Self::TimedOut),
            5 => Ok(Self::BadName),
            number => Err(DecodeError::Unknown {
                what: "DNS failure",
                number: number.into(),
            }),
        }
    }
}
