//! Where operators knock: the Unix socket and, if asked for, a TCP address. Both outlive a reload that leaves them as they are.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
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
use crate::server::inherited::{Giver, Inherited, Role};
use crate::snapshot::Admin;

/// The doors of the running configuration.
#[derive(Debug, Default)]
pub struct Doors {
    socket: Option<(SocketFile, StdUnixListener, Open)>,
    tcp: Option<(SocketAddr, StdTcpListener, Open)>,
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

/// Removes the socket's file when dropped, if it is ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    owner: Owner,
}

/// Whose a socket's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Us,
    /// The process before us, until we serve; or the one after us.
    Another,
    /// The supervisor, for good.
    Supervisor,
}

impl Doors {
    /// Binds what a configuration needs. A default socket that is taken or not writable is a warning; a written one is an error.
    ///
    /// # Errors
    /// [`DoorError`]; nothing has changed then.
    pub fn prepare(&self, admin: &Admin, inherited: &mut Inherited) -> Result<Prepared, DoorError> {
        let tcp = match (admin.address, &self.tcp) {
            (Some(wanted), Some((written, ..))) if *written == wanted => Step::Stays,
            (Some(address), _) => match bind(address, inherited) {
                Ok(listener) => Step::Opens((address, listener)),
                Err(source) => return Err(DoorError::Address { address, source }),
            },
            (None, _) => Step::Closes,
        };
        let path = place(admin);
        let socket = match &self.socket {
            Some((file, ..)) if file.path == path => Step::Stays,
            Some(_) | None => match open(&path, inherited) {
                Ok((listener, owner)) => Step::Opens((SocketFile { path, owner }, listener)),
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
            Step::Opens((file, kept)) => match kept.try_clone().and_then(UnixListener::from_std) {
                Ok(listener) => {
                    let stop = CancellationToken::new();
                    tokio::spawn(serve(
                        Listening::Socket(listener),
                        view.clone(),
                        stop.clone(),
                    ));
                    self.socket = Some((file, kept, Open(stop)));
                }
                Err(error) => tracing::error!(%error, "no admin socket"),
            },
        }
        match prepared.tcp {
            Step::Stays => {}
            Step::Closes => self.tcp = None,
            Step::Opens((written, kept)) => {
                match kept.try_clone().and_then(TcpListener::from_std) {
                    Ok(listener) => {
                        let bound = listener.local_addr().unwrap_or(written);
                        tracing::info!(address = %bound, "the admin is listening");
                        let stop = CancellationToken::new();
                        tokio::spawn(serve(Listening::Tcp(listener), view.clone(), stop.clone()));
                        self.tcp = Some((written, kept, Open(stop)));
                    }
                    Err(error) => tracing::error!(%error, "no admin on TCP"),
                }
            }
        }
    }

    /// The bound TCP address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let (written, socket, _) = self.tcp.as_ref()?;
        Some(socket.local_addr().unwrap_or(*written))
    }

    /// Every door's socket once more, for an heir.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn copies(&self, inherited: &Inherited) -> io::Result<Vec<(Role, OwnedFd)>> {
        let mut copies = Vec::new();
        if let Some((file, socket, _)) = &self.socket
            && file.owner != Owner::Supervisor
        {
            copies.push((Role::AdminSocket, socket.try_clone()?.into()));
        }
        if let Some((written, socket, _)) = &self.tcp
            && !inherited.is_supervisors(*written)
        {
            copies.push((Role::Admin(*written), socket.try_clone()?.into()));
        }
        Ok(copies)
    }

    /// The process before us has no more to do with the socket's file.
    pub fn own(&mut self) {
        self.hand(Owner::Us);
    }

    /// The socket's file belongs to the process after us.
    pub fn disown(&mut self) {
        self.hand(Owner::Another);
    }

    fn hand(&mut self, to: Owner) {
        if let Some((file, ..)) = &mut self.socket
            && file.owner != Owner::Supervisor
        {
            file.owner = to;
        }
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
        if self.owner == Owner::Us {
            drop(std::fs::remove_file(&self.path));
        }
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

fn open(path: &Path, inherited: &mut Inherited) -> io::Result<(StdUnixListener, Owner)> {
    if let Some((listener, giver)) = inherited.admin_socket(path)? {
        let owner = match giver {
            Giver::Predecessor => Owner::Another,
            Giver::Supervisor => Owner::Supervisor,
        };
        return Ok((listener, owner));
    }
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
    Ok((listener, Owner::Us))
}

fn bind(address: SocketAddr, inherited: &mut Inherited) -> io::Result<StdTcpListener> {
    if let Some(listener) = inherited.admin(address)? {
        return Ok(listener);
    }
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
