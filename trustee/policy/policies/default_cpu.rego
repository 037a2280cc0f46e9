# Appraisal of a CPU's TEE: sample, SNP, TDX, SNP and TDX behind Azure's vTPM, TPM, Secure Execution.
#
# Values are AR4SI's: up to 31 affirming, to 95 warning, beyond contraindicated. What no rule below recognises stays
# unrecognised code (33), unrecognised hardware (97), unknown configuration (36).
#
# Where this differs from the policy that guests of upstream's Trustee know, and why:
# - A reference value that is not registered never matches a claim that is null.
# - sample: the token says that the TEE is simulated, so that a resource policy can tell.
# - az-snp-vtpm, az-tdx-vtpm: the hypervisor's debug access must be off, else the configuration is not known good.
# - az-snp-vtpm, az-tdx-vtpm, tpm: beside PCR 11 also PCR 4 (snp_pcr04, tdx_pcr04, tpm_pcr04), the boot loader that firmware
#   measured. Whoever is root in a guest of his own can extend PCR 11 to any value; he cannot take PCR 4 back.
# - tpm: instead of PCR 11 also PCR 9 (tpm_pcr09), with PCR 2 (tpm_pcr02, option ROMs and drivers), for guests whose kernel
#   firmware starts directly. Firmware, drivers and settings (tpm_pcr00, tpm_pcr02, tpm_pcr07) make the configuration known
#   good; without them it is unknown (36, a warning), and of a simulated TPM nothing is said.
# - az-tdx-vtpm: measured by names of its own (az_tdx_mr_td, az_tdx_xfam). A guest with a firmware that is good for plain TDX
#   could otherwise vouch for a software TPM.
# - tpm: the key that signed the quote must be enrolled or proved by a TPM whose endorsement key is known (tpm_ek; the
#   verifier says so in ak_trusted) or a reference value
#   (trusted_aks or trusted_ak), for the hardware too; anybody can make a key that looks like a TPM's.
# - se: image tag and both host key hashes must be reference values (se_tag, se_image_phkh, se_attestation_phkh);
#   that the measurement verifies says nothing about what runs.
# - sgx, cca, csv: upstream has no rules, so that such guests are refused; here they have reference values of their own
#   (sgx_mr_enclave, sgx_mr_signer; cca_realm_initial_measurement, cca_platform_config; csv_measure, csv_build).
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"instance-identity": 0,
	"file-system": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

# Whether a claim is the reference value, or one of them.
known(id, claim) if {
	claim != null
	values := query_reference_value(id)
	is_array(values)
	claim in values
}

known(id, claim) if {
	claim != null
	claim == query_reference_value(id)
}

# --- sample ---

executables := 3 if known("launch_digest", input.sample.launch_digest)

hardware := 2 if {
	known("svn", input.sample.svn)
	known("major_version", input.sample.platform_version.major)
	minimum := query_reference_value("minimum_minor_version")
	is_number(minimum)
	is_number(input.sample.platform_version.minor)
	input.sample.platform_version.minor >= minimum
}

configuration := 2 if input.sample.debug == false

# --- snp: numbers are numbers, switches are booleans ---

executables := 3 if known("snp_launch_measurement", input.snp.measurement)

hardware := 2 if {
	known("snp_bootloader", input.snp.reported_tcb_bootloader)
	known("snp_microcode", input.snp.reported_tcb_microcode)
	known("snp_snp_svn", input.snp.reported_tcb_snp)
	known("snp_tee_svn", input.snp.reported_tcb_tee)
}

snp_closed if {
	input.snp.policy_debug_allowed == false
	input.snp.policy_migrate_ma == false
}

snp_as_expected if {
	known("snp_smt_enabled", input.snp.platform_smt_enabled)
	known("snp_tsme_enabled", input.snp.platform_tsme_enabled)
	known("snp_guest_abi_major", input.snp.policy_abi_major)
	known("snp_guest_abi_minor", input.snp.policy_abi_minor)
	known("snp_single_socket", input.snp.policy_single_socket)
	known("snp_smt_allowed", input.snp.policy_smt_allowed)
}

configuration := 2 if {
	snp_closed
	snp_as_expected
} else := 3 if snp_closed

# --- tdx ---

tdx_runtime if {
	known("rtmr_1", input.tdx.quote.body.rtmr_1)
	known("rtmr_2", input.tdx.quote.body.rtmr_2)
}

tdx_kernel if {
	some event in input.tdx.uefi_event_logs
	event.type_name == "EV_EFI_BOOT_SERVICES_APPLICATION"
	"File(kernel)" in event.details.device_paths
	some entry in event.digests
	known("tdvfkernel", entry.digest)
}

tdx_parameters if {
	some event in input.tdx.uefi_event_logs
	event.type_name == "EV_EVENT_TAG"
	event.details.string == "LOADED_IMAGE::LoadOptions"
	some entry in event.digests
	known("tdvfkernelparams", entry.digest)
}

executables := 3 if {
	tdx_runtime
	tdx_kernel
	tdx_parameters
} else := 4 if tdx_runtime

# A quote of an Intel TDX guest, on a platform without known faults.
tdx_genuine(claims) if {
	claims.quote.header.tee_type == "81000000"
	claims.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
	claims.tcb_status == "UpToDate"
	claims.collateral_expiration_status == "0"
}

hardware := 2 if {
	tdx_genuine(input.tdx)
	known("mr_td", input.tdx.quote.body.mr_td)
}

configuration := 2 if {
	input.tdx.td_attributes.debug == false
	known("xfam", input.tdx.quote.body.xfam)
}

# --- az-snp-vtpm: numbers and switches are text ---

az_snp := input["az-snp-vtpm"]

executables := 3 if {
	known("measurement", az_snp.measurement)
	known("snp_pcr04", az_snp.tpm.pcr04)
	known("snp_pcr11", az_snp.tpm.pcr11)
}

hardware := 2 if {
	known("tcb_bootloader", az_snp.reported_tcb_bootloader)
	known("tcb_microcode", az_snp.reported_tcb_microcode)
	known("tcb_snp", az_snp.reported_tcb_snp)
	known("tcb_tee", az_snp.reported_tcb_tee)
}

configuration := 2 if {
	az_snp.policy_debug_allowed == "false"
	az_snp.policy_migrate_ma == "false"
	known("smt_enabled", az_snp.platform_smt_enabled)
	known("tsme_enabled", az_snp.platform_tsme_enabled)
	known("abi_major", az_snp.policy_abi_major)
	known("abi_minor", az_snp.policy_abi_minor)
	known("single_socket", az_snp.policy_single_socket)
	known("smt_allowed", az_snp.policy_smt_allowed)
}

# --- az-tdx-vtpm ---

az_tdx := input["az-tdx-vtpm"]

executables := 3 if {
	known("tdx_pcr04", az_tdx.tpm.pcr04)
	known("tdx_pcr11", az_tdx.tpm.pcr11)
}

hardware := 2 if {
	tdx_genuine(az_tdx)
	known("az_tdx_mr_td", az_tdx.quote.body.mr_td)
}

configuration := 2 if {
	az_tdx.td_attributes.debug == false
	known("az_tdx_xfam", az_tdx.quote.body.xfam)
}

# --- tpm: firmware, its drivers and its settings must be known; of a simulated TPM nothing is said without them ---

tpm_trusted if input.tpm.ak_trusted == true

tpm_trusted if known("trusted_aks", input.tpm.ak_public)

tpm_trusted if known("trusted_ak", input.tpm.ak_public)

# A unified kernel image measures itself into register 11.
executables := 3 if {
	tpm_trusted
	known("tpm_pcr04", input.tpm.pcr04)
	known("tpm_pcr11", input.tpm.pcr11)
}

# A kernel that firmware starts directly measures its command line and its initrd into register 9. Register 2 is drivers and
# option ROMs, which run before the kernel; with none it is the same everywhere.
executables := 3 if {
	tpm_trusted
	known("tpm_pcr04", input.tpm.pcr04)
	known("tpm_pcr02", input.tpm.pcr02)
	known("tpm_pcr09", input.tpm.pcr09)
}

hardware := 2 if tpm_trusted

configuration := 2 if {
	tpm_trusted
	known("tpm_pcr00", input.tpm.pcr00)
	known("tpm_pcr02", input.tpm.pcr02)
	known("tpm_pcr07", input.tpm.pcr07)
} else := 0 if {
	tpm_trusted
	input.tpm.tpm_simulated == true
}

# --- se ---

se_keys if {
	known("se_image_phkh", input.se.image_phkh)
	known("se_attestation_phkh", input.se.attestation_phkh)
}

executables := 3 if {
	se_keys
	known("se_tag", input.se.tag)
}

hardware := 2 if se_keys

configuration := 2 if se_keys

# --- sgx: an enclave is its measurement; its signer answers for what the host may run beside it ---

sgx_closed if {
	input.sgx.attributes.debug == false
	input.sgx.attributes.einittoken_key == false
}

executables := 3 if known("sgx_mr_enclave", input.sgx.body.mr_enclave)

hardware := 2 if {
	input.sgx.tcb_status == "UpToDate"
	input.sgx.collateral_expiration_status == "0"
	known("sgx_mr_signer", input.sgx.body.mr_signer)
}

configuration := 2 if {
	sgx_closed
	known("sgx_isv_svn", input.sgx.body.isv_svn)
} else := 3 if sgx_closed

# --- cca: the verifier has held platform and key against the operator's endorsements ---

# What firmware measured after the start; a realm that is booted directly has nothing there.
cca_extended(measurement) if {
	is_string(measurement)
	regex.match(`^A+=*$`, measurement)
}

cca_extended(measurement) if known("cca_realm_extensible_measurements", measurement)

executables := 3 if {
	known("cca_realm_initial_measurement", input.cca.realm["cca-realm-initial-measurement"])
	every measurement in input.cca.realm["cca-realm-extensible-measurements"] {
		cca_extended(measurement)
	}
}

hardware := 2 if {
	input.cca.platform["cca-platform-lifecycle-state"] == "secured"
	known("cca_platform_config", input.cca.platform["cca-platform-config"])
}

# Of a realm's configuration the token says nothing but what is measured.
configuration := 0 if input.cca.platform["cca-platform-lifecycle-state"] == "secured"

# --- csv: in version 1 nobody signs the mask over all fields, so its firmware is not known good ---

# The policy is not measured, so the host chooses it: without es it holds the registers.
csv_closed if {
	input.csv.policy.nodbg == 1
	input.csv.policy.noks == 1
	input.csv.policy.nosend == 1
	input.csv.policy.es == 1
}

# What firmware measured after the start; a guest that is booted directly has nothing there. Version 1 has no registers.
csv_extended if input.csv.version == "1"

csv_extended if {
	input.csv.version == "2"
	every name in ["rtmr1", "rtmr2", "rtmr3", "rtmr4"] {
		csv_register(input.csv[name], name)
	}
}

csv_register(value, _) if {
	is_string(value)
	regex.match(`^0+$`, value)
}

csv_register(value, name) if known(concat("_", ["csv", name]), value)

executables := 3 if {
	known("csv_measure", input.csv.measure)
	csv_extended
}

# Only the third generation keeps the host from remapping memory.
hardware := 2 if {
	input.csv.version == "2"
	input.csv.policy.csv3 == 1
	known("csv_build", input.csv.build)
} else := 32 if {
	csv_closed
	known("csv_measure", input.csv.measure)
}

configuration := 2 if csv_closed

# --- what the token says besides ---

# Images and users of the containers that the measured agent policy allows.
containers := input.init_data_claims.agent_policy_claims.containers

images := [image | some container in containers; image := container.OCI.Annotations["io.kubernetes.cri.image-name"]]

users := [user | some container in containers; user := container.OCI.Process.User.UID]

identifiers := [{
	"name": "ear.trustee.identifiers",
	"key": -18,
	"value": {"validated": {"container_images": images, "container_uids": users}},
} |
	containers
]

simulated := [{"name": "ear.trustee.simulated", "key": -70001, "value": true} | input.sample]

extensions := array.concat(identifiers, simulated)
