#!/usr/bin/env python3
"""Three gateways on one PostgreSQL: one successor for parallel refreshes wherever they arrive, revocations that are effective
everywhere within a second, and neither a double spend nor a lost answer when a gateway or the database is killed, stopped or
cut off. Every refresh is written down with when it was asked, when it was answered and what with; at the end a checker looks
for one order of each session that explains all of it.

With --older, the first gateway is of another version of the program, which has to work with the same database.

Usage: scripts/cluster.py [--short] [--older PROGRAM] [PROGRAM]
"""

import base64
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import Checks, free_port, must, wait_for
from postgres_server import PASSWORD, Server
from wire import Wire

SHORT = "--short" in sys.argv
ARGUMENTS = sys.argv[1:]
OLDER = None
if "--older" in ARGUMENTS:
    at = ARGUMENTS.index("--older")
    OLDER = os.path.abspath(ARGUMENTS[at + 1])
    del ARGUMENTS[at : at + 2]
ARGUMENTS = [word for word in ARGUMENTS if not word.startswith("--")]
PROGRAM = os.path.abspath(ARGUMENTS[0] if ARGUMENTS else "target/debug/tollgate")
GATEWAYS = 3
USER_PASSWORD = "correct horse of the cluster"
# What encrypts keys in the database, where every gateway knows of such keys.
KEY_ENCRYPTION_KEY = "a-key-encryption-key-of-the-cluster-0123456789"
TOKENS = "" if OLDER else 'key_encryption_key_env = "KEY_ENCRYPTION_KEY"'
os.environ["KEY_ENCRYPTION_KEY"] = KEY_ENCRYPTION_KEY
CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
workers = 1
drain_timeout = "1s"
watch_config = false
[store]
url = "{url}"
{store}
[tokens]
rotate_refresh = true
reuse_grace = "10m"
{tokens}
[[tokens.keys]]
kid = "cluster"
alg = "HS256"
secret = "a-secret-of-the-cluster-0123456789abcdef-0123456789"
[users.hashing]
memory = "64KiB"
iterations = 1
[upstreams.api]
targets = ["http://127.0.0.1:{upstream}"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
"""

check = Checks()


def jti(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"]


class Api(http.server.BaseHTTPRequestHandler):
    """The API behind the gateways."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Gateway:
    def __init__(self, work, name, database_port, upstream, store=""):
        self.place, self.name = f"{work}/{name}", name
        self.wire = Wire(database_port)
        self.port, self.admin = free_port(), free_port()
        os.makedirs(self.place)
        self.config = f"{self.place}/gateway.toml"
        url = f"postgres://tollgate:${{DATABASE_PASSWORD}}@127.0.0.1:{self.wire.port}/postgres?sslmode=disable"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(port=self.port, admin=self.admin, url=url, upstream=upstream, store=store, tokens=TOKENS))
        self.log = open(f"{self.place}/log", "a")
        self.process = None

    def start(self, wait=True):
        environment = {**os.environ, "DATABASE_PASSWORD": PASSWORD}
        program = OLDER if OLDER and self.name == "gateway-0" else PROGRAM
        self.process = subprocess.Popen([program, "run", "--config", self.config], stdout=self.log, stderr=self.log, env=environment)
        if wait:
            wait_for(self.port, self.process)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=None, token=None, timeout=15):
        """Status and body; `None` when no whole answer came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else {}
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def login(self):
        status, body = self.request("POST", "/api/token/", {"username": "cluster", "password": USER_PASSWORD})
        assert status == 200, body
        return body["access"], body["refresh"]

    def status(self, access):
        answer = self.request("GET", "/", token=access, timeout=5)
        return answer and answer[0]

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class History:
    """Who asked what when, and what was answered: of every refresh of a session."""

    def __init__(self):
        self.guard, self.events = threading.Lock(), []

    def refresh(self, gateway, session, token):
        asked = time.monotonic()
        answer = gateway.request("POST", "/api/token/refresh/", {"refresh": token})
        answered = time.monotonic()
        status = answer[0] if answer else None
        successor = answer[1].get("refresh") if status == 200 else None
        with self.guard:
            self.events.append((session, jti(token), asked, answered, status, successor and jti(successor)))
        return status, successor

    def explain(self, firsts):
        """Whether one order of each session explains every answer: each token has at most one successor, all successors are in
        one chain from the first token, and once a successor was asked with (and answered), its predecessor is never answered
        again with success to whoever asks later."""
        for session, first in firsts.items():
            events = [event for event in self.events if event[0] == session]
            successors = {}
            for _, token, _, _, status, successor in events:
                if status == 200:
                    known = successors.setdefault(token, successor)
                    if not check(f"{session}: a token has one successor", known == successor, f"{known} and {successor}"):
                        return
            chain, token = [first], first
            while token in successors and successors[token] not in chain:
                token = successors[token]
                chain.append(token)
            check(f"{session}: all that were exchanged are in one chain", set(successors) <= set(chain), f"{len(successors)} and {len(chain)}")
            used = {}
            for _, token, _, answered, status, _ in events:
                if status == 200:
                    used[token] = min(used.get(token, answered), answered)
            for _, token, asked, _, status, _ in events:
                after = successors.get(token)
                if status == 200 and after in used and used[after] < asked:
                    check(f"{session}: a token is dead once its successor was used", False, f"{token}")


def eventually(what, within, holds):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within:
            check(f"within {within} s: {what}", False)
            return None
        time.sleep(0.005)
    took = time.monotonic() - began
    check(what, True)
    return took


def together(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def parallel_refreshes(gateways, rounds):
    """50 refreshes of one token, spread over all gateways: one successor."""
    took = []
    for _ in range(rounds):
        _, token = random.choice(gateways).login()
        answers, guard = [], threading.Lock()

        def one(number):
            began = time.monotonic()
            answer = gateways[number % len(gateways)].request("POST", "/api/token/refresh/", {"refresh": token})
            with guard:
                answers.append(answer)
                took.append(time.monotonic() - began)

        together(50, one)
        check("all 50 are answered", all(answer and answer[0] == 200 for answer in answers), [a and a[0] for a in answers])
        found = {jti(answer[1]["refresh"]) for answer in answers if answer and answer[0] == 200}
        check.equal("50 parallel refreshes have one successor", 1, len(found))
    told("a refresh among 50", took)


def told(what, seconds):
    if seconds:
        ordered = sorted(seconds)
        at = lambda share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        print(f"  {what}: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, most {1000 * ordered[-1]:.1f} ms ({len(ordered)})", flush=True)


def revocations(gateways, rounds):
    """From the answer of a logout at one gateway to the first refusal at each other one."""
    took = []
    for number in range(rounds):
        home = gateways[number % len(gateways)]
        access, token = home.login()
        others = [gateway for gateway in gateways if gateway is not home]
        for gateway in others:
            check.equal("it passes before", 200, gateway.status(access))
        check.equal("the logout is answered", 200, home.request("POST", "/api/token/blacklist/", {"refresh": token})[0])
        began = time.monotonic()
        check.equal("it is refused at once where it was revoked", 401, home.status(access))

        def see(index):
            while others[index].status(access) != 401 and time.monotonic() - began < 5:
                pass
            took.append(time.monotonic() - began)

        together(len(others), see)
    check("a revocation is effective everywhere within a second", max(took) < 1, f"{max(took):.3f} s")
    told("revocation, seen by another gateway", took)


def kid(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"]


def key_command(gateway, *words):
    return must(PROGRAM, "key", *words, "--config", gateway.config, env={**os.environ, "DATABASE_PASSWORD": PASSWORD})


def key_rotations(gateways, rounds):
    """From the end of the command to the first token of the new key, and to the first refusal of the old one, everywhere."""
    signed, refused = [], []
    for number in range(rounds):
        home = gateways[number % len(gateways)]
        old, refresh = home.login()
        check.equal("it passes before", [200] * len(gateways), [gateway.status(old) for gateway in gateways])
        key_command(home, "rotate", "--alg", random.choice(["EdDSA", "ES256"]), "--now")
        began = time.monotonic()

        def sign(index):
            while kid(gateways[index].login()[0]) == kid(old) and time.monotonic() - began < 5:
                pass
            signed.append(time.monotonic() - began)

        together(len(gateways), sign)
        new, _ = home.login()
        check.equal("tokens of the old and of the new key pass", [200] * 2 * len(gateways),
                    [gateway.status(token) for gateway in gateways for token in (old, new)])
        status, keys = home.request("GET", "/.well-known/jwks.json")
        check("the new key is published", status == 200 and kid(new) in [key["kid"] for key in keys["keys"]], keys)
        if kid(old) == "cluster":
            continue
        key_command(home, "retire", kid(old), "--now")
        began = time.monotonic()

        def see(index):
            while gateways[index].status(old) != 401 and time.monotonic() - began < 5:
                pass
            refused.append(time.monotonic() - began)

        together(len(gateways), see)
        check.equal("nothing is given for its refresh token", 401, home.request("POST", "/api/token/refresh/", {"refresh": refresh})[0])
    check("a new key signs everywhere within a second", max(signed) < 1, f"{max(signed):.3f} s")
    check("a key that ends is refused everywhere within a second", max(refused) < 1, f"{max(refused):.3f} s")
    told("a new key signs at a gateway", signed)
    told("a key that ends is refused by a gateway", refused)


class Clients:
    """Clients that go from gateway to gateway with their refresh tokens, and retry what was not answered."""

    def __init__(self, gateways, history, count):
        self.gateways, self.history, self.running = gateways, history, True
        self.tokens, self.firsts = {}, {}
        for number in range(count):
            _, token = random.choice(gateways).login()
            name = f"session {len(history.events)}.{number}"
            self.tokens[name], self.firsts[name] = token, jti(token)
        self.threads = [threading.Thread(target=self.run, args=(name,)) for name in self.tokens]
        for thread in self.threads:
            thread.start()

    def run(self, name):
        while self.running:
            token = self.tokens[name]
            gateway = random.choice(self.gateways)
            status, successor = self.history.refresh(gateway, name, token)
            if status == 200:
                self.tokens[name] = successor
                if random.random() < 0.2:
                    # The answer might have been lost: a retry gets the same.
                    self.history.refresh(random.choice(self.gateways), name, token)
            elif status == 401:
                check(f"{name}: a token that was answered is not lost", False)
                return
            else:
                time.sleep(0.02)

    def end(self):
        self.running = False
        for thread in self.threads:
            thread.join()
        for name, token in self.tokens.items():
            status = None
            deadline = time.monotonic() + 10
            while status != 200 and status != 401 and time.monotonic() < deadline:
                status, _ = self.history.refresh(random.choice(self.gateways), name, token)
            check.equal(f"{name}: the last token that was answered works", 200, status)


def under_load(gateways, what, faults):
    history = History()
    clients = Clients(gateways, history, 6)
    for fault in faults:
        time.sleep(random.uniform(0.1, 0.3))
        fault()
    time.sleep(0.2)
    clients.end()
    good = sum(1 for event in history.events if event[4] == 200)
    check(f"{what}: there were refreshes", good > 20, good)
    history.explain(clients.firsts)
    print(f"  {what}: {len(history.events)} refreshes, {good} with success, in a single order", flush=True)


def kill_gateways(gateways, cycles):
    def one():
        gateway = random.choice(gateways)
        gateway.kill()
        time.sleep(0.05)
        gateway.start()

    under_load(gateways, "kill -9 of a gateway", [one] * cycles)


def kill_database(gateways, server, cycles):
    def one():
        server.kill()
        time.sleep(0.2)
        server.start()
        eventually("refreshes go on when the database is back", 10, lambda: refreshes_at(gateways))

    under_load(gateways, "kill -9 of the database", [one] * cycles)


def refreshes_at(gateways):
    def works(gateway):
        answer = gateway.request("POST", "/api/token/", {"username": "cluster", "password": USER_PASSWORD})
        return answer is not None and answer[0] == 200

    return all(works(gateway) for gateway in gateways)


def partitions(gateways, server, cycles):
    """A gateway that is cut off from the database, in every way, learns of what was revoked meanwhile as soon as it can."""
    def held(gateway):
        gateway.wire.hold()
        return gateway.wire.heal

    def cut(gateway):
        gateway.wire.hold()
        gateway.wire.cut()
        return gateway.wire.heal

    def stopped(gateway):
        os.kill(gateway.process.pid, signal.SIGSTOP)
        return lambda: os.kill(gateway.process.pid, signal.SIGCONT)

    took = []
    for number in range(cycles):
        for kind in (held, cut, stopped):
            far = gateways[number % len(gateways)]
            near = gateways[(number + 1) % len(gateways)]
            (access, token), (kept, _) = near.login(), near.login()
            for one in (access, kept):
                check.equal("it passes before", 200, far.status(one))
            heal = kind(far)
            check.equal("the others go on", 200, near.request("POST", "/api/token/blacklist/", {"refresh": token})[0])
            time.sleep(random.uniform(1.2, 2.5))
            if kind is not stopped:
                check.equal("what is known goes on while the database is away", 200, far.status(kept))
                answer = far.request("POST", "/api/token/", {"username": "cluster", "password": USER_PASSWORD})
                check.equal("logins are refused with 503", 503, answer and answer[0])
                behind = int(far.ready()[1].split("store: ")[1].split(" ms")[0])
                check("/readyz says how far it is behind", behind >= 1000, behind)
            heal()
            seconds = eventually(f"what was revoked during a partition ({kind.__name__}) is refused", 3, lambda: far.status(access) == 401)
            took += [seconds] if seconds is not None else []
            check.equal("and what was not is not", 200, far.status(kept))
            eventually("logins go on", 5, lambda: refreshes_at([far]))
    told("revocation, after a partition has healed", took)

    def stop_database():
        server.signal(signal.SIGSTOP)
        time.sleep(1)
        server.signal(signal.SIGCONT)
        eventually("refreshes go on when the database runs again", 10, lambda: refreshes_at(gateways))

    def lose_connections():
        for gateway in gateways:
            gateway.wire.cut()
        time.sleep(0.1)

    under_load(gateways, "a database that is stopped, connections that are cut", [stop_database, lose_connections] * cycles)


def refusing(work, server, upstream):
    """With stale_policy = "refuse", a gateway that knows too little lets nothing pass."""
    gateway = Gateway(work, "refusing", server.port, upstream, 'stale_policy = "refuse"\nstale_after = "1s"').start()
    try:
        access, _ = gateway.login()
        check.equal("it passes", 200, gateway.status(access))
        gateway.wire.hold()
        eventually("nothing passes", 4, lambda: gateway.status(access) == 503)
        check.equal("/readyz refuses", 503, gateway.ready()[0])
        gateway.wire.heal()
        eventually("it passes again", 4, lambda: gateway.status(access) == 200)
    finally:
        gateway.kill()


def main():
    work = tempfile.mkdtemp(prefix="tollgate-cluster-")
    gateways, server, backend = [], None, None
    try:
        server = Server(work).start()
        upstream = free_port()
        backend = http.server.ThreadingHTTPServer(("127.0.0.1", upstream), Api)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        gateways = [Gateway(work, f"gateway-{number}", server.port, upstream) for number in range(GATEWAYS)]
        for gateway in gateways:
            gateway.start(wait=False)
        for gateway in gateways:
            wait_for(gateway.port, gateway.process)
        check("gateways that start together make one schema", True)
        must(PROGRAM, "user", "add", "cluster", "--config", gateways[0].config, input=f"{USER_PASSWORD}\n",
             env={**os.environ, "DATABASE_PASSWORD": PASSWORD})
        scale = 1 if SHORT else 8
        check.section("parallel refreshes", parallel_refreshes, gateways, 2 * scale)
        check.section("revocations", revocations, gateways, 10 * scale)
        if not OLDER:
            check.section("key rotations", key_rotations, gateways, 4 * scale)
        check.section("kill -9 of gateways", kill_gateways, gateways, 2 * scale)
        check.section("kill -9 of the database", kill_database, gateways, server, scale)
        if not SHORT:
            check.section("partitions", partitions, gateways, server, 4)
            check.section("refusing", refusing, work, server, upstream)
        for gateway in gateways:
            with open(f"{gateway.place}/log", errors="replace") as log:
                text = log.read()
            check("no log holds the password of the database", PASSWORD not in text)
            check("no log holds a key", KEY_ENCRYPTION_KEY not in text and "PRIVATE KEY" not in text)
    finally:
        for gateway in gateways:
            if gateway.process is not None and gateway.process.poll() is None:
                os.kill(gateway.process.pid, signal.SIGCONT)
                gateway.kill()
        if server is not None:
            server.stop()
        if backend is not None:
            backend.shutdown()
        shutil.rmtree(work, ignore_errors=True)
    check.finish(60)


main()
