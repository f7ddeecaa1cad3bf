//! Where operators knock: the Unix socket and, if asked for, a TCP address. Both outlive a reload that leaves them as they are.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::guard::Door;
use super::{View, answer};
use crate::snapshot::Admin;

/// The doors of the running configuration.
#[derive(Debug, Default)]
pub struct Doors {
    socket: Option<(SocketFile, Open)>,
    tcp: Option<(SocketAddr, SocketAddr, Open)>,
}

/// Doors that a configuration needs beyond those that are open: bound, not yet served.
#[derive(Debug)]
pub struct Prepared {
    socket: Step<(SocketFile, StdUnixListener)>,
    tcp: Step<(SocketAddr, StdTcpListener)>,
}

/// A door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The Unix socket, and it was written in the configuration.
    #[error("cannot open the admin socket {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TCP address.
    #[error("the admin cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What becomes of a door.
#[derive(Debug)]
enum Step<T> {
    Stays,
    Closes,
    Opens(T),
}

/// Ends the accepting when dropped; who was let in is still answered.
#[derive(Debug)]
struct Open(CancellationToken);

/// Removes the socket's file when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Doors {
    /// Binds what a configuration needs. A default socket that is taken or not writable is a warning; a written one is an error.
    ///
    /// # Errors
    /// [`DoorError`]; nothing has changed then.
    pub fn prepare(&self, admin: &Admin) -> Result<Prepared, DoorError> {
        let tcp = match (admin.address, &self.tcp) {
            (Some(wanted), Some((written, ..))) if *written == wanted => Step::Stays,
            (Some(address), _) => match bind(address) {
                Ok(listener) => Step::Opens((address, listener)),
                Err(source) => return Err(DoorError::Address { address, source }),
            },
            (None, _) => Step::Closes,
        };
        let path = place(admin);
        let socket = match &self.socket {
            Some((file, _)) if file.0 == path => Step::Stays,
            Some(_) | None => match open(&path) {
                Ok(listener) => Step::Opens((SocketFile(path), listener)),
                Err(source) if admin.socket_written => {
                    return Err(DoorError::Socket { path, source });
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "no admin socket; `status` and `reload` cannot ask this process");
                    Step::Closes
                }
            },
        };
        Ok(Prepared { socket, tcp })
    }

    /// Serves the new doors and closes those that are gone. Call it inside the runtime that serves.
    pub fn apply(&mut self, prepared: Prepared, view: &View) {
        match prepared.socket {
            Step::Stays => {}
            Step::Closes => self.socket = None,
            Step::Opens((file, listener)) => match UnixListener::from_std(listener) {
                Ok(listener) => {
                    let stop = CancellationToken::new();
                    tokio::spawn(serve(
                        Listening::Socket(listener),
                        view.clone(),
                        stop.clone(),
                    ));
                    self.socket = Some((file, Open(stop)));
                }
                Err(error) => tracing::error!(%error, "no admin socket"),
            },
        }
        match prepared.tcp {
            Step::Stays => {}
            Step::Closes => self.tcp = None,
            Step::Opens((written, listener)) => match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let bound = listener.local_addr().unwrap_or(written);
                    tracing::info!(address = %bound, "the admin is listening");
                    let stop = CancellationToken::new();
                    tokio::spawn(serve(Listening::Tcp(listener), view.clone(), stop.clone()));
                    self.tcp = Some((written, bound, Open(stop)));
                }
                Err(error) => tracing::error!(%error, "no admin on TCP"),
            },
        }
    }

    /// The bound TCP address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, bound, _)| *bound)
    }

    /// Closes every door.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

impl Prepared {
    /// The TCP address that is about to be served.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let Step::Opens((written, listener)) = &self.tcp else {
            return None;
        };
        Some(listener.local_addr().unwrap_or(*written))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// The socket's path: as written, or the default, in the working folder where the default's folder does not exist.
#[must_use]
pub fn place(admin: &Admin) -> PathBuf {
    if admin.socket_written || admin.socket.parent().is_some_and(Path::is_dir) {
        return admin.socket.clone();
    }
    PathBuf::from(super::LOCAL_SOCKET)
}

fn open(path: &Path) -> io::Result<StdUnixListener> {
    // A file that nobody answers on was left by a process that is gone.
    if path.exists() {
        if StdUnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process answers on it",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind(address: SocketAddr) -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[derive(Debug)]
enum Listening {
    Socket(UnixListener),
    Tcp(TcpListener),
}

/// Accepts until told to stop.
async fn serve(listening: Listening, view: View, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepting = async {
            match &listening {
                Listening::Socket(listener) => {
                    let (stream, _) = listener.accept().await?;
                    let talking = talk(stream, Door::Socket, view.clone());
                    Ok::<_, io::Error>(tokio::spawn(bounded(talking, place)))
                }
                Listening::Tcp(listener) => {
                    let (stream, _) = listener.accept().await?;
                    let local = stream.local_addr()?;
                    let talking = talk(stream, Door::Tcp(local), view.clone());
                    Ok(tokio::spawn(bounded(talking, place)))
                }
            }
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accepting => accepted,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "admin accept failed");
            tokio::time::sleep(BACK_OFF).await;
        }
    }
}

/// Ends a conversation that takes too long, and gives its place back.
async fn bounded<P: Send>(talking: impl Future<Output = ()> + Send, place: P) {
    drop(tokio::time::timeout(CONNECTION_PATIENCE, talking).await);
    drop(place);
}

async fn talk<S>(stream: S, door: Door, view: View)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(request, door, view.clone()));
    let serving = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// Callers served at once, at each door.
const CONNECTIONS: usize = 32;
/// How long a request head may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long one call may take.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// After an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);
