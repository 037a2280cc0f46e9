# Appraisal of a Hygon DCU. Upstream's Trustee has no policy for it, so that its evidence is refused until an
# administrator writes one.
#
# This one affirms a device only by reference values: its measurement (dcu_measure) and its chip (dcu_chip_id). The
# evidence says nothing about the device's configuration, so nothing is claimed of it.
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

# One report, or several under their numbers. All must be known.
reports := [input.hygondcu] if input.hygondcu.body

else := [report | some report in input.hygondcu; report.body]

executables := 3 if {
	count(reports) > 0
	every report in reports {
		known("dcu_measure", report.body.measure)
	}
}

hardware := 2 if {
	count(reports) > 0
	every report in reports {
		known("dcu_chip_id", report.body.chip_id)
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
