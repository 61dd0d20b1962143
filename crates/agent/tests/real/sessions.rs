//! Sessions with a running agent: keys, several at once, its end.

use wire::{CloseReason, GreetingError, Refusal, SessionId, SessionKey};

use wire::pump::ConnectError;

use crate::agent::{Files, TestAgent, soon};
use crate::namespace::Namespace;

#[tokio::test]
async fn only_a_session_with_the_key_is_served() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let key = SessionKey::new([0; 32]);
    let outcome = soon(agent.session_with(SessionId::draw(), key)).await;
    assert!(matches!(
        outcome.unwrap_err(),
        ConnectError::Greeting {
            source: GreetingError::Refused {
                refusal: Refusal::NotProven
            }
        }
    ));
    agent.session().await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_end_tells_its_sessions_and_ends() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let mut agent = TestAgent::start(&namespace, &Files::default());
    let (one, _one) = agent.session().await;
    let (other, _other) = agent.session().await;
    agent.program.hang_up();
    assert_eq!(soon(one.closed()).await, CloseReason::ShuttingDown);
    assert_eq!(soon(other.closed()).await, CloseReason::ShuttingDown);
    assert!(agent.program.wait().success());
}
