//! Who asks, and for what: the head of an administrator's request.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use cocoon_access::Caller;
use cocoon_stage::Code;
use http::request::Parts;
use http::{Method, StatusCode};

use crate::reply::{Refusal, Variant};
use crate::router::{AskedPath, bearer};
use crate::serve::ClientCertificate;
use crate::{Trustee, request_id};

/// Marks requests that the owner makes in this process, without a network between.
#[derive(Clone, Copy)]
pub(crate) struct Owner;

/// An admitted administrator.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// For the audit log.
    pub name: String,
    /// Whether only one tenant is administered.
    pub tenant: Option<String>,
}

/// What of a request decides who may make it.
pub(crate) struct Head {
    /// Request id.
    pub id: String,
    /// HTTP method.
    pub method: Method,
    /// The path as the client asked for it.
    pub path: String,
    bearer: Option<String>,
    certificate: Option<Vec<u8>>,
    owner: bool,
}

impl FromRequestParts<Trustee> for Head {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, trustee: &Trustee) -> Result<Self, Infallible> {
        let asked = parts.extensions.get::<AskedPath>().map(|p| p.0.clone());
        let original = parts.extensions.get::<axum::extract::OriginalUri>().map(|u| u.0.path().to_owned());
        Ok(Head {
            id: request_id::new(trustee.inner.now()),
            method: parts.method.clone(),
            path: asked.or(original).unwrap_or_else(|| parts.uri.path().to_owned()),
            bearer: bearer(&parts.headers).map(str::to_owned),
            certificate: parts.extensions.get::<ClientCertificate>().map(|c| c.0.to_vec()),
            owner: parts.extensions.get::<Owner>().is_some(),
        })
    }
}

impl Trustee {
    /// Admits an administrator, or says why not.
    pub(crate) async fn authorize(&self, head: &Head) -> Result<Admin, Refusal> {
        let tenant = self.inner.tenant.as_ref();
        if head.owner {
            return Ok(Admin { name: "owner".into(), tenant: None });
        }
        if let (Some(tenant), Some(token)) = (tenant, &head.bearer)
            && tenant.knows(token)
        {
            let name = format!("tenant {}", tenant.name);
            return Ok(Admin { name, tenant: Some(tenant.name.clone()) });
        }
        let caller = Caller {
            method: head.method.as_str(),
            path: &head.path,
            bearer: head.bearer.as_deref(),
            client_certificate: head.certificate.as_deref(),
            tenant: tenant.map(|t| t.name.as_str()),
        };
        let judge = self.inner.judge();
        match judge.access.authorize(&caller, self.inner.now()).await {
            Ok(admin) => Ok(Admin { name: format!("{} ({})", admin.name, admin.role), tenant: admin.tenant }),
            Err(denied) => {
                let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
                let refusal = Refusal::coded(Variant::AdminAuthAccess, Code::AccessDenied, denied.reason());
                // Upstream's clients look for these words; they name nothing that is kept here.
                Err(refusal.with_status(status).saying(denied.reason()))
            }
        }
    }
}

/// The act, for the audit log.
pub(crate) fn act(head: &Head) -> String {
    format!("{} {}", head.method, head.path)
}
