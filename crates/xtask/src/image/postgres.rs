//! `postgres:15` to `postgres:18` in the layout of the stock images, from the servers that tests use: programs in
//! `/usr/lib/postgresql/<major>/bin`, the account `postgres` (999), `PGDATA` on a volume, an entry point that makes a
//! database on an empty one (`tests/cluster/postgres-entrypoint.sh`).
//!
//! What differs: clients of 15 and 16 are those of 17, and there are no further extensions than the servers bring.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::archive::{Blob, Image};
use super::layer::Layer;
use crate::places::workspace;
use crate::postgres::clients_of;

/// The account of the stock images.
const ACCOUNT: u64 = 999;

/// The first version whose volume is the directory above `PGDATA`, so that `pg_upgrade` finds two in one.
const VOLUME_ABOVE_DATA: u16 = 18;

const ENTRY_POINT: &str = "usr/local/bin/docker-entrypoint.sh";

/// The image of one major version; `servers` holds `<major>/bin` and `base` is the layer below.
///
/// # Errors
/// When a file of the installation cannot be read.
pub(super) fn image<'a>(
    name: &'a str,
    major: u16,
    servers: &Path,
    base: &Path,
) -> Result<Image<'a>> {
    let mut accounts = Layer::default();
    add_account(&mut accounts, base)?;
    let programs = programs(major, servers)?;
    Ok(Image {
        name,
        also: &[],
        layers: vec![
            Blob::of_file(base)?,
            Blob::of_layer(accounts)?,
            Blob::of_layer(programs)?,
        ],
        config: config(major),
    })
}

/// Everything that decides what the image is, beside its base and the server's pin.
pub(super) fn inputs() -> Result<Vec<u8>> {
    let path = workspace().join("tests/cluster/postgres-entrypoint.sh");
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// The lines of the account, after those that the base has.
fn add_account(layer: &mut Layer, base: &Path) -> Result<()> {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    let file = fs::File::open(base).with_context(|| format!("open {}", base.display()))?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries().context("read the base")? {
        let mut entry = entry.context("read the base")?;
        let path = entry.path().context("read the base")?;
        let path = path.strip_prefix("./").unwrap_or(&path);
        let into = if path == Path::new("etc/passwd") {
            &mut users
        } else if path == Path::new("etc/group") {
            &mut groups
        } else {
            continue;
        };
        std::io::copy(&mut entry, into).context("read the base's accounts")?;
    }
    anyhow::ensure!(
        !users.is_empty() && !groups.is_empty(),
        "{} has no accounts",
        base.display()
    );
    let user = format!("postgres:x:{ACCOUNT}:{ACCOUNT}::/var/lib/postgresql:/bin/bash\n");
    users.extend(user.into_bytes());
    groups.extend(format!("postgres:x:{ACCOUNT}:\n").into_bytes());
    layer.file("etc/passwd", 0o644, &users)?;
    layer.file("etc/group", 0o644, &groups)
}

fn programs(major: u16, servers: &Path) -> Result<Layer> {
    let here = servers.join(major.to_string());
    let there = format!("usr/lib/postgresql/{major}");
    let mut layer = Layer::default();
    for part in ["lib", "share"] {
        layer.tree(&format!("{there}/{part}"), &here.join(part))?;
    }
    for program in ["initdb", "pg_ctl", "postgres"] {
        let path = format!("{there}/bin/{program}");
        layer.program(&path, &here.join("bin").join(program))?;
    }
    // The clients find their libraries beside themselves, so they stay together and are linked.
    let clients = clients_of(servers, major)?;
    layer.tree(&format!("{there}/clients"), &clients.tree)?;
    for program in &clients.programs {
        let target = Path::new("../clients").join(&clients.bin).join(program);
        layer.link(&format!("{there}/bin/{program}"), &target)?;
    }
    layer.directory("var/lib/postgresql", 0o1777, ACCOUNT)?;
    layer.directory("var/lib/postgresql/data", 0o1777, ACCOUNT)?;
    layer.directory("run/postgresql", 0o3777, ACCOUNT)?;
    layer.directory("docker-entrypoint-initdb.d", 0o755, 0)?;
    layer.file(ENTRY_POINT, 0o755, &inputs()?)?;
    Ok(layer)
}

fn config(major: u16) -> Value {
    let (data, volume) = if major >= VOLUME_ABOVE_DATA {
        (
            format!("/var/lib/postgresql/{major}/docker"),
            "/var/lib/postgresql",
        )
    } else {
        (
            "/var/lib/postgresql/data".to_owned(),
            "/var/lib/postgresql/data",
        )
    };
    let path = format!(
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{major}/bin"
    );
    json!({
        "Env": [path, "LANG=en_US.utf8", format!("PG_MAJOR={major}"), format!("PGDATA={data}")],
        "Entrypoint": [format!("/{ENTRY_POINT}")],
        "Cmd": ["postgres"],
        "ExposedPorts": { "5432/tcp": {} },
        "Volumes": { volume: {} },
        // Fast shutdown, as a person who stops a container means it.
        "StopSignal": "SIGINT",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lie_where_the_stock_image_of_that_version_has_them() {
        let data = |major| {
            let config = config(major);
            let env = config["Env"].as_array().expect("a list").clone();
            let volumes = config["Volumes"].as_object().expect("a map").clone();
            let data = env.iter().filter_map(Value::as_str);
            let data = data.filter_map(|line| line.strip_prefix("PGDATA="));
            (
                data.map(str::to_owned).collect::<Vec<_>>(),
                volumes.keys().cloned().collect::<Vec<_>>(),
            )
        };
        let before = "/var/lib/postgresql/data".to_owned();
        assert_eq!(data(17), (vec![before.clone()], vec![before]));
        assert_eq!(
            data(18),
            (
                vec!["/var/lib/postgresql/18/docker".to_owned()],
                vec!["/var/lib/postgresql".to_owned()]
            )
        );
    }

    #[test]
    fn the_account_comes_after_those_of_the_base() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().join("base.tar");
        let mut archive = tar::Builder::new(fs::File::create(&base).expect("created"));
        for path in ["./etc/passwd", "./etc/group"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            archive
                .append_data(&mut header, path, &b"root\n"[..])
                .expect("packed");
        }
        archive.finish().expect("finished");
        let mut layer = Layer::default();
        add_account(&mut layer, &base).expect("added");
        let bytes = layer.finish().expect("finished");
        let mut layer = tar::Archive::new(bytes.as_slice());
        for entry in layer.entries().expect("an archive") {
            let mut text = String::new();
            let mut entry = entry.expect("an entry");
            std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
            assert!(text.starts_with("root\npostgres:x:999:"), "{text}");
        }
        fs::write(&base, []).expect("emptied");
        add_account(&mut Layer::default(), &base).expect_err("a base without accounts");
    }
}
