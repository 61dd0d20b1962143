//! Help, versions, and what is said to wrong arguments.

use crate::harness::{environment, run, show};

#[test]
fn the_overview_names_every_command() {
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "--help")), @r#"
    exit 0
    --- stdout
    Run a process as if in the cluster, with its own branch of the shared database

    Usage: bough [OPTIONS] <COMMAND>

    Commands:
      exec           Run a program as the target, with its own branches of the databases
      db-branches    List, make and delete branches
      session        List sessions that hold branches, or that an operator was told of, or stop them
      source         Name databases that branches are made of
      local          Run targets on this machine, for sessions without a cluster
      ls             List what a session could take the place of
      port-forward   Lead ports of this machine through a target's network, or a target's ports to this
                     machine
      engine         Look at the engine that owns the branches, or stop it
      operator       Install, watch and take away what makes branches in a cluster
      verify-config  Check a configuration file: every error with its place, and what `exec` would
                     refuse or leave out
      schema         Write the JSON Schema of configuration files
      alias          Let `mirrord` be another name of this program, for scripts and habits
      doctor         Show what this machine can do, and what to do about the rest
      completions    Write a shell's completion script
      help           Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Everywhere:
          --data-dir <DIR>  Where the engine keeps its data [default: BOUGH_DATA_DIR, else
                            /var/lib/bough for root, else ~/.local/share/bough]
      -q, --quiet           No opening, closing and progress lines
      -v, --verbose...      Say more about what goes on; twice for everything [RUST_LOG says which]

    Examples:
      bough exec -f .mirrord/inventory-db-branch.json -- cargo run    a process with its own branch
      bough db-branches -n metalmart status                           what branches there are
      bough db-branches create try-it --source postgres://db/inventory

    Exit codes:
      0 done; 1 internal failure, or no such object; 2 configuration or usage; 3 context or target; 4
      branch.
      `exec` exits with its program's own code (128+n for a signal), 126 and 127 as shells have them.
    --- stderr
    "#);
}

#[test]
fn every_command_has_examples() {
    let env = environment();
    for command in [
        "db-branches",
        "db-branches status",
        "db-branches create",
        "db-branches reset",
        "db-branches extend",
        "db-branches destroy",
        "db-branches connections",
        "db-branches psql",
        "db-branches url",
        "session",
        "session ls",
        "session stop",
        "source",
        "source add",
        "source ls",
        "source rm",
        "engine",
        "engine status",
        "engine stop",
        "engine logs",
        "doctor",
        "completions",
        "exec",
        "verify-config",
        "schema",
        "alias",
        "operator",
        "operator install",
        "operator status",
        "operator manifests",
        "operator clear",
        "operator uninstall",
        "local",
        "ls",
        "local run",
        "port-forward",
        "local ls",
        "local logs",
        "local stop",
    ] {
        let text = run(&env, &format!("{command} --help")).success().unwrap();
        assert!(text.contains("\nExamples:\n  "), "{command}: {text}");
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{command}: {text}");
    }
}

#[test]
fn versions_and_wrong_arguments() {
    let env = environment();
    let version = run(&env, "--version").success().unwrap();
    assert_eq!(version, format!("bough {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&env, "-V").success().unwrap(), version);
    insta::assert_snapshot!(show(&env, &run(&env, "db-branch status")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'db-branch'

      tip: a similar subcommand exists: 'db-branches'

    Usage: bough [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "db-branches destroy")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <NAME>...

    Usage: bough db-branches destroy <NAME>...

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "db-branches -n Metal_Mart status")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'Metal_Mart' for '--namespace <NS>': namespace "Metal_Mart" is not a DNS label: 1 to 63 of a-z, 0-9 and '-', not '-' first or last

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "db-branches -A create a --source b")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: a branch is made in one namespace: -A names all
    hint: name it with -n
    "#);
}
