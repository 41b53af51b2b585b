#!/usr/bin/env python3
"""Whether reading the metrics costs those whose requests are served: the 99th percentile under load, with and without
somebody who asks for them, in turn. What is read is checked with the parser of Prometheus's own client library, when it is
installed, and its sums with the requests that were sent.
Usage: scripts/metrics_load.py [PROGRAM] [ROUNDS] [SECONDS]. Needs nginx and wrk."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from harness import Checks, end, free_port, must, need, nginx, program_from, run, wait_for

PROGRAM = program_from(sys.argv)
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 7
SECONDS = int(sys.argv[3]) if len(sys.argv) > 3 else 4
# Routes that are in use, so that the page has a usual size.
ROUTES = 20
checks = Checks()


def gateway(work, upstream):
    port, admin = free_port(), free_port()
    must(PROGRAM, "key", "generate", "--out", f"{work}/signing.pem")
    routes = "".join(
        f'[[routes]]\nname = "api-{number}"\npath = "/{number}"\nauth = "required"\nupstream = "api"\n' for number in range(ROUTES)
    )
    with open(f"{work}/gateway.toml", "w") as file:
        file.write(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\nadmin = "127.0.0.1:{admin}"\nworkers = 1\n'
            f'[[tokens.keys]]\nkid = "trial"\nalg = "EdDSA"\nfile = "{work}/signing.pem"\n'
            f'[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream}"]\n{routes}[log]\naccess = false\n'
        )
    log = open(f"{work}/log", "w")
    process = subprocess.Popen([PROGRAM, "run", "--config", f"{work}/gateway.toml"], stdout=log, stderr=log)
    wait_for(port, process)
    return process, port, admin


def ask(admin, accept="*/*"):
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


class Scraper:
    """Asks once a second while it is entered."""

    def __init__(self, admin):
        self.admin, self.over, self.times = admin, threading.Event(), []

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def work(self):
        while not self.over.is_set():
            began = time.monotonic()
            ask(self.admin)
            self.times.append(time.monotonic() - began)
            self.over.wait(1)

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def load(port, token, seconds):
    """The 99th percentile in milliseconds, and how many requests were answered."""
    done = must("wrk", "-t", "1", "-c", "16", "-d", f"{seconds}s", "--latency", "-H", f"Authorization: Bearer {token}",
                f"http://127.0.0.1:{port}/0/x", timeout=seconds + 60)
    if "Non-2xx" in done:
        raise RuntimeError(done)
    value, unit = re.search(r"99%\s+([0-9.]+)(us|ms|s)", done).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit], int(re.search(r"(\d+) requests in", done).group(1))


def sum_of(page, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(rf"{name}(\{{| )", line))


def check_page(admin, answered):
    page, kind = ask(admin)
    checks("the text format is served", kind.startswith("text/plain; version=0.0.4"), kind)
    counted = sum_of(page, "tollgate_requests_total")
    # Requests that wrk has cut off at its end are counted as well.
    checks("every request is counted", answered <= counted <= answered + 64 * (2 * ROUNDS + 2), f"{answered} answered, {counted} counted")
    open_page, kind = ask(admin, "application/openmetrics-text; version=1.0.0")
    checks("OpenMetrics is served", kind.startswith("application/openmetrics-text") and open_page.endswith("# EOF\n"), kind)
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
        from prometheus_client.parser import text_string_to_metric_families as read_text
    except ImportError:
        print("prometheus_client is not installed: the formats are not parsed by it")
        return
    text, opened = list(read_text(page)), list(read_open(open_page))
    checks("Prometheus's parser reads both", len(text) == len(opened) > 20, f"{len(text)} {len(opened)}")
    samples = [(sample.name, tuple(sorted(sample.labels.items()))) for family in opened for sample in family.samples]
    checks("no sample stands there twice", len(samples) == len(set(samples)))
    if shutil.which("promtool"):
        done = run("promtool", "check", "metrics", input=page)
        checks("promtool has nothing to say", done.returncode == 0, done.stdout + done.stderr)


def measure(port, admin, token):
    answered = 0
    with_scrapes, without, scrapes = [], [], []
    for number in range(ROUTES):
        must("curl", "-sf", "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}/{number}/")
        answered += 1
    answered += load(port, token, 1)[1]
    for number in range(ROUNDS):
        # In turn, and the other way round in every second round, so that a machine that slows down favours neither.
        for scraped in (True, False) if number % 2 else (False, True):
            if scraped:
                with Scraper(admin) as scraper:
                    p99, count = load(port, token, SECONDS)
                with_scrapes.append(p99)
                scrapes += scraper.times
            else:
                p99, count = load(port, token, SECONDS)
                without.append(p99)
            answered += count
    # What scraping costs is there in every round, and what the machine does beside is not.
    asked, alone = min(with_scrapes), min(without)
    print(f"p99 in ms, least of {ROUNDS}: {asked:.3f} with a scrape a second, {alone:.3f} without")
    print(f"a scrape takes {statistics.median(scrapes) * 1000:.1f} ms, {max(scrapes) * 1000:.1f} at most; {ROUTES} routes")
    spread = max(without) - min(without)
    checks("scraping does not move the 99th percentile", asked <= alone * 1.25 + max(0.2, spread), f"{with_scrapes} {without}")
    check_page(admin, answered)


if not shutil.which("wrk"):
    print("wrk is not installed: the load was not tried\n0 passed, 0 failed")
    sys.exit(0)
need("nginx", "curl")
with tempfile.TemporaryDirectory() as work:
    upstream = free_port()
    started = [nginx(work, upstream)]
    try:
        wait_for(upstream)
        process, port, admin = gateway(work, upstream)
        started.append(process)
        token = must(PROGRAM, "token", "mint", "--user", "alice", "--config", f"{work}/gateway.toml").strip()
        checks.section("load", measure, port, admin, token)
    finally:
        end(started)
checks.finish(least=4)
