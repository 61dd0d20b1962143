//! Branches of hosts' engines that no resource names: whoever may run programs in a host's pod makes them there by himself.
//!
//! They are found once a host has answered, and count at the next look. What a host had stays known while it does not
//! answer; an operator that has just begun knows none before its first look.

use std::collections::BTreeMap;

/// How many there are, by namespace and the host's pod.
#[derive(Debug, Default)]
pub(crate) struct Strays(BTreeMap<(String, String), usize>);

impl Strays {
    /// How many each namespace has.
    pub(super) fn by_namespace(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for ((namespace, _), count) in &self.0 {
            *all.entry(namespace.clone()).or_default() += count;
        }
        all
    }

    /// Takes in what a look found: each host's namespace and pod, with how many it has; none where it did not answer. A host
    /// that was not looked at is gone. What has changed is told.
    pub(super) fn seen(&mut self, hosts: Vec<(String, String, Option<usize>)>) {
        let before = self.by_namespace();
        let hosts = hosts.into_iter().map(|(namespace, pod, count)| {
            let key = (namespace, pod);
            let known = self.0.get(&key).copied().unwrap_or_default();
            (key, count.unwrap_or(known))
        });
        self.0 = hosts.collect();
        for (namespace, count) in self.by_namespace() {
            if before.get(&namespace).copied().unwrap_or_default() != count {
                tracing::warn!(
                    namespace,
                    count,
                    "branches of hosts that no resource names count for their namespace"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_had_is_known_until_it_answers_again_or_is_gone() {
        let mut strays = Strays::default();
        let host =
            |namespace: &str, pod: &str, count| (namespace.to_owned(), pod.to_owned(), count);
        let shop = |strays: &Strays| strays.by_namespace().get("shop").copied();
        strays.seen(vec![
            host("shop", "a", Some(2)),
            host("shop", "b", Some(1)),
            host("bank", "a", Some(4)),
        ]);
        assert_eq!(shop(&strays), Some(3));
        strays.seen(vec![host("shop", "a", None), host("shop", "b", Some(0))]);
        assert_eq!(shop(&strays), Some(2));
        assert_eq!(strays.by_namespace().get("bank"), None);
        strays.seen(Vec::new());
        assert_eq!(shop(&strays), None);
    }
}
