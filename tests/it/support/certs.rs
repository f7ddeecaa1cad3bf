//! Certificates made on the spot: a CA with server and client leaves, a foreign CA, a revocation list.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// Everything that the TLS tests and the conformance scenario need.
pub(crate) struct Certs {
    pub(crate) ca: String,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) crl: String,
    /// For app.test, admin.test, www.app.test and localhost.
    pub(crate) server: Leaf,
    /// For other.test.
    pub(crate) other: Leaf,
    pub(crate) client: Leaf,
    pub(crate) expired: Leaf,
    pub(crate) revoked: Leaf,
    /// Signed by a CA that nobody trusts.
    pub(crate) foreign: Leaf,
}

/// The certificates of this run.
pub(crate) fn certs() -> &'static Certs {
    static CERTS: LazyLock<Certs> = LazyLock::new(make);
    &CERTS
}

/// Another certificate for app.test, of the same CA.
pub(crate) fn renewed() -> Leaf {
    leaf(&certs().issuer, &["app.test"], |_| {})
}

/// A client certificate of our CA for these hosts, with these common names.
pub(crate) fn client_leaf(hosts: &[&str], names: &[&'static str]) -> Leaf {
    leaf(&certs().issuer, hosts, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
    })
}

impl Certs {
    /// Writes all files into a folder: `server.crt`, `server.key`, `other.*`, `ca.pem`, `crl.pem`.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, content) in [
            ("server.crt", &self.server.cert),
            ("server.key", &self.server.key),
            ("other.crt", &self.other.cert),
            ("other.key", &self.other.key),
            ("ca.pem", &self.ca),
            ("crl.pem", &self.crl),
        ] {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }

    /// A client's settings: our CA is trusted, these versions and protocols are offered, this certificate is shown.
    pub(crate) fn client_config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
        leaf: Option<&Leaf>,
    ) -> Arc<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server's settings, for `localhost` and the like.
    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(self.server.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).unwrap(),
            )
            .unwrap()
    }

    /// The usual client: any version, HTTP/1.1, no certificate.
    pub(crate) fn any_client(&self) -> Arc<rustls::ClientConfig> {
        self.client_config(rustls::ALL_VERSIONS, &["http/1.1"], None)
    }
}

impl Leaf {
    /// The certificate as it travels.
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.cert.as_bytes())
            .unwrap()
            .as_ref()
            .to_vec()
    }
}

fn make() -> Certs {
    let (ca_params, ca_key) = authority("Portcullis test CA");
    let (foreign_params, foreign_key) = authority("A foreign CA");
    let ca_cert = ca_params.self_signed(&ca_key).unwrap();
    let ca = Issuer::new(ca_params, ca_key);
    let foreign = Issuer::new(foreign_params, foreign_key);
    let revoked_serial = SerialNumber::from(4242_u64);
    let crl = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: revoked_serial.clone(),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Certs {
        ca: ca_cert.pem(),
        crl: crl.signed_by(&ca).unwrap().pem().unwrap(),
        server: leaf(
            &ca,
            &[
                "app.test",
                "admin.test",
                "www.app.test",
                "down.test",
                "localhost",
            ],
            |_| {},
        ),
        other: leaf(&ca, &["other.test"], |_| {}),
        client: leaf(&ca, &[], named("alice")),
        expired: leaf(&ca, &[], |params| {
            named("expired")(params);
            params.not_after = date_time_ymd(2025, 1, 2);
        }),
        revoked: leaf(&ca, &[], |params| {
            named("revoked")(params);
            params.serial_number = Some(revoked_serial);
        }),
        foreign: leaf(&foreign, &[], named("alice")),
        issuer: ca,
    }
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    (params, KeyPair::generate().unwrap())
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Leaf {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let usage = if names.is_empty() {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    };
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Leaf {
        cert: params.signed_by(&key, issuer).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn named(name: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "staff");
        params.subject_alt_names.push(SanType::Rfc822Name(
            format!("{name}@app.test").try_into().unwrap(),
        ));
    }
}
