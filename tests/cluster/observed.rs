//! The operator as whoever looks after the cluster sees it: probes that its kubelet asks, figures, and a log for programs.

use anyhow::{Context, Result, ensure};
use fixtures::eventually;
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT};
use crate::operator::Operator;
use crate::stage::Branches;

/// The pods of the operator.
const PODS: [&str; 6] = [
    "-n",
    "bough-operator",
    "get",
    "pods",
    "-l",
    "app.kubernetes.io/name=bough-operator",
];

/// What a pod's port answers, by way of the API server.
fn ask(cluster: &Cluster, pod: &str, path: &str) -> Result<String> {
    let pods = "/api/v1/namespaces/bough-operator/pods";
    cluster.ask(&["get", "--raw", &format!("{pods}/{pod}:8080/proxy/{path}")])
}

#[test]
fn an_operator_is_probed_scraped_and_its_log_is_read_by_programs() -> Result<()> {
    let cluster = Cluster::given()?;
    let user = cluster.user()?;
    let _operator = Operator::install(&cluster, &user, &["--log-format", "json"])?;
    let namespace = cluster.namespace("observed")?;
    let _branches = Branches(&namespace);
    let ready = r#"jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let pods = eventually("two operators that are ready", LIMIT, || {
        let told = cluster.ask(&[&PODS[..], &["-o", ready]].concat())?;
        let ready = told
            .lines()
            .filter_map(|line| line.strip_suffix(" True").map(str::to_owned));
        let ready: Vec<String> = ready.collect();
        Ok((ready.len() == 2).then_some(ready))
    })?;
    for pod in &pods {
        ensure!(ask(&cluster, pod, "livez")?.trim() == "ok");
        ensure!(ask(&cluster, pod, "readyz")?.trim() == "ok");
    }

    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": {"name": "story"},
        "spec": {"id": "story", "source": "db:5432/x", "version": 16, "requester": cluster.who()?},
    }))?;
    let (branches, hosts) = (
        format!(
            "bough_branches{{namespace=\"{}\",phase=\"Making\"}} 1",
            namespace.name()
        ),
        format!(
            "bough_branch_hosts{{namespace=\"{}\",version=\"16\",state=\"answers\"}} 1",
            namespace.name()
        ),
    );
    let figures = eventually("the branch in the leader's figures", LIMIT, || {
        let told: Result<Vec<String>> = pods
            .iter()
            .map(|pod| ask(&cluster, pod, "metrics"))
            .collect();
        let told = told?;
        let has = |text: &String, line: &str| text.lines().any(|it| it == line);
        let is_there = told
            .iter()
            .any(|text| has(text, &branches) && has(text, &hosts));
        Ok(is_there.then_some(told))
    })?;
    let leaders = figures
        .iter()
        .filter(|text| text.lines().any(|it| it == "bough_operator_leading 1"));
    ensure!(leaders.count() == 1, "{figures:?}");
    for text in &figures {
        ensure!(text.ends_with("# EOF"), "{text}");
        ensure!(text.contains("bough_operator_looks_total"), "{text}");
        ensure!(text.contains("bough_build_info{version="), "{text}");
    }

    for pod in &pods {
        let log = cluster.ask(&["-n", "bough-operator", "logs", pod])?;
        for line in log.lines() {
            let record: Value = serde_json::from_str(line).context(line.to_owned())?;
            ensure!(
                record["level"].is_string() && record["message"].is_string(),
                "{line}"
            );
        }
        ensure!(log.contains("standing for the lead"), "{log}");
    }
    Ok(())
}
