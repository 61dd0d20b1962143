//! Connections to the target's ports: which ones a session wants, and what becomes of the wish.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Errno, SENTENCE_MAX};
use crate::codec::{
    DecodeError, Wire, put_bytes, put_count, take_bool, take_count, take_text, take_u8, take_u16,
    take_u32, take_u64,
};

/// Bytes of one pattern of a filter.
pub const PATTERN_MAX: usize = 4096;

/// Parts of one `all of` or `any of`.
pub const FILTER_PARTS_MAX: usize = 64;

/// How deep filters nest: the configuration file has one level, and a reader by recursion needs a limit.
pub const FILTER_DEPTH_MAX: usize = 4;

/// A wish for connections to one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The client's number for it, which its streams carry. Unique in the session.
    pub id: u32,
    /// The port, as the target's clients know it.
    pub port: u16,
    /// Copies, or the connections themselves.
    pub mode: IncomingMode,
    /// End connections that stood before, so that their clients connect anew and are seen.
    pub end_established: bool,
}

/// What a session gets of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncomingMode {
    /// A copy of what clients send; the target answers.
    Mirror,
    /// The connections, or those of their HTTP requests that match; the session answers.
    Steal {
        /// Which requests; without it, whole connections.
        filter: Option<HttpFilter>,
        /// What to do about another session that steals the port.
        on_concurrent: OnConcurrentSteal,
    },
}

/// What to do where another session steals the port already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConcurrentSteal {
    /// Refuse.
    Abort,
    /// Take what the earlier ones leave.
    Continue,
    /// End the earlier ones.
    Override,
}

/// Which HTTP requests. Patterns are regular expressions with look-around, without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFilter {
    /// A header, written as `Name: value`, matches.
    Header(String),
    /// The path matches, without its query or with it.
    Path(String),
    /// The method is this one, without regard to case.
    Method(String),
    /// Every part matches.
    AllOf(Vec<HttpFilter>),
    /// One part matches.
    AnyOf(Vec<HttpFilter>),
}

/// A subscription that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// Connections from before that still lead to the target, and are not seen.
    pub left_established: u32,
    /// Connections from before that were ended.
    pub ended_established: u32,
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeFailure {
    /// The agent may not redirect connections.
    NotPermitted {
        /// What it lacks.
        needs: String,
    },
    /// The machine cannot redirect connections.
    Unsupported {
        /// What it lacks.
        lacks: String,
    },
    /// Another session steals the port.
    Taken,
    /// The session has a subscription of that number or of that port already.
    Repeated,
    /// A filter's pattern cannot be read.
    BadFilter {
        /// Which, and why.
        why: String,
    },
    /// The session has as many subscriptions as it may.
    TooMany,
    /// The system refused.
    System {
        /// What was tried.
        tried: String,
        /// Why it failed.
        errno: Errno,
    },
}

/// What the agent tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Copies were given up because the session read them too slowly; the target got every byte.
    CopiesDropped {
        /// Of which subscription.
        subscription: u32,
        /// How many connections' copies ended early, since the last notice.
        connections: u64,
    },
    /// A subscription ended without having been asked to.
    SubscriptionEnded {
        /// Which.
        subscription: u32,
        /// Why, for a person.
        why: String,
    },
}

/// Appends the start of `text` that fits a sentence.
fn put_sentence(out: &mut BytesMut, text: &str) {
    let end = text.floor_char_boundary(SENTENCE_MAX);
    put_bytes(out, &text.as_bytes()[..end]);
}

impl Wire for Subscription {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.id);
        out.put_u16(self.port);
        self.mode.put(out);
        out.put_u8(self.end_established.into());
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            id: take_u32(input, "subscription")?,
            port: take_u16(input, "port")?,
            mode: IncomingMode::take(input)?,
            end_established: take_bool(input, "established connections")?,
        })
    }
}

impl Wire for IncomingMode {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Mirror => out.put_u8(1),
            Self::Steal {
                filter,
                on_concurrent,
            } => {
                out.put_u8(2);
                filter.put(out);
                out.put_u8(match on_concurrent {
                    OnConcurrentSteal::Abort => 1,
                    OnConcurrentSteal::Continue => 2,
                    OnConcurrentSteal::Override => 3,
                });
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "incoming mode")? {
            1 => Ok(Self::Mirror),
            2 => Ok(Self::Steal {
                filter: Wire::take(input)?,
                on_concurrent: match take_u8(input, "concurrent steal")? {
                    1 => OnConcurrentSteal::Abort,
                    2 => OnConcurrentSteal::Continue,
                    3 => OnConcurrentSteal::Override,
                    number => {
                        return Err(DecodeError::Unknown {
                            what: "concurrent steal",
                            number: number.into(),
                        });
                    }
                },
            }),
            number => Err(DecodeError::Unknown {
                what: "incoming mode",
                number: number.into(),
            }),
        }
    }
}

impl HttpFilter {
    fn take_at(input: &mut Bytes, depth: usize) -> Result<Self, DecodeError> {
        if depth > FILTER_DEPTH_MAX {
            return Err(DecodeError::TooLong {
                what: "nesting of filters",
                length: depth,
                limit: FILTER_DEPTH_MAX,
            });
        }
        let parts = |input: &mut Bytes| {
            let count = take_count(input, FILTER_PARTS_MAX, "filter parts")?;
            (0..count)
                .map(|_| Self::take_at(input, depth + 1))
                .collect::<Result<Vec<_>, _>>()
        };
        match take_u8(input, "filter")? {
            1 => take_text(input, PATTERN_MAX, "header pattern").map(Self::Header),
            2 => take_text(input, PATTERN_MAX, "path pattern").map(Self::Path),
            3 => take_text(input, PATTERN_MAX, "method").map(Self::Method),
            4 => parts(input).map(Self::AllOf),
            5 => parts(input).map(Self::AnyOf),
            number => Err(DecodeError::Unknown {
                what: "filter",
                number: number.into(),
            }),
        }
    }
}

impl Wire for HttpFilter {
    fn put(&self, out: &mut BytesMut) {
        let (number, parts) = match self {
            Self::Header(pattern) => {
                out.put_u8(1);
                return put_bytes(out, pattern.as_bytes());
            }
            Self::Path(pattern) => {
                out.put_u8(2);
                return put_bytes(out, pattern.as_bytes());
            }
            Self::Method(method) => {
                out.put_u8(3);
                return put_bytes(out, method.as_bytes());
            }
            Self::AllOf(parts) => (4, parts),
            Self::AnyOf(parts) => (5, parts),
        };
        out.put_u8(number);
        put_count(out, parts.len());
        for part in parts {
            part.put(out);
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Self::take_at(input, 1)
    }
}

impl Wire for Subscribed {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.left_established);
        out.put_u32(self.ended_established);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            left_established: take_u32(input, "connections left")?,
            ended_established: take_u32(input, "connections ended")?,
        })
    }
}

impl Wire for SubscribeFailure {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::NotPermitted { needs } => {
                out.put_u8(1);
                put_sentence(out, needs);
            }
            Self::Unsupported { lacks } => {
                out.put_u8(2);
                put_sentence(out, lacks);
            }
            Self::Taken => out.put_u8(3),
            Self::Repeated => out.put_u8(4),
            Self::BadFilter { why } => {
                out.put_u8(5);
                put_sentence(out, why);
            }
            Self::TooMany => out.put_u8(6),
            Self::System { tried, errno } => {
                out.put_u8(7);
                put_sentence(out, tried);
                errno.put(out);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "subscribe failure")? {
            1 => Ok(Self::NotPermitted {
                needs: take_text(input, SENTENCE_MAX, "need")?,
            }),
            2 => Ok(Self::Unsupported {
                lacks: take_text(input, SENTENCE_MAX, "lack")?,
            }),
            3 => Ok(Self::Taken),
            4 => Ok(Self::Repeated),
            5 => Ok(Self::BadFilter {
                why: take_text(input, SENTENCE_MAX, "filter failure")?,
            }),
            6 => Ok(Self::TooMany),
            7 => Ok(Self::System {
                tried: take_text(input, SENTENCE_MAX, "attempt")?,
                errno: Errno::take(input)?,
            }),
            number => Err(DecodeError::Unknown {
                what: "subscribe failure",
                number: number.into(),
            }),
        }
    }
}

impl Wire for Notice {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::CopiesDropped {
                subscription,
                connections,
            } => {
                out.put_u8(1);
                out.put_u32(*subscription);
                out.put_u64(*connections);
            }
            Self::SubscriptionEnded { subscription, why } => {
                out.put_u8(2);
                out.put_u32(*subscription);
                put_sentence(out, why);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "notice")? {
            1 => Ok(Self::CopiesDropped {
                subscription: take_u32(input, "subscription")?,
                connections: take_u64(input, "connections")?,
            }),
            2 => Ok(Self::SubscriptionEnded {
                subscription: take_u32(input, "subscription")?,
                why: take_text(input, SENTENCE_MAX, "reason")?,
            }),
            number => Err(DecodeError::Unknown {
                what: "notice",
                number: number.into(),
            }),
        }
    }
}
