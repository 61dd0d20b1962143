//! Mirror and steal over all replicas of a workload: the service's clients meet the session whichever pod they are sent to.

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, built_binary, eventually, http, pick_port};
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, Namespace, restricted_pod};
use crate::operator::IMAGE;
use crate::shop::Shop;

/// Connects to the service. A node's rules lead to a pod that has left until its proxy has heard of it: nobody has the
/// address then, and nothing was sent. Any other failure is one.
const CONNECT: &str = r#"for try in $(seq 50); do
                if { exec 3<>/dev/tcp/inventory/80; } 2>/dev/shm/why; then break; fi
                grep -q 'No route to host' /dev/shm/why || { cat /dev/shm/why >&2; exit 1; }
                [ "$try" -lt 50 ] || exit 1; sleep 0.2
              done"#;

/// What stands in the place of three replicas, or beside them.
struct Story<'a> {
    namespace: &'a Namespace<'a>,
    session: Program,
    asked: usize,
}

impl Story<'_> {
    /// Asks the service `times` times from a pod of the cluster; each request has a path of its own.
    fn ask(&mut self, times: usize) -> Result<()> {
        let (first, last) = (self.asked + 1, self.asked + times);
        // All of the answer: who leaves before its end resets the connection, and the copy of it.
        let script = format!(
            r#"set -e; for i in $(seq {first} {last}); do
              {CONNECT}
              printf 'GET /api/inventory/probe-%s- HTTP/1.0\r\nHost: inventory\r\n\r\n' "$i" >&3
              mapfile -t answer <&3; echo "${{answer[0]}}"; exec 3>&-
            done"#
        );
        let answers = self.namespace.shell("client", &script)?;
        ensure!(answers.lines().count() == times, "{answers}");
        ensure!(
            answers.lines().all(|line| line.contains(" 404 ")),
            "{answers}"
        );
        self.asked = last;
        Ok(())
    }

    /// How many of the requests the session's program has logged, each once.
    fn at_the_session(&self) -> Result<usize> {
        let said = [self.session.stdout()?, self.session.stderr()?].concat();
        let mut seen = 0;
        for number in 1..=self.asked {
            let times = said.matches(&format!("/probe-{number}-")).count();
            ensure!(times <= 1, "request {number} came {times} times:\n{said}");
            seen += times;
        }
        Ok(seen)
    }

    /// How many the pods have.
    fn at_the_pods(&self) -> Result<usize> {
        let words = [
            "logs",
            "-l",
            "app=inventory",
            "--tail=-1",
            "-c",
            "inventory",
        ];
        Ok(self.namespace.ask(&words)?.matches("/probe-").count())
    }

    fn wait_for_pods(&mut self, pods: &str) -> Result<()> {
        let word = format!("connections to {pods} of the target come here");
        let waited = eventually(&word, LIMIT, || {
            if let Some(end) = self.session.ended()? {
                anyhow::bail!("it ended with {end}: {}", self.session.stderr()?);
            }
            let said = self.session.stderr()?;
            let last = said
                .lines()
                .rfind(|line| line.contains("of the target come here"));
            Ok(last.is_some_and(|line| line.contains(&word)).then_some(()))
        });
        waited.with_context(|| self.session.stderr().unwrap_or_default())
    }

    fn scale(&self, count: usize) -> Result<()> {
        let replicas = format!("--replicas={count}");
        self.namespace
            .ask(&["scale", "deployment/inventory", &replicas])?;
        let words = [
            "rollout",
            "status",
            "deployment/inventory",
            "--timeout=120s",
        ];
        self.namespace.ask(&words)?;
        self.wait_for_endpoints(count)
    }

    /// Waits until pods that leave have left, and the service has those that stay.
    fn wait_for_endpoints(&self, count: usize) -> Result<()> {
        eventually("the service's endpoints", LIMIT, || {
            let pods = ["get", "pods", "-l", "app=inventory", "-o", "name"];
            let pods = self.namespace.ask(&pods)?.lines().count();
            let ready =
                "jsonpath={.items[*].endpoints[?(@.conditions.serving==true)].addresses[0]}";
            let slices = ["get", "endpointslices", "-l"];
            let of_service = ["kubernetes.io/service-name=inventory", "-o", ready];
            let served = self.namespace.ask(&[&slices[..], &of_service].concat())?;
            let served = served.split_whitespace().count();
            Ok((pods == count && served == count).then_some(()))
        })
    }
}

/// The service as a session in the place of its deployment.
fn start_session(user: &TestEnv, namespace: &str, mode: &str) -> Result<Program> {
    let port = pick_port()?;
    let file = user.home().join("session.json");
    let incoming = json!({"mode": mode, "port_mapping": [[port, 8082]]});
    let text = json!({"feature": {"network": {"incoming": incoming, "outgoing": true}}});
    std::fs::write(&file, text.to_string())?;
    let file = file.to_str().context("UTF-8")?;
    let service = built_binary("INVENTORY_BIN")?;
    let service = service.to_str().context("UTF-8")?;
    let port_word = port.to_string();
    let words = [
        "exec",
        "-t",
        "deployment/inventory",
        "-n",
        namespace,
        "-f",
        file,
        "--",
        service,
        "--port",
        &port_word,
    ];
    let mut session = user.start(user.command(words))?;
    eventually("a session that answers", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        let healthy = http::get(port, "/healthz").is_ok_and(|answer| answer.status == 200);
        Ok(healthy.then_some(()))
    })?;
    Ok(session)
}

/// Three replicas, then four, then two: whether the pods answer as well is the mode's.
fn meets_every_replica(mode: &str, pods_answer: bool) -> Result<()> {
    let cluster = Cluster::given()?;
    let mut user = cluster.user()?;
    user.set("BOUGH_AGENT_IMAGE", IMAGE);
    let shop = Shop::open(&cluster)?;
    let namespace = shop.namespace();
    shop.wait_until_it_answers()?;
    let client = json!({ "command": ["sleep", "infinity"] });
    namespace.create(&restricted_pod("client", "postgres:16", &client))?;
    namespace.wait_ready("client")?;
    namespace.ask(&["scale", "deployment/inventory", "--replicas=3"])?;
    let words = [
        "rollout",
        "status",
        "deployment/inventory",
        "--timeout=120s",
    ];
    namespace.ask(&words)?;

    let session = start_session(&user, namespace.name(), mode)?;
    let mut story = Story {
        namespace,
        session,
        asked: 0,
    };
    story.wait_for_pods("3 pods")?;
    story.ask(30)?;
    check(&story, pods_answer, 30)?;
    story.scale(4)?;
    story.wait_for_pods("4 pods")?;
    story.ask(30)?;
    check(&story, pods_answer, 60)?;
    story.scale(2)?;
    story.wait_for_pods("2 pods")?;
    story.ask(20)?;
    // The logs of pods that have left went with them.
    let seen = eventually("the last requests", LIMIT, || {
        let seen = story.at_the_session()?;
        Ok((seen == 80).then_some(seen))
    });
    seen.with_context(|| story.session.stderr().unwrap_or_default())?;
    story.session.signal(Signal::TERM)?;
    drop(story.session.finish(LIMIT)?);
    Ok(())
}

fn check(story: &Story<'_>, pods_answer: bool, asked: usize) -> Result<()> {
    let waited = eventually("every request at the session", LIMIT, || {
        Ok((story.at_the_session()? == asked).then_some(()))
    });
    waited.with_context(|| story.session.stderr().unwrap_or_default())?;
    let expected = if pods_answer { asked } else { 0 };
    let answered = story.at_the_pods()?;
    ensure!(answered == expected, "the pods have {answered} of {asked}");
    Ok(())
}

#[test]
fn stolen_requests_come_from_every_replica() -> Result<()> {
    meets_every_replica("steal", false)
}

#[test]
fn every_replica_s_requests_are_copied_once() -> Result<()> {
    meets_every_replica("mirror", true)
}
