//! The session's part in its target's network: what the file asks for, the way to the agent, and what is said of both.
//!
//! Owns turning `feature.network` into the supervisor's plan, the first link to the agent and the loss of it. A target
//! without an agent leaves everything to this machine, which is told in a line.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use config::{
    AddressEntry, AddressMatch, ConcurrentSteal, InnerFilter, Network, Protocol, Side, SideFilter,
};
use model::{ExitCode, IncomingMode};
use resources::NetworkWish;
use supervisor::network as plan;
use supervisor::{NetworkPlan, NetworkThread, TargetNetwork};
use wire::CloseReason;
use wire::pump::{ConnectError, Inbox};

use super::prepare::Plan;
use crate::agent_words;
use crate::error::CommandError;

/// How long a session waits for a link that it lost: a laptop asleep in its bag, a VPN that comes back.
pub(super) const GRACE: Duration = Duration::from_secs(15 * 60);

/// How long a link may be away before it is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection of the program waits for a pod to go out by, while there is none.
const AGENT_WITHIN: Duration = Duration::from_secs(30);

/// Why a session does not take part in its target's network.
#[derive(Debug, thiserror::Error)]
enum NetworkError {
    #[error("cannot reach the agent of {target}")]
    Agent {
        target: String,
        #[source]
        source: ConnectError,
    },
    #[error("cannot start a thread for the session's network")]
    Thread(#[source] io::Error),
    #[error("feature.network.outgoing.unix_streams: {0:?} cannot be read")]
    UnixStreams(Vec<String>),
    #[error("feature.network.incoming.http_filter: filters by {0} are not supported yet")]
    Filter(&'static str),
}

/// A session lost what it had of its target.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetworkLoss {
    /// The agent is gone, or the link to it for too long.
    #[error("the target's network is lost: {0}")]
    Agent(String),
    /// Another session steals the port.
    #[error("another session steals port {0} of the target already")]
    Taken(u16),
}

impl From<NetworkLoss> for CommandError {
    fn from(loss: NetworkLoss) -> Self {
        let hint = match &loss {
            NetworkLoss::Agent(_) => {
                "`bough local ls`, in a cluster `kubectl get pods`, shows whether the target runs; the same command starts \
                 again"
            }
            NetworkLoss::Taken(_) => {
                "\"on_concurrent_steal\": \"continue\" shares the port, \"override\" takes it over"
            }
        };
        Self::new(ExitCode::Target, loss).with_hint(hint)
    }
}

/// A link to the target's agent that stands.
pub(super) struct Joined {
    pub(super) network: Arc<TargetNetwork>,
    pub(super) inbox: Inbox,
    /// What carries the link.
    pub(super) thread: NetworkThread,
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").finish_non_exhaustive()
    }
}

/// Joins the target's network, where the file wants it and the target has an agent.
///
/// # Errors
/// Exit code 2 for what the file asks for and we cannot do, 3 for an agent that cannot be reached.
pub(super) async fn join(plan: &Plan) -> Result<Option<Joined>, CommandError> {
    let Some(agent) = plan.agent() else {
        return Ok(None);
    };
    let mut wanted = plan_network(&plan.config.network)
        .map_err(|error| CommandError::new(ExitCode::Usage, error))?;
    if plan.own_pod.is_some() {
        // Nobody sends anything there.
        wanted.incoming.mode = IncomingMode::Off;
    }
    if !wanted.is_needed() {
        return Ok(None);
    }
    let thread = NetworkThread::start()
        .map_err(|error| CommandError::new(ExitCode::Target, NetworkError::Thread(error)))?;
    let link = agent.clone();
    let connected = thread.run(async move { link.connect(GRACE).await }).await;
    let (session, inbox) = connected.map_err(|source| {
        let target = match plan.target() {
            Some(target) => target.to_string(),
            None => "the session's own pod".to_owned(),
        };
        let hint = agent.hint();
        CommandError::new(ExitCode::Target, NetworkError::Agent { target, source }).with_hint(
            format!("{hint}; \"network\": false does without its network"),
        )
    })?;
    let network = match plan.follower() {
        Some(_) => TargetNetwork::following(wanted, session, AGENT_WITHIN),
        None => TargetNetwork::new(wanted, session),
    };
    Ok(Some(Joined {
        network,
        inbox,
        thread,
    }))
}

/// Takes leave of the agents, which keep a session that is only silent for a while.
pub(super) async fn leave(network: &TargetNetwork) {
    let agents = network.agents();
    let leaving = agents
        .iter()
        .map(|agent| agent.session().leave(CloseReason::Done));
    futures_util::future::join_all(leaving).await;
}

/// The session with the target's agent is over.
pub(super) fn lost(reason: &CloseReason) -> NetworkLoss {
    let why = agent_words::end(reason, &format!("{} min", GRACE.as_secs() / 60));
    NetworkLoss::Agent(why)
}

/// What is told of a link that is away.
pub(super) fn describe_stray() -> String {
    format!(
        "no link to the target's agent for {} s: its connections wait; trying again for {} min",
        PATIENCE.as_secs(),
        GRACE.as_secs() / 60
    )
}

/// The same as a resource of a cluster says it.
pub(super) fn wish(network: &Network) -> NetworkWish {
    NetworkWish {
        incoming: network.incoming.mode,
        outgoing: goes_out(network),
    }
}

/// Whether connections or names are to go by a target.
pub(super) fn goes_out(network: &Network) -> bool {
    let outgoing = &network.outgoing;
    outgoing.tcp || outgoing.udp || network.dns.enabled
}

fn plan_network(network: &Network) -> Result<NetworkPlan, NetworkError> {
    let outgoing = &network.outgoing;
    let patterns = outgoing.unix_streams.as_ref();
    let patterns = patterns.map(|list| list.0.clone()).unwrap_or_default();
    let unix_streams = plan::UnixStreams::new(&patterns)
        .map_err(|_| NetworkError::UnixStreams(patterns.clone()))?;
    Ok(NetworkPlan {
        outgoing: plan::Outgoing {
            tcp: outgoing.tcp,
            udp: outgoing.udp,
            ignore_localhost: outgoing.ignore_localhost,
            filter: outgoing.filter.as_ref().map(plan_filter),
            unix_streams,
        },
        dns: plan::Dns {
            enabled: network.dns.enabled,
            filter: network.dns.filter.as_ref().map(plan_filter),
        },
        incoming: plan_incoming(network)?,
        ipv6: network.ipv6,
    })
}

fn plan_filter(filter: &SideFilter) -> plan::Filter {
    plan::Filter {
        side: match filter.side {
            Side::Remote => plan::Side::Target,
            Side::Local => plan::Side::Here,
        },
        entries: filter.entries.iter().map(plan_entry).collect(),
    }
}

fn plan_entry(entry: &AddressEntry) -> plan::Entry {
    plan::Entry {
        protocol: match entry.protocol {
            Protocol::Any => None,
            Protocol::Tcp => Some(plan::Protocol::Tcp),
            Protocol::Udp => Some(plan::Protocol::Udp),
        },
        place: match &entry.address {
            AddressMatch::Any => plan::Place::Any,
            AddressMatch::Ip(ip) => plan::Place::Ip(*ip),
            AddressMatch::Network(base, bits) => plan::Place::Network(*base, *bits),
            AddressMatch::Name(name) => plan::Place::Name(name.clone()),
        },
        port: (entry.port != 0).then_some(entry.port),
    }
}

fn plan_incoming(network: &Network) -> Result<plan::Incoming, NetworkError> {
    let incoming = &network.incoming;
    let filter = match incoming.mode {
        IncomingMode::Steal => plan_http(&incoming.http_filter)?,
        IncomingMode::Mirror | IncomingMode::Off => None,
    };
    Ok(plan::Incoming {
        mode: incoming.mode,
        ports: incoming.ports.clone(),
        ignore_ports: incoming.ignore_ports.clone(),
        port_mapping: incoming.port_mapping.clone(),
        listen_ports: incoming.listen_ports.clone(),
        ignore_localhost: incoming.ignore_localhost,
        filter,
        filter_ports: incoming.http_filter.ports.as_ref().map(|p| p.0.clone()),
        on_concurrent_steal: match incoming.on_concurrent_steal {
            ConcurrentSteal::Abort => plan::OnConcurrentSteal::Abort,
            ConcurrentSteal::Continue => plan::OnConcurrentSteal::Continue,
            ConcurrentSteal::Override => plan::OnConcurrentSteal::Override,
        },
    })
}

fn plan_http(filter: &config::HttpFilter) -> Result<Option<plan::HttpFilter>, NetworkError> {
    if filter.body_filter.is_some() {
        return Err(NetworkError::Filter("bodies"));
    }
    if filter.header_filter_jq.is_some() {
        return Err(NetworkError::Filter("jq programs"));
    }
    let list = |inner: &[InnerFilter]| inner.iter().map(plan_inner).collect::<Result<_, _>>();
    Ok(if let Some(pattern) = &filter.header_filter {
        Some(plan::HttpFilter::Header(pattern.clone()))
    } else if let Some(pattern) = &filter.path_filter {
        Some(plan::HttpFilter::Path(pattern.clone()))
    } else if let Some(method) = &filter.method_filter {
        Some(plan::HttpFilter::Method(method.clone()))
    } else if let Some(all) = &filter.all_of {
        Some(plan::HttpFilter::AllOf(list(all)?))
    } else if let Some(any) = &filter.any_of {
        Some(plan::HttpFilter::AnyOf(list(any)?))
    } else {
        None
    })
}

fn plan_inner(inner: &InnerFilter) -> Result<plan::HttpFilter, NetworkError> {
    if let Some(pattern) = &inner.header {
        Ok(plan::HttpFilter::Header(pattern.clone()))
    } else if let Some(pattern) = &inner.path {
        Ok(plan::HttpFilter::Path(pattern.clone()))
    } else if let Some(method) = &inner.method {
        Ok(plan::HttpFilter::Method(method.clone()))
    } else if inner.body.is_some() {
        Err(NetworkError::Filter("bodies"))
    } else {
        Err(NetworkError::Filter("jq programs"))
    }
}

/// What of the target's network is in force, for the opening line.
pub(super) fn describe(plan: &Plan, joined: Option<&TargetNetwork>) -> Vec<String> {
    let network = &plan.config.network;
    let Some(joined) = joined else {
        let wants = plan_network(network).is_ok_and(|wanted| wanted.is_needed());
        if plan.target().is_none() || !wants {
            return Vec::new();
        }
        return vec![
            "bough: the target has no agent: connections, names and ports are this machine's own, and the target keeps \
             its traffic"
                .to_owned(),
        ];
    };
    let wanted = joined.plan();
    let mut through = Vec::new();
    for (is_on, what) in [
        (wanted.outgoing.tcp, "TCP"),
        (wanted.outgoing.udp, "UDP"),
        (wanted.dns.enabled, "names"),
    ] {
        if is_on {
            through.push(what);
        }
    }
    let mut lines = Vec::new();
    if through.is_empty() {
        lines.push("bough: connections and names are this machine's own, as asked".to_owned());
    } else {
        let filtered = if wanted.outgoing.filter.is_some() || wanted.dns.filter.is_some() {
            ", as the filters say"
        } else {
            ""
        };
        lines.push(format!(
            "bough: {} through the target's network{filtered}",
            through.join(", ")
        ));
    }
    let is_outgoing = wanted.outgoing.tcp || wanted.outgoing.udp;
    match wanted.incoming.mode {
        IncomingMode::Off => {}
        IncomingMode::Steal => {
            let which = match wanted.incoming.filter {
                Some(_) => "requests that match the filter",
                None => "connections to the target's ports",
            };
            lines.push(format!(
                "bough: steal: {which} come to the program, told port by port as it listens"
            ));
        }
        IncomingMode::Mirror => {
            lines.push(
                "bough: mirror: the program gets copies of the target's connections, told port by port as it listens; the target answers"
                    .to_owned(),
            );
            if is_outgoing {
                lines.push(
                    "bough:   both handle each request: what they do outside the branched databases (calls, mails, \
                     messages) happens twice"
                        .to_owned(),
                );
            }
            if network.incoming.http_filter.is_set() {
                lines.push("bough:   http_filter has no effect on copies: all are made".to_owned());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_of(text: &str) -> Network {
        let directory = std::env::temp_dir();
        let surroundings = config::Surroundings::new(directory, "key".to_owned());
        let text = format!(r#"{{"target": "pod/a", "feature": {{"network": {text}}}}}"#);
        let read = config::read_text(std::path::Path::new("x.json"), &text, &surroundings);
        read.expect("the file is right").network
    }

    #[test]
    fn every_wish_of_the_file_is_in_the_plan() {
        let network = network_of(
            r#"{"incoming": {"mode": "steal", "ports": [8080], "port_mapping": [[8080, 80]],
                             "http_filter": {"all_of": [{"path": "^/a"}, {"method": "GET"}], "ports": [80]},
                             "on_concurrent_steal": "override"},
                "outgoing": {"udp": false, "filter": {"local": ["tcp://10.0.0.0/8:5432", "corp", ":53"]}},
                "ipv6": false}"#,
        );
        let planned = plan_network(&network).unwrap();
        assert!(planned.outgoing.tcp && !planned.outgoing.udp && !planned.ipv6);
        let filter = planned.outgoing.filter.unwrap();
        assert_eq!(filter.side, plan::Side::Here);
        let ten = "10.0.0.0".parse().unwrap();
        assert_eq!(filter.entries[0].place, plan::Place::Network(ten, 8));
        assert_eq!(filter.entries[0].protocol, Some(plan::Protocol::Tcp));
        assert_eq!(filter.entries[2].port, Some(53));
        // Names of the outgoing filter count for names as well.
        let names = planned.dns.filter.unwrap().entries;
        assert_eq!(names[0].place, plan::Place::Name("corp".to_owned()));
        let incoming = planned.incoming;
        assert_eq!(incoming.mode, IncomingMode::Steal);
        assert_eq!(incoming.port_mapping, [(8080, 80)]);
        assert_eq!(
            incoming.filter,
            Some(plan::HttpFilter::AllOf(vec![
                plan::HttpFilter::Path("^/a".to_owned()),
                plan::HttpFilter::Method("GET".to_owned()),
            ]))
        );
        assert_eq!(incoming.filter_ports, Some(vec![80]));
        assert_eq!(
            incoming.on_concurrent_steal,
            plan::OnConcurrentSteal::Override
        );
    }

    #[test]
    fn nothing_is_needed_where_everything_is_off() {
        assert!(!plan_network(&network_of("false")).unwrap().is_needed());
        assert!(plan_network(&network_of("true")).unwrap().is_needed());
    }

    #[test]
    fn filters_that_the_agent_has_no_word_for_are_refused_by_name() {
        for (filter, word) in [
            (
                r#"{"body_filter": {"body": "json", "query": "$.a", "matches": "b"}}"#,
                "bodies",
            ),
            (r#"{"header_filter_jq": "test(\"a\")"}"#, "jq programs"),
            (r#"{"any_of": [{"query": "test(\"a\")"}]}"#, "jq programs"),
        ] {
            let text = format!(r#"{{"incoming": {{"mode": "steal", "http_filter": {filter}}}}}"#);
            let error = plan_network(&network_of(&text)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
