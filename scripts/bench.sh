#!/usr/bin/env bash
# Processor time of the gateway for each authenticated request: wrk -> gateway -> nginx, all on this machine.
# Usage: scripts/bench.sh [PROGRAM] [SECONDS]. Needs wrk, nginx, python3 and two processors. docs/performance.md explains it.
set -euo pipefail

program=$(realpath "${1:-target/release/tollgate}")
duration=${2:-10}
work=$(mktemp -d)
started=()
finish() {
    for process in "${started[@]}"; do kill -KILL "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
for tool in wrk nginx python3 curl taskset; do
    command -v "$tool" >/dev/null || { echo "bench.sh needs $tool" >&2; exit 1; }
done
cd "$work"

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
wait_for() {
    for _ in $(seq 500); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.02
    done
    echo "not in time: $*" >&2
    return 1
}

upstream=$(free_port)
cat >nginx.conf <<NGINX
daemon off;
master_process off;
pid $work/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    server { listen 127.0.0.1:$upstream; location / { return 200 "ok"; } }
}
NGINX
taskset -c 1 nginx -e stderr -p "$work" -c "$work/nginx.conf" &
started+=($!)
wait_for curl -sf "http://127.0.0.1:$upstream/"

listen=$(free_port)
head -c 48 /dev/urandom | base64 -w 0 >secret
cat >gateway.toml <<TOML
[server]
listen = ["127.0.0.1:$listen"]
admin = ""
workers = 1
[[tokens.keys]]
alg = "HS256"
secret_file = "secret"
[upstreams.api]
targets = ["http://127.0.0.1:$upstream"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
[log]
access = false
TOML
echo bench | "$program" user add bench >/dev/null
taskset -c 0 "$program" >log &
gateway=$!
started+=("$gateway")
url="http://127.0.0.1:$listen"
login() { curl -sf "$url/api/token/" -d username=bench -d password=bench; }
wait_for login
access=$(login | sed 's/.*"access":"\([^"]*\)".*/\1/')

# User and system time of the process, in clock ticks.
ticks() { awk '{ print $14 + $15 }' "/proc/$gateway/stat"; }

taskset -c 1 wrk -t 1 -c 64 -d 2s -H "Authorization: Bearer $access" "$url/" >/dev/null
before=$(ticks)
taskset -c 1 wrk -t 1 -c 64 -d "${duration}s" --latency -H "Authorization: Bearer $access" "$url/" | tee result
after=$(ticks)
requests=$(awk '/requests in/ { print $1 }' result)
grep -q 'Non-2xx' result && { echo "some requests were refused" >&2; exit 1; }
awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" -v requests="$requests" \
    'BEGIN { printf "%.1f microseconds of processor time per request\n", ticks / hertz * 1e6 / requests }'
