//! Requests for streams, and what is known once one stands.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};

use super::HOST_NAME_MAX;
use crate::codec::{
    DecodeError, Wire, put_bytes, take_bool, take_bytes, take_text, take_u8, take_u16, take_u32,
};

/// Bytes of a Unix socket's path: `sun_path` of Linux.
pub const UNIX_PATH_MAX: usize = 108;

/// Where a TCP stream is to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name that the target's resolver knows; its addresses are tried in turn.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// What a stream is to be. The client asks for all but [`OpenRequest::Incoming`], which the agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenRequest {
    /// A TCP connection from the target's network.
    Tcp {
        /// Where to.
        destination: Endpoint,
    },
    /// A UDP socket in the target's network; the stream carries datagrams.
    Udp {
        /// The one address that it talks to, whose errors it then learns; or none, and it talks to any.
        connected: Option<SocketAddr>,
        /// The family of a socket that is not connected.
        version_6: bool,
    },
    /// A connection to a Unix stream socket of the target's file system.
    Unix {
        /// Its path; an abstract name begins with a zero byte.
        path: Bytes,
    },
    /// The environment of the target's process, read only: `NAME=value`, each ended by a zero byte.
    Environ,
    /// A connection that came in at a port of the target.
    Incoming {
        /// The subscription that it answers.
        subscription: u32,
        /// Who connected.
        peer: SocketAddr,
        /// The address of the target that was connected to.
        local: SocketAddr,
        /// A copy of what the client sends: nothing that is written to it goes anywhere.
        copy: bool,
    },
}

impl OpenRequest {
    /// Whether the stream carries datagrams rather than bytes.
    pub fn carries_datagrams(&self) -> bool {
        match self {
            Self::Udp { .. } => true,
            Self::Tcp { .. } | Self::Unix { .. } | Self::Environ | Self::Incoming { .. } => false,
        }
    }

    /// Whether it is the client's to ask for it.
    pub fn is_the_clients(&self) -> bool {
        match self {
            Self::Tcp { .. } | Self::Udp { .. } | Self::Unix { .. } | Self::Environ => true,
            Self::Incoming { .. } => false,
        }
    }
}

/// A stream that stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// The address that it has in the target's network, where it has one.
    pub local: Option<SocketAddr>,
    /// The address at its other end, where it has one.
    pub peer: Option<SocketAddr>,
}

impl Wire for Endpoint {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Address(address) => {
                out.put_u8(1);
                address.put(out);
            }
            Self::Name { host, port } => {
                out.put_u8(2);
                put_bytes(out, host.as_bytes());
                out.put_u16(*port);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "endpoint")? {
            1 => SocketAddr::take(input).map(Self::Address),
            2 => Ok(Self::Name {
                host: take_text(input, HOST_NAME_MAX, "host")?,
                port: take_u16(input, "port")?,
            }),
            number => Err(DecodeError::Unknown {
                what: "endpoint",
                number: number.into(),
            }),
        }
    }
}

impl Wire for OpenRequest {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Tcp { destination } => {
                out.put_u8(1);
                destination.put(out);
            }
            Self::Udp {
                connected,
                version_6,
            } => {
                out.put_u8(2);
                connected.put(out);
                out.put_u8((*version_6).into());
            }
            Self::Unix { path } => {
                out.put_u8(3);
                put_bytes(out, path);
            }
            Self::Environ => out.put_u8(4),
            Self::Incoming {
                subscription,
                peer,
                local,
                copy,
            } => {
                out.put_u8(5);
                out.put_u32(*subscription);
                peer.put(out);
                local.put(out);
                out.put_u8((*copy).into());
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "stream request")? {
            1 => Ok(Self::Tcp {
                destination: Endpoint::take(input)?,
            }),
            2 => Ok(Self::Udp {
                connected: Wire::take(input)?,
                version_6: take_bool(input, "address family")?,
            }),
            3 => Ok(Self::Unix {
                path: take_bytes(input, UNIX_PATH_MAX, "path")?,
            }),
            4 => Ok(Self::Environ),
            5 => Ok(Self::Incoming {
                subscription: take_u32(input, "subscription")?,
                peer: SocketAddr::take(input)?,
                local: SocketAddr::take(input)?,
                copy: take_bool(input, "copy")?,
            }),
            number => Err(DecodeError::Unknown {
                what: "stream request",
                number: number.into(),
            }),
        }
    }
}

impl Wire for Opened {
    fn put(&self, out: &mut BytesMut) {
        self.local.put(out);
        self.peer.put(out);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            local: Wire::take(input)?,
            peer: Wire::take(input)?,
        })
    }
}
