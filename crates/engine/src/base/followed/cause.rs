//! Why a base that follows is of no more use: what any way of following may find, and what only one of them can.
//!
//! Owns the causes that are every way's and what tells one cluster from another; a way's own causes and when they hold are
//! its `tending`'s.

use std::fmt;

use model::PgMajor;

/// Which cluster a base is a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Tells clusters apart.
    pub system_identifier: u64,
    /// Its version.
    pub major: PgMajor,
}

impl Identity {
    /// Why what answers now is not that cluster any more. A source that may not be asked for its system identifier says
    /// none, which is no reason.
    pub fn judge<O>(&self, system_identifier: Option<u64>, major: PgMajor) -> Option<Cause<O>> {
        if major != self.major {
            return Some(Cause::NewMajor { major });
        }
        let is_other = system_identifier.is_some_and(|theirs| theirs != self.system_identifier);
        is_other.then_some(Cause::OtherCluster)
    }
}

/// Why a base is of no more use; `O` are the causes of one way of following.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause<O> {
    /// Another cluster answers at the source's address.
    OtherCluster,
    /// The source was upgraded.
    NewMajor {
        /// To this version.
        major: PgMajor,
    },
    /// The files here are broken.
    Broken {
        /// What was said.
        said: String,
    },
    /// The source answers, and sends nothing.
    Refused {
        /// What was said last.
        said: String,
    },
    /// One that only this way of following has.
    Own(O),
}

impl<O: fmt::Display> fmt::Display for Cause<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCluster => f.write_str("another cluster answers at the source's address"),
            Self::NewMajor { major } => write!(f, "the source is PostgreSQL {major} by now"),
            Self::Broken { said } => write!(f, "the base is broken: {said}"),
            Self::Refused { said } => {
                write!(
                    f,
                    "the source answers, and sends nothing to the base: {said}"
                )
            }
            Self::Own(own) => own.fmt(f),
        }
    }
}
