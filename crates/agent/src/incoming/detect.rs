//! Whether a connection speaks HTTP, from its first bytes.

use std::time::Duration;

/// For how long a silent client is waited for before its connection goes to the target: in protocols where the server
/// speaks first, that is how long it takes to find out.
pub(super) const DETECT_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of a first line that are waited for; a longer one is left to the target.
const LINE_MAX: usize = 16 * 1024;

/// What every HTTP/2 connection without TLS begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Other,
    /// Too few to tell.
    Unclear,
}

/// Looks at the first bytes of a connection.
pub(super) fn detect(bytes: &[u8]) -> Protocol {
    if bytes.len() >= PREFACE.len() && bytes.starts_with(PREFACE) {
        return Protocol::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Protocol::Unclear;
    }
    // Clients may send empty lines before a request (RFC 9112 section 2.2).
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let line = &bytes[start..];
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    match line.get(method) {
        None if bytes.len() < LINE_MAX => return Protocol::Unclear,
        Some(b' ') if method > 0 => {}
        Some(_) | None => return Protocol::Other,
    }
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = line[..end].trim_ascii_end();
            let http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
            if http {
                Protocol::Http1
            } else {
                Protocol::Other
            }
        }
        None if bytes.len() < LINE_MAX && is_text(line) => Protocol::Unclear,
        None => Protocol::Other,
    }
}

/// Characters of a method (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether it may stand in a first line at all.
fn is_text(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte >= b' ' || *byte == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of the whole, after what was told of every shorter beginning.
    fn told(bytes: &[u8]) -> Protocol {
        // Of long ones, a few dozen beginnings will do.
        let step = bytes.len() / 50 + 1;
        let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
        let first = ends.map(|end| detect(&bytes[..end]));
        let mut clear = first.skip_while(|protocol| *protocol == Protocol::Unclear);
        clear.next().unwrap_or(Protocol::Unclear)
    }

    #[test]
    fn requests_are_known_however_they_arrive() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /x?y=z HTTP/1.0\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\n",
            "PROPFIND /a HTTP/1.1\r\n",
            "PRINT / HTTP/1.1\r\n",
        ] {
            assert_eq!(told(request.as_bytes()), Protocol::Http1, "{request:?}");
        }
        assert_eq!(told(PREFACE), Protocol::Http2);
    }

    #[test]
    fn other_protocols_are_left_alone() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"MAIL FROM:<a>\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET / SPDY/3\r\n",
            b"{\"jsonrpc\": 1}",
            b"GET \x00\x01",
        ] {
            assert_eq!(told(bytes), Protocol::Other, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_left_alone_in_the_end() {
        let long = [b"GET /".to_vec(), vec![b'x'; LINE_MAX]].concat();
        assert_eq!(told(&long), Protocol::Other);
        assert_eq!(told(&vec![b'X'; LINE_MAX]), Protocol::Other);
        assert_eq!(told(b"GET /not-all"), Protocol::Unclear);
    }
}
