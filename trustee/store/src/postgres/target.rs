//! Which server, as whom, and how the way there is protected.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

use super::PostgresOptions;
use super::tls::{self, Tls};
use crate::Error;

/// A checked target. `config` holds the password and is never shown.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

/// Reads the connection URL. No error repeats any part of it.
pub(super) fn parse(url: &str, options: &PostgresOptions) -> Result<Target, Error> {
    let (url, settings) = own_settings(url)?;
    let mut config: Config = url.parse().map_err(|_| {
        Error::Settings("the URL is not of the form postgres://USER:PASSWORD@HOST/DATABASE?sslmode=…".into())
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::Settings("the URL names no host".into()));
    }
    if let Some(password) = &options.password {
        config.password(password.as_bytes());
    }
    if config.get_application_name().is_none() {
        config.application_name("cocoon-trustee");
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.connect_timeout(options.connect_timeout);
    config.keepalives_idle(std::time::Duration::from_secs(30));
    config.tcp_user_timeout(options.statement_timeout + super::pool::GRACE);

    let pinned = match (&options.ca, &settings.root) {
        (Some(pem), _) => Some(pem.clone()),
        (None, Some(path)) => {
            Some(std::fs::read_to_string(path).map_err(|e| Error::Settings(format!("sslrootcert: {e}")))?)
        }
        (None, None) => None,
    };
    let mode = settings.mode.unwrap_or_else(|| config.get_ssl_mode());
    let local = is_local(&config);
    let tls = match (mode, local, pinned) {
        (SslMode::Disable, true, _) | (SslMode::Prefer, true, None) => {
            config.ssl_mode(SslMode::Disable);
            Tls::none()?
        }
        (SslMode::Disable, false, _) => {
            return Err(Error::Settings(
                "sslmode=disable is refused for a host other than this machine".into(),
            ));
        }
        (SslMode::Prefer, true, Some(pem)) => {
            config.ssl_mode(SslMode::Prefer);
            Tls::new(tls::pinned(&pem)?)?
        }
        (_, _, pinned) => {
            config.ssl_mode(SslMode::Require);
            Tls::new(match pinned {
                Some(pem) => tls::pinned(&pem)?,
                None => tls::system(options.system_roots.as_deref())?,
            })?
        }
    };
    Ok(Target { config, tls })
}

/// What the URL says in libpq's words that tokio-postgres does not know.
#[derive(Default)]
struct Settings {
    mode: Option<SslMode>,
    root: Option<PathBuf>,
}

/// Takes `sslmode` and `sslrootcert` out of a URL's query.
fn own_settings(url: &str) -> Result<(Zeroizing<String>, Settings), Error> {
    let mut settings = Settings::default();
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let Some((base, query)) = url.rsplit_once('?').filter(|_| is_url) else {
        return Ok((Zeroizing::new(url.to_owned()), settings));
    };
    let mut rest = Zeroizing::new(String::with_capacity(url.len()));
    rest.push_str(base);
    let mut first = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => {
                settings.mode = Some(match mode {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" | "verify-ca" | "verify-full" => SslMode::Require,
                    _ => return Err(Error::Settings("sslmode is not disable, prefer or require".into())),
                });
            }
            Some(("sslrootcert", path)) => settings.root = Some(decoded(path)?),
            _ => {
                rest.push(if first { '?' } else { '&' });
                rest.push_str(pair);
                first = false;
            }
        }
    }
    Ok((rest, settings))
}

/// A path with its `%XX` decoded.
fn decoded(text: &str) -> Result<PathBuf, Error> {
    let invalid = || Error::Settings("sslrootcert is not a path".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2).ok_or_else(invalid)?;
            bytes.extend(hex::decode(digits).map_err(|_| invalid())?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    let path = String::from_utf8(bytes).map_err(|_| invalid())?;
    Ok(Path::new(&path).to_path_buf())
}

/// Whether every address the connection may go to is on this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => match name.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => name == "localhost" && resolves_to_loopback(name),
        },
    })
}

fn resolves_to_loopback(name: &str) -> bool {
    (name, 0).to_socket_addrs().is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, ca: Option<&str>) -> Result<SslMode, Error> {
        let options = PostgresOptions { ca: ca.map(str::to_owned), ..PostgresOptions::default() };
        parse(url, &options).map(|target| target.config.get_ssl_mode())
    }

    #[test]
    fn plain_text_never_leaves_this_machine() {
        let key = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        let ca = key.cert.pem();
        let ca = Some(ca.as_str());
        for local in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "%2Frun%2Fpostgresql"] {
            let url = |mode: &str| format!("postgres://u:p@{local}/d{mode}");
            assert_eq!(mode(&url(""), None).unwrap(), SslMode::Disable, "{local}");
            assert_eq!(mode(&url(""), ca).unwrap(), SslMode::Prefer, "{local}");
            assert_eq!(mode(&url("?sslmode=disable"), ca).unwrap(), SslMode::Disable, "{local}");
            assert_eq!(mode(&url("?sslmode=require"), ca).unwrap(), SslMode::Require, "{local}");
        }
        for remote in ["db.example", "10.0.0.1", "[2001:db8::1]", "localhost,db.example", "localhost.example"]
        {
            for sslmode in
                ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=require", "?sslmode=verify-full"]
            {
                let url = format!("postgres://u:p@{remote}/d{sslmode}");
                assert_eq!(mode(&url, ca).unwrap(), SslMode::Require, "{url}");
            }
            for url in [
                format!("postgres://u:p@{remote}/d?sslmode=disable"),
                format!("postgres://u:p@{remote}/d?connect_timeout=1&sslmode=disable"),
            ] {
                assert!(matches!(mode(&url, ca), Err(Error::Settings(_))), "{url}");
            }
        }
        assert!(mode("host=db.example user=u sslmode=disable", ca).is_err());
        assert!(mode("host=localhost hostaddr=10.0.0.1 user=u sslmode=disable", ca).is_err());
        assert_eq!(mode("host=localhost user=u dbname=d", None).unwrap(), SslMode::Disable);
    }

    #[test]
    fn unusable_urls_are_refused_without_repeating_them() {
        for url in [
            "",
            "postgres://",
            "postgres:///d",
            "http://u:hunter2@h/d",
            "postgres://u:hunter2@h:hunter2/d",
            "postgres://u:hunter2@localhost/d?hunter2=hunter2",
            "postgres://u:hunter2@localhost/d?sslmode=hunter2",
            "postgres://u:hunter2@localhost/d?sslrootcert=%hunter2",
            "postgres://u:hunter2@localhost/d?sslrootcert=/nonexistent/ca.pem",
            "host=localhost password=hunter2 sslmode=hunter2",
        ] {
            let error = parse(url, &PostgresOptions::default()).err().expect(url);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let bad = PostgresOptions { ca: Some("no certificate".into()), ..PostgresOptions::default() };
        assert!(matches!(parse("postgres://u@h/d", &bad), Err(Error::Settings(_))));
        let none =
            PostgresOptions { system_roots: Some("/nonexistent".into()), ..PostgresOptions::default() };
        assert!(matches!(parse("postgres://u@h/d", &none), Err(Error::Settings(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_url_panics(url in "(postgres://)?[a-z0-9:@/?&=%,\\[\\]-]{0,80}", any in "\\PC{0,60}") {
            drop(parse(&url, &PostgresOptions::default()));
            drop(parse(&any, &PostgresOptions::default()));
        }
    }
}
