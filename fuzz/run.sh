#!/usr/bin/env bash
# Runs fuzz targets, all of them or the named ones, FUZZ_SECONDS (60) each, from the seed corpus of seeds.sh.
#
# Needs cargo-fuzz (cargo install cargo-fuzz). With a nightly compiler under the address sanitizer; else with the
# installed stable one, without a sanitizer: the code here has no unsafe blocks but in leaf crates, so panics, hangs and
# memory are what there is to find.
# FUZZ_STABLE=1 uses the stable compiler even where there is a nightly one.
#   fuzz/run.sh [TARGET…]
set -euo pipefail
cd "$(dirname "$0")"

cargo fuzz --version >/dev/null 2>&1 || {
    echo 'fuzz: cargo-fuzz is missing: cargo install cargo-fuzz' >&2
    exit 1
}
fuzz=(cargo fuzz)
options=(--sanitizer none)
if [ -z "${FUZZ_STABLE-}" ] && cargo +nightly --version >/dev/null 2>&1; then
    fuzz=(cargo +nightly fuzz)
    options=()
else
    export RUSTC_BOOTSTRAP=1
fi

./seeds.sh
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <("${fuzz[@]}" list)
    "${fuzz[@]}" build "${options[@]}"
fi
for target in "${targets[@]}"; do
    echo "fuzz: $target"
    "${fuzz[@]}" run "${options[@]}" "$target" -- -max_total_time="${FUZZ_SECONDS:-60}" -max_len=65536 \
        -rss_limit_mb=2048 -timeout=10
done
