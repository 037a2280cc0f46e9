# Appraisal of a protected PCIe group: that the guest owns all eight GPUs and four switches of a machine.
#
# Where this differs from the policy that guests of upstream's Trustee know, and why: the counts are looked at, instead
# of taking the claim's being there for a full group. The devices themselves are appraised on their own.
package policy

import rego.v1

default configuration := 36

configuration := 2 if {
	input.nvidia.gpu_count == 8
	input.nvidia.switch_count == 4
}

trust_claims := {
	"executables": 0,
	"hardware": 0,
	"configuration": configuration,
	"instance-identity": 0,
	"file-system": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}
