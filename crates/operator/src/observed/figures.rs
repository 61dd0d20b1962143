//! Figures of an operator, as Prometheus reads them. Those of branches are the leader's alone: the others have none.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use resources::BranchPhase;

/// The shortest look that is told apart, in seconds; each further bucket is twice as long, the last 82 s.
const LOOK_SECONDS_MIN: f64 = 0.02;
const LOOK_BUCKETS: u16 = 13;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBranches {
    namespace: String,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNamespace {
    namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHosts {
    namespace: String,
    version: u16,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailures {
    of: &'static str,
}

/// How a host stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostState {
    /// Its engine answers.
    Answers,
    /// Its pod is not ready.
    Starting,
    /// It is ready, and its engine does not answer.
    Failing,
}

impl HostState {
    fn word(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Starting => "starting",
            Self::Failing => "failing",
        }
    }
}

/// What one look saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Branches by namespace and phase.
    branches: BTreeMap<(String, &'static str), i64>,
    /// Sessions that hold branches, by namespace.
    sessions: BTreeMap<String, i64>,
    /// Hosts by namespace and version.
    hosts: Vec<(String, u16, HostState)>,
}

impl Seen {
    /// A branch.
    pub(crate) fn branch(&mut self, namespace: &str, phase: BranchPhase, sessions: u32) {
        let key = (namespace.to_owned(), phase.word());
        *self.branches.entry(key).or_default() += 1;
        *self.sessions.entry(namespace.to_owned()).or_default() += i64::from(sessions);
    }

    /// A host.
    pub(crate) fn host(&mut self, namespace: &str, version: u16, state: HostState) {
        self.hosts.push((namespace.to_owned(), version, state));
    }
}

/// All of them. Clones of a figure are the same figure.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Locked for as long as figures that belong together are written, and for as long as they are read.
    registry: Mutex<Registry>,
    leading: Gauge,
    looks: Counter,
    look_seconds: Histogram,
    failures: Family<OfFailures, Counter>,
    branches: Family<OfBranches, Gauge>,
    sessions: Family<OfNamespace, Gauge>,
    hosts: Family<OfHosts, Gauge>,
}

impl Default for Figures {
    fn default() -> Self {
        let buckets = exponential_buckets(LOOK_SECONDS_MIN, 2.0, LOOK_BUCKETS);
        let figures = Self {
            registry: Mutex::new(Registry::with_prefix("bough")),
            leading: Gauge::default(),
            looks: Counter::default(),
            look_seconds: Histogram::new(buckets),
            failures: Family::default(),
            branches: Family::default(),
            sessions: Family::default(),
            hosts: Family::default(),
        };
        figures.register();
        figures
    }
}

impl Figures {
    fn register(&self) {
        let mut registry = self.registry();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What this operator was built of", build);
        let leading = self.leading.clone();
        registry.register("operator_leading", "1 for the operator that works", leading);
        let looks = self.looks.clone();
        registry.register("operator_looks", "Looks at all branches", looks);
        registry.register_with_unit(
            "operator_look_duration",
            "How long one look took",
            Unit::Seconds,
            self.look_seconds.clone(),
        );
        let failures = self.failures.clone();
        registry.register(
            "operator_failures",
            "Steps that failed, at the API server or at a host's engine; each is tried again at the next look",
            failures,
        );
        let branches = self.branches.clone();
        registry.register("branches", "Branches by phase", branches);
        let sessions = self.sessions.clone();
        registry.register("branch_sessions", "Sessions that hold branches", sessions);
        let hosts = self.hosts.clone();
        registry.register("branch_hosts", "Branch hosts by how they stand", hosts);
    }

    /// Whether this operator works. One that does not has no branches to tell of.
    pub(crate) fn leads(&self, leads: bool) {
        self.leading.set(leads.into());
        if !leads {
            self.write(&Seen::default());
        }
    }

    /// A step failed.
    pub(crate) fn failed(&self, of: &'static str) {
        self.failures.get_or_create(&OfFailures { of }).inc();
    }

    /// A look has ended.
    pub(crate) fn looked(&self, seen: &Seen, took: Duration) {
        self.looks.inc();
        self.look_seconds.observe(took.as_secs_f64());
        self.write(seen);
    }

    fn write(&self, seen: &Seen) {
        let _whole = self.registry();
        self.branches.clear();
        self.sessions.clear();
        self.hosts.clear();
        for ((namespace, phase), count) in &seen.branches {
            let (namespace, phase) = (namespace.clone(), *phase);
            let labels = OfBranches { namespace, phase };
            self.branches.get_or_create(&labels).set(*count);
        }
        for (namespace, count) in &seen.sessions {
            let namespace = namespace.clone();
            let labels = OfNamespace { namespace };
            self.sessions.get_or_create(&labels).set(*count);
        }
        for (namespace, version, state) in &seen.hosts {
            let labels = OfHosts {
                namespace: namespace.clone(),
                version: *version,
                state: state.word(),
            };
            self.hosts.get_or_create(&labels).inc();
        }
    }

    /// All of them in the text format.
    pub(crate) fn written(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry()).expect("a string takes any text");
        text
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Whole after each call.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_replaces_what_the_one_before_saw() {
        let figures = Figures::default();
        figures.leads(true);
        let mut seen = Seen::default();
        seen.branch("shop", BranchPhase::Ready, 2);
        seen.branch("shop", BranchPhase::Ready, 1);
        seen.branch("bank", BranchPhase::Failed, 0);
        seen.host("shop", 16, HostState::Answers);
        figures.looked(&seen, Duration::from_millis(30));
        figures.failed("engine");
        let text = figures.written();
        for line in [
            r#"bough_branches{namespace="shop",phase="Ready"} 2"#,
            r#"bough_branches{namespace="bank",phase="Failed"} 1"#,
            r#"bough_branch_sessions{namespace="shop"} 3"#,
            r#"bough_branch_hosts{namespace="shop",version="16",state="answers"} 1"#,
            r#"bough_operator_failures_total{of="engine"} 1"#,
            "bough_operator_looks_total 1",
            "bough_operator_look_duration_seconds_count 1",
            "bough_operator_leading 1",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{text}\nhas no line {line}"
            );
        }
        figures.leads(false);
        let text = figures.written();
        assert!(!text.contains("bough_branches{"), "{text}");
        assert!(text.contains("bough_operator_leading 0"), "{text}");
    }
}
