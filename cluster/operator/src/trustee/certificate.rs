//! CAs of the operator's making, and servers' certificates.

use k8s_openapi::jiff::{Timestamp, ToSpan, civil, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::Error;

/// Days that a server's certificate holds, and before its end from which on it is made anew.
const DAYS: (i64, i64) = (365, 60);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

fn failed(e: &rcgen::Error) -> Error {
    Error::Own(format!("a certificate could not be made: {e}"))
}

fn from(params: &mut CertificateParams, begin: civil::Date, days: i64) {
    let day = |date: civil::Date| {
        let part = |n: i8| u8::try_from(n).unwrap_or(1);
        date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    params.not_before = day(begin.saturating_sub(1.day()));
    params.not_after = day(begin.saturating_add(days.days()));
}

/// Today, in UTC.
pub fn today() -> civil::Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// What the CA is called, and may do. With its key this is all that signing needs.
fn authority(called: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, called);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A new CA of this name, good for ten years.
///
/// # Errors
/// Where no key can be made.
pub fn new_authority(called: &str, today: civil::Date) -> Result<Identity, Error> {
    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let mut params = authority(called);
    from(&mut params, today, 3652);
    let certificate = params.self_signed(&key).map_err(|e| failed(&e))?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A certificate for these names, signed by the CA `called` so, with `authority_key`.
///
/// # Errors
/// Where a name is none, or the CA's key is damaged.
pub fn new_server(
    called: &str,
    authority_key: &str,
    names: &[String],
    today: civil::Date,
) -> Result<Identity, Error> {
    let authority_key = KeyPair::from_pem(authority_key).map_err(|e| failed(&e))?;
    let issuer = Issuer::new(authority(called), authority_key);
    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(|e| failed(&e))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, names.first().map_or(called, String::as_str));
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    from(&mut params, today, DAYS.0);
    let certificate = params.signed_by(&key, &issuer).map_err(|e| failed(&e))?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The day from which on a server's certificate of today is made anew.
pub fn renewal(today: civil::Date) -> String {
    today.saturating_add((DAYS.0 - DAYS.1).days()).to_string()
}

/// Whether that day has come. What is no day has.
pub fn is_due(renewal: &str, today: civil::Date) -> bool {
    !renewal.parse::<civil::Date>().is_ok_and(|day| today < day)
}
