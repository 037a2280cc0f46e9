//! Clients as a plan describes them: the guest and its owner reach registries in the same way.

use std::net::IpAddr;

use cocoon_http::{Options, Proxy};
use cocoon_image::registries::Registries;
use cocoon_plan::images::ImageSettings;

use crate::{Auth, Client, Error};

/// The HTTP client: further authorities and proxies. `loopback` is where the host's loopback is found from here.
///
/// # Errors
/// [`cocoon_http::Error`] for certificates that cannot be read or a proxy that is none.
pub fn http_for_plan(
    settings: &ImageSettings,
    loopback: Option<IpAddr>,
) -> Result<cocoon_http::Client, cocoon_http::Error> {
    let proxy = settings.proxy.as_ref().map(|proxy| Proxy {
        https: proxy.https.clone(),
        http: proxy.http.clone(),
        no_proxy: proxy.no_proxy.clone(),
    });
    cocoon_http::Client::new(Options {
        loopback,
        extra_roots: settings.ca_certificates.clone(),
        proxy,
        ..Options::default()
    })
}

/// The registry client over it: mirrors, blocked registries, plain HTTP.
///
/// # Errors
/// [`Error::Image`] for a registry configuration that cannot be used.
pub fn for_plan(settings: &ImageSettings, http: cocoon_http::Client, auth: Auth) -> Result<Client, Error> {
    let client = Client::new(http, auth).allow_plain_http(settings.plain_http.iter().cloned());
    Ok(match &settings.registries {
        Some(text) => client.with_registries(Registries::parse(text)?),
        None => client,
    })
}
