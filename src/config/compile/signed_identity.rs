//! `[site.signed_identity]`.
//!
//! Codes: `bad-key`, `unreadable-key`, `reserved-header`.

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::files;
use super::site::free_header;
use crate::config::node::Table;
use crate::config::{Context, Diagnostic};
use crate::identity::signed::{Signer, SigningKey};
use crate::snapshot::IdentityHeaders;

/// Compiles the signer of a site; its claims are those that `headers` tell.
pub(super) fn compile(
    table: &Table,
    site: &str,
    headers: &IdentityHeaders,
    cx: &mut Context,
) -> Option<Signer> {
    let node = table.get("header")?;
    let header = free_header(node, cx);
    let taken = |name: &HeaderName| {
        let own = [&headers.user, &headers.roles, &headers.country];
        let claims = headers.claims.iter().map(|(_, name)| name);
        let mut all = own.into_iter().flatten().chain(claims);
        [AUTHORIZATION, COOKIE].contains(name) || all.any(|known| known == name)
    };
    if let Some(name) = header.as_ref().filter(|name| taken(name)) {
        let message = format!("`{name}` carries something else");
        let finding = Diagnostic::error("reserved-header", node.span, message);
        cx.say(finding.help("give the signed identity a field of its own, such as `X-Identity`"));
        return None;
    }
    let file = table.get("key")?;
    let written = file.as_str()?;
    let content = files::read(
        cx,
        file.span,
        written,
        "unreadable-key",
        "the key that signs",
    )?;
    let der = PrivateKeyDer::from_pem_slice(&content).ok();
    let key = der.and_then(|der| SigningKey::read(der.secret_der()).ok());
    let Some(key) = key else {
        let message = format!("`{written}` is no private key on P-256 or Ed25519 in PEM form");
        let finding = Diagnostic::error("bad-key", file.span, message);
        cx.say(
            finding.help("make one with `openssl genpkey -algorithm ed25519 -out identity.pem`"),
        );
        return None;
    };
    let claims = headers.claims.iter();
    let claims = claims.map(|(path, _)| std::sync::Arc::clone(path));
    Some(Signer::new(header?, site, claims.collect(), key))
}
