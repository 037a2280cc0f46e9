//! The processor: opens its chain and signs reports.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::snp::{
    CertEntry, Evidence, FirmwareVersion, Report, ReportBuilder, Roots, Rules, SimulatedRoot, Tcb, verify,
};

use crate::Error;
use crate::certificates::{Chain, PROCESSOR, TCB, random};
use crate::files;

/// Length of a guest's request on the wire: its report data.
pub const REQUEST_LEN: usize = 64;
/// SMT and ECC on, alias check complete: what a server usually says of its platform.
const PLATFORM: u64 = 0b10_0101;
const FIRMWARE: FirmwareVersion = FirmwareVersion { major: 1, minor: 55, build: 40 };

/// What the secure processor knows of a guest since its launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestContext {
    /// Launch digest, from `cocoon_measure::sim` over the files that are booted.
    pub measurement: [u8; 48],
    /// HOST_DATA: the initdata digest.
    pub host_data: [u8; 32],
    /// Guest policy bits (AMD 56860, GUEST_POLICY); 0x30000 allows SMT and no debugging.
    pub policy: u64,
}

/// A simulated secure processor with its chain.
pub struct SecureProcessor {
    chain: Chain,
    key: EcdsaKeyPair,
}

impl SecureProcessor {
    /// Opens the processor in a folder, or makes one there (seconds: two RSA-4096 keys).
    ///
    /// Several processes may do this at once; all end with the same chain. What is found is checked whole: a report of it
    /// must verify under its own root. A folder that is incomplete or altered is an error, never replaced silently.
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let chain = match files::load(dir)? {
            Some(chain) => chain,
            None => {
                files::store(dir, &Chain::generate()?)?;
                files::load(dir)?.ok_or_else(|| Error::Incomplete(dir.to_owned()))?
            }
        };
        let corrupt = |reason: String| Error::Corrupt { path: dir.to_owned(), reason };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &chain.key)
            .map_err(|_| corrupt("its key is no P-384 key".to_owned()))?;
        let processor = SecureProcessor { chain, key };
        processor.self_test().map_err(corrupt)?;
        Ok(processor)
    }

    /// Root and intermediate, DER: what a Trustee must be told to accept.
    pub fn root(&self) -> (Vec<u8>, Vec<u8>) {
        (self.chain.ark.clone(), self.chain.ask.clone())
    }

    /// The TCB that its certificate and its reports name.
    pub fn tcb(&self) -> Tcb {
        TCB
    }

    /// The VCEK certificate, DER.
    pub fn vcek_der(&self) -> &[u8] {
        &self.chain.vcek
    }

    /// A `REPORT_ID` for a guest that is started.
    pub fn new_guest(&self) -> Result<[u8; 32], Error> {
        random()
    }

    /// A signed report over the guest's report data, with a `REPORT_ID` of its own.
    pub fn report(&self, guest: &GuestContext, report_data: &[u8; 64]) -> Result<[u8; Report::SIZE], Error> {
        self.report_of(guest, random()?, report_data)
    }

    /// The same of one guest: the genuine processor gives all reports of a guest the same `REPORT_ID`, and no other guest's
    /// (AMD 56860, table 23).
    pub fn report_of(
        &self,
        guest: &GuestContext,
        report_id: [u8; 32],
        report_data: &[u8; 64],
    ) -> Result<[u8; Report::SIZE], Error> {
        let (family, model, stepping) = PROCESSOR;
        let mut builder = ReportBuilder::new(family, model, stepping);
        let fields = &mut builder.fields;
        fields.policy = guest.policy;
        fields.measurement = guest.measurement;
        fields.host_data = guest.host_data;
        fields.report_data = *report_data;
        fields.report_id = report_id;
        fields.chip_id = self.chain.chip_id;
        fields.plat_info = PLATFORM;
        (fields.current_tcb, fields.reported_tcb) = (TCB, TCB);
        (fields.committed_tcb, fields.launch_tcb) = (TCB, TCB);
        (fields.current, fields.committed) = (FIRMWARE, FIRMWARE);
        Ok(builder.sign_with(|bytes| self.sign(bytes))?.to_bytes())
    }

    /// The answer to a guest's request on the wire: u32 LE length and report, u32 LE length and VCEK certificate.
    pub fn answer(&self, guest: &GuestContext, request: &[u8; REQUEST_LEN]) -> Result<Vec<u8>, Error> {
        let report = self.report(guest, request)?;
        let mut answer = Vec::with_capacity(8 + report.len() + self.chain.vcek.len());
        for part in [report.as_slice(), &self.chain.vcek] {
            let length =
                u32::try_from(part.len()).map_err(|_| Error::Crypto("the certificate is too long"))?;
            answer.extend(length.to_le_bytes());
            answer.extend(part);
        }
        Ok(answer)
    }

    fn sign(&self, bytes: &[u8]) -> Result<([u8; 48], [u8; 48]), Error> {
        let wrong = Error::Crypto("a report could not be signed");
        let signature = self.key.sign(&SystemRandom::new(), bytes);
        match signature.as_ref().map(|s| s.as_ref().as_chunks::<48>()) {
            Ok(([r, s], [])) => Ok((*r, *s)),
            _ => Err(wrong),
        }
    }

    /// A report of this processor must verify under its own root, now.
    fn self_test(&self) -> Result<(), String> {
        let guest = GuestContext { measurement: [0; 48], host_data: [0; 32], policy: 0x30000 };
        let report = self.report(&guest, &[1; 64]).map_err(|e| e.to_string())?;
        let report = Report::parse(&report).map_err(|e| e.to_string())?;
        let entry = CertEntry { cert_type: "VCEK".to_owned(), data: self.chain.vcek.clone() };
        let root = SimulatedRoot { ark_der: self.chain.ark.clone(), ask_der: self.chain.ask.clone() };
        root.check().map_err(|e| e.to_string())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
        let expectation =
            Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: now.as_secs() };
        let roots = Roots { vendor: false, simulated: vec![root] };
        let evidence = Evidence { report, cert_chain: vec![entry] };
        let verdict = verify(&evidence, &roots, &Rules::default(), &Collateral::none(), &expectation);
        verdict.failure().map_or(Ok(()), |failure| Err(failure.reason))
    }
}

impl std::fmt::Debug for SecureProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecureProcessor(simulated)")
    }
}
