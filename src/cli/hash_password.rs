//! `portcullis hash-password`: a line for an htpasswd file, or a new API key with its entry for a key file.

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::process::ExitCode;

use argon2::{Argon2, PasswordHasher as _};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use crate::identity::api_key;

/// Arguments of `hash-password`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HashPasswordArgs {
    /// The user: prints a whole line `user:hash`; with --api-key, whom the key stands for.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Hash with bcrypt, which other web servers read too, instead of argon2id.
    #[arg(long, conflicts_with = "api_key")]
    pub bcrypt: bool,
    /// Make a new API key instead; no password is read.
    #[arg(long)]
    pub api_key: bool,
    /// A role of the key (may be repeated).
    #[arg(long, value_name = "ROLE", requires = "api_key")]
    pub role: Vec<String>,
    /// A claim of the key, `name=value` (may be repeated).
    #[arg(long, value_name = "NAME=VALUE", requires = "api_key")]
    pub claim: Vec<String>,
}

/// Reads a password from standard input and prints its hash, or makes an API key.
pub fn run(args: &HashPasswordArgs) -> ExitCode {
    let done = if args.api_key {
        new_key(args, &mut io::stdout().lock())
    } else {
        if io::stdin().is_terminal() {
            // Best effort: the prompt is for people only.
            drop(io::stderr().write_all(b"Password (it will show): "));
        }
        password(args, &mut io::stdin().lock(), &mut io::stdout().lock())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Usage(why)) => complain(why, 2),
        Err(Problem::Io(why)) => complain(&why.to_string(), 1),
        Err(Problem::Random) => complain("the system gives no random bytes", 1),
    }
}

enum Problem {
    Usage(&'static str),
    Io(io::Error),
    Random,
}

impl From<io::Error> for Problem {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

fn complain(why: &str, code: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "error: {why}"));
    ExitCode::from(code)
}

fn password(
    args: &HashPasswordArgs,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> Result<(), Problem> {
    let user = args.user.as_deref();
    if user.is_some_and(|user| user.is_empty() || user.trim() != user || user.contains(forbidden)) {
        return Err(Problem::Usage(
            "a user name has no colon, no control characters and no spaces around it",
        ));
    }
    let mut line = String::new();
    from.read_line(&mut line)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Problem::Usage(
            "the password is empty: write it to standard input, as one line",
        ));
    }
    if password.contains(|c: char| c.is_ascii_control()) {
        return Err(Problem::Usage(
            "no browser can send a password with control characters",
        ));
    }
    let hash = if args.bcrypt {
        if password.len() > BCRYPT_BYTES_MAX {
            return Err(Problem::Usage(
                "bcrypt reads no more than 72 bytes; leave --bcrypt out",
            ));
        }
        bcrypt::hash_with_result(password, BCRYPT_COST)
            .ok()
            .ok_or(Problem::Random)?
            .format_for_version(bcrypt::Version::TwoY)
    } else {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.ok().ok_or(Problem::Random)?.to_string()
    };
    match user {
        Some(user) => writeln!(to, "{user}:{hash}")?,
        None => writeln!(to, "{hash}")?,
    }
    Ok(())
}

fn new_key(args: &HashPasswordArgs, to: &mut impl Write) -> Result<(), Problem> {
    let pairs = args.claim.iter().map(|claim| claim.split_once('='));
    let pairs: Option<Vec<(&str, &str)>> = pairs.collect();
    let claims = pairs.filter(|pairs| pairs.iter().all(|(name, _)| !name.is_empty()));
    let claims = claims.ok_or(Problem::Usage("a claim is written `name=value`"))?;
    let mut random = [0; 32];
    let source = SystemRandom::new();
    source.fill(&mut random).ok().ok_or(Problem::Random)?;
    let key = api_key::write(random);
    let digest: String = api_key::sha256(&key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let id = format!("key-{}", digest.get(..8).unwrap_or_default());
    writeln!(to, "# The key; it is shown this once:")?;
    writeln!(to, "{key}")?;
    writeln!(to)?;
    writeln!(
        to,
        "# Its entry in the file of `api_key = {{ file = \"…\" }}`:"
    )?;
    writeln!(to, "[[key]]")?;
    writeln!(to, "id = {}", quoted(&id))?;
    if let Some(user) = &args.user {
        writeln!(to, "user = {}", quoted(user))?;
    }
    writeln!(to, "sha256 = {}", quoted(&digest))?;
    let roles: Vec<String> = args.role.iter().map(|role| quoted(role)).collect();
    writeln!(to, "roles = [{}]", roles.join(", "))?;
    if !claims.is_empty() {
        let claims = claims
            .iter()
            .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
        let claims: Vec<String> = claims.collect();
        writeln!(to, "claims = {{ {} }}", claims.join(", "))?;
    }
    Ok(())
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn forbidden(c: char) -> bool {
    c == ':' || c.is_control()
}

/// About 0.1 s on a small machine.
const BCRYPT_COST: u32 = 10;
/// bcrypt cuts what is longer.
const BCRYPT_BYTES_MAX: usize = 72;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;
    use std::sync::Arc;

    fn hashed(args: &HashPasswordArgs, input: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        match password(args, &mut input.as_bytes(), &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(Problem::Usage(why)) => Err(why),
            Err(Problem::Io(_) | Problem::Random) => panic!("the machine"),
        }
    }

    #[test]
    fn what_is_printed_is_a_line_of_an_htpasswd_file() {
        for bcrypt in [true, false] {
            let args = HashPasswordArgs {
                user: Some("ann".to_owned()),
                bcrypt,
                ..HashPasswordArgs::default()
            };
            let line = hashed(&args, "secret word\r\n").unwrap();
            let parsed = crate::identity::basic::Users::parse(&line, &Arc::from("staff"));
            assert_eq!(parsed.bad, [], "{line}");
            assert_eq!(parsed.users.len(), 1);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let user = |name: &str| HashPasswordArgs {
            user: Some(name.to_owned()),
            bcrypt: true,
            ..HashPasswordArgs::default()
        };
        let long = "x".repeat(73);
        for (args, input, why) in [
            (user("ann"), "", "no password"),
            (user("ann"), "\n", "an empty one"),
            (user("ann"), "a\tb\n", "control characters cannot be sent"),
            (user("a:b"), "x\n", "a colon ends the name"),
            (user(" a"), "x\n", "spaces around a name are lost"),
            (user("ann"), &long, "bcrypt would cut it"),
        ] {
            assert!(hashed(&args, input).is_err(), "{why}");
        }
    }

    #[test]
    fn a_new_key_comes_with_its_entry() {
        let args = HashPasswordArgs {
            user: Some("ci \"bot\"".to_owned()),
            api_key: true,
            role: vec!["deploy".to_owned()],
            claim: vec!["plan=pro".to_owned(), "a.b=c=\"d\"".to_owned()],
            ..HashPasswordArgs::default()
        };
        let mut out = Vec::new();
        assert!(new_key(&args, &mut out).is_ok());
        let out = String::from_utf8(out).unwrap();
        let key = out.lines().nth(1).unwrap();
        assert!(key.starts_with("pk_"), "{out}");
        let entry = out.split_once("[[key]]").unwrap().1;
        let entry: toml::Table = toml::from_str(entry).unwrap();
        assert_eq!(entry["user"].as_str(), Some("ci \"bot\""));
        assert_eq!(entry["claims"]["plan"].as_str(), Some("pro"));
        assert_eq!(entry["claims"]["a.b"].as_str(), Some("c=\"d\""));
        for wrong in ["plan", "=pro"] {
            let args = HashPasswordArgs {
                api_key: true,
                claim: vec![wrong.to_owned()],
                ..HashPasswordArgs::default()
            };
            assert!(new_key(&args, &mut Vec::new()).is_err(), "{wrong}");
        }
        let digest = entry["sha256"].as_str().unwrap();
        let want: String = api_key::sha256(key)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(digest, want);
    }
}
