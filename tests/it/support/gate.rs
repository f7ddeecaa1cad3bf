//! A whole proxy in this process, from a configuration in a temporary folder.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use portcullis::config::Report;
use portcullis::config::source::Input;
use portcullis::reload::instance::{Signals, Watch};
use portcullis::reload::{Instance, Options};
use tempfile::TempDir;

use super::{Client, Origin, PATIENCE, eventually_some};

/// A running proxy with its folder.
#[derive(Debug)]
pub(crate) struct Gate {
    instance: Option<Instance>,
    folder: TempDir,
    addresses: Vec<SocketAddr>,
}

impl Gate {
    /// Starts with `config` behind the usual opening: two workers, short drain, socket and log in the folder.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(TempDir::new().unwrap(), config)
    }

    /// The same in a folder that already holds what the configuration names.
    pub(crate) fn start_in(folder: TempDir, config: &str) -> Self {
        Self::bare(folder, &format!("{OPENING}{config}"))
    }

    /// Starts with exactly this configuration.
    pub(crate) fn bare(folder: TempDir, config: &str) -> Self {
        Self::begin(folder, config, Watch::Nothing)
    }

    /// The same, and changed files are noticed.
    pub(crate) fn watching(folder: TempDir, config: &str) -> Self {
        Self::begin(folder, &format!("{OPENING}{config}"), Watch::Files)
    }

    fn begin(folder: TempDir, config: &str, watch: Watch) -> Self {
        let path = folder.path().join("portcullis.toml");
        fs::write(&path, config).unwrap();
        let options = Options {
            input: Input::File(path),
            signals: Signals::Leave,
            watch,
        };
        let instance = Instance::start_with(options).unwrap_or_else(|error| {
            panic!("the proxy does not start: {error} {error:?}\n{config}")
        });
        Self {
            addresses: instance.addresses(),
            instance: Some(instance),
            folder,
        }
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// The address of listener `number`, in the order of the configuration.
    pub(crate) fn listener(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    /// The address of the admin on TCP, as it was at the start.
    pub(crate) fn admin(&self) -> SocketAddr {
        let address = self.instance.as_ref().unwrap().admin_address();
        address.expect("an admin on TCP")
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn connect_from(&self, source: &str) -> Client {
        Client::from(source.parse::<IpAddr>().unwrap(), self.address())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(self.folder.path(), name, content);
    }

    /// Replaces the configuration and reloads.
    pub(crate) fn reload(&self, config: &str) -> Result<u64, Box<Report>> {
        self.write("portcullis.toml", format!("{OPENING}{config}"));
        self.reload_as_is()
    }

    pub(crate) fn reload_as_is(&self) -> Result<u64, Box<Report>> {
        self.instance.as_ref().unwrap().reload()
    }

    /// Opens the logs anew, as after a rotation.
    pub(crate) fn reopen_logs(&self) {
        self.instance.as_ref().unwrap().reopen_logs();
    }

    /// Ends the proxy and waits for that.
    pub(crate) fn shutdown(mut self) -> TempDir {
        self.instance.take().unwrap().shutdown();
        std::mem::replace(&mut self.folder, TempDir::new().unwrap())
    }

    /// Lets another thread end the proxy.
    pub(crate) fn shutdown_beside(&mut self) -> std::thread::JoinHandle<()> {
        let instance = self.instance.take().unwrap();
        std::thread::spawn(move || instance.shutdown())
    }

    /// The access log so far, as text.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(self.path("access.log")).unwrap_or_default()
    }

    /// The access log once it has at least `count` lines, by the start of the requests.
    pub(crate) fn log(&self, count: usize) -> Vec<serde_json::Value> {
        let text = eventually_some(
            &format!("{count} lines in the access log within {PATIENCE:?}"),
            || {
                let text = self.log_text();
                (text.ends_with('\n') && text.lines().count() >= count).then_some(text)
            },
        );
        let mut lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`"))
            })
            .collect();
        // Each worker has a buffer of its own: lines of different workers may change places.
        lines.sort_by_key(|line| line["timestamp"].as_str().map(str::to_owned));
        lines
    }

    /// The only line of the access log.
    #[track_caller]
    pub(crate) fn only_line(&self) -> serde_json::Value {
        let mut lines = self.log(1);
        assert_eq!(lines.len(), 1, "one line: {lines:?}");
        lines.remove(0)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            std::thread::spawn(move || instance.shutdown());
        }
    }
}

/// Writes a file in one step, as an editor does, so that nobody sees half of it.
pub(crate) fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let beside = folder.join(format!(".{name}.new"));
    fs::write(&beside, content).unwrap();
    fs::rename(beside, folder.join(name)).unwrap();
}

/// One listener, one upstream with short time-outs: what most tests put their sites behind.
pub(crate) fn front(origin: &Origin) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [upstream.app]\nservers = [\"http://{}\"]\nconnect_timeout = \"1s\"\nresponse_timeout = \"1500ms\"\n",
        origin.address()
    )
}

/// The same with one site that lets everything pass.
pub(crate) fn open(origin: &Origin) -> String {
    format!(
        "{}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nallow = \"anyone\"\n",
        front(origin)
    )
}

/// Stands before every configuration.
pub(crate) const OPENING: &str = "[server]\nworkers = 2\ndrain_timeout = \"1s\"\n\
     [admin]\nsocket = \"admin.sock\"\n\
     [access_log]\npath = \"access.log\"\n";
