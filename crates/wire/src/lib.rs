//! What supervisor and agent say to each other, and how it survives a lost network.
//!
//! ```text
//!   message     requests for streams, calls and answers, notices            what is said
//!   connection  numbers, repetition, credit, turns, keepalive: one session  a machine: bytes and time in, bytes and
//!   greeting    versions, proof of the session's key: one link              events out
//!   frame       length, kind, number, payload                               how it stands in bytes
//! ```
//!
//! The crate is pure: no I/O, no async, no clock, no randomness; time and nonces are arguments. The one exception is
//! `pump`, behind the feature `tokio`: it carries a connection over a byte stream and gives its streams to tasks. It
//! stands here because agent and supervisor both need it and may share nothing else.

#[cfg(feature = "tokio")]
mod clock;
mod codec;
mod connection;
mod frame;
mod greeting;
mod key;
mod message;
#[cfg(feature = "tokio")]
pub mod pump;

pub use codec::DecodeError;
pub use connection::{
    CALLS_MAX, CallError, Connection, Event, INCOMING_MAX, NOTICES_MAX, OpenError, Read, Role,
    STREAMS_MAX, Violation,
};
pub use frame::{CallId, DATA_MAX, DATAGRAM_MAX, HEADER_BYTES, PAYLOAD_MAX, StreamId};
pub use greeting::{
    AgentGreeting, AgentStep, ClientGreeting, ClientStep, GreetingError, Link, Proven, Refusal,
    Start, VERSION_NEWEST, VERSION_OLDEST,
};
pub use key::{AgentKey, KEY_BYTES, Nonce, SessionId, SessionKey};
pub use message::{
    Answer, CloseReason, DnsAnswer, DnsFailure, DnsQuery, DnsRecord, Endpoint, Errno,
    FILTER_DEPTH_MAX, FILTER_PARTS_MAX, HOST_NAME_MAX, HttpFilter, IncomingMode, Notice,
    OnConcurrentSteal, OpenRequest, Opened, PATTERN_MAX, RECORD_DATA_MAX, RECORDS_MAX, Request,
    SENTENCE_MAX, SubscribeFailure, Subscribed, Subscription, UNIX_PATH_MAX,
};
