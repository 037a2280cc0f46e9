//! The decision: who is it, and may they?

use std::fmt;

use cocoon_http::{Client, Options};

use crate::acl::Acl;
use crate::config::{AccessConfig, CertificateRule, Clock};
use crate::jwt::{Flaw, Identity, Jwt, MAX_TOKEN};
use crate::provider::Provider;
use crate::{ADMIN_ROLE, Denied, Error, certificate, token};

/// Most identity providers.
const MAX_PROVIDERS: usize = 16;

/// What a request says about who makes it and what for. Nothing of it is believed.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// HTTP method; it is logged, rules do not look at it.
    pub method: &'a str,
    /// Path of the request as received, without the query.
    pub path: &'a str,
    /// What stands after `Bearer` in the `Authorization` field. Where it is present it alone decides.
    pub bearer: Option<&'a str>,
    /// The client's own certificate in DER, *already verified by TLS* against the operator's CA.
    pub client_certificate: Option<&'a [u8]>,
    /// The tenant whose data the request addresses; `None`: of no one tenant.
    pub tenant: Option<&'a str>,
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// How an administrator proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By the local token.
    Token,
    /// By a JWT of an identity provider.
    Jwt,
    /// By a client certificate.
    Certificate,
    /// Not at all: administration is unrestricted.
    Unrestricted,
}

/// An administrator who may do what the request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The JWT's `sub` (or its role), or what the certificate was known by; no control characters.
    pub name: String,
    /// The role.
    pub role: String,
    /// The one tenant they administer; `None`: all.
    pub tenant: Option<String>,
    /// How they proved it.
    pub how: How,
}

/// Decides who may administer.
pub struct Access {
    token_sha256: Option<[u8; 32]>,
    providers: Vec<Provider>,
    certificates: Vec<CertificateRule>,
    acl: Acl,
    unrestricted: bool,
    clock: Clock,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("unrestricted", &self.unrestricted).finish_non_exhaustive()
    }
}

impl Access {
    /// Checks the settings, reads key files (key sets at URLs are fetched when first needed). Blocks on files.
    ///
    /// `clock` gives Unix seconds.
    ///
    /// # Errors
    /// [`Error::Unacknowledged`], [`Error::Setting`], [`Error::Endpoint`], or [`Error::Keys`].
    pub fn new(config: AccessConfig, clock: Clock) -> Result<Self, Error> {
        if config.insecure_allow_all {
            if !config.insecure_allow_all_acknowledged {
                return Err(Error::Unacknowledged);
            }
            tracing::warn!("insecure_allow_all is set: EVERYBODY who reaches this Trustee may administer it");
        }
        if config.identity_providers.len() > MAX_PROVIDERS {
            return Err(Error::Setting(format!("more than {MAX_PROVIDERS} identity providers")));
        }
        certificate::check_rules(&config.client_certificates)?;
        let acl = Acl::new(&config.acl)?;
        let mut options = Options::default();
        if let Some(roots) = config.roots {
            options.roots = roots;
        }
        let client = Client::new(options).map_err(|e| Error::Setting(e.to_string()))?;
        let providers = config.identity_providers.iter().map(|provider| Provider::new(provider, &client));
        Ok(Access {
            token_sha256: config.token_sha256,
            providers: providers.collect::<Result<_, _>>()?,
            certificates: config.client_certificates,
            acl,
            unrestricted: config.insecure_allow_all,
            clock,
        })
    }

    /// Names the administrator who makes a request at `now_unix` (Unix seconds), if they may make it.
    ///
    /// A bearer token, where there is one, decides alone; without one the client certificate does. The local token
    /// may do everything; other roles may use the paths that access rules give them, and of those bound to a tenant
    /// only the ones that address it.
    ///
    /// # Errors
    /// [`Denied`] with 401 or 403.
    pub async fn authorize(&self, caller: &Caller<'_>, now_unix: u64) -> Result<Admin, Denied> {
        let decision = self.decide(caller, now_unix).await;
        match &decision {
            Ok(admin) => tracing::debug!(
                name = admin.name, role = admin.role, method = ?caller.method, path = ?caller.path, "admitted"
            ),
            Err(denied) => {
                tracing::debug!(reason = %denied, method = ?caller.method, path = ?caller.path, "denied")
            }
        }
        decision
    }

    async fn decide(&self, caller: &Caller<'_>, now: u64) -> Result<Admin, Denied> {
        if self.unrestricted {
            let (name, role) = ("anybody".to_owned(), ADMIN_ROLE.to_owned());
            return Ok(Admin { name, role, tenant: None, how: How::Unrestricted });
        }
        if self.token_sha256.is_none() && self.providers.is_empty() && self.certificates.is_empty() {
            return Err(Denied::forbidden("DenyAll authorization_mode is enabled: nobody may administer"));
        }
        let admin = match (caller.bearer, caller.client_certificate) {
            (Some(bearer), _) => self.by_token(bearer, now).await?,
            (None, Some(der)) => {
                let (name, rule) = certificate::find(&self.certificates, der)?;
                Admin { name, role: rule.role.clone(), tenant: rule.tenant.clone(), how: How::Certificate }
            }
            (None, None) => return Err(Denied::unauthenticated("no administrator's credentials")),
        };
        if admin.how != How::Token {
            self.acl.check(&admin.role, caller.path)?;
        }
        match &admin.tenant {
            Some(tenant) if caller.tenant != Some(tenant) => {
                let reason = format!("Role {} not allowed: its tenant is {tenant} only", admin.role);
                Err(Denied::forbidden(reason))
            }
            _ => Ok(admin),
        }
    }

    async fn by_token(&self, bearer: &str, now: u64) -> Result<Admin, Denied> {
        if bearer.len() > MAX_TOKEN {
            return Err(unverified(Flaw::TooLong));
        }
        if self.token_sha256.is_some_and(|expected| token::is_token(bearer, &expected)) {
            let (name, role) = (ADMIN_ROLE.to_owned(), ADMIN_ROLE.to_owned());
            return Ok(Admin { name, role, tenant: None, how: How::Token });
        }
        if self.providers.is_empty() {
            return Err(Denied::unauthenticated("wrong admin token"));
        }
        let Identity { name, role, tenant } = self.by_jwt(bearer, now).await.map_err(unverified)?;
        Ok(Admin { name, role, tenant, how: How::Jwt })
    }

    /// Of several providers' refusals the one that came furthest is told. What costs nothing is checked first.
    async fn by_jwt(&self, token: &str, now: u64) -> Result<Identity, Flaw> {
        let jwt = Jwt::parse(token)?;
        jwt.check_times(now)?;
        let identity = jwt.identity()?;
        let mut flaw = Flaw::Issuer;
        for provider in &self.providers {
            match provider.made(&jwt, now).await {
                Ok(()) => return Ok(identity),
                Err(found) => flaw = flaw.max(found),
            }
        }
        Err(flaw)
    }

    /// Reads key files and fetches key sets again. Each keeps the keys it had where that fails.
    ///
    /// # Errors
    /// The first [`Error::Keys`]; the other providers are refreshed nevertheless.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for provider in &self.providers {
            outcome = outcome.and(provider.refresh((self.clock)()).await);
        }
        outcome
    }
}

fn unverified(flaw: Flaw) -> Denied {
    Denied::unauthenticated(format!("Cannot verify token with any of the issuers: {flaw}"))
}
