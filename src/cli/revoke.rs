//! `revoke`: credentials that no longer count at the running instance.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::status::{AdminArgs, refused, unreachable};
use crate::admin::client;
use crate::identity::api_key::sha256;
use crate::identity::certificate::ClientCertificate;
use crate::identity::claims;
use crate::identity::revocation::key_digest;

/// Which credential, how long and why. Without a credential: what is revoked.
#[derive(Debug, Clone, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    which: Which,
    /// Only where this identity source vouches
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only what was issued before: a moment, or `now`, which signs out everywhere and lets sign in again
    #[arg(long, value_name = "TIME")]
    issued_before: Option<String>,
    /// How long it lasts: `12h`, or `ever`; a token's own end where it is known
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    lasting: Option<String>,
    /// When it ends
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for the log; clients never see it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Take it back
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
struct Which {
    /// Everything of this user
    #[arg(long, value_name = "USER")]
    subject: Option<String>,
    /// The token with this `jti`
    #[arg(long, value_name = "JTI")]
    token: Option<String>,
    /// The API key with this id, or `sha256:` and its digest
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The certificate with this public key: the SHA-256 digest in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    spki: Option<String>,
    /// The certificate with this serial number in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// The token in this file (`-`: standard input), by its `jti`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The API key in this file (`-`: standard input), by its digest
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The certificate in this PEM file (`-`: standard input), by its public key
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// A credential as the admin knows it, and its own end.
type Named = (&'static str, String, Option<String>);

/// Revokes, takes back, or lists.
#[must_use]
pub fn run(args: &RevokeArgs) -> ExitCode {
    let place = client::usual(args.admin.socket.as_deref());
    let named = match args.which.named() {
        Ok(named) => named,
        Err(mistake) => {
            super::tell(&format!("portcullis: {mistake}"));
            return ExitCode::from(super::USAGE);
        }
    };
    let Some((what, value, end)) = named else {
        return match client::ask(&place, "GET", "/revocations") {
            Ok(reply) if reply.status == 200 => list(&reply.body),
            Ok(reply) => refused(&place, &reply),
            Err(error) => unreachable(&place, &error),
        };
    };
    let until = args.until.clone();
    let until = until.or_else(|| args.lasting.is_none().then_some(end).flatten());
    let verb = if args.undo { "unrevoke" } else { "revoke" };
    let mut path = format!("/{verb}?{what}={}", client::encode(&value));
    for (key, value) in [
        ("source", &args.source),
        ("issued_before", &args.issued_before),
        ("for", &args.lasting),
        ("until", &until),
        ("reason", &args.reason),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", client::encode(value)));
        }
    }
    match client::ask(&place, "POST", &path) {
        Ok(reply) if reply.status == 200 => {
            let kept = reply.body.get("kept").and_then(Value::as_bool) == Some(true);
            let end = if kept || args.undo {
                ""
            } else {
                "; it ends with the process at the latest: `[revocation] file` is not set or cannot be written"
            };
            let word = if args.undo {
                "no longer revoked"
            } else {
                "revoked"
            };
            super::print(&format!("{word}: {what} {value}{end}\n"))
        }
        Ok(reply) if reply.status == 400 => {
            let why = reply.body.get("message").and_then(Value::as_str);
            super::tell(&format!("portcullis: {}", why.unwrap_or_default()));
            ExitCode::from(super::USAGE)
        }
        Ok(reply) => refused(&place, &reply),
        Err(error) => unreachable(&place, &error),
    }
}

fn list(body: &Value) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let entries = body.get("entries").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        let word = |key| entry.get(key).and_then(Value::as_str);
        let mut line = format!(
            "{} {}",
            word("what").unwrap_or_default(),
            word("value").unwrap_or_default()
        );
        for (key, before) in [
            ("source", " of "),
            ("issued_before", " issued before "),
            ("until", " until "),
        ] {
            if let Some(value) = word(key) {
                line.push_str(before);
                line.push_str(value);
            }
        }
        line.push_str(&format!(" (by {})", word("list").unwrap_or_default()));
        if let Some(reason) = word("reason") {
            line.push_str(": ");
            line.push_str(reason);
        }
        drop(writeln!(out, "{line}"));
    }
    ExitCode::SUCCESS
}

impl Which {
    fn named(&self) -> Result<Option<Named>, String> {
        for (what, value) in [
            ("subject", &self.subject),
            ("token", &self.token),
            ("key", &self.key),
            ("spki", &self.spki),
            ("serial", &self.serial),
        ] {
            if let Some(value) = value {
                return Ok(Some((what, value.clone(), None)));
            }
        }
        if let Some(file) = &self.token_file {
            return token(content(file)?.trim()).map(Some);
        }
        if let Some(file) = &self.key_file {
            let digest = sha256(content(file)?.trim());
            return Ok(Some(("key", key_digest(&digest), None)));
        }
        if let Some(file) = &self.certificate {
            let text = content(file)?;
            let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok();
            let read = certificate.and_then(|bytes| ClientCertificate::read(&bytes));
            let read = read.ok_or("this is no certificate in PEM form")?;
            let end = read.expires.map(|end| end.to_string());
            return Ok(Some(("spki", read.spki, end)));
        }
        Ok(None)
    }
}

fn content(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|content| text = content)
    };
    read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text)
}

/// A token's name and end, unverified: whoever may revoke may revoke any.
fn token(text: &str) -> Result<Named, String> {
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let payload = text.split('.').nth(1);
    let payload = payload.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let payload = payload.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let payload = payload.ok_or("this is no signed token")?;
    let name = payload.get("jti").and_then(Value::as_str);
    let name =
        name.ok_or("the token has no `jti`; revoke its subject, with `--issued-before now`")?;
    let end = payload.get("exp").and_then(claims::numeric_date);
    // A day more than any leeway that clocks are given.
    let end = end.and_then(|end| Timestamp::from_second(end.saturating_add(DAY)).ok());
    let end = end.map(|end| end.max(Timestamp::now()).to_string());
    Ok(("token", name.to_owned(), end))
}

const DAY: i64 = 24 * 60 * 60;
