#!/usr/bin/env bash
# Brings containerd in the versions that Debian's newer releases carry, for tests that run Cocoon under each of them.
#
# The packages are fetched with apt from Debian's own archive, so their signatures are checked, but with lists and state
# of their own: neither the system's sources nor its packages change, and no root is needed. They are unpacked, never
# installed, into ${XDG_CACHE_HOME:-~/.cache}/cocoon/peers/containerd-<version>. Where they are already nothing happens.
#   scripts/peers.sh           fetch what is missing; exit status 1 if something still is
#   scripts/peers.sh --path    print the folder
set -euo pipefail

say() { printf 'peers: %s\n' "$*"; }
folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cocoon/peers
case "${1-}" in
'') ;;
--path) echo "$folder" && exit ;;
*) say "unknown argument '$1' (known: --path)" >&2 && exit 2 ;;
esac

# The version's name in the cache:the release that carries it. 1.6 is Debian 12's: scripts/setup.sh installs it there.
peers=(1.7:trixie 2:sid)
[ ! -r /etc/debian_version ] || [ "$(. /etc/os-release && echo "${VERSION_CODENAME-}")" = bookworm ] || peers+=(1.6:bookworm)
archive=${COCOON_DEBIAN_ARCHIVE:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

there() { [ -x "$folder/containerd-$1/usr/bin/containerd" ]; }
missing=()
for peer in "${peers[@]}"; do there "${peer%%:*}" || missing+=("$peer"); done
[ ${#missing[@]} -gt 0 ] || exit 0
# Without a network every build would wait for it: tried again an hour later at the earliest.
[ -z "$(find "$folder/absent" -mmin -60 2>/dev/null)" ] || exit 1
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { say "$tool is not installed: containerd's other versions cannot be fetched" >&2; exit 1; }
done
[ -r "$keyring" ] || { say "$keyring is not there: Debian's packages cannot be checked" >&2; exit 1; }

mkdir -p "$folder"
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The user that apt gives up its rights for must be able to write there.
chmod 755 "$work"

fetch() { # VERSION RELEASE
    local here=$work/$1
    mkdir -p "$here"/{state/lists/partial,cache/archives/partial,etc,new}
    : >"$here/state/status"
    echo "deb [signed-by=$keyring arch=amd64] $archive $2 main" >"$here/etc/sources.list"
    local options=(
        -q -o "Dir::State=$here/state" -o "Dir::State::status=$here/state/status" -o "Dir::Cache=$here/cache"
        -o "Dir::Etc::SourceList=$here/etc/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root
        -o Acquire::Languages=none -o Acquire::PDiffs=false -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20
    )
    apt-get "${options[@]}" update >"$here/log" 2>&1 || return 1
    (cd "$here" && apt-get "${options[@]}" download containerd >>log 2>&1) || return 1
    dpkg-deb -x "$here"/containerd_*.deb "$here/new" >>"$here/log" 2>&1 || return 1
    [ -x "$here/new/usr/bin/containerd" ] && "$here/new/usr/bin/containerd" --version >>"$here/log" 2>&1 || return 1
    # Whole or not at all, also where two of these run at once.
    mv -T "$here/new" "$folder/containerd-$1" 2>>"$here/log" || there "$1"
}

status=0
for peer in "${missing[@]}"; do
    if fetch "${peer%%:*}" "${peer#*:}"; then
        say "containerd ${peer%%:*} is $("$folder/containerd-${peer%%:*}/usr/bin/containerd" --version | awk '{print $3}')"
    else
        say "containerd ${peer%%:*} could not be fetched from $archive; tests with it are skipped" >&2
        tail -n 5 "$work/${peer%%:*}/log" | sed 's/^/peers:   /' >&2
        touch "$folder/absent"
        status=1
    fi
done
exit $status
