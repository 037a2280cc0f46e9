# Appraisal of an NVIDIA BlueField DPU by its DICE layers. Upstream's Trustee has no policy for it, so that its
# evidence is refused until an administrator writes one.
#
# This one affirms a device only by reference values: the device class (dpu_device_class) and the digest of every
# layer's firmware (dpu_fwids). The evidence says nothing about a configuration, so nothing is claimed of it.
package policy

import rego.v1

default executables := 33

default hardware := 97

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

dpu := input["nvidia-dpu"]

hardware := 2 if known("dpu_device_class", dpu.device_class)

executables := 3 if {
	is_array(dpu.layers)
	count(dpu.layers) > 0
	every layer in dpu.layers {
		known("dpu_fwids", layer.fwid)
	}
}

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": 0,
	"instance-identity": 0,
	"file-system": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}
