#!/usr/bin/env python3
"""Limits that three gateways count together through Redis: together they let pass what one would and little more, nothing that
the server holds or is told names anybody, and when it is stopped, killed or cut off, requests go on and wait no longer than is
said; when it is back, the gateways count together again.

Usage: scripts/cluster_limits.py [PROGRAM]
"""

import http.client
import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import Checks, end, free_port, make_ca, make_certificate, must, need, program_from, run, wait_for
from wire import Wire

PROGRAM = program_from(sys.argv)
GATEWAYS = 3
PASSWORD = "limits-store-secret"
# How long a request waits for the server at most, and what a busy machine may add to that.
WAIT, NOISE = 0.050, 0.100
CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
workers = 1
drain_timeout = "1s"
watch_config = false
[limits_store]
url = "{scheme}://:${{REDIS_PASSWORD}}@localhost:{redis}/1"
{ca}
[users]
source = "file"
[users.file]
path = "{users}"
[[tokens.keys]]
kid = "cluster"
alg = "HS256"
secret = "a-secret-of-the-cluster-0123456789abcdef-0123456789"
[upstreams.api]
targets = ["http://127.0.0.1:{upstream}"]
[limits.most]
key = "user"
rate = "60/m"
scope = "cluster"
[limits.fast]
key = "user"
rate = "400/s"
burst = 20
scope = "cluster"
[[routes]]
path = "/"
auth = "required"
upstream = "api"
limit = "most"
[[routes]]
path = "/fast"
auth = "required"
upstream = "api"
limit = "fast"
[[routes]]
path = "/free"
auth = "required"
upstream = "api"
"""

check = Checks()


class Api(http.server.BaseHTTPRequestHandler):
    """The API behind the gateways."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Redis:
    """A server that keeps nothing on disk."""

    def __init__(self, work):
        self.place, self.port, self.process = work, free_port(), None
        self.tls_port = free_port()

    def start(self):
        words = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", PASSWORD,
                 "--dir", self.place,
                 "--tls-port", self.tls_port, "--tls-cert-file", f"{self.place}/server.pem", "--tls-key-file", f"{self.place}/server.key",
                 "--tls-ca-cert-file", f"{self.place}/ca.pem", "--tls-auth-clients", "no"]
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)
        return self

    def ask(self, *words):
        return must("redis-cli", "-p", self.port, "-n", 1, *words, env={**os.environ, "REDISCLI_AUTH": PASSWORD})

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    def __init__(self, work, number, redis, upstream, scheme="redis", ca=""):
        self.place = f"{work}/gateway-{number}"
        self.wire = Wire(redis)
        self.port, self.admin = free_port(), free_port()
        os.makedirs(self.place)
        self.config = f"{self.place}/gateway.toml"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(port=self.port, admin=self.admin, redis=self.wire.port, upstream=upstream, users=f"{work}/users.htpasswd",
                                     scheme=scheme, ca=ca and f'ca = "{work}/{ca}.pem"'))
        self.log = open(f"{self.place}/log", "w")
        self.environment = {**os.environ, "REDIS_PASSWORD": PASSWORD}
        self.process = None

    def start(self):
        self.process = subprocess.Popen([PROGRAM, "run", "--config", self.config], stdout=self.log, stderr=self.log, env=self.environment)
        wait_for(self.port, self.process)
        return self

    def token(self, user):
        return must(PROGRAM, "token", "mint", "--user", user, "--config", self.config, env=self.environment).strip()

    def admin_get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name):
        found = re.search(rf"^tollgate_limits_{name} (\d+)$", self.admin_get("/metrics")[1], re.M)
        return int(found.group(1)) if found else None

    def said(self):
        with open(f"{self.place}/log", errors="replace") as log:
            return log.read()


class Client:
    """A connection that is kept."""

    def __init__(self, gateway, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        self.fields = {"Authorization": f"Bearer {token}"}

    def get(self, path="/"):
        """Status, seconds, and what Retry-After says."""
        began = time.monotonic()
        self.connection.request("GET", path, headers=self.fields)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, time.monotonic() - began, int(answer.headers.get("Retry-After") or 0)


def eventually(what, within, holds):
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            check(f"within {within} s: {what}", False)
            return
        time.sleep(0.01)
    check(what, True)


def together(gateways, token, each, path="/"):
    """So many requests at each gateway at once; what all were answered."""
    answers, guard = [], threading.Lock()

    def one(gateway):
        client = Client(gateway, token)
        mine = [client.get(path) for _ in range(each)]
        with guard:
            answers.extend(mine)

    threads = [threading.Thread(target=one, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def passed(answers):
    wrong = {status for status, _, _ in answers} - {200, 429}
    check("every request is answered with 200 or 429", not wrong, wrong)
    return sum(1 for status, _, _ in answers if status == 200)


def count_together(what, gateways, token):
    """A limit of 60 at three gateways that are asked 40 times each: 60, and two more for each of the two others, and what the
    rate gives meanwhile."""
    began = time.monotonic()
    count = passed(together(gateways, token, 40))
    most = 60 + 2 * (GATEWAYS - 1) + int(time.monotonic() - began) + 1
    check(f"{what}: three gateways let pass what one would", 60 <= count <= most, f"{count}, at most {most}")
    print(f"  {what}: {count} of 120 passed", flush=True)
    time.sleep(0.3)
    again = passed(together(gateways, token, 5))
    check(f"{what}: then all of them refuse", again <= 2, again)


def all_up(gateways, up=1):
    return all(gateway.metric("store_up") == up for gateway in gateways)


def joint(gateways, redis, tokens):
    check.equal("three gateways know one another", True, all(gateway.metric("gateways") == GATEWAYS for gateway in gateways))
    # What the server is told, and not only what it keeps.
    listening = subprocess.Popen(["redis-cli", "-p", str(redis.port), "MONITOR"], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "REDISCLI_AUTH": PASSWORD})
    try:
        check.equal("the server tells what it is told", "OK", listening.stdout.readline().strip())
        count_together("all there", gateways, tokens["alice"])
        names = redis.ask("KEYS", "*").split()
        values = [redis.ask("GET", name) for name in names if name.startswith("tollgate:limit:")]
        check("the server holds a count and who takes part", values and "tollgate:limits:gateways" in names, names)
        expiries = [int(redis.ask("PTTL", name)) for name in names]
        check("everything expires", all(0 <= expiry <= 65_000 or expiry == -2 for expiry in expiries), expiries)
    finally:
        listening.terminate()
    told = listening.stdout.read()
    check("the server was told something", "EVALSHA" in told.upper() and "tollgate:limit:" in told, told[:200])
    all_of_it = " ".join([told, *names, *values]).lower()
    for secret in ["alice", "bob", tokens["alice"].lower(), tokens["alice"].split(".")[1].lower(), "bearer", "127.0.0.1:0/"]:
        check("the server is told neither names nor tokens", secret not in all_of_it, secret)


class Load:
    """Requests at all gateways for as long as it runs: of a limit of which much is unsettled, and of none."""

    def __init__(self, gateways, token):
        self.running, self.answers = True, []
        paths = ["/fast", "/free"]
        self.threads = [threading.Thread(target=self.run, args=(Client(gateway, token), path)) for gateway in gateways for path in paths]
        for thread in self.threads:
            thread.start()

    def run(self, client, path):
        while self.running:
            began = time.monotonic()
            try:
                status, seconds, _ = client.get(path)
            except (OSError, http.client.HTTPException) as error:
                status, seconds = repr(error), time.monotonic() - began
            self.answers.append((path, began, status, seconds))
            time.sleep(0.01)

    def end(self):
        self.running = False
        for thread in self.threads:
            thread.join()

    def p99(self, path, since, until):
        took = sorted(seconds for where, at, _, seconds in self.answers if where == path and since <= at < until)
        return took[int(0.99 * (len(took) - 1))] if took else 0


def outages(gateways, redis, tokens):
    """The server is stopped, cut off and killed under load."""
    load = Load(gateways, tokens["dora"])
    try:
        began = time.monotonic()
        time.sleep(1)
        stopped = time.monotonic()
        redis.signal(signal.SIGSTOP)
        eventually("a server that is stopped counts as away", 3, lambda: all_up(gateways, 0))
        time.sleep(0.5)
        resumed = time.monotonic()
        redis.signal(signal.SIGCONT)
        eventually("a server that runs again is used again", 3, lambda: all_up(gateways))
        cut = time.monotonic()
        for gateway in gateways:
            gateway.wire.cut()
        time.sleep(0.2)
        eventually("connections that were cut are made again", 3, lambda: all_up(gateways))
        ended = time.monotonic()
    finally:
        load.end()
    wrong = {status for _, _, status, _ in load.answers} - {200, 429}
    check("no request fails for the server's sake", not wrong, wrong)
    for path in ("/fast", "/free"):
        usual = load.p99(path, began, stopped)
        for what, since, until in [("stopped", stopped, resumed), ("cut off", cut, ended)]:
            p99 = load.p99(path, since, until)
            print(f"  {path}, p99 while the server is {what}: {1000 * p99:.1f} ms, before {1000 * usual:.1f} ms", flush=True)
            check(f"{path}: nobody waits longer than is said", p99 <= usual + WAIT + NOISE, f"{p99:.3f} s, before {usual:.3f} s")


def alone(gateways, redis, tokens):
    """Without a server each gateway keeps the limit by itself; afterwards all do together, and nobody owes anything."""
    redis.kill()
    eventually("a server that was killed is away", 3, lambda: all_up(gateways, 0))
    count = passed(together(gateways, tokens["bob"], 70))
    check("without the server each gateway lets pass the limit as it is", 180 <= count <= 189, count)
    for gateway in gateways:
        check.equal("a gateway without the server is ready", 200, gateway.admin_get("/readyz")[0])
        check("failures are counted", gateway.metric("store_failures_total") > 0)
        lines = [line for line in gateway.said().split("\n") if "the limits store is away" in line]
        check("each outage is told once", 1 <= len(lines) <= 3, len(lines))
    redis.start()
    eventually("a server that was started again is used again", 4, lambda: all_up(gateways))
    # It has forgotten everything, and is told by each gateway what still counts.
    answers = together(gateways, tokens["bob"], 3)
    check("what was counted alone counts", passed(answers) <= 4, answers)
    check("nobody pays for what three gateways let pass", max(after for _, _, after in answers) <= 4, answers)
    eventually("gateways find one another", 3, lambda: all(gateway.metric("gateways") == GATEWAYS for gateway in gateways))
    count_together("after an outage", gateways, tokens["carol"])


def over_tls(work, redis, upstream):
    """The server is believed when the right authority has signed for it, and else it is as good as away."""
    gateways = []
    try:
        for number, (ca, up) in enumerate([("ca", 1), ("other", 0)]):
            gateway = Gateway(work, f"tls-{number}", redis.tls_port, upstream, "rediss", ca)
            gateways.append(gateway)
            gateway.start()
            if up:
                eventually("the server is used over TLS", 4, lambda: gateway.metric("store_up") == 1)
            else:
                eventually("a server that shows another's certificate is not", 4, lambda: gateway.metric("store_failures_total") > 1)
                check.equal("it counts as away", 0, gateway.metric("store_up"))
            count = passed(together([gateway], gateway.token("alice" if up else "bob"), 2))
            check.equal("requests pass either way", 2, count)
    finally:
        end([gateway.process for gateway in gateways])


def main():
    need("redis-server", "redis-cli", "openssl")
    work = tempfile.mkdtemp(prefix="tollgate-limits-")
    gateways, redis, backend = [], None, None
    try:
        for authority in ("ca", "other"):
            make_ca(work, authority)
        make_certificate(work, "ca", "server", "DNS:localhost")
        redis = Redis(work).start()
        upstream = free_port()
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", upstream), Api)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        users = ["alice", "bob", "carol", "dora"]
        word = run(PROGRAM, "hash-password", input="correct horse of the limits\n").stdout.strip()
        with open(f"{work}/users.htpasswd", "w") as file:
            file.write("".join(f"{user}:{word}\n" for user in users))
        gateways = [Gateway(work, number, redis.port, upstream).start() for number in range(GATEWAYS)]
        tokens = {user: gateways[0].token(user) for user in users}
        eventually("the gateways find the server, and one another", 4,
                   lambda: all(gateway.metric("store_up") == 1 and gateway.metric("gateways") == GATEWAYS for gateway in gateways))
        check.section("counting together", joint, gateways, redis, tokens)
        check.section("outages", outages, gateways, redis, tokens)
        check.section("alone", alone, gateways, redis, tokens)
        check.section("over TLS", over_tls, work, redis, upstream)
        for gateway in gateways:
            check("no log holds the password of the server", PASSWORD not in gateway.said())
            waits, timeouts, trips = (gateway.metric(f"store_{name}_total") for name in ("waits", "wait_timeouts", "exchanges"))
            print(f"  {gateway.place[-9:]}: {trips} round trips, {waits} requests waited, {timeouts} in vain", flush=True)
    finally:
        if redis is not None and redis.process.poll() is None:
            redis.signal(signal.SIGCONT)
            redis.kill()
        end([gateway.process for gateway in gateways])
        if backend is not None:
            backend.shutdown()
        shutil.rmtree(work, ignore_errors=True)
    check.finish(30)


main()
