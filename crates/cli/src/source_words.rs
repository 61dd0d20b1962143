//! A source's base in words, as tables and reports tell of it. Pure.

use jiff::Timestamp;
use model::engine_api::{BaseActivity, BaseMode, SourceBase, SourceView};

use crate::ui::words;

/// The base in a table: `physical, following`.
pub(crate) fn base(source: &SourceView) -> String {
    let Some(base) = &source.base else {
        return String::new();
    };
    let mode = base.mode.map_or("", BaseMode::as_str);
    match base.activity {
        BaseActivity::Looking => base.activity.as_str().to_owned(),
        BaseActivity::Dumping => mode.to_owned(),
        BaseActivity::Seeding => match &source.progress {
            Some(progress) => format!("{mode}, seeding: {}", progress.copied_bytes),
            None => format!("{mode}, seeding"),
        },
        BaseActivity::Following | BaseActivity::Waiting => {
            format!("{mode}, {}", base.activity.as_str())
        }
    }
}

/// What is to be said of the base beyond a word, a line each.
pub(crate) fn remarks(source: &SourceView, now: Timestamp) -> Vec<String> {
    let name = &source.name;
    let Some(base) = &source.base else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    lines.extend(why_dumped(base).map(|why| format!("{name}: {why}")));
    if let (BaseActivity::Waiting, Some(since)) = (base.activity, base.waiting_since) {
        let said = base.said.as_deref().unwrap_or("nothing is said of it");
        lines.push(format!(
            "{name}: nothing arrives from the source since {}: {said}",
            words::ago(since, now)
        ));
    }
    if let (Some(told), Some(then)) = (&base.told, base.told_at) {
        lines.push(format!("{name}: {told} ({})", words::ago(then, now)));
    }
    lines.extend(base.notes.iter().map(|note| format!("{name}: {note}")));
    lines
}

/// Why a source that could be followed for all its owner said is dumped.
fn why_dumped(base: &SourceBase) -> Option<String> {
    if base.activity != BaseActivity::Dumping || base.reasons.is_empty() {
        return None;
    }
    let reasons = base.reasons.join("; ");
    Some(match base.asked {
        BaseMode::Physical => format!("no branch is made of it, for it is not followed: {reasons}"),
        BaseMode::Auto | BaseMode::Logical => format!("dumped and not followed: {reasons}"),
    })
}

#[cfg(test)]
mod tests {
    use model::PgMajor;
    use model::engine_api::SourceName;

    use super::*;
    use crate::samples;

    fn source(base: SourceBase) -> SourceView {
        SourceView {
            name: SourceName::new("shop").unwrap(),
            url: "postgres://db/shop".to_owned(),
            database: "shop".to_owned(),
            user: "app".to_owned(),
            version: PgMajor(16),
            system_identifier: "1".to_owned(),
            addresses: Vec::new(),
            prepare_sha256: None,
            warm: 0,
            refresh_seconds: None,
            rate_bytes_max: None,
            slot: None,
            copied_at: None,
            looked_at: None,
            failure: None,
            base: Some(base),
            progress: None,
            added_at: samples::start(),
        }
    }

    fn looking() -> SourceBase {
        SourceBase {
            asked: BaseMode::Auto,
            mode: None,
            activity: BaseActivity::Looking,
            reasons: Vec::new(),
            notes: Vec::new(),
            position: None,
            waiting_since: None,
            said: None,
            seeded_at: None,
            told: None,
            told_at: None,
        }
    }

    #[test]
    fn a_dumped_source_says_why_it_is_not_followed() {
        let dumped = source(SourceBase {
            mode: Some(BaseMode::Logical),
            activity: BaseActivity::Dumping,
            reasons: vec!["the role app may not replicate".to_owned()],
            ..looking()
        });
        assert_eq!(base(&dumped), "logical");
        let said = remarks(&dumped, samples::start());
        assert_eq!(
            said,
            ["shop: dumped and not followed: the role app may not replicate"]
        );
    }

    #[test]
    fn an_outage_is_told_with_its_age_and_cause() {
        let waiting = source(SourceBase {
            mode: Some(BaseMode::Physical),
            activity: BaseActivity::Waiting,
            waiting_since: Some(samples::start()),
            said: Some("connection refused".to_owned()),
            told: Some("copied again: the source is PostgreSQL 17 by now".to_owned()),
            told_at: Some(samples::start()),
            ..looking()
        });
        assert_eq!(base(&waiting), "physical, waiting");
        let now = samples::start() + jiff::SignedDuration::from_mins(5);
        assert_eq!(
            remarks(&waiting, now),
            [
                "shop: nothing arrives from the source since 5 min ago: connection refused",
                "shop: copied again: the source is PostgreSQL 17 by now (5 min ago)"
            ]
        );
    }
}
