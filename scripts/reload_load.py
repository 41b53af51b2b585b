#!/usr/bin/env python3
"""The configuration is read again and again under load, and a tenth of the times it is broken: no request fails, none is served
by a mixture of two configurations, and in the end the gateway has neither more memory nor more descriptors than before.

Usage: scripts/reload_load.py [RELOADS] [PROGRAM]
Prints what was measured, and the count of checks in the last line.
"""

import asyncio
import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter

from harness import Checks, Gateway, end, free_port, must, program_from, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
LEAST = 12
CONNECTIONS = 8
# Reloads before memory is measured first: what is made once is made by then.
WARM_UP = 40
check = Checks()


def configurations(base, one, other):
    """Two that can be served by. They differ in what serves a request and in what it is told, so that a mixture shows."""

    def sound(port, host, identity, more):
        return (
            f"{base}\n[server.limits]\nmax_headers = {50 if more else 60}\n"
            f'[limits.most]\nkey = "user"\nrate = "1000000/s"\n'
            f'[upstreams.kept]\ntargets = ["http://127.0.0.1:{one}"]\nidle_timeout = "1s"\n'
            f'[upstreams.main]\ntargets = ["http://127.0.0.1:{port}"]\nhost_header = "{host}"\nidentity = "{identity}"\nidle_timeout = "1s"\n'
            '[[routes]]\npath = "/"\nauth = "required"\nupstream = "main"\nlimit = "most"\n'
            '[[routes]]\npath = "/kept"\nauth = "required"\nupstream = "kept"\n'
            + ('[[routes]]\npath = "/export"\nauth = "public"\nupstream = "main"\n' if more else "")
        )

    return sound(one, "one.internal", "none", False), sound(other, "other.internal", "default", True)


def broken(text):
    """What people do to a configuration that must not be served by."""
    return [
        text.replace('auth = "required"', 'auth = "requird"', 1),
        text.replace("[[routes]]", "[[routes", 1),
        text[: len(text) // 2] + '\n[[routes]]\npath = "/',
        text.replace("[tokens]", '[store]\nurl = "sqlite://other.db"\n[tokens]', 1),
        text.replace('file = "', 'file = "/nowhere', 1),
        "",
    ]


class Reloader:
    def __init__(self, gateway, admin):
        self.gateway, self.admin, self.times = gateway, admin, []

    def write(self, text):
        # Renamed into its place, as deployments do it.
        with open(f"{self.gateway.config}.new", "w") as file:
            file.write(text)
        os.rename(f"{self.gateway.config}.new", self.gateway.config)

    def reload(self, text):
        """Status and words of the gateway."""
        self.write(text)
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        try:
            connection.request("POST", "/reload", headers={"X-Tollgate-Config": hashlib.sha256(text.encode()).hexdigest()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()
            self.times.append(time.monotonic() - began)


class Load:
    """Requests on connections that are kept, as fast as they are answered."""

    def __init__(self, port, token):
        self.port, self.token = port, token
        self.served, self.failures, self.mixed, self.times, self.connections = Counter(), Counter(), Counter(), [], 0

    async def client(self, number, stop):
        head = f"Host: api.test\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        reader = writer = None
        while not stop.is_set():
            path = "/kept/fields" if number % 4 == 3 else "/fields"
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    self.connections += 1
                began = time.monotonic()
                writer.write(f"GET {path} HTTP/1.1\r\n{head}".encode())
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                lines = answer.decode("latin-1").lower().split("\r\n")
                length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
                body = await asyncio.wait_for(reader.readexactly(length), 10)
                self.times.append(time.monotonic() - began)
                if lines[0].split(" ")[1] != "200":
                    self.failures[f"{path}: {lines[0]} {body[:120]!r}"] += 1
                else:
                    self.judge(path, body)
                if "connection: close" in lines:
                    writer.close()
                    writer = None
            except Exception as error:
                self.failures[f"{type(error).__name__}: {error}"[:120]] += 1
                writer = None
        if writer is not None:
            writer.close()

    def judge(self, path, body):
        if path != "/fields":
            self.served["kept"] += 1
            return
        fields = dict(json.loads(body))
        told = (fields["host"], "x-user-id" in fields)
        if told in (("one.internal", False), ("other.internal", True)):
            self.served[told[0]] += 1
        else:
            self.mixed[str(told)] += 1

    async def run(self, stop):
        await asyncio.gather(*(self.client(number, stop) for number in range(CONNECTIONS)))


def resources(pid):
    """Resident memory in MiB, and descriptors."""
    with open(f"/proc/{pid}/status") as status:
        memory = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
    return memory, len(os.listdir(f"/proc/{pid}/fd"))


async def loaded(gateway, token, work):
    """Does something in a thread of its own while there is load."""
    load, stop = Load(gateway.port, token), asyncio.Event()
    running = asyncio.create_task(load.run(stop))
    result = await asyncio.to_thread(work)
    stop.set()
    await running
    return load, result


def storm(reloader, texts, reloads):
    """So many reloads, every tenth of them broken. Returns what went otherwise than it should."""
    wrong = Counter()
    wrecks = broken(texts[0])
    for number in range(reloads):
        is_broken = number % 10 == 9
        text = wrecks[number // 10 % len(wrecks)] if is_broken else texts[number % 2]
        status, words = reloader.reload(text)
        if status != (409 if is_broken else 200):
            wrong[f"{status} {words[:200]}"] += 1
    return wrong


def at_rest(gateway):
    """What the gateway holds when nobody asks it anything and upstream connections have been let go."""
    time.sleep(2.5)
    return resources(gateway.process.pid)


def trial(work, program, reloads, processes):
    one, other, admin = free_port(), free_port(), free_port()
    for port in (one, other):
        processes.append(subprocess.Popen([sys.executable, f"{HERE}/upstream.py", "--port", str(port)]))
        wait_for(port)
    gateway = Gateway(program, work, "reloads", "", server="workers = 2\nwatch_config = false\n")
    with open(gateway.config) as file:
        base = file.read().replace('admin = ""', f'admin = "127.0.0.1:{admin}"')
    texts = configurations(base, one, other)
    reloader = Reloader(gateway, admin)
    reloader.write(texts[0])
    gateway.start()
    processes.append(gateway.process)
    token = must(program, "token", "mint", "--user", "alice", "--config", gateway.config).strip()
    asyncio.run(loaded(gateway, token, lambda: storm(reloader, texts, WARM_UP)))
    reloader.reload(texts[0])
    before = at_rest(gateway)
    reloader.times.clear()
    began = time.monotonic()
    load, wrong = asyncio.run(loaded(gateway, token, lambda: storm(reloader, texts, reloads)))
    seconds = time.monotonic() - began
    reloader.reload(texts[0])
    after = at_rest(gateway)
    judge(gateway, program, reloader, load, wrong, reloads, seconds, before, after, texts)


def judge(gateway, program, reloader, load, wrong, reloads, seconds, before, after, texts):
    count, times, took = sum(load.served.values()), sorted(load.times) or [0.0], sorted(reloader.times)
    print(
        f"{reloads} reloads in {seconds:.1f} s, {reloads // 10} of them broken; p50 {took[len(took) // 2] * 1e3:.1f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.1f} ms; "
        f"{count} requests, {sum(load.failures.values())} failed; p50 {times[len(times) // 2] * 1e3:.2f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms; "
        f"memory {before[0]:.1f} MiB before, {after[0]:.1f} MiB after; {before[1]} and {after[1]} descriptors"
    )
    check("no request fails", not load.failures, dict(load.failures.most_common(5)))
    check("no request is served by a mixture of two configurations", not load.mixed, dict(load.mixed))
    check("requests are served by both configurations", all(load.served[host] > 0 for host in ("one.internal", "other.internal", "kept")), dict(load.served))
    check("there is load", count > 20 * seconds, count)
    check("connections of clients are kept over reloads", load.connections == CONNECTIONS, load.connections)
    check("what is sound is applied, and what is broken is refused", not wrong, dict(wrong.most_common(5)))
    check("memory is within a tenth of what it was", after[0] < before[0] * 1.1, f"{before[0]:.1f} and {after[0]:.1f} MiB")
    check.equal("there are as many descriptors as before", before[1], after[1])
    check("the gateway still runs", gateway.runs())
    said = gateway.said()
    check("what a reload changes is in the log in words", "1 route added: /export becomes PUBLIC" in said)
    check("so is what is wrong with a broken one", "needs_restart" in said and "did you mean" in said)
    dry = subprocess.run([program, "reload", "--dry-run", "--config", gateway.config], capture_output=True, text=True)
    check.equal("a dry run says that nothing would change", (0, "a reload would change nothing\n"), (dry.returncode, dry.stdout))
    reloader.write(broken(texts[0])[0])
    refused = subprocess.run([program, "reload", "--config", gateway.config], capture_output=True, text=True)
    check("the command shows what is wrong", refused.returncode == 1 and "^^^" in refused.stderr and "did you mean" in refused.stderr, refused.stderr)


def main():
    reloads = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    processes = []
    with tempfile.TemporaryDirectory() as work:
        try:
            trial(work, program_from(sys.argv, 2), reloads, processes)
        except Exception as error:
            check("the run reaches its end", False, f"{type(error).__name__}: {error}")
        finally:
            end(processes)
    check.finish(LEAST)


if __name__ == "__main__":
    main()
