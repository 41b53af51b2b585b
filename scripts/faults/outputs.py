"""Faults of what the gateway writes, and of the gateway itself: a log that nobody reads, a panic."""

import fcntl
import os
import shutil
import subprocess
import time

from common import SCRIPTS, Load, Skip, fault, run, until

F_SETPIPE_SZ = 1031


@fault("X13", "the log's pipe is not read, then closed; the file is renamed", 60, quick=True)
def log_sink(trial):
    port, _ = trial.upstream()
    unread(trial, port)
    closed(trial, port)
    renamed(trial, port)


def with_access_log(gateway):
    with open(gateway.config) as file:
        text = file.read().replace("access = false", "access = true")
    with open(gateway.config, "w") as file:
        file.write(text)
    return gateway


def unread(trial, port):
    """More lines than are kept wait, and nobody waits for them."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    gateway = with_access_log(trial.gateway("unread", port)).start(output=writer)
    os.close(writer)
    token = gateway.login().json()["access"]
    path = "/" + "p" * 4000
    with Load(gateway.port, path, token, threads=4, pause=0) as load:
        # Twice of what is kept.
        until(30, lambda: sum(load.statuses.values()) * len(path) > 16 << 20)
    trial.check("unread pipe: every request is answered", not load.bad(), load.statuses)
    trial.check("unread pipe: none waits", load.ms(0.99) < 200, f"p99 {load.ms(0.99):.0f} ms")
    peak = gateway.memory_mb()
    trial.check("unread pipe: memory is bounded", peak < 120, f"{peak:.0f} MB")
    got = drain(reader, 20, b"were dropped")
    lines = got.split(b"\n")
    whole = sum(line.startswith(b'{"') and line.endswith(b"}") for line in lines[:-1])
    trial.check("unread pipe: lines are whole when it is read again", whole == len(lines) - 1, f"{whole} of {len(lines) - 1}")
    asked = sum(load.statuses.values())
    trial.check("unread pipe: the lost lines are counted in the log", b"were dropped" in got, got[-300:])
    trial.note(f"unread pipe: {asked} requests, p99 {load.ms(0.99):.0f} ms, peak {peak:.0f} MB, {len(lines) - 1} lines read late")
    code, seconds = gateway.stop()
    trial.check("unread pipe: it ends within the drain time and a second", code == 0 and seconds < 2, f"{code} after {seconds:.1f} s")
    os.close(reader)
    blocked_at_the_end(trial, port)


def blocked_at_the_end(trial, port):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    gateway = with_access_log(trial.gateway("blocked", port)).start(output=writer)
    os.close(writer)
    with Load(gateway.port, "/open", threads=2, pause=0):
        time.sleep(0.5)
    code, seconds = gateway.stop()
    trial.check("blocked pipe: it ends within the drain time and a second", code == 0 and seconds < 2, f"{code} after {seconds:.1f} s")
    os.close(reader)


def drain(reader, seconds, mark):
    """What is read until nothing more comes after a mark and the end of a line."""
    os.set_blocking(reader, False)
    fcntl.fcntl(reader, F_SETPIPE_SZ, 1 << 20)
    got, seen, ends = b"", False, time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            piece = os.read(reader, 1 << 20)
            got += piece
            seen = seen or mark in got[-len(piece) - len(mark):]
        except BlockingIOError:
            if seen and got.endswith(b"\n"):
                break
            time.sleep(0.02)
    return got


def closed(trial, port):
    reader, writer = os.pipe()
    gateway = with_access_log(trial.gateway("closed", port)).start(output=writer)
    os.close(writer)
    token = gateway.login().json()["access"]
    os.close(reader)
    with Load(gateway.port, "/", token) as load:
        time.sleep(1)
    trial.check("closed pipe: it lives, and every request is answered", gateway.runs() and not load.bad(), load.statuses)
    used, began = gateway.processor_seconds(), time.monotonic()
    time.sleep(1)
    share = (gateway.processor_seconds() - used) / (time.monotonic() - began)
    trial.check("closed pipe: it does not spin", share < 0.1, f"{share:.0%}")
    code, seconds = gateway.stop()
    trial.check("closed pipe: it ends cleanly", code == 0, f"{code} after {seconds:.1f} s")


def renamed(trial, port):
    gateway = with_access_log(trial.gateway("renamed", port)).start()
    gateway.get("/open?1")
    os.rename(f"{gateway.place}/log", f"{gateway.place}/log.1")
    gateway.get("/open")

    def lines():
        with open(f"{gateway.place}/log.1") as log:
            return log.read().count('"event":"request"')

    trial.check("renamed file: lines go on into it", until(3, lambda: lines() == 2) is not None, lines())
    code, _ = gateway.stop()
    trial.check("renamed file: it ends cleanly", code == 0, code)


@fault("X15", "a panic: in a request, in what watches, in the log, in a hash (tests of the library)", 300)
def panics(trial):
    root = os.path.dirname(SCRIPTS)
    if not shutil.which("cargo") or not os.path.exists(f"{root}/Cargo.toml"):
        raise Skip("it needs Cargo and the source: cargo test panic")
    done = run("cargo", "test", "--locked", "--lib", "--test", "it", "panic", cwd=root, timeout=280, stderr=subprocess.STDOUT)
    told = [line for line in done.stdout.splitlines() if line.startswith("test result:")]
    passed = sum(int(line.split()[3]) for line in told)
    trial.check("the tests of panics pass", done.returncode == 0, done.stdout[-800:])
    trial.check("there are at least 5", passed >= 5, told)
    trial.note(f"{passed} tests: cargo test panic")
