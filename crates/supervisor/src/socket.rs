//! Sockets of the session, by a copy of their descriptor: what they are, and their addresses as the kernel writes them.
//!
//! Owns `sockaddr` in both directions and the calls that the standard library has no word for. Acts on the session's
//! own sockets: what is connected or bound here is connected or bound there, with every copy, option and registration.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::raw::c_int;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Bytes of the largest address (`struct sockaddr_storage`); the kernel takes none that is longer.
pub(crate) const ADDRESS_BYTES_MAX: usize = 128;

/// Bytes of `struct sockaddr_in` and of `struct sockaddr_in6`, and of the shortest of the latter that the kernel takes
/// (`SIN6_LEN_RFC2133`).
const IPV4_BYTES: usize = 16;
const IPV6_BYTES: usize = 28;
const IPV6_BYTES_MIN: usize = 24;

/// The state of a TCP socket that is neither connected nor listens (linux/tcp_states.h).
const TCP_CLOSE: u8 = 7;

/// The state of one whose connect is not answered.
const TCP_SYN_SENT: u8 = 2;

/// What a program names in connect(2) or bind(2), as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The path of a Unix socket, as written.
    Path(Vec<u8>),
    /// The name of a Unix socket that has no path (unix(7), "abstract").
    Abstract(Vec<u8>),
    /// Any other family, a Unix socket without a name, or bytes that are no address: the kernel's own to judge.
    Other,
}

impl Name {
    /// Reads a `sockaddr`.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let Some(family) = bytes.get(..2) else {
            return Self::Other;
        };
        let family = u16::from_ne_bytes([family[0], family[1]]);
        match c_int::from(family) {
            libc::AF_INET if bytes.len() >= IPV4_BYTES => {
                let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Self::Ip(SocketAddrV4::new(ip, port(bytes)).into())
            }
            libc::AF_INET6 if bytes.len() >= IPV6_BYTES_MIN => Self::Ip(parse_v6(bytes)),
            libc::AF_UNIX => match &bytes[2..] {
                [] | [0] => Self::Other,
                [0, name @ ..] => Self::Abstract(name.to_vec()),
                path => {
                    let end = path.iter().position(|byte| *byte == 0);
                    Self::Path(path[..end.unwrap_or(path.len())].to_vec())
                }
            },
            _ => Self::Other,
        }
    }
}

fn parse_v6(bytes: &[u8]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[8..24]);
    let flow = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let scope = bytes
        .get(24..28)
        .map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    SocketAddrV6::new(Ipv6Addr::from(ip), port(bytes), flow, scope).into()
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[2], bytes[3]])
}

/// `address` as the kernel writes it.
pub(crate) fn encode(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(IPV6_BYTES);
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let family = u16::try_from(family).expect("families are small");
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.resize(IPV4_BYTES, 0);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&v6.flowinfo().to_ne_bytes());
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// The same address in one way of writing: an IPv4-mapped IPv6 address is the IPv4 one, the unspecified address is the
/// loopback one, to which connect(2) takes it, and none says by which interface.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// `address` in its canonical form, and by the interface that it names where it means nothing without one.
pub(crate) fn dialled(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => canonical(address),
    }
}

/// `address` for a socket of `family`: IPv4-mapped where the socket is of IPv6. None where the family cannot reach it.
pub(crate) fn for_family(address: SocketAddr, family: AddressFamily) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(v4) if family == AddressFamily::INET6 => {
            let ip = v4.ip().to_ipv6_mapped();
            Some(SocketAddrV6::new(ip, v4.port(), 0, 0).into())
        }
        SocketAddr::V4(_) if family == AddressFamily::INET => Some(address),
        SocketAddr::V6(_) if family == AddressFamily::INET6 => Some(address),
        SocketAddr::V6(v6) if family == AddressFamily::INET => {
            let ip = v6.ip().to_ipv4_mapped()?;
            Some(SocketAddrV4::new(ip, v6.port()).into())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    }
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    /// Its length, which with MSG_TRUNC is more than its bytes.
    pub(crate) length: usize,
    /// Who sent it, as the kernel writes it.
    pub(crate) name: Vec<u8>,
    pub(crate) control: Vec<u8>,
    pub(crate) flags: c_int,
}

/// One socket of the session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Socket<'a>(pub(crate) BorrowedFd<'a>);

impl Socket<'_> {
    /// Its family.
    pub(crate) fn family(self) -> io::Result<AddressFamily> {
        Ok(sockopt::socket_domain(self.0)?)
    }

    /// Whether it carries a stream of TCP: its type is a stream, and its protocol TCP or MPTCP.
    pub(crate) fn is_tcp(self) -> io::Result<bool> {
        if sockopt::socket_type(self.0)? != SocketType::STREAM {
            return Ok(false);
        }
        Ok(matches!(
            self.protocol()?,
            Some(libc::IPPROTO_TCP | libc::IPPROTO_MPTCP)
        ))
    }

    fn protocol(self) -> io::Result<Option<c_int>> {
        let protocol = sockopt::socket_protocol(self.0)?;
        Ok(protocol.map(|protocol| protocol.as_raw().get().cast_signed()))
    }

    /// Whether it is one of MPTCP, as listeners of Go's are (net.ListenConfig, since Go 1.24).
    pub(crate) fn is_multipath(self) -> io::Result<bool> {
        Ok(self.protocol()? == Some(libc::IPPROTO_MPTCP))
    }

    /// Whether it carries datagrams of UDP.
    pub(crate) fn is_udp(self) -> io::Result<bool> {
        if sockopt::socket_type(self.0)? != SocketType::DGRAM {
            return Ok(false);
        }
        Ok(self.protocol()? == Some(libc::IPPROTO_UDP))
    }

    /// How long a receive may wait; none: for ever.
    pub(crate) fn receive_timeout(self) -> io::Result<Option<Duration>> {
        Ok(sockopt::socket_timeout(self.0, sockopt::Timeout::Recv)?)
    }

    /// How long a connect may wait; none: for ever.
    pub(crate) fn send_timeout(self) -> io::Result<Option<Duration>> {
        Ok(sockopt::socket_timeout(self.0, sockopt::Timeout::Send)?)
    }

    /// Receives one message of at most `length` bytes and `control` bytes of ancillary data.
    pub(crate) fn receive(
        self,
        length: usize,
        control: usize,
        flags: c_int,
    ) -> io::Result<Datagram> {
        let (mut bytes, mut control) = (vec![0_u8; length], vec![0_u8; control]);
        let mut name = [0_u8; ADDRESS_BYTES_MAX];
        let mut piece = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        #[expect(
            unsafe_code,
            reason = "ancillary data that passes through unread is in no crate"
        )]
        // SAFETY: zero is a valid value of every field of the header; each pointer of it then points to as many bytes of
        // ours as its length says, which outlive the call.
        let (received, header) = unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = ADDRESS_BYTES_MAX as libc::socklen_t;
            header.msg_iov = &raw mut piece;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = control.len() as _;
            let received = libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags);
            (received, header)
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        bytes.truncate(received);
        #[allow(
            clippy::unnecessary_cast,
            clippy::useless_conversion,
            reason = "its width is the C library's choice"
        )]
        control.truncate(header.msg_controllen as usize);
        Ok(Datagram {
            bytes,
            length: received,
            name: name[..(header.msg_namelen as usize).min(ADDRESS_BYTES_MAX)].to_vec(),
            control,
            flags: header.msg_flags,
        })
    }

    /// Whether nothing is received any more, since that half is shut down (poll(2), `POLLRDHUP`).
    pub(crate) fn is_shut_for_receiving(self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.0, PollFlags::RDHUP)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::RDHUP)
    }

    /// Whether it carries a stream.
    pub(crate) fn is_stream(self) -> io::Result<bool> {
        Ok(sockopt::socket_type(self.0)? == SocketType::STREAM)
    }

    /// Tells it from every other socket of this machine's life.
    pub(crate) fn cookie(self) -> io::Result<u64> {
        Ok(sockopt::socket_cookie(self.0)?)
    }

    /// Tells its network namespace from every other (socket(7), SO_NETNS_COOKIE; Linux 5.14).
    pub(crate) fn network(self) -> io::Result<u64> {
        let mut cookie = [0; size_of::<u64>()];
        self.read_option(libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
        Ok(u64::from_ne_bytes(cookie))
    }

    /// Whether it is a TCP socket that is neither connected nor on its way to be, nor listens.
    pub(crate) fn is_idle(self) -> io::Result<bool> {
        Ok(self.state()? == TCP_CLOSE)
    }

    /// Whether its connect is not answered.
    pub(crate) fn is_on_its_way(self) -> bool {
        self.state().is_ok_and(|state| state == TCP_SYN_SENT)
    }

    fn state(self) -> io::Result<u8> {
        // tcpi_state is the first byte of struct tcp_info (linux/tcp.h).
        let mut state = [0];
        self.read_option(libc::IPPROTO_TCP, libc::TCP_INFO, &mut state)?;
        Ok(state[0])
    }

    /// The error that it has for whoever asks first, which is then told (socket(7), SO_ERROR).
    pub(crate) fn take_error(self) -> Option<i32> {
        let error = sockopt::socket_error(self.0).ok()?;
        error.err().map(rustix::io::Errno::raw_os_error)
    }

    /// Fills `into` with the beginning of an option.
    fn read_option(self, level: c_int, name: c_int, into: &mut [u8]) -> io::Result<()> {
        let mut length = libc::socklen_t::try_from(into.len()).expect("options are small");
        #[expect(unsafe_code, reason = "these options are in no crate")]
        // SAFETY: the kernel writes at most `length` bytes to `into`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                into.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Whether calls on it return rather than wait.
    pub(crate) fn is_nonblocking(self) -> io::Result<bool> {
        Ok(rustix::fs::fcntl_getfl(self.0)?.contains(OFlags::NONBLOCK))
    }

    /// Connects it; a socket that does not block says EINPROGRESS.
    pub(crate) fn connect(self, address: SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(self.0, &address)?)
    }

    /// Begins to connect it and says EINPROGRESS, whether calls on it wait or not.
    pub(crate) fn begin_connect(self, address: SocketAddr) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(self.0)?;
        if flags.contains(OFlags::NONBLOCK) {
            return self.connect(address);
        }
        // Who shares the socket sees it so for this moment; nobody reads or writes what is not connected.
        rustix::fs::fcntl_setfl(self.0, flags | OFlags::NONBLOCK)?;
        let begun = self.connect(address);
        rustix::fs::fcntl_setfl(self.0, flags)?;
        begun
    }

    /// Ends what it is on its way to, if anything; it can be connected again (connect(2), AF_UNSPEC). Whoever polls it
    /// finds it reset.
    pub(crate) fn disconnect(self) -> io::Result<()> {
        Ok(rustix::net::connect_unspec(self.0)?)
    }

    /// Binds it.
    pub(crate) fn bind(self, address: SocketAddr) -> io::Result<()> {
        Ok(rustix::net::bind(self.0, &address)?)
    }

    /// Its own address.
    pub(crate) fn local_address(self) -> io::Result<SocketAddr> {
        let address = rustix::net::getsockname(self.0)?;
        Ok(SocketAddr::try_from(address)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in [
            "10.1.2.3:5432",
            "[2001:db8::1%7]:5432",
            "[::ffff:10.1.2.3]:1",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::parse(&encode(address)), Name::Ip(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_the_kernels_to_judge() {
        let v4 = encode("10.1.2.3:5432".parse().unwrap());
        for bytes in [&v4[..1], &v4[..8], &[], &[0, 0, 1, 2], &[1, 0], &[1, 0, 0]] {
            assert_eq!(Name::parse(bytes), Name::Other, "{bytes:?}");
        }
        assert_eq!(Name::parse(b"\x01\0/a\0b"), Name::Path(b"/a".to_vec()));
        assert_eq!(Name::parse(b"\x01\0/a"), Name::Path(b"/a".to_vec()));
        assert_eq!(
            Name::parse(b"\x01\0\0a\0b"),
            Name::Abstract(b"a\0b".to_vec())
        );
    }

    #[test]
    fn every_way_of_writing_an_address_is_one() {
        let canonical = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:127.0.0.1]:5432"), "127.0.0.1:5432");
        assert_eq!(canonical("0.0.0.0:5432"), "127.0.0.1:5432");
        assert_eq!(canonical("[::]:5432"), "[::1]:5432");
        assert_eq!(canonical("[::ffff:0.0.0.0]:5432"), "127.0.0.1:5432");
        assert_eq!(canonical("[fe80::1%3]:5432"), "[fe80::1]:5432");
        let dialled = |text: &str| dialled(text.parse().unwrap()).to_string();
        assert_eq!(dialled("[fe80::1%3]:5432"), "[fe80::1%3]:5432");
        assert_eq!(dialled("[2001:db8::1%3]:5432"), "[2001:db8::1]:5432");
        assert_eq!(dialled("[::ffff:127.0.0.1]:5432"), "127.0.0.1:5432");
    }

    #[test]
    fn an_address_is_written_as_the_socket_needs_it() {
        let v4: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let v6: SocketAddr = "[::1]:7".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:7".parse().unwrap();
        assert_eq!(for_family(v4, AddressFamily::INET), Some(v4));
        assert_eq!(for_family(v4, AddressFamily::INET6), Some(mapped));
        assert_eq!(for_family(mapped, AddressFamily::INET), Some(v4));
        assert_eq!(for_family(v6, AddressFamily::INET), None);
        assert_eq!(for_family(v4, AddressFamily::UNIX), None);
    }
}
