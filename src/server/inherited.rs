//! Sockets that another process opened for this one: the supervisor (systemd's socket activation, `sd_listen_fds(3)`), or the
//! instance before it, which hands over what it listens on.
//!
//! A supervisor's socket belongs to the listener with its address. A predecessor's socket carries in its name what it was for, so
//! that port 0 and several sockets at one address find their listener again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use listenfd::ListenFd;

use super::socket::ListenerKey;

/// The inherited sockets.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<Given<TcpListener>>,
    unix: Vec<Given<UnixListener>>,
    herald: Option<UnixDatagram>,
}

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The supervisor, which keeps it open as well.
    Supervisor,
    /// The instance that this one replaces.
    Predecessor,
}

#[derive(Debug)]
struct Given<S> {
    socket: S,
    giver: Giver,
    role: Option<Role>,
    used: bool,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A `[[listener]]`.
    Listener(ListenerKey),
    /// `[admin] address`.
    Admin(SocketAddr),
    /// `[admin] socket`.
    AdminSocket,
    /// Where an heir tells how its start went.
    Herald,
}

/// What an heir says of its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tidings {
    /// It serves.
    Ready,
    /// It does not, and why.
    Failed(String),
}

impl Inherited {
    /// Takes what was handed to this process. Call it before there is a second thread: it clears the variables, so that they
    /// are not handed on.
    #[must_use]
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for number in 0..given.len() {
            let name = names.next().unwrap_or_default();
            if let Err(error) = inherited.take(&mut given, number, name) {
                tracing::warn!(number, name, %error, "an inherited descriptor is no socket for us");
            }
        }
        inherited
    }

    fn take(&mut self, given: &mut ListenFd, number: usize, name: &str) -> io::Result<()> {
        let role = Role::from_name(name);
        let giver = if role.is_some() {
            Giver::Predecessor
        } else {
            Giver::Supervisor
        };
        let used = false;
        if role == Some(Role::Herald) {
            self.herald = given.take_unix_datagram(number)?;
        } else if let Ok(Some(socket)) = given.take_tcp_listener(number) {
            socket.set_nonblocking(true)?;
            self.tcp.push(Given {
                socket,
                giver,
                role,
                used,
            });
        } else if let Some(socket) = given.take_unix_listener(number)? {
            socket.set_nonblocking(true)?;
            self.unix.push(Given {
                socket,
                giver,
                role,
                used,
            });
        }
        Ok(())
    }

    /// The sockets of a listener; empty where there are none and it must be bound.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn listener(&mut self, key: ListenerKey) -> io::Result<Vec<TcpListener>> {
        let mut sockets = self.tcp(Role::Listener(key), key.address)?;
        if key.nth > 0 && !sockets.is_empty() && self.is_supervisors(key.address) {
            // The first listener with this address has them.
            sockets.clear();
        }
        Ok(sockets)
    }

    /// The socket of the admin at this address.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn admin(&mut self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        Ok(self.tcp(Role::Admin(address), address)?.pop())
    }

    /// The admin's Unix socket, if it is at this path.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn admin_socket(&mut self, path: &Path) -> io::Result<Option<(UnixListener, Giver)>> {
        let at = |given: &&mut Given<UnixListener>| {
            let bound = given.socket.local_addr().ok();
            bound.is_some_and(|bound| bound.as_pathname() == Some(path))
        };
        let Some(found) = self.unix.iter_mut().find(at) else {
            return Ok(None);
        };
        found.used = true;
        Ok(Some((found.socket.try_clone()?, found.giver)))
    }

    /// The start is over: what was handed over and is not needed is closed, and what a supervisor gave in vain is named. Its
    /// sockets stay with us, since a later configuration may ask for them and they cannot be bound twice.
    pub fn settle(&mut self) {
        self.tcp.retain(|given| given.giver == Giver::Supervisor);
        self.unix.retain(|given| given.giver == Giver::Supervisor);
        for given in self.tcp.iter().filter(|given| !given.used) {
            if let Ok(address) = given.socket.local_addr() {
                tracing::warn!(%address, "the supervisor opened a socket that no listener of the configuration uses");
            }
        }
        for given in self.unix.iter().filter(|given| !given.used) {
            if let Ok(address) = given.socket.local_addr() {
                tracing::warn!(
                    ?address,
                    "the supervisor opened a socket that the configuration does not use"
                );
            }
        }
    }

    /// The supervisor's sockets once more, for an heir.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn supervisors(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.tcp.iter();
        let tcp = tcp.map(|given| given.socket.try_clone().map(OwnedFd::from));
        let unix = self.unix.iter();
        let unix = unix.map(|given| given.socket.try_clone().map(OwnedFd::from));
        tcp.chain(unix).collect()
    }

    /// Whether a supervisor holds a socket at this address.
    #[must_use]
    pub fn is_supervisors(&self, address: SocketAddr) -> bool {
        self.tcp.iter().any(|given| {
            given.giver == Giver::Supervisor
                && given.socket.local_addr().is_ok_and(|at| at == address)
        })
    }

    /// Tells the predecessor how the start went; the first word counts.
    pub fn tell(&mut self, tidings: &Tidings) {
        if let Some(herald) = self.herald.take()
            && let Err(error) = herald.send(&tidings.bytes())
        {
            tracing::warn!(%error, "the process before this one does not listen");
        }
    }

    fn tcp(&mut self, role: Role, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let mut sockets = Vec::new();
        for given in &mut self.tcp {
            let meant = match given.giver {
                Giver::Predecessor => given.role == Some(role),
                Giver::Supervisor => given.socket.local_addr().is_ok_and(|at| at == address),
            };
            if meant {
                sockets.push(given.socket.try_clone()?);
                given.used = true;
            }
        }
        Ok(sockets)
    }
}

impl Role {
    /// As a name in `LISTEN_FDNAMES`, where `:` parts the names.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Listener(key) => {
                format!("{LISTENER}{}/{}", key.address, key.nth).replace(':', ";")
            }
            Self::Admin(address) => format!("{ADMIN}{address}").replace(':', ";"),
            Self::AdminSocket => ADMIN_SOCKET.to_owned(),
            Self::Herald => HERALD.to_owned(),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = name.replace(';', ":");
        if let Some(rest) = name.strip_prefix(LISTENER) {
            let (address, nth) = rest.rsplit_once('/')?;
            return Some(Self::Listener(ListenerKey {
                address: address.parse().ok()?,
                nth: nth.parse().ok()?,
            }));
        }
        if let Some(address) = name.strip_prefix(ADMIN) {
            return address.parse().ok().map(Self::Admin);
        }
        match name.as_str() {
            ADMIN_SOCKET => Some(Self::AdminSocket),
            HERALD => Some(Self::Herald),
            _ => None,
        }
    }
}

impl Tidings {
    fn bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::Ready => READY.to_owned(),
            Self::Failed(why) => format!("{FAILED}{why}"),
        };
        let mut bytes = text.into_bytes();
        bytes.truncate(TIDINGS_BYTES_MAX);
        bytes
    }

    /// Reads what an heir said.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        if text == READY {
            return Some(Self::Ready);
        }
        let why = text.strip_prefix(FAILED)?;
        Some(Self::Failed(why.to_owned()))
    }
}

/// How much an heir may say.
pub const TIDINGS_BYTES_MAX: usize = 4096;
const READY: &str = "READY=1";
const FAILED: &str = "FAILED=";
const LISTENER: &str = "portcullis/listener/";
const ADMIN: &str = "portcullis/admin/";
const ADMIN_SOCKET: &str = "portcullis/admin-socket";
const HERALD: &str = "portcullis/herald";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_role_survives_its_name() {
        let key = |address: &str, nth| {
            Role::Listener(ListenerKey {
                address: address.parse().unwrap(),
                nth,
            })
        };
        for role in [
            key("127.0.0.1:0", 0),
            key("127.0.0.1:0", 3),
            key("[::]:443", 0),
            key("[fe80::1%2]:443", 1),
            Role::Admin("[::1]:9403".parse().unwrap()),
            Role::AdminSocket,
            Role::Herald,
        ] {
            let name = role.name();
            assert!(!name.contains(':'), "{name}");
            assert_eq!(Role::from_name(&name), Some(role), "{name}");
        }
        for name in [
            "",
            "unknown",
            "portcullis.socket",
            "portcullis/listener/x/0",
        ] {
            assert_eq!(Role::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn tidings_survive_the_way() {
        for tidings in [
            Tidings::Ready,
            Tidings::Failed("cannot listen on 127.0.0.1:80".to_owned()),
        ] {
            assert_eq!(Tidings::read(&tidings.bytes()), Some(tidings));
        }
        assert_eq!(Tidings::read(b""), None, "it closed without a word");
        let long = Tidings::Failed("x".repeat(10_000));
        assert!(long.bytes().len() <= TIDINGS_BYTES_MAX);
    }

    #[test]
    fn a_supervisors_socket_belongs_to_its_address_and_stays() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited::default();
        inherited.tcp.push(Given {
            socket,
            giver: Giver::Supervisor,
            role: None,
            used: false,
        });
        let key = |address, nth| ListenerKey { address, nth };
        let other = "127.0.0.1:1".parse().unwrap();
        for (key, count, why) in [
            (key(other, 0), 0, "another address"),
            (key(address, 0), 1, "its address"),
            (key(address, 1), 0, "a second listener there"),
            (key(address, 0), 1, "asked for again"),
        ] {
            assert_eq!(inherited.listener(key).unwrap().len(), count, "{why}");
        }
        inherited.settle();
        let again = inherited.listener(key(address, 0)).unwrap();
        assert_eq!(again.len(), 1, "a reload may want it");
        assert_eq!(inherited.supervisors().unwrap().len(), 1, "so may an heir");
    }

    #[test]
    fn a_predecessors_socket_goes_by_its_name_and_is_closed_where_unused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let written: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let key = |nth| ListenerKey {
            address: written,
            nth,
        };
        let mut inherited = Inherited::default();
        inherited.tcp.push(Given {
            socket,
            giver: Giver::Predecessor,
            role: Some(Role::Listener(key(1))),
            used: false,
        });
        assert!(inherited.listener(key(0)).unwrap().is_empty());
        assert_eq!(inherited.listener(key(1)).unwrap().len(), 1);
        assert!(inherited.admin(written).unwrap().is_none());
        inherited.settle();
        assert!(inherited.listener(key(1)).unwrap().is_empty());
    }
}
