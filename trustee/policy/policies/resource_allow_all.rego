# Releases everything to every guest that has a token, whatever its appraisal. For tests only.
package policy

import rego.v1

default allow := true
