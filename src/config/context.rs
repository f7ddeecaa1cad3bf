//! What every compile step needs: the report to add to, the files that are being read, and the outside facts of a load.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Report};
use super::node::Span;
use crate::value::source::Source;

/// The surroundings of one load. Compile steps add findings and files to watch; they never stop at the first mistake.
#[derive(Debug, Default)]
pub struct Context {
    /// Findings so far, and the files.
    pub report: Report,
    /// Files and folders whose change means a new load.
    pub watch: Vec<PathBuf>,
    /// The last good content of list files, and the last answers of names, handed from load to load.
    pub memory: Memory,
    /// Pages loaded so far, by the name that refusals carry.
    pub pages: crate::snapshot::notice::Pages,
    /// Key sets to be fetched, as identity sources name them.
    pub key_sets: Vec<crate::snapshot::KeySet>,
    /// Services that identity sources ask.
    pub forward_auths: Vec<crate::snapshot::AuthService>,
    /// Certificates to be issued, as listeners ask for them.
    pub issuances: Vec<crate::snapshot::acme::Issuance>,
    /// Providers that sign in browsers.
    pub providers: Vec<crate::snapshot::SignIn>,
    /// The time of the load: `until` and stale snapshots are judged by it.
    pub now: jiff::Timestamp,
    /// Where the lines of the files begin.
    pub line_index: super::diagnostic::LineIndex,
}

/// What outlives a load: the fallback where a source fails now.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// By path: the last good entries of a list file.
    pub lists: std::collections::BTreeMap<PathBuf, Arc<[ipnet::IpNet]>>,
    /// By host name: the last addresses of a `dns:` entry and when they were learned. The control thread fills it;
    /// compile reads it, and puts names that it misses into `wanted_names`.
    pub names: std::collections::BTreeMap<String, (jiff::Timestamp, Vec<std::net::IpAddr>)>,
    /// Names that the configuration asks for.
    pub wanted_names: std::collections::BTreeSet<String>,
    /// Fetched key sets, by their URL and the authorities that vouch for it. Compile adds those that it misses; the control
    /// thread fetches what is in force and forgets the rest.
    pub key_sets:
        std::collections::BTreeMap<(String, u64), Arc<crate::identity::remote::RemoteKeys>>,
    /// Providers that sign in browsers, by the URL of their metadata and the authorities that vouch for it. Compile adds
    /// those that it misses; the control thread fetches what is in force and forgets the rest.
    pub providers: std::collections::BTreeMap<(String, u64), KnownProvider>,
    /// What seals the sessions of sources without a `session_key`: random, as old as the process.
    pub sealing: Option<Arc<crate::identity::oidc::seal::Keyring>>,
    /// The last good list of devices of a file.
    pub devices: std::collections::BTreeMap<PathBuf, Arc<crate::identity::device::Posture>>,
    /// Fetched lists of devices, as `key_sets`.
    pub fetched_devices:
        std::collections::BTreeMap<(String, u64), Arc<crate::identity::device::RemotePosture>>,
    /// Databases that are open, so that a load reads only those that changed.
    pub databases: super::compile::geoip::Opened,
    /// What has been counted for limits.
    pub counts: crate::snapshot::limit::Counts,
    /// The last good revocations of a file.
    pub revocations: std::collections::BTreeMap<PathBuf, crate::identity::revocation::ListFile>,
    /// What was revoked while running.
    pub revoked: Arc<crate::identity::revocation::Added>,
    /// Failed sign-ins.
    pub failures: crate::snapshot::brute_force::Known,
    /// Certificates that were issued, and challenges that are pending.
    pub acme: crate::snapshot::acme::Kept,
    /// Where counts are shared.
    pub share: Option<Arc<crate::snapshot::share::Share>>,
    /// By site: whether an operator closed it while running.
    pub switches: std::collections::BTreeMap<Arc<str>, Arc<crate::snapshot::maintenance::Switch>>,
}

/// A provider that signs in browsers, and where it exchanges codes.
#[derive(Debug, Default, Clone)]
pub struct KnownProvider {
    /// What is known of it.
    pub provider: Arc<crate::identity::oidc::provider::Provider>,
    /// Where it exchanges codes, once that is known.
    pub token: Arc<arc_swap::ArcSwapOption<crate::snapshot::Remote>>,
}

impl Context {
    /// Adds a finding.
    pub fn say(&mut self, diagnostic: Diagnostic) {
        self.report.diagnostics.push(diagnostic);
    }

    /// Adds an error.
    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.say(Diagnostic::error(code, span, message));
    }

    /// A path as written at `span`: relative to the folder of the file that names it.
    #[must_use]
    pub fn path(&self, span: Span, written: &str) -> PathBuf {
        let folder = self
            .report
            .files
            .get(usize::from(span.file.0))
            .map(|file| file.folder.as_path());
        folder.unwrap_or_else(|| Path::new("")).join(written)
    }

    /// The value at `span` as a message may show it: as the operator wrote it where it holds a `${…}`, so that no secret
    /// that a variable or file brought in is ever repeated.
    #[must_use]
    pub fn written<'t>(&'t self, span: Span, value: &'t str) -> &'t str {
        let file = self.report.files.get(usize::from(span.file.0));
        let text = file.and_then(|file| file.text.get(span.start as usize..span.end as usize));
        match text {
            Some(text) if text.contains("${") => text.trim_matches(['"', '\'']),
            _ => value,
        }
    }

    /// `file:line` of a span.
    #[must_use]
    pub fn source(&self, span: Span) -> Source {
        let Some(file) = self.report.files.get(usize::from(span.file.0)) else {
            return Source {
                file: Arc::from(""),
                line: 0,
            };
        };
        let line = self.line_index.line(&self.report.files, span);
        Source {
            file: Arc::clone(&file.name),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }
}
