//! Who looks names up. Pure.

use super::filter::{Filter, Side};

/// Names that the program looks up.
#[derive(Debug, Clone, Default)]
pub struct Dns {
    /// Whether the target's resolver answers.
    pub enabled: bool,
    /// Which names are meant; without it all are.
    pub filter: Option<Filter>,
}

impl Dns {
    /// Who looks `name` up, which has no dot at its end.
    pub(crate) fn side(&self, name: &str) -> Side {
        match &self.filter {
            _ if !self.enabled => Side::Here,
            Some(filter) => filter.side_of_name(name),
            None => Side::Target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Entry, Place};
    use super::*;

    #[test]
    fn names_are_the_targets_but_where_a_filter_or_a_switch_says_otherwise() {
        let entry = Entry {
            protocol: None,
            place: Place::Name("corp".to_owned()),
            port: None,
        };
        let filtered = |side| Dns {
            enabled: true,
            filter: Some(Filter {
                side,
                entries: vec![entry.clone()],
            }),
        };
        let plain = Dns {
            enabled: true,
            filter: None,
        };
        assert_eq!(plain.side("db"), Side::Target);
        assert_eq!(Dns::default().side("db"), Side::Here);
        assert_eq!(filtered(Side::Here).side("wiki.corp.example"), Side::Here);
        assert_eq!(filtered(Side::Here).side("db"), Side::Target);
        assert_eq!(filtered(Side::Target).side("db"), Side::Here);
    }
}
