//! One order: from a name to a chain and a key (RFC 8555 §7.4, RFC 8737).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, ExternalAccountKey, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::PrivateKeyDer;

use super::storage::{self, Folder, StorageError};
use super::wire::Wire;
use crate::snapshot::acme::{Challenge, Challenges, Offered, Settings};
use crate::snapshot::tls::{Certificate, TlsError, challenge_config};

/// What an order brings.
#[derive(Debug)]
pub(super) struct Ordered {
    /// Chain and key, as they are kept.
    pub(super) pem: String,
    /// The same, as it is served.
    pub(super) certificate: Certificate,
}

/// Why it brings nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error("the authority does not offer the challenge {0}")]
    NoChallenge(&'static str),
    #[error("the name is not proved: {0}")]
    NotProved(String),
    #[error("the order ended as {0:?}")]
    Ended(OrderStatus),
    #[error("the order took too long")]
    Late,
    #[error("the certificate is of no use: {0}")]
    Useless(&'static str),
    #[error("the certificate is of no use")]
    Unusable(#[from] TlsError),
    #[error("cannot make a key or a request")]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the client panicked")]
    Panicked,
}

impl OrderError {
    /// Whether the authority does not know the account (RFC 8555 §6.7): it has lost it, or is another one.
    pub(super) fn is_stranger(&self) -> bool {
        self.is("accountDoesNotExist")
    }

    /// Whether it has had enough of us.
    pub(super) fn is_limit(&self) -> bool {
        self.is("rateLimited")
    }

    fn is(&self, kind: &str) -> bool {
        let Self::Acme(instant_acme::Error::Api(problem)) = self else {
            return false;
        };
        let named = problem.r#type.as_deref();
        named.and_then(|named| named.strip_prefix(NAMESPACE)) == Some(kind)
    }
}

/// The account of these settings, made where there is none.
pub(super) async fn account(
    settings: &Settings,
    folder: &Folder,
    wire: &Wire,
) -> Result<Account, OrderError> {
    let builder = Account::builder_with_http(Box::new(wire.clone()));
    if let Some(known) = folder.account()? {
        return Ok(builder.from_credentials(known).await?);
    }
    let contact = format!("mailto:{}", settings.email);
    let wanted = NewAccount {
        contact: &[&contact],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let bound = settings.external_account.as_ref();
    let bound = bound.map(|known| ExternalAccountKey::new(known.id.to_string(), &known.key));
    let url = settings.url.to_string();
    let (account, credentials) = builder.create(&wanted, url, bound.as_ref()).await?;
    folder.keep_account(&credentials)?;
    tracing::info!(directory = %settings.url, account = account.id(), "account made");
    Ok(account)
}

/// Orders a certificate for one name.
pub(super) async fn order(
    account: &Account,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Ordered, OrderError> {
    let names = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let offered = prove(&mut order, name, challenge, challenges).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    drop(offered);
    match ready {
        Ok(OrderStatus::Ready) => {}
        Ok(OrderStatus::Invalid) | Err(instant_acme::Error::Api(_)) => {
            return Err(why_not(&mut order, ready).await);
        }
        Ok(status) => return Err(OrderError::Ended(status)),
        Err(error) => return Err(error.into()),
    }
    let key = KeyPair::generate()?;
    let mut wanted = CertificateParams::new([name.to_owned()])?;
    wanted.distinguished_name = DistinguishedName::new();
    let request = wanted.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let pem = format!("{}\n{}", chain.trim_end(), key.serialize_pem());
    let certificate = storage::certificate(pem.as_bytes());
    let certificate = certificate.ok_or(OrderError::Useless("it is no PEM"))??;
    if !certificate.is_named() || !certificate.covers(name) {
        return Err(OrderError::Useless("it is for another name"));
    }
    if certificate.not_after() <= Timestamp::now() {
        return Err(OrderError::Useless("it has expired already"));
    }
    Ok(Ordered { pem, certificate })
}

/// Offers what the authority wants to see, and asks it to look.
async fn prove(
    order: &mut Order,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Offered>, OrderError> {
    let mut offered = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => {
                let why = format!("the authorization is {:?}", authorization.status);
                return Err(OrderError::NotProved(why.to_lowercase()));
            }
        }
        let kind = match challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let wanted = authorization.challenge(kind);
        let mut wanted = wanted.ok_or(OrderError::NoChallenge(challenge.word()))?;
        let answer = wanted.key_authorization();
        offered.push(match challenge {
            Challenge::Http01 => {
                let answer = Bytes::copy_from_slice(answer.as_str().as_bytes());
                challenges.offer_token(name, &wanted.token, answer)
            }
            Challenge::TlsAlpn01 => {
                let mut shown = CertificateParams::new([name.to_owned()])?;
                let proof = CustomExtension::new_acme_identifier(answer.digest().as_ref());
                shown.custom_extensions = vec![proof];
                let key = KeyPair::generate()?;
                let shown = shown.self_signed(&key)?;
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                let config = challenge_config(shown.der().clone(), key)?;
                challenges.offer_handshake(name, Arc::new(config))
            }
        });
        wanted.set_ready().await?;
    }
    Ok(offered)
}

/// What the authority says of its check.
async fn why_not(order: &mut Order, ready: Result<OrderStatus, instant_acme::Error>) -> OrderError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            break;
        };
        let problem = state.challenges.iter().find_map(|one| one.error.as_ref());
        if let Some(problem) = problem {
            return OrderError::NotProved(problem.to_string());
        }
    }
    match ready {
        Ok(status) => OrderError::Ended(status),
        Err(error) => error.into(),
    }
}

const NAMESPACE: &str = "urn:ietf:params:acme:error:";
/// How often and how long an order is looked at.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));
