//! What the network policy of branch hosts keeps off, as a flag's word.

use clap::ValueEnum;
use operator::Wall;

/// The words of `--network-policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum WallWord {
    /// Nothing: there is none
    None,
    /// All that would connect to a host over the network
    #[default]
    Ingress,
    /// And what the host of a Source connects to beyond name servers and its source's ports
    Both,
}

impl From<WallWord> for Wall {
    fn from(word: WallWord) -> Self {
        match word {
            WallWord::None => Self::None,
            WallWord::Ingress => Self::Ingress,
            WallWord::Both => Self::Both,
        }
    }
}
