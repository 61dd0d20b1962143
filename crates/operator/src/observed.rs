//! What an operator tells of itself while it runs, to whoever asks its port: probes of the kubelet, and Prometheus.
//!
//! ```text
//!   GET /livez     200; 503 where one turn of a loop takes longer than STUCK_AFTER: a restart cures it
//!   GET /readyz    200; 503 where for SILENT_AFTER the API server has not answered, or no look saw any branches
//!   GET /metrics   the figures, as OpenMetrics
//! ```
//!
//! Owns what is kept for that, which nothing else depends on. Says nothing that a status would not: counts, no names of
//! branches or of people.

mod figures;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

pub(crate) use figures::{Figures, HostState, Seen};

/// A turn that takes longer hangs: every question in one has a limit far below.
const STUCK_AFTER: Duration = Duration::from_secs(180);

/// Without an answer of the API server for so long, or without a look that could read anything, this operator is of no use.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// A loop of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loop {
    /// Whoever stands for the lead.
    Lead,
    /// Looking after branches.
    Branches,
    /// Looking after sessions.
    Sessions,
}

#[derive(Debug, Default)]
struct Pulse {
    /// When the turn of each loop that runs began.
    turns: BTreeMap<Loop, Instant>,
    /// When the API server last answered.
    answered: Option<Instant>,
    /// Since when no look could read anything, and why the last one could not.
    blind: Option<(Instant, String)>,
}

/// What is known of this operator.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pulse: Mutex<Pulse>,
    /// The figures.
    pub(crate) figures: Figures,
}

impl Observed {
    /// A turn of a loop begins.
    pub(crate) fn turns(&self, which: Loop) {
        self.pulse().turns.insert(which, Instant::now());
    }

    /// A loop does not run any more, which is nothing bad.
    pub(crate) fn rests(&self, which: Loop) {
        let mut pulse = self.pulse();
        pulse.turns.remove(&which);
        if which == Loop::Branches {
            pulse.blind = None;
        }
    }

    /// The API server answered.
    pub(crate) fn answered(&self) {
        self.pulse().answered = Some(Instant::now());
    }

    /// A look at branches read what there is, of one namespace at least; or nothing, with why.
    pub(crate) fn looked(&self, failure: Option<String>) {
        let mut pulse = self.pulse();
        pulse.blind = failure.map(|why| {
            let since = pulse.blind.as_ref().map(|(since, _)| *since);
            (since.unwrap_or_else(Instant::now), why)
        });
    }

    /// Why this operator should be started anew; none while it lives.
    fn stuck(&self, now: Instant) -> Option<String> {
        let pulse = self.pulse();
        let mut ages = pulse
            .turns
            .iter()
            .map(|(which, began)| (which, now - *began));
        let (which, age) = ages.find(|(_, age)| *age > STUCK_AFTER)?;
        Some(format!("{which:?}: one turn takes {} s", age.as_secs()))
    }

    /// Why it does not work; none while it does.
    fn unready(&self, now: Instant) -> Option<String> {
        let pulse = self.pulse();
        if let Some((since, why)) = &pulse.blind
            && now - *since > SILENT_AFTER
        {
            let seconds = (now - *since).as_secs();
            return Some(format!("no branches could be read for {seconds} s: {why}"));
        }
        match pulse.answered {
            None => Some("the API server has not answered yet".to_owned()),
            Some(last) if now - last > SILENT_AFTER => Some(format!(
                "the API server has not answered for {} s",
                (now - last).as_secs()
            )),
            Some(_) => None,
        }
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        // Nothing in it can be half written.
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens on every address of the pod, of both families where it has both.
///
/// # Errors
/// When the port is taken.
pub(crate) async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Answers for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, observed: Arc<Observed>) {
    let livez = |State(it): State<Arc<Observed>>| async move { told(it.stuck(Instant::now())) };
    let readyz = |State(it): State<Arc<Observed>>| async move { told(it.unready(Instant::now())) };
    let metrics = |State(it): State<Arc<Observed>>| async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], it.figures.written())
    };
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(observed);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "probes and metrics are not answered any more");
    }
}

fn told(why_not: Option<String>) -> impl IntoResponse {
    match why_not {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_is_stuck_and_who_rests_is_not() {
        let (observed, now) = (Observed::default(), Instant::now());
        assert_eq!(observed.stuck(now), None);
        observed.turns(Loop::Lead);
        observed.turns(Loop::Branches);
        let soon = now + STUCK_AFTER / 2;
        assert_eq!(observed.stuck(soon), None);
        let late = Instant::now() + STUCK_AFTER + Duration::from_secs(1);
        assert_eq!(
            observed.stuck(late).as_deref(),
            Some("Lead: one turn takes 181 s")
        );
        observed.rests(Loop::Lead);
        observed.rests(Loop::Branches);
        assert_eq!(observed.stuck(late), None);
    }

    #[test]
    fn without_an_answer_of_the_api_server_it_is_not_ready() {
        let observed = Observed::default();
        let told = observed.unready(Instant::now());
        assert_eq!(told.as_deref(), Some("the API server has not answered yet"));
        observed.answered();
        assert_eq!(observed.unready(Instant::now()), None);
        let late = Instant::now() + SILENT_AFTER + Duration::from_secs(1);
        let told = observed.unready(late).expect("it is silent");
        assert_eq!(told, "the API server has not answered for 31 s");
    }

    #[test]
    fn who_leads_and_reads_nothing_is_not_ready_though_the_lease_is_answered() {
        let observed = Observed::default();
        observed.turns(Loop::Branches);
        observed.looked(Some("cannot list branches: forbidden".to_owned()));
        let late = Instant::now() + SILENT_AFTER + Duration::from_secs(1);
        observed.pulse().answered = Some(late);
        // A later failure counts from the first.
        observed.looked(Some("cannot list sources: forbidden".to_owned()));
        assert_eq!(observed.unready(Instant::now()), None);
        assert_eq!(
            observed.unready(late).as_deref(),
            Some("no branches could be read for 31 s: cannot list sources: forbidden")
        );
        observed.looked(None);
        assert_eq!(observed.unready(late), None);
        // Who does not lead any more need not see.
        observed.looked(Some("cannot list branches: forbidden".to_owned()));
        observed.rests(Loop::Branches);
        assert_eq!(observed.unready(late), None);
    }
}
