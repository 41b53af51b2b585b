#!/usr/bin/env python3
"""Kills a gateway that rotates refresh tokens, again and again in the middle of refreshes, and looks for what must not be:
a token that gives two successors, a token that can be used after its successor was, an answered token that is lost.

Usage: scripts/kill_loop.py [CYCLES] [PROGRAM]
"""

import base64
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

CYCLES = int(sys.argv[1]) if len(sys.argv) > 1 else 500
PROGRAM = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else "target/debug/tollgate")
CLIENTS = 4
CONFIG = """
[server]
listen = ["127.0.0.1:0"]
admin = ""
workers = 2
[tokens]
rotate_refresh = true
reuse_grace = "10m"
[[tokens.keys]]
kid = "loop"
alg = "HS256"
secret = "a-secret-of-the-loop-0123456789abcdef-0123456789"
[users.hashing]
memory = "64KiB"
iterations = 1
[upstreams.api]
targets = ["http://127.0.0.1:9"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
"""

passed = failed = 0
successors = {}
guard = threading.Lock()


def check(what, holds):
    global passed, failed
    with guard:
        if holds:
            passed += 1
        else:
            failed += 1
            print(f"FAILED: {what}", flush=True)


def jti(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"]


class Gateway:
    def __init__(self, directory):
        self.log = open(os.path.join(directory, "log"), "w+b")
        self.process = subprocess.Popen([PROGRAM], cwd=directory, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while True:
            text = open(self.log.name, "rb").read().decode(errors="replace")
            served = [line for line in text.splitlines() if "the gateway serves" in line]
            found = re.search(r"127\.0\.0\.1:(\d+)", served[0]) if served else None
            if found:
                self.port = int(found.group(1))
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the gateway does not start:\n{text}")
            time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def post(self, path, body):
        """Status and body; None when no whole answer came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def login(self):
        status, body = self.post("/api/token/", {"username": "loop", "password": "correct horse"})
        assert status == 200, body
        return body["refresh"]

    def refresh(self, token):
        """The answer, after it was noted which successor the token has."""
        answer = self.post("/api/token/refresh/", {"refresh": token})
        if answer and answer[0] == 200:
            with guard:
                known = successors.setdefault(jti(token), jti(answer[1]["refresh"]))
            check("a token has one successor", known == jti(answer[1]["refresh"]))
        return answer


class Client:
    """What one client has been answered: its last token, and the one before."""

    def __init__(self, token):
        self.before, self.token, self.access = None, token, None

    def run(self, gateway):
        """Refreshes until the gateway is gone, now and then twice."""
        while True:
            answer = gateway.refresh(self.token)
            if answer and random.random() < 0.3:
                answer = gateway.refresh(self.token)
            if answer is None:
                return
            check(f"a refresh succeeds while the gateway runs: {answer}", answer[0] == 200)
            if answer[0] != 200:
                return
            self.before, self.token, self.access = self.token, answer[1]["refresh"], answer[1]["access"]

    def survive(self, gateway):
        """After the death of the gateway the last token that was answered works, and what came before does not."""
        if self.access:
            answer = gateway.post("/api/token/verify/", {"token": self.access})
            check(f"an access token that was answered passes: {answer}", answer and answer[0] == 200)
        answer = gateway.refresh(self.token)
        check(f"the last refresh token that was answered works: {answer}", answer and answer[0] == 200)
        if not answer or answer[0] != 200:
            self.token = gateway.login()
            return
        again = gateway.refresh(self.token)
        check("a retry gets the same", again and again[0] == 200 and jti(again[1]["refresh"]) == jti(answer[1]["refresh"]))
        before, self.before, self.token = self.before, self.token, answer[1]["refresh"]
        if before and random.random() < 0.5:
            answer = gateway.post("/api/token/refresh/", {"refresh": before})
            check(f"a token whose successor was used is refused: {answer}", answer and answer[0] == 401)
            answer = gateway.post("/api/token/refresh/", {"refresh": self.token})
            check(f"and its session has ended: {answer}", answer and answer[0] == 401)
            self.before, self.token, self.access = None, gateway.login(), None


def main():
    directory = tempfile.mkdtemp(prefix="tollgate-kill-")
    try:
        with open(os.path.join(directory, "gateway.toml"), "w") as file:
            file.write(CONFIG)
        add = [PROGRAM, "user", "add", "loop"]
        subprocess.run(add, cwd=directory, input=b"correct horse\n", stdout=subprocess.DEVNULL, check=True)
        gateway = Gateway(directory)
        clients = [Client(gateway.login()) for _ in range(CLIENTS)]
        for _ in range(CYCLES):
            threads = [threading.Thread(target=client.run, args=(gateway,)) for client in clients]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(0.01, 0.15))
            gateway.kill()
            for thread in threads:
                thread.join()
            gateway = Gateway(directory)
            for client in clients:
                client.survive(gateway)
        gateway.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
