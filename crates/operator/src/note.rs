//! Events about resources, as `kubectl describe` lists them: one way for all of them.
//!
//! Owns how an event looks. Leaves what is worth one to each resource's plan, which says it beside the status: nothing waits
//! for an event.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

/// What the API server takes of an event's text, in bytes, a fourth of it.
const NOTE_CHARS_MAX: usize = 256;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Why it is written, in a word: a phase, or what happened.
    pub(crate) reason: &'static str,
    /// Whether somebody should look.
    pub(crate) warns: bool,
    /// For a person.
    pub(crate) message: String,
}

/// Writes the event about `object`. One that cannot be written is logged alone: what it says stands in the status as well.
pub(crate) async fn write<K>(client: &Client, object: &K, note: Note, now: Timestamp)
where
    K: Resource<DynamicType = ()>,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let event = event(object.object_ref(&()), &name, &namespace, note, now);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::warn!(%error, namespace, name, "cannot write an event");
    }
}

fn event(
    regarding: ObjectReference,
    name: &str,
    namespace: &str,
    note: Note,
    now: Timestamp,
) -> Event {
    let mut event = Event {
        action: Some("Follow".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note.message.chars().take(NOTE_CHARS_MAX).collect()),
        reason: Some(note.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some("bough.dev/operator".to_owned()),
        reporting_instance: Some(crate::NAME.to_owned()),
        type_: Some(if note.warns { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    event.metadata.generate_name = Some(format!("{name}-"));
    event.metadata.namespace = Some(namespace.to_owned());
    event
}
