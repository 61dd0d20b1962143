//! Networks of targets and the taking of their traffic, each tried in a process of its own that does it and ends.

use std::process::{Command, Output, Stdio};

use super::Check;

/// An address for a namespace that lives for a moment.
const ADDRESS: &str = "198.18.0.1";

const NETWORK: &str = "target's network";

const NETWORK_ADVICE: &str = "targets of context `local` share the machine's network: sessions cannot mirror or steal \
                              their traffic, `local run --publish` cannot map ports, and targets do not know each \
                              other by name; branches, the fence and outgoing connections work. It needs root, or user \
                              namespaces, with nf_tables, nft_socket, nft_tproxy and nfnetlink_queue of the kernel \
                              (`sudo modprobe -a nf_tables nft_socket nft_tproxy nft_queue nfnetlink_queue`)";

const INCOMING: &str = "mirror and steal";

const INCOMING_ADVICE: &str = "sessions see none of a target's traffic; all else works. It needs CAP_NET_ADMIN in the \
                               target's network namespace, which a user namespace gives over its own, and nf_tables \
                               with expiring sets and nft_tproxy";

/// Makes a target's network, as `local run` does.
pub(super) fn check_target_network() -> Check {
    let dir = std::env::temp_dir().join(format!("bough-{:016x}", rand::random::<u64>()));
    if let Err(error) = std::fs::create_dir(&dir) {
        let found = format!("not tried, as {} cannot be made: {error}", dir.display());
        return Check::limited(NETWORK, found, NETWORK_ADVICE);
    }
    let folder = dir.as_os_str();
    let tried = run(|command| {
        command.args(["agent", "relay", "--address", ADDRESS, "--folder"]);
        command.arg(folder);
    });
    let _left = std::fs::remove_dir_all(&dir);
    match tried {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            match said.trim_end().split_once(' ') {
                None if said.trim_end() == "ready" => {
                    Check::good(NETWORK, "made, with a way out for TCP and UDP")
                }
                Some((_, why)) => Check::limited(NETWORK, why, NETWORK_ADVICE),
                None => Check::limited(NETWORK, reason(&output), NETWORK_ADVICE),
            }
        }
        Err(error) => Check::limited(NETWORK, format!("not tried: {error}"), NETWORK_ADVICE),
    }
}

/// Sets the rules that mirror and steal stand on, in such a network.
pub(super) fn check_incoming() -> Check {
    let tried = run(|command| {
        command.args(["probe", "incoming"]);
    });
    match tried {
        Ok(output) if output.status.success() => {
            Check::good(INCOMING, "rules that end with their owner can be set")
        }
        Ok(output) => Check::limited(INCOMING, reason(&output), INCOMING_ADVICE),
        Err(error) => Check::limited(INCOMING, format!("not tried: {error}"), INCOMING_ADVICE),
    }
}

fn run(arguments: impl FnOnce(&mut Command)) -> std::io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    arguments(&mut command);
    command.stdin(Stdio::null()).output()
}

/// The first line of what a program that failed said.
fn reason(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let why = text.lines().next().unwrap_or("no reason given");
    why.strip_prefix("error: ").unwrap_or(why).to_owned()
}
