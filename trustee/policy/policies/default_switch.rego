# Appraisal of an NVIDIA NVSwitch by the claims of NVIDIA's remote attestation service.
#
# Where this differs from the policy that guests of upstream's Trustee know, and why:
# - The report must be for this challenge's nonce by the service's own word too.
# - Claims must be exactly true, and a reference value that is not registered never matches.
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

all_true(names) if {
	every name in names {
		input.nvidia[name] == true
	}
}

chain_good(name) if {
	chain := input.nvidia[name]
	chain["x-nvidia-cert-status"] == "valid"
	chain["x-nvidia-cert-ocsp-status"] == "good"
}

hardware := 2 if {
	chain_good("x-nvidia-switch-attestation-report-cert-chain")
	all_true([
		"x-nvidia-switch-arch-check",
		"x-nvidia-switch-attestation-report-cert-chain-fwid-match",
		"x-nvidia-switch-attestation-report-nonce-match",
		"x-nvidia-switch-attestation-report-parsed",
		"x-nvidia-switch-attestation-report-signature-verified",
	])
}

closed if {
	input.nvidia.secboot == true
	input.nvidia.dbgstat == "disabled"
}

# Where versions are registered, a device has one of them.
fits(id, claim) if known(id, claim)

fits(id, _) if query_reference_value(id) == null

configuration := 2 if {
	closed
	known("allowed_switch_bios_versions", input.nvidia["x-nvidia-switch-bios-version"])
} else := 3 if {
	closed
	fits("allowed_switch_bios_versions", input.nvidia["x-nvidia-switch-bios-version"])
}

executables := 3 if {
	input.nvidia.measres == "success"
	chain_good("x-nvidia-switch-bios-rim-cert-chain")
	all_true([
		"x-nvidia-switch-bios-rim-fetched",
		"x-nvidia-switch-bios-rim-measurements-available",
		"x-nvidia-switch-bios-rim-schema-validated",
		"x-nvidia-switch-bios-rim-signature-verified",
		"x-nvidia-switch-bios-rim-version-match",
	])
}
