"""The loads of the measurements, and what a process has used meanwhile."""

import os
import re
import socket
import statistics
import time

from bench_setup import BENCHES
from harness import run


class Load:
    """What a load was answered. Times in microseconds; None where they are not known."""

    def __init__(self, requests, seconds, errors, p50=None, p99=None, longest=None, received=0):
        self.requests, self.seconds, self.errors = requests, seconds, errors
        self.p50, self.p99, self.longest, self.received = p50, p99, longest, received


def wrk(port, seconds, connections, tokens, targets, processors="1", timeout="10s", body_bytes=0):
    """HTTP/1.1 over connections that are kept, each with its next request as soon as its answer is there. With a body it is a POST."""
    done = run("taskset", "-c", processors, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={timeout}", "-s", f"{BENCHES}/peers/load.lua",
               f"http://127.0.0.1:{port}", env={**os.environ, "TOKENS": tokens, "TARGETS": targets, "BODY_BYTES": str(body_bytes)}, timeout=seconds + 120)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    if not found:
        raise RuntimeError(f"wrk: {done.stdout[-400:]} {done.stderr[-400:]}")
    said = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[1])}
    return Load(said["requests"], said["us"] / 1e6, said["errors"], said["p50"], said["p99"], said["max"], said["bytes"])


def h2load(port, token, target, times, *options):
    """TLS 1.3, by the client of nghttp2. `times` is a file for the time of each request."""
    done = run("taskset", "-c", "1", "h2load", *options, f"--log-file={times}", "-H", f"Authorization: Bearer {token}",
               f"https://127.0.0.1:{port}{target}", timeout=300)
    said = done.stdout
    protocol = "http/1.1" if "--h1" in options else "h2"
    if f"Application protocol: {protocol}" not in said or "TLS Protocol: TLSv1.3" not in said:
        raise RuntimeError(f"h2load does not speak {protocol} over TLS 1.3: {said[-600:]} {done.stderr[-400:]}")
    with open(times) as file:
        took = sorted(int(line.split()[2]) for line in file)
    os.remove(times)
    succeeded, failed = map(int, re.search(r"(\d+) succeeded, (\d+) failed", said).groups())
    refused = succeeded - int(re.search(r"(\d+) 2xx", said)[1])
    seconds = to_us(re.search(r"finished in ([\d.]+\w+)", said)[1]) / 1e6
    return Load(succeeded, seconds, failed + refused, percentile(took, 50), percentile(took, 99), took[-1] if took else None)


def handshakes(port, token, target, times, seconds):
    """Bursts of 400 connections, each for one request, until the time is over."""
    bursts, ends = [], time.monotonic() + seconds
    while not bursts or time.monotonic() < ends:
        bursts.append(h2load(port, token, target, times, "--h1", "-c400", "-n400"))
    requests, took, errors = (sum(getattr(burst, name) for burst in bursts) for name in ("requests", "seconds", "errors"))
    return Load(requests, took, errors, statistics.median(burst.p50 for burst in bursts), statistics.median(burst.p99 for burst in bursts))


def idle_memory(process, port, token, target, count):
    """Bytes that a connection takes that has had an answer and stays open, and how many had none."""
    before, connections, errors = resident(process), [], 0
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(request)
        errors += not connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connections.append(connection)
    time.sleep(1)
    grown = resident(process) - before
    for connection in connections:
        connection.close()
    return grown / count, errors


def to_us(text):
    number, unit = re.match(r"([\d.]+)(\w+)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, len(ordered) * part // 100)] if ordered else None


def family(process):
    """The process and those that it has started."""
    members = [process]
    for task in _read_tasks(process, "children"):
        for child in task.split():
            members += family(int(child))
    return members


def _read_tasks(process, name):
    try:
        tasks = os.listdir(f"/proc/{process}/task")
    except OSError:
        return
    for task in tasks:
        try:
            with open(f"/proc/{process}/task/{task}/{name}") as file:
                yield file.read()
        except OSError:
            continue


def processor_us(process):
    """What the kernel says that all threads of the process and its children have run for, in microseconds."""
    return sum(int(told.split()[0]) for member in family(process) for told in _read_tasks(member, "schedstat")) / 1e3


def threads_us(process, prefix):
    """The same for each thread whose name begins so."""
    used = {}
    for task in os.listdir(f"/proc/{process}/task"):
        try:
            with open(f"/proc/{process}/task/{task}/comm") as name, open(f"/proc/{process}/task/{task}/schedstat") as told:
                used[name.read().strip()] = int(told.read().split()[0]) / 1e3
        except OSError:
            continue
    return {name: us for name, us in used.items() if name.startswith(prefix)}


def _status(process, field):
    try:
        with open(f"/proc/{process}/status") as file:
            found = re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def resident(process):
    """Bytes of memory of the process and its children."""
    return sum(_status(member, "VmRSS") for member in family(process))


def peak(process):
    """The most memory that the process has had since `forget_peak`, in bytes."""
    return _status(process, "VmHWM")


def forget_peak(process):
    with open(f"/proc/{process}/clear_refs", "w") as file:
        file.write("5")
