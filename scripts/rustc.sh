#!/bin/sh
# Runs the Rust compiler, as Cargo asks for it (.cargo/config.toml). Code that is optimised for a release is compiled with
# profile/requests.profdata, which says what requests execute, so that this stands together and the rest apart. Cargo has no
# setting for that which holds for one profile only and for files of the repository.
#
# scripts/release_profile.py sets TOLLGATE_PROFILE_RAW to a directory: then the code is compiled so that it writes a profile there.
set -eu

# Build scripts and macros, which run in the compiler, are not optimised so and stay as they are.
is_release=false
for argument in "$@"; do
    if [ "$argument" = opt-level=3 ]; then is_release=true; fi
done
if [ "$is_release" = false ]; then exec "$@"; fi

if [ -n "${TOLLGATE_PROFILE_RAW:-}" ]; then
    # Names are compressed by a library that not every llvm-profdata has.
    exec "$@" "-Cprofile-generate=$TOLLGATE_PROFILE_RAW" -Cllvm-args=-enable-name-compression=false
fi
profile="$(cd "$(dirname "$0")/.." && pwd)/profile/requests.profdata"
if [ ! -f "$profile" ]; then exec "$@"; fi
# Where everything is linked together each function gets its form: what a request executes in turn stands in turn, and nothing is
# left empty before a loop. Another compiler may not know these words, which are LLVM's own, and builds without them.
layout="-Cllvm-args=-enable-ext-tsp-block-placement -Cllvm-args=-align-loops=1"
# shellcheck disable=SC2086 # They are two words.
if [ -n "${CARGO_PRIMARY_PACKAGE:-}" ] && "$1" --print cfg $layout >/dev/null 2>&1; then set -- "$@" $layout; fi
# A function that has changed since is compiled as if there were no profile of it.
exec "$@" "-Cprofile-use=$profile" -Cllvm-args=-no-pgo-warn-mismatch
