# Appraisal of an NVIDIA GPU by the claims of NVIDIA's remote attestation service, and of the sample device.
#
# Where this differs from the policy that guests of upstream's Trustee know, and why:
# - The report must be for this challenge's nonce by the service's own word too.
# - Claims must be exactly true; a text in their place is not.
# - Reference values are asked for, not read from a data document that nobody fills; one that is not registered never
#   matches. A local verdict, which compares no firmware measurements, is therefore not affirmed.
# - The sample device's token says that it is simulated.
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
	chain_good("x-nvidia-gpu-attestation-report-cert-chain")
	all_true([
		"x-nvidia-gpu-arch-check",
		"x-nvidia-gpu-attestation-report-cert-chain-fwid-match",
		"x-nvidia-gpu-attestation-report-nonce-match",
		"x-nvidia-gpu-attestation-report-parsed",
		"x-nvidia-gpu-attestation-report-signature-verified",
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
	known("allowed_vbios_versions", input.nvidia["x-nvidia-gpu-vbios-version"])
	known("allowed_driver_versions", input.nvidia["x-nvidia-gpu-driver-version"])
} else := 3 if {
	closed
	fits("allowed_vbios_versions", input.nvidia["x-nvidia-gpu-vbios-version"])
	fits("allowed_driver_versions", input.nvidia["x-nvidia-gpu-driver-version"])
}

executables := 3 if {
	input.nvidia.measres == "success"
	chain_good("x-nvidia-gpu-driver-rim-cert-chain")
	chain_good("x-nvidia-gpu-vbios-rim-cert-chain")
	all_true([
		"x-nvidia-gpu-driver-rim-fetched",
		"x-nvidia-gpu-driver-rim-measurements-available",
		"x-nvidia-gpu-driver-rim-schema-validated",
		"x-nvidia-gpu-driver-rim-signature-verified",
		"x-nvidia-gpu-driver-rim-version-match",
		"x-nvidia-gpu-vbios-index-no-conflict",
		"x-nvidia-gpu-vbios-rim-fetched",
		"x-nvidia-gpu-vbios-rim-measurements-available",
		"x-nvidia-gpu-vbios-rim-schema-validated",
		"x-nvidia-gpu-vbios-rim-signature-verified",
		"x-nvidia-gpu-vbios-rim-version-match",
	])
}

# --- a device that was verified here alone, without NVIDIA's service ---

# Which says nothing of secure boot and debugging; they follow from the certificate, which names the firmware's digest.
here if {
	is_array(input.nvidia.rims)
	not input.nvidia["x-nvidia-gpu-attestation-report-parsed"]
}

hardware := 2 if {
	here
	is_string(input.nvidia.fwid)
}

executables := 3 if {
	here
	count(input.nvidia.rims) > 0
	input.nvidia.measres == "success"
}

configuration := 3 if {
	here
	known("allowed_vbios_versions", input.nvidia.vbios_version)
	known("allowed_driver_versions", input.nvidia.driver_version)
}

# --- sample device ---

hardware := 2 if known("device_svn", input.sampledevice.svn)

extensions := [{"name": "ear.trustee.simulated", "key": -70001, "value": true} | input.sampledevice]
