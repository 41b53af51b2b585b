#!/usr/bin/env python3
"""What 10 and 100 gateways ask of one PostgreSQL and one Redis: measures here what one gateway, one login, one refresh, one logout
and one counted key cost the servers, and calculates the rest. docs/scaling.md has a table that it printed.

Usage: scripts/cluster_capacity.py [PROGRAM]. Needs PostgreSQL and Redis. It takes about a minute.
"""

import http.client
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from harness import end, free_port, must, need, program_from, run, wait_for
from postgres_server import PASSWORD, Server

PROGRAM = program_from(sys.argv)
SIZES = (1, 4, 8)
EACH = 80
USER_PASSWORD = "correct horse of the calculation"
CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = ""
workers = 1
drain_timeout = "1s"
watch_config = false
[store]
url = "{url}"
max_connections = 2
[tokens]
rotate_refresh = true
limit = ""
[[tokens.keys]]
kid = "cluster"
alg = "HS256"
secret = "a-secret-of-the-cluster-0123456789abcdef-0123456789"
[users.hashing]
memory = "64KiB"
iterations = 1
[upstreams.api]
targets = ["http://127.0.0.1:1"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
"""
# Of the algorithm of limits: src/base/bounds.rs.
INTERVAL, PART = 0.1, 10
# What the calculation takes for granted.
ACTIVE_PER_GATEWAY, ACCESS_LIFETIME, REQUESTS_PER_GATEWAY, DATABASE_CORES = 20_000, 1800, 5_000, 4


class Gateway:
    def __init__(self, place, url):
        self.port = free_port()
        os.makedirs(place)
        self.config = f"{place}/gateway.toml"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(port=self.port, url=url))
        self.process = subprocess.Popen([PROGRAM, "run", "--config", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env={**os.environ, "DATABASE_PASSWORD": PASSWORD})
        wait_for(self.port, self.process)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, method, path, body=None, token=None):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self.connection.request(method, path, body and json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}


def processor_seconds(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/schedstat") as file:
                total += int(file.read().split()[0])
        except OSError:
            pass
    return total / 1e9


class Cost:
    """What some work costs the database beside what it does anyway, in seconds of a processor."""

    def __init__(self, server, idle):
        self.server, self.idle = server, idle

    def of(self, work, count):
        began, before = time.monotonic(), processor_seconds(self.server.pids())
        work()
        # What is told to others comes a moment later.
        time.sleep(0.3)
        used = processor_seconds(self.server.pids()) - before - self.idle * (time.monotonic() - began)
        return max(used, 0) / count


def measure_database(work, server):
    """For each number of gateways: the processor time that it takes while idle, and for a login, a refresh and a logout; and how
    long a revocation takes to be known at another gateway."""
    url = f"postgres://tollgate:${{DATABASE_PASSWORD}}@127.0.0.1:{server.port}/postgres?sslmode=disable"
    gateways, seen, latencies = [], {}, []
    try:
        for size in SIZES:
            while len(gateways) < size:
                gateways.append(Gateway(f"{work}/gateway-{len(gateways)}", url))
                if len(gateways) == 1:
                    must(PROGRAM, "user", "add", "someone", "--config", gateways[0].config, input=f"{USER_PASSWORD}\n",
                         env={**os.environ, "DATABASE_PASSWORD": PASSWORD})
            time.sleep(1)
            began, before = time.monotonic(), processor_seconds(server.pids())
            time.sleep(3)
            idle = (processor_seconds(server.pids()) - before) / (time.monotonic() - began)
            cost, tokens, home = Cost(server, idle), [], gateways[0]

            def login():
                for _ in range(EACH):
                    status, body = home.request("POST", "/api/token/", {"username": "someone", "password": USER_PASSWORD})
                    assert status == 200, body
                    tokens.append(body)

            def refresh():
                for place, pair in enumerate(tokens):
                    status, body = home.request("POST", "/api/token/refresh/", {"refresh": pair["refresh"]})
                    assert status == 200, body
                    tokens[place] = body

            def logout():
                for pair in tokens:
                    assert home.request("POST", "/api/token/blacklist/", {"refresh": pair["refresh"]})[0] == 200

            seen[size] = {"idle": idle, "login": cost.of(login, EACH), "refresh": cost.of(refresh, EACH), "logout": cost.of(logout, EACH)}
            if size > 1:
                latencies += revocations(gateways)
            print(f"{size} gateways: " + ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in seen[size].items()), flush=True)
    finally:
        end([gateway.process for gateway in gateways])
    return seen, latencies


def revocations(gateways):
    took = []
    for _ in range(30):
        near, far = random.sample(gateways, 2)
        _, pair = near.request("POST", "/api/token/", {"username": "someone", "password": USER_PASSWORD})
        assert far.request("GET", "/", token=pair["access"])[0] == 502
        near.request("POST", "/api/token/blacklist/", {"refresh": pair["refresh"]})
        began = time.monotonic()
        while far.request("GET", "/", token=pair["access"])[0] != 401:
            pass
        took.append(time.monotonic() - began)
    return took


def slope(points):
    """How much each one more adds."""
    xs, ys = zip(*points)
    middle_x, middle_y = statistics.mean(xs), statistics.mean(ys)
    return max(0, sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x in xs))


def measure_redis(work):
    """Processor time of a call of the script, and of each key in it."""
    port = free_port()
    process = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", work], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../src/limits/exchange/count.lua")) as file:
            script = must("redis-cli", "-p", port, "SCRIPT", "LOAD", file.read()).strip()
        used = {}
        for keys, times in ((1, 20_000), (64, 2000)):
            arguments = [f"tollgate:limit:{number:022d}" for number in range(keys)] + ["0"] + ["1", "10000", "0", "10000000", "1000000"] * keys
            before = processor_seconds([process.pid])
            done = run("redis-benchmark", "-p", port, "-n", times, "-c", 4, "-q", "EVALSHA", script, keys, *arguments)
            assert "requests per second" in done.stdout, done.stdout + done.stderr
            assert re.search(r"^:?\d", must("redis-cli", "-p", port, "DBSIZE")), "keys are counted"
            used[keys] = (processor_seconds([process.pid]) - before) / times
    finally:
        process.kill()
        process.wait()
    each = (used[64] - used[1]) / 63
    return used[1] - each, each


def most_over(gateways, burst):
    return (gateways - 1) * max(1, burst // (PART * gateways))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def revocation_latency(gateways, base, delivery, lost=0.001):
    """A simulation: each gateway hears after what one takes here, and after its turn among all that the database wakes; where the
    notification is lost, at its next question."""
    last, all_of_them = [], []
    for _ in range(400):
        turn = list(range(gateways))
        random.shuffle(turn)
        heard = []
        for place in turn:
            seconds = random.choice(base) + (place + 1) * delivery / DATABASE_CORES
            if random.random() < lost:
                seconds += random.uniform(0, 0.1)
            heard.append(seconds)
        last.append(max(heard))
        all_of_them += heard
    return percentile(all_of_them, 0.5), percentile(all_of_them, 0.99), percentile(last, 0.99)


def tell(seen, base, call, each):
    polling = slope([(size, values["idle"]) for size, values in seen.items()])
    delivery = slope([(size, values["logout"]) for size, values in seen.items()])
    cheapest = {name: min(values[name] for values in seen.values()) for name in ("login", "refresh", "logout")}
    print(f"\nmeasured: a gateway takes {1000 * polling:.2f} ms of the database's processors each second while idle; a login "
          f"{1000 * cheapest['login']:.2f} ms, a refresh {1000 * cheapest['refresh']:.2f} ms, a logout {1000 * cheapest['logout']:.2f} ms and "
          f"{1000 * delivery:.3f} ms for each gateway that is told; revocation at another gateway p50 {1000 * percentile(base, 0.5):.1f} ms, "
          f"p99 {1000 * percentile(base, 0.99):.1f} ms ({len(base)}); Redis {1e6 * call:.1f} us a call and {1e6 * each:.2f} us a key\n")
    rows = [["gateways", *(str(n) for n in (3, 10, 100))]]

    def row(name, value):
        rows.append([name, *(value(n) for n in (3, 10, 100))])

    refreshes = lambda n: n * ACTIVE_PER_GATEWAY / ACCESS_LIFETIME
    logouts = lambda n: refreshes(n) / 48
    row("active users", lambda n: f"{n * ACTIVE_PER_GATEWAY:,}")
    row("requests a second", lambda n: f"{n * REQUESTS_PER_GATEWAY:,}")
    row("database: connections", lambda n: f"{12 * n:,}")
    row("database: questions for changes a second", lambda n: f"{10 * n:,}")
    row("database: processors for them", lambda n: f"{n * polling:.3f}")
    row("refreshes a second", lambda n: f"{refreshes(n):,.0f}")
    row("database: processors for them", lambda n: f"{refreshes(n) * cheapest['refresh']:.3f}")
    row("logouts and other revocations a second", lambda n: f"{logouts(n):.1f}")
    row("database: notifications a second", lambda n: f"{logouts(n) * n:,.0f}")
    row("database: processors for them", lambda n: f"{logouts(n) * (cheapest['logout'] + n * delivery):.3f}")
    latencies = {n: revocation_latency(n, base, delivery) for n in (3, 10, 100)}
    row("revocation known at a gateway, p50 / p99", lambda n: " / ".join(f"{1000 * latencies[n][place]:.0f} ms" for place in (0, 1)))
    row("revocation known at the last gateway, p99", lambda n: f"{1000 * latencies[n][2]:.0f} ms")
    # Each key that was asked for within an interval is told once in it.
    keys = min(REQUESTS_PER_GATEWAY, ACTIVE_PER_GATEWAY / INTERVAL)
    calls = (1 / INTERVAL) * -(-keys * INTERVAL // 256)
    row("Redis: keys told a second, at most", lambda n: f"{n * keys:,.0f}")
    row("Redis: calls a second", lambda n: f"{n * calls:,.0f}")
    row("Redis: processors for them", lambda n: f"{n * (calls * call + keys * each):.3f}")
    for burst in (60, 1000):
        row(f"limit with a burst of {burst:,}: too many at once, at most",
            lambda n, burst=burst: f"{most_over(n, burst)} ({100 * most_over(n, burst) / burst:.0f} %)")
    for number, cells in enumerate(rows):
        print(f"| {' | '.join(cells)} |")
        if number == 0:
            print("|---" * len(cells) + "|")


def main():
    need("redis-server", "redis-cli", "redis-benchmark")
    random.seed(8)
    work = tempfile.mkdtemp(prefix="tollgate-capacity-")
    server = None
    try:
        call, each = measure_redis(work)
        server = Server(work).start()
        seen, base = measure_database(work, server)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(work, ignore_errors=True)
    tell(seen, base, call, each)


main()
