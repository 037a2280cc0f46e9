#!/usr/bin/env bash
# Builds the Kubernetes that whole-system tests run on: control plane, kubelet, kube-proxy and kubectl of one version, CoreDNS
# and Helm, from the Go module proxy (checked against tests/kubernetes/go.sum and Go's checksum database).
#
# The programs lie in ${XDG_CACHE_HOME:-~/.cache}/cocoon/peers/NAME-VERSION, whole or not at all; where they are already
# nothing happens. Two of these at once are safe: one builds, the other waits. Go is taken from the PATH or /usr/local/go;
# where that is absent or older than 1.21, Debian 13's is unpacked into the cache. Cold it takes about nine minutes on two cores.
#   scripts/kubernetes.sh               build what is missing
#   scripts/kubernetes.sh conformance   and Kubernetes' own end-to-end tests, and the program of their image
#   scripts/kubernetes.sh --path        print the folders with programs, as a PATH
# COCOON_SKIP_KUBERNETES=1 skips it, and the tests that need it.
set -euo pipefail

say() { printf 'kubernetes: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}
here=$(cd "$(dirname "$0")" && pwd)
module=$here/../tests/kubernetes
version=$(awk '$1 == "k8s.io/kubernetes" {print substr($2, 2)} $1 == "require" && $2 == "k8s.io/kubernetes" {print substr($3, 2)}' "$module/go.mod")
coredns=1.13.1
helm=3.19.0
folder=$("$here/peers.sh" --path)

wanted=(kubernetes coredns helm)
case "${1-}" in
'') ;;
conformance) wanted+=(conformance) ;;
--path) echo "$folder/kubernetes-$version:$folder/coredns-$coredns:$folder/helm-$helm" && exit ;;
*) say "unknown argument '$1' (known: conformance, --path)" >&2 && exit 2 ;;
esac
[ "${COCOON_SKIP_KUBERNETES-}" != 1 ] || { say "skipped: COCOON_SKIP_KUBERNETES=1" && exit 0; }

# Where a part lies; its last program is the proof that it is there.
place() {
    case $1 in
    kubernetes | conformance) echo "$folder/$1-$version" ;;
    coredns) echo "$folder/coredns-$coredns" ;;
    helm) echo "$folder/helm-$helm" ;;
    esac
}
missing() {
    local part
    for part in "${wanted[@]}"; do [ -d "$(place "$part")" ] || echo "$part"; done
}
[ -n "$(missing)" ] || exit 0

# ---- Go
new_enough() { # PROGRAM
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    [[ $version =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 21 ]
}
find_go() {
    local go
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$folder/go-1.24/usr/lib/go-1.24/bin/go"; do
        if [ -x "$go" ] && new_enough "$go"; then echo "$go" && return; fi
    done
    return 1
}
mkdir -p "$folder"
exec 9>"$folder/kubernetes.lock"
flock 9
go=$(find_go) || {
    "$here/peers.sh" go || die "Go 1.21 or newer is not installed and could not be fetched"
    go=$(find_go) || die "Go was fetched but does not run"
}
# A newer compiler than the one here, where a module asks for it, comes from the module proxy too.
export GOTOOLCHAIN=auto CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off GOOS=linux GOARCH=amd64

work=$(mktemp -d "$folder/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

of_kubernetes() { # PACKAGE… into $work/new
    local stamp=k8s.io/component-base/version
    (cd "$module" && "$go" build -mod=readonly -trimpath -o "$work/new/" \
        -ldflags="-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$version")" "$@")
}
build() {
    case $1 in
    kubernetes) of_kubernetes k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl} ;;
    coredns) GOBIN=$work/new "$go" install -trimpath -ldflags='-s -w' "github.com/coredns/coredns@v$coredns" ;;
    helm) GOBIN=$work/new "$go" install -trimpath -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@v$helm" ;;
    conformance)
        of_kubernetes k8s.io/kubernetes/test/images/agnhost &&
            (cd "$module" && "$go" test -mod=readonly -vet=off -c -trimpath -ldflags='-s -w' -o "$work/new/e2e.test" k8s.io/kubernetes/test/e2e)
        ;;
    esac
}
for part in $(missing); do
    say "building $(basename "$(place "$part")") (once; minutes)"
    rm -rf "$work/new"
    mkdir "$work/new"
    build "$part" >"$work/log" 2>&1 || {
        tail -n 15 "$work/log" >&2
        die "$part could not be built"
    }
    chmod 755 "$work/new"
    mv -T "$work/new" "$(place "$part")"
done
say "ready: $(basename "$(place kubernetes)"), $(basename "$(place coredns)"), $(basename "$(place helm)")"
