#!/usr/bin/env bash
# Cocoon's main job on real input, start to end, on this machine: a real registry, a real encrypted and signed
# image, a real VM, four attempts to cheat. Everything lives in one temporary folder and is gone afterwards;
# the user's own Cocoon data is not touched.
#
# `make demo` builds what this needs and calls it. By hand:
#   COCOON=/path/to/cocoon COCOON_GUEST_IMAGE=/path/to/guest-image scripts/demo.sh
set -euo pipefail

cocoon=${COCOON:?names the cocoon program; run this through: make demo}
guest_image=${COCOON_GUEST_IMAGE:?names the folder of the guest image; run this through: make demo}
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

for tool in docker-registry skopeo umoci timeout pgrep; do
    command -v "$tool" >/dev/null || die "$tool is not installed (make setup)"
done
[ -x /bin/busybox ] || die "busybox-static is not installed (make setup)"
[ -x "$cocoon" ] || die "$cocoon is not there (make build)"
[ -f "$guest_image/manifest.json" ] || die "$guest_image holds no guest image (make guest)"
cocoon=$(realpath "$cocoon")
guest_image=$(realpath "$guest_image")

umask 077
work=$(mktemp -d "${TMPDIR:-/tmp}/cocoon-demo.XXXXXX")
registry_pid=
stop_registry() {
    [ -n "$registry_pid" ] || return 0
    kill "$registry_pid" 2>/dev/null || true
    wait "$registry_pid" 2>/dev/null || true
    registry_pid=
}
cleanup() {
    stop_registry
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

export COCOON_DATA_DIR="$work/data" COCOON_GUEST_IMAGE="$guest_image" XDG_RUNTIME_DIR="$work/run"
export REGISTRY_AUTH_FILE="$work/auth.json" # not the user's credentials
mkdir "$work/data" "$work/run"
echo '{}' >"$REGISTRY_AUTH_FILE"

# Runs a short helper within a bound; shows its words only if it fails.
quiet() {
    timeout --foreground -k 5 120 "$@" >"$work/out" 2>&1 </dev/null || {
        indent <"$work/out" >&2
        die "$1 failed"
    }
}

# ---------------------------------------------------------------------------------------------------------------
step "1/5  A registry on loopback, and an image made from busybox"
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$work/blobs'}}
http: {addr: '127.0.0.1:0'}
YML
# Its configuration can be changed by variables named REGISTRY_…, so it gets none.
env -i PATH="$PATH" docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 </dev/null &
registry_pid=$!
port=
for _ in $(seq 400); do
    port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/registry.log")
    [ -z "$port" ] || break
    kill -0 "$registry_pid" 2>/dev/null || break
    sleep 0.05
done
[ -n "$port" ] || { indent <"$work/registry.log" >&2; die "docker-registry did not start"; }
repository=localhost:$port/demo
good "docker-registry listens on port $port"

# The workload: shows that it holds the secret without showing the secret.
mkdir -p "$work/root/bin" "$work/root/etc" "$work/root/tmp"
cp /bin/busybox "$work/root/bin/"
for applet in cat cut echo id sh sha256sum uname wget; do ln -s busybox "$work/root/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$work/root/etc/passwd"
cat >"$work/root/bin/prove" <<'SH'
#!/bin/sh
set -e
echo "workload: running as $(id -un) on Linux $(uname -r)"
echo "workload: sha256 of /run/secrets/token  $(sha256sum </run/secrets/token | cut -d' ' -f1)"
url=http://127.0.0.1:8006/cdh/resource/default/secret/token
echo "workload: sha256 of the REST answer     $(wget -q -O - $url | sha256sum | cut -d' ' -f1)"
SH
chmod -R a+rX "$work/root" && chmod 755 "$work/root/bin/prove"
rootless=()
[ "$(id -u)" = 0 ] || rootless=(--rootless)
quiet umoci init --layout "$work/layout"
quiet umoci new --image "$work/layout:plain"
quiet umoci insert "${rootless[@]}" --image "$work/layout:plain" "$work/root" /
quiet umoci config --image "$work/layout:plain" --config.env PATH=/bin --config.cmd /bin/prove
quiet skopeo --insecure-policy copy --dest-tls-verify=false "oci:$work/layout:plain" "docker://$repository:plain"
good "image pushed: $repository:plain"

# ---------------------------------------------------------------------------------------------------------------
step "2/5  Encrypt it (the key stays in Trustee) and sign it"
key_id=kbs:///default/image-key/demo
if grep -q OCICRYPT_KEYPROVIDER_CONFIG "$(command -v skopeo)"; then
    cat >"$work/ocicrypt.json" <<JSON
{"key-providers": {"attestation-agent": {"cmd": {"path": "$cocoon", "args": ["image", "keyprovider"]}}}}
JSON
    OCICRYPT_KEYPROVIDER_CONFIG="$work/ocicrypt.json" quiet skopeo --insecure-policy copy \
        --encryption-key "provider:attestation-agent:keyid=$key_id" --src-tls-verify=false --dest-tls-verify=false \
        "docker://$repository:plain" "docker://$repository:encrypted"
    good "encrypted by skopeo, with 'cocoon image keyprovider' as its key provider"
else
    quiet "$cocoon" image encrypt --key-id "$key_id" "$repository:plain" "$repository:encrypted"
    good "encrypted by 'cocoon image encrypt' (this skopeo is too old to know key providers)"
fi
skopeo inspect --raw --tls-verify=false "docker://$repository:encrypted" >"$work/manifest.json"
grep -q 'tar+gzip+encrypted' "$work/manifest.json" || die "the image's layer is not encrypted"
grep -q 'enc.keys.provider.attestation-agent' "$work/manifest.json" || die "the image names no key for CoCo guests"
note "layer type $(grep -o '[a-z.]*layer[^"]*encrypted' "$work/manifest.json" | head -n 1), key $key_id"

quiet "$cocoon" image keygen "$work/owner"
quiet "$cocoon" image keygen "$work/stranger"
quiet "$cocoon" image sign --key "$work/owner.key" "$repository:encrypted"
good "signed with the owner's key"
# The same image in another place, signed by somebody else.
quiet skopeo --insecure-policy copy --src-tls-verify=false --dest-tls-verify=false \
    "docker://$repository:encrypted" "docker://$repository-stranger:encrypted"
quiet "$cocoon" image sign --key "$work/stranger.key" "$repository-stranger:encrypted"

# ---------------------------------------------------------------------------------------------------------------
step "3/5  cocoon run: boot a pod VM, attest it, release the secret, pull, verify, decrypt, start"
head -c 32 /dev/urandom | base64 -w 0 >"$work/token"
secret=$(cat "$work/token")
expected=$(sha256sum <"$work/token" | cut -d' ' -f1)
note "the owner's secret has sha256 $expected"
flags=(--require-signature "$work/owner.pub" --secret "token=@$work/token")
note "cocoon run --require-signature owner.pub --secret token=@token $repository:encrypted"
status=0
timeout --foreground -k 15 "$run_limit" "$cocoon" run --timings "${flags[@]}" "$repository:encrypted" \
    </dev/null 2>&1 | tee "$work/run.log" | sed -u '/begin ms/,$d' | indent || status=$?
[ "$status" = 0 ] || {
    sed -n '/begin ms/,$p' "$work/run.log" | indent
    die "cocoon run ended with status $status"
}
[ "$(grep -c "workload: sha256 of .* $expected" "$work/run.log")" = 2 ] || die "the workload did not prove that it holds the secret"
! grep -qF -- "$secret" "$work/run.log" || die "the secret appears in the output"
good "both digests are the secret's: the workload holds it, as a file and from its data hub"

# ---------------------------------------------------------------------------------------------------------------
step "4/5  Four attempts to cheat; each must be refused and release nothing"
# refused TITLE CODE ARGS…: the run must fail with that code, and the secret must not show.
refused() {
    local title=$1 code=$2 status=0
    shift 2
    printf '\n   %s%s%s\n' "$bold" "$title" "$plain"
    timeout --foreground -k 15 "$run_limit" "$cocoon" run "${flags[@]}" "$@" >"$work/refused.log" 2>&1 </dev/null || status=$?
    indent <"$work/refused.log"
    [ "$status" != 0 ] || die "it was not refused"
    [ "$status" != 124 ] && [ "$status" != 137 ] || die "no answer within $run_limit seconds"
    grep -qF -- "$code" "$work/refused.log" || die "it was refused, but not with $code"
    ! grep -qF -- "$secret" "$work/refused.log" || die "the secret appears in the output"
    ! grep -q '^workload:' "$work/refused.log" || die "the workload was started"
    good "refused with $code, exit status $status, no secret released"
}
refused "The host boots another initrd (it would like to read along)" ATTEST-MEASUREMENT-UNKNOWN \
    --adversary changed-initrd "$repository:encrypted"
refused "The host hands the guest another plan (it would like to run its own command)" ATTEST-INITDATA-MISMATCH \
    --adversary changed-plan "$repository:encrypted"
refused "The host replays evidence of an earlier run" ATTEST-REPORT-DATA-MISMATCH \
    --adversary replayed-evidence "$repository:encrypted"
refused "The image is signed by a stranger" IMAGE-SIGNATURE-INVALID \
    "$repository-stranger:encrypted"

# ---------------------------------------------------------------------------------------------------------------
step "5/5  Where the time of the good run went"
sed -n '/begin ms/,$p' "$work/run.log" | indent

stop_registry
if pgrep -f -- "$work" >"$work/left"; then die "processes are left: $(tr '\n' ' ' <"$work/left")"; fi
if grep -qF -- "$work" /proc/self/mounts; then die "mounts are left: $(grep -F -- "$work" /proc/self/mounts)"; fi
if [ -n "$(ls -A "$work/run")" ]; then die "runtime files are left: $(ls -A "$work/run")"; fi
cleanup
[ ! -e "$work" ] || die "$work is left"
printf '\n%sAll done.%s No process, mount or file is left behind.\n' "$bold$green" "$plain"
