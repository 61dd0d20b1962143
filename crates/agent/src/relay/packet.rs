//! The two ends of a TCP connection, as they stand in its first packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IPv4 and IPv6 headers (RFC 791, RFC 8200): where their fields are.
const V4_HEADER_MIN: usize = 20;
const V6_HEADER: usize = 40;

/// TCP's protocol number.
const TCP: u8 = 6;

/// Who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    /// The client, which is the target or one of its children.
    pub(super) source: SocketAddr,
    /// What it wants to reach.
    pub(super) destination: SocketAddr,
}

impl Ends {
    /// Reads them; none where the packet is not TCP's, or is cut off.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, rest) = match packet.first()? >> 4 {
            4 => {
                let length = usize::from(packet[0] & 0xf) * 4;
                let header = packet.get(..length)?;
                if length < V4_HEADER_MIN || header[9] != TCP {
                    return None;
                }
                let at = |from: usize| -> Option<IpAddr> {
                    let bytes: [u8; 4] = header.get(from..from + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                (at(12)?, at(16)?, packet.get(length..)?)
            }
            6 => {
                let header = packet.get(..V6_HEADER)?;
                // The first packet of a connection has no header between: whoever sends one is let through as he is.
                if header[6] != TCP {
                    return None;
                }
                let at = |from: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = header.get(from..from + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                (at(8)?, at(24)?, packet.get(V6_HEADER..)?)
            }
            _ => return None,
        };
        let port = |from: usize| -> Option<u16> {
            let bytes: [u8; 2] = rest.get(from..from + 2)?.try_into().ok()?;
            Some(u16::from_be_bytes(bytes))
        };
        Some(Self {
            source: SocketAddr::new(source, port(0)?),
            destination: SocketAddr::new(destination, port(2)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 4 with one option, ports, and nothing else.
    fn version_4() -> Vec<u8> {
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet[9] = TCP;
        packet[12..16].copy_from_slice(&[198, 18, 0, 1]);
        packet[16..20].copy_from_slice(&[127, 0, 0, 1]);
        packet.extend(40_000_u16.to_be_bytes());
        packet.extend(5432_u16.to_be_bytes());
        packet
    }

    #[test]
    fn both_versions_are_read() {
        let ends = Ends::parse(&version_4()).unwrap();
        assert_eq!(ends.source.to_string(), "198.18.0.1:40000");
        assert_eq!(ends.destination.to_string(), "127.0.0.1:5432");
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = TCP;
        packet[23] = 1;
        packet[39] = 2;
        packet.extend([0, 7, 0, 8]);
        let ends = Ends::parse(&packet).unwrap();
        assert_eq!(ends.source.to_string(), "[::1]:7");
        assert_eq!(ends.destination.to_string(), "[::2]:8");
    }

    #[test]
    fn what_is_cut_off_or_of_another_protocol_is_none() {
        let whole = version_4();
        for length in 0..whole.len() {
            assert_eq!(Ends::parse(&whole[..length]), None, "{length}");
        }
        let mut udp = version_4();
        udp[9] = 17;
        assert_eq!(Ends::parse(&udp), None);
        let mut short_header = version_4();
        short_header[0] = 0x41;
        assert_eq!(Ends::parse(&short_header), None);
    }
}
