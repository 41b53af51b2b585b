#!/usr/bin/env bash
# Builds and runs the fuzz targets, on stable Rust. fuzz/README.md tells of them.
#
#   scripts/fuzz.sh [TARGET…]          runs them for FUZZ_SECONDS each (60), as many at once as there are processors
#   scripts/fuzz.sh --build            only builds them
#   scripts/fuzz.sh --keep [TARGET…]   adds to fuzz/corpus a few inputs of earlier runs that reach all that was reached
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
found=${FUZZ_FOUND:-target/fuzz/found}
binaries=target/fuzz/release
# No target may be so slow that it makes fewer runs than this in a minute: then it would test next to nothing.
least_per_minute=1000

build() {
    RUSTC_WRAPPER=$PWD/scripts/fuzz_rustc.sh cargo build --locked --release --manifest-path fuzz/Cargo.toml --target-dir target/fuzz
}

all_targets() {
    basename -s .rs fuzz/fuzz_targets/*.rs
}

# Options that a target always has.
options() {
    local target=$1
    echo "-rss_limit_mb=2048 -timeout=20 -max_len=$(max_len "$target")"
    [[ -f fuzz/dictionaries/$target.dict ]] && echo "-dict=fuzz/dictionaries/$target.dict"
    return 0
}

max_len() {
    case $1 in
    config | http1 | h2) echo 8192 ;;
    *) echo 4096 ;;
    esac
}

run() {
    local target=$1 log=$found/$1.log
    mkdir -p "$found/$target" "$found/crashes/$target"
    local code=0
    # shellcheck disable=SC2046
    "$binaries/$target" "$found/$target" "fuzz/corpus/$target" $(options "$target") \
        -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$found/crashes/$target/" >"$log" 2>&1 || code=$?
    local runs coverage inputs
    runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
    coverage=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -1)
    inputs=$(find "fuzz/corpus/$target" "$found/$target" -type f | wc -l)
    printf '%-14s %12s runs   %-24s %6d inputs' "$target" "${runs:-0}" "${coverage:-cov: 0}" "$inputs"
    if ((code != 0)); then
        printf '   FAILED\n'
        tail -30 "$log"
        return 1
    elif ((${runs:-0} * 60 < least_per_minute * seconds)); then
        printf '   FAILED: so few runs find nothing\n'
        return 1
    fi
    printf '   ok\n'
}

keep() {
    local target=$1 smallest
    smallest=$(mktemp -d)
    # shellcheck disable=SC2046
    "$binaries/$target" -set_cover_merge=1 $(options "$target") "$smallest" "fuzz/corpus/$target" "$found/$target" >"$found/$target.merge.log" 2>&1
    # What is there stays: it may be what a fault was found with, though another input reaches the same code.
    cp -n "$smallest"/* "fuzz/corpus/$target/"
    rm -r "$smallest"
    printf '%-14s %6d inputs\n' "$target" "$(find "fuzz/corpus/$target" -type f | wc -l)"
}

case ${1:-} in
--run-one)
    run "$2"
    exit
    ;;
--build)
    build
    exit
    ;;
esac

action=run
if [[ ${1:-} == --keep ]]; then
    action=keep
    shift
fi
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(all_targets)
build
mkdir -p "$found"
if [[ $action == keep ]]; then
    for target in "${targets[@]}"; do
        keep "$target"
    done
    exit
fi
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' scripts/fuzz.sh --run-one '{}'
