//! The search, over folders that are made for the purpose.

use super::*;

fn program(folder: &Path, name: &str, says: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn server(folder: &Path, version: &str) {
    let says = format!("echo 'postgres (PostgreSQL) {version} (Debian {version}-1)'");
    program(folder, "postgres", &says);
    program(folder, "initdb", "");
}

fn dumper(folder: &Path, version: &str) {
    program(
        folder,
        "pg_dump",
        &format!("echo 'pg_dump (PostgreSQL) {version}'"),
    );
}

/// Places of the distributions are on the test's machine too, so that assertions are about versions nobody has.
async fn discover(lookup: Lookup) -> Installations {
    Installations::discover(&lookup).await
}

#[test]
fn versions_are_read_from_what_programs_say() {
    for (answer, major, full) in [
        ("postgres (PostgreSQL) 16.14", 16, "16.14"),
        (
            "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
            15,
            "15.18",
        ),
        ("pg_dump (PostgreSQL) 19beta2", 19, "19beta2"),
        ("postgres (PostgreSQL) 19devel", 19, "19devel"),
    ] {
        assert_eq!(
            parse_version(answer),
            Some((PgMajor(major), full.to_owned()))
        );
    }
    for answer in [
        "",
        "postgres 16",
        "postgres (PostgreSQL) ",
        "psql (PostgreSQL) x",
    ] {
        assert_eq!(parse_version(answer), None, "{answer:?}");
    }
}

#[tokio::test]
async fn explicit_folders_come_before_the_data_directory_and_path() {
    let root = tempfile::tempdir().unwrap();
    let [set, data, path] = ["set", "data", "path"].map(|name| root.path().join(name));
    server(&set.join("901/bin"), "901.1");
    server(&data.join("postgres/901/bin"), "901.2");
    server(&data.join("postgres/902/bin"), "902.2");
    server(&path, "903.3");
    let found = discover(Lookup {
        roots: vec![set.clone()],
        data_dir: Some(data.clone()),
        path: Some(path.clone().into()),
    })
    .await;
    assert_eq!(found.server(PgMajor(901)).unwrap().full_version, "901.1");
    assert_eq!(
        found.server(PgMajor(902)).unwrap().bin,
        data.join("postgres/902/bin")
    );
    assert_eq!(found.server(PgMajor(903)).unwrap().bin, path);
}

#[tokio::test]
async fn a_folder_of_programs_may_be_set_itself_and_pg_config_tells_one() {
    let root = tempfile::tempdir().unwrap();
    server(&root.path().join("mine"), "904.1");
    server(&root.path().join("told"), "905.1");
    let path = root.path().join("path");
    let told = format!("echo {}", root.path().join("told").display());
    program(&path, "pg_config", &told);
    let found = discover(Lookup {
        roots: vec![root.path().join("mine")],
        data_dir: None,
        path: Some(path.into()),
    })
    .await;
    assert_eq!(found.server(PgMajor(904)).unwrap().full_version, "904.1");
    assert_eq!(found.server(PgMajor(905)).unwrap().full_version, "905.1");
}

#[tokio::test]
async fn the_dumper_is_the_targets_own_or_the_oldest_that_reads_the_source() {
    let root = tempfile::tempdir().unwrap();
    for version in ["906", "908", "909"] {
        dumper(
            &root.path().join(version).join("bin"),
            &format!("{version}.0"),
        );
    }
    let found = discover(Lookup {
        roots: vec![root.path().to_owned()],
        ..Lookup::default()
    })
    .await;
    let chosen = |source, target| {
        found
            .dumper(PgMajor(source), PgMajor(target))
            .map(|chosen| chosen.major.0)
    };
    assert_eq!(chosen(906, 906), Ok(906));
    assert_eq!(chosen(907, 907), Ok(908));
    assert_eq!(chosen(906, 909), Ok(909));
    assert_eq!(chosen(907, 906), Ok(908));
    let refused = chosen(910, 910).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("no pg_dump of version 910 or newer")
    );
    assert!(refused.hint().contains("postgresql-client-910"));
}

#[tokio::test]
async fn the_error_names_the_version_what_was_found_and_where_it_was_looked_for() {
    let root = tempfile::tempdir().unwrap();
    server(&root.path().join("907/bin"), "907.4");
    let broken = root.path().join("908/bin");
    program(&broken, "postgres", "echo 'library missing' >&2; exit 127");
    program(&broken, "initdb", "");
    let found = discover(Lookup {
        roots: vec![root.path().to_owned()],
        ..Lookup::default()
    })
    .await;
    let refused = found.server(PgMajor(908)).unwrap_err().to_string();
    let in_907 = format!(
        "907.4 (server) in {}",
        root.path().join("907/bin").display()
    );
    let in_908 = format!("not usable: {} (library missing)", broken.display());
    for part in [
        "no PostgreSQL 908 server",
        &in_907,
        &in_908,
        "/usr/lib/postgresql/*/bin",
    ] {
        assert!(refused.contains(part), "{part} is not in: {refused}");
    }
}

#[tokio::test]
async fn a_server_without_initdb_is_none() {
    let root = tempfile::tempdir().unwrap();
    server(&root.path().join("909/bin"), "909.4");
    std::fs::remove_file(root.path().join("909/bin/initdb")).unwrap();
    let found = discover(Lookup {
        roots: vec![root.path().to_owned()],
        ..Lookup::default()
    })
    .await;
    assert!(found.server(PgMajor(909)).is_err());
    assert!(found.found.iter().any(|found| found.major == PgMajor(909)));
}
