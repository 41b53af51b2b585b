#!/usr/bin/env bash
# The life of an installation, with the real program: init, users, run, login, refusals, signals, exit codes.
# Usage: scripts/smoke.sh [PROGRAM]. Everything happens in a directory of its own, on free ports of this machine.
set -uo pipefail

program=$(realpath "${1:-target/debug/tollgate}")
work=$(mktemp -d)
upstream_process=
gateway=
passed=0
failed=0

finish() {
    for process in $upstream_process $gateway; do kill -KILL "$process" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT
cd "$work" || exit 1

# check WHAT EXPECTED ACTUAL
check() {
    if [[ "$2" == "$3" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
    fi
}

# within SECONDS COMMAND…: tries until the command succeeds.
within() {
    local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/./} < deadline)) || return 1
        sleep 0.02
    done
}

give_up() {
    echo "FAILED: $1"
    [[ -f "$work/log" ]] && tail -n 20 "$work/log"
    echo "$passed passed, $((failed + 1)) failed"
    exit 1
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# An API that answers with what it was told: nginx, or Python where there is no nginx.
start_upstream() {
    upstream=$(free_port)
    if command -v nginx >/dev/null; then
        cat >nginx.conf <<NGINX
daemon off;
master_process off;
pid $work/nginx.pid;
error_log stderr crit;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    server {
        listen 127.0.0.1:$upstream;
        location / { return 200 "id=\$http_x_user_id name=\$http_x_user_name email=\$http_x_user_email groups=\$http_x_user_groups auth=\$http_authorization path=\$request_uri"; }
    }
}
NGINX
        nginx -e stderr -p "$work" -c "$work/nginx.conf" &
    else
        python3 - "$upstream" <<'PYTHON' &
import http.server, sys

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        told = lambda name: self.headers.get(name, "")
        body = (f"id={told('X-User-Id')} name={told('X-User-Name')} email={told('X-User-Email')} "
                f"groups={told('X-User-Groups')} auth={told('Authorization')} path={self.path}").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
PYTHON
    fi
    upstream_process=$!
    within 10 curl -sf -o answer "http://127.0.0.1:$upstream/" || give_up "the upstream does not answer"
}

# The address after a key of the line that says that the gateway serves.
address_in_log() {
    sed -n 's/.*"'"$1"'":"[^"0-9]*\([0-9.]*:[0-9]*\).*"the gateway serves".*/\1/p; s/.*"the gateway serves".*"'"$1"'":"[^"0-9]*\([0-9.]*:[0-9]*\).*/\1/p' log | head -n 1
}

serves() { [[ -n "$(address_in_log listen)" ]] || ! kill -0 "$gateway" 2>/dev/null; }

start_gateway() {
    # Emptied first: the new process may not have got as far when the log is read.
    : >log
    "$program" >log 2>errors &
    gateway=$!
    within 20 serves || give_up "the gateway does not start"
    listen=$(address_in_log listen)
    admin=$(address_in_log admin)
    [[ -n "$listen" && -n "$admin" ]] || { cat errors; give_up "the gateway has not started"; }
    url="http://$listen"
}

status() { curl -s -o answer -w '%{http_code}' --max-time 10 "$@"; }
member() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' answer; }

# A configuration from nothing.
start_upstream
"$program" init --upstream "127.0.0.1:$upstream" 2>errors
check "init refuses a target without a scheme" 2 $?
check "and says what was meant" 1 "$(grep -c "did you mean \"http://127.0.0.1:$upstream\"" errors)"
"$program" init --upstream "http://127.0.0.1:$upstream" >/dev/null
check "init writes a configuration" 0 $?
"$program" init --upstream "http://127.0.0.1:$upstream" 2>errors
check "init writes over nothing" 1 $?
"$program" check >answer
check "check is content" "0 gateway.toml: ok" "$? $(head -n 1 answer)"
check "check shows who may use a route" 1 "$(grep -c "any token  api (http://127.0.0.1:$upstream)" answer)"
sed -i 's/^listen .*/listen = ["127.0.0.1:0"]/; s/^listen=.*/listen = ["127.0.0.1:0"]/; s/^admin .*/admin = "127.0.0.1:0"/' gateway.toml

# Users, before and while the gateway runs.
echo 'correct horse' | "$program" user add alice --email alice@example.com --group staff --group admin >/dev/null
check "user add" 0 $?
start_gateway
echo 'battery staple' | "$program" user add bob >/dev/null
check "user add while the gateway runs" 0 $?
check "user list" "alice bob" "$("$program" user list | awk 'NR > 1 { printf "%s%s", separator, $2; separator = " " }')"
check "health" "ready" "$("$program" health --address "$admin")"

# Login in the three encodings, and what the API is told.
check "login with a form" 200 "$(status "$url/api/token/" -d username=alice --data-urlencode 'password=correct horse')"
check "login with JSON" 200 "$(status "$url/api/token/" -H 'Content-Type: application/json' -d '{"username":"alice","password":"correct horse"}')"
check "login with multipart" 200 "$(status "$url/api/token/" -F username=alice -F 'password=correct horse')"
access=$(member access)
refresh=$(member refresh)
check "the token passes" 200 "$(status "$url/things?x=1" -H "Authorization: Bearer $access" -H 'X-User-Id: 0' -H 'X_User_Name: root')"
check "the API is told who calls" "id=1 name=alice email=alice@example.com groups=admin,staff auth= path=/things?x=1" "$(cat answer)"
check "refresh" 200 "$(status "$url/api/token/refresh/" -d "refresh=$refresh")"
check "the new token passes" 200 "$(status "$url/" -H "Authorization: Bearer $(member access)")"
printf '%s\n' "$access" | "$program" token inspect >answer
check "token inspect" "0 verdict: passes as access token of user 1" "$? $(tail -n 1 answer)"

# Refusals.
check "no token" 401 "$(status "$url/")"
check "its reason" credentials_missing "$(member reason)"
check "a refresh token is no access token" 401 "$(status "$url/" -H "Authorization: Bearer $refresh")"
check "a wrong password" 401 "$(status "$url/api/token/" -d username=alice -d password=wrong)"
check "an ambiguous path" 400 "$(status --path-as-is "$url/a/../b" -H "Authorization: Bearer $access")"

# A load test, by a user who logs in.
bench() { "$program" bench "$@" --duration 300ms --warm-up 100ms --connections 4; }
echo 'correct horse' | bench "$url/things" --user alice --rate 100/s --compare "http://127.0.0.1:$upstream/things" \
    --rounds 1 --format json --html report.html >answer 2>errors
check "a load test passes" 0 $?
check "it counts what was due" "30 30" "$(tr -d ' ,' <answer | sed -n 's/^"requests"://p' | paste -s -d ' ')"
check "it writes a page with plots" 3 "$(grep -c '<svg ' report.html)"
check "its progress goes elsewhere" 1 "$(grep -c '^gateway ' errors)"
bench "$url/things" --quiet >answer 2>errors
check "a load test that is refused" "1 tollgate: more than 1% failed" "$? $(cat errors)"
echo wrong | bench "$url/things" --user alice >answer 2>errors
check "a load test without a login" "1 1" "$? $(grep -c "the login of alice at $url/api/token/ failed: the answer was 401" errors)"
bench "$url/things" --password x >answer 2>errors
check "a password is no argument" 2 $?

# A disabled user is refused within a second, on every thread.
"$program" user disable alice >/dev/null
since=$(date +%s%N)
refused() { [[ "$(status "$url/" -H "Authorization: Bearer $access")" == 401 ]]; }
within 10 refused || give_up "a disabled user is not refused"
check "the reason is the user" user_inactive "$(member reason)"
check "it took less than a second" yes "$( (($(date +%s%N) - since < 1000000000)) && echo yes || echo no)"
check "a disabled user cannot log in" 401 "$(status "$url/api/token/" -d username=alice --data-urlencode 'password=correct horse')"

# What goes wrong at the start.
sed "s/^listen .*/listen = [\"$listen\"]/" gateway.toml >taken.toml
timeout 20 "$program" --config taken.toml >answer 2>errors
check "a port that is taken" 3 $?
check "is named" 1 "$(grep -c "cannot listen on $listen: the port is taken" errors)"
sed 's/^targets/targetz/' gateway.toml >broken.toml
timeout 20 "$program" --config broken.toml >answer 2>errors
check "a broken configuration" 1 $?
check "shows the line" 1 "$(grep -c 'broken.toml:[0-9]*:1: unknown key "targetz"' errors)"
"$program" check --config missing.toml 2>errors
check "a missing configuration" 1 $?
"$program" user add 2>errors
check "wrong usage" 2 $?

# Signals.
kill -HUP "$gateway"
hangup_logged() { grep -q 'the configuration was reloaded' log; }
within 10 hangup_logged || give_up "HUP is not logged"
check "HUP kills nothing" 401 "$(status "$url/")"
kill -TERM "$gateway"
wait "$gateway"
check "TERM drains and ends with 0" 0 $?
gateway=
check "the log holds neither password nor token" 0 "$(grep -c -e 'correct horse' -e "$access" log)"
check "the end is logged" 1 "$(grep -c 'the gateway has stopped' log)"
"$program" health --address "$admin" 2>errors
check "health of what does not run" 1 $?

# What was there is there after a restart, the key and the users among it.
start_gateway
"$program" user enable alice >/dev/null
ended() { [[ "$(status "$url/" -H "Authorization: Bearer $access")" == 401 && "$(member reason)" == token_revoked ]]; }
check "disabling has ended the session for good" yes "$(within 10 ended && echo yes)"
check "login after a restart" 200 "$(status "$url/api/token/" -d username=alice --data-urlencode 'password=correct horse')"
access=$(member access)
refresh=$(member refresh)
check "the token passes again" 200 "$(status "$url/" -H "Authorization: Bearer $access")"
check "session list" "active" "$("$program" session list --user alice | awk 'NR == 2 { print $NF }')"
"$program" session revoke --user alice >answer
check "session revoke" "0 ended 1 session" "$? $(cat answer)"
check "it holds in the gateway that runs" yes "$(within 5 ended && echo yes)"
printf '%s\n' "$access" | "$program" token inspect >answer
check "token inspect knows it" "1 1" "$? $(grep -c 'its session has ended (token_revoked)' answer)"
check "for the refresh token too" 401 "$(status "$url/api/token/refresh/" -d "refresh=$refresh")"
check "logout" "200 401" "$(
    status "$url/api/token/" -d username=alice --data-urlencode 'password=correct horse' >/dev/null
    refresh=$(member refresh)
    printf '%s ' "$(status "$url/api/token/blacklist/" -d "refresh=$refresh")"
    status "$url/api/token/blacklist/" -d "refresh=$refresh"
)"
kill -INT "$gateway"
wait "$gateway"
check "INT drains and ends with 0" 0 $?
gateway=

echo "$passed passed, $failed failed"
((failed == 0))
