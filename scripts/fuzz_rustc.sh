#!/usr/bin/env bash
# A wrapper around rustc (RUSTC_WRAPPER), which instruments for libFuzzer the crates that read what strangers send, and
# no others: counters of code that is never of interest would only be read after every input. Nor those that macros are
# made of as well, such as serde_json, because a compiler that loads them has no libFuzzer.
set -euo pipefail

name=
previous=
for argument in "$@"; do
    [[ $previous == --crate-name ]] && name=$argument
    previous=$argument
done

case $name in
tollgate | tollgate_fuzz | hyper | hyper_util | h2 | httparse | http | http_body | ppp | multer | toml | toml_parser | jsonwebtoken)
    exec "$@" \
        -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*)
    exec "$@"
    ;;
esac
