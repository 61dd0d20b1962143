//! Pods that come, go and fail, one event after the other.

use super::*;

const READY: PodState = PodState::Runs { is_ready: true };
const UNREADY: PodState = PodState::Runs { is_ready: false };

fn id(name: &str) -> PodId {
    PodId {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
    }
}

fn seen(pods: &[(&str, PodState)]) -> Event {
    let pods = pods.iter().map(|(name, state)| SeenPod {
        id: id(name),
        state: *state,
    });
    Event::Seen(pods.collect())
}

/// A session and its clock.
struct Story {
    following: Following,
    now: Instant,
}

impl Story {
    fn of(reach: Reach) -> Self {
        Self {
            following: Following::new(reach, id("a")),
            now: crate::clock::monotonic(),
        }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.following.step(event, self.now)
    }

    fn after(&mut self, wait: Duration) -> &mut Self {
        self.now += wait;
        self
    }
}

#[test]
fn a_rollout_moves_the_session_before_the_old_pod_is_gone() {
    let mut story = Story::of(Reach::One);
    assert_eq!(story.following.next_look(), LOOK_EVERY);
    assert_eq!(story.step(seen(&[("a", READY)])), []);
    // One at a time: a second replica is nobody's business.
    assert_eq!(story.step(seen(&[("a", READY), ("b", READY)])), []);
    assert_eq!(
        story.step(seen(&[("b", READY), ("a", PodState::Ending)])),
        [Action::Retire(id("a")), Action::Join(id("b"))]
    );
    assert_eq!(story.following.next_look(), LOOK_SOON);
    let (from, to) = (id("a"), id("b"));
    assert_eq!(
        story.step(Event::Joined(id("b"))),
        [Action::Tell(News::Moved { from, to })]
    );
    assert_eq!(story.step(seen(&[("b", READY)])), [Action::Part(id("a"))]);
    assert_eq!(story.following.next_look(), LOOK_EVERY);
}

#[test]
fn a_pod_that_is_deleted_leaves_the_session_alone_until_the_next_is_ready() {
    let mut story = Story::of(Reach::One);
    assert_eq!(story.step(Event::Over(id("a"))), [Action::Part(id("a"))]);
    // The agent may have ended alone; its pod is not asked at once.
    assert_eq!(story.step(seen(&[("a", READY)])), []);
    assert_eq!(story.step(seen(&[("b", UNREADY)])), []);
    let told = story.after(TELL_AFTER).step(seen(&[("b", UNREADY)]));
    assert_eq!(told, [Action::Tell(News::Alone { last: id("a") })]);
    let again = story.step(seen(&[("b", UNREADY)]));
    assert_eq!(again, []);
    assert_eq!(story.step(seen(&[("b", READY)])), [Action::Join(id("b"))]);
    let (from, to) = (id("a"), id("b"));
    assert_eq!(
        story.step(Event::Joined(id("b"))),
        [Action::Tell(News::Moved { from, to })]
    );
}

#[test]
fn an_agent_that_ended_alone_is_put_there_again() {
    let mut story = Story::of(Reach::One);
    story.step(Event::Over(id("a")));
    assert_eq!(story.step(seen(&[("a", READY)])), []);
    let again = story.after(RETRY_AFTER).step(seen(&[("a", READY)]));
    assert_eq!(again, [Action::Join(id("a"))]);
    // A pod of the same name is another one.
    let other = PodId {
        uid: "another".to_owned(),
        ..id("a")
    };
    let seen_other = SeenPod {
        id: other.clone(),
        state: READY,
    };
    story.step(Event::Joined(id("a")));
    assert_eq!(
        story.step(Event::Seen(vec![seen_other])),
        [Action::Part(id("a")), Action::Join(other)]
    );
}

#[test]
fn a_pod_that_cannot_be_joined_is_tried_again_and_told_once() {
    let mut story = Story::of(Reach::One);
    story.step(Event::Over(id("a")));
    story.step(seen(&[("b", READY)]));
    let failed = Event::NotJoined(id("b"), "no image".to_owned());
    let (pod, why) = (id("b"), "no image".to_owned());
    assert_eq!(
        story.step(failed.clone()),
        [Action::Tell(News::NotJoined { pod, why })]
    );
    assert_eq!(story.step(seen(&[("b", READY)])), []);
    let again = story.after(RETRY_AFTER).step(seen(&[("b", READY)]));
    assert_eq!(again, [Action::Join(id("b"))]);
    assert_eq!(story.step(failed), []);
}

#[test]
fn one_that_is_never_ready_will_do_and_none_at_all_is_the_end() {
    let mut story = Story::of(Reach::One);
    story.step(Event::Over(id("a")));
    let waited = story.after(UNREADY_AFTER).step(seen(&[("b", UNREADY)]));
    assert!(waited.contains(&Action::Join(id("b"))), "{waited:?}");
    let mut story = Story::of(Reach::One);
    story.step(Event::Over(id("a")));
    let over = story.after(GIVE_UP_AFTER).step(Event::Unseen);
    assert_eq!(over, [Action::GiveUp]);
    // Nobody waits twice for a link.
    let expired = Story::of(Reach::One).step(Event::Expired(id("a")));
    assert_eq!(expired, [Action::Part(id("a")), Action::GiveUp]);
}

#[test]
fn every_replica_joins_and_leaves() {
    let mut story = Story::of(Reach::All);
    assert_eq!(
        story.step(seen(&[("a", READY), ("b", READY), ("c", UNREADY)])),
        [Action::Join(id("b"))]
    );
    let (pod, joined) = (id("b"), 2);
    assert_eq!(
        story.step(Event::Joined(id("b"))),
        [Action::Tell(News::Arrived { pod, joined })]
    );
    assert_eq!(
        story.step(seen(&[("a", PodState::Ending), ("b", READY)])),
        [Action::Retire(id("a"))]
    );
    let (pod, joined) = (id("a"), 1);
    assert_eq!(
        story.step(Event::Over(id("a"))),
        [
            Action::Part(id("a")),
            Action::Tell(News::Left { pod, joined })
        ]
    );
}

#[test]
fn there_is_a_most_of_replicas_which_is_told() {
    let mut story = Story::of(Reach::All);
    let names: Vec<String> = (0..REPLICAS_MAX + 2).map(|n| format!("p{n:02}")).collect();
    let mut pods: Vec<_> = names.iter().map(|name| (name.as_str(), READY)).collect();
    pods.push(("a", READY));
    let actions = story.step(seen(&pods));
    let joins = actions.iter().filter(|it| matches!(it, Action::Join(_)));
    assert_eq!(joins.count(), REPLICAS_MAX - 1);
    assert_eq!(actions.last(), Some(&Action::Tell(News::Beyond(3))));
    assert_eq!(story.step(seen(&pods)), []);
}

#[test]
fn a_link_that_is_away_is_told_of_a_pod_that_still_runs_alone() {
    let mut story = Story::of(Reach::One);
    assert_eq!(story.step(Event::Strayed(id("a"))), []);
    let told = story.step(seen(&[("a", READY)]));
    assert_eq!(told, [Action::Tell(News::Strayed { pod: id("a") })]);
    assert_eq!(story.step(seen(&[("a", READY)])), []);
    story.step(Event::Strayed(id("a")));
    assert_eq!(story.step(seen(&[])), [Action::Part(id("a"))]);
}
