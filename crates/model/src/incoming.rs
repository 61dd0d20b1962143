//! Who gets what comes to a target. One type for the file, the session's network and a cluster's resource.

use serde::{Deserialize, Serialize};

/// Who gets the connections that come to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncomingMode {
    /// The target alone.
    #[default]
    Off,
    /// The target answers, the session gets a copy.
    Mirror,
    /// The session answers.
    Steal,
}

impl IncomingMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Off, Self::Mirror, Self::Steal];

    /// The mode's word in files and resources.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Mirror => "mirror",
            Self::Steal => "steal",
        }
    }
}
