//! `completions`: scripts that a shell takes.

use crate::harness::{environment, run};

#[test]
fn each_shell_gets_its_script() {
    let env = environment();
    for (shell, mark) in [
        ("bash", "complete -F _bough"),
        ("zsh", "#compdef bough"),
        ("fish", "complete -c bough"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let script = run(&env, &format!("completions {shell}"))
            .success()
            .unwrap();
        assert!(script.contains(mark), "{shell}");
        assert!(script.contains("db-branches"), "{shell}");
    }
    let outcome = run(&env, "completions tcsh");
    assert_eq!(outcome.status.code(), Some(2));
}

#[test]
fn bash_takes_its_script() {
    let env = environment();
    let script = run(&env, "completions bash").success().unwrap();
    let file = env.root().join("bough.bash");
    std::fs::write(&file, script).unwrap();
    let checked = std::process::Command::new("bash")
        .arg("-n")
        .arg(&file)
        .status();
    assert!(checked.unwrap().success());
}
