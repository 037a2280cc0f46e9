//! The cluster's certificate authority, and what it certifies: servers by their names, clients by user and group.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// A certificate and its key, PEM.
pub(super) struct Certified {
    pub certificate: String,
    pub key: String,
}

/// The authority, and the folder in which the cluster's credentials lie.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// Makes one, with keys for service accounts' tokens (`sa.pem`, `sa.pub`), and writes its certificate to `ca.pem`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = name("cluster-ca", None);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::create_dir_all(folder)?;
        let authority = Authority { issuer, folder: folder.to_owned() };
        authority.write("ca.pem", &authority.certificate())?;
        // Signs certificates that are asked for through the API.
        authority.write("ca.key", &authority.issuer.key().serialize_pem())?;
        let accounts = KeyPair::generate()?;
        authority.write("sa.pem", &accounts.serialize_pem())?;
        authority.write("sa.pub", &accounts.public_key_pem())?;
        Ok(authority)
    }

    /// Its own certificate, PEM.
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Certifies a server under these names and addresses; writes `NAME.pem` and `NAME.key`.
    pub(super) fn server(&self, file: &str, names: &[&str]) -> Result<()> {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = name(file, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write_pair(file, &self.certify(params)?)
    }

    /// Certifies a client as a user of a group; writes `NAME.pem` and `NAME.key`.
    pub(super) fn client(&self, file: &str, user: &str, group: &str) -> Result<Certified> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(user, Some(group));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let pair = self.certify(params)?;
        self.write_pair(file, &pair)?;
        Ok(pair)
    }

    /// Writes the kubeconfig `NAME.kubeconfig` of a user of a group; gives its path.
    pub(super) fn kubeconfig(&self, file: &str, user: &str, group: &str, server: &str) -> Result<PathBuf> {
        let pair = self.client(file, user, group)?;
        self.write(&format!("{file}.kubeconfig"), &kubeconfig(server, &self.certificate(), &pair))
    }

    /// The path of one of its files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn certify(&self, mut params: CertificateParams) -> Result<Certified> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn write_pair(&self, file: &str, pair: &Certified) -> Result<()> {
        self.write(&format!("{file}.pem"), &pair.certificate)?;
        self.write(&format!("{file}.key"), &pair.key)?;
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A kubeconfig that needs no other file.
pub(super) fn kubeconfig(server: &str, authority: &str, pair: &Certified) -> String {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority-data": encode(authority)}}],
        "users": [{"name": "user", "user": {
            "client-certificate-data": encode(&pair.certificate), "client-key-data": encode(&pair.key),
        }}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
    })
    .to_string()
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
