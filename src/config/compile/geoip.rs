//! `[geoip]`: which databases are open, and for how long their word counts.
//!
//! A database that is written must open: one that is missing or broken refuses the configuration, and the snapshot that serves
//! keeps serving with the databases it has. Without `databases`, the folders of geoipupdate are searched and nothing found is
//! no mistake; what is broken there is a warning, since nobody asked for it by name.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::client::geo::{self, Database, Databases, OpenError, Source};
use crate::config::{Context, Diagnostic, Severity, Span, Table};
use crate::value::duration;
use crate::value::region::GeoFacts;

/// Databases that are open, by path, with what their files looked like.
#[derive(Debug, Clone, Default)]
pub struct Opened(BTreeMap<PathBuf, (Stamp, Arc<Database>)>);

impl Opened {
    /// Keeps what another load has opened as well.
    pub(crate) fn keep(&mut self, other: Self) {
        for (path, opened) in other.0 {
            self.0.entry(path).or_insert(opened);
        }
    }
}

/// What tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Opens the databases of `[geoip]`.
pub fn compile(root: &Table, cx: &mut Context) -> Arc<Databases> {
    let table = root.table("geoip");
    let max_age = table.and_then(|table| age(table.str("max_age")?));
    // What is not asked for again is closed when its last snapshot goes.
    let before = std::mem::take(&mut cx.memory.databases);
    let mut sources = Vec::new();
    if let Some(written) = table.and_then(|table| table.get("databases")) {
        for node in written.many() {
            let Some(text) = node.as_str() else { continue };
            if text == geo::demo::NAME {
                // Built as it is opened: it has no age.
                match demo(cx) {
                    Ok(database) => sources.push(Source::new(text, Path::new(""), database)),
                    Err(error) => cx.say(refusal(text, &error, Some(node.span), Severity::Error)),
                }
                continue;
            }
            let file = cx.path(node.span, text);
            cx.watch.push(file.clone());
            let name = cx.written(node.span, text).to_owned();
            match opened(&file, &before, cx) {
                Ok(database) => {
                    let found = Source::new(&name, &file, database);
                    sources.push(judged(found, Some(node.span), max_age, cx));
                }
                Err(error) => cx.say(refusal(&name, &error, Some(node.span), Severity::Error)),
            }
        }
    } else {
        for file in usual(cx) {
            let name = file.display().to_string();
            match opened(&file, &before, cx) {
                Ok(database) => {
                    let found = Source::new(&name, &file, database);
                    sources.push(judged(found, None, max_age, cx));
                }
                Err(error) => cx.say(refusal(&name, &error, None, Severity::Warning)),
            }
        }
    }
    Arc::new(Databases::new(sources))
}

/// The databases in the first usual folder that has some, by name.
fn usual(cx: &mut Context) -> Vec<PathBuf> {
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        cx.watch.push(PathBuf::from(folder));
        let paths = entries.flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = paths
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "mmdb")
                    && path.is_file()
            })
            .collect();
        if !files.is_empty() {
            files.sort();
            return files;
        }
    }
    Vec::new()
}

fn opened(file: &Path, before: &Opened, cx: &mut Context) -> Result<Arc<Database>, OpenError> {
    // Looked at before it is read: a file that changes meanwhile is read again by the next load.
    let stamp = stamp(file)?;
    let database = match before.0.get(file) {
        Some((known, database)) if *known == stamp => Arc::clone(database),
        Some(_) | None => Arc::new(geo::open(file)?),
    };
    let kept = (stamp, Arc::clone(&database));
    cx.memory.databases.0.insert(file.to_owned(), kept);
    Ok(database)
}

fn demo(cx: &Context) -> Result<Arc<Database>, OpenError> {
    let epoch = u64::try_from(cx.now.as_second()).unwrap_or(0);
    Ok(Arc::new(geo::demo::database(epoch)?))
}

fn stamp(file: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(file)?;
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// The finding about a database that cannot be opened.
fn refusal(name: &str, error: &OpenError, span: Option<Span>, severity: Severity) -> Diagnostic {
    let code = match error {
        OpenError::Unreadable(_) => "unreadable-database",
        OpenError::Broken(_) => "broken-database",
    };
    let mut message = match error {
        OpenError::Unreadable(_) => format!("database `{name}` cannot be read"),
        OpenError::Broken(_) => format!("database `{name}` is broken"),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string().replace(['\n', '\r'], " "));
        cause = error.source();
    }
    let mut finding = Diagnostic::global(code, message).help(match error {
        OpenError::Unreadable(_) => "geoipupdate and `portcullis geo build` write such files",
        OpenError::Broken(_) => {
            "download it again, the file that is served now stays in use until then"
        }
    });
    finding.severity = severity;
    finding.span = span;
    finding
}

/// The source with the end of its time; findings about its age and use.
fn judged(
    mut source: Source,
    span: Option<Span>,
    max_age: Option<SignedDuration>,
    cx: &mut Context,
) -> Source {
    let now = cx.now;
    let name = Arc::clone(&source.name);
    let about = source.database.about();
    let mut warn = |code, message: String, help: &str| {
        let mut finding = Diagnostic::global(code, message).help(help);
        finding.severity = Severity::Warning;
        finding.span = span;
        cx.say(finding);
    };
    if source.database.provides() == GeoFacts::NONE {
        let kind = &about.kind;
        let message = format!("database `{name}` (`{kind}`) has no fact that a rule could read");
        warn(
            "useless-database",
            message,
            "is it the file that was meant?",
        );
    }
    let built = trustworthy(about.built, now);
    let update = "addresses change hands every day, update it with geoipupdate or the like";
    if let Some(age) = max_age {
        // A database that does not say when it was built may be of any age.
        let end = built.map_or(Timestamp::MIN, |built| {
            built.checked_add(age).unwrap_or(Timestamp::MAX)
        });
        if now > end {
            let message =
                format!("database `{name}` is older than `max_age`, its facts count as failed");
            warn("old-database", message, update);
        }
        source.stale_after = Some(end);
    } else if built.is_none_or(|built| now.duration_since(built) > WARN_AGE) {
        let days = built.map(|built| now.duration_since(built).as_hours() / 24);
        let age = days.map_or("does not say when it was built".to_owned(), |days| {
            format!("is {days} days old")
        });
        warn("old-database", format!("database `{name}` {age}"), update);
    }
    source
}

/// The build time, unless it is absurd: a day or more ahead of the clock says nothing about the age.
fn trustworthy(built: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    built.filter(|built| built.duration_since(now) < SignedDuration::from_hours(24))
}

/// An age as written. Its form has been checked; what cannot be read here has been reported.
fn age(text: &str) -> Option<SignedDuration> {
    SignedDuration::try_from(duration::parse(text).ok()?).ok()
}

/// Where geoipupdate and the packages of distributions put databases.
const FOLDERS: [&str; 3] = [
    "/usr/share/GeoIP",
    "/var/lib/GeoIP",
    "/usr/local/share/GeoIP",
];

/// An older database is worth a warning. GeoLite2 and its like come out weekly, others monthly.
const WARN_AGE: SignedDuration = SignedDuration::from_hours(60 * 24);

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;
    use crate::client::geo::writer::{Label, write};
    use crate::config::node::{FileId, parse};

    const NOW: i64 = 1_767_225_600; // 2026-01-01
    const DAY: i64 = 86_400;

    fn load(text: &str, cx: &mut Context) -> Arc<Databases> {
        cx.report.diagnostics.clear();
        cx.now = Timestamp::from_second(NOW).unwrap();
        let (root, mistakes) = parse(text, FileId(0));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        compile(&root, cx)
    }

    fn made(file: &Path, table: &str, built: i64) {
        let label = Label {
            kind: "Test",
            description: "for tests",
            build_epoch: u64::try_from(built).unwrap_or(u64::MAX),
        };
        let bytes = write(&geo::csv::parse(table).unwrap(), &label).unwrap();
        // As geoipupdate does it: beside, then renamed.
        std::fs::write(file.with_extension("new"), bytes).unwrap();
        std::fs::rename(file.with_extension("new"), file).unwrap();
    }

    fn country(databases: &Databases, cx: &Context) -> Result<String, GeoFacts> {
        let region = databases.region("192.0.2.1".parse().unwrap(), cx.now);
        if region.failed == GeoFacts::NONE {
            Ok(region
                .country
                .map_or("unlisted".to_owned(), |country| country.to_string()))
        } else {
            Err(region.failed)
        }
    }

    #[test]
    fn age_is_a_warning_and_beyond_max_age_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mmdb");
        for (age_days, max_age, want, code) in [
            (1, None, Ok("NL"), None),
            (60, None, Ok("NL"), None),
            (61, None, Ok("NL"), Some("old-database")),
            (30, Some("30d"), Ok("NL"), None),
            (
                31,
                Some("30d"),
                Err(GeoFacts::COUNTRY),
                Some("old-database"),
            ),
            (61, Some("90d"), Ok("NL"), None), // the operator has said what old means
            (-2, None, Ok("NL"), Some("old-database")), // built the day after tomorrow: age unknown
            (
                -2,
                Some("30d"),
                Err(GeoFacts::COUNTRY),
                Some("old-database"),
            ),
            (1, Some("1h"), Err(GeoFacts::COUNTRY), Some("old-database")),
        ] {
            made(
                &file,
                "network,country\n192.0.2.0/24,NL\n",
                NOW - age_days * DAY,
            );
            let mut cx = Context::default();
            let mut text = format!("[geoip]\ndatabases = [{:?}]\n", file.display().to_string());
            if let Some(age) = max_age {
                text.push_str(&format!("max_age = \"{age}\"\n"));
            }
            let databases = load(&text, &mut cx);
            assert_eq!(
                country(&databases, &cx),
                want.map(str::to_owned),
                "{age_days} {max_age:?}"
            );
            let codes: Vec<&str> = cx
                .report
                .diagnostics
                .iter()
                .map(|finding| finding.code)
                .collect();
            assert_eq!(
                codes,
                code.into_iter().collect::<Vec<_>>(),
                "{age_days} {max_age:?}"
            );
            assert!(!cx.report.refused());
        }
    }

    #[test]
    fn missing_and_broken_databases_refuse_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("text.mmdb", b"no database");
        write("empty.mmdb", b"");
        made(
            &folder.path().join("cut.mmdb"),
            "network,country\n192.0.2.0/24,NL\n",
            NOW,
        );
        let whole = std::fs::read(folder.path().join("cut.mmdb")).unwrap();
        write("cut.mmdb", whole.get(400..).unwrap());
        write("useless.mmdb", &{
            let label = Label {
                kind: "Test",
                description: "",
                build_epoch: u64::try_from(NOW).unwrap(),
            };
            geo::writer::write(&[], &label).unwrap()
        });
        for (name, codes) in [
            ("none.mmdb", vec!["unreadable-database"]),
            (".", vec!["unreadable-database"]),
            ("text.mmdb", vec!["broken-database"]),
            ("empty.mmdb", vec!["broken-database"]),
            ("cut.mmdb", vec!["broken-database"]),
            ("useless.mmdb", vec!["useless-database"]),
            ("embedded:demo", vec![]),
        ] {
            let mut cx = Context::default();
            let path = folder.path().join(name).display().to_string();
            let written = if name.starts_with("embedded") {
                name
            } else {
                &path
            };
            let databases = load(&format!("geoip.databases = [{written:?}]"), &mut cx);
            let found: Vec<&str> = cx
                .report
                .diagnostics
                .iter()
                .map(|finding| finding.code)
                .collect();
            assert_eq!(found, codes, "{name}");
            let refused = codes
                .first()
                .is_some_and(|code| *code != "useless-database");
            assert_eq!(cx.report.refused(), refused, "{name}");
            assert_eq!(databases.sources().len(), usize::from(!refused), "{name}");
            assert!(
                cx.report
                    .diagnostics
                    .iter()
                    .all(|finding| !finding.message.contains('\n'))
            );
        }
    }

    #[test]
    fn only_a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.mmdb"), folder.path().join("b.mmdb"));
        made(&a, "network,country\n192.0.2.0/24,NL\n", NOW);
        made(&b, "network,asn\n192.0.2.0/24,64500\n", NOW);
        let text = format!(
            "geoip.databases = [{:?}, {:?}]",
            a.display().to_string(),
            b.display().to_string()
        );
        let mut cx = Context::default();
        let first = load(&text, &mut cx);
        assert_eq!(country(&first, &cx), Ok("NL".to_owned()));
        assert_eq!(first.provides(), GeoFacts::COUNTRY.union(GeoFacts::ASN));
        assert_eq!(cx.watch, [a.clone(), b.clone()]);

        made(&a, "network,country\n192.0.2.0/24,DE\n", NOW);
        let second = load(&text, &mut cx);
        assert_eq!(country(&second, &cx), Ok("DE".to_owned()));
        assert_eq!(
            country(&first, &cx),
            Ok("NL".to_owned()),
            "the old snapshot is not touched"
        );
        let same = |at: usize, x: &Databases, y: &Databases| {
            Arc::ptr_eq(&x.sources()[at].database, &y.sources()[at].database)
        };
        assert!(!same(0, &first, &second) && same(1, &first, &second));

        std::fs::write(&a, "half a downl").unwrap();
        let third = load(&text, &mut cx);
        assert!(cx.report.refused());
        assert_eq!(third.sources().len(), 1);
        made(&a, "network,country\n192.0.2.0/24,BE\n", NOW);
        let fourth = load(&text, &mut cx);
        assert!(!cx.report.refused());
        assert_eq!(country(&fourth, &cx), Ok("BE".to_owned()));
    }
}
