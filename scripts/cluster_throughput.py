#!/usr/bin/env python3
"""Authenticated requests for each second of processor time, of one gateway on SQLite and of three on one PostgreSQL. As many
requests are due each second, each at its time whatever comes of the others: with the same load for all gateways together, and with
the same for each of them, because a thread that has less to do finds fewer requests each time that it is woken, and takes more time
for each. Then as many requests as go, with all gateways on one processor and the load on another, and with as many connections to
each or in all, for the same reason. All take turns; medians count. Where there is a Redis server, limits that are counted
together are measured too.

Usage: scripts/cluster_throughput.py [PROGRAM] [ROUNDS] [SECONDS] [REQUESTS A SECOND]. Needs nginx, wrk and PostgreSQL, and two processors.
"""

import glob
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from harness import end, free_port, must, need, nginx, wait_for
from postgres_server import PASSWORD, Server

PROGRAM = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/tollgate")
ROUNDS, SECONDS, RATE = (int(sys.argv[place]) if len(sys.argv) > place else usual for place, usual in [(2, 5), (3, 5), (4, 6000)])
ENVIRONMENT = {**os.environ, "DATABASE_PASSWORD": PASSWORD}
CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = ""
workers = 1
[store]
url = "{store}"
[[tokens.keys]]
kid = "cluster"
alg = "HS256"
secret = "a-secret-of-the-cluster-0123456789abcdef-0123456789"
[upstreams.api]
targets = ["http://127.0.0.1:{upstream}"]
{limits}
[[routes]]
path = "/"
auth = "required"
upstream = "api"
{route}
[log]
access = false
"""
LIMITS = """
[limits_store]
url = "redis://127.0.0.1:{redis}"
[limits.most]
key = "user"
rate = "1000000/s"
scope = "{scope}"
"""


class Gateway:
    def __init__(self, place, store, upstream, limits=""):
        self.port = free_port()
        os.makedirs(place)
        self.config = f"{place}/gateway.toml"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(port=self.port, store=store, upstream=upstream, limits=limits, route='limit = "most"' if limits else ""))
        self.process = subprocess.Popen([PROGRAM, "run", "--config", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=ENVIRONMENT)
        wait_for(self.port, self.process)

    def user(self):
        must(PROGRAM, "user", "add", "bench", "--config", self.config, input="correct horse of the load\n", env=ENVIRONMENT)
        return self

    def token(self):
        return must(PROGRAM, "token", "mint", "--user", "bench", "--lifetime", "1h", "--config", self.config, env=ENVIRONMENT)

    def processor_ns(self):
        """What the system says that its threads have run for, user and system time together, in nanoseconds."""
        total = 0
        for task in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(task) as file:
                total += int(file.read().split()[0])
        return total


def measure(gateways, each, tokens):
    """Requests for each second of processor time of these gateways, each of which gets so many a second."""
    before = [gateway.processor_ns() for gateway in gateways]
    loads = []
    for gateway in gateways:
        words = [PROGRAM, "bench", f"http://127.0.0.1:{gateway.port}/", "--rate", f"{each}/s", "--duration", f"{SECONDS}s",
                 "--connections", str(48 // len(gateways)), "--threads", "1", "--warm-up", "0s", "--token-file", tokens, "--config", gateway.config]
        loads.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT))
    told = [load.communicate()[0] for load in loads]
    used_ns = sum(gateway.processor_ns() for gateway in gateways) - sum(before)
    requests = 0
    for text in told:
        found = re.search(r"status 200 +([\d,]+)", text)
        if not found:
            raise RuntimeError(text[-800:])
        requests += int(found.group(1).replace(",", ""))
    return requests / (used_ns / 1e9)


def saturate(gateways, tokens, connections):
    """The same of as many requests as go over so many connections to each. All gateways share one processor, and the load has
    another."""
    for gateway in gateways:
        must("taskset", "-a", "-c", "-p", "0", gateway.process.pid)
    with open(tokens) as file, open(f"{tokens}.lua", "w") as script:
        script.write(f'wrk.headers["Authorization"] = "Bearer {file.read().strip()}"\n')
    before = [gateway.processor_ns() for gateway in gateways]
    loads = []
    for gateway in gateways:
        words = ["taskset", "-c", "1", "wrk", "-t", "1", "-c", connections, "-d", SECONDS, "-s", f"{tokens}.lua", f"http://127.0.0.1:{gateway.port}/"]
        loads.append(subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True))
    told = [load.communicate()[0] for load in loads]
    used_ns = sum(gateway.processor_ns() for gateway in gateways) - sum(before)
    for gateway in gateways:
        must("taskset", "-a", "-c", "-p", f"0-{os.cpu_count() - 1}", gateway.process.pid)
    if any("Non-2xx" in text for text in told):
        raise RuntimeError(told)
    return sum(int(re.search(r"(\d+) requests in", text).group(1)) for text in told) / (used_ns / 1e9)


def idle(gateways):
    """What the gateways take without a request, in thousandths of a processor."""
    before = sum(gateway.processor_ns() for gateway in gateways)
    time.sleep(2)
    return (sum(gateway.processor_ns() for gateway in gateways) - before) / 2e6


def main():
    need("nginx", "wrk", "taskset")
    work = tempfile.mkdtemp(prefix="tollgate-throughput-")
    started, gateways, server = [], [], None
    try:
        server = Server(work).start()
        upstream = free_port()
        started.append(nginx(work, upstream))
        wait_for(upstream)
        url = f"postgres://tollgate:${{DATABASE_PASSWORD}}@127.0.0.1:{server.port}/postgres?sslmode=disable"
        third = RATE // 3
        one = Gateway(f"{work}/one", f"sqlite://{work}/one.db", upstream)
        three = [Gateway(f"{work}/three-{number}", url, upstream) for number in range(3)]
        gateways += [one, *three]
        for gateway in (one, three[0]):
            gateway.user()
        setups = {
            f"one on SQLite, {RATE} a second": ([one], RATE),
            f"one on SQLite, {third} a second": ([one], third),
            "one on SQLite, as many as go over 48 connections": ([one], None, 48),
            f"one on PostgreSQL, {third} a second": (three[:1], third),
            "one on PostgreSQL, as many as go over 48 connections": (three[:1], None, 48),
            f"three on PostgreSQL, {third} a second each": (three, third),
            "three on PostgreSQL, as many as go over 48 connections to each": (three, None, 48),
            "three on PostgreSQL, as many as go over 16 connections to each": (three, None, 16),
        }
        if shutil.which("redis-server") and "limits_store" in must(PROGRAM, "schema"):
            redis = free_port()
            started.append(subprocess.Popen(["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--dir", work],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for(redis)
            for scope in ("node", "cluster"):
                limits = LIMITS.format(redis=redis, scope=scope)
                limited = [Gateway(f"{work}/{scope}-{number}", url, upstream, limits) for number in range(3)]
                gateways += limited
                setups[f"three on PostgreSQL, {third} a second each, scope = {scope}"] = (limited, third)
        files = {}
        for name, (some, *_) in setups.items():
            files[name] = f"{work}/tokens-{len(files)}"
            with open(files[name], "w") as file:
                file.write(some[0].token())
        time.sleep(1)
        for name, some in (("one on SQLite", [one]), ("one on PostgreSQL", three[:1])):
            print(f"{name}: {idle(some):.1f} thousandths of a processor while idle", flush=True)
        seen = {name: [] for name in setups}
        for number in range(ROUNDS):
            for name, (some, each, *connections) in setups.items():
                seen[name].append(measure(some, each, files[name]) if each else saturate(some, files[name], *connections))
                print(f"round {number + 1}: {name}: {seen[name][-1]:,.0f} requests for each processor second", flush=True)
        for name, values in seen.items():
            print(f"{name}: median {statistics.median(values):,.0f} requests for each processor second, {min(values):,.0f} to {max(values):,.0f}")
    finally:
        end([gateway.process for gateway in gateways] + started)
        if server is not None:
            server.stop()
        shutil.rmtree(work, ignore_errors=True)


main()
