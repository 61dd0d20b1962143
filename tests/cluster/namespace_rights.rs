//! The chart, installed by somebody with rights in two namespaces and none in the cluster, whose administrator has applied
//! the rules before.

use anyhow::{Context, Result, ensure};
use fixtures::Signal;
use serde_json::json;

use crate::chart::{Helm, NAMESPACE, chart};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::{IMAGE, Operator, wait_until_known};
use crate::shop::Shop;
use crate::stage::Branches;
use crate::taken_away::nothing_is_left;
use crate::users::{Right, User};
use crate::walk_through::{product, session_file, start_session};

const GROUP: &str = "rbac.authorization.k8s.io";

/// In every namespace that is to have branches: the operator's Role there. Who gives rights that he has not himself needs
/// these two verbs, as everywhere in Kubernetes.
const IN_EACH: Right<'_> = (
    GROUP,
    &["roles", "rolebindings"],
    &[
        "get", "create", "patch", "update", "delete", "escalate", "bind",
    ],
);

/// In the operator's own: what the chart makes there, and what Helm keeps and waits for.
const IN_ITS_OWN: [Right<'_>; 4] = [
    IN_EACH,
    (
        "",
        &["secrets", "configmaps", "serviceaccounts"],
        &[
            "get", "list", "watch", "create", "patch", "update", "delete",
        ],
    ),
    (
        "apps",
        &["deployments", "replicasets"],
        &[
            "get", "list", "watch", "create", "patch", "update", "delete",
        ],
    ),
    (
        "batch",
        &["jobs"],
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
];

/// The operator's namespace, made by the administrator; gone with this.
struct Place<'a>(&'a Cluster);

impl<'a> Place<'a> {
    fn make(cluster: &'a Cluster, installer: &User<'_>, of: &Namespace<'_>) -> Result<Self> {
        cluster.ask(&["create", "namespace", NAMESPACE])?;
        let place = Self(cluster);
        let rules: serde_json::Value = IN_ITS_OWN
            .iter()
            .chain([&("", &["pods"][..], &["get", "list", "watch"][..])])
            .map(|(group, resources, verbs)| {
                json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
            })
            .collect();
        let (_, account) = installer.name.rsplit_once(':').context("an account")?;
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": of.name()});
        let (api, metadata) = (
            format!("{GROUP}/v1"),
            json!({"name": account, "namespace": NAMESPACE}),
        );
        for object in [
            json!({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": account},
                "subjects": [subject],
            }),
        ] {
            cluster.tell(&["create", "-f", "-"], &object.to_string())?;
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
        let _deleted = self.0.ask(&words);
    }
}

#[test]
fn who_has_rights_in_two_namespaces_alone_installs_the_chart_after_the_administrator_s_rules()
-> Result<()> {
    let cluster = Cluster::given()?;
    let mut admin = cluster.user()?;
    admin.set("BOUGH_AGENT_IMAGE", IMAGE);
    let shop = Shop::open(&cluster)?;
    shop.wait_until_it_answers()?;
    let namespace = shop.namespace();
    let rules = Operator::install_only_rules(&cluster, &admin)?;
    let installer = User::new(&cluster, namespace, "installer", &[IN_EACH])?;
    let _place = Place::make(&cluster, &installer, namespace)?;
    for right in [
        &["create", "clusterroles"][..],
        &["create", "customresourcedefinitions"],
        &["create", "pods", "-n", namespace.name()],
    ] {
        let may = installer.ask(&[&["auth", "can-i"], right].concat(), "");
        ensure!(may.is_err(), "he may {right:?}");
    }

    let helm = Helm {
        cluster: &cluster,
        user: &installer.env,
        kubeconfig: installer.kubeconfig.clone().into(),
    };
    let chart = chart()?;
    let install = ["install", "bough", chart.to_str().context("UTF-8")?];
    let values = format!(
        "image={IMAGE},rules=false,namespaces={{{}}}",
        namespace.name()
    );
    let all = ["-n", NAMESPACE, "--set", &values];
    let wait = ["--wait", "--timeout", "180s"];
    helm.run(&[&install[..], &all, &wait].concat())?;
    wait_until_known(&cluster)?;

    let branches = Branches(namespace);
    let file = session_file(&admin, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(&admin, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);

    // The branch's end is the chart's own, as its host's is.
    let uninstall = ["uninstall", "bough", "-n", NAMESPACE];
    helm.run(&[&uninstall[..], &wait].concat())?;
    let kept = rules.objects()?;
    let mut kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    kept.extend([
        "APIService v1alpha1.bough.dev",
        "Namespace bough-operator",
        "Lease bough-operator",
    ]);
    nothing_is_left(&cluster, namespace, &kept)?;
    drop(branches);
    Ok(())
}
