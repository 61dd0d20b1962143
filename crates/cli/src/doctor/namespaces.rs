//! User namespaces, tried in a process of their own.

use std::process::{Command, Stdio};

use super::Check;

const NAME: &str = "user namespaces";

const ADVICE: &str = "branches work; targets of context `local` get no network namespace of their own. Allow them by \
                      `sysctl user.max_user_namespaces=10000`, and on distributions that restrict them by \
                      `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or \
                      `sysctl kernel.unprivileged_userns_clone=1`";

/// Whether AppArmor denies programs without a profile what they would do in user namespaces (Ubuntu 23.10 and newer).
const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// What lets servers mount in user namespaces.
pub(super) fn mount_advice() -> String {
    let gain = "servers that may mount in user namespaces give branches of any size at once";
    let is_restricted = std::fs::read_to_string(RESTRICTED).is_ok_and(|text| text.trim() == "1");
    if is_restricted {
        return format!(
            "{gain}; this system wants an AppArmor profile for that: `bough doctor --apparmor-profile | sudo tee \
             /etc/apparmor.d/bough`, `sudo apparmor_parser --replace /etc/apparmor.d/bough`, `bough engine stop`"
        );
    }
    format!(
        "{gain}: allow user namespaces by `sysctl user.max_user_namespaces=10000`; in a container, by a seccomp profile \
         that lets unshare(2) and mount(2) through; or run the engine as root"
    )
}

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
