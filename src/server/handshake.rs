//! TLS handshakes with clients, and with authorities that check a challenge of ours (TLS-ALPN-01, RFC 8737).
//!
//! `acme-tls/1` is spoken only while a challenge is pending, and then only with who offers nothing else and asks for its name:
//! everybody else shakes hands as ever.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::snapshot::acme::Challenges;
use crate::snapshot::tls::{ACME_TLS, ServerTls};

/// Shakes hands. Nothing comes back where an authority has seen what it came for: no application data follows.
///
/// # Errors
/// Where the handshake fails.
pub(super) async fn accept(
    tls: &ServerTls,
    socket: TcpStream,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let Some(challenges) = tls.challenged() else {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        return acceptor.accept(socket).await.map(Some);
    };
    let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let Some(config) = asked(challenges, &begun.client_hello()) else {
        let stream = begun.into_stream(Arc::clone(&tls.config)).await?;
        return Ok(Some(stream));
    };
    let mut checked = begun.into_stream(config).await?;
    tracing::debug!("an ACME authority has checked a challenge");
    // It may be gone already.
    drop(checked.shutdown().await);
    Ok(None)
}

/// The handshake that an authority asks for, if that is who asks.
fn asked(challenges: &Challenges, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
    let mut offered = hello.alpn()?;
    if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
        return None;
    }
    challenges.handshake(hello.server_name()?)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::snapshot::acme::Slot;
    use crate::snapshot::tls::{
        Certificate, ClientCertificates, ClientTls, Issued, MinVersion, challenge_config,
    };

    fn made(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        (made.cert.der().clone(), key)
    }

    /// What a client that trusts `roots` and offers `alpn` gets: the protocol, or nothing; and whether we serve it.
    async fn met(
        tls: &ServerTls,
        roots: &[CertificateDer<'static>],
        name: &str,
        alpn: &[&[u8]],
    ) -> (Option<Option<Vec<u8>>>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trust = ClientTls::new(roots.to_vec(), None).unwrap();
        let mut config = rustls::ClientConfig::clone(&trust.config);
        config.alpn_protocols = alpn.iter().map(|word| word.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, socket).await.ok()?;
            Some(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
        };
        let server = async {
            let (socket, _) = listener.accept().await.unwrap();
            matches!(accept(tls, socket).await, Ok(Some(_)))
        };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn a_challenge_is_shown_to_nobody_but_its_authority() {
        let (own, own_key) = made("app.test");
        let (proof, proof_key) = made("app.test");
        let slot = Arc::new(Slot::new("app.test"));
        let challenges: Arc<Challenges> = Arc::default();
        let issued = Issued {
            slots: vec![Arc::clone(&slot)],
            challenges: Some(Arc::clone(&challenges)),
        };
        let off = ClientCertificates::Off;
        let tls = ServerTls::with_issued(vec![], issued, off, MinVersion::V1_2).unwrap();
        let trusted = [own.clone(), proof.clone()];
        let acme: &[&[u8]] = &[ACME_TLS];
        let web: &[&[u8]] = &[b"h2", b"http/1.1"];
        let both: &[&[u8]] = &[ACME_TLS, b"http/1.1"];

        let (seen, served) = met(&tls, &trusted, "app.test", web).await;
        assert!(seen.is_none() && !served, "no certificate yet: refused");
        slot.fill(Arc::new(Certificate::new(vec![own], own_key).unwrap()));
        let (seen, served) = met(&tls, &trusted, "app.test", acme).await;
        assert!(seen.is_none() && !served, "nothing is pending: not spoken");

        let config = Arc::new(challenge_config(proof, proof_key).unwrap());
        let offered = challenges.offer_handshake("app.test", config);
        for (name, alpn, chosen, serves, why) in [
            ("app.test", acme, Some(ACME_TLS), false, "the authority"),
            ("other.test", acme, None, false, "another name"),
            ("app.test", web, Some(&b"h2"[..]), true, "a client"),
            ("app.test", &[][..], None, true, "a client without ALPN"),
            (
                "app.test",
                both,
                Some(b"http/1.1"),
                true,
                "a client that offers more",
            ),
        ] {
            let (seen, served) = met(&tls, &trusted, name, alpn).await;
            assert_eq!(seen.flatten().as_deref(), chosen, "{why}");
            assert_eq!(served, serves, "{why}");
        }
        drop(offered);
        let (seen, _) = met(&tls, &trusted, "app.test", acme).await;
        assert!(seen.is_none(), "it is decided");
    }
}
