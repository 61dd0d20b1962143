//! The doors of branches: opened at a port of their own, with this engine's lock where doors are guarded, and TLS where the
//! source's URL demands it.

use jiff::Timestamp;
use model::engine_api::{Problem, ProblemKind};
use model::{BranchName, PgUrl};

use crate::door::{Admission, Door};
use crate::machine::Machine;
use crate::postgres::initdb::ADMIN_ROLE;

/// The role of the engine never gets through.
fn admission(
    machine: &Machine,
    name: &BranchName,
    created_at: Timestamp,
    source: &PgUrl,
) -> Admission {
    let key = machine.door_key.as_ref();
    Admission {
        refused_user: ADMIN_ROLE,
        lock: key.map(|key| key.lock(name, created_at, machine.clock)),
        encryption: source.tls_demand().map(|_| machine.door_encryption.clone()),
    }
}

/// Opens the door of a branch at a free port.
pub(super) async fn open_door(
    machine: &Machine,
    name: &BranchName,
    created_at: Timestamp,
    source: &PgUrl,
) -> Result<Door, Problem> {
    let seed = name.as_str().bytes().fold(0_u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let opened = Door::open(seed, admission(machine, name, created_at, source)).await;
    opened.map_err(|error| {
        Problem::new(ProblemKind::LimitPassed, error.to_string())
            .with_hint("destroy branches that nobody needs")
    })
}

/// Opens the door of a branch at the port that it had; none where somebody else has it.
pub(super) async fn open_door_at(
    port: u16,
    machine: &Machine,
    name: &BranchName,
    created_at: Timestamp,
    source: &PgUrl,
) -> Option<Door> {
    Door::open_at(port, admission(machine, name, created_at, source)).await
}
