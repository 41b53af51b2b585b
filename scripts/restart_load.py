#!/usr/bin/env python3
"""The program is swapped under load, again and again, and no request fails: by a process that takes the sockets over from the one
before (tollgate run --take-over), and by a restart while a service manager holds the sockets (LISTEN_FDS).

Usage: scripts/restart_load.py [SWAPS] [PROGRAM]
Prints what was measured, and the count of checks in the last line.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

from harness import Checks, Gateway, end, free_port, must, program_from, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
LEAST = 14
KEPT, FRESH = 6, 2
check = Checks()


class Load:
    """Requests on connections that are kept until an answer says that it is the last one, and on a new one each time."""

    def __init__(self, port, token):
        self.port = port
        self.request = f"GET /fields HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self.failures, self.times, self.count, self.connections, self.told = Counter(), [], 0, 0, 0

    async def client(self, stop, fresh):
        reader = writer = None
        while not stop.is_set():
            began = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 10)
                    self.connections += 1
                writer.write(self.request)
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1").lower().split("\r\n")
                length = next(int(line.split(":")[1]) for line in head if line.startswith("content-length:"))
                await asyncio.wait_for(reader.readexactly(length), 10)
                if head[0].split(" ")[1] != "200":
                    self.failures[head[0]] += 1
                self.count += 1
                self.told += "connection: close" in head
                if fresh or "connection: close" in head:
                    writer.close()
                    writer = None
            except Exception as error:
                self.failures[f"{type(error).__name__}: {error}"[:120]] += 1
                writer = None
            self.times.append(time.monotonic() - began)
            await asyncio.sleep(0.001)
        if writer is not None:
            writer.close()

    async def run(self, stop):
        await asyncio.gather(*(self.client(stop, number >= KEPT) for number in range(KEPT + FRESH)))


async def loaded(load, work):
    stop = asyncio.Event()
    running = asyncio.create_task(load.run(stop))
    try:
        return await asyncio.to_thread(work)
    finally:
        stop.set()
        await running


def until(seconds, holds):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if holds():
            return True
        time.sleep(0.02)
    return False


class Process:
    """A gateway on a configuration that others run on too, with a log of its own."""

    def __init__(self, gateway, program, number, words=(), env=None, fds=()):
        self.place = f"{gateway.place}/log-{number}"
        with open(self.place, "w") as log:
            self.process = subprocess.Popen(
                [program, "run", "--config", gateway.config, *words], stdout=log, stderr=log, env={**os.environ, **(env or {})}, pass_fds=fds
            )

    def said(self):
        with open(self.place, errors="replace") as log:
            return log.read()

    def serves(self, within=30):
        return until(within, lambda: "the gateway serves" in self.said() or self.process.poll() is not None) and self.process.poll() is None


def told(name, load, swaps, seconds):
    times = sorted(load.times) or [0.0]
    print(
        f"{name}: {swaps} swaps in {seconds:.1f} s; {load.count} requests on {load.connections} connections, {sum(load.failures.values())} failed; "
        f"p50 {times[len(times) // 2] * 1e3:.2f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms, longest {times[-1] * 1e3:.0f} ms",
        flush=True,
    )
    check(f"{name}: no request fails", not load.failures, dict(load.failures.most_common(5)))
    check(f"{name}: there is load", load.count > 20 * seconds, load.count)


def take_over(work, programs, api, swaps, processes):
    """Each process takes the sockets of the one before, which finishes what is in flight and ends."""
    gateway = gateway_for(work, programs[0], "over", api, "workers = 2\n")
    token = token_for(gateway)
    first = Process(gateway, programs[0], 0)
    processes.append(first.process)
    check("take-over: the first process serves", first.serves(), first.said()[-400:])
    load, state = Load(gateway.port, token), {"last": first, "codes": Counter(), "slowest": 0.0}

    def work_through():
        for number in range(1, swaps + 1):
            # The number of threads changes too, so that sockets have to be spread anew.
            with open(gateway.config) as file:
                text = file.read()
            with open(gateway.config, "w") as file:
                file.write(text.replace(f"workers = {2 + (number - 1) % 2}", f"workers = {2 + number % 2}"))
            new = Process(gateway, programs[number % 2], number, ["--take-over"])
            processes.append(new.process)
            if not new.serves():
                state["codes"]["did not start: " + new.said()[-300:]] += 1
                return
            began = time.monotonic()
            try:
                state["codes"][state["last"].process.wait(timeout=15)] += 1
            except subprocess.TimeoutExpired:
                state["codes"]["did not end"] += 1
            state["slowest"] = max(state["slowest"], time.monotonic() - began)
            state["last"] = new

    began = time.monotonic()
    asyncio.run(loaded(load, work_through))
    told("take-over", load, swaps, time.monotonic() - began)
    print(f"take-over: the process before ends {state['slowest']:.2f} s after the new one serves, at the latest")
    check.equal("take-over: each process ends well", {0: swaps}, dict(state["codes"]))
    check("take-over: clients are told to come again", load.told > 0, load.told)
    # One that cannot start changes nothing.
    with open(gateway.config) as file:
        sound = file.read()
    for what, text in (("a broken configuration", sound.replace('auth = "required"', 'auth = "requird"')), ("a key that is not there", sound.replace('file = "', 'file = "/nowhere', 1))):
        with open(gateway.config, "w") as file:
            file.write(text)
        failed = Process(gateway, programs[0], f"failed-{len(text)}", ["--take-over"])
        code = failed.process.wait(timeout=15)
        check(f"take-over: {what} ends the new process only", code in (1, 3) and state["last"].process.poll() is None, f"{code} {failed.said()[-300:]}")
        load = Load(gateway.port, token)
        asyncio.run(loaded(load, lambda: time.sleep(0.3)))
        check(f"take-over: and the one that runs serves ({what})", load.count > 0 and not load.failures, dict(load.failures))


def held_sockets(work, programs, api, restarts, processes):
    """The sockets are held by another process, as systemd does, while the gateway ends and starts again."""
    gateway = gateway_for(work, programs[0], "held", api, "workers = 2\n")
    token = token_for(gateway)
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", gateway.port))
    held.listen(1024)
    passed = {"env": {"LISTEN_FDS": "1", "LISTEN_FDS_FIRST_FD": str(held.fileno())}, "fds": (held.fileno(),)}
    state = {"last": Process(gateway, programs[0], 0, **passed), "codes": Counter()}
    processes.append(state["last"].process)
    check("held sockets: the gateway serves on a socket that it was given", state["last"].serves(), state["last"].said()[-400:])
    load = Load(gateway.port, token)

    def work_through():
        for number in range(1, restarts + 1):
            time.sleep(0.5)
            state["last"].process.terminate()
            state["codes"][state["last"].process.wait(timeout=15)] += 1
            state["last"] = Process(gateway, programs[number % 2], number, **passed)
            processes.append(state["last"].process)
            if not state["last"].serves():
                state["codes"]["did not start: " + state["last"].said()[-300:]] += 1
                return

    began = time.monotonic()
    asyncio.run(loaded(load, work_through))
    told("held sockets", load, restarts, time.monotonic() - began)
    check.equal("held sockets: each process ends well", {0: restarts}, dict(state["codes"]))
    state["last"].process.terminate()
    state["last"].process.wait(timeout=15)
    held.close()
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen(1)
    stranger = Process(gateway, programs[0], "stranger", env={"LISTEN_FDS": "1", "LISTEN_FDS_FIRST_FD": str(other.fileno())}, fds=(other.fileno(),))
    code = stranger.process.wait(timeout=15)
    check("held sockets: one for another address is refused with its address", code == 3 and str(other.getsockname()[1]) in stranger.said(), f"{code} {stranger.said()[-300:]}")


def gateway_for(work, program, name, api, server):
    return Gateway(
        program, work, name,
        f'[upstreams.api]\ntargets = ["http://127.0.0.1:{api}"]\n[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n',
        server=server,
    )


def token_for(gateway):
    return must(gateway.program, "token", "mint", "--user", "alice", "--config", gateway.config).strip()


def main():
    swaps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    program, processes = program_from(sys.argv, 2), []
    with tempfile.TemporaryDirectory() as work:
        try:
            # The same program under another path stands for the next version of it.
            shutil.copy(program, f"{work}/next")
            api = free_port()
            processes.append(subprocess.Popen([sys.executable, f"{HERE}/upstream.py", "--port", str(api)]))
            wait_for(api)
            programs = (program, f"{work}/next")
            check.section("take-over", take_over, work, programs, api, swaps, processes)
            check.section("held sockets", held_sockets, work, programs, api, max(2, swaps // 4), processes)
        finally:
            end(processes)
    check.finish(LEAST)


if __name__ == "__main__":
    main()
