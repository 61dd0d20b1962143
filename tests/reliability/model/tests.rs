//! That the model takes no answer for wrong which could be given, and none for right which could not.

use super::*;

const SLOT: Slot = Slot(0);

fn outcome(action: Action, told: Told) -> Outcome {
    Outcome {
        action,
        began: Duration::from_secs(10),
        ended: Duration::from_secs(11),
        source_floor: 0,
        young_floor: 0,
        told,
    }
}

fn read_in_vain() -> Outcome {
    let problem = Problem::new(ProblemKind::NotFound, "no such branch");
    outcome(Action::Read { slot: SLOT }, Told::Refused(problem))
}

fn cut_write() -> Outcome {
    let action = Action::Write {
        slot: SLOT,
        first: 1,
        rows: 1,
    };
    let told = Told::Wrote {
        port: 5000,
        committed: BTreeSet::new(),
        unsure: BTreeSet::from([1]),
        why: "connection closed".to_owned(),
    };
    outcome(action, told)
}

fn expiring() -> Model {
    let mut model = Model::new();
    let branch = model.branches.get_mut(&SLOT).expect("every slot is known");
    branch.life = Life::Present;
    branch.live_until(1, Duration::ZERO);
    model
}

#[test]
fn a_branch_that_expires_is_still_found_by_one_and_no_more_by_another() {
    for round in [[read_in_vain(), cut_write()], [cut_write(), read_in_vain()]] {
        let mut model = expiring();
        model.take(&round, &[], 0);
        assert_eq!(model.violations(), [""; 0]);
        assert!(model.branch(SLOT).must_be_gone());
    }
}

#[test]
fn a_branch_that_was_gone_before_is_found_by_nobody() {
    let mut model = expiring();
    model.take(&[read_in_vain()], &[], 0);
    model.take(&[read_in_vain(), cut_write()], &[], 0);
    let first = model.violations().first().map_or("", String::as_str);
    assert!(
        first.starts_with("a branch that was gone was used"),
        "{first}"
    );
}
