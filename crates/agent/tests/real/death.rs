//! The target serves on: whatever becomes of the agent and of sessions.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wire::IncomingMode;

use crate::namespace::{Namespace, Program};
use crate::pod::{Pod, answer, steal, subscribe, wait_until};

/// How soon the target serves every new connection.
const SERVED_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Asks over a new connection again and again. Once a line comes, prints for each how long after the line it began, in
/// milliseconds, and by whom it was answered; six seconds later it ends.
const LOAD: &str = r#"
import http.client, sys, threading, time
began = 0
def ask():
    while not began or time.monotonic() < began + 6:
        after = (time.monotonic() - began) * 1000 if began else -1
        try:
            connection = http.client.HTTPConnection('10.77.0.1', 8080, timeout=20)
            connection.request('GET', '/')
            who = connection.getresponse().read().decode().split()[0]
            connection.close()
        except Exception as error:
            who = type(error).__name__
            time.sleep(0.005)
        # One write a line, as threads share the output.
        sys.stdout.write(f'{after:.0f} {who}\n')
print('ready')
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
sys.stdin.readline()
began = time.monotonic()
for thread in threads:
    thread.join()
print('0 end', flush=True)
"#;

/// Lets the load run on for a while after `act`; what it got after that moment, and how long after it asked.
fn load_around(from: &Namespace, act: impl FnOnce()) -> Vec<(Duration, String)> {
    let mut load = from.python(LOAD, &[]);
    for _ in 0..50 {
        load.line().unwrap();
    }
    act();
    load.say("now");
    let mut answers = Vec::new();
    loop {
        let line = load.line().unwrap();
        let (after_ms, who) = line.split_once(' ').unwrap();
        if who == "end" {
            return answers;
        }
        if let Ok(after_ms) = after_ms.parse() {
            answers.push((Duration::from_millis(after_ms), who.to_owned()));
        }
    }
}

/// Every answer after that time is the target's, and there are some.
fn assert_served_again(answers: &[(Duration, String)]) {
    let hanging = answers.iter().find(|(_, who)| who == "TimeoutError");
    assert_eq!(hanging, None);
    let late = answers.iter().filter(|(at, _)| *at > SERVED_AGAIN_WITHIN);
    let (right, wrong): (Vec<_>, Vec<_>) = late.partition(|(_, who)| who == "target");
    let last = answers.iter().rev().find(|(_, who)| who != "target");
    println!("the last answer that was not the target's: {last:?}");
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(right.len() > 20, "{} answers of the target's", right.len());
}

fn signal(program: &Program, signal: Signal) {
    let id = Pid::from_raw(program.id().try_into().unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_under_load_leaves_the_target_serving() {
    for mode in [steal(None), IncomingMode::Mirror] {
        let Some(pod) = Pod::new() else { return };
        let (session, inbox) = pod.agent.session().await;
        answer(inbox);
        subscribe(&session, 1, mode, false).await.unwrap();
        let answers = load_around(&pod.outside, || signal(&pod.agent.program, Signal::KILL));
        assert_served_again(&answers);
        let rules = pod.inside.shell("nft list ruleset");
        assert!(
            !rules.contains("redirect"),
            "its rules are gone with it: {rules}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stands_still_lets_new_connections_go() {
    let Some(pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&session, 1, steal(None), false).await.unwrap();
    assert_eq!(pod.ask("/", &[]), "session 0\n");
    signal(&pod.agent.program, Signal::STOP);
    // The rule expires by itself; whoever came before that waits for the agent.
    wait_until(|| {
        pod.inside
            .shell("nft list ruleset")
            .matches("expires")
            .count()
            == 0
    })
    .await;
    assert_eq!(pod.ask("/", &[]), "target GET / 0\n");
    signal(&pod.agent.program, Signal::CONT);
    wait_until(|| pod.ask("/", &[]) == "session 0\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_end_gives_ports_back_at_once() {
    let Some(mut pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&session, 1, steal(None), false).await.unwrap();
    let outside = &pod.outside;
    let program = &mut pod.agent.program;
    let answers = load_around(outside, || program.hang_up());
    assert_served_again(&answers);
    assert!(pod.agent.program.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_end_cuts_no_answer_of_the_targets() {
    let Some(mut pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    let got = answer(inbox);
    subscribe(&session, 1, IncomingMode::Mirror, false)
        .await
        .unwrap();
    let mut slow = pod.outside.command("curl");
    slow.args(["--silent", "http://10.77.0.1:8080/slow"]);
    let slow = slow.stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until(|| {
        pod.inside
            .shell("ss -Htn state established sport = 8080")
            .lines()
            .count()
            == 2
    })
    .await;
    pod.agent.program.hang_up();
    let output = slow.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "target GET /slow 0\n"
    );
    assert!(pod.agent.program.wait().success());
    drop(got);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_dies_without_a_word_leaves_the_target_serving() {
    let Some(pod) = Pod::new() else { return };
    // A runtime of its own, to be dropped with everything in it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on_from_async(async {
            let (session, inbox) = pod.agent.session().await;
            answer(inbox);
            subscribe(&session, 1, steal(None), false).await.unwrap();
        })
        .await;
    assert_eq!(pod.ask("/", &[]), "session 0\n");
    let answers = load_around(&pod.outside, || runtime.shutdown_background());
    assert_served_again(&answers);
}

/// Runs a future on a runtime from within another one.
trait BlockOnFromAsync {
    async fn block_on_from_async<F>(&self, future: F)
    where
        F: Future<Output = ()>;
}

impl BlockOnFromAsync for tokio::runtime::Runtime {
    async fn block_on_from_async<F>(&self, future: F)
    where
        F: Future<Output = ()>,
    {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            let _guard = self.enter();
            future.as_mut().poll(context)
        })
        .await;
    }
}
