//! Where this process's own threads wait, for the log of an engine that does not get on.

use std::fs;

/// Each thread's name and the function of the kernel in which it waits; `0` of one that runs.
pub(crate) fn waits() -> String {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return String::new();
    };
    let told = |task: fs::DirEntry| {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        format!("{} in {}", read("comm").trim(), read("wchan"))
    };
    let told: Vec<_> = tasks.flatten().map(told).collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_is_told_by_its_name() {
        let (go_tx, go_rx) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("waits-here".to_owned());
        let (here_tx, here_rx) = std::sync::mpsc::channel();
        let waits = move || {
            here_tx.send(()).unwrap();
            go_rx.recv()
        };
        let waiting = thread.spawn(waits).unwrap();
        here_rx.recv().unwrap();
        let told = super::waits();
        assert!(told.contains("waits-here in "), "{told}");
        drop(go_tx);
        assert!(waiting.join().unwrap().is_err());
    }
}
