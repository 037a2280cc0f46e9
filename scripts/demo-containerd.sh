#!/usr/bin/env bash
# Cocoon's main job through containerd: a plan registered with a Trustee that serves, a container that `ctr` runs with
# containerd-shim-cocoon-v2, and three hosts that ask for more than the plan allows. containerd, registry, Trustee and the
# pod VMs live in namespaces of their own and in one temporary folder, and are gone afterwards; no containerd of this
# machine is touched.
#
# `make demo-containerd` builds what this needs and calls it, as root. By hand:
#   COCOON=… COCOON_SHIM=… COCOON_GUEST_IMAGE=… scripts/demo-containerd.sh
set -euo pipefail

cocoon=$(realpath "${COCOON:?names the cocoon program; run this through: make demo-containerd}")
shim=$(realpath "${COCOON_SHIM:?names the shim; run this through: make demo-containerd}")
guest_image=$(realpath "${COCOON_GUEST_IMAGE:?names the folder of the guest image; run this through: make demo-containerd}")
run_limit=${DEMO_RUN_LIMIT:-300} # seconds for one pod VM, emulation on a busy machine included

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s\n' "$*"; }
good() { printf '   %sok%s  %s\n' "$green" "$plain" "$*"; }
die() {
    printf '\n%sdemo failed:%s %s\n' "$red" "$plain" "$*" >&2
    exit 1
}
indent() { sed -u "s/^/   ${dim}|${plain} /"; }

# ---- outside: the folder, the namespaces, and the question what is left
if [ "${1-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || die "containerd needs root"
    for tool in docker-registry skopeo umoci unshare ip timeout; do
        command -v "$tool" >/dev/null || die "$tool is not installed (make setup)"
    done
    umask 077
    work=$(mktemp -d "${TMPDIR:-/tmp}/ccd.XXXXXX") # short: the path of a unix socket holds 107 bytes
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    unshare --net --mount --pid --fork --kill-child=KILL --mount-proc --propagation private "$0" --inside "$work"
    if grep -qF -- "$work" /proc/self/mounts; then die "mounts are left: $(grep -F -- "$work" /proc/self/mounts)"; fi
    if pgrep -f -- "$work" >"$work/left"; then die "processes are left: $(tr '\n' ' ' <"$work/left")"; fi
    rm -rf "$work"
    printf '\n%sAll done.%s No process, mount or file is left behind.\n' "$bold$green" "$plain"
    exit
fi

# ---- inside
work=$2
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
export COCOON_DATA_DIR="$work/data" COCOON_GUEST_IMAGE="$guest_image" XDG_RUNTIME_DIR="$work" REGISTRY_AUTH_FILE="$work/auth.json"
mkdir -p "$work"/{data,bin,state}
echo '{}' >"$REGISTRY_AUTH_FILE"

# The newest containerd that is here: one that scripts/peers.sh brought, else this machine's.
peers=$("$(dirname "$0")/peers.sh" --path)
for version in 2 1.7; do
    [ ! -x "$peers/containerd-$version/usr/bin/containerd" ] || { PATH="$peers/containerd-$version/usr/bin:$PATH" && break; }
done
ln -s "$shim" "$work/bin/containerd-shim-cocoon-v2"
export PATH="$work/bin:$PATH:/usr/sbin:/sbin"
command -v containerd >/dev/null || die "containerd is not installed (make setup)"

quiet() {
    timeout --foreground -k 5 120 "$@" >"$work/out" 2>&1 </dev/null || {
        indent <"$work/out" >&2
        die "$1 failed"
    }
}
# ready PID LOG TEXT: waits until the log of a process that starts holds a text.
ready() {
    for _ in $(seq 600); do
        ! grep -q -- "$3" "$2" || return 0
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 20 "$2" | indent >&2
    die "it did not start"
}

step "1/4  containerd, a registry and Trustee, in namespaces of their own"
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$work/blobs'}}
http: {addr: '127.0.0.1:5000'}
YML
env -i PATH="$PATH" docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 </dev/null &
ready $! "$work/registry.log" 'listening on'
cat >"$work/trustee.toml" <<'TOML'
[server]
listen = ["127.0.0.1:8080"]
[attestation]
accept_simulated = true
TOML
"$cocoon" trustee serve --config "$work/trustee.toml" >"$work/trustee.log" 2>&1 </dev/null &
ready $! "$work/trustee.log" 'cocoon: Trustee on '
certificate=$(sed -n 's/^cocoon: Trustee on .*, certificate \(.*\)$/\1/p' "$work/trustee.log")
trustee=(--trustee https://127.0.0.1:8080 --trustee-token "$work/data/trustee/admin.token" --trustee-cert "$certificate")
cat >"$work/class.toml" <<TOML
guest_image = '$guest_image'
state = '$work/state'
data = '$work/data'
TOML
cat >"$work/containerd.toml" <<TOML
version = 2
root = '$work/root'
state = '$work/run'
disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.nri.v1.nri']
[grpc]
address = '$work/c.sock'
[plugins.'io.containerd.internal.v1.opt']
path = '$work/opt'
TOML
containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 </dev/null &
ready $! "$work/containerd.log" 'containerd successfully booted'
good "$(containerd --version | awk '{print "containerd", $3}'), docker-registry, Trustee"

step "2/4  An image, and the owner's plan for it"
image=127.0.0.1:5000/demo:1
mkdir -p "$work/rootfs/bin" "$work/rootfs/etc" "$work/rootfs/tmp"
cp /bin/busybox "$work/rootfs/bin/"
for applet in cat cut echo id sh sha256sum uname; do ln -s busybox "$work/rootfs/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$work/rootfs/etc/passwd"
cat >"$work/rootfs/bin/prove" <<'SH'
#!/bin/sh
echo "workload: running as $(id -un) on Linux $(uname -r)"
echo "workload: sha256 of /run/secrets/token $(sha256sum </run/secrets/token | cut -d' ' -f1)"
SH
chmod -R a+rX "$work/rootfs" && chmod 755 "$work/rootfs/bin/prove"
quiet umoci init --layout "$work/layout"
quiet umoci new --image "$work/layout:1"
quiet umoci insert --image "$work/layout:1" "$work/rootfs" /
quiet umoci config --image "$work/layout:1" --config.env PATH=/bin --config.cmd /bin/prove
quiet skopeo --insecure-policy copy --dest-tls-verify=false "oci:$work/layout:1" "docker://$image"
head -c 32 /dev/urandom | base64 -w 0 >"$work/token"
expected=$(sha256sum <"$work/token" | cut -d' ' -f1)
note "cocoon plan $image --secret token=@token --trustee https://127.0.0.1:8080"
"$cocoon" plan --quiet "${trustee[@]}" --secret "token=@$work/token" "$image" >"$work/annotation" 2>"$work/out" </dev/null || {
    indent <"$work/out" >&2
    die "cocoon plan failed"
}
annotation=$(cat "$work/annotation")
good "registered; the pod's annotation dev.cocoon.initdata has ${#annotation} characters and no secret"

step "3/4  ctr run: the shim boots a VM, the guest attests, gets the secret and runs the plan"
quiet ctr --address "$work/c.sock" image pull --plain-http "$image"
# run ID FLAGS…: a container of that id, its words in run.log.
run() {
    local id=$1 status=0
    shift
    timeout --foreground -k 15 "$run_limit" ctr --address "$work/c.sock" run --rm --runtime io.containerd.cocoon.v2 \
        --runtime-config-path "$work/class.toml" "$@" "$image" "$id" >"$work/run.log" 2>&1 </dev/null || status=$?
    indent <"$work/run.log"
    return $status
}
note "ctr run --runtime io.containerd.cocoon.v2 --annotation dev.cocoon.initdata=… $image demo"
run demo --annotation "dev.cocoon.initdata=$annotation" || die "ctr run failed; the shim's words: $(grep -i cocoon "$work/containerd.log" | tail -n 5)"
grep -q "workload: sha256 of .* $expected" "$work/run.log" || die "the workload did not prove that it holds the secret"
good "the digest is the secret's: the workload holds it; containerd never did"

step "4/4  Hosts that ask for more; each is refused and nothing is released"
# refused TITLE CODE FLAGS…
refused() {
    local title=$1 code=$2
    shift 2
    printf '\n   %s%s%s\n' "$bold" "$title" "$plain"
    ! run refused "$@" || die "it was not refused"
    grep -qF -- "$code" "$work/run.log" || die "it was refused, but not with $code"
    ! grep -q '^workload:' "$work/run.log" || die "the workload was started"
    good "refused with $code"
}
refused "A pod without a plan" INITDATA-MISSING
# Another secret asked for in the owner's name: another plan, of which Trustee knows nothing.
other=$(base64 -d "$work/annotation" | gunzip | sed 's,default/secret/token,default/secret/other,g' | gzip -n | base64 -w 0)
refused "A plan that the owner did not make" RELEASE-WORKLOAD-UNKNOWN --annotation "dev.cocoon.initdata=$other"
refused "A kernel command line of the host's" kernel_params --annotation "dev.cocoon.initdata=$annotation" \
    --annotation io.katacontainers.config.hypervisor.kernel_params=init=/bin/sh

ctr --address "$work/c.sock" container ls -q >"$work/out"
[ ! -s "$work/out" ] || die "containers are left: $(cat "$work/out")"
if pgrep -x qemu-system-x86 >/dev/null; then die "a VM is left"; fi
if pgrep -f containerd-shim-cocoon >/dev/null; then die "a shim is left"; fi
[ -z "$(find "$work/state" -not -type d -not -name accel.json)" ] || die "runtime files are left: $(find "$work/state" -not -type d)"
