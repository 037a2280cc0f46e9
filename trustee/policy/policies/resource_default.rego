# Releases resources to guests all of whose devices are affirmed and none simulated.
#
# Upstream's Trustee looks only at whether the CPU is a sample and not at the appraisal; a guest whose evidence is
# contraindicated receives every resource from it.
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	is_object(input.submods.cpu0)
	every device in input.submods {
		device["ear.status"] == "affirming"
	}
	not simulated
}

simulated if {
	some device in input.submods
	some mark in ["ear.cocoon.simulated", "ear.trustee.simulated"]
	device[mark] != false
}

simulated if {
	some device in input.submods
	some tee in ["sample", "sampledevice"]
	is_object(device["ear.veraison.annotated-evidence"])
	object.get(device["ear.veraison.annotated-evidence"], tee, null) != null
}
