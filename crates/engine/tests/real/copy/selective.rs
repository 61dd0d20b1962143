//! What the modes, filters and arguments of `pg_dump` select.

use std::collections::BTreeMap;

use fixtures::TestPostgres;
use model::{CopyMode, CopySpec, TableFilter};

use super::exact::{assert_same, full_source};
use crate::stage::{Stage, access, chain, source};

fn spec(mode: CopyMode, tables: &[(&str, Option<&str>)], dump_args: &[&str]) -> CopySpec {
    let filter = |filter: &Option<&str>| TableFilter {
        filter: filter.map(str::to_owned),
    };
    let tables = tables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), filter(text)));
    CopySpec {
        mode,
        tables: tables.collect::<BTreeMap<_, _>>(),
        dump_args: dump_args
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
    }
}

/// A shop of customers with orders, as small as it can be.
fn shop() -> TestPostgres {
    let source = source(16);
    let made = source.execute(
        "postgres",
        "CREATE SCHEMA sales; \
         CREATE TYPE mood AS ENUM ('sad', 'glad'); \
         CREATE TABLE customers (id serial PRIMARY KEY, name text, upper text GENERATED ALWAYS AS (upper(name)) STORED); \
         CREATE TABLE orders (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer NOT NULL, \
           CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES customers); \
         CREATE TABLE \"Order Items\" (id integer, mood mood); \
         CREATE TABLE sales.log (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at); \
         CREATE TABLE sales.log_old PARTITION OF sales.log FOR VALUES FROM (MINVALUE) TO ('2024-01-01'); \
         CREATE TABLE sales.log_new PARTITION OF sales.log FOR VALUES FROM ('2024-01-01') TO (MAXVALUE); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END'; \
         CREATE VIEW few AS SELECT * FROM customers WHERE id < 3; \
         INSERT INTO customers (name) SELECT 'name ' || n FROM generate_series(1, 10) n; \
         INSERT INTO orders (customer) SELECT n FROM generate_series(1, 10) n; \
         INSERT INTO \"Order Items\" VALUES (1, 'sad'), (2, 'glad'); \
         INSERT INTO sales.log SELECT '2023-12-30'::timestamptz + n * '1 day'::interval, n FROM generate_series(1, 9) n; \
         CREATE TRIGGER note BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note();",
    );
    made.expect("the shop is made");
    source
}

#[tokio::test]
async fn schema_is_every_structure_and_no_row() {
    let source = full_source(17);
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("shop"));
    let copied = stage.copy(&access, &spec(CopyMode::Schema, &[], &[])).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    let arguments = ["--schema-only", "--create"];
    let of_source = source.pg_dump("shop", &arguments).unwrap();
    let of_branch = branch.client("pg_dump", "shop", &arguments).unwrap();
    assert_same(&of_source, &of_branch, "the structure");
    let tables = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm') AND reltuples > 0 \
         AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)";
    assert_eq!(branch.value(tables).await, "0");
    assert_eq!(
        branch
            .value("SELECT count(*) FROM pg_largeobject_metadata")
            .await,
        "0"
    );
    assert_eq!(
        branch.value("SELECT nextval('public.untouched')").await,
        "42"
    );
    branch.stop().await;
}

#[tokio::test]
async fn filters_choose_rows_and_sequences_follow() {
    let source = shop();
    let stage = Stage::new().await;
    let tables = [
        ("customers", Some("id <= 4 -- the first")),
        (
            "orders",
            Some("customer IN (SELECT id FROM customers WHERE id < 4)"),
        ),
        ("Order Items", None),
        ("sales.log", Some("at >= '2024-01-02'")),
    ];
    let access = access(&source.superuser_url("postgres"));
    let copied = stage
        .copy(&access, &spec(CopyMode::Schema, &tables, &[]))
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(copied.notes, [] as [&str; 0]);
    let branch = stage.serve(&copied).await;
    assert_eq!(
        branch
            .value("SELECT string_agg(upper, ',' ORDER BY id) FROM customers")
            .await,
        "NAME 1,NAME 2,NAME 3,NAME 4"
    );
    assert_eq!(branch.value("SELECT count(*) FROM orders").await, "3");
    assert_eq!(
        branch
            .value("SELECT string_agg(mood::text, ',') FROM \"Order Items\"")
            .await,
        "sad,glad"
    );
    assert_eq!(
        branch
            .value("SELECT count(*) || ' ' || min(line) FROM sales.log")
            .await,
        "7 3"
    );
    assert_eq!(
        branch.value("SELECT nextval('customers_id_seq')").await,
        "11"
    );
    assert_eq!(branch.value("SELECT nextval('orders_id_seq')").await, "11");
    let progress = stage
        .progress
        .borrow()
        .clone()
        .expect("the copy told of itself");
    assert_eq!(progress.copied_rows, 4 + 3 + 2 + 7);
    assert!(progress.disk_needed_bytes.is_some() && progress.estimate_seconds.is_some());
    branch.stop().await;
}

#[tokio::test]
async fn a_foreign_key_that_the_chosen_rows_break_holds_for_new_ones() {
    let source = shop();
    let stage = Stage::new().await;
    let tables = [("customers", Some("id <= 4")), ("orders", None)];
    let access = access(&source.superuser_url("postgres"));
    let copied = stage
        .copy(&access, &spec(CopyMode::Schema, &tables, &[]))
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let [note] = &copied.notes[..] else {
        panic!("{:?}", copied.notes);
    };
    assert!(
        note.contains("fk constraint orders of_customer does not hold"),
        "{note}"
    );
    let branch = stage.serve(&copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM orders").await, "10");
    let admin = branch.admin("postgres").await;
    admin
        .batch_execute("ALTER TABLE orders DISABLE TRIGGER note")
        .await
        .unwrap();
    admin
        .batch_execute("INSERT INTO orders (customer) VALUES (4)")
        .await
        .unwrap();
    admin
        .batch_execute("INSERT INTO orders (customer) VALUES (5)")
        .await
        .unwrap_err();
    drop(admin);
    branch.stop().await;
}

#[tokio::test]
async fn empty_is_nothing_but_the_named_tables() {
    let source = shop();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let copied = stage.copy(&access, &spec(CopyMode::Empty, &[], &[])).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    let relations = "SELECT coalesce(string_agg(relname, ',' ORDER BY relname), '') FROM pg_class \
         WHERE relkind IN ('r', 'p', 'v', 'S') AND relnamespace::regnamespace::text IN ('public', 'sales')";
    assert_eq!(branch.value(relations).await, "");
    branch.stop().await;

    let tables = [("orders", Some("id > 5")), ("sales.log", None)];
    let refused = stage
        .copy(&access, &spec(CopyMode::Empty, &tables, &[]))
        .await
        .unwrap_err();
    assert!(
        chain(&refused).contains("schema \"sales\" does not exist"),
        "{}",
        chain(&refused)
    );
    assert!(
        refused.hint().unwrap().contains("schema"),
        "{:?}",
        refused.hint()
    );

    let tables = [("orders", Some("id > 5"))];
    let copied = stage
        .copy(&access, &spec(CopyMode::Empty, &tables, &[]))
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let told = copied.notes.join("; ");
    assert!(
        told.contains("fk constraint orders of_customer was left out"),
        "{told}"
    );
    assert!(told.contains("trigger orders note was left out"), "{told}");
    let branch = stage.serve(&copied).await;
    assert_eq!(branch.value(relations).await, "orders,orders_id_seq");
    assert_eq!(branch.value("SELECT count(*) FROM orders").await, "5");
    assert_eq!(branch.value("SELECT nextval('orders_id_seq')").await, "11");
    branch.stop().await;
}

#[tokio::test]
async fn a_table_named_with_its_children_comes_or_stays_away_with_them() {
    let source = source(16);
    let made = "CREATE TABLE measures (id serial, at date NOT NULL) PARTITION BY RANGE (at); \
         CREATE TABLE old PARTITION OF measures FOR VALUES FROM (MINVALUE) TO ('2024-01-01'); \
         CREATE TABLE new PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO (MAXVALUE); \
         INSERT INTO measures (at) SELECT '2023-12-30'::date + n FROM generate_series(1, 9) n; \
         CREATE TABLE other AS SELECT 1 AS one";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    for (argument, tables, rows) in [
        ("--table-and-children=measures", "measures,new,old", "9 10"),
        (
            "--exclude-table-data-and-children=measures",
            "measures,new,old,other",
            "0 10",
        ),
        ("--exclude-table-and-children=measures", "other", ""),
    ] {
        let copied = stage
            .copy(&access, &spec(CopyMode::All, &[], &[argument]))
            .await;
        let copied = copied.unwrap_or_else(|error| panic!("{argument}: {}", chain(&error)));
        let branch = stage.serve(&copied).await;
        let there = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class \
             WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace";
        assert_eq!(branch.value(there).await, tables, "{argument}");
        if !rows.is_empty() {
            let found =
                "SELECT (SELECT count(*) FROM measures) || ' ' || nextval('measures_id_seq')";
            assert_eq!(branch.value(found).await, rows, "{argument}");
        }
        branch.stop().await;
    }
}

#[tokio::test]
async fn a_sequence_comes_or_stays_away_with_the_table_that_owns_it() {
    let source = shop();
    let untrigger = "DROP TRIGGER note ON orders";
    source.execute("postgres", untrigger).unwrap();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    for (arguments, asked) in [
        (
            &["--table=customers"][..],
            "SELECT nextval('customers_id_seq')",
        ),
        (
            &["--table=orders", "--table=customers"],
            "SELECT nextval('orders_id_seq')",
        ),
        // The one of an identity column has no life of its own.
        (
            &["--exclude-table=orders"],
            "SELECT nextval('customers_id_seq')",
        ),
        (
            &["--exclude-table=orders_id_seq"],
            "SELECT nextval('orders_id_seq')",
        ),
    ] {
        let copied = stage
            .copy(&access, &spec(CopyMode::All, &[], arguments))
            .await;
        let copied = copied.unwrap_or_else(|error| panic!("{arguments:?}: {}", chain(&error)));
        let branch = stage.serve(&copied).await;
        assert_eq!(branch.value(asked).await, "11", "{arguments:?}");
        branch.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_filter_or_table_is_named_and_no_filter_writes() {
    let source = shop();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    for (filter, said) in [
        ("colour = 'red'", "column \"colour\" does not exist"),
        ("true) TO STDOUT; DROP TABLE orders; --", "syntax error"),
        (
            "true)) TO PROGRAM 'touch /tmp/bough-was-here' --",
            "syntax error",
        ),
        (
            "nextval('orders_id_seq') > 0",
            "cannot execute nextval() in a read-only transaction",
        ),
        (
            "set_config('transaction_read_only', 'off', true) IS NULL",
            "read-write mode",
        ),
    ] {
        let tables = [("orders", Some(filter))];
        let refused = stage
            .copy(&access, &spec(CopyMode::Schema, &tables, &[]))
            .await
            .unwrap_err();
        let told = chain(&refused);
        assert!(
            told.contains("the rows of public.orders") && told.contains(said),
            "{told}"
        );
        assert!(refused.hint().unwrap().contains("SQL condition"));
    }
    assert_eq!(
        source
            .query_value("postgres", "SELECT count(*) FROM orders")
            .unwrap(),
        "10"
    );
    assert_eq!(
        source
            .query_value("postgres", "SELECT last_value FROM orders_id_seq")
            .unwrap(),
        "10"
    );
    let tables = [("costumers", None)];
    let refused = stage
        .copy(&access, &spec(CopyMode::Schema, &tables, &[]))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "tables: the source has no table \"costumers\"; it has public.customers"
    );
    let refused = stage
        .copy(&access, &spec(CopyMode::Schema, &[("few", None)], &[]))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no table \"few\""));
}

#[tokio::test]
async fn arguments_of_pg_dump_are_passed_on() {
    let source = shop();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let arguments = ["-N", "sales", "--exclude-table-data=cust*", "-xO"];
    let copied = stage
        .copy(&access, &spec(CopyMode::All, &[], &arguments))
        .await;
    // What is left of the foreign key cannot hold.
    let refused = copied.unwrap_err();
    assert!(
        chain(&refused).contains("fk constraint orders of_customer"),
        "{}",
        chain(&refused)
    );
    let arguments = [
        "-N",
        "sales",
        "--exclude-table-data=ord*",
        "--exclude-table=\"Order Items\"",
        "-xO",
    ];
    let copied = stage
        .copy(&access, &spec(CopyMode::All, &[], &arguments))
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    let tables = "SELECT string_agg(oid::regclass::text, ',' ORDER BY relname) FROM pg_class \
         WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text IN ('public', 'sales')";
    assert_eq!(branch.value(tables).await, "customers,orders");
    assert_eq!(
        branch
            .value(
                "SELECT (SELECT count(*) FROM customers) || ' ' || (SELECT count(*) FROM orders)"
            )
            .await,
        "10 0"
    );
    branch.stop().await;
    // Rows as statements, and through the root of their partitions.
    for arguments in [&["--inserts"][..], &["--load-via-partition-root"]] {
        let copied = stage
            .copy(&access, &spec(CopyMode::All, &[], arguments))
            .await;
        let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let branch = stage.serve(&copied).await;
        let of_source = source.pg_dump("postgres", &[]).unwrap();
        let of_branch = branch.client("pg_dump", "postgres", &[]).unwrap();
        assert_same(&of_source, &of_branch, "the dump");
        branch.stop().await;
    }
}
