//! Jumps of the machine's clock between two engines, where random schedules seldom come: each promise that goes by time,
//! once with a clock that would break it.

use anyhow::Result;

use crate::run::{Report, run_schedules};
use crate::schedule::Schedule;

/// The branch outlives a clock that is set far ahead, and its TTL goes on by steady time: the one whose TTL is short ends.
const AHEAD: &str = r#"
# seed 3
{"actions":[{"create":{"slot":0,"wish":{"copy":"all","age":"fresh","ttl":600}}},{"create":{"slot":1,"wish":{"copy":"empty","age":"fresh","ttl":600}}}]}
{"actions":[{"write":{"slot":0,"first":0,"rows":1}},{"write":{"slot":1,"first":1,"rows":1}}]}
{"actions":["list"],"strikes":[{"after_ms":0,"fault":{"jump_clock":{"by_s":7200}}},{"after_ms":100,"fault":"kill_engine"}]}
{"actions":[{"read":{"slot":0}},{"read":{"slot":1}}]}
{"actions":[{"extend":{"slot":1,"ttl":1}}],"strikes":[{"after_ms":0,"fault":{"jump_clock":{"by_s":-86400}}},{"after_ms":100,"fault":"kill_engine"}]}
{"actions":[{"read":{"slot":0}}]}
"#;

/// Data that is older than asked for does not pass for younger by a clock that was set back, by less than its age.
const BACK: &str = r#"
# seed 3
{"actions":[{"create":{"slot":0,"wish":{"copy":"all","age":"fresh","ttl":600}}}]}
{"actions":[{"read":{"slot":0}}]}
{"actions":["write_source"]}
{"actions":["list"],"strikes":[{"after_ms":7500,"fault":{"jump_clock":{"by_s":-7}}},{"after_ms":7600,"fault":"kill_engine"}]}
{"actions":[{"create":{"slot":1,"wish":{"copy":"all","age":"young","ttl":600}}}]}
{"actions":[{"read":{"slot":1}}]}
"#;

#[test]
fn no_branch_ends_and_no_data_grows_younger_by_a_jump_of_the_clock() -> Result<()> {
    let report = Report::default();
    let schedules = [Schedule::parse(AHEAD)?, Schedule::parse(BACK)?];
    run_schedules(&report, schedules.into_iter());
    report.verdict()
}
