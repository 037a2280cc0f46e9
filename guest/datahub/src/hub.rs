//! The shared attestation session, and what is fetched with it.

mod slots;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cocoon_attest::Attester;
use cocoon_http::{Client, Options, Roots};
use cocoon_image::encryption::AnnotationPacket;
use cocoon_kbs::{EvidenceSource, KbsClient, KeyProver, Session};
use cocoon_plan::TrusteeConfig;
use cocoon_protocol::Tee;
use cocoon_protocol::initdata::{InitData, host_data};
use cocoon_protocol::sealed::{self, Payload};
use cocoon_protocol::tpm::{Candidature, CredentialChallenge};
use cocoon_protocol::uri::ResourceUri;
use cocoon_pull::KeyProvider;
use cocoon_stage::{Code, Failure, Stage};
use serde_json::Value;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use slots::Slots;

/// Secret bytes shared by those who may read them.
pub(crate) type Secret = Arc<Zeroizing<Vec<u8>>>;

/// The guest's side of key release.
pub struct DataHub {
    client: KbsClient,
    initdata: InitData,
    attester: Arc<dyn Attester>,
    // Held across a handshake, so that several users at once share one.
    session: Mutex<Option<Arc<Attested>>>,
    /// What the plan names.
    fetched: Slots,
    /// What images name; apart, so that a hostile one takes no room from the plan's own.
    keys: Slots,
}

impl std::fmt::Debug for DataHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataHub").field("client", &self.client).finish_non_exhaustive()
    }
}

/// A session, and since when.
struct Attested {
    kbs: Session,
    began: Instant,
}

/// Tokens live five minutes; one that is given away should have some of them left.
const TOKEN_FRESH: Duration = Duration::from_secs(60);
/// Limit for a failure report.
const REPORT_LIMIT: Duration = Duration::from_secs(3);
/// At most so many different resources of the plan are kept.
const MAX_FETCHED: usize = 1024;
/// At most so many different keys that images name are kept.
const MAX_KEYS: usize = 512;

impl DataHub {
    /// A hub for the Trustee that the initdata names; `host_loopback` is where services on the host's loopback are
    /// found from here (user networking).
    ///
    /// # Errors
    /// `INITDATA-MALFORMED` where the initdata names no usable Trustee.
    pub fn new(
        initdata: InitData,
        attester: Arc<dyn Attester>,
        host_loopback: Option<IpAddr>,
    ) -> Result<Arc<Self>, Failure> {
        let config = TrusteeConfig::from_initdata(&initdata)?;
        let roots = match config.certificate {
            Some(pem) => Roots::Pinned(vec![pem]),
            None => Options::default().roots,
        };
        let options = Options {
            roots,
            loopback: host_loopback,
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(30),
            ..Options::default()
        };
        let http = Client::new(options)
            .map_err(|e| Failure::new(Code::InitdataMalformed, format!("aa.toml: {e}")))?;
        Ok(Arc::new(DataHub {
            client: KbsClient::new(http, &config.url),
            initdata,
            attester,
            session: Mutex::new(None),
            fetched: Slots::default(),
            keys: Slots::default(),
        }))
    }

    /// The attester in use.
    pub fn attester(&self) -> &Arc<dyn Attester> {
        &self.attester
    }

    /// Makes sure that there is a session; users at the same time share one handshake.
    ///
    /// # Errors
    /// Trustee's refusal, or why it could not be asked.
    pub async fn attest(&self) -> Result<(), Failure> {
        self.session(None).await.map(|_| ())
    }

    /// The attestation token, for relying parties that the workload talks to.
    ///
    /// # Errors
    /// As [`DataHub::attest`].
    pub async fn token(&self) -> Result<String, Failure> {
        Ok(self.fresh().await?.kbs.token().to_owned())
    }

    /// The same with the private key (PEM) of which the token speaks. With it all of Trustee's resources that this guest may
    /// have can be fetched: for the guest's own programs alone.
    ///
    /// # Errors
    /// As [`DataHub::attest`].
    pub async fn token_and_key(&self) -> Result<(String, Zeroizing<String>), Failure> {
        let session = self.fresh().await?;
        Ok((session.kbs.token().to_owned(), session.kbs.key_pem()))
    }

    /// A session whose token has some of its life left.
    async fn fresh(&self) -> Result<Arc<Attested>, Failure> {
        let mut session = self.session(None).await?;
        if session.began.elapsed() > TOKEN_FRESH {
            session = self.session(Some(&session)).await?;
        }
        Ok(session)
    }

    /// A resource that the plan names, by its `kbs:///…` URI; fetched once and kept, of at most 1024.
    ///
    /// # Errors
    /// Trustee's refusal with its code, or `FETCH-…`.
    pub async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        self.kept(&parse(uri)?, &self.fetched, MAX_FETCHED).await
    }

    /// What a sealed secret stands for. It must be signed by the key that is the resource `signer` (JWK, ES256), and stand for
    /// `resource` (or, where there is no plan that says so, any): that secret itself, as Trustee has it now, or one encrypted
    /// under that key.
    ///
    /// # Errors
    /// `SECRET-UNSEAL-FAILED` for one that is none, or another; what fetching answers.
    pub async fn unseal(
        &self,
        sealed: &[u8],
        signer: &str,
        resource: Option<&str>,
    ) -> Result<Secret, Failure> {
        let failed = |why: String| Failure::new(Code::SecretUnsealFailed, why);
        let (signer, planned) = (parse(signer)?, resource.map(parse).transpose()?);
        let key = self.kept(&signer, &self.fetched, MAX_FETCHED).await?;
        let payload = sealed::open(sealed, &signer, &key).map_err(|e| failed(e.to_string()))?;
        let resource = payload.resource().clone();
        if let Some(planned) = planned.filter(|planned| *planned != resource) {
            return Err(failed(format!("it stands for {resource}, where the plan has {planned}")));
        }
        match payload {
            // Fetched anew: a Secret that is written again may mean a value that changed.
            Payload::Vault { .. } => Ok(Arc::new(self.fetch(&resource).await?)),
            Payload::Envelope(envelope) => {
                let key = self.kept(&resource, &self.fetched, MAX_FETCHED).await?;
                Ok(Arc::new(envelope.open(&key).map_err(|e| failed(e.to_string()))?))
            }
        }
    }

    /// A key that an image names: the plan's where it is one that was fetched, else one of at most 512 others.
    async fn key(&self, uri: &str) -> Result<Secret, Failure> {
        let parsed = parse(uri)?;
        match self.fetched.fetched(&parsed.to_string()).await {
            Some(secret) => Ok(secret),
            None => self.kept(&parsed, &self.keys, MAX_KEYS).await,
        }
    }

    async fn kept(&self, uri: &ResourceUri, slots: &Slots, most: usize) -> Result<Secret, Failure> {
        let slot = slots.slot(&uri.to_string(), most).await?;
        let mut slot = slot.lock().await;
        if let Some(secret) = slot.as_ref() {
            return Ok(secret.clone());
        }
        let secret: Secret = Arc::new(self.fetch(uri).await?);
        *slot = Some(secret.clone());
        Ok(secret)
    }

    /// Tells the owner, through Trustee, what went wrong; gives the id under which it is kept. Best effort and short:
    /// `None` where there is no session, or Trustee does not take it.
    pub async fn report(&self, failure: &Failure) -> Option<String> {
        let session = self.session.lock().await.clone()?;
        // The owner's words have a limit; a long reason keeps its beginning.
        let mut failure = failure.clone();
        failure.reason = failure.reason.chars().take(1000).collect();
        let sent = tokio::time::timeout(REPORT_LIMIT, self.client.report(&session.kbs, &failure)).await;
        sent.ok()?.inspect_err(|e| tracing::debug!(error = %e, "report")).ok()
    }

    async fn fetch(&self, uri: &ResourceUri) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let session = self.session(None).await?;
        match self.client.resource(&session.kbs, uri).await {
            Ok(secret) => Ok(secret),
            Err(e) if e.wants_new_handshake() => {
                let session = self.session(Some(&session)).await?;
                self.client.resource(&session.kbs, uri).await.map_err(|e| e.into_failure(Stage::Fetch))
            }
            Err(e) => Err(e.into_failure(Stage::Fetch)),
        }
    }

    /// The current session, or a new one where there is none or it is the `stale` one.
    async fn session(&self, stale: Option<&Arc<Attested>>) -> Result<Arc<Attested>, Failure> {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref()
            && !stale.is_some_and(|s| Arc::ptr_eq(s, session))
        {
            return Ok(session.clone());
        }
        let source = Source { attester: self.attester.as_ref(), bound: std::sync::Mutex::new(None) };
        let session = self
            .client
            .attest(&source, Some(&self.initdata))
            .await
            .map_err(|e| e.into_failure(Stage::Attest))?;
        let bound = *source.bound.lock().unwrap_or_else(PoisonError::into_inner);
        check_bound(bound, &self.initdata)?;
        let session = Arc::new(Attested { kbs: session, began: Instant::now() });
        *current = Some(session.clone());
        Ok(session)
    }
}

fn parse(uri: &str) -> Result<ResourceUri, Failure> {
    uri.parse().map_err(|e| Failure::new(Code::FetchFailed, format!("{uri}: {e}")))
}

/// Refuses initdata that is not what the TEE binds to this VM's launch.
///
/// Trustee has compared too, but the Trustee that this initdata names may be the attacker's own: a VM launched for one
/// plan and handed another must not run it, lest its evidence be used to ask for the first one's secrets.
fn check_bound(bound: Option<[u8; 32]>, initdata: &InitData) -> Result<(), Failure> {
    if bound == Some(host_data(&initdata.digest())) {
        return Ok(());
    }
    let reason = "this VM was launched with other initdata than it was handed";
    Err(Failure::new(Code::AttestInitdataMismatch, reason))
}

/// The attester, and what its latest evidence says the VM is bound to.
struct Source<'a> {
    attester: &'a dyn Attester,
    bound: std::sync::Mutex<Option<[u8; 32]>>,
}

#[async_trait]
impl EvidenceSource for Source<'_> {
    fn tee(&self) -> Tee {
        self.attester.tee()
    }

    async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
        let evidence = self.attester.evidence(report_data).await?;
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = self.attester.bound(&evidence);
        Ok(evidence)
    }

    fn prover(&self) -> Option<&dyn KeyProver> {
        self.attester.key_proof().is_some().then_some(self)
    }
}

#[async_trait]
impl KeyProver for Source<'_> {
    async fn candidature(&self) -> Result<Candidature, Failure> {
        self.proof()?.candidature().await
    }

    async fn activate(&self, challenge: &CredentialChallenge) -> Result<Vec<u8>, Failure> {
        self.proof()?.activate(challenge).await
    }
}

impl Source<'_> {
    fn proof(&self) -> Result<&dyn cocoon_attest::KeyProof, Failure> {
        let none = || Failure::new(Code::AttestEvidenceUnavailable, "this platform's key needs no proof");
        self.attester.key_proof().ok_or_else(none)
    }
}

#[async_trait]
impl KeyProvider for DataHub {
    /// Unwraps a layer's private options with the key that the packet's `kid` names in Trustee.
    async fn unwrap(&self, packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let kek = self.key(&packet.kid).await.map_err(|mut f| {
            // A denied key is a matter of the image; an unreachable Trustee is not.
            if matches!(f.code, Code::ReleaseDenied | Code::ReleaseSecretMissing | Code::FetchFailed) {
                f.reason = format!("key {} of an encrypted layer: {}", packet.kid, f.reason);
                f.code = Code::ImageKeyUnavailable;
                f.stage = Stage::Pull;
            }
            f
        })?;
        cocoon_image::encryption::unwrap_key(&kek, packet).map_err(Failure::from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cocoon_protocol::HashAlgorithm;

    use super::*;

    fn initdata(plan: &str) -> InitData {
        let files = BTreeMap::from([("plan.json".to_owned(), plan.to_owned())]);
        InitData::new(HashAlgorithm::Sha256, files)
    }

    #[test]
    fn only_the_initdata_that_the_vm_was_launched_with_is_served() {
        let (ours, theirs) = (initdata("ours"), initdata("theirs"));
        let bound = host_data(&ours.digest());
        assert!(check_bound(Some(bound), &ours).is_ok());
        for (bound, handed) in [(Some(bound), &theirs), (Some([0; 32]), &ours), (None, &ours)] {
            let failure = check_bound(bound, handed).unwrap_err();
            assert_eq!(failure.code, Code::AttestInitdataMismatch);
        }
    }

    struct NoTee;

    #[async_trait]
    impl Attester for NoTee {
        fn tee(&self) -> Tee {
            Tee::Sample
        }
        fn simulated(&self) -> bool {
            true
        }
        fn bound(&self, _: &Value) -> Option<[u8; 32]> {
            None
        }
        async fn evidence(&self, _: &[u8]) -> Result<Value, Failure> {
            Err(Failure::new(Code::FetchFailed, "no TEE"))
        }
    }

    #[tokio::test]
    async fn keys_that_images_name_take_no_room_from_the_plan() {
        let config = TrusteeConfig { url: "http://127.0.0.1:1".to_owned(), certificate: None };
        let files = BTreeMap::from([("aa.toml".to_owned(), config.to_aa_toml())]);
        let initdata = InitData::new(HashAlgorithm::Sha256, files);
        let hub = DataHub::new(initdata, Arc::new(NoTee), None).unwrap();
        let own = "kbs:///default/own/secret";
        *hub.fetched.slot(own, MAX_FETCHED).await.unwrap().lock().await = Some(Arc::default());
        for n in 0..MAX_KEYS {
            let uri = format!("kbs:///default/key/{n}");
            *hub.keys.slot(&uri, MAX_KEYS).await.unwrap().lock().await = Some(Arc::default());
        }
        let refused = hub.key("kbs:///default/key/another").await.unwrap_err();
        assert!(refused.reason.contains("too many"), "{}", refused.reason);
        assert!(hub.key("kbs:///default/key/7").await.is_ok());
        assert!(hub.key(own).await.is_ok(), "the plan's own is at hand for images too");
        let uri = "kbs:///default/own/other";
        assert!(hub.fetched.slot(uri, MAX_FETCHED).await.is_ok());
        assert!(hub.resource(own).await.is_ok());
    }
}
