#!/usr/bin/env bash
# Everything that CI checks, with a count of all tests in the last line. Built without optimisation across crates, which
# takes minutes and changes no result.
set -uo pipefail
cd "$(dirname "$0")/.."

output=target/test-output
mkdir -p target
: >"$output"
broken=0

# step NAME COMMAND…: runs and shows it, and remembers what it printed.
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" 2>&1 | tee -a "$output"
    if ((PIPESTATUS[0] != 0)); then
        echo "== $name: FAILED"
        broken=$((broken + 1))
    fi
}

# The reverse proxy's usual upstream, for the smoke test; without it, Python stands in.
if ! command -v nginx >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx-light; } || true
fi
# A database for the users of a Django application.
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql; } || true
fi
# Clients of TLS and HTTP/2, and a server of it.
if ! { command -v curl && command -v openssl && command -v h2load && command -v nghttpd; } >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends curl openssl nghttp2-client nghttp2-server; } || true
fi
python=python3
if ! python3 -c 'import requests, h2, websockets, cryptography' 2>/dev/null; then
    python=target/venv/bin/python3
    [[ -x $python ]] || python3 -m venv target/venv
    "$python" -c 'import requests, h2, websockets, cryptography' 2>/dev/null || "$python" -m pip install -q requests h2 websockets cryptography
fi
# The Autobahn test suite runs on Python 2.7 only; where there is none, the matrix of websocket_clients.py stands alone.
wstest=()
if [[ ! -x target/venv2/bin/wstest ]] && python2.7 -m virtualenv --version >/dev/null 2>&1; then
    python2.7 -m virtualenv -q target/venv2 && target/venv2/bin/pip install -q autobahntestsuite==0.8.2 || true
fi
[[ -x target/venv2/bin/wstest ]] && wstest=(target/venv2/bin/wstest)

step "format" cargo fmt --check
step "clippy" cargo clippy --locked --all-targets -- -D warnings
step "tests" cargo test --locked --no-fail-fast
# With the tests, because they ask for more features of some libraries, which would all be built anew without.
step "build" cargo build --locked --bins --tests
step "smoke" scripts/smoke.sh target/debug/tollgate
step "client" "$python" scripts/django_client.py target/debug/tollgate
step "kill loop" "$python" scripts/kill_loop.py 20 target/debug/tollgate
step "faults" "$python" scripts/faults --quick target/debug/tollgate
step "flood" "$python" scripts/login_flood.py target/debug/tollgate
step "protocols" "$python" scripts/protocols.py target/debug/tollgate
step "TLS" "$python" scripts/tls_clients.py target/debug/tollgate
step "certificates" "$python" scripts/certificate_swaps.py 40 target/debug/tollgate
step "WebSockets" "$python" scripts/websocket_clients.py target/debug/tollgate "${wstest[@]}"
step "attacks" "$python" scripts/attacks.py target/debug/tollgate
step "slow clients" "$python" scripts/slow_clients.py target/debug/tollgate 600 10
step "canary" "$python" scripts/canary.py target/debug/tollgate
step "identity load" cargo test --locked --test identity_load -- 200000
step "django" timeout 600 python3 scripts/django_interop.py target/debug/tollgate

# Cargo prints "test result: ok. 12 passed; 0 failed; …", the scripts print "12 passed, 0 failed".
awk -v broken="$broken" '
    /^test result:/ { passed += $4; failed += $6 }
    /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    END {
        # A step may fail without a test that did, such as one that does not compile.
        if (broken > 0 && failed == 0) failed = broken
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0
    }' "$output"
