//! Sources that cannot be followed, each told why and by name.

use engine::base::logical::fitness::{Fitness, Reason};
use fixtures::Options;

use super::ground::{Ground, follows, retire, source, unpublished};

#[tokio::test]
async fn what_a_publication_misses_is_named() {
    let source = unpublished(16);
    let ground = Ground::of(&source).await;
    assert_eq!(ground.reasons().await, [Reason::NoPublication]);
    source
        .execute(
            "shop",
            "CREATE SCHEMA apart; CREATE TABLE apart.one (id int PRIMARY KEY, x text); CREATE TABLE other (id int); \
             CREATE TABLE parted (id int) PARTITION BY RANGE (id); \
             CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9); \
             CREATE PUBLICATION p_some FOR TABLE item, parted, other WHERE (id > 5); \
             CREATE PUBLICATION p_columns FOR TABLE apart.one (id)",
        )
        .unwrap();
    let reasons = ground.reasons().await;
    let [
        Reason::Missed { tables },
        Reason::PassedOver { publications },
    ] = reasons.as_slice()
    else {
        panic!("{reasons:?}");
    };
    assert_eq!(publications.first, ["p_columns (it has a column list)"]);
    assert_eq!(tables.first, ["apart.one", "public.other"]);
    source
        .execute(
            "shop",
            "CREATE PUBLICATION p_rest FOR TABLE other, TABLES IN SCHEMA apart",
        )
        .unwrap();
    let Fitness::Fit(fit) = ground.fitness(false).await else {
        panic!("every table is published");
    };
    assert_eq!(fit.publications, ["p_rest", "p_some"]);
    source
        .execute(
            "shop",
            "ALTER PUBLICATION p_rest SET (publish = 'insert, update, delete')",
        )
        .unwrap();
    let reasons = ground.reasons().await;
    assert!(
        matches!(
            reasons.as_slice(),
            [Reason::Missed { .. }, Reason::PassedOver { .. }]
        ),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_column_list_beside_a_whole_publication_hinders_nobody() {
    let source = unpublished(16);
    let publish =
        "CREATE PUBLICATION few FOR TABLE item (id); CREATE PUBLICATION whole FOR TABLE item";
    source.execute("shop", publish).unwrap();
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn a_publication_of_generated_columns_does_not_count() {
    let source = unpublished(18);
    let publish =
        "CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_generated_columns = stored)";
    source.execute("shop", publish).unwrap();
    let ground = Ground::of(&source).await;
    assert_eq!(ground.reasons().await, []);
    let generated =
        "ALTER TABLE item ADD COLUMN upper text GENERATED ALWAYS AS (upper(name)) STORED";
    source.execute("shop", generated).unwrap();
    let reasons = ground.reasons().await;
    assert!(
        matches!(
            reasons.as_slice(),
            [Reason::NoPublication, Reason::PassedOver { .. }]
        ),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_publication_that_leaves_out_what_empties_a_partition_does_not_count() {
    let source = unpublished(16);
    let publish = "CREATE PUBLICATION cdc FOR ALL TABLES WITH (publish_via_partition_root = true)";
    source.execute("shop", publish).unwrap();
    let ground = Ground::of(&source).await;
    // Without partitions it carries everything.
    assert_eq!(ground.reasons().await, []);
    let parted = "CREATE TABLE parted (id int) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9)";
    source.execute("shop", parted).unwrap();
    let reasons = ground.reasons().await;
    let [Reason::NoPublication, Reason::PassedOver { publications }] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    let [told] = publications.first.as_slice() else {
        panic!("{publications:?}");
    };
    assert!(
        told.starts_with("cdc (publish_via_partition_root"),
        "{told}"
    );
    source
        .execute("shop", "CREATE PUBLICATION whole FOR ALL TABLES")
        .unwrap();
    let Fitness::Fit(fit) = ground.fitness(false).await else {
        panic!("one carries everything");
    };
    assert_eq!(fit.publications, ["whole"]);
}

#[tokio::test]
async fn what_replication_does_not_carry_is_named() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    assert_eq!(ground.reasons().await, []);
    source
        .execute(
            "shop",
            "CREATE UNLOGGED TABLE cache (x int); CREATE MATERIALIZED VIEW totals AS SELECT 1; SELECT lo_create(0); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER noted AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION note(); \
             ALTER TABLE item ENABLE ALWAYS TRIGGER noted",
        )
        .unwrap();
    let reasons = ground.reasons().await;
    let told: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    let told = told.join("\n");
    assert_eq!(reasons.len(), 4, "{told}");
    for name in [
        "public.cache",
        "public.totals",
        "public.item",
        "large objects",
    ] {
        assert!(told.contains(name), "{name} is not in {told}");
    }
}

#[tokio::test]
async fn commits_that_would_wait_for_us_are_a_reason() {
    let mut source = source(16);
    let names = "ANY 1 (replica, bough)";
    source
        .configure("synchronous_standby_names", names)
        .unwrap();
    source.restart().unwrap();
    let ground = Ground::of(&source).await;
    assert_eq!(ground.reasons().await, [Reason::Synchronous]);
}

#[tokio::test]
async fn a_source_that_writes_too_little_or_bounds_no_slot_is_told() {
    let source = Options::new(16).start().unwrap();
    source.execute("postgres", "CREATE DATABASE shop").unwrap();
    let reader = "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data PASSWORD 'reader'";
    source.execute("postgres", reader).unwrap();
    source
        .execute("shop", "CREATE PUBLICATION everything FOR ALL TABLES")
        .unwrap();
    let mut ground = Ground::of(&source).await;
    let reasons = ground.reasons().await;
    let level = "replica".to_owned();
    assert_eq!(reasons, [Reason::WalLevel { level }, Reason::Unbounded]);
    // An administrator may answer for the disk, and for nothing else.
    let Fitness::Unfit { reasons } = ground.fitness(true).await else {
        panic!("wal_level is too low");
    };
    assert!(matches!(reasons.as_slice(), [Reason::WalLevel { .. }]));
    let url = source.url("reader", "reader", "shop");
    ground.upstream.access = crate::stage::access(&url);
    let reasons = ground.reasons().await;
    let is_refused = |reason: &Reason| matches!(reason, Reason::Refused { replicator, .. } if replicator == "reader");
    assert!(reasons.iter().any(is_refused), "{reasons:?}");
}
