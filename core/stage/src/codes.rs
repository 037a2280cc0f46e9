//! Every code a person can meet. One table: code, stage, what happened, what to do next.
//! `docs/errors.md` is rendered from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Stage;

codes! {
    PlanImageReferenceInvalid = "PLAN-IMAGE-REFERENCE-INVALID", Plan,
        "The image name is not a valid reference.",
        "Write it as [REGISTRY/]NAME[:TAG|@DIGEST].";
    PlanImageUnavailable = "PLAN-IMAGE-UNAVAILABLE", Plan,
        "The image's manifest or config could not be read from its registry.",
        "Check the name, the registry and your credentials (auth.json).";
    PlanInvalid = "PLAN-INVALID", Plan,
        "The plan is malformed or contradicts itself.",
        "Correct the flags or the plan document named in the reason.";
    PlanVersionUnsupported = "PLAN-VERSION-UNSUPPORTED", Plan,
        "The plan was written for another version of Cocoon.",
        "Use a guest image at least as new as the program that wrote the plan.";
    PlanTooLarge = "PLAN-TOO-LARGE", Plan,
        "Plan and initdata exceed 256 KiB.",
        "Move long values into secrets or the image.";
    PlanManifestInvalid = "PLAN-MANIFEST-INVALID", Plan,
        "A Kubernetes manifest is malformed, contradicts itself or lacks something.",
        "Correct the field that the reason names.";
    PlanFieldUnsupported = "PLAN-FIELD-UNSUPPORTED", Plan,
        "A field of a Kubernetes manifest asks for what no confidential pod can have.",
        "See the reason for what to use instead, and `cocoon plan explain -f FILE` for every field.";
    PlanRequestRefused = "PLAN-REQUEST-REFUSED", Start,
        "The host asked for something that the plan does not allow.",
        "If it should be allowed, add it to the plan; otherwise look at who drives the node.";
    PlanFilesMismatch = "PLAN-FILES-MISMATCH", Start,
        "The files that the host handed over for a volume are not those whose digests the plan holds.",
        "Write the plan anew if the ConfigMap or Secret was changed on purpose; otherwise look at who changed it.";
    PlanFilesMissing = "PLAN-FILES-MISSING", Start,
        "The host did not hand over the files of a volume in time, or a path that the plan mounts is not among them.",
        "See which volumes the plan names, and whether the node's runtime serves them.";
    PlanDeviceMissing = "PLAN-DEVICE-MISSING", Start,
        "The host did not attach the disk of a block volume, or attached it twice.",
        "See whether the volume is bound and attached on the node.";
    VolumeForeign = "VOLUME-FOREIGN", Start,
        "The disk of an encrypted volume is neither empty nor such a volume, or one by weaker means than the plan asks for. It was not changed.",
        "See what is on the disk; to have it formatted, overwrite its first 17 MiB and last MiB with zeros.";
    VolumeKeyWrong = "VOLUME-KEY-WRONG", Start,
        "The key from Trustee does not open the encrypted volume.",
        "See whether the disk is the one that belongs to this workload, and whether the key in Trustee was replaced.";
    VolumeFailed = "VOLUME-FAILED", Start,
        "An encrypted volume could not be opened, formatted or mounted.",
        "See the reason; a new volume takes a writable disk of 48 MiB and a key of 32 bytes at least.";
    SecretUnsealFailed = "SECRET-UNSEAL-FAILED", Fetch,
        "A sealed secret of the cluster could not be unsealed, or is none that the plan lets this workload have.",
        "See the reason; a sealed secret must be signed by the key that the plan names, for a resource that the plan allows.";
    PlanSysctlRefused = "PLAN-SYSCTL-REFUSED", Boot,
        "The guest's kernel does not take a kernel setting that the plan asks for.",
        "Correct the setting named in the reason, or leave it out of the plan.";
    PlanSecretInvalid = "PLAN-SECRET-INVALID", Plan,
        "A --secret argument is not NAME=@FILE or NAME=VALUE, or its file cannot be read.",
        "Correct the argument.";
    InitdataMissing = "INITDATA-MISSING", Boot,
        "The guest was started without initdata; a production guest runs nothing without it.",
        "Start it with a plan, as `cocoon run` does.";
    InitdataMalformed = "INITDATA-MALFORMED", Boot,
        "The initdata is not the expected TOML, algorithm or size.",
        "Let `cocoon run` make it; do not edit it by hand.";
    RegisterFailed = "REGISTER-FAILED", Register,
        "The plan could not be registered with Trustee.",
        "Check the Trustee URL, its certificate and your admin token.";
    BootKvmUnusable = "BOOT-KVM-UNUSABLE", Boot,
        "KVM was demanded but a probe guest does not boot with it.",
        "Use --accel tcg, or run `cocoon doctor` to see why KVM fails.";
    BootPlatformUnavailable = "BOOT-PLATFORM-UNAVAILABLE", Boot,
        "The requested TEE is not available on this machine.",
        "Use --platform auto, or run `cocoon doctor`.";
    BootGuestImageMissing = "BOOT-GUEST-IMAGE-MISSING", Boot,
        "There is no measured guest image.",
        "Run `cocoon guest build`.";
    BootGuestImageCorrupt = "BOOT-GUEST-IMAGE-CORRUPT", Boot,
        "The guest image's files do not match its manifest.",
        "Run `cocoon guest build` again.";
    BootGuestBuildFailed = "BOOT-GUEST-BUILD-FAILED", Boot,
        "The measured guest image could not be built.",
        "See the reason; `make setup` installs the programs it needs, and --kernel-deb builds without a network.";
    BootQemuMissing = "BOOT-QEMU-MISSING", Boot,
        "QEMU or a file it needs is not installed.",
        "Install the package named in the reason; `cocoon doctor` lists all.";
    BootQemuFailed = "BOOT-QEMU-FAILED", Boot,
        "QEMU ended or was killed before the workload finished.",
        "See the reason for QEMU's own words; check memory and `cocoon doctor`.";
    BootTimeout = "BOOT-TIMEOUT", Boot,
        "The guest did not announce itself in time.",
        "Run again with --console to see the guest's kernel messages.";
    BootGuestFailed = "BOOT-GUEST-FAILED", Boot,
        "The guest could not set itself up (modules, mounts, network).",
        "Run again with --console to see the guest's messages; rebuild the guest image.";
    BootNetworkUnsupported = "BOOT-NETWORK-UNSUPPORTED", Boot,
        "The pod's network is of a kind that a VM cannot take over.",
        "See the reason: hostNetwork, and some network devices and routes, need a pod that is no VM.";
    BootNetworkFailed = "BOOT-NETWORK-FAILED", Boot,
        "The pod's network namespace could not be read or connected to the VM.",
        "See the reason; check the CNI plugin's log and that the node has tun and the traffic control it names.";
    BootDiskFull = "BOOT-DISK-FULL", Boot,
        "The host has no space for the pod VM's runtime files.",
        "Free space in the data and runtime folders.";
    AttestTrusteeUnreachable = "ATTEST-TRUSTEE-UNREACHABLE", Attest,
        "Trustee could not be reached or did not answer in time.",
        "Check that Trustee runs and that the guest's network reaches its URL.";
    AttestTrusteeCertificate = "ATTEST-TRUSTEE-CERTIFICATE", Attest,
        "Trustee's TLS certificate is not the one the initdata names.",
        "Make sure nobody stands between; renew the certificate in the plan if Trustee's changed.";
    AttestEvidenceUnavailable = "ATTEST-EVIDENCE-UNAVAILABLE", Attest,
        "The guest could not collect evidence from its TEE.",
        "Check the platform with `cocoon doctor` and the guest's console.";
    AttestProtocol = "ATTEST-PROTOCOL", Attest,
        "A message of the attestation protocol was malformed or out of order.",
        "Check that guest and Trustee speak a common protocol version.";
    AttestProtocolVersion = "ATTEST-PROTOCOL-VERSION", Attest,
        "The guest speaks a protocol version that this Trustee does not.",
        "Upgrade the older side.";
    AttestNonceReplayed = "ATTEST-NONCE-REPLAYED", Attest,
        "The nonce was used before or has expired.",
        "Begin a new handshake; if it repeats, somebody replays old messages.";
    AttestReportDataMismatch = "ATTEST-REPORT-DATA-MISMATCH", Attest,
        "The evidence was not made for this challenge and key (old or replayed evidence).",
        "Begin a new handshake; if it repeats, the host replays old evidence.";
    AttestEvidenceMalformed = "ATTEST-EVIDENCE-MALFORMED", Attest,
        "The evidence could not be parsed.",
        "Check the attester's version; the reason names the field.";
    AttestSignatureInvalid = "ATTEST-SIGNATURE-INVALID", Attest,
        "The evidence's signature does not verify.",
        "The evidence was altered or made by something that is not the TEE it claims to be.";
    AttestChainUntrusted = "ATTEST-CHAIN-UNTRUSTED", Attest,
        "The evidence's certificate chain does not end in a trusted vendor root.",
        "Only genuine TEEs are accepted; see the reason for the certificate at fault.";
    AttestCertificateExpired = "ATTEST-CERTIFICATE-EXPIRED", Attest,
        "A certificate of the evidence's chain is outside its validity.",
        "Renew collateral; check Trustee's clock.";
    AttestSimulatedRefused = "ATTEST-SIMULATED-REFUSED", Attest,
        "The evidence comes from a simulated TEE and this Trustee does not accept simulated roots.",
        "Use real hardware, or start a test Trustee with --accept-simulated.";
    AttestDebugEnabled = "ATTEST-DEBUG-ENABLED", Attest,
        "The TEE allows debugging, so its memory can be read from outside.",
        "Start the guest without the debug policy.";
    AttestPrivilegeLevel = "ATTEST-PRIVILEGE-LEVEL", Attest,
        "The report was requested from a privilege level other than VMPL 0.",
        "Use a guest that requests its evidence at VMPL 0.";
    AttestMeasurementUnknown = "ATTEST-MEASUREMENT-UNKNOWN", Attest,
        "The guest's launch measurement is not a known reference value.",
        "If you built this guest, register its reference values; otherwise kernel, initrd or firmware were changed.";
    AttestTcbOutdated = "ATTEST-TCB-OUTDATED", Attest,
        "The platform's TCB is older than the reference values accept.",
        "Update the machine's firmware or microcode, or accept the level knowingly.";
    AttestInitdataMismatch = "ATTEST-INITDATA-MISMATCH", Attest,
        "The initdata is not the one bound into the TEE (HOST_DATA differs): the plan was changed.",
        "Start the workload with the plan its owner registered.";
    AttestRevoked = "ATTEST-REVOKED", Attest,
        "A certificate of the evidence's chain was revoked by its issuer.",
        "Do not trust this machine; its vendor says that the key may be known to others.";
    AttestCollateralMissing = "ATTEST-COLLATERAL-MISSING", Attest,
        "The vendor's collateral for this platform (certificates, CRLs, TCB information) is not at hand.",
        "Let Trustee reach the vendor's service, or import a bundle (`cocoon collateral import`).";
    AttestCollateralInvalid = "ATTEST-COLLATERAL-INVALID", Attest,
        "The vendor's collateral for this platform does not verify or is out of date.",
        "Fetch it again; the reason names the document.";
    AttestTcbRevoked = "ATTEST-TCB-REVOKED", Attest,
        "The vendor has revoked the platform's TCB level, or does not know it.",
        "Update the machine's firmware; its attestation keys cannot be trusted.";
    AttestEventLogMismatch = "ATTEST-EVENT-LOG-MISMATCH", Attest,
        "The event log does not lead to the measured registers.",
        "The log was altered or belongs to another boot; collect both again.";
    AttestPcrSelection = "ATTEST-PCR-SELECTION", Attest,
        "The TPM's quote does not cover the registers and the bank that it is presented for.",
        "Quote all 24 registers of the SHA-256 bank, in order.";
    AttestKeyUntrusted = "ATTEST-KEY-UNTRUSTED", Attest,
        "Nothing vouches for the key that signed the evidence.",
        "Enrol the TPM's attestation key, or name it in the reference values (trusted_aks).";
    AttestTeeUnsupported = "ATTEST-TEE-UNSUPPORTED", Attest,
        "This Trustee has no verifier for that kind of TEE.",
        "Use a supported TEE; see docs.";
    ReleaseWorkloadUnknown = "RELEASE-WORKLOAD-UNKNOWN", Fetch,
        "No workload with this initdata digest is registered.",
        "Register the plan; if it is registered, somebody changed the plan.";
    ReleaseStatusInsufficient = "RELEASE-STATUS-INSUFFICIENT", Fetch,
        "The attestation's status is below what the release rule asks.",
        "See the verdict (`cocoon explain`) for the check that lowered it.";
    ReleaseDenied = "RELEASE-DENIED", Fetch,
        "No release rule lets this workload have that secret.",
        "Add a rule for the path if it should.";
    ReleaseSecretMissing = "RELEASE-SECRET-MISSING", Fetch,
        "There is no secret at that path.",
        "Set it with `cocoon secret set`.";
    ReleaseTokenInvalid = "RELEASE-TOKEN-INVALID", Fetch,
        "The attestation token is missing, expired or not from a trusted issuer.",
        "Attest again.";
    FetchFailed = "FETCH-FAILED", Fetch,
        "A secret or key could not be fetched from Trustee.",
        "See the reason; check that Trustee runs.";
    FetchUndecryptable = "FETCH-UNDECRYPTABLE", Fetch,
        "Trustee's answer could not be decrypted with the guest's key.",
        "Somebody altered the answer on its way, or the versions differ.";
    ImageRegistryUnreachable = "IMAGE-REGISTRY-UNREACHABLE", Pull,
        "The registry could not be reached from the guest.",
        "Check the registry's name and the pod's network.";
    ImageRegistryStalled = "IMAGE-REGISTRY-STALLED", Pull,
        "The registry stopped sending and did not resume within the retries allowed.",
        "Try again; check the registry and the network.";
    ImageRegistryAnswer = "IMAGE-REGISTRY-ANSWER", Pull,
        "The registry answered with something that is not its protocol.",
        "Check that the address is a registry and not a web page or a proxy.";
    ImageUnauthorized = "IMAGE-UNAUTHORIZED", Pull,
        "The registry refused the credentials.",
        "Log in (auth.json) and run again.";
    ImageNotFound = "IMAGE-NOT-FOUND", Pull,
        "The registry has no such manifest or blob.",
        "Check the name and digest; push the image again.";
    ImageManifestInvalid = "IMAGE-MANIFEST-INVALID", Pull,
        "The manifest or config is malformed or of an unsupported kind.",
        "Rebuild and push the image with a current tool.";
    ImageDigestMismatch = "IMAGE-DIGEST-MISMATCH", Pull,
        "Content does not have the digest by which it was named.",
        "The registry or the network altered it; push the image again.";
    ImageSizeMismatch = "IMAGE-SIZE-MISMATCH", Pull,
        "A blob is longer or shorter than its manifest says.",
        "The manifest lies or the blob was altered; push the image again.";
    ImageLayerUnsafe = "IMAGE-LAYER-UNSAFE", Pull,
        "A layer tries to leave its root file system or holds something images may not hold.",
        "Do not use this image; rebuild it from trusted sources.";
    ImageLayerCorrupt = "IMAGE-LAYER-CORRUPT", Pull,
        "A layer is not valid tar, gzip or zstd data.",
        "Rebuild and push the image.";
    ImageTooLarge = "IMAGE-TOO-LARGE", Pull,
        "The unpacked image does not fit the space the guest allows.",
        "Give the pod more --memory or a --scratch disk, or make the image smaller.";
    ImageUndecryptable = "IMAGE-UNDECRYPTABLE", Pull,
        "An encrypted layer could not be decrypted: wrong key, or the ciphertext was altered.",
        "Check the key that the image's annotation names in Trustee.";
    ImageKeyUnavailable = "IMAGE-KEY-UNAVAILABLE", Pull,
        "Trustee did not release the key of an encrypted layer.",
        "Make sure that the image key exists and that the workload may have it.";
    ImageSignatureMissing = "IMAGE-SIGNATURE-MISSING", Pull,
        "The image has no signature, but the plan requires one.",
        "Sign it with the required key (`cocoon image sign`), or drop --require-signature.";
    ImageSignatureInvalid = "IMAGE-SIGNATURE-INVALID", Pull,
        "No signature of the image verifies with the required key.",
        "Sign it with the required key; if it was, somebody replaced the image.";
    ImagePolicyRejected = "IMAGE-POLICY-REJECTED", Pull,
        "The signature policy does not allow the image under the name that the plan gives it.",
        "See the reason: sign the image as the policy asks, or change the policy.";
    ImagePolicyInvalid = "IMAGE-POLICY-INVALID", Pull,
        "A signature policy, trust root, registry configuration or proxy setting cannot be used.",
        "Mend the file that the reason names.";
    ImageLayerUnavailable = "IMAGE-LAYER-UNAVAILABLE", Pull,
        "The host did not attach a shared layer that the plan names.",
        "Check the node's layer cache (`cocoon layers`), or run with --layers guest.";
    ImageLayerTampered = "IMAGE-LAYER-TAMPERED", Serve,
        "A block of a shared layer is not what the plan's root hash says.",
        "The host's copy is damaged or was altered; remove it from the node's layer cache.";
    ImageScratchFailed = "IMAGE-SCRATCH-FAILED", Pull,
        "The encrypted scratch disk could not be set up.",
        "Check that the host attaches it in the size that the plan asks for.";
    ImageCacheFailed = "IMAGE-CACHE-FAILED", Boot,
        "The node's layer cache could not provide a layer.",
        "See the reason: space, permissions, or a registry that the node cannot reach.";
    ImagePullFailed = "IMAGE-PULL-FAILED", Pull,
        "The image could not be pulled.",
        "See the reason.";
    StartContainerFailed = "START-CONTAINER-FAILED", Start,
        "The container could not be built or started from the plan.",
        "See the reason: command, user or working directory may not exist in the image.";
    StartUserUnknown = "START-USER-UNKNOWN", Start,
        "The plan's user or group does not exist in the image.",
        "Use a numeric id or a name in the image's /etc/passwd.";
    StartUserRoot = "START-USER-ROOT", Start,
        "The container's user is root in the image, and the plan says that it must not run as root.",
        "Set runAsUser to a number other than 0, or use an image that names another user.";
    StartResources = "START-RESOURCES", Start,
        "The pod VM has too little memory or CPU for what was asked.",
        "Lower the request or give the pod more.";
    ServeFailed = "SERVE-FAILED", Serve,
        "The connection to the running workload was lost.",
        "See the reason; the workload was stopped.";
    StoreBusy = "STORE-BUSY", Register,
        "Another process holds Trustee's state.",
        "Stop the other Trustee, or point --trustee at it.";
    StoreCorrupt = "STORE-CORRUPT", Register,
        "Trustee's state cannot be read or is sealed with another key.",
        "Restore the data folder from a backup.";
    StoreFull = "STORE-FULL", Register,
        "Trustee's state could not be written: the disk is full.",
        "Free space in the data folder; nothing acknowledged was lost.";
    StoreUnavailable = "STORE-UNAVAILABLE", Register,
        "The database that keeps Trustee's state did not answer.",
        "See whether it runs and is reachable; nothing acknowledged was lost.";
    StoreQuota = "STORE-QUOTA", Register,
        "The tenant's quota is used up.",
        "Remove what is not needed, or ask the operator of Trustee for more.";
    AuditTampered = "AUDIT-TAMPERED", Register,
        "The audit log is not the one that was signed: entries were altered or are missing.",
        "Keep the evidence, restore from a backup, and find out who had access to the state.";
    AccessDenied = "ACCESS-DENIED", Register,
        "The administrator's credentials are missing, wrong, or do not allow this.",
        "Check the token or certificate and the role's endpoints.";
    PolicyInvalid = "POLICY-INVALID", Register,
        "The policy does not parse, or lacks what it must define.",
        "See the reason; nothing was stored.";
    PolicyFailed = "POLICY-FAILED", Attest,
        "A policy could not be evaluated.",
        "Try it with `cocoon policy dry-run`, or roll back to an earlier version.";
    ReferenceInvalid = "REFERENCE-INVALID", Register,
        "The reference value document is malformed, unsigned or signed by nobody who is trusted for it.",
        "See the reason; nothing was stored.";
    ConfigInvalid = "CONFIG-INVALID", Register,
        "Trustee's settings are not valid.",
        "See the reason, and `cocoon trustee config check`.";
    ServerBusy = "SERVER-BUSY", Attest,
        "Trustee has more requests than it takes, in all or from this address.",
        "Try again later.";
    UsageInvalid = "USAGE-INVALID", Plan,
        "The command line is not valid.",
        "See --help.";
    ClusterUnreachable = "CLUSTER-UNREACHABLE", Plan,
        "The cluster's API could not be reached, or no configuration says where it is.",
        "Check --kubeconfig, --context and that `kubectl get nodes` works.";
    ClusterRefused = "CLUSTER-REFUSED", Register,
        "The cluster's API refused an object or a request.",
        "See its words in the reason: rights, a field, or another who manages it (--force-conflicts).";
    ClusterTimeout = "CLUSTER-TIMEOUT", Serve,
        "Pods did not become ready in time.",
        "See the reason, `cocoon explain pod/NAME` and `kubectl describe pod`; give more --timeout if the node is slow.";
    VerifyNoProof = "VERIFY-NO-PROOF", Attest,
        "A pod that was asked for did not answer with a proof of what it is, or is not there.",
        "See `cocoon explain pod/NAME`; until it proves itself, take what it says for its host's words.";
    VerifyNotConfidential = "VERIFY-NOT-CONFIDENTIAL", Attest,
        "The pod is none of Cocoon's, or has no plan: nothing keeps its node from reading and changing it.",
        "Apply its manifest with `cocoon apply`; if that was done, somebody took the plan or the runtime class away.";
    VerifyPlanUnknown = "VERIFY-PLAN-UNKNOWN", Attest,
        "The pod's plan is not registered, no longer, or for another workload.",
        "If it is yours, run `cocoon apply` again or name it with --as or --plan; else somebody exchanged it: delete the pod.";
    VerifySameGuest = "VERIFY-SAME-GUEST", Attest,
        "One guest answered for several pods.",
        "Look at who drives the cluster: it passes off one guest's proof as another's, whose pod may be anything.";
    VerifyStatusLow = "VERIFY-STATUS-LOW", Attest,
        "The guest is genuine, but its appraisal is worse than its registration asks for.",
        "See the checks (--json); register reference values for what they name, or accept it with --min-status at registration.";
    NodeContainerdUnusable = "NODE-CONTAINERD-UNUSABLE", Boot,
        "containerd was not found on this node, does not run, or is of a version that Cocoon does not know.",
        "Install containerd 1.6, 1.7 or 2.x, or name its program and configuration with --containerd and --config.";
    NodeConfigRefused = "NODE-CONFIG-REFUSED", Boot,
        "containerd's configuration cannot be extended without breaking it, so it was left as it is.",
        "Mend what the reason names, check with `containerd config dump`, then install again.";
    NodeInstallFailed = "NODE-INSTALL-FAILED", Boot,
        "A step of the installation failed; everything that it had changed was put back.",
        "Mend what the reason names, then install again.";
    NodeBusy = "NODE-BUSY", Boot,
        "Another installation is at work on this node, or pods of Cocoon still run.",
        "Wait for it, or drain the node (`kubectl drain`); --force removes Cocoon under running pods.";
    NodeSilent = "NODE-SILENT", Boot,
        "A node did not follow a CocoonRuntime in the time that `update.progressDeadlineSeconds` gives it.",
        "Mend what the reason names (often an image that cannot be pulled), then change the spec, or set the annotation `cocoon.dev/retry`.";
    HostUnsupported = "HOST-UNSUPPORTED", Boot,
        "This machine lacks something Cocoon needs.",
        "Run `cocoon doctor`.";
    Internal = "INTERNAL", Serve,
        "Cocoon met a condition that should not occur.",
        "Please report it with the reason.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = ();

    /// The code with this text; `Err` for an unknown one.
    fn from_str(text: &str) -> Result<Self, ()> {
        Code::ALL.iter().copied().find(|c| c.as_str() == text).ok_or(())
    }
}

/// `docs/errors.md`: every code with its stage, meaning and next step.
pub fn render_errors_page() -> String {
    let mut page = String::from(
        "# Error codes\n\nRendered from `core/stage/src/codes.rs`; `cocoon errors` prints the same.\n\n\
         | code | stage | what happened | what to do |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        page.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            code.as_str(),
            code.stage(),
            code.summary().replace('|', "\\|"),
            code.next_step().replace('|', "\\|")
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_and_well_formed() {
        for (i, code) in Code::ALL.iter().enumerate() {
            let text = code.as_str();
            assert!(text.chars().all(|c| c.is_ascii_uppercase() || c == '-'), "{text}");
            assert_eq!(Code::ALL.iter().position(|c| c.as_str() == text), Some(i));
            assert_eq!(text.parse(), Ok(*code));
            assert!(code.summary().ends_with('.') && code.next_step().ends_with('.'), "{text}");
        }
    }

    #[test]
    fn the_checked_in_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, render_errors_page(), "run `cocoon errors > docs/errors.md`");
    }
}
