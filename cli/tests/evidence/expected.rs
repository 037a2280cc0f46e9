//! What each recorded vector must give: verdicts, what is shown of it, or that it is no evidence.

/// Report data of the SNP evidence.
pub const GENOA: &str = "7e7320889600c7ac133aea7b896c51f41026002982292a7369559796999c1bf9\
                     29eef3ff23c46e858f0b1982f9a92b17c51b578d958cde6b0c92978f150cf9b0";

/// Files and flags, and the checks that fail with their codes, the reason first; `…` at the end: and others.
pub const VERDICTS: &[(&str, &str)] = &[
    ("snp/genoa-v3-evidence.json", ""),
    ("snp/genoa-v3-evidence.json --tee snp --report-data GENOA", ""),
    ("snp/genoa-v3-evidence.json --report-data 00", "report.report-data REPORT-DATA-MISMATCH"),
    ("snp/genoa-v3-evidence.json --init-data-digest 00", ""),
    ("snp/genoa-v3-evidence.json --init-data-digest 01", "report.host-data INITDATA-MISMATCH"),
    ("snp/genoa-v3-evidence.json --require-crl", "certificate.revocation COLLATERAL-MISSING"),
    ("snp/genoa-v3-evidence.json --at 2033-01-01", "certificate.validity CERTIFICATE-EXPIRED"),
    ("snp/test-report.bin --certificate snp/test-vcek.der --allow-v2", ""),
    ("snp/test-report.bin --certificate snp/test-vcek.der", "report.version EVIDENCE-MALFORMED"),
    (
        "snp/test-report.bin --allow-v2",
        "certificate.chain COLLATERAL-MISSING, report.signature SIGNATURE-INVALID",
    ),
    (
        "snp/test-report.bin --certificate snp/test-vcek-invalid-legacy.der --allow-v2",
        "certificate.chain CHAIN-UNTRUSTED, report.signature SIGNATURE-INVALID, …",
    ),
    (
        "snp/test-report.bin --certificate snp/test-vcek-invalid-new.der --allow-v2",
        "certificate.chain CHAIN-UNTRUSTED, report.signature SIGNATURE-INVALID, …",
    ),
    (
        "snp/test-report.bin --certificate snp/test-vlek.der --allow-v2",
        "report.signature SIGNATURE-INVALID, certificate.validity CERTIFICATE-EXPIRED, …",
    ),
    ("snp/test-vlek-report.bin --certificate snp/test-vlek.der --max-vmpl 1 --at 2025-06-01", ""),
    (
        "snp/test-vlek-report.bin --certificate snp/test-vlek.der --at 2025-06-01",
        "report.vmpl PRIVILEGE-LEVEL",
    ),
    (
        "snp/test-vlek-report.bin --certificate snp/test-vlek.der",
        "certificate.validity CERTIFICATE-EXPIRED, report.vmpl PRIVILEGE-LEVEL",
    ),
    ("tdx/tdx_quote --collateral tdx/tdx_quote_collateral.json --at 2025-06-25", ""),
    ("tdx/tdx_quote", INTEL_MISSING),
    ("tdx/tdx_quote --collateral tdx/tdx_quote_collateral.json", "root-crl.update COLLATERAL-INVALID, …"),
    ("tdx/tdx_quote_4.dat", "root-crl.document COLLATERAL-MISSING, td.debug DEBUG-ENABLED, …"),
    (
        "tdx/tdx_quote_4.dat --event-log tdx/CCEL_data",
        "root-crl.document COLLATERAL-MISSING, eventlog.replay EVENT-LOG-MISMATCH, …",
    ),
    (
        "tdx/tdx_quote_4.dat --collateral tdx/tdx_quote_collateral.json --at 2025-06-25",
        "tcb-info.platform COLLATERAL-INVALID, td.debug DEBUG-ENABLED, …",
    ),
    // A service TD, which may migrate it, is bound to it.
    ("tdx/tdx_quote_5.dat", "root-crl.document COLLATERAL-MISSING, td.migration DEBUG-ENABLED, …"),
    ("sgx/sgx_quote --collateral sgx/sgx_quote_collateral.json --at 2025-06-25", ""),
    ("sgx/sgx_quote", INTEL_MISSING),
    ("sgx/occlum_quote.dat", "root-crl.document COLLATERAL-MISSING, enclave.debug DEBUG-ENABLED, …"),
    (
        "sgx/occlum_quote.dat --collateral sgx/sgx_quote_collateral.json --at 2025-06-25",
        "pck-crl.chain COLLATERAL-INVALID, enclave.debug DEBUG-ENABLED, …",
    ),
    ("tpm/tpm_evidence.json", "ak.trust KEY-UNTRUSTED"),
    (
        "tpm/tpm_evidence.json --report-data 00",
        "ak.trust KEY-UNTRUSTED, tpm.report-data REPORT-DATA-MISMATCH",
    ),
    ("az-snp-vtpm/evidence-v0.json --report-data 6368616c6c656e6765", ""),
    ("az-snp-vtpm/evidence-v1.json --report-data 6368616c6c656e6765", ""),
    (
        "az-snp-vtpm/evidence-v2.json --report-data \
         982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef",
        "",
    ),
    ("az-snp-vtpm/evidence-v1.json --report-data 63", "tpm.report-data REPORT-DATA-MISMATCH"),
    (
        "az-snp-vtpm/evidence-v2.json --report-data 63",
        "tpm.report-data REPORT-DATA-MISMATCH, hcl.user-data REPORT-DATA-MISMATCH",
    ),
    ("az-snp-vtpm/evidence-v1.json --init-data-digest 63", "tpm.init-data INITDATA-MISMATCH"),
    ("az-tdx-vtpm/evidence-v0.json --report-data 6368616c6c656e6765", INTEL_MISSING),
    ("az-tdx-vtpm/evidence-v1.json --report-data 6368616c6c656e6765", INTEL_MISSING),
    ("az-tdx-vtpm/td-quote.bin", INTEL_MISSING),
    ("cca/cca-example-token.cbor --cca-trust-anchors cca/tastore.json --cca-references cca/rvstore.json", ""),
    (
        "cca/cca-example-token.cbor --cca-trust-anchors cca/tastore.json --cca-references cca/rvstore.json \
         --report-data 00",
        "realm.challenge REPORT-DATA-MISMATCH",
    ),
    (
        "cca/cca-example-token.cbor",
        "platform.trust-anchor CHAIN-UNTRUSTED, platform.signature SIGNATURE-INVALID, \
         platform.sw-components MEASUREMENT-UNKNOWN",
    ),
    (
        "csv/csv_evidence.json",
        "hsk.chain COLLATERAL-MISSING, cek.chain COLLATERAL-MISSING, pek.chain COLLATERAL-MISSING",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_cert_chain_case1.txt --tee nvidia \
         --report-data 931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb",
        "",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_cert_chain_case2.txt",
        "certificates.chain CHAIN-UNTRUSTED, report.signature SIGNATURE-INVALID, …",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_cert_chain_case3.txt",
        "certificates.chain CHAIN-UNTRUSTED, certificates.architecture CHAIN-UNTRUSTED",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_cert_chain_case4.txt",
        "certificates.chain CHAIN-UNTRUSTED, report.signature SIGNATURE-INVALID, …",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_coco_certs1.txt",
        "report.signature SIGNATURE-INVALID, report.fwid CHAIN-UNTRUSTED",
    ),
    (
        "nvidia/hopperAttestationReport.txt --certificate nvidia/hopper_signing_cert.pem",
        "certificates.chain CHAIN-UNTRUSTED, …",
    ),
    (
        "nvidia/hopper_coco_report1.txt --certificate nvidia/hopper_coco_certs1.txt --report-data \
         87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec",
        "",
    ),
    (
        "nvidia/hopper_coco_report1.txt --certificate nvidia/hopper_coco_certs1.txt --report-data 87",
        "report.nonce REPORT-DATA-MISMATCH",
    ),
    (
        "nvidia/hopper_coco_report1.txt --certificate nvidia/hopper_coco_certs1.txt --require-rims",
        "rim.driver COLLATERAL-MISSING, rim.firmware COLLATERAL-MISSING",
    ),
];

/// All that verification of a good quote says where Intel's collateral is not at hand.
const INTEL_MISSING: &str = "root-crl.document COLLATERAL-MISSING, pck-crl.document COLLATERAL-MISSING, pck-ca.revocation \
     COLLATERAL-MISSING, tcb-info.document COLLATERAL-MISSING, qe-identity.document COLLATERAL-MISSING, \
     pck.revocation COLLATERAL-MISSING, tcb.status COLLATERAL-MISSING";

/// What `show` says of each file that it can read: `kind` where it is no evidence, and the line about its form.
pub const SHOWN: &[(&str, &str, &str)] = &[
    ("snp/genoa-v3-evidence.json", "evidence", "snp evidence (JSON, report version 3, Genoa)"),
    ("snp/test-report.bin", "evidence", "snp evidence (binary, report version 2, processor not named)"),
    ("snp/test-vlek-report.bin", "evidence", "snp evidence (binary, report version 3, Milan)"),
    ("snp/test-vcek.der", "certificates", "1 certificate (DER)"),
    ("snp/test-vcek-invalid-legacy.der", "certificates", "1 certificate (DER)"),
    ("snp/test-vcek-invalid-new.der", "certificates", "1 certificate (DER)"),
    ("snp/test-vlek.der", "certificates", "1 certificate (DER)"),
    ("tdx/tdx_quote", "evidence", "tdx evidence (binary, quote version 4, TDX 1.0 body, no event log)"),
    ("tdx/tdx_quote_4.dat", "evidence", "tdx evidence (binary, quote version 4, TDX 1.0 body, no event log)"),
    ("tdx/tdx_quote_5.dat", "evidence", "tdx evidence (binary, quote version 5, TDX 1.5 body, no event log)"),
    ("tdx/tdx_report_1.bin", "td-report", "TD report (binary, TDX 1.5)"),
    (
        "tdx/tdx_quote_collateral.json",
        "quote-collateral",
        "Intel quote collateral (JSON, TDX, version 3, FMSPC B0C06F000000, \
         2025-06-19T10:16:03Z to 2025-07-19T10:16:03Z)",
    ),
    (
        "tdx/tcbInfo.json",
        "intel-tcb-info",
        "Intel TCB information (JSON, TDX, version 3, FMSPC 00A06D080000, \
         2025-10-27T13:07:17Z to 2025-11-26T13:07:17Z)",
    ),
    (
        "tdx/enclaveIdentity.json",
        "intel-qe-identity",
        "Intel quoting enclave identity (JSON, TD_QE, version 2, 2025-10-28T06:45:09Z to 2025-11-27T06:45:09Z)",
    ),
    ("tdx/CCEL_data", "event-log", "event log (binary, SHA-384, 5 events)"),
    ("tdx/CCEL_data_ovmf", "event-log", "event log (binary, SHA-384, 20 events)"),
    ("sgx/sgx_quote", "evidence", "sgx evidence (binary, quote version 3)"),
    ("sgx/occlum_quote.dat", "evidence", "sgx evidence (binary, quote version 3)"),
    (
        "sgx/sgx_quote_collateral.json",
        "quote-collateral",
        "Intel quote collateral (JSON, SGX, version 3, FMSPC 00A067110000, \
         2025-06-19T10:56:11Z to 2025-07-19T10:56:11Z)",
    ),
    ("tpm/tpm_evidence.json", "evidence", "tpm evidence (JSON, TPM 2.0 quote, 24 registers of SHA-256)"),
    (
        "az-snp-vtpm/evidence-v0.json",
        "evidence",
        "az-snp-vtpm evidence (JSON, version 0, HCL report version 1)",
    ),
    (
        "az-snp-vtpm/evidence-v1.json",
        "evidence",
        "az-snp-vtpm evidence (JSON, version 1, HCL report version 1)",
    ),
    (
        "az-snp-vtpm/evidence-v2.json",
        "evidence",
        "az-snp-vtpm evidence (JSON, version 2, HCL report version 1)",
    ),
    (
        "az-snp-vtpm/hcl-report.bin",
        "hcl-report",
        "HCL report (binary, version 1, snp, report version 2, processor not named)",
    ),
    ("az-snp-vtpm/vcek.pem", "certificates", "3 certificates (PEM)"),
    ("az-snp-vtpm/tpm-quote.msg", "tpm-quote", "TPM 2.0 quote (binary, TPMS_ATTEST)"),
    ("az-snp-vtpm/tpm-quote-v1.json", "vtpm-quote", "vTPM quote (JSON, 24 registers)"),
    ("az-snp-vtpm/quote.bin", "vtpm-quote", "vTPM quote (bincode, 24 registers)"),
    (
        "az-tdx-vtpm/evidence-v0.json",
        "evidence",
        "az-tdx-vtpm evidence (JSON, version 0, HCL report version 2, quote version 4, TDX 1.0 body)",
    ),
    (
        "az-tdx-vtpm/evidence-v1.json",
        "evidence",
        "az-tdx-vtpm evidence (JSON, version 1, HCL report version 2, quote version 4, TDX 1.0 body)",
    ),
    ("az-tdx-vtpm/hcl-report.bin", "hcl-report", "HCL report (binary, version 2, tdx, TDX 1.0)"),
    (
        "az-tdx-vtpm/td-quote.bin",
        "evidence",
        "tdx evidence (binary, quote version 4, TDX 1.0 body, no event log)",
    ),
    ("az-tdx-vtpm/tpm-quote-v1.json", "vtpm-quote", "vTPM quote (JSON, 24 registers)"),
    ("az-tdx-vtpm/quote.bin", "vtpm-quote", "vTPM quote (bincode, 24 registers)"),
    (
        "cca/cca-example-token.cbor",
        "evidence",
        "cca evidence (binary, platform http://arm.com/CCA-SSD/1.0.0)",
    ),
    ("csv/csv_evidence.json", "evidence", "csv evidence (JSON, report version 1)"),
    ("nvidia/hopperAttestationReport.txt", "nvidia-report", "NVIDIA attestation report (hex, SPDM 1.1, GPU)"),
    ("nvidia/hopper_coco_report1.txt", "nvidia-report", "NVIDIA attestation report (hex, SPDM 1.1, GPU)"),
    ("nvidia/hopper_cert_chain_case1.txt", "certificates", "5 certificates (PEM)"),
    ("nvidia/hopper_cert_chain_case2.txt", "certificates", "1 certificate (PEM)"),
    ("nvidia/hopper_cert_chain_case3.txt", "certificates", "4 certificates (PEM)"),
    ("nvidia/hopper_cert_chain_case4.txt", "certificates", "4 certificates (PEM)"),
    ("nvidia/hopper_coco_certs1.txt", "certificates", "5 certificates (PEM)"),
    ("nvidia/hopper_signing_cert.pem", "certificates", "1 certificate (PEM)"),
    ("eventlog/CCEL_AAEL_alibabacloud", "event-log", "event log (binary, SHA-384, 87 events)"),
    ("eventlog/CCEL_data", "event-log", "event log (binary, SHA-384, 5 events)"),
    ("eventlog/CCEL_data_csv", "event-log", "event log (binary, SM3, 82 events)"),
    ("eventlog/CCEL_data_gcp", "event-log", "event log (binary, SHA-384, 21 events)"),
    ("eventlog/CCEL_data_grub", "event-log", "event log (binary, SHA-384, 37 events)"),
    ("eventlog/CCEL_data_grub_gke", "event-log", "event log (binary, SHA-384, 35 events)"),
    ("eventlog/CCEL_data_ovmf", "event-log", "event log (binary, SHA-384, 20 events)"),
];

/// No evidence and no part of any: keys, stores, requests, what tests expect, and a signature, which is 256 random bytes.
pub const OTHER: &[&str] = &[
    "az-snp-vtpm/tpm-quote.sig",
    "cca/cca-claims.json",
    "cca/cpak-priv.json",
    "cca/cpak-pub.json",
    "cca/kbs-request.json",
    "cca/rak-priv.json",
    "cca/rvstore.json",
    "cca/tastore.json",
    "eventlog/CCEL_AAEL_alibabacloud_out.json",
    "eventlog/CCEL_data_csv_out.json",
    "eventlog/CCEL_data_grub_gke_out.json",
    "eventlog/CCEL_data_grub_out.json",
    "eventlog/CCEL_data_out.json",
    "eventlog/CCEL_data_ovmf_out.json",
    "nvidia/hopperAttestationReport-claims.txt",
    "tdx/parse_tdx_claims_expected.json",
];
