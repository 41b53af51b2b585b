#!/usr/bin/env bash
# Format, clippy, and what is known of the dependencies: cargo-deny (licences, sources, libraries that must not be there)
# and cargo-audit (advisories of RustSec). Both are installed under target/tools when they are missing. They fetch the
# database of advisories; where that cannot be reached, ADVISORY_DB names a clone of https://github.com/rustsec/advisory-db.
set -uo pipefail
cd "$(dirname "$0")/.."

export PATH="$PWD/target/tools/bin:$PATH"
failed=0

step() {
    local name=$1
    shift
    echo "== $name"
    if ! "$@"; then
        echo "== $name: FAILED"
        failed=$((failed + 1))
    fi
}

for tool in deny audit; do
    command -v "cargo-$tool" >/dev/null || cargo install --locked --quiet --root target/tools "cargo-$tool" || exit 1
done

step "format" cargo fmt --check
step "clippy" cargo clippy --locked --all-targets -- -D warnings
step "bans, licences, sources" cargo deny --locked check bans licenses sources
if [[ -n ${ADVISORY_DB:-} ]]; then
    step "advisories" cargo audit --deny warnings --db "$ADVISORY_DB" --no-fetch
    [[ -f fuzz/Cargo.lock ]] && step "advisories of the fuzz targets" cargo audit --deny warnings --db "$ADVISORY_DB" --no-fetch --file fuzz/Cargo.lock
else
    step "advisories" cargo audit --deny warnings
    [[ -f fuzz/Cargo.lock ]] && step "advisories of the fuzz targets" cargo audit --deny warnings --file fuzz/Cargo.lock
fi
((failed == 0))
