//! What a branch forgets of its source, whichever way its base was made.
//!
//! | what a source has | by a dump | by its files | by a subscription |
//! |---|---|---|---|
//! | jobs of `pg_cron` | rows left out | made inactive | rows left out, and deleted once they came |
//! | subscriptions | not dumped | disabled, without slot and connection | not dumped; our own is dropped |
//! | user mappings, which hold passwords | left out by `copy::load` | deleted | left out by `copy::load` |
//! | tablespaces | the standard one | a reason not to copy so | the standard one |
//! | replication slots | none in a dump | not cloned (`physical::contents`) | none in a dump |
//! | prepared transactions | not in a snapshot | rolled back (`physical::neutral`) | not in a snapshot |
//! | libraries that act by themselves | `libraries` | `libraries` | `libraries` |
//!
//! Owns the names and statements of it. Leaves when they run, and what is told of it, to the ways themselves.

/// Options of `pg_dump` that leave it out.
pub(super) const DUMP_OPTIONS: [&str; 3] = [
    "--no-tablespaces",
    "--no-subscriptions",
    "--exclude-table-data=cron.job",
];

/// Said where `pg_cron`'s jobs were in the source and are in no copy.
pub(super) const NO_JOBS: &str = "the jobs of pg_cron were left out";

/// Said where they are in the copy and do not run.
pub(super) const INACTIVE_JOBS: &str = "the jobs of pg_cron were made inactive";

/// Whether a row of `pg_class c` with its `pg_namespace n` is the table of `pg_cron`'s jobs.
pub(super) const IS_JOBS: &str = "(n.nspname = 'cron' AND c.relname = 'job')";

/// Whether there are jobs that can be made inactive: whether their table has the column.
pub(super) const HAS_JOBS: &str = "EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
       JOIN pg_attribute a ON a.attrelid = c.oid \
       WHERE n.nspname = 'cron' AND c.relname = 'job' AND c.relkind = 'r' AND a.attname = 'active')";

/// Makes jobs inactive; a row each. Only where [`HAS_JOBS`].
pub(super) const STOP_JOBS: &str =
    "UPDATE cron.job SET active = false WHERE active RETURNING jobid";

/// Deletes jobs where there are any.
pub(super) const DELETE_JOBS: &str =
    "DO $$ BEGIN IF to_regclass('cron.job') IS NOT NULL THEN DELETE FROM cron.job; END IF; END $$";

/// Disables every database's subscriptions: name and database of each. Written into the catalogue, for `ALTER
/// SUBSCRIPTION` works in its own database alone, and sets event triggers off.
pub(super) const STOP_SUBSCRIPTIONS: &str = "UPDATE pg_subscription SET subenabled = false, subslotname = NULL, subconninfo = '' \
     RETURNING subname, subdbid";

/// Deletes user mappings: the server of each. `DROP USER MAPPING` would set event triggers off.
pub(super) const DELETE_MAPPINGS: &str = "DELETE FROM pg_user_mapping RETURNING umserver";

/// Deletes what depended on them.
pub(super) const DELETE_MAPPINGS_DEPENDENCIES: [&str; 2] = [
    "DELETE FROM pg_depend WHERE classid = 'pg_user_mapping'::regclass",
    "DELETE FROM pg_shdepend WHERE classid = 'pg_user_mapping'::regclass \
     AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
];
