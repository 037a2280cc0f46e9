#!/usr/bin/env bash
# Kubernetes' own end-to-end tests of a node (NodeConformance) with Cocoon as the runtime of every pod, in a developer's guest that
# needs no plan, on a cluster of one node that is gone afterwards. `make conformance` builds what this needs and calls it, as root.
#
#   CLUSTER=… scripts/conformance.sh [REPORT-FOLDER]
# RUNTIME=runc           the same suite without Cocoon: what fails there too is not the runtime's doing
# FOCUS='regex'          other specs than NodeConformance's
# SKIP='regex'           besides those that are serial, slow, of a feature that must be switched on, or other systems'
#
# Images of the suite are made here: `agnhost` from Kubernetes' source, with the machine's own tools (busybox, curl, bash) beside it under
# the names and versions that the suite asks for. Specs that need another image (nginx, httpd, perl, …) fail at its pull.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
peers=$("$here/peers.sh" --path)
die() {
    printf 'conformance: %s\n' "$*" >&2
    exit 1
}

if [ "${1-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || die "a cluster needs root"
    report=$(realpath -m "${1:-conformance-report}")
    mkdir -p "$report"
    case ${RUNTIME:-cocoon} in
    cocoon) flags=(--open) ;;
    runc) flags=(--plain) ;;
    *) die "RUNTIME is cocoon or runc" ;;
    esac
    exec "${CLUSTER:?names the program that starts a cluster; run this through: make conformance}" "${flags[@]}" --run "$(realpath "$0")" --inside "$report"
fi

report=$2
suite=$(echo "$peers"/conformance-*)
[ -x "$suite/e2e.test" ] || die "the suite is not built (scripts/kubernetes.sh conformance)"
work=$CLUSTER_FOLDER
module=$(find "${GOMODCACHE:-${GOPATH:-$HOME/go}/pkg/mod}/k8s.io" -maxdepth 1 -name "kubernetes@v$(basename "$suite" | cut -d- -f2)")
[ -n "$module" ] || die "Kubernetes' source is not in Go's cache"

# ---- images
root=$work/root
mkdir -p "$root"/{bin,etc,tmp,root,uploads,usr/bin,usr/sbin,sbin,lib,home}
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
# copied PROGRAM…: a program of this machine with the libraries that it asks for.
copied() {
    local program file
    for program in "$@"; do
        program=$(command -v "$program") || continue
        program=$(readlink -f "$program")
        cp -L "$program" "$root/usr/bin/"
        for file in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
            mkdir -p "$root$(dirname "$file")"
            cp -L "$file" "$root$file"
        done
    done
}
copied bash curl
cp "$suite/agnhost" "$root/agnhost"
ln -s agnhost "$root/agnhost-2"
cp "$module"/test/images/agnhost/porter/localhost.{crt,key} "$root/"
printf 'root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\nnobody:x:65534:\n' >"$root/etc/group"

# image NAME:TAG CONFIG…: one with that file system and these settings of `umoci config`.
image() {
    local name=$1
    shift
    local layout=$work/layout
    [ -d "$layout" ] || {
        umoci init --layout "$layout"
        umoci new --image "$layout:base"
        umoci insert --image "$layout:base" "$root" /
    }
    umoci config --image "$layout:base" --tag now --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false "oci:$layout:now" "docker://$CLUSTER_REGISTRY/$name"
}
version() { sed -n "s/.*configs\[$1\] *= *Config{list\.[A-Za-z0-9]*, \"[^\"]*\", \"\([^\"]*\)\"}.*/\1/p" "$module/test/utils/image/manifest.go"; }
image "e2e/agnhost:$(version Agnhost)" --config.entrypoint /agnhost --config.cmd pause
image "e2e/busybox:$(version BusyBox)" --clear=config.entrypoint --config.cmd sh
image "e2e/nonroot:$(version NonRoot)" --clear=config.entrypoint --config.cmd sh --config.user 1234
image "gcr/pause:$(version Pause)" --config.entrypoint /agnhost --config.cmd pause
cat >"$work/repositories.yaml" <<YAML
promoterE2eRegistry: $CLUSTER_REGISTRY/e2e
gcRegistry: $CLUSTER_REGISTRY/gcr
dockerLibraryRegistry: $CLUSTER_REGISTRY/library
buildImageRegistry: $CLUSTER_REGISTRY/build
sigStorageRegistry: $CLUSTER_REGISTRY/storage
YAML

# ---- the suite
cd "$work"
export KUBE_TEST_REPO_LIST=$work/repositories.yaml
status=0
"$suite/e2e.test" --provider=local --kubeconfig="$KUBECONFIG" --report-dir="$report" --disable-log-dump \
    --ginkgo.focus="${FOCUS:-\\[NodeConformance\\]}" \
    --ginkgo.skip="\\[Serial\\]|\\[Slow\\]|\\[Disruptive\\]|\\[Feature:|\\[FeatureGate:|\\[LinuxOnly-not\\]|\\[sig-windows\\]${SKIP:+|$SKIP}" \
    --ginkgo.no-color --ginkgo.timeout="${LIMIT:-6h}" ${GINKGO_FLAGS-} >"$report/log.txt" 2>&1 </dev/null || status=$?
grep -E '^(Ran [0-9]|PASS|FAIL|SUCCESS)|^\s*\[(FAIL|TIMEDOUT|INTERRUPTED)\]' "$report/log.txt" || tail -n 20 "$report/log.txt"
echo "conformance: the whole log and junit_01.xml are in $report"
exit $status
