//! Questions of DNS read, and answers written (RFC 1035, section 4). Pure.
//!
//! Records pass through with their data as the agent tells it, so that a type needs no code here; names stand
//! uncompressed, which every client reads.

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::serialize::binary::{
    BinDecodable, BinEncodable, BinEncoder, NameEncoding,
};
use wire::{DnsAnswer, DnsFailure, DnsRecord};

/// Record types by IANA's numbers.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;

/// The class of the Internet.
const IN: u16 = 1;

/// Bytes of the header.
const HEADER_BYTES: usize = 12;

/// Bytes of the longest name on the wire.
const NAME_BYTES_MAX: usize = 255;

/// Bytes of an answer by UDP where the client does not say that it takes more (RFC 1035, section 4.2.1).
const UDP_BYTES_MIN: u16 = 512;

/// Bytes of an answer by UDP that are never exceeded: loopback carries them in one piece.
const UDP_BYTES_MAX: u16 = 16 * 1024;

/// A question by name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    id: [u8; 2],
    recursion_desired: bool,
    /// The section as it came: clients compare even the case of its letters.
    section: Vec<u8>,
    name: String,
    /// The record type.
    pub(super) kind: u16,
    /// Bytes that an answer by UDP may have.
    pub(super) udp_bytes_max: usize,
}

impl Question {
    /// Reads a standard query of one question; none for anything else.
    pub(super) fn parse(query: &[u8]) -> Option<Self> {
        let header = query.get(..HEADER_BYTES)?;
        let is_query = header[2] & 0b1111_1000 == 0;
        let counts: Vec<u16> = header[4..]
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        if !is_query || counts[0] != 1 || counts[1] != 0 || counts[2] != 0 {
            return None;
        }
        let body = &query[HEADER_BYTES..];
        let length = name_length(body)?;
        let fixed = body.get(length..length + 4)?;
        if u16::from_be_bytes([fixed[2], fixed[3]]) != IN {
            return None;
        }
        let name = Name::from_bytes(&body[..length]).ok()?.to_ascii();
        Some(Self {
            id: [header[0], header[1]],
            recursion_desired: header[2] & 1 == 1,
            section: body[..length + 4].to_vec(),
            name: name.trim_end_matches('.').to_owned(),
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            udp_bytes_max: udp_bytes_max(&body[length + 4..], counts[3]).into(),
        })
    }

    /// The name, without a dot at its end.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The header of an answer with `records` records, and the question again.
    fn begin(&self, code: u8, is_truncated: bool, records: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(512);
        message.extend_from_slice(&self.id);
        // A response, not authoritative.
        let flags = 0x80 | u8::from(is_truncated) << 1 | u8::from(self.recursion_desired);
        // Recursion is available.
        message.extend_from_slice(&[flags, 0x80 | code, 0, 1]);
        message.extend_from_slice(&records.to_be_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&self.section);
        message
    }
}

/// Bytes of the name that `bytes` begin with. A question has nothing to point back at.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
        if length > 63 || at > NAME_BYTES_MAX {
            return None;
        }
    }
}

/// What an OPT record among the additional ones says (RFC 6891, section 6.2.3).
fn udp_bytes_max(additional: &[u8], count: u16) -> u16 {
    // The root's name, the type, and in place of the class the size.
    match additional {
        [0, high, low, size @ ..] if count > 0 && [*high, *low] == OPT.to_be_bytes() => {
            let size = size
                .get(..2)
                .map_or(0, |s| u16::from_be_bytes([s[0], s[1]]));
            size.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX)
        }
        _ => UDP_BYTES_MIN,
    }
}

/// The answer of at most `limit` bytes; one that is longer says so, and the client asks by TCP.
pub(super) fn answer(question: &Question, found: &DnsAnswer, limit: usize) -> Vec<u8> {
    let records = match found {
        Ok(records) => records,
        Err(failure) => return refusal(question, *failure),
    };
    let count = u16::try_from(records.len()).expect("the protocol bounds the records");
    let mut message = question.begin(0, false, count);
    for record in records {
        if put_record(&mut message, record).is_none() {
            return refusal(question, DnsFailure::ServerFailed);
        }
    }
    if message.len() > limit {
        return question.begin(0, true, 0);
    }
    message
}

/// The answer that there is none.
pub(super) fn refusal(question: &Question, failure: DnsFailure) -> Vec<u8> {
    // RFC 1035, section 4.1.1.
    let code = match failure {
        DnsFailure::BadName => 1,
        DnsFailure::ServerFailed | DnsFailure::TimedOut => 2,
        DnsFailure::NoSuchName => 3,
        DnsFailure::Refused => 5,
    };
    question.begin(code, false, 0)
}

fn put_record(message: &mut Vec<u8>, record: &DnsRecord) -> Option<()> {
    let name = Name::from_ascii(&record.name).ok()?;
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    name.emit(&mut encoder).ok()?;
    message.extend_from_slice(&bytes);
    message.extend_from_slice(&record.kind.to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    message.extend_from_slice(&record.ttl_seconds.to_be_bytes());
    let length = u16::try_from(record.data.len()).ok()?;
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&record.data);
    Some(())
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{Message, ResponseCode};

    use super::*;

    fn query(name: &[u8], kind: u16, size: Option<u16>) -> Vec<u8> {
        let mut query = vec![
            0xab,
            0xcd,
            1,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            u8::from(size.is_some()),
        ];
        query.extend_from_slice(name);
        query.extend_from_slice(&kind.to_be_bytes());
        query.extend_from_slice(&IN.to_be_bytes());
        if let Some(size) = size {
            query.extend_from_slice(&[0, 0, 41]);
            query.extend_from_slice(&size.to_be_bytes());
            query.extend_from_slice(&[0; 6]);
        }
        query
    }

    fn address(name: &str, last: u8) -> DnsRecord {
        DnsRecord {
            name: name.to_owned(),
            kind: A,
            ttl_seconds: 7,
            data: vec![192, 0, 2, last].into(),
        }
    }

    #[test]
    fn a_question_is_answered_in_the_letters_that_it_was_asked_in() {
        let asked = query(b"\x02Db\x04shop\0", A, None);
        let question = Question::parse(&asked).unwrap();
        assert_eq!((question.name(), question.kind), ("Db.shop", A));
        let told = answer(&question, &Ok(vec![address("db.shop.", 9)]), 512);
        assert_eq!(told[..2], [0xab, 0xcd]);
        assert_eq!(told[12..12 + question.section.len()], question.section);
        let message = Message::from_vec(&told).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        let ips: Vec<_> = message
            .answers
            .iter()
            .filter_map(|r| r.data.ip_addr())
            .collect();
        assert_eq!(ips, ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(message.answers[0].ttl, 7);
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let records: DnsAnswer = Ok((0..100).map(|last| address("db.", last)).collect());
        for (size, fits) in [(None, false), (Some(100), false), (Some(4096), true)] {
            let question = Question::parse(&query(b"\x02db\0", A, size)).unwrap();
            let told = answer(&question, &records, question.udp_bytes_max);
            let message = Message::from_vec(&told).unwrap();
            assert_eq!(message.metadata.truncation, !fits, "{size:?}");
            assert_eq!(message.answers.len(), if fits { 100 } else { 0 });
        }
    }

    #[test]
    fn failures_have_their_codes() {
        let question = Question::parse(&query(b"\x02db\0", A, None)).unwrap();
        for (failure, code) in [
            (DnsFailure::NoSuchName, ResponseCode::NXDomain),
            (DnsFailure::TimedOut, ResponseCode::ServFail),
            (DnsFailure::Refused, ResponseCode::Refused),
        ] {
            let told = answer(&question, &Err(failure), 512);
            let message = Message::from_vec(&told).unwrap();
            assert_eq!(message.metadata.response_code, code);
        }
    }

    #[test]
    fn what_is_no_plain_question_is_none() {
        let whole = query(b"\x02db\0", A, None);
        for length in 0..whole.len() {
            assert_eq!(Question::parse(&whole[..length]), None, "{length}");
        }
        for (at, value) in [(2, 0x81), (2, 0x28), (5, 2), (7, 1), (12, 0xc0), (19, 3)] {
            let mut other = whole.clone();
            other[at] = value;
            assert_eq!(Question::parse(&other), None, "{at}");
        }
    }
}
