//! Targets as real processes with real keepers. A keeper is this test binary once more, at [`keeper_process`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use model::{Namespace, TargetRef};
use rustix::process::{Pid, Signal, getsid};
use supervisor::{Process, Tree};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use super::log::last_lines;
use super::*;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where [`starting_process`] finds its data directory.
const STARTER_DIR: &str = "TEST_STARTER_DIR";

/// A value that may appear in the target's environment only.
const SECRET: &str = "hunter2-hunter2";

/// Three processes: the target, a child, and an orphan in a session of its own. Says the pids of the last two.
const FAMILY: &str = "sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $!; exit' & wait";

fn noon() -> Timestamp {
    "2026-01-02T12:00:00Z".parse().unwrap()
}

#[test]
#[ignore = "a keeper of the other tests, which start it"]
fn keeper_process() {
    runtime().block_on(keep(noon)).unwrap();
}

#[test]
#[ignore = "a process that starts a target and ends, which another test starts"]
fn starting_process() {
    let dir = PathBuf::from(std::env::var_os(STARTER_DIR).unwrap());
    let request = request(dir, "deployment/inventory", "sleep 1000");
    runtime().block_on(run(request, &mut |_| {})).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The arguments with which this test binary runs only `test`.
fn only(test: &str) -> Vec<OsString> {
    let (_, module) = module_path!().split_once("::").unwrap();
    [
        "--exact",
        &format!("{module}::{test}"),
        "--ignored",
        "--nocapture",
    ]
    .map(OsString::from)
    .to_vec()
}

fn request(data_dir: PathBuf, target: &str, script: &str) -> RunRequest {
    RunRequest {
        data_dir,
        keeper: KeeperProgram {
            program: std::env::current_exe().unwrap(),
            args: only("keeper_process"),
            environment: Vec::new(),
            has_companions: false,
        },
        target: target.parse().unwrap(),
        namespace: Namespace::new("metalmart").unwrap(),
        ports: Vec::new(),
        published: Vec::new(),
        network: NetworkChoice::Machine,
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        environment: BTreeMap::from([
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("PASSWORD".into(), SECRET.into()),
        ]),
        directory: "/".into(),
        wait: PATIENCE,
    }
}

/// A data directory whose targets end with it.
struct Ground {
    dir: TempDir,
    namespace: Namespace,
}

impl Ground {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            namespace: Namespace::new("metalmart").unwrap(),
        }
    }

    fn request(&self, target: &str, script: &str) -> RunRequest {
        request(self.dir.path().to_path_buf(), target, script)
    }

    async fn run(&self, target: &str, script: &str) -> RunReport {
        run(self.request(target, script), &mut |_| {})
            .await
            .unwrap()
    }

    fn list(&self) -> Vec<TargetReport> {
        list(self.dir.path(), Some(&self.namespace)).unwrap()
    }

    fn state(&self) -> TargetState {
        let targets = self.list();
        assert_eq!(targets.len(), 1);
        targets[0].state
    }

    fn find(&self, target: &str) -> Result<FoundTarget, FindError> {
        let target: TargetRef = target.parse().unwrap();
        LocalTargets::new(self.dir.path()).find_registered(&self.namespace, &target)
    }

    fn record(&self, target: &str) -> Record {
        let targets = LocalTargets::new(self.dir.path());
        targets
            .look_up(&self.namespace, &target.parse().unwrap())
            .unwrap()
    }

    /// Waits until the target has ended and its keeper has said so.
    async fn settle(&self, target: &str) {
        let keeper = self.record(target).keeper.identity();
        timeout(PATIENCE, keeper.ended()).await.unwrap().unwrap();
    }

    async fn stop(&self, which: Which) -> Result<Vec<StopReport>, StopError> {
        let stopping = stop(self.dir.path(), &self.namespace, &which);
        timeout(PATIENCE, stopping).await.unwrap()
    }

    async fn stop_named(&self, target: &str) -> StopOutcome {
        let which = Which::Named(vec![target.parse().unwrap()]);
        self.stop(which).await.unwrap().remove(0).outcome
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let registry = Registry::of(self.dir.path());
        for record in registry.all(None).unwrap_or_default() {
            let keeper = record.keeper.identity();
            Tree::in_session(record.process.identity(), keeper).kill();
        }
    }
}

/// The first `count` lines of the target's log, once they are there.
async fn log_lines(report: &RunReport, count: usize) -> Vec<String> {
    let mut ticks = interval(Duration::from_millis(2));
    let reading = async {
        loop {
            ticks.tick().await;
            let text = fs::read_to_string(&report.log).unwrap();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap()
}

async fn family(report: &RunReport) -> Vec<Process> {
    let lines = log_lines(report, 2).await;
    let pids = lines.iter().map(|line| line.parse().unwrap());
    pids.map(|pid| Process::of(pid).unwrap()).collect()
}

fn session_of(process: Process) -> Pid {
    getsid(Pid::from_raw(process.pid())).unwrap()
}

/// A port on which nothing listens at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn serve(port: u16) -> String {
    format!("exec /usr/bin/python3 -m http.server --bind 127.0.0.1 {port}")
}

#[tokio::test]
async fn a_target_outlives_the_command_that_started_it() {
    let ground = Ground::new();
    let starter = Command::new(std::env::current_exe().unwrap())
        .args(only("starting_process"))
        .env(STARTER_DIR, ground.dir.path())
        .output()
        .unwrap();
    assert!(starter.status.success(), "{starter:?}");
    assert_eq!(ground.state(), TargetState::Running);
    let record = ground.record("deployment/inventory");
    let (keeper, process) = (record.keeper.identity(), record.process.identity());
    // Out of the reach of the starter's terminal and shell.
    assert_eq!(session_of(keeper).as_raw_nonzero().get(), keeper.pid());
    assert_eq!(session_of(process), session_of(keeper));
    let found = ground.find("deployment/inventory").unwrap();
    assert_eq!(found.environment["PASSWORD"], SECRET);
}

#[tokio::test]
async fn the_environment_is_that_of_the_process_and_nothing_else() {
    let ground = Ground::new();
    let mut request = ground.request("pod/p", "");
    // Not by way of a shell, which adds variables of its own.
    (request.program, request.args) = ("sleep".into(), vec!["1000".into()]);
    request.environment.insert("EMPTY".into(), "".into());
    request.ports = vec![9];
    request.wait = Duration::ZERO;
    run(request, &mut |_| {}).await.unwrap();
    let found = ground.find("pod/p").unwrap();
    let names: Vec<_> = found.environment.keys().map(String::as_str).collect();
    assert_eq!(names, ["EMPTY", "PASSWORD", "PATH"]);
    assert_eq!((found.ports, found.container), (vec![9], None));
    assert!(found.skipped.is_empty());
}

#[tokio::test]
async fn the_process_gets_no_descriptor_but_its_three() {
    let ground = Ground::new();
    let report = ground
        .run("pod/p", "ls /proc/self/fd; readlink /proc/self/fd/0")
        .await;
    // The fourth is the listing's own.
    assert_eq!(
        log_lines(&report, 5).await,
        ["0", "1", "2", "3", "/dev/null"]
    );
    ground.settle("pod/p").await;
}

#[tokio::test]
async fn secrets_are_in_no_file_and_no_argument() {
    let ground = Ground::new();
    let mut request = ground.request("pod/p", "exec sleep 1000");
    request.args.extend(["sh".into(), SECRET.into()]);
    run(request, &mut |_| {}).await.unwrap();
    let record = ground.record("pod/p");
    let stored = fs::read_to_string(ground.dir.path().join("local/metalmart/pod/p/target.json"));
    assert!(!stored.unwrap().contains(SECRET));
    let keeper = record.keeper.identity().pid();
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{keeper}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{file}");
    }
    assert_eq!(ground.list()[0].program, "sh");
    let found = ground.find("pod/p").unwrap();
    assert!(!format!("{found:?}").contains(SECRET));
}

#[tokio::test]
async fn a_target_that_runs_is_not_started_again() {
    let ground = Ground::new();
    let first = ground.run("deployment/inventory", "sleep 1000").await;
    let again = run(ground.request("deploy/inventory", "true"), &mut |_| {}).await;
    let Err(RunError::Running { pid, .. }) = again else {
        panic!("{again:?}");
    };
    assert_eq!(pid, first.pid);
}

#[tokio::test]
async fn of_two_starts_at_once_one_wins() {
    let ground = Ground::new();
    let (mut one, mut other) = (|_| {}, |_| {});
    let results = tokio::join!(
        run(ground.request("pod/p", "sleep 1000"), &mut one),
        run(ground.request("pod/p", "sleep 1000"), &mut other)
    );
    let results = [results.0, results.1];
    assert_eq!(
        results.iter().filter(|result| result.is_ok()).count(),
        1,
        "{results:?}"
    );
    assert!(
        results.iter().any(|result| matches!(
            result,
            Err(RunError::Running { .. } | RunError::Busy { .. })
        )),
        "{results:?}"
    );
    assert_eq!(ground.state(), TargetState::Running);
}

#[tokio::test]
async fn an_end_is_shown_and_the_target_can_be_started_anew() {
    let ground = Ground::new();
    for (script, state, text) in [
        ("exit 3", TargetState::Exited { code: 3 }, "exited 3"),
        (
            "kill -9 $$",
            TargetState::Signalled { signal: 9 },
            "killed by signal 9",
        ),
    ] {
        let report = ground.run("pod/p", &format!("echo here; {script}")).await;
        ground.settle("pod/p").await;
        assert_eq!(ground.state(), state);
        assert_eq!(ground.list()[0].pid, None);
        assert_eq!(ground.list()[0].ended_at, Some(noon()));
        assert_eq!(last_lines(&report.log, 9).unwrap(), ["here"]);
        let error = ground.find("pod/p").unwrap_err();
        assert!(error.to_string().ends_with(text), "{error}");
    }
}

#[tokio::test]
async fn ports_are_waited_for() {
    let ground = Ground::new();
    let port = free_port();
    let mut request = ground.request("deployment/web", &serve(port));
    request.ports = vec![port];
    let mut steps = Vec::new();
    let report = run(request, &mut |step| steps.push(step)).await.unwrap();
    assert_eq!(
        steps,
        [
            RunProgress::Started { pid: report.pid },
            RunProgress::Waiting { ports: vec![port] },
            RunProgress::Listening { port },
        ]
    );
    assert_eq!(ground.list()[0].ports, [port]);

    // Another one cannot have its port.
    let mut other = ground.request("deployment/other", &serve(port));
    other.ports = vec![port];
    let taken = run(other, &mut |_| {}).await;
    assert!(matches!(taken, Err(RunError::PortTaken(taken)) if taken == port));
    assert_eq!(ground.list().len(), 1);
}

#[tokio::test]
async fn a_target_that_ends_before_it_listens_is_an_error_with_its_last_words() {
    let ground = Ground::new();
    let mut request = ground.request("pod/p", "echo no configuration >&2; exit 78");
    let port = free_port();
    request.ports = vec![port];
    let ended = run(request, &mut |_| {}).await;
    let Err(RunError::Ended {
        state,
        ports,
        last_lines,
        ..
    }) = ended
    else {
        panic!("{ended:?}");
    };
    assert_eq!(state, TargetState::Exited { code: 78 });
    assert_eq!(
        (ports, last_lines),
        (vec![port], vec!["no configuration".to_owned()])
    );
}

#[tokio::test]
async fn a_target_that_does_not_listen_in_time_is_left_running() {
    let ground = Ground::new();
    let mut request = ground.request("pod/p", "sleep 1000");
    let port = free_port();
    request.ports = vec![port];
    request.wait = Duration::from_millis(50);
    let silent = run(request, &mut |_| {}).await;
    assert!(matches!(silent, Err(RunError::Silent { ports, .. }) if ports == [port]));
    assert_eq!(ground.state(), TargetState::Running);
}

#[tokio::test]
async fn what_cannot_be_started_is_not_registered() {
    let ground = Ground::new();
    let mut request = ground.request("pod/p", "");
    request.program = "no-such-program".into();
    let error = run(request, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), 127);
    assert_eq!(
        error.to_string(),
        "cannot run the target: cannot find the program \"no-such-program\""
    );
    let mut request = ground.request("pod/p", "");
    request.program = "/etc/passwd".into();
    let error = run(request, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), 126);
    assert!(matches!(
        run(ground.request("pod/Upper", "true"), &mut |_| {}).await,
        Err(RunError::Name(_))
    ));
    assert!(matches!(
        run(ground.request("label/a=b", "true"), &mut |_| {}).await,
        Err(RunError::Kind)
    ));
    assert!(ground.list().is_empty());
}

#[tokio::test]
async fn stop_ends_the_whole_tree_and_forgets_it() {
    let ground = Ground::new();
    let report = ground.run("pod/p", FAMILY).await;
    let family = family(&report).await;
    let process = ground.record("pod/p").process.identity();
    assert_eq!(ground.stop_named("pod/p").await, StopOutcome::Stopped);
    for process in family.into_iter().chain([process]) {
        assert!(!process.is_alive());
    }
    assert!(ground.list().is_empty());
    assert!(!report.log.exists());
}

#[tokio::test]
async fn stop_forgets_what_has_ended_and_names_what_is_not_there() {
    let ground = Ground::new();
    ground.run("pod/ended", "exit 1").await;
    ground.settle("pod/ended").await;
    ground.run("pod/running", "sleep 1000").await;
    let names = ["pod/running", "pod/none"].map(|name| name.parse().unwrap());
    let error = ground.stop(Which::Named(names.to_vec())).await.unwrap_err();
    let StopError::Find(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        error.details(),
        ["namespace metalmart has pod/ended, pod/running"]
    );
    assert_eq!(ground.list().len(), 2);

    let reports = ground.stop(Which::All).await.unwrap();
    let outcomes: Vec<_> = reports.into_iter().map(|report| report.outcome).collect();
    let was = TargetState::Exited { code: 1 };
    assert_eq!(
        outcomes,
        [StopOutcome::Forgotten { was }, StopOutcome::Stopped]
    );
    assert!(ground.list().is_empty());
    assert_eq!(ground.stop(Which::All).await.unwrap(), []);
}

#[tokio::test]
async fn a_target_whose_keeper_was_killed_is_known_as_such_and_can_be_stopped() {
    let ground = Ground::new();
    let report = ground.run("pod/p", FAMILY).await;
    let family = family(&report).await;
    let record = ground.record("pod/p");
    let keeper = record.keeper.identity();
    keeper.signal(Signal::KILL).unwrap();
    timeout(PATIENCE, keeper.ended()).await.unwrap().unwrap();

    assert_eq!(ground.state(), TargetState::Unkept);
    assert_eq!(ground.state().to_string(), "running, keeper lost");
    assert_eq!(
        ground.find("pod/p").unwrap().environment["PASSWORD"],
        SECRET
    );
    let again = run(ground.request("pod/p", "true"), &mut |_| {}).await;
    assert!(matches!(again, Err(RunError::Running { .. })), "{again:?}");

    assert_eq!(ground.stop_named("pod/p").await, StopOutcome::Stopped);
    assert!(!record.process.identity().is_alive());
    // What left the session and lost its parent cannot be told from a stranger without the keeper.
    let [child, stray] = family[..] else {
        panic!("{family:?}");
    };
    assert!(!child.is_alive());
    stray.signal(Signal::KILL).unwrap();
    assert!(ground.list().is_empty());
}

#[tokio::test]
async fn a_target_that_ended_without_its_keeper_is_lost() {
    let ground = Ground::new();
    ground.run("pod/p", "exec sleep 1000").await;
    let record = ground.record("pod/p");
    for process in [record.keeper, record.process].map(|process| process.identity()) {
        process.signal(Signal::KILL).unwrap();
        timeout(PATIENCE, process.ended()).await.unwrap().unwrap();
    }
    assert_eq!(ground.state(), TargetState::Lost);
    let was = TargetState::Lost;
    assert_eq!(
        ground.stop_named("pod/p").await,
        StopOutcome::Forgotten { was }
    );
}

#[tokio::test]
async fn a_keeper_that_is_asked_to_end_ends_its_target_and_writes_it_down() {
    let ground = Ground::new();
    let report = ground.run("pod/p", FAMILY).await;
    let family = family(&report).await;
    let keeper = ground.record("pod/p").keeper.identity();
    keeper.signal(Signal::TERM).unwrap();
    timeout(PATIENCE, keeper.ended()).await.unwrap().unwrap();
    assert_eq!(ground.state(), TargetState::Stopped);
    assert!(family.into_iter().all(|process| !process.is_alive()));
}

#[tokio::test]
async fn other_signals_of_the_keeper_go_on_to_the_process() {
    let ground = Ground::new();
    let script = "trap 'echo reloaded; exit 0' USR1; echo up; while :; do sleep 0.01; done";
    let report = ground.run("pod/p", script).await;
    log_lines(&report, 1).await;
    let keeper = ground.record("pod/p").keeper.identity();
    keeper.signal(Signal::USR1).unwrap();
    assert_eq!(log_lines(&report, 2).await, ["up", "reloaded"]);
    ground.settle("pod/p").await;
    assert_eq!(ground.state(), TargetState::Exited { code: 0 });
}

#[tokio::test]
async fn what_a_process_leaves_behind_is_ended_with_it() {
    let ground = Ground::new();
    let report = ground
        .run(
            "pod/p",
            "sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $!' & wait $!",
        )
        .await;
    let family = log_lines(&report, 2).await;
    ground.settle("pod/p").await;
    assert_eq!(ground.state(), TargetState::Exited { code: 0 });
    for pid in family {
        let stat = Process::of(pid.parse().unwrap());
        assert!(stat.is_none_or(|process| !process.is_alive()), "{pid}");
    }
}

#[tokio::test]
async fn a_missing_target_is_told_with_those_that_are_there() {
    let ground = Ground::new();
    let error = ground.find("deployment/inventory").unwrap_err();
    assert_eq!(error.details(), Vec::<String>::new());
    ground
        .run("deployment/shop/container/app", "sleep 1000")
        .await;
    let mut elsewhere = ground.request("pod/db", "sleep 1000");
    elsewhere.namespace = Namespace::new("other").unwrap();
    run(elsewhere, &mut |_| {}).await.unwrap();

    let error = ground.find("deployment/inventory").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no target deployment/inventory in namespace metalmart"
    );
    assert_eq!(
        error.details(),
        [
            "namespace metalmart has deployment/shop/container/app",
            "other namespaces have pod/db -n other"
        ]
    );
    assert_eq!(
        error.hint().unwrap(),
        "`bough local run deployment/inventory -n metalmart -- COMMAND` registers a process as that target"
    );
    let found = ground.find("deployment/shop").unwrap();
    assert_eq!(found.container.as_deref(), Some("app"));
    assert!(ground.find("deployment/shop/container/app").is_ok());
    assert!(matches!(
        ground.find("deployment/shop/container/web"),
        Err(FindError::Container { asked, .. }) if asked == "web"
    ));
    assert!(matches!(ground.find("label/a=b"), Err(FindError::Label(_))));
}
