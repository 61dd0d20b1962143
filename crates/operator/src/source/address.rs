//! Whether a branch is of a source: by the address that it says it comes from, in any of the forms that the cluster's DNS
//! has for a service.

use kube::ResourceExt;
use resources::{Branch, Source, SourceAddress};

/// Whether `branch` says that it comes from `source`, which is of the same namespace then.
pub(crate) fn is_of(branch: &Branch, source: &Source) -> bool {
    let namespace = branch.namespace().unwrap_or_default();
    let mut addresses = source.spec.addresses.iter();
    source.namespace().as_deref().unwrap_or_default() == namespace
        && addresses.any(|it| names(it, &branch.spec.source, &namespace))
}

/// Whether a branch that says `told`, which is HOST:PORT/DATABASE, means the server at `address`.
fn names(address: &SourceAddress, told: &str, namespace: &str) -> bool {
    let server = told.split_once('/').map_or(told, |(server, _)| server);
    let Some((host, port)) = server.rsplit_once(':') else {
        return false;
    };
    port == address.port.to_string() && short(host, namespace) == short(&address.host, namespace)
}

/// A name without what every name of a service of `namespace` may end with
/// (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>).
fn short<'a>(host: &'a str, namespace: &str) -> &'a str {
    let host = host.trim_end_matches('.');
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    host.strip_suffix(namespace)
        .and_then(|it| it.strip_suffix('.'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_branch_is_of_a_source_by_every_name_of_its_service() {
        let of = |namespace: &str, told: &str| {
            let branch: Branch = serde_json::from_value(json!({
                "metadata": {"name": "b", "namespace": namespace},
                "spec": {"id": "b", "source": told, "version": 16, "copy": {"mode": "all"}},
            }))
            .expect("a branch");
            let source: Source = serde_json::from_value(json!({
                "metadata": {"name": "orders", "namespace": "shop"},
                "spec": {
                    "connection": {"name": "s", "key": "k"}, "version": 16,
                    "addresses": [{"host": "postgres.shop.svc", "port": 5432}],
                },
            }))
            .expect("a source");
            is_of(&branch, &source)
        };
        for host in [
            "postgres",
            "postgres.shop",
            "postgres.shop.svc.cluster.local.",
        ] {
            assert!(of("shop", &format!("{host}:5432/d")), "{host}");
        }
        for told in [
            "postgres:5433/d",
            "postgres.bank:5432/d",
            "other:5432/d",
            "postgres",
        ] {
            assert!(!of("shop", told), "{told}");
        }
        assert!(!of("bank", "postgres.shop:5432/d"), "another namespace's");
    }
}
