#!/usr/bin/env bash
# All tests of the workspace; `make test` builds what they need and calls it. Stories on a real Kubernetes, most of which is waiting, run
# beside all others, which pass them over; what they said comes at the end. COCOON_SKIP_KUBERNETES=1 goes without them.
set -uo pipefail

cd "$(dirname "$0")/.."
test=(cargo test --locked --workspace --no-fail-fast)
"${test[@]}" --no-run || exit
[ "${COCOON_SKIP_KUBERNETES-}" != 1 ] || exec "${test[@]}"

said=$(mktemp)
stories=
trap 'rm -f "$said"' EXIT
trap '[ -z "$stories" ] || kill -- "-$stories" 2>/dev/null; exit 130' INT TERM HUP
set -m # the stories' processes are a group that can be ended as one
"${test[@]}" --test 'kube_*' >"$said" 2>&1 </dev/null &
stories=$!
set +m

status=0
COCOON_SKIP_KUBERNETES=1 "${test[@]}" || status=$?
wait "$stories" || status=$?
echo "stories on Kubernetes:"
cat "$said"
exit $status
