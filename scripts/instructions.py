#!/usr/bin/env python3
"""Counts the instructions in user space that the gateway takes for a request, and compares them with benches/instructions.toml.

Usage: scripts/instructions.py [PROGRAM] [--write]

The program runs under callgrind with one worker. One keep-alive connection makes the same requests again and again; after a
warm-up only the thread that serves them is counted. The count does not depend on how busy the machine is, so that it can be
a test: more than the tolerance above the figure in the file is a failure. With --write the file is written anew, which
is for changes that are worth what they cost, and for gains.

The figures in the file are those of a build as "make gate" makes it. Needs valgrind.
"""

import glob
import os
import re
import shutil
import socket
import socketserver
import sys
import tempfile
import threading
import time
import tomllib

import subprocess

import harness

WARM_UP = 300
COUNTED = 1000
# Start, proof and login are slow under callgrind.
PATIENCE = 120

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../benches/instructions.toml")

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Upstream(socketserver.BaseRequestHandler):
    """Answers every request head with the same bytes."""

    def handle(self):
        ahead = b""
        while piece := self.request.recv(65536):
            ahead += piece
            while (end := ahead.find(b"\r\n\r\n")) >= 0:
                ahead = ahead[end + 4 :]
                self.request.sendall(ANSWER)


class Threaded(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def request(path, token=None):
    lines = [f"GET {path} HTTP/1.1", "host: api.example.com", "user-agent: trial/1.0", "accept: */*"]
    if token:
        lines.append(f"authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """Sends a request and reads its whole answer, again and again."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, bytes):
        self.socket.sendall(bytes)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.socket.recv(65536)
            if not piece:
                raise RuntimeError("the gateway closed the connection")
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head.split()[1])


def control(process, *words):
    harness.must("callgrind_control", *words, process.pid, timeout=PATIENCE)


def totals(place):
    """Instructions of each thread since they were set to zero, from the files of the last dump."""
    counts = []
    for path in glob.glob(f"{place}/count.*"):
        with open(path, errors="replace") as file:
            for line in file:
                if line.startswith(("totals:", "summary:")):
                    counts.append(int(line.split()[1]))
                    break
    return counts


def count(process, place, port, bytes, status):
    """Instructions for each of these requests."""
    connection = Connection(port)
    for _ in range(WARM_UP):
        seen = connection.call(bytes)
        if seen != status:
            raise RuntimeError(f"{seen} in place of {status}")
    control(process, "-z")
    for _ in range(COUNTED):
        connection.call(bytes)
    for path in glob.glob(f"{place}/count.*"):
        os.remove(path)
    control(process, "-d")
    deadline = time.monotonic() + PATIENCE
    while not totals(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    # The threads are told apart, and the one that serves has done nearly everything.
    return round(max(totals(place)) / COUNTED)


def measure(program, work):
    upstream = Threaded(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    port = harness.free_port()
    with open(f"{work}/gateway.toml", "w") as file:
        file.write(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\nadmin = ""\nworkers = 1\n'
            '[[tokens.keys]]\nalg = "HS256"\nsecret = "0123456789abcdef0123456789abcdef0123456789abcdef"\n'
            f'[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream.server_address[1]}"]\n'
            '[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
            '[[routes]]\npath = "/public"\nauth = "public"\nupstream = "api"\n[log]\naccess = false\n'
        )
    harness.must(program, "user", "add", "alice", cwd=work, input="secret\n", stdin=None)
    token = harness.must(program, "token", "mint", "--user", "alice", cwd=work).strip()
    words = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={work}/count"]
    with open(f"{work}/log", "w") as log:
        process = subprocess.Popen([*words, program, "run"], cwd=work, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    with open(f"{work}/log", errors="replace") as log:
                        raise RuntimeError(f"the gateway did not start: {log.read()[-800:]}") from None
                time.sleep(0.1)
        return {
            "cached": count(process, work, port, request("/things/7", token), 200),
            "public": count(process, work, port, request("/public/7"), 200),
            "refused": count(process, work, port, request("/things/7"), 401),
        }
    finally:
        harness.end([process])
        upstream.shutdown()


def write(counts, tolerance):
    with open(FIGURES, "w") as file:
        file.write(
            "# Instructions in user space for a request over HTTP/1.1 on a keep-alive connection, of the thread that serves it, as\n"
            "# scripts/instructions.py counts them for the build of \"make gate\". \"scripts/instructions.py PROGRAM --write\" writes it anew.\n"
            f"tolerance = {tolerance}\n\n[instructions]\n"
        )
        for name, number in counts.items():
            file.write(f"{name} = {number}\n")


def main():
    words = [word for word in sys.argv[1:] if word != "--write"]
    program = os.path.abspath(words[0] if words else "target/debug/tollgate")
    harness.need("valgrind", "callgrind_control")
    with open(FIGURES, "rb") as file:
        figures = tomllib.load(file)
    work = tempfile.mkdtemp()
    try:
        counts = measure(program, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if "--write" in sys.argv:
        write(counts, figures["tolerance"])
    checks = harness.Checks()
    for name, number in counts.items():
        known = number if "--write" in sys.argv else figures["instructions"][name]
        change = number / known - 1
        print(f"{name}: {number:,} instructions for a request, {change:+.1%} against {known:,}")
        checks(
            f"{name} takes no more than {figures['tolerance']:.0%} above {known:,} instructions",
            change <= figures["tolerance"],
            f"{number:,}; if it is worth that, write the figures anew",
        )
        if change < -figures["tolerance"]:
            print(f"{name}: a gain; keep it by writing the figures anew")
    checks.finish(3)


if __name__ == "__main__":
    main()
