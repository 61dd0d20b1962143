//! A second wall around hosts: a network policy for the pods of one stateful set, which goes with it.
//!
//! The first wall needs none, and holds where a cluster's network keeps no policies: nothing in a host's pod listens but on
//! the pod's loopback, and a branch's server has no way out. Programs in the pod are run, and doors are reached, by the
//! node itself, which no policy is about.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use resources::SourceSpec;
use serde_json::{Value, json};

use super::Home;
use crate::step::StepError;

/// Where names are asked for, over both: OpenShift's name servers listen on the second behind their service's first, and
/// its network looks at a packet after that.
const DNS_PORTS: [u16; 2] = [53, 5353];

/// What the network policy of hosts keeps off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wall {
    /// There is none.
    None,
    /// Nobody connects to a host over the network.
    #[default]
    Ingress,
    /// And a host of a `Source` connects to name servers and to its source's ports (`addresses`, `egressPorts`) alone. Whoever asks a host of no source
    /// for a branch names any source.
    Both,
}

impl Wall {
    /// The word of flags and values.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ingress => "ingress",
            Self::Both => "both",
        }
    }
}

/// Has the hosts `there` of `namespace` have the wall that they are to have.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses, as it does an operator whose rights are an earlier version's.
pub(crate) async fn wall(
    client: &Client,
    namespace: &str,
    home: &Home,
    there: &StatefulSet,
    (source, wanted): (Option<&SourceSpec>, Wall),
) -> Result<(), StepError> {
    // Of hosts whose source is gone nobody says any more what they reach. Of those that somebody else has just made, who
    // owns the wall is known at the next look.
    if there.uid().is_none() || (home.source.is_some() && source.is_none()) {
        return Ok(());
    }
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let failed = |verb: &str, source| StepError::Api {
        tried: format!("{verb} the network policy {name} in namespace {namespace}"),
        source: Box::new(source),
    };
    let found = api.get_opt(&name).await;
    let found = found.map_err(|source| failed("look at", source))?;
    let today = build(there, source, wanted);
    match (found, today) {
        (None, None) => Ok(()),
        (None, Some(today)) => {
            let made = api.create(&PostParams::default(), &today).await;
            made.map(drop).map_err(|source| failed("make", source))
        }
        (Some(_), None) => match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop).map_err(|source| failed("delete", source)),
        },
        (Some(found), Some(today)) if is_same(&found, &today) => Ok(()),
        (Some(_), Some(today)) => {
            // A merge: what the wall has no more is said with `null`.
            let patch = json!({"metadata": {"ownerReferences": today.metadata.owner_references}, "spec": rules(&today)});
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            patched.map(drop).map_err(|source| failed("change", source))
        }
    }
}

/// The rules alone, absent ones as `null`.
fn rules(policy: &NetworkPolicy) -> Value {
    let mut rules = json!({"ingress": null, "egress": null});
    let own = json!(policy.spec);
    if let (Some(rules), Some(own)) = (rules.as_object_mut(), own.as_object()) {
        rules.extend(own.clone());
    }
    rules
}

/// Whether a policy says what it is to say, for hosts that are there.
fn is_same(found: &NetworkPolicy, today: &NetworkPolicy) -> bool {
    let owner = |of: &NetworkPolicy| {
        let owners = of.owner_references();
        owners.first().map(|it| it.uid.clone())
    };
    found.spec == today.spec && owner(found) == owner(today)
}

/// The wall of hosts that are there; none where none is wanted.
fn build(there: &StatefulSet, source: Option<&SourceSpec>, wall: Wall) -> Option<NetworkPolicy> {
    let mut spec =
        json!({"podSelector": there.spec.as_ref()?.selector, "policyTypes": ["Ingress"]});
    match (wall, source) {
        (Wall::None, _) => return None,
        (Wall::Both, Some(source)) => {
            let ports = source.addresses.iter().map(|it| it.port);
            // Policies are about the ports of pods, behind those of a Service.
            let ports: BTreeSet<u16> = ports.chain(source.egress_ports.iter().copied()).collect();
            let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
            let ports: Vec<Value> = ports.into_iter().map(|it| port("TCP", it)).collect();
            let names = DNS_PORTS.map(|it| [port("UDP", it), port("TCP", it)]);
            spec["policyTypes"] = json!(["Ingress", "Egress"]);
            spec["egress"] = json!([{"ports": names.concat()}, {"ports": ports}]);
        }
        (Wall::Ingress, _) | (Wall::Both, None) => {}
    }
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": there.name_any(), "uid": there.uid().unwrap_or_default(),
    });
    let written = json!({
        "metadata": {
            "name": there.name_any(), "namespace": there.namespace(), "labels": there.labels(),
            "ownerReferences": [owner],
        },
        "spec": spec,
    });
    Some(serde_json::from_value(written).expect("what stands above is a network policy"))
}

#[cfg(test)]
mod tests {
    use super::super::{HostSettings, build as build_host};
    use super::*;

    fn source(ports: &[u16]) -> SourceSpec {
        let addresses = ports
            .iter()
            .map(|port| json!({"host": "postgres", "port": port}));
        serde_json::from_value(json!({
            "connection": {"name": "s", "key": "url"}, "version": 16,
            "addresses": addresses.collect::<Vec<_>>(),
        }))
        .expect("a spec")
    }

    fn host(source: Option<&SourceSpec>) -> StatefulSet {
        let settings = HostSettings::of_image("bough:1");
        let home = Home {
            version: 16,
            source: source.map(|_| "orders".to_owned()),
        };
        let mut built = build_host("shop", &home, source, &settings, None);
        built.metadata.uid = Some("0123".to_owned());
        built
    }

    #[test]
    fn nobody_connects_to_a_host_and_the_wall_goes_with_it() {
        let there = host(None);
        let built = build(&there, None, Wall::Ingress).expect("a wall");
        let spec = json!(built.spec);
        let labels = &there.spec.as_ref().expect("a spec").template.metadata;
        let labels = labels.as_ref().and_then(|it| it.labels.clone());
        assert_eq!(spec["podSelector"]["matchLabels"], json!(labels));
        assert_eq!(spec["policyTypes"], json!(["Ingress"]));
        assert_eq!((spec.get("ingress"), spec.get("egress")), (None, None));
        let owner = &built.owner_references()[0];
        assert_eq!(
            (owner.name.as_str(), owner.uid.as_str()),
            ("bough-host-16", "0123")
        );
        assert_eq!(build(&there, None, Wall::None), None);
        // Who asks brings any source.
        assert_eq!(build(&there, None, Wall::Both), Some(built));
    }

    #[test]
    fn a_source_s_host_reaches_name_servers_and_its_ports_alone_where_that_is_wanted() {
        let orders = source(&[6432, 5432, 6432]);
        let there = host(Some(&orders));
        let built = build(&there, Some(&orders), Wall::Both).expect("a wall");
        let spec = json!(built.spec);
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        let ports = spec["egress"].as_array().expect("rules").iter();
        let ports = ports.flat_map(|it| it["ports"].as_array().expect("ports").clone());
        let ports: Vec<String> = ports
            .map(|it| {
                format!(
                    "{} {}",
                    it["protocol"].as_str().expect("a word"),
                    it["port"]
                )
            })
            .collect();
        assert_eq!(
            ports,
            [
                "UDP 53", "TCP 53", "UDP 5353", "TCP 5353", "TCP 5432", "TCP 6432"
            ]
        );
        assert!(is_same(&built, &built));
        let mut pooled = source(&[6432]);
        pooled.egress_ports = vec![5432];
        assert_eq!(
            build(&there, Some(&pooled), Wall::Both),
            Some(built.clone())
        );
        let other = source(&[5432]);
        let changed = build(&there, Some(&other), Wall::Both).expect("a wall");
        assert!(!is_same(&built, &changed));
        // What a narrower one does not say any more is taken back.
        let ingress = build(&there, Some(&orders), Wall::Ingress).expect("a wall");
        assert_eq!(rules(&ingress)["egress"], Value::Null);
        assert!(
            rules(&ingress)
                .as_object()
                .expect("rules")
                .contains_key("egress")
        );
        let mut anew = there;
        anew.metadata.uid = Some("4567".to_owned());
        let anew = build(&anew, Some(&orders), Wall::Both).expect("a wall");
        assert!(!is_same(&built, &anew), "the hosts were made anew");
    }
}
