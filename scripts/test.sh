#!/usr/bin/env bash
# Everything that CI checks, with a count of all tests in the last line. Built without optimisation across crates, which
# takes minutes and changes no result.
set -uo pipefail
cd "$(dirname "$0")/.."

output=target/test-output
broken=target/test-broken
mkdir -p target/test-steps
: >"$output"
: >"$broken"

# done_with NAME STATUS SECONDS: remembers a step that failed, and says how long it took.
done_with() {
    if (($2 != 0)); then
        echo "== $1: FAILED"
        echo "$1" >>"$broken"
    fi
    echo "== $1: $3 s"
}

# step NAME COMMAND…: runs and shows it, and remembers what it printed.
step() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    "$@" 2>&1 | tee -a "$output"
    done_with "$name" "${PIPESTATUS[0]}" $((SECONDS - began))
}

# beside NAME COMMAND…: the same for a step that runs beside others. What it printed is shown whole when it has ended.
beside() {
    local name=$1 began=$SECONDS status
    shift
    "$@" >"target/test-steps/$name" 2>&1
    status=$?
    {
        flock 9
        echo "== $name"
        tee -a "$output" <"target/test-steps/$name"
        done_with "$name" "$status" $((SECONDS - began))
    } 9>target/test-lock
}

# The reverse proxy's usual upstream, for the smoke test; without it, Python stands in.
if ! command -v nginx >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx-light; } || true
fi
# A database for the users of a Django application.
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql; } || true
fi
# A server through which gateways count together.
if ! command -v redis-server >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends redis-server; } || true
fi
# A browser for the admin page, and a load for the metrics; both tests do without where there is none.
if ! { command -v chromium && command -v wrk; } >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium wrk; } || true
fi
# Counts instructions, so that a slow-down is seen whatever else the machine does.
if ! command -v valgrind >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends valgrind; } || true
fi
# Clients of TLS and HTTP/2, and a server of it.
if ! { command -v curl && command -v openssl && command -v h2load && command -v nghttpd; } >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends curl openssl nghttp2-client nghttp2-server; } || true
fi
python=python3
if ! python3 -c 'import requests, h2, websockets, cryptography, jsonschema, prometheus_client, promql_parser' 2>/dev/null; then
    python=target/venv/bin/python3
    [[ -x $python ]] || python3 -m venv target/venv
    "$python" -c 'import requests, h2, websockets, cryptography, jsonschema, prometheus_client, promql_parser' 2>/dev/null || "$python" -m pip install -q requests h2 websockets cryptography jsonschema prometheus_client promql-parser
fi
# The Autobahn test suite runs on Python 2.7 only; where there is none, the matrix of websocket_clients.py stands alone.
wstest=()
if [[ ! -x target/venv2/bin/wstest ]] && python2.7 -m virtualenv --version >/dev/null 2>&1; then
    python2.7 -m virtualenv -q target/venv2 && target/venv2/bin/pip install -q autobahntestsuite==0.8.2 || true
fi
[[ -x target/venv2/bin/wstest ]] && wstest=(target/venv2/bin/wstest)

step "format" cargo fmt --check
# Clippy looks at the package while it is compiled. "cargo clippy" would go through it, and through all libraries, once more.
if clippy=$(command -v clippy-driver); then
    export RUSTC_WORKSPACE_WRAPPER=$clippy CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__
    step "clippy" cargo test --locked --no-run --all-targets
else
    step "clippy" cargo clippy --locked --all-targets -- -D warnings
fi
step "tests" cargo test --locked --no-fail-fast
# Each benchmark once, so that none measures nothing.
step "benchmarks" cargo test --locked --bench fields --bench routing --bench tokens
# With the tests, because they ask for more features of some libraries, which would all be built anew without.
step "build" cargo build --locked --bins --tests
# Most of these wait more than they work, so two lanes of them take the time of one.
{
    beside "smoke" scripts/smoke.sh target/debug/tollgate
    beside "schema" "$python" scripts/schema.py target/debug/tollgate
    beside "dashboards" "$python" scripts/dashboards.py
    beside "client" "$python" scripts/django_client.py target/debug/tollgate
    beside "cluster" "$python" scripts/cluster.py --short target/debug/tollgate
    beside "kill loop" "$python" scripts/kill_loop.py 20 target/debug/tollgate
    beside "protocols" "$python" scripts/protocols.py target/debug/tollgate
    beside "TLS" "$python" scripts/tls_clients.py target/debug/tollgate
    beside "certificates" "$python" scripts/certificate_swaps.py 40 target/debug/tollgate
    beside "WebSockets" "$python" scripts/websocket_clients.py target/debug/tollgate "${wstest[@]}"
    beside "django" timeout 600 python3 scripts/django_interop.py target/debug/tollgate
} &
{
    beside "attacks" "$python" scripts/attacks.py target/debug/tollgate
    beside "canary" "$python" scripts/canary.py target/debug/tollgate
    beside "watchdog" python3 scripts/watchdog.py target/debug/tollgate
    beside "admin page" "$python" scripts/admin_page.py target/debug/tollgate
} &
wait
# These measure, and want the machine for themselves.
step "faults" "$python" scripts/faults --quick target/debug/tollgate
step "instructions" "$python" scripts/instructions.py target/debug/tollgate --requests 500 --gate debug
step "cluster limits" "$python" scripts/cluster_limits.py target/debug/tollgate
step "upstream chaos" "$python" scripts/upstream_chaos.py target/debug/tollgate 8
step "flood" "$python" scripts/login_flood.py target/debug/tollgate
step "metrics under load" "$python" scripts/metrics_load.py target/debug/tollgate 3 2
step "slow clients" "$python" scripts/slow_clients.py target/debug/tollgate 600 10
step "reload" "$python" scripts/reload_load.py 40 target/debug/tollgate
step "restart" "$python" scripts/restart_load.py 8 target/debug/tollgate
step "identity load" cargo test --locked --test identity_load -- 200000

# Cargo prints "test result: ok. 12 passed; 0 failed; …", the scripts print "12 passed, 0 failed".
awk -v broken="$(wc -l <"$broken")" '
    /^test result:/ { passed += $4; failed += $6 }
    /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    END {
        # A step may fail without a test that did, such as one that does not compile.
        if (broken > 0 && failed == 0) failed = broken
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0
    }' "$output"
