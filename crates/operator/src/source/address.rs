//! Whether a branch is of a source: by the address that it says it comes from, in any of the forms that the cluster's DNS
//! has for a service, in whichever case they are written.

use kube::ResourceExt;
use resources::{Branch, Source, SourceAddress};

/// The domain of the names of services where nobody says another one.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The domain of the names of services, as the kubelet tells it every pod: what `svc.` stands before among the domains that
/// names are looked for in (`/etc/resolv.conf`). None where it is no pod's.
pub fn cluster_domain(resolv_conf: &str) -> Option<&str> {
    let lines = resolv_conf.lines();
    let searched = lines.filter_map(|line| line.trim().strip_prefix("search"));
    let mut domains = searched.flat_map(str::split_whitespace);
    let domain = domains.find_map(|it| it.strip_prefix("svc."))?;
    Some(domain.trim_end_matches('.'))
}

/// Whether `branch` says that it comes from `source`, which is of the same namespace then; in a cluster whose services have
/// names below `domain`.
pub(crate) fn is_of(branch: &Branch, source: &Source, domain: &str) -> bool {
    let namespace = branch.namespace().unwrap_or_default();
    let mut addresses = source.spec.addresses.iter();
    source.namespace().as_deref().unwrap_or_default() == namespace
        && addresses.any(|it| names(it, &branch.spec.source, &namespace, domain))
}

/// Whether `branch` names `source` by one of its addresses as that is written, which is how the API server's own policy
/// knows whose it is.
pub(crate) fn is_written(branch: &Branch, source: &Source) -> bool {
    let told = branch.spec.source.to_ascii_lowercase();
    let mut addresses = source.spec.addresses.iter();
    addresses.any(|it| told.starts_with(&format!("{}:{}/", it.host.to_ascii_lowercase(), it.port)))
}

/// Whether a branch that says `told`, which is HOST:PORT/DATABASE, means the server at `address`.
fn names(address: &SourceAddress, told: &str, namespace: &str, domain: &str) -> bool {
    let server = told.split_once('/').map_or(told, |(server, _)| server);
    let Some((host, port)) = server.rsplit_once(':') else {
        return false;
    };
    let short = |host: &str| short(host, namespace, domain);
    port == address.port.to_string() && short(host) == short(&address.host)
}

/// A name without what every name of a service of `namespace` may end with
/// (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>).
fn short(host: &str, namespace: &str, domain: &str) -> String {
    // Names have no case (<https://www.rfc-editor.org/rfc/rfc4343>).
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let domain = format!(".svc.{}", domain.to_ascii_lowercase());
    let host = host.strip_suffix(&domain).unwrap_or(&host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let short = host
        .strip_suffix(namespace)
        .and_then(|it| it.strip_suffix('.'));
    short.unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_branch_is_of_a_source_by_every_name_of_its_service() {
        let of_domain = |domain: &str, namespace: &str, told: &str| {
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
            is_of(&branch, &source, domain)
        };
        let of = |namespace: &str, told: &str| of_domain(CLUSTER_DOMAIN, namespace, told);
        for host in [
            "postgres",
            "POSTGRES",
            "Postgres.shop.SVC",
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
        let other = "postgres.shop.svc.corp.internal:5432/d";
        assert!(!of("shop", other));
        assert!(of_domain("corp.internal", "shop", other));
    }

    #[test]
    fn the_domain_of_services_is_what_the_kubelet_tells_every_pod() {
        let pod = "search shop.svc.corp.internal svc.corp.internal corp.internal\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(cluster_domain(pod), Some("corp.internal"));
        assert_eq!(cluster_domain("nameserver 1.1.1.1\nsearch lan\n"), None);
        assert_eq!(cluster_domain(""), None);
    }
}
