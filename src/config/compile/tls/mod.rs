//! `tls` of a listener and of an upstream → certificates, keys and authorities that were read and fit together.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::files;
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Span, Table};
use crate::snapshot::tls::{
    Certificate, ClientCertificates, ClientTls, ClientTrust, Issued, MinVersion, ServerTls,
    TlsError,
};

mod acme;
#[cfg(test)]
mod tests;

/// Compiles the `tls` of a `[[listener]]`. `root` says which hosts there are.
pub fn server(table: &Table, root: &Table, cx: &mut Context) -> Option<Arc<ServerTls>> {
    let written: Vec<&Table> = table.tables("certificates").collect();
    let acme = table.table("acme");
    if written.is_empty() && acme.is_none() {
        cx.say(
            Diagnostic::error("no-certificate", table.span, "`tls` has no certificate").help(
                "write `certificates = [{ cert = \"fullchain.pem\", key = \"privkey.pem\" }]`",
            ),
        );
        return None;
    }
    let read: Vec<Option<Certificate>> = written
        .iter()
        .map(|pair| {
            let certificate = certificate(pair, cx)?;
            let span = pair.get("cert").map_or(pair.span, |node| node.span);
            remarks(&certificate, pair.str("cert").unwrap_or_default(), span, cx);
            if !certificate.is_named() {
                let message = "the certificate names no host: clients refuse it, and any `Host` passes";
                cx.say(Diagnostic::warning("unnamed-certificate", span, message).help(
                    "make one with a subject alternative name; a common name alone no longer counts",
                ));
            }
            Some(certificate)
        })
        .collect();
    let clients = clients(table, cx);
    let certificates: Option<Vec<Certificate>> = read.into_iter().collect();
    let certificates = certificates?;
    let issued = match acme {
        Some(settings) => acme::compile(settings, root, &certificates, cx)?,
        None => Issued::default(),
    };
    let built = ServerTls::with_issued(certificates, issued, clients?, min_version(table));
    match built {
        Ok(tls) => Some(Arc::new(tls)),
        Err(why) => {
            let at = |key: &str| table.get(key).map_or(table.span, |node| node.span);
            let (code, span) = match &why {
                TlsError::RevocationList(_) => ("bad-crl", at("crl")),
                TlsError::Authority(_) | TlsError::NoAuthority => {
                    ("bad-certificate", at("client_ca"))
                }
                TlsError::Certificate(_)
                | TlsError::Key(_)
                | TlsError::KeyMismatch
                | TlsError::NoCertificate
                | TlsError::Refused(_) => ("bad-certificate", table.span),
            };
            cx.error(code, span, told(&why));
            None
        }
    }
}

/// Compiles the TLS settings towards an upstream; without a table the authorities of the system are trusted.
pub fn client(table: Option<&Table>, cx: &mut Context) -> Option<Arc<ClientTls>> {
    let span = table.map_or_else(Span::default, |table| table.span);
    let empty = Table::default();
    let table = table.unwrap_or(&empty);
    let authorities = match table.get("ca") {
        Some(node) => authorities(node, cx),
        None => system(span, cx),
    };
    let own = match (table.entry("cert"), table.entry("key")) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            let own = certificate(table, cx)?;
            let span = table.get("cert").map_or(span, |node| node.span);
            remarks(&own, table.str("cert").unwrap_or_default(), span, cx);
            Some(own)
        }
        (Some(half), None) | (None, Some(half)) => {
            let other = if half.key == "cert" { "key" } else { "cert" };
            let message = format!("`{}` stands without `{other}`", half.key);
            cx.error("missing-key", half.key_span, message);
            return None;
        }
    };
    match ClientTls::new(authorities?, own) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(why) => {
            let span = table.get("ca").map_or(span, |node| node.span);
            cx.error("bad-certificate", span, told(&why));
            None
        }
    }
}

/// TLS settings for requests of our own, whose servers one of the authorities in `ca` must vouch for, or one that the system
/// trusts; and a number that tells the authorities of one file from those of another.
pub fn trusting(ca: Option<&Node>, span: Span, cx: &mut Context) -> Option<(Arc<ClientTls>, u64)> {
    let (authorities, print) = match ca {
        Some(node) => {
            let read = authorities(node, cx)?;
            let mut hasher = foldhash::fast::FixedState::default().build_hasher();
            read.iter().for_each(|one| hasher.write(one));
            (read, hasher.finish())
        }
        None => (system(span, cx)?, 0),
    };
    match ClientTls::new(authorities, None) {
        Ok(tls) => Some((Arc::new(tls), print)),
        Err(why) => {
            let span = ca.map_or(span, |node| node.span);
            cx.error("bad-certificate", span, told(&why));
            None
        }
    }
}

/// Reads `cert` and `key`.
fn certificate(pair: &Table, cx: &mut Context) -> Option<Certificate> {
    let chain = pair.get("cert").and_then(|node| chain(node, cx));
    let key_node = pair.get("key")?;
    let key = private_key(key_node, cx);
    let cert = pair.get("cert")?;
    let (chain, key) = (chain?, key?);
    match Certificate::new(chain, key) {
        Ok(certificate) => Some(certificate),
        Err(why) => {
            let (cert_name, key_name) = (cert.as_str()?, key_node.as_str()?);
            cx.say(match &why {
                TlsError::KeyMismatch => {
                    let message = format!(
                        "the key `{key_name}` does not belong to the certificate `{cert_name}`"
                    );
                    Diagnostic::error("key-mismatch", key_node.span, message)
                        .related(cert.span, "this certificate")
                        .help("in a chain the server's own certificate comes first")
                }
                TlsError::Key(_) => Diagnostic::error(
                    "bad-key",
                    key_node.span,
                    format!("`{key_name}`: {}", told(&why)),
                )
                .help("RSA, P-256, P-384 and Ed25519 keys are supported"),
                TlsError::Certificate(_)
                | TlsError::NoCertificate
                | TlsError::Authority(_)
                | TlsError::NoAuthority
                | TlsError::RevocationList(_)
                | TlsError::Refused(_) => Diagnostic::error(
                    "bad-certificate",
                    cert.span,
                    format!("`{cert_name}`: {}", told(&why)),
                ),
            });
            None
        }
    }
}

/// Reads the certificates of a PEM file, at least one.
fn chain(node: &Node, cx: &mut Context) -> Option<Vec<CertificateDer<'static>>> {
    let written = node.as_str()?;
    let content = files::read(cx, node.span, written, UNREADABLE, "a certificate")?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match parsed {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) | Err(_) => {
            let message = format!("`{written}` holds no certificate in PEM form");
            cx.say(
                Diagnostic::error("bad-certificate", node.span, message)
                    .help("it begins with `-----BEGIN CERTIFICATE-----`"),
            );
            None
        }
    }
}

fn private_key(node: &Node, cx: &mut Context) -> Option<PrivateKeyDer<'static>> {
    let written = node.as_str()?;
    let content = files::read(cx, node.span, written, "unreadable-key", "a private key")?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&content) {
        return Some(key);
    }
    let locked = b"ENCRYPTED PRIVATE KEY";
    let locked = content.windows(locked.len()).any(|part| part == locked);
    let message = if locked {
        format!("the key `{written}` is encrypted")
    } else {
        format!("`{written}` holds no private key in PEM form")
    };
    let help = if locked {
        "decrypt it with `openssl pkey`, and let only the proxy's user read it"
    } else {
        "it begins with `-----BEGIN PRIVATE KEY-----`"
    };
    cx.say(Diagnostic::error("bad-key", node.span, message).help(help));
    None
}

/// Reads certificates of authorities from one file or several.
fn authorities(node: &Node, cx: &mut Context) -> Option<Vec<CertificateDer<'static>>> {
    let read: Vec<Option<Vec<_>>> = node.many().map(|file| chain(file, cx)).collect();
    let read: Option<Vec<Vec<_>>> = read.into_iter().collect();
    Some(read?.into_iter().flatten().collect())
}

/// The authorities that the system trusts. Single broken ones are passed over, as every program does.
fn system(span: Span, cx: &mut Context) -> Option<Vec<CertificateDer<'static>>> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    found.retain(|authority| webpki::anchor_from_trusted_cert(authority).is_ok());
    if found.is_empty() {
        let message =
            "this system trusts no certificate authority, so no `https` upstream can be verified";
        cx.say(
            Diagnostic::error("no-system-roots", span, message).help(
                "install the package `ca-certificates`, or write `tls = { ca = \"ca.pem\" }`",
            ),
        );
        return None;
    }
    Some(found)
}

fn clients(table: &Table, cx: &mut Context) -> Option<ClientCertificates> {
    let mode = table.str("client_certificate");
    let ca = table.entry("client_ca");
    let asked = match mode {
        Some("optional" | "required") => mode,
        Some(_) | None => None,
    };
    let Some(asked) = asked else {
        if let (Some(ca), None) = (ca, table.get("client_certificate")) {
            let message = "`client_ca` alone asks no client for a certificate";
            cx.say(
                Diagnostic::error("client-certificate-missing", ca.key_span, message)
                    .help("write `client_certificate = \"required\"`, `\"optional\"` or `\"off\"`"),
            );
            return None;
        }
        if let (Some(crl), None) = (table.entry("crl"), ca) {
            let message = "`crl` has no effect where no client certificate is asked for";
            cx.say(Diagnostic::warning("unused-crl", crl.key_span, message));
        }
        return Some(ClientCertificates::Off);
    };
    let Some(ca) = ca else {
        let span = table
            .get("client_certificate")
            .map_or(table.span, |node| node.span);
        let message =
            format!("client certificates are {asked}, but no authority is named that issues them");
        cx.say(
            Diagnostic::error("client-ca-missing", span, message)
                .help("write `client_ca = \"ca.pem\"`"),
        );
        return None;
    };
    let authorities = authorities(&ca.node, cx);
    let revoked = table
        .get("crl")
        .map_or_else(|| Some(Vec::new()), |node| revoked(node, cx));
    let trust = ClientTrust {
        authorities: authorities?,
        revoked: revoked?,
    };
    Some(if asked == "required" {
        ClientCertificates::Required(trust)
    } else {
        ClientCertificates::Optional(trust)
    })
}

/// Reads revocation lists: PEM, or one in DER.
fn revoked(node: &Node, cx: &mut Context) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let mut lists = Vec::new();
    let mut whole = true;
    for file in node.many() {
        let Some(written) = file.as_str() else {
            continue;
        };
        let Some(content) = files::read(
            cx,
            file.span,
            written,
            "unreadable-crl",
            "a revocation list",
        ) else {
            whole = false;
            continue;
        };
        let parsed: Result<Vec<CertificateRevocationListDer<'static>>, _> =
            CertificateRevocationListDer::pem_slice_iter(&content).collect();
        let mut found = parsed.unwrap_or_default();
        if found.is_empty() && content.first() == Some(&DER_SEQUENCE) {
            found.push(CertificateRevocationListDer::from(content));
        }
        let good = found
            .iter()
            .all(|list| webpki::BorrowedCertRevocationList::from_der(list).is_ok());
        if found.is_empty() || !good {
            whole = false;
            let message = format!("`{written}` holds no revocation list");
            cx.say(
                Diagnostic::error("bad-crl", file.span, message)
                    .help("it begins with `-----BEGIN X509 CRL-----`, or is the same in DER"),
            );
        }
        lists.append(&mut found);
    }
    whole.then_some(lists)
}

fn min_version(table: &Table) -> MinVersion {
    match table.str("min_version") {
        Some("1.3") => MinVersion::V1_3,
        Some(_) | None => MinVersion::V1_2,
    }
}

/// Says when a certificate ends, if that is soon: within a third of its life, but no more than two weeks.
fn remarks(certificate: &Certificate, written: &str, span: Span, cx: &mut Context) {
    let (from, until) = (certificate.not_before(), certificate.not_after());
    let left = until.as_second().saturating_sub(cx.now.as_second());
    let life = until.as_second().saturating_sub(from.as_second());
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    if left < 0 {
        let message = format!("the certificate `{written}` expired on {}", day(until));
        cx.say(Diagnostic::warning("expired-certificate", span, message));
    } else if from > cx.now {
        let message = format!(
            "the certificate `{written}` is valid only from {}",
            day(from)
        );
        cx.say(Diagnostic::warning("premature-certificate", span, message));
    } else if left < (life / 3).min(SOON) {
        let message = format!("the certificate `{written}` expires on {}", day(until));
        cx.say(Diagnostic::note("certificate-expires-soon", span, message));
    }
}

/// An error with its cause, on one line.
fn told(why: &TlsError) -> String {
    let cause = std::error::Error::source(why);
    cause.map_or_else(
        || why.to_string(),
        |cause| format!("{why} ({})", cause.to_string().to_lowercase()),
    )
}

const UNREADABLE: &str = "unreadable-certificate";
/// The tag that DER begins with.
const DER_SEQUENCE: u8 = 0x30;
/// Two weeks, in seconds.
const SOON: i64 = 14 * 24 * 60 * 60;
