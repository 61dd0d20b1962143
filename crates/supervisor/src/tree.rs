//! A process with all that descends from it, and how the whole of it is ended.
//!
//! Owns who belongs to a tree and the polite-then-firm ending of it. Works from `/proc`, so it needs no kinship; being
//! the adopter of the tree's orphans (`PR_SET_CHILD_SUBREAPER`) makes it complete.
//!
//! Left out of every tree: daemons of this very program, that is session leaders that run the same file. An engine or a
//! local target that was started from inside a session serves others too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{Process, Stat};

/// How long the kernel may take to end processes that it was told to kill, before the next look. One that waits for a disk or for NFS can take for ever.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Looks for processes forked while others were being killed. Each look outruns a program that forks once per death;
/// one that forks faster is not ended by signals at all.
const KILL_ROUNDS_MAX: usize = 8;

/// A process and its descendants, at whatever moment they are asked for.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Process,
    orphans: Orphans,
}

/// How descendants are found whose parents have ended.
#[derive(Debug, Clone)]
enum Orphans {
    /// The kernel hands them to `pid`, whose children `others` are no part of the tree.
    Adopted { pid: i32, others: BTreeSet<Process> },
    /// They are still in the session that `leader` opened for this tree alone.
    InSession { leader: Process },
    /// They cannot be told from strangers.
    Unknown,
}

impl Tree {
    /// The tree below `root`, which runs in a session that `leader`, ended or not, opened for it alone. Orphans
    /// belong to it as far as they stayed in that session, if `root` is alive to prove that it is the same session.
    pub fn in_session(root: Process, leader: Process) -> Self {
        let proven = root
            .stat()
            .is_some_and(|stat| !stat.is_zombie() && stat.session == leader.pid());
        let orphans = if proven {
            Orphans::InSession { leader }
        } else {
            Orphans::Unknown
        };
        Self { root, orphans }
    }

    /// The tree below `root` as far as its parents live.
    pub(crate) fn below(root: Process) -> Self {
        let orphans = Orphans::Unknown;
        Self { root, orphans }
    }

    /// The tree below `root`, whose orphans become children of `pid`; its children `others` are no part of it.
    pub(crate) fn adopted(root: Process, pid: i32, others: BTreeSet<Process>) -> Self {
        let orphans = Orphans::Adopted { pid, others };
        Self { root, orphans }
    }

    /// Everything in it that runs.
    pub fn members(&self) -> Vec<Process> {
        self.select(&Stat::read_all(), is_own_daemon)
    }

    fn select(&self, all: &[Stat], is_spared: impl Fn(&Stat) -> bool) -> Vec<Process> {
        let mut children = BTreeMap::<i32, Vec<&Stat>>::new();
        for stat in all {
            children.entry(stat.parent).or_default().push(stat);
        }
        let mut open = self.starts(all);
        let mut seen = BTreeSet::new();
        while let Some(stat) = open.pop() {
            if seen.contains(&stat.process) || (!self.is_own(stat.process) && is_spared(stat)) {
                continue;
            }
            seen.insert(stat.process);
            open.extend(children.get(&stat.process.pid()).into_iter().flatten());
        }
        all.iter()
            .filter(|stat| seen.contains(&stat.process) && !stat.is_zombie())
            .map(|stat| stat.process)
            .collect()
    }

    /// Whether it belongs to the tree whatever it runs.
    fn is_own(&self, process: Process) -> bool {
        match &self.orphans {
            Orphans::InSession { leader } => process == self.root || process == *leader,
            Orphans::Adopted { .. } | Orphans::Unknown => process == self.root,
        }
    }

    /// The processes of `all` that belong to the tree by themselves, not through their parents.
    fn starts<'a>(&self, all: &'a [Stat]) -> Vec<&'a Stat> {
        let is_orphan = |stat: &Stat| match &self.orphans {
            Orphans::Adopted { pid, others } => {
                stat.parent == *pid && !others.contains(&stat.process)
            }
            Orphans::InSession { leader } => stat.session == leader.pid(),
            Orphans::Unknown => false,
        };
        // A session's number is not given to a process while anybody is in the session; once it is, nobody was left.
        let is_over = match &self.orphans {
            Orphans::InSession { leader } => all
                .iter()
                .any(|stat| stat.process.pid() == leader.pid() && stat.process != *leader),
            Orphans::Adopted { .. } | Orphans::Unknown => false,
        };
        all.iter()
            .filter(|stat| stat.process == self.root || (!is_over && is_orphan(stat)))
            .collect()
    }

    /// Whether the process `pid` belongs to it.
    pub(crate) fn contains(&self, pid: i32) -> bool {
        self.members().iter().any(|member| member.pid() == pid)
    }

    /// Ends it: TERM to every member, until all have ended or `grace` is over; then KILL, until nothing is left.
    /// Returns what cannot be ended: programs of another account, or stuck in the kernel.
    ///
    /// # Errors
    /// When descriptors have run out, so that nobody's end can be waited for. TERM has been sent then.
    pub async fn end(&self, grace: Duration) -> io::Result<Vec<Process>> {
        for member in self.members() {
            signal(member, Signal::TERM);
            // A stopped process takes TERM only once it is continued.
            signal(member, Signal::CONT);
        }
        if let Ok(ended) = tokio::time::timeout(grace, self.ended()).await {
            ended?;
            return Ok(Vec::new());
        }
        for _ in 0..KILL_ROUNDS_MAX {
            self.kill();
            if let Ok(ended) = tokio::time::timeout(KILL_WAIT, self.ended()).await {
                ended?;
                break;
            }
        }
        Ok(self.members())
    }

    /// Sends KILL to every member, and to those that were forked meanwhile. Does not wait.
    pub fn kill(&self) {
        let mut killed = BTreeSet::new();
        for _ in 0..KILL_ROUNDS_MAX {
            let members = self.members();
            if members.iter().all(|member| killed.contains(member)) {
                return;
            }
            for member in members {
                signal(member, Signal::KILL);
                killed.insert(member);
            }
        }
    }

    /// Waits until nothing of it runs.
    async fn ended(&self) -> io::Result<()> {
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            for member in members {
                member.ended().await?;
            }
        }
    }
}

fn signal(member: Process, signal: Signal) {
    // A program of another account (setuid) cannot be signalled; the caller finds it among what is left.
    let _not_ours = member.signal(signal);
}

/// Whether it is a daemon of this program: it leads a session and runs the file that this process runs.
fn is_own_daemon(stat: &Stat) -> bool {
    stat.session == stat.process.pid() && same_program(stat.process.pid()).unwrap_or(false)
}

fn same_program(pid: i32) -> io::Result<bool> {
    let own = fs::metadata("/proc/self/exe")?;
    let other = fs::metadata(format!("/proc/{pid}/exe"))?;
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, session: i32, state: u8) -> Stat {
        Stat {
            process: Process::from_parts(pid, 100 + u64::from(pid.unsigned_abs())),
            parent,
            session,
            state,
            threads: 1,
        }
    }

    fn pids(members: Vec<Process>) -> Vec<i32> {
        members.into_iter().map(Process::pid).collect()
    }

    #[test]
    fn descendants_and_adopted_orphans_belong_to_it_and_nobody_else() {
        let all = [
            stat(1, 0, 1, b'S'),
            stat(10, 1, 10, b'S'),  // the adopter
            stat(11, 10, 10, b'S'), // its older child
            stat(12, 10, 10, b'S'), // the root
            stat(13, 12, 10, b'S'),
            stat(14, 13, 14, b'S'), // in a session of its own
            stat(15, 10, 15, b'S'), // an orphan
            stat(16, 15, 15, b'Z'),
            stat(17, 11, 10, b'S'),
            stat(18, 1, 18, b'S'),
        ];
        let tree = Tree::adopted(all[3].process, 10, BTreeSet::from([all[2].process]));
        assert_eq!(pids(tree.select(&all, |_| false)), [12, 13, 14, 15]);
        let spared = |stat: &Stat| stat.process.pid() == 15 || stat.process.pid() == 14;
        assert_eq!(pids(tree.select(&all, spared)), [12, 13]);
    }

    #[test]
    fn a_root_whose_pid_is_another_process_by_now_has_no_tree() {
        let all = [
            stat(1, 0, 1, b'S'),
            stat(12, 1, 12, b'S'),
            stat(13, 12, 12, b'S'),
        ];
        let tree = Tree::in_session(Process::from_parts(12, 1), all[0].process);
        assert_eq!(pids(tree.select(&all, |_| false)), Vec::<i32>::new());
    }

    #[test]
    fn a_session_whose_number_was_given_away_is_not_believed() {
        let leader = Process::from_parts(12, 5);
        let orphans = Orphans::InSession { leader };
        let root = Process::from_parts(13, 6);
        let tree = Tree { root, orphans };
        let mut all = vec![
            stat(1, 0, 1, b'S'),
            stat(14, 1, 12, b'S'),
            stat(15, 14, 15, b'S'),
        ];
        assert_eq!(pids(tree.select(&all, |_| false)), [14, 15]);
        all.push(stat(12, 1, 12, b'S'));
        assert_eq!(pids(tree.select(&all, |_| false)), Vec::<i32>::new());
    }

    #[test]
    fn a_first_thread_that_ended_before_the_others_is_no_zombie() {
        let mut leader = stat(12, 1, 12, b'Z');
        leader.threads = 3;
        let tree = Tree::adopted(leader.process, 1, BTreeSet::from([leader.process]));
        assert_eq!(pids(tree.select(&[leader], |_| false)), [12]);
    }
}
