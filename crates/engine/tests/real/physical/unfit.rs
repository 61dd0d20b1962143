//! Sources that cannot be followed, each with its reason.

use engine::base::physical::fitness::{Fitness, Reason};
use engine::base::physical::seed::SeedError;
use fixtures::{Options, TestPostgres};
use model::ByteSize;

use super::ground::{Ground, REPLICATOR, source, source_with};
use crate::stage::working_in;

async fn reasons(ground: &Ground) -> Vec<Reason> {
    match ground.fitness().await {
        Fitness::Fit(_) => Vec::new(),
        Fitness::Unfit { reasons } => reasons,
    }
}

/// The reasons that a setting brings.
async fn reasons_with(settings: &[(&str, &str)]) -> Vec<Reason> {
    let set = |options: Options, (name, value): &(&str, &str)| options.setting(name, value);
    let source = source_with(settings.iter().fold(Options::new(16), set));
    reasons(&Ground::of(&source).await).await
}

#[tokio::test]
async fn settings_that_forbid_following_are_named() {
    let minimal = reasons_with(&[("wal_level", "minimal"), ("max_wal_senders", "0")]).await;
    assert!(minimal.contains(&Reason::WalLevel), "{minimal:?}");
    let torn = reasons_with(&[("full_page_writes", "off")]).await;
    assert_eq!(torn, [Reason::FullPageWrites]);
    let few = reasons_with(&[("max_wal_senders", "1")]).await;
    assert!(
        matches!(few[..], [Reason::WalSenders { max: 1, free: 1 }]),
        "{few:?}"
    );
}

#[tokio::test]
async fn commits_that_would_wait_for_us_are_a_reason() {
    let mut source = source(16);
    source
        .configure("synchronous_standby_names", "ANY 1 (*)")
        .unwrap();
    source.restart().unwrap();
    let ground = Ground::of(&source).await;
    assert_eq!(reasons(&ground).await, [Reason::Synchronous]);
}

#[tokio::test]
async fn a_role_without_the_right_and_a_host_without_a_line_are_told_apart() {
    let source = source_with(Options::new(16).hba("host replication stranger all reject"));
    source
        .execute(
            "postgres",
            "CREATE ROLE app LOGIN PASSWORD 'app'; \
             CREATE ROLE stranger LOGIN REPLICATION PASSWORD 'stranger'",
        )
        .unwrap();
    let app = source.url("app", "app", "shop");
    let found = reasons(&Ground::with(&app, None).await).await;
    let no_right = Reason::NoRight {
        replicator: "app".to_owned(),
    };
    assert_eq!(found, [no_right]);
    let stranger = source.url("stranger", "stranger", "shop");
    let found = reasons(&Ground::with(&app, Some(&stranger)).await).await;
    assert!(
        matches!(&found[..], [Reason::Refused { answer, .. }] if answer.contains("pg_hba.conf")),
        "{found:?}"
    );
}

#[tokio::test]
async fn two_urls_of_two_clusters_are_noticed() {
    let [one, other] = [source(16), source(16)];
    other.execute("postgres", REPLICATOR).unwrap();
    let replication_url = other.url("rep", "rep's: secret\\", "postgres");
    let ground = Ground::with(&one.superuser_url("shop"), Some(&replication_url)).await;
    assert_eq!(reasons(&ground).await, [Reason::OtherCluster]);
}

/// Makes a tablespace in a directory of the source's own account.
pub(super) fn make_tablespace(source: &TestPostgres) -> std::path::PathBuf {
    let directory = source.data_directory().parent().unwrap().join("fast");
    std::fs::create_dir(&directory).unwrap();
    let owner = fixtures::ServerAccount::detect().unwrap();
    owner.own(&directory).unwrap();
    let statement = format!("CREATE TABLESPACE fast LOCATION '{}'", directory.display());
    source.execute("shop", &statement).unwrap();
    directory
}

#[tokio::test]
async fn a_tablespace_is_a_reason_and_one_that_comes_in_between_fails_the_seed() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let fit = ground.fit().await;
    let directory = make_tablespace(&source);
    source
        .execute("shop", "CREATE TABLE t TABLESPACE fast AS SELECT 1 AS n")
        .unwrap();
    let names = vec!["fast".to_owned()];
    assert_eq!(reasons(&ground).await, [Reason::Tablespaces { names }]);
    let place = ground.place("base");
    let refused = ground.try_seed(&fit, &place).await.unwrap_err();
    assert!(
        matches!(refused, SeedError::Run(_) | SeedError::Contents(_)),
        "{refused}"
    );
    assert_eq!(working_in(&place.directory), [] as [u32; 0]);
    assert!(directory.exists());
    assert_eq!(source.query_value("shop", "SELECT n FROM t").unwrap(), "1");
}

#[tokio::test]
async fn a_source_that_does_not_fit_on_the_disk_is_refused_before_anything_is_sent() {
    let source = source(16);
    let mut ground = Ground::of(&source).await;
    ground.disk.free = ByteSize(10 << 20);
    let fit = ground.fit().await;
    let place = ground.place("base");
    let refused = ground.try_seed(&fit, &place).await.unwrap_err();
    assert!(matches!(refused, SeedError::NoRoom { .. }), "{refused}");
    assert!(!place.data().exists());
}
