//! The kernel: its release against the floor, and seccomp's user notification.

use std::io;

use super::Check;

/// The oldest release with everything that the session's network stands on.
const FLOOR: (u32, u32) = (5, 19);

/// The floor feature by feature, newest first (the release that brought it, and the manual page that says so).
const REASONS: &str = "seccomp's wait that only a kill breaks (5.19, seccomp_unotify(2)), answers with a descriptor in \
                       one step (5.14), cloned pids' descriptors (5.6, pidfd_getfd(2))";

/// Where the kernel lists what seccomp filters may answer (seccomp(2), "/proc interfaces").
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// The running kernel's release.
pub(super) fn read_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Compares a release such as `6.8.0-45-generic` with the floor.
pub(super) fn check_release(release: &str) -> Check {
    let (major, minor) = FLOOR;
    match parse_release(release) {
        Some(found) if found >= FLOOR => Check::good("kernel", format!("Linux {release}")),
        Some(_) => Check::limited(
            "kernel",
            format!("Linux {release}, older than {major}.{minor}"),
            format!(
                "branches work, but not a session's fence around their source: use Linux {major}.{minor} or newer: {REASONS}"
            ),
        ),
        None => Check::limited(
            "kernel",
            format!("Linux {release:?}, of which no version can be read"),
            format!("use Linux {major}.{minor} or newer: {REASONS}"),
        ),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What seccomp filters may answer on this kernel.
pub(super) fn read_actions() -> io::Result<String> {
    std::fs::read_to_string(ACTIONS)
}

/// Whether a filter may ask a supervisor.
pub(super) fn check_notification(actions: io::Result<String>) -> Check {
    const NAME: &str = "seccomp notification";
    const ADVICE: &str = "branches work, but not a session's fence around their source: it needs a kernel with \
                          CONFIG_SECCOMP_FILTER, and a container runtime that lets seccomp(2) through";
    match actions {
        Ok(list) if list.split_whitespace().any(|action| action == "user_notif") => {
            Check::good(NAME, "offered by the kernel")
        }
        Ok(_) => Check::limited(NAME, "not offered by the kernel", ADVICE),
        Err(error) => Check::limited(NAME, format!("cannot read {ACTIONS}: {error}"), ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, verdict) in [
            ("6.8.0-45-generic", Verdict::Good),
            ("5.19.0", Verdict::Good),
            ("5.4.0-1-amd64", Verdict::Limited),
            ("4.19", Verdict::Limited),
            ("new", Verdict::Limited),
        ] {
            assert_eq!(check_release(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn notification_is_read_from_the_kernels_list() {
        let check = |list: &str| check_notification(Ok(list.to_owned())).verdict;
        assert_eq!(check("kill_process user_notif log\n"), Verdict::Good);
        assert_eq!(check("kill_process log\n"), Verdict::Limited);
        let absent = check_notification(Err(io::ErrorKind::NotFound.into()));
        assert_eq!(absent.verdict, Verdict::Limited);
    }
}
