#!/usr/bin/env bash
# Installs, from Debian's own packages, what building, running and testing Cocoon needs and this machine lacks.
#
# Idempotent and quiet: where nothing is missing it changes nothing and needs neither root nor the network.
# Works on Debian 12 and 13 (amd64). Rust itself is not installed here: Cocoon needs Rust 1.95 or newer.
#   scripts/setup.sh           install what is missing
#   scripts/setup.sh --check   only say what is missing; exit status 1 if something is
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

check_only=0
case "${1-}" in
'') ;;
--check) check_only=1 ;;
*) die "unknown argument '$1' (known: --check)" ;;
esac

# package:what proves that it is there (a command, or a path). A tool that came from elsewhere counts.
needs=(
    gcc:cc # C compiler and linker, for the crypto library that aws-lc-rs bundles
    libc6-dev:/usr/lib/x86_64-linux-gnu/libc.a
    make:make
    ca-certificates:/etc/ssl/certs/ca-certificates.crt
    qemu-system-x86:qemu-system-x86_64
    seabios:/usr/share/seabios/bios-256k.bin
    xz-utils:xz # kernel modules are packed with it
    zstd:zstd
    cpio:cpio # tests read the initrd back with it
    docker-registry:docker-registry # the registry of demo and tests
    skopeo:skopeo
    umoci:umoci
    busybox-static:/bin/busybox
    openssl:openssl # tests make keys with it and compare against it
    xmlsec1:xmlsec1 # signs SWID documents for tests
    procps:pgrep
    erofs-utils:fsck.erofs           # tests compare layers as block devices against it
    cryptsetup-bin:veritysetup       # and their hash trees against this
    e2fsprogs:e2fsck                 # and the scratch disk's file system against this
    gnupg:gpg                        # tests make OpenPGP signatures with it
    containerd:containerd            # tests and benches pull with it side by side
    postgresql:/usr/lib/postgresql # tests of the shared store start a server of their own
    softhsm2:softhsm2-util         # tests of keys and secrets in a PKCS#11 token
    swtpm:swtpm                    # tests quote with a TPM of their own
    swtpm-tools:swtpm_setup
    tpm2-tools:tpm2_quote
    ovmf:/usr/share/OVMF/OVMF_CODE_4M.fd # firmware that measures into a TPM, for --platform tpm
    runc:runc                                     # tests show with its pods that they are right
    containernetworking-plugins:/usr/lib/cni/bridge # the network of tests' pods
    iproute2:ip
    util-linux:nsenter
    etcd-server:etcd # Kubernetes' store; Kubernetes itself comes by scripts/kubernetes.sh
    conntrack:conntrack
    iptables:iptables
)

present() {
    case "$1" in
    # Images hold nothing but busybox, so it must be the static one.
    /bin/busybox) [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1 ;;
    /*) [ -e "$1" ] ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# Peers that only newer releases of Debian carry: taken where the archive at hand offers them, tests that use them say
# so where they are absent.
peers=(cosign:cosign notation:notation oras:oras crane:crane imgcrypt:ctd-decoder)

missing=()
for need in "${needs[@]}"; do
    present "${need#*:}" || missing+=("${need%%:*}")
done

rust_ok() {
    command -v cargo >/dev/null 2>&1 && command -v rustc >/dev/null 2>&1 || return 1
    local version minor
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    minor=${version#1.}
    [ "${version%%.*}" = 1 ] && [ "${minor%%.*}" -ge 95 ]
}
rust_ok || say "note: Rust 1.95 or newer is not on the PATH; install it with your usual tool before 'make build'"

# A peer that is absent here and that the package lists know; an old release's lists know none of them.
if command -v apt-cache >/dev/null 2>&1; then
    for peer in "${peers[@]}"; do
        present "${peer#*:}" && continue
        if apt-cache policy "${peer%%:*}" 2>/dev/null | grep -q 'Candidate: [0-9]'; then missing+=("${peer%%:*}"); fi
    done
fi

# containerd's other versions: unpacked for tests, never installed; tests say so where they are absent.
peers() { "$(dirname "$0")/peers.sh" || true; }

if [ ${#missing[@]} -eq 0 ]; then
    [ "$check_only" = 1 ] || peers
    say "everything needed is installed"
    exit 0
fi
say "missing: ${missing[*]}"
[ "$check_only" = 0 ] || exit 1

[ -r /etc/debian_version ] && command -v apt-get >/dev/null 2>&1 ||
    die "this is not a Debian machine; install the programs above with your own package manager"
[ "$(dpkg --print-architecture)" = amd64 ] || die "Cocoon runs on amd64 only so far"
[ "$(id -u)" = 0 ] || die "not root; run: sudo $0"

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null
}

# QEMU's packages depend on each other by exact version: where a part of QEMU is already installed from
# backports, the rest must come from there as well or apt refuses.
suite=()
qemu_suite() {
    local installed codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    installed=$(dpkg-query -W -f '${Package} ${Version}\n' 'qemu-*' 2>/dev/null | awk '$2 ~ /~bpo/ {print $1; exit}' || true)
    if [ -n "$installed" ] && [ -n "$codename" ]; then
        suite=(-t "$codename-backports")
        say "$installed came from backports, so QEMU is taken from $codename-backports too"
    fi
}
qemu_suite

say "installing ${missing[*]} (this can take a few minutes)"
apt update || say "note: the package lists could not be refreshed, trying with what is there"
had_registry=1
had_postgres=1
had_containerd=1
had_etcd=1
case " ${missing[*]} " in *" docker-registry "*) had_registry=0 ;; esac
case " ${missing[*]} " in *" postgresql "*) had_postgres=0 ;; esac
case " ${missing[*]} " in *" containerd "*) had_containerd=0 ;; esac
case " ${missing[*]} " in *" etcd-server "*) had_etcd=0 ;; esac
if ! apt install --no-install-recommends "${suite[@]}" "${missing[@]}"; then
    tail -n 15 "$log" >&2
    die "apt-get could not install: ${missing[*]}"
fi

# Only the programs are wanted. Debian's packages also start a registry, databases and containerd for everybody;
# what was running before is left alone.
if [ "$had_registry" = 0 ] && command -v systemctl >/dev/null 2>&1; then
    systemctl disable --now docker-registry.service >/dev/null 2>&1 || true
fi
if [ "$had_postgres" = 0 ] && command -v systemctl >/dev/null 2>&1; then
    systemctl disable --now postgresql.service >/dev/null 2>&1 || true
fi
if [ "$had_containerd" = 0 ] && command -v systemctl >/dev/null 2>&1; then
    systemctl disable --now containerd.service >/dev/null 2>&1 || true
fi
if [ "$had_etcd" = 0 ] && command -v systemctl >/dev/null 2>&1; then
    systemctl disable --now etcd.service >/dev/null 2>&1 || true
fi

for need in "${needs[@]}"; do
    present "${need#*:}" || die "${need%%:*} is installed but ${need#*:} is not there"
done
peers
say "done"
