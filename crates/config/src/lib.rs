//! The configuration file: read, rendered, validated, resolved.
//!
//! `read` takes a path and gives a `Config`, plain data with every default filled in, or every error of the file, each
//! with its place. The format is mirrord's; where it differs on purpose the tests' vectors say why. No I/O but reading
//! files, no clock, no environment of its own: what a file may refer to is an argument (`Surroundings`).
//!
//! The way of a file: `reader` opens it, `template` renders it, `format` makes a `tree` of it, `decode` makes types of
//! the tree (one folder a concern: `target`, `network`, `fs`, `environment`, `branch`, `connection`; `root` puts them
//! together), `check` holds the rules between them. Afterwards `EnvRules::apply`, `Connection::locate` and
//! `Connection::rewrite` make a process's environment, as pure functions. Leaves doing anything to `cli` and `engine`.

mod branch;
mod check;
mod config;
mod connection;
mod decode;
mod diagnostic;
mod environment;
mod format;
mod fs;
mod json;
mod network;
mod overrides;
mod pattern;
mod reader;
mod reference;
mod root;
mod schema;
mod support;
mod target;
mod template;
mod text;
mod tree;

#[cfg(test)]
mod testing;

pub use branch::DbBranch;
pub use config::{Config, KeyOrigin, SessionKey};
pub use connection::{
    Connection, Destination, LocateError, Origin, Param, RewriteError, SourceConnection,
    ValuePattern, Values, VariableKind,
};
pub use decode::OneOrMany;
pub use diagnostic::{Diagnostic, ERRORS_MAX, Rejected, Unsupported, Weight};
pub use environment::dotenv::{self, DotenvError};
pub use environment::{
    EnvFileError, EnvRules, Environment, Magic, Mapping, OWN_VARIABLES, Rule, Selection, Wildcard,
};
pub use fs::{Fs, FsMode};
pub use json::Json;
pub use network::{
    AddressEntry, AddressEntryError, AddressMatch, BodyFilter, BodyFormat, ConcurrentSteal,
    DeliveryProtocol, Dns, HttpFilter, Incoming, InnerFilter, Network, Outgoing, Protocol, Side,
    SideFilter, TlsDelivery,
};
pub use overrides::Flag;
pub use reader::{
    CONFIG_BYTES_MAX, ReadError, STANDARD_INPUT, Surroundings, git_branch, read, read_text,
};
pub use reference::configuration_page;
pub use root::CopyTarget;
pub use schema::schema;
pub use target::{Target, TargetChoice};
pub use text::{Excerpt, Place};
