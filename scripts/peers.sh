#!/usr/bin/env bash
# Brings containerd in the versions that Debian's newer releases carry, for tests that run Cocoon under each of them.
#
# The packages are fetched with apt from Debian's own archive, so their signatures are checked, but with lists and state
# of their own: neither the system's sources nor its packages change, and no root is needed. They are unpacked, never
# installed, into ${XDG_CACHE_HOME:-~/.cache}/cocoon/peers/containerd-<version>. Where they are already nothing happens.
#   scripts/peers.sh           fetch what is missing; exit status 1 if something still is
#   scripts/peers.sh go        fetch Debian 13's Go instead, into go-1.24 (scripts/kubernetes.sh needs it where there is none)
#   scripts/peers.sh --path    print the folder
set -euo pipefail

say() { printf 'peers: %s\n' "$*"; }
folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cocoon/peers
go=0
case "${1-}" in
'') ;;
go) go=1 ;;
--path) echo "$folder" && exit ;;
*) say "unknown argument '$1' (known: go, --path)" >&2 && exit 2 ;;
esac

# NAME-VERSION in the cache:the release that carries it:the packages:the program that proves it. containerd 1.6 is Debian 12's:
# scripts/setup.sh installs it there.
peers=(
    containerd-1.7:trixie:containerd:usr/bin/containerd
    containerd-2:sid:containerd:usr/bin/containerd
)
[ ! -r /etc/debian_version ] || [ "$(. /etc/os-release && echo "${VERSION_CODENAME-}")" = bookworm ] ||
    peers+=(containerd-1.6:bookworm:containerd:usr/bin/containerd)
[ "$go" = 0 ] || peers=("go-1.24:trixie:golang-1.24-go golang-1.24-src:usr/lib/go-1.24/bin/go")
archive=${COCOON_DEBIAN_ARCHIVE:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

there() { [ -x "$folder/$1/$2" ]; } # NAME PROOF
missing=()
for peer in "${peers[@]}"; do there "${peer%%:*}" "${peer##*:}" || missing+=("$peer"); done
[ ${#missing[@]} -gt 0 ] || exit 0
# Without a network every build would wait for it: tried again an hour later at the earliest.
[ "$go" = 1 ] || [ -z "$(find "$folder/absent" -mmin -60 2>/dev/null)" ] || exit 1
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { say "$tool is not installed: Debian's packages cannot be fetched" >&2; exit 1; }
done
[ -r "$keyring" ] || { say "$keyring is not there: Debian's packages cannot be checked" >&2; exit 1; }

mkdir -p "$folder"
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The user that apt gives up its rights for must be able to write there.
chmod 755 "$work"

says() { case $1 in */go) "$1" version ;; *) "$1" --version ;; esac; }

fetch() { # NAME RELEASE PACKAGES PROOF
    local package
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
    for package in $3; do
        (cd "$here" && apt-get "${options[@]}" download "$package" >>log 2>&1) || return 1
        dpkg-deb -x "$here/$package"_*.deb "$here/new" >>"$here/log" 2>&1 || return 1
    done
    says "$here/new/$4" >>"$here/log" 2>&1 || return 1
    # Whole or not at all, also where two of these run at once.
    mv -T "$here/new" "$folder/$1" 2>>"$here/log" || there "$1" "$4"
}

status=0
for peer in "${missing[@]}"; do
    IFS=: read -r name release packages proof <<<"$peer"
    if fetch "$name" "$release" "$packages" "$proof"; then
        say "$name is $(says "$folder/$name/$proof" | awk '{print $3}')"
    else
        say "$name could not be fetched from $archive; tests with it are skipped" >&2
        tail -n 5 "$work/$name/log" | sed 's/^/peers:   /' >&2
        [ "$go" = 1 ] || touch "$folder/absent"
        status=1
    fi
done
exit $status
