//! Event triggers of a source that is followed by a subscription: none is set off by what we do in its base, in a snapshot
//! of it, and none keeps us out. In a branch they act for the application.

use engine::base::logical::snapshot::ways;
use engine::base::logical::subscriber::Subscriber;

use super::ground::{Branch, Ground, follows, retire, source};
use crate::stage::chain;

/// One that lets only the source's own role define anything, and two that log, of which one fires for replication as well.
const TRIGGERS: &str = "
    CREATE TABLE ddl_log (id serial PRIMARY KEY, what text);
    CREATE FUNCTION only_postgres() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN IF session_user <> 'postgres' THEN RAISE EXCEPTION 'nobody else defines anything'; END IF; END $$;
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO public.ddl_log (what) VALUES (tg_event || ' ' || tg_tag); END $$;
    CREATE EVENT TRIGGER only_postgres ON ddl_command_start EXECUTE FUNCTION only_postgres();
    CREATE EVENT TRIGGER note_always ON ddl_command_end EXECUTE FUNCTION note();
    ALTER EVENT TRIGGER note_always ENABLE ALWAYS;
    CREATE EVENT TRIGGER note_replica ON sql_drop EXECUTE FUNCTION note();
    ALTER EVENT TRIGGER note_replica ENABLE REPLICA;
    CREATE EVENT TRIGGER off ON ddl_command_end EXECUTE FUNCTION note();
    ALTER EVENT TRIGGER off DISABLE";

/// 17 and newer have it: nobody but the source's own role gets in, and logins are logged.
const LOGIN_TRIGGER: &str = "
    CREATE TABLE login_log (id serial PRIMARY KEY, who text);
    CREATE FUNCTION let_in() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN
        IF session_user <> 'postgres' THEN RAISE EXCEPTION 'nobody else comes in'; END IF;
        INSERT INTO public.login_log (who) VALUES (session_user);
      END $$;
    CREATE EVENT TRIGGER let_in ON login EXECUTE FUNCTION let_in();
    ALTER EVENT TRIGGER let_in ENABLE ALWAYS";

const STATES: &str =
    "SELECT string_agg(evtname || evtenabled::text, ',' ORDER BY evtname) FROM pg_event_trigger";
const LOGGED: &str = "SELECT count(*) || ' to ' || coalesce(max(id), 0) FROM ddl_log";

async fn point_anew(ground: &Ground, subscriber: &Subscriber) {
    let found = ways(&ground.upstream, subscriber.seeded()).await;
    let found = found.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let pointed = subscriber.point_at(&found[0]).await;
    pointed.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

async fn event_triggers_notice_nothing(major: u16) {
    let source = source(major);
    source.execute("shop", TRIGGERS).unwrap();
    if major >= 17 {
        source.execute("shop", LOGIN_TRIGGER).unwrap();
    }
    let at_source = |asked: &str| source.query_value("shop", asked).unwrap();
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    point_anew(&ground, &subscriber).await;
    subscriber.restart().await.unwrap();
    ground.tend_until(&subscriber, follows).await;
    // The numbers that the base would have given to rows of its own are the source's to give.
    source
        .execute("shop", "INSERT INTO ddl_log (what) VALUES ('by hand')")
        .unwrap();
    let branch = ground.branch(&subscriber, "one").await;
    assert_eq!(branch.value(LOGGED).await, at_source(LOGGED), "{major}");
    assert_eq!(branch.value(STATES).await, at_source(STATES), "{major}");
    acts_for_the_application(&branch).await;
    branch.stop().await;
    retire(&ground, subscriber).await;
}

/// A role that is the application's is kept from defining things, as on the source.
async fn acts_for_the_application(branch: &Branch) {
    let refused = branch.try_execute("CREATE TABLE mine (n int)").await;
    let refused = chain(&refused.unwrap_err());
    assert!(
        refused.contains("nobody else defines anything"),
        "{refused}"
    );
}

#[tokio::test]
async fn event_triggers_of_a_source_notice_nothing_of_a_subscription_in_15() {
    event_triggers_notice_nothing(15).await;
}

#[tokio::test]
async fn event_triggers_of_a_source_notice_nothing_of_a_subscription_in_16() {
    event_triggers_notice_nothing(16).await;
}

#[tokio::test]
async fn event_triggers_of_a_source_notice_nothing_of_a_subscription_in_17() {
    event_triggers_notice_nothing(17).await;
}

#[tokio::test]
async fn event_triggers_of_a_source_notice_nothing_of_a_subscription_in_18() {
    event_triggers_notice_nothing(18).await;
}
