//! What the engine says of the machine: that it runs, its servers, its volume, its account.

use engine::postgres::binaries::{Installations, Lookup};
use model::VolumeKind;
use model::engine_api::{EngineView, InstallationView, VolumeView};
use model::pg_version::PG_MAJOR_MIN;

use super::{Check, namespaces};
use crate::engine_start;
use crate::engine_words;
use crate::error::CommandError;
use crate::settings::Settings;

/// Asks the engine, which is started if need be. Servers are looked for even where there is no engine.
pub(super) async fn examine(settings: &Settings) -> Vec<Check> {
    let lookup = Lookup {
        roots: settings.postgres_path.clone(),
        data_dir: Some(settings.data_dir.clone()),
        path: settings.path().map(ToOwned::to_owned),
    };
    let search = Installations::discover(&lookup).await;
    match engine_start::connect(settings).await {
        Ok(engine) => read(&engine.view, &search),
        Err(error) => {
            let failure = CommandError::from(error);
            let mut found = vec![failure.message()];
            found.extend_from_slice(failure.details());
            let advice = failure.hints().join("; ");
            let engine = Check::missing("engine", found.join("\n"), advice);
            vec![engine, check_installations(&search.views(), &search)]
        }
    }
}

fn read(engine: &EngineView, search: &Installations) -> Vec<Check> {
    let EngineView {
        version,
        data_dir,
        pid,
        ..
    } = engine;
    let runs = format!("bough {version} in {data_dir}, pid {pid}");
    let account = engine_words::account(engine.server_account.as_deref());
    vec![
        Check::good("engine", runs),
        Check::good("servers run as", account),
        check_egress(engine),
        check_installations(&engine.installations, search),
        check_volume(&engine.volume),
        check_space(&engine.volume),
    ]
}

fn check_egress(engine: &EngineView) -> Check {
    const ADVICE: &str = "use a kernel with CONFIG_SECCOMP_FILTER; a container needs a profile that lets seccomp(2) \
                          through";
    let found = engine_words::egress(engine);
    match &engine.egress_open {
        None => Check::good("servers reach", found),
        Some(_) => Check::missing("servers reach", found, ADVICE),
    }
}

fn check_installations(installations: &[InstallationView], search: &Installations) -> Check {
    const NAME: &str = "PostgreSQL";
    let serves = installations
        .iter()
        .any(|found| found.server && found.major.0 >= PG_MAJOR_MIN);
    let lacks = match (serves, installations.iter().any(|found| found.pg_dump)) {
        (true, true) => return Check::good(NAME, engine_words::installations(installations)),
        (true, false) => "no pg_dump",
        (false, true) => "no server",
        (false, false) => "neither server nor pg_dump",
    };
    let looked = search
        .looked
        .iter()
        .map(|place| place.display().to_string());
    let looked = looked.collect::<Vec<_>>().join(", ");
    let mut found = engine_words::installations(installations);
    if !found.is_empty() {
        found.push('\n');
    }
    found.push_str(&format!("{lacks}; looked in {looked}"));
    let advice = format!(
        "install servers and clients of your source's major version ({PG_MAJOR_MIN} or newer), such as Debian's \
         postgresql-16, or name their folders in BOUGH_POSTGRES_PATH; then `bough engine stop`"
    );
    Check::missing(NAME, found, advice)
}

fn check_volume(volume: &VolumeView) -> Check {
    let mut found = engine_words::volume(volume);
    for better in &volume.passed_over {
        found.push_str(&format!("\nnot {}: {}", better.kind, better.reason));
    }
    let has_reflinks = volume.kind.has_reflinks();
    let denied = volume.passed_over.iter().find(|better| {
        better.kind == VolumeKind::Overlay && better.reason.contains("user namespace")
    });
    match (has_reflinks, denied) {
        (false, _) => Check::limited("volume", found, FILE_ADVICE),
        (true, Some(_)) => Check::limited("volume", found, namespaces::mount_advice()),
        (true, None) => Check::good("volume", found),
    }
}

/// What somebody on a filesystem without reflinks would gain, and how.
const FILE_ADVICE: &str = "a volume with reflinks gives branches of any size in tens of milliseconds that share what \
                           they do not change; `bough engine stop --servers`, then once `sudo bough engine volume \
                           create --size 50G`, makes one in a file";

fn check_space(volume: &VolumeView) -> Check {
    let floor = volume.floor_bytes;
    let found = format!("{}, of which {floor} stay free", engine_words::free(volume));
    let below = volume.backing.as_ref().map(|backing| backing.free_bytes);
    if volume.free_bytes <= floor || below.is_some_and(|free| free <= floor) {
        let advice =
            "nothing is copied any more: free some, or move the data directory by BOUGH_DATA_DIR";
        Check::missing("disk", found, advice)
    } else {
        Check::good("disk", found)
    }
}
