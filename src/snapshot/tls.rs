//! TLS as data: which certificate answers to which name, what is asked of clients, and what an upstream must prove.
//!
//! The only module that builds `rustls` configurations, always with the `aws-lc-rs` provider named. It reads no file;
//! [`crate::config`] hands it what was read.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, IpAddr, PrivateKeyDer, ServerName, UnixTime,
};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage};

use super::acme::{Challenges, Slot};

/// TLS of a listener.
#[derive(Debug)]
pub struct ServerTls {
    /// The rustls configuration; ALPN and certificates inside.
    pub config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    challenges: Option<Arc<Challenges>>,
}

/// Certificates of a listener that are issued while it runs.
#[derive(Debug, Default)]
pub struct Issued {
    /// One for each name that no other certificate covers.
    pub slots: Vec<Arc<Slot>>,
    /// What authorities may ask for in handshakes.
    pub challenges: Option<Arc<Challenges>>,
}

/// TLS towards an upstream.
#[derive(Debug)]
pub struct ClientTls {
    /// The rustls configuration.
    pub config: Arc<ClientConfig>,
    /// The same, for connections on which the upstream may choose between HTTP/2 and HTTP/1.1.
    pub either: Option<Arc<ClientConfig>>,
}

/// A certificate with its chain and key.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<Box<str>>,
    /// Whether the certificate says anything of whom it is for.
    named: bool,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What is asked of clients.
#[derive(Debug, Default)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    Off,
    /// A certificate that one of `trust` issued, if they have one. One that does not verify ends the handshake.
    Optional(ClientTrust),
    /// A certificate that one of `trust` issued.
    Required(ClientTrust),
}

/// Which client certificates verify.
#[derive(Debug, Default)]
pub struct ClientTrust {
    /// Who issues them.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Which of them are revoked. A certificate whose issuer has no list here passes.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// Material does not make TLS settings.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate does not parse.
    #[error("the certificate is broken")]
    Certificate(#[source] rustls::Error),
    /// The private key does not parse or is of an unsupported kind.
    #[error("the private key is broken or of an unsupported kind")]
    Key(#[source] rustls::Error),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// There is no certificate.
    #[error("there is no certificate")]
    NoCertificate,
    /// An authority's certificate is broken.
    #[error("the certificate of an authority is broken")]
    Authority(#[source] rustls::Error),
    /// No authority.
    #[error("there is no authority to trust")]
    NoAuthority,
    /// A revocation list is broken.
    #[error("the revocation list is broken")]
    RevocationList(#[source] VerifierBuilderError),
    /// The library refuses the settings as a whole.
    #[error("the TLS settings are refused")]
    Refused(#[source] rustls::Error),
}

impl ServerTls {
    /// Settings of a listener. The first certificate answers clients that ask for a name of none.
    ///
    /// # Errors
    /// Where there is no certificate, or the authorities or revocation lists of clients are broken.
    pub fn new(
        certificates: Vec<Certificate>,
        clients: ClientCertificates,
        min_version: MinVersion,
    ) -> Result<Self, TlsError> {
        Self::with_issued(certificates, Issued::default(), clients, min_version)
    }

    /// The same with names whose certificates are issued while it runs. While there is none at all, handshakes are refused.
    ///
    /// # Errors
    /// As [`Self::new`]; no certificate is no error where challenges are answered.
    pub fn with_issued(
        certificates: Vec<Certificate>,
        issued: Issued,
        clients: ClientCertificates,
        min_version: MinVersion,
    ) -> Result<Self, TlsError> {
        if certificates.is_empty() && issued.challenges.is_none() {
            return Err(TlsError::NoCertificate);
        }
        let certificates = Arc::new(Certificates::new(certificates, issued.slots));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(min_version.versions())
            .map_err(TlsError::Refused)?;
        let (trust, required) = match clients {
            ClientCertificates::Off => (None, false),
            ClientCertificates::Optional(trust) => (Some(trust), false),
            ClientCertificates::Required(trust) => (Some(trust), true),
        };
        let mut config = match trust {
            None => {
                let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
                config.ticketer = ticketer()?;
                config
            }
            Some(trust) => {
                let roots = Arc::new(roots(trust.authorities)?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .with_crls(trust.revoked)
                    .only_check_end_entity_revocation()
                    .allow_unknown_revocation_status();
                if !required {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier.build().map_err(TlsError::RevocationList)?;
                let mut config = builder
                    .with_client_cert_verifier(verifier)
                    .with_cert_resolver(resolver);
                // A resumed session skips the client's certificate, which may have expired or been revoked meanwhile.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config
            }
        };
        config.alpn_protocols = spoken();
        // Our order of suites counts, as examiners want it. All of them are good ones.
        config.ignore_client_order = true;
        Ok(Self {
            config: Arc::new(config),
            certificates,
            challenges: issued.challenges,
        })
    }

    /// Challenges that an authority may check in a handshake, where any is pending.
    #[must_use]
    pub fn challenged(&self) -> Option<&Challenges> {
        let challenges = self.challenges.as_deref()?;
        challenges.any().then_some(challenges)
    }

    /// Whether the certificate that a client was served when it asked for `sni` covers `host` (lower case, no port). If not,
    /// the client can not have meant this connection for that host: 421 (RFC 9110 §15.5.20). A certificate without any name
    /// covers every host: no client can have checked it against one.
    #[must_use]
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        match self.certificates.served(sni) {
            Served::Written(numbers) => {
                let mut served = self.certificates.written(numbers);
                served.all(|certificate| certificate.covers(host))
            }
            Served::Issued(slot) => slot
                .with(|certificate| certificate.covers(host))
                .unwrap_or(false),
            Served::Nothing => false,
        }
    }

    /// The certificates, in the order written; then those that were issued.
    pub fn certificates(&self) -> impl Iterator<Item = Arc<Certificate>> {
        let issued = self.certificates.slots.iter();
        let issued = issued.filter_map(|slot| slot.certificate());
        self.certificates.all.iter().cloned().chain(issued)
    }
}

impl ClientTls {
    /// The same settings towards an upstream that is to speak HTTP/2.
    #[must_use]
    pub fn for_http2(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Self {
            config: Arc::new(config),
            either: None,
        }
    }

    /// The same settings towards an upstream that may choose its protocol.
    #[must_use]
    pub fn for_either(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.insert(0, HTTP2.to_vec());
        Self {
            config: Arc::clone(&self.config),
            either: Some(Arc::new(config)),
        }
    }

    /// Settings towards an upstream whose certificate one of `authorities` must have issued; `identity` is our own
    /// certificate, if the upstream asks for one.
    ///
    /// # Errors
    /// Where there is no authority or one is broken, or the own certificate is refused.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        identity: Option<Certificate>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(MinVersion::V1_2.versions())
            .map_err(TlsError::Refused)?
            .with_root_certificates(roots(authorities)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let own = rustls::sign::SingleCertAndKey::from(own.key);
                builder.with_client_cert_resolver(Arc::new(own))
            }
        };
        config.alpn_protocols = asked();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_REMEMBERED);
        Ok(Self {
            config: Arc::new(config),
            either: None,
        })
    }
}

impl Certificate {
    /// A certificate with its chain, the leaf first, and its key.
    ///
    /// # Errors
    /// Where one of them is broken or they do not belong together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?.clone();
        let leaf = EndEntityCert::try_from(&leaf)
            .map_err(|why| TlsError::Certificate(rustls::Error::General(why.to_string())))?;
        let names: Vec<Box<str>> = leaf
            .valid_dns_names()
            .map(|name| name.to_ascii_lowercase().into_boxed_str())
            .collect();
        let named = !names.is_empty() || has_address(&leaf);
        let (not_before, not_after) = validity(&leaf);
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(TlsError::Key)?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            // A key that cannot name its public half is taken at its word.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(TlsError::KeyMismatch),
            Err(why) => return Err(TlsError::Certificate(why)),
        }
        Ok(Self {
            key: Arc::new(key),
            names,
            named,
            not_before,
            not_after,
        })
    }

    /// The host names of the certificate, lower case; a wildcard begins with `*.`.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Whether the certificate names anybody at all (DNS names or addresses; the common name does not count, RFC 9525 §2).
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.named
    }

    /// The first second of validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of validity.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is for this host (lower case, no port). One without names covers every host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        if !self.named {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(address) = IpAddr::try_from(bare.unwrap_or(host)) {
            let leaf = self.key.cert.first().map(EndEntityCert::try_from);
            let subject = ServerName::IpAddress(address);
            return matches!(leaf, Some(Ok(leaf)) if leaf.verify_is_valid_for_subject_name(&subject).is_ok());
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(under) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(under)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        let newest = BOTH.get(..1).unwrap_or_default();
        match self {
            Self::V1_2 => &BOTH,
            Self::V1_3 => newest,
        }
    }
}

/// The handshake with which an authority checks that a name is ours (RFC 8737 §3): one certificate, one protocol, and nobody
/// is asked who they are.
///
/// # Errors
/// Where certificate or key are broken.
pub fn challenge_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(TlsError::Key)?;
    let own = rustls::sign::SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(MinVersion::V1_2.versions())
        .map_err(TlsError::Refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The protocol by which an authority asks for its challenge (RFC 8737 §6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificates of a listener, by name.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<Certificate>>,
    /// By whole name.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    /// Names that an authority issues for, in order.
    slots: Vec<Arc<Slot>>,
    /// Their places by name.
    issued: HashMap<Box<str>, usize>,
}

/// What answers to a name.
enum Served<'c> {
    /// Certificates by their numbers.
    Written(&'c [usize]),
    /// One that was issued.
    Issued(&'c Slot),
    /// There is none.
    Nothing,
}

impl Certificates {
    fn new(all: Vec<Certificate>, slots: Vec<Arc<Slot>>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (number, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(under) => (&mut wildcard, under),
                    None => (&mut exact, &**name),
                };
                table.entry(Box::from(name)).or_default().push(number);
            }
        }
        let places = slots.iter().enumerate();
        let issued = places.map(|(place, slot)| (Box::from(slot.name()), place));
        Self {
            all: all.into_iter().map(Arc::new).collect(),
            exact,
            wildcard,
            issued: issued.collect(),
            slots,
        }
    }

    /// What answers to a name: several certificates where the same name has keys of several kinds. An exact name beats a
    /// wildcard; the first certificate stands in where no name fits.
    fn served(&self, sni: Option<&str>) -> Served<'_> {
        let found = sni.and_then(|sni| {
            let lower;
            let name = if sni.bytes().any(|b| b.is_ascii_uppercase()) {
                lower = sni.to_ascii_lowercase();
                &lower
            } else {
                sni
            };
            let name = name.strip_suffix('.').unwrap_or(name);
            if let Some(numbers) = self.exact.get(name) {
                return Some(Served::Written(numbers));
            }
            let slot = self
                .issued
                .get(name)
                .and_then(|place| self.slots.get(*place));
            if let Some(slot) = slot.filter(|slot| slot.with(|_| ()).is_some()) {
                return Some(Served::Issued(slot));
            }
            let numbers = self.wildcard.get(name.split_once('.')?.1)?;
            Some(Served::Written(numbers))
        });
        if let Some(found) = found {
            return found;
        }
        if !self.all.is_empty() {
            return Served::Written(&[0]);
        }
        let mut filled = self.slots.iter().filter(|slot| slot.with(|_| ()).is_some());
        filled
            .next()
            .map_or(Served::Nothing, |slot| Served::Issued(slot))
    }

    fn written(&self, numbers: &[usize]) -> impl Iterator<Item = &Arc<Certificate>> {
        numbers.iter().filter_map(|number| self.all.get(*number))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let numbers = match self.served(hello.server_name()) {
            Served::Written(numbers) => numbers,
            Served::Issued(slot) => return slot.with(|certificate| Arc::clone(&certificate.key)),
            Served::Nothing => return None,
        };
        let speaks = |certificate: &&Arc<Certificate>| {
            let scheme = certificate.key.key.choose_scheme(hello.signature_schemes());
            scheme.is_some()
        };
        let suited = self.written(numbers).find(speaks);
        let chosen = suited.or_else(|| self.written(numbers).next())?;
        Some(Arc::clone(&chosen.key))
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(default_provider())))
}

/// Makes session tickets for every listener that does not ask for certificates, through reloads: a new one with each load would
/// make every client begin anew. It changes its keys by itself.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    static TICKETER: OnceLock<Arc<dyn ProducesTickets>> = OnceLock::new();
    if let Some(ticketer) = TICKETER.get() {
        return Ok(Arc::clone(ticketer));
    }
    let made = Ticketer::new().map_err(TlsError::Refused)?;
    Ok(Arc::clone(TICKETER.get_or_init(|| made)))
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(TlsError::Authority)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    Ok(roots)
}

/// What clients may choose inside TLS (RFC 7301), ours first.
fn spoken() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// What is spoken with upstreams inside TLS.
const HTTP2: &[u8] = b"h2";

fn asked() -> Vec<Vec<u8>> {
    vec![b"http/1.1".to_vec()]
}

/// Whether the certificate names an address: webpki then says which, when asked for another.
fn has_address(leaf: &EndEntityCert<'_>) -> bool {
    let nobody = ServerName::IpAddress(IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED));
    match leaf.verify_is_valid_for_subject_name(&nobody) {
        Ok(()) => true,
        Err(webpki::Error::CertNotValidForName(context)) => {
            let mut presented = context.presented.iter();
            presented.any(|name| name.contains("IpAddress"))
        }
        Err(_) => false,
    }
}

/// First and last second of validity. webpki has no accessor for them, but it checks them before everything else and says
/// what it found: asked at the end of time it names the one, at the beginning the other.
fn validity(leaf: &EndEntityCert<'_>) -> (Timestamp, Timestamp) {
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(&[], &[], &[], time, usage, None, None)
            .err()
    };
    let stamp = |time: UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    let from = match at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => stamp(not_before),
        Some(_) | None => Timestamp::UNIX_EPOCH,
    };
    let until = match at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => stamp(not_after),
        Some(_) | None => Timestamp::MAX,
    };
    (from, until)
}

/// TLS sessions towards upstreams that can be resumed, per upstream.
const SESSIONS_REMEMBERED: usize = 256;
