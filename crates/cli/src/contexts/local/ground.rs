//! What a target is started on: where it is met, and whose network it is in.
//!
//! Its own network where it is wanted and the machine allows it, which is found out by making it; else the machine's,
//! with the reason. What of an order cannot be had then is refused before anything runs.

use supervisor::{Child, Command, Signals};

use super::companions::{NoRelay, Relay};
use super::handover::{NetworkChoice, Order, Refusal};
use super::keeper::StartError;
use super::place::Place;
use super::registry::TargetNetwork;

/// Everything but the target itself.
pub(super) struct Ground {
    pub(super) place: Option<Place>,
    pub(super) relay: Option<Relay>,
    pub(super) network: TargetNetwork,
}

impl Ground {
    /// Makes what `order` asks for, as far as it is to be had.
    ///
    /// # Errors
    /// When something that was asked for is not; nothing is left then.
    pub(super) fn prepare(order: &Order) -> Result<Self, Refusal> {
        let place = order.has_companions.then(|| Place::make(&order.data_dir));
        let place = place.transpose().map_err(StartError::Place)?;
        let why = match (&place, order.network) {
            (None, _) | (_, NetworkChoice::Machine) => None,
            (Some(place), NetworkChoice::Auto | NetworkChoice::Own) => {
                match Relay::start(place, &order.published) {
                    Ok(relay) => {
                        let published = order.published.clone();
                        return Ok(Self {
                            place: Some(place.clone()),
                            relay: Some(relay),
                            network: TargetNetwork::Own { published },
                        });
                    }
                    Err(NoRelay::Taken(message)) => {
                        place.remove();
                        return Err(Refusal::Publish { message });
                    }
                    Err(NoRelay::Forbidden(why)) => Some(why),
                }
            }
        };
        if let Some(refusal) = refuse(order, why.as_deref()) {
            place.iter().for_each(Place::remove);
            return Err(refusal);
        }
        Ok(Self {
            place,
            relay: None,
            network: TargetNetwork::Shared { why },
        })
    }

    /// Starts the target.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left then.
    pub(super) fn spawn(
        &self,
        command: Command,
        signals: &mut Signals,
    ) -> Result<Child, StartError> {
        let spawned = match &self.relay {
            Some(relay) => relay
                .namespaces()
                .map_err(StartError::Relay)
                .and_then(|own| Ok(Child::spawn_within(command, &own, signals)?)),
            None => Child::spawn(command, signals).map_err(StartError::from),
        };
        if spawned.is_err() {
            self.place.iter().for_each(Place::remove);
        }
        spawned
    }
}

/// What of an order cannot be had in the machine's network, which the target shares for this reason or by choice.
fn refuse(order: &Order, why: Option<&str>) -> Option<Refusal> {
    if order.network == NetworkChoice::Own {
        let message = why.unwrap_or("this program has no relay").to_owned();
        return Some(Refusal::Network { message });
    }
    let mut elsewhere = order
        .published
        .iter()
        .filter(|published| published.host.port() != published.port);
    if let Some(published) = elsewhere.next() {
        let message = format!(
            "port {} cannot be published as {}, as the target shares the machine's network: {}",
            published.port,
            published.host,
            why.unwrap_or("it was asked for")
        );
        return Some(Refusal::Publish { message });
    }
    let port = order.taken.first().copied()?;
    Some(Refusal::PortTaken { port })
}
