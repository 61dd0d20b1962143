//! User namespaces, tried in a process of their own.

use std::process::{Command, Stdio};

use super::Check;

const NAME: &str = "user namespaces";

const ADVICE: &str = "branches work; targets of context `local` get no network namespace of their own. Allow them by \
                      `sysctl user.max_user_namespaces=10000`, and on distributions that restrict them by \
                      `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or \
                      `sysctl kernel.unprivileged_userns_clone=1`";

/// Makes a user namespace with a network namespace inside it.
pub(super) fn check() -> Check {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Check::limited(NAME, format!("not tried: {error}"), ADVICE),
    };
    let tried = Command::new(program)
        .args(["probe", "user-namespace"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => {
            Check::good(NAME, "made, with a network namespace inside")
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let why = text.lines().next().unwrap_or("no reason given");
            let why = why.strip_prefix("error: ").unwrap_or(why);
            Check::limited(NAME, why.to_owned(), ADVICE)
        }
        Err(error) => Check::limited(NAME, format!("not tried: {error}"), ADVICE),
    }
}
