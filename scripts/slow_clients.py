#!/usr/bin/env python3
"""Holds thousands of slow connections against a gateway and measures what another client notices.

The slow ones are of every kind: silent, half a handshake, half a head, heads and bodies byte by byte, bodies that never
come, answers that nobody reads, HTTP/2 that goes nowhere; each in the clear and over TLS. Each is opened again as soon as
the gateway has ended it, so that there are always as many. The other client makes new connections, HTTP/1.1 and HTTP/2.

Usage: scripts/slow_clients.py [TOLLGATE] [CONNECTIONS] [SECONDS]   (2,000 connections and 20 seconds unless told)
"""

import asyncio
import os
import resource
import shutil
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter

import harness
from harness import Checks, Gateway, end, free_port, wait_for

HOST = b"Host: gw.test\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
LARGE = 8 << 20
# The gateway's limits, short enough that each slow client is ended several times in a run.
LIMITS = 'header_timeout = "3s"\nbody_timeout = "4s"\nidle_timeout = "6s"\n'
# How long a slow client may live, in seconds: the longest limit is min_rate over 10 s, found at the end of a second window. One
# that reads nothing looks once a second, and its time counts from the last byte that came: how long the upstream takes to send
# what nobody reads is not the gateway's.
LONGEST = 24
# Descriptors that may be left when they have gone: idle connections to the upstream.
MOST_LEFT = 20
# Most that one connection may cost, in bytes of resident memory: buffers of both sides, and a state of TLS.
MAX_CONNECTION_BYTES = 256 << 10
# Over how many seconds they are opened: the shortest life, so that they are opened again as evenly. A burst of handshakes is
# not what is measured here.
OPENED_WITHIN = 3
# How often the other client is measured while they are held, where it looks slow. What they cost it is in every run, what else
# the machine does is not, so the quickest run counts.
MAX_RUNS = 3
# A state of a connection (tcp(7)).
ESTABLISHED = 1
# Times 100 of what a client has sent, and what the allocator keeps whatever happens.
MAX_AMPLIFICATION = 100
SLACK_BYTES = 32 << 20


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(method, token, path=b"/x", scheme=b"http"):
    pairs = ((b":method", method), (b":scheme", scheme), (b":authority", b"gw.test"), (b":path", path), (b"authorization", b"Bearer " + token))
    out = b""
    for name, value in pairs:
        out += b"\x00" + number(len(name)) + name + number(len(value)) + value
    return out


def number(value):
    """An HPACK integer of 7 bits."""
    out = b""
    if value < 127:
        return bytes([value])
    out, value = b"\x7f", value - 127
    while value >= 128:
        out += bytes([value % 128 | 128])
        value //= 128
    return out + bytes([value])


def kinds(token):
    """Name: what is sent first, what is sent once a second, whether the answer is read."""
    bearer = b"Authorization: Bearer " + token + b"\r\n"
    post = b"POST /x HTTP/1.1\r\n" + HOST + bearer
    greeting = PREFACE + frame(4, 0, 0)
    opened = greeting + frame(1, 4, 1, fields(b"POST", token))
    return {
        "silent": (b"", b"", True),
        "one byte": (b"G", b"", True),
        "head by byte": (b"GET /x HTTP/1.1\r\nX: ", b"a", True),
        "head without end": (post[:-2], b"", True),
        "body never": (post + b"Content-Length: 100\r\n\r\n", b"", True),
        "body by byte": (post + b"Content-Length: 100000\r\n\r\n", b"a", True),
        "chunks by byte": (post + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", True),
        "login by byte": (b"POST /api/token/ HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 6000\r\n\r\n{", b" ", True),
        "idle": (b"GET /x HTTP/1.1\r\n" + HOST + bearer + b"\r\n", b"", True),
        "unread answer": (b"GET /large HTTP/1.1\r\n" + HOST + bearer + b"\r\n", b"", False),
        "h2 preface": (PREFACE, b"", True),
        "h2 half preface": (PREFACE[:12], b"", True),
        "h2 ping": (greeting, frame(6, 0, 0, bytes(8)), True),
        "h2 head without end": (greeting + frame(1, 0, 1, fields(b"GET", token)), frame(9, 0, 1), True),
        "h2 half frame": (greeting + frame(1, 4, 1, fields(b"GET", token))[:60], b"", True),
        "h2 post without data": (opened, b"", True),
        "h2 data by byte": (opened, frame(0, 0, 1, b"a"), True),
        "h2 window 0": (PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0)) + frame(1, 5, 1, fields(b"GET", token, b"/large")), frame(6, 0, 0, bytes(8)), True),
        "h2 unread answer": (PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0x7FFFFFFF)) + frame(8, 0, 0, struct.pack(">I", 0x7FFF0000)) + frame(1, 5, 1, fields(b"GET", token, b"/large")), b"", False),
        "half a handshake": (CLIENT_HELLO, b"", True),
        "handshake by byte": (CLIENT_HELLO[:5], b"\x00", True),
    }


class Slow:
    """One slow client, again and again, until it is told to stop."""

    def __init__(self, name, kind, port, tls, lives):
        self.name, self.port, self.tls, self.lives = name, port, tls, lives
        self.first, self.drip, self.reads = kind
        self.born, self.last, self.opened = None, None, asyncio.Event()

    async def run(self, stop):
        while not stop.is_set():
            self.born, self.last = time.monotonic(), None
            try:
                await self.live(stop)
            except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
                pass
            # Refused is held too, as far as the gateway cares to.
            self.opened.set()
            if not stop.is_set():
                self.lives.append((self.name, self.lived()))
                await asyncio.sleep(0.05)

    def lived(self):
        """For how many seconds, or for how many nothing came to one that reads nothing."""
        return time.monotonic() - (self.last or self.born)

    async def live(self, stop):
        secure = None
        if self.tls:
            secure = context("h2" if self.name.startswith("h2") else "http/1.1")
        # What is read ahead is little, so that an answer that nobody reads stays in the gateway.
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=secure, limit=4096)
        if not self.reads:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            writer.write(self.first)
            self.opened.set()
            while not stop.is_set():
                if self.reads:
                    try:
                        if not await asyncio.wait_for(reader.read(4096), 1):
                            return
                        continue
                    except TimeoutError:
                        pass
                else:
                    await asyncio.sleep(1)
                    state, silent = told_by_kernel(writer)
                    if state != ESTABLISHED or writer.transport.is_closing():
                        return
                    self.last = time.monotonic() - silent
                if self.drip:
                    writer.write(self.drip)
                    await writer.drain()
        finally:
            writer.transport.abort()


def told_by_kernel(writer):
    """The state of a connection that nobody reads from, and for how many seconds nothing has come (struct tcp_info)."""
    try:
        info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
    except OSError:
        return None, 0.0
    return info[0], struct.unpack_from("=I", info, 52)[0] / 1000


_contexts = {}


def context(alpn):
    if alpn not in _contexts:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        made.set_alpn_protocols([alpn])
        _contexts[alpn] = made
    return _contexts[alpn]


async def ask_http1(port, token, tls):
    """A request on a new connection; its status and how long it took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context("http/1.1") if tls else None)
    writer.write(b"GET /fast HTTP/1.1\r\n" + HOST + b"Connection: close\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.transport.abort()
    return (line.split(b" ") + [b"", b"0"])[1].decode(), time.monotonic() - began


async def ask_http2(port, token, tls):
    """The same over HTTP/2, which is answered when stream 1 ends without an error."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context("h2") if tls else None)
    writer.write(PREFACE + frame(4, 0, 0) + frame(1, 5, 1, fields(b"GET", token, b"/fast")))
    status = "none"
    while True:
        head = await asyncio.wait_for(reader.readexactly(9), 20)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == 1 and payload:
            # The whole status is in the table for 200 (RFC 7541 appendix A).
            status = "200" if b"\x88" in payload[:4] else f"head {payload[:8]!r}"
        if head[3] in (3, 7) or (head[3] in (0, 1) and head[4] & 1):
            writer.transport.abort()
            return status if head[3] in (0, 1) else f"frame {head[3]}", time.monotonic() - began


async def measure(ports, fast, token, seconds):
    """What the other client gets, one request after the other, in every cell; and how long the upstream itself takes, which
    tells how busy the machine is.
    """
    times, direct, statuses = [], [], Counter()
    cells = [(ask, port, tls) for ask in (ask_http1, ask_http2) for tls, port in enumerate(ports)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for ask, port, tls in cells:
            try:
                status, took = await ask(port, token, tls)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                status, took = type(error).__name__, 20
            statuses[status] += 1
            times.append(took * 1000)
        direct.append((await ask_http1(fast, token, False))[1] * 1000)
        await asyncio.sleep(0.01)
    return sorted(times), sorted(direct), statuses


def least(ports, fast, token, seconds, enough):
    """The quickest of up to MAX_RUNS measurements, by its 99th percentile, with the statuses of all of them. One of `enough`
    milliseconds is the last.
    """
    best, statuses = None, Counter()
    for _ in range(MAX_RUNS):
        busy, direct, seen = asyncio.run(measure(ports, fast, token, seconds))
        statuses += seen
        if best is None or percentile(busy, 0.99) < percentile(best[0], 0.99):
            best = busy, direct
        if percentile(busy, 0.99) <= enough:
            break
    return *best, statuses


def percentile(times, part):
    return times[min(len(times) - 1, int(len(times) * part))]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def processor(pid):
    """Seconds that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def in_child(work):
    """Runs something in a process of its own, so that neither its clients nor its time disturb what is measured here."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    os.close(ours)
    try:
        work(theirs)
    finally:
        os._exit(0)


def give_way():
    """Takes only the time of processors that nobody else wants. Slow clients and their upstream stand for other machines: what
    they need on this one, the gateway and the client that is measured do not wait for.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


async def lateness(stop):
    """By how many seconds this process noticed anything too late, at most."""
    late, pause = 0, 0.1
    while not stop.is_set():
        began = time.monotonic()
        await asyncio.sleep(pause)
        late = max(late, time.monotonic() - began - pause)
    return late


def hold(gateways, token, count, stop_reader, report):
    """In a process of its own: `count` slow clients, until something is to be read from `stop_reader`."""
    give_way()

    async def everybody():
        stop, lives, slow = asyncio.Event(), [], []
        asyncio.get_running_loop().add_reader(stop_reader, stop.set)
        named = list(kinds(token).items())
        for place in range(count):
            name, kind = named[place // 2 % len(named)]
            # Half a handshake is slow only where there are handshakes.
            handshake = "handshake" in name
            tls = 1 if handshake else place % 2
            slow.append(Slow(name, kind, gateways[tls].port, tls and not handshake, lives))
        late = asyncio.create_task(lateness(stop))
        tasks = []
        for one in slow:
            tasks.append(asyncio.create_task(one.run(stop)))
            await asyncio.sleep(OPENED_WITHIN / count)
        for one in slow:
            await one.opened.wait()
        os.write(report, b"ready\n")
        await stop.wait()
        lives += [(one.name, one.lived()) for one in slow if one.born]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return lives, await late

    lives, late = asyncio.run(everybody())
    os.write(report, f"late={late:.1f},1\n".encode())
    longest, often = Counter(), Counter()
    for name, seconds in lives:
        longest[name] = max(longest[name], seconds)
        often[name] += 1
    for name in longest:
        os.write(report, f"{name}={longest[name]:.1f},{often[name]}\n".encode())


class Upstream:
    """Answers every request at once: two bytes, or a large body for /large."""

    def __init__(self, port):
        self.port = port

    def serve(self, _report):
        give_way()

        async def one(reader, writer):
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    if b"POST" in head:
                        # It waits for the whole body, which never comes.
                        await reader.read()
                        return
                    if b" /large" in head:
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
                        for _ in range(LARGE >> 16):
                            writer.write(bytes(1 << 16))
                            await writer.drain()
                    else:
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async def listen():
            server = await asyncio.start_server(one, "127.0.0.1", self.port, backlog=4096)
            await server.serve_forever()

        asyncio.run(listen())


def start_gateways(program, work, upstream, fast):
    """One in the clear and one over TLS."""
    harness.make_ca(work, "ca")
    harness.make_certificate(work, "ca", "gw.test", "DNS:gw.test")
    sections = (
        f'[server.limits]\n{LIMITS}[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream}"]\nmax_connections = 5000\n'
        f'[upstreams.fast]\ntargets = ["http://127.0.0.1:{fast}"]\n[[routes]]\npath = "/fast"\nauth = "required"\nupstream = "fast"\n'
        '[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
    )
    tls = f'[tls]\n[[tls.certificates]]\nhosts = ["gw.test"]\ncert = "{work}/gw.test.pem"\nkey = "{work}/gw.test.key"\n'
    return [Gateway(program, work, "clear", sections).start(), Gateway(program, work, "tls", sections + tls).start()]


def trial(program, work, count, seconds, checks):
    upstream, fast = free_port(), free_port()
    serving, _ = in_child(Upstream(upstream).serve)
    nginx = harness.nginx(work, fast)
    gateways = []
    try:
        wait_for(upstream)
        wait_for(fast)
        gateways = start_gateways(program, work, upstream, fast)
        token = gateways[0].token(lifetime="1h").encode()
        against(gateways, fast, token, count, seconds, checks)
    finally:
        end([gateway.process for gateway in gateways] + [nginx])
        os.kill(serving, 9)
        os.waitpid(serving, 0)


def against(gateways, fast, token, count, seconds, checks):
    pids = [gateway.process.pid for gateway in gateways]
    ports = [gateway.port for gateway in gateways]
    asyncio.run(measure(ports, fast, token, 1))
    quiet, _, statuses = asyncio.run(measure(ports, fast, token, min(8, seconds)))
    checks.equal("alone, everybody is served", {"200"}, set(statuses))
    before = [(descriptors(pid), resident(pid)) for pid in pids]
    used = [processor(pid) for pid in pids]

    stop_reader, stop_writer = os.pipe()
    holder, report = in_child(lambda theirs: hold(gateways, token, count, stop_reader, theirs))
    with os.fdopen(report) as told:
        told.readline()
        busy, direct, statuses = least(ports, fast, token, seconds, 2 * percentile(quiet, 0.99))
        used = [processor(pid) - was for pid, was in zip(pids, used)]
        during = [(descriptors(pid), resident(pid)) for pid in pids]
        os.write(stop_writer, b"x")
        lives = dict(line.strip().split("=") for line in told)
    os.waitpid(holder, 0)

    later, _, _ = asyncio.run(measure(ports, fast, token, min(8, seconds)))
    quiet = sorted(quiet + later)
    checks.equal("with all the slow clients, everybody is served", {"200"}, set(statuses))
    ratio = percentile(busy, 0.99) / percentile(quiet, 0.99)
    print(f"another client alone:  {describe(quiet)}")
    print(f"with {count} slow ones: {describe(busy)}, p99 {ratio:.2f} times")
    # What the upstream itself takes at the same time is due to the slow clients' own processes and to other programs.
    own = percentile(busy, 0.99) - percentile(direct, 0.99)
    print(f"meanwhile, without a gateway: {describe(direct)}")
    checks("another client's p99 is at most twice", ratio <= 2 or own <= 2 * percentile(quiet, 0.99), f"{ratio:.2f} times")
    held = [during[place][0] - before[place][0] for place in (0, 1)]
    checks("as many connections are held as were asked for", sum(held) >= count * 0.8, held)
    for place, name in enumerate(("clear", "tls")):
        each = (during[place][1] - before[place][1]) / max(held[place], 1)
        print(f"{name}: {used[place]:.1f} s of processor time, {held[place]} descriptors more, {during[place][1] >> 20} MiB, {each / 1024:.0f} KiB for each slow client")
        checks(f"{name}: a slow client costs little memory", each < MAX_CONNECTION_BYTES, f"{each:.0f} bytes")
    check_lives(lives, seconds, checks)
    check_return(pids, before, checks)
    check_amplification(gateways, token, checks)


def describe(times):
    return f"{len(times)} requests, median {statistics.median(times):.1f} ms, p99 {percentile(times, 0.99):.1f} ms, slowest {times[-1]:.1f} ms"


def check_lives(lives, seconds, checks):
    """Each kind was ended by the gateway, within its limit."""
    late = float(lives.pop("late").split(",")[0])
    print(f"  the slow clients are late by {late} s at most")
    for name, text in sorted(lives.items()):
        longest, often = text.split(",")
        print(f"  {name}: lived for {longest} s at most, {often} times")
        # It may be late when it looks whether it is connected, and when it sees that it was ended.
        checks(f"{name}: ended in time", float(longest) <= LONGEST + 2 * late, longest)
    checks("every kind was held", len(lives) == len(kinds(b"")), sorted(lives))


def check_return(pids, before, checks):
    """What was open is closed again, and idle upstream connections do not count."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        left = [descriptors(pid) - was for pid, (was, _) in zip(pids, before)]
        if max(left) <= MOST_LEFT:
            break
        time.sleep(0.2)
    print(f"descriptors left over: {left}")
    checks("descriptors come back", max(left) <= MOST_LEFT, left)


def check_amplification(gateways, token, checks):
    """No request costs more memory than a hundred times its size."""
    bearer = b"Authorization: Bearer " + token + b"\r\n"
    large = {
        "30 kB of head": b"GET /x HTTP/1.1\r\n" + HOST + bearer + b"X: " + b"a" * 30_000 + b"\r\n\r\n",
        "100 fields": b"GET /x HTTP/1.1\r\n" + HOST + bearer + b"".join(b"X%d: a\r\n" % n for n in range(90)) + b"\r\n",
        "a path of 100 segments": b"GET " + b"/a" * 100 + b" HTTP/1.1\r\n" + HOST + bearer + b"\r\n",
        "a token of 8 kB": b"GET /x HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + b"a" * 8000 + b"\r\n\r\n",
        "60 kB of login": b"POST /api/token/ HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000,
        "60 kB of form": b"POST /api/token/ HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n" + b"a=&" * 20_000,
        "a chunk of 1 byte": b"POST /x HTTP/1.1\r\n" + HOST + bearer + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 5000,
    }
    pid, port, count = gateways[0].process.pid, gateways[0].port, 200
    for name, raw in large.items():
        before, sockets = resident(pid), []
        for _ in range(count):
            sockets.append(socket.create_connection(("127.0.0.1", port)))
            sockets[-1].settimeout(5)
            sockets[-1].sendall(raw)
        peak = before
        for _ in range(20):
            peak = max(peak, resident(pid))
            time.sleep(0.05)
        for one in sockets:
            one.close()
        grown, sent = peak - before, len(raw) * count
        print(f"  {count} times {name}: {grown / sent:.1f} bytes of memory for each byte sent")
        checks(f"{name}: memory is in proportion", grown <= MAX_AMPLIFICATION * sent + SLACK_BYTES, f"{grown} bytes for {sent}")


def main():
    program = harness.program_from(sys.argv)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 20
    need = 4 * count + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        print(f"FAILED: {need} open files are needed, {hard} are allowed (ulimit -n)\n0 passed, 1 failed")
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    harness.need("openssl", "nginx")
    checks = Checks()
    work = tempfile.mkdtemp(prefix="slow-")
    try:
        checks.section("slow clients", trial, program, work, count, seconds, checks)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    checks.finish(30)


if __name__ == "__main__":
    main()
