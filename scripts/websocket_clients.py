#!/usr/bin/env python3
"""WebSocket clients through the gateway: what they see must be what they see at the server itself.

A matrix of raw frames in the manner of the Autobahn test suite (echoes of all sizes, fragments, pings, reserved bits, bad
opcodes, bad UTF-8, closes) is sent directly and through the gateway, and the outcomes are compared byte by byte. Then the
client of the Python package websockets: tokens in the header and in the protocol, TLS, refusals, ends of tokens and
sessions. Then WebSockets over HTTP/2 (RFC 8441). With WSTEST, the path of Autobahn's own program, its fuzzing client runs
as well.

Usage: scripts/websocket_clients.py [PROGRAM] [WSTEST]
Prints the count of checks in the last line. Needs openssl and the Python packages websockets and h2.
"""

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from harness import Checks, Gateway, end, free_port, make_ca, make_certificate, need, program_from, run, wait_for

# Fewer checks than this are a run that did not reach its end.
LEAST = 260
HOST = "ws.test"
MASK = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# How long a connection that nobody ends is listened to, and how often a case is run directly to learn what may happen.
PATIENCE = 5.0
DIRECT_RUNS = 3
check = Checks()


# ---- the server ----

async def echo(connection):
    async for message in connection:
        if message == "drop":
            connection.transport.abort()
        elif isinstance(message, str) and message.startswith("close "):
            await connection.close(int(message.split()[1]), "as asked")
        elif isinstance(message, str) and message.startswith("fragments "):
            count = int(message.split()[1])
            await connection.send(bytes([number % 256]) * 1000 for number in range(count))
        elif message == "who":
            headers = connection.request.headers
            names = ("x-user-id", "authorization", "sec-websocket-protocol", "sec-websocket-extensions")
            await connection.send(json.dumps({name: headers.get_all(name) for name in names}))
        else:
            await connection.send(message)


async def echo_server(port):
    # Most of these connections end badly, and are meant to.
    logging.getLogger("websockets").setLevel(logging.CRITICAL + 1)
    choose = lambda _, offered: "chat" if "chat" in offered else None
    async with serve(echo, "127.0.0.1", port, max_size=None, ping_interval=None, close_timeout=2, select_subprotocol=choose) as server:
        await server.serve_forever()


# ---- raw frames ----

def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None):
    """A client's frame. `length` is the kind of length field when it is not the shortest: 16 or 64 bits."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit, size = (0x80 if masked else 0), len(payload)
    if length == 64 or (length is None and size > 65535):
        head = struct.pack("!BBQ", first, bit | 127, size)
    elif length == 16 or (length is None and size > 125):
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BB", first, bit | size)
    if not masked:
        return head + payload
    key = (MASK * (size // 4 + 1))[:size]
    return head + MASK + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Raw:
    """A connection of raw frames. `answers` is everything that came, and how it ended."""

    def __init__(self, port, token=None, path="/"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(b"0123456789abcdef").decode()
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n{authorization}\r\n".encode()
        )
        self.data, self.frames, self.ended = b"", [], None
        while b"\r\n\r\n" not in self.data and self.fill():
            pass
        self.head, _, self.data = self.data.partition(b"\r\n\r\n")

    def fill(self):
        try:
            piece = self.socket.recv(1 << 20)
        except TimeoutError:
            self.ended = "nothing more came"
        except ConnectionError:
            # Whether the end is a reset depends on who is faster, directly as well.
            self.ended = "closed"
        else:
            self.data += piece
            if piece:
                return True
            self.ended = "closed"
        return False

    def parse(self):
        while len(self.data) >= 2:
            at, size = 2, self.data[1] & 0x7F
            if size > 125:
                at = 4 if size == 126 else 10
                if len(self.data) < at:
                    return
                size = int.from_bytes(self.data[2:at], "big")
            if len(self.data) < at + size:
                return
            payload = self.data[at:at + size]
            shown = payload if size <= 125 else hashlib.sha256(payload).hexdigest()
            self.frames.append((self.data[0], self.data[1], size, shown))
            self.data = self.data[at + size:]

    def expect(self, count):
        """Until so many frames have come, or the end."""
        self.parse()
        while len(self.frames) < count and self.fill():
            self.parse()

    def outcome(self):
        while self.ended is None and self.fill():
            self.parse()
        self.parse()
        self.socket.close()
        return self.frames, self.data, self.ended


def play(port, token, steps):
    raw = Raw(port, token)
    if not raw.head.startswith(b"HTTP/1.1 101"):
        return f"no WebSocket: {raw.head[:100]!r}"
    for step in steps:
        try:
            if isinstance(step, int):
                raw.expect(step)
            elif step == "half-close":
                raw.socket.shutdown(socket.SHUT_WR)
            else:
                raw.socket.sendall(step)
        except OSError:
            break
    frames, rest, ended = raw.outcome()
    return tuple(frames), rest, ended


def pieces(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def cases():
    """Name, and what is sent; a number waits until so many frames have come."""
    done = close(1000)
    text = lambda size: ("Ä*" * size).encode()[:size - size % 3] + b"*" * (size % 3)
    for kind, opcode in (("text", TEXT), ("binary", BINARY)):
        for size in (0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20):
            whole = frame(opcode, text(size))
            yield f"{kind} of {size} bytes", [whole, 1, done]
            if 128 <= size <= 65536:
                yield f"{kind} of {size} bytes in pieces", [*pieces(whole, 997), 1, done]
        for count in (2, 3, 64):
            parts = [frame(0 if number else opcode, b"part%d" % number, fin=number == count - 1) for number in range(count)]
            yield f"{kind} in {count} fragments at once", [b"".join(parts), 1, done]
            yield f"{kind} in {count} fragments one by one", [*parts, 1, done]
            yield f"{kind} in {count} fragments with pings between", [*[part + frame(PING, b"p%d" % number) for number, part in enumerate(parts)], count + 1, done]
        yield f"{kind} in empty fragments", [frame(opcode, fin=False), frame(0, fin=False), frame(0), 1, done]
        yield f"{kind} in fragments of 64 KiB", [frame(opcode, b"a" * 65536, fin=False), frame(0, b"b" * 65536, fin=False), frame(0, b"c" * 65536), 1, done]
        yield f"{kind}, ten in a row", [b"".join(frame(opcode, b"%d" % number) for number in range(10)), 10, done]
        yield f"{kind}, each byte alone", [*pieces(frame(opcode, b"byte by byte"), 1), 1, done]
    for size in (0, 1, 124, 125):
        yield f"ping of {size} bytes", [frame(PING, b"\xfe" * size), 1, done]
    yield "ping of 126 bytes", [frame(PING, b"\xfe" * 126)]
    yield "ping in pieces", [*pieces(frame(PING, b"p" * 125), 1), 1, done]
    yield "ten pings", [b"".join(frame(PING, b"%d" % number) for number in range(10)), 10, done]
    yield "pong that nobody asked for", [frame(PONG, b"x") + frame(TEXT, b"y"), 1, done]
    yield "fragmented ping", [frame(PING, b"x", fin=False)]
    for reserved in range(1, 8):
        for name, opcode in (("text", TEXT), ("binary", BINARY), ("continuation", 0), ("close", CLOSE), ("ping", PING)):
            yield f"reserved bits {reserved} on {name}", [frame(TEXT, b"before"), 1, frame(opcode, b"", reserved=reserved)]
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", [frame(opcode)]
        yield f"opcode {opcode} after a message", [frame(TEXT, b"before"), 1, frame(opcode, b"data"), frame(PING)]
    yield "continuation of nothing", [frame(0, b"x")]
    yield "continuation of nothing, unfinished", [frame(0, b"x", fin=False)]
    yield "continuation after the end", [frame(TEXT, b"a", fin=False), frame(0, b"b"), 1, frame(0, b"c")]
    yield "a message within a message", [frame(TEXT, b"a", fin=False), frame(TEXT, b"b")]
    yield "a message that is never finished", [frame(TEXT, b"a", fin=False), done]
    good = ["κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "\ufffd"]
    for sample in good:
        yield f"UTF-8 {sample.encode().hex()}", [frame(TEXT, sample.encode()), 1, done]
        split = pieces(sample.encode(), 1)
        parts = [frame(0 if number else TEXT, byte, fin=number == len(split) - 1) for number, byte in enumerate(split)]
        yield f"UTF-8 {sample.encode().hex()} in fragments of a byte", [*parts, 1, done]
    bad = ["cebae1bdb9cf83cebcceb5eda080656469746564", "f4908080", "f5", "80", "bf", "8081", "c0", "c080", "c1bf", "e0808f", "e08080", "f0808080", "f8888080",
           "fc8480808080", "fe", "ff", "feffff", "eda080", "edafbf", "edb080", "edbfbf", "eda080edb080", "c2", "e282", "f09f98", "c0af", "e080af", "f08080af", "f7bfbfbf"]
    for sample in bad:
        yield f"no UTF-8: {sample}", [frame(TEXT, bytes.fromhex(sample))]
        yield f"no UTF-8 in a fragment: {sample}", [frame(TEXT, b"good", fin=False), frame(0, bytes.fromhex(sample))]
        yield f"no UTF-8, but binary: {sample}", [frame(BINARY, bytes.fromhex(sample)), 1, done]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close with {code}", [close(code)]
        yield f"close with {code} and a reason", [frame(TEXT, b"x"), 1, close(code, "Grüße".encode())]
    for code in (0, 999, 1004, 1005, 1006, 1012, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"close with the bad code {code}", [close(code)]
        yield f"close with the bad code {code} and a reason", [close(code, b"reason")]
    yield "close without a code", [close()]
    yield "close with half a code", [frame(CLOSE, b"\x03")]
    yield "close with the longest reason", [close(1000, b"r" * 123)]
    yield "close with a reason that is too long", [close(1000, b"r" * 124)]
    yield "close with a reason that is no UTF-8", [close(1000, bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564"))]
    yield "close twice", [close(1000) + close(1001)]
    yield "a message after close", [close(1000) + frame(TEXT, b"late")]
    yield "a ping after close", [close(1000) + frame(PING, b"late")]
    yield "fragmented close", [frame(CLOSE, struct.pack("!H", 1000), fin=False)]
    yield "a frame without a mask", [frame(TEXT, b"open", masked=False)]
    yield "a length of 16 bits that is too long for it", [frame(TEXT, b"short", length=16), 1, done]
    yield "a length of 64 bits that is too long for it", [frame(TEXT, b"short", length=64), 1, done]
    yield "a length beyond 63 bits", [struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + MASK]
    yield "half a frame, then the end", [frame(TEXT, b"whole"), 1, frame(TEXT, b"half of it")[:6], "half-close"]
    yield "the end without close", [frame(TEXT, b"whole"), 1, "half-close"]
    yield "no WebSocket frames at all", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    for code in (1000, 1001, 1011, 3000, 4999):
        yield f"the server closes with {code}", [frame(TEXT, b"close %d" % code), 1, close(code, b"as asked")]
    yield "the server breaks off", [frame(TEXT, b"before"), 1, frame(TEXT, b"drop")]
    yield "the server sends fragments", [frame(TEXT, b"fragments 300"), 300, done]


def matrix(direct, gateway, token):
    """Runs every case at the server several times, then through the gateway, where nothing else may happen."""
    every = list(cases())
    with ThreadPoolExecutor(8) as pool:
        known = [[pool.submit(play, direct, None, steps) for _ in range(DIRECT_RUNS)] for _, steps in every]
        through = [pool.submit(play, gateway, token, steps) for _, steps in every]
        closed = 0
        for (name, steps), direct_runs, seen in zip(every, known, through):
            allowed, seen = [one.result() for one in direct_runs], seen.result()
            # To close what the server leaves hanging is no worse.
            allowed += [(*one[:2], "closed") for one in allowed if one[2] == "nothing more came"]
            if seen not in allowed:
                # It may be one of several outcomes that are rare: both are asked again.
                allowed += [play(direct, None, steps) for _ in range(10)]
            check(f"WebSocket, {name}", seen in allowed, f"through the gateway {shorter(seen)}; directly {shorter(allowed[0])}")
            closed += any(isinstance(one, tuple) and one[0] and one[0][-1][0] == 0x88 for one in allowed)
    print(f"matrix: {len(every)} cases, {closed} of them end with a close frame of the server")
    # What is compared must be worth comparing.
    check("the server itself answers the cases", closed > 0.9 * len(every), closed)


def shorter(outcome):
    return str(outcome)[:250]


# ---- the client of the websockets package ----

class Bench:
    def __init__(self, program, work):
        self.program, self.work, self.processes = program, work, []
        make_ca(work, "ca")
        make_certificate(work, "ca", "server", f"DNS:{HOST}")
        self.echo = free_port()
        self.processes.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), "--echo", str(self.echo)]))
        wait_for(self.echo, self.processes[0])
        # Nobody listens there: a refusal that comes before the upstream is asked is not a 502.
        nobody = free_port()
        tls = f'[tls]\n[[tls.certificates]]\nhosts = ["{HOST}"]\ncert = "{work}/server.pem"\nkey = "{work}/server.key"\n'
        routes = (
            f'[upstreams.echo]\ntargets = ["http://127.0.0.1:{self.echo}"]\n[upstreams.nobody]\ntargets = ["http://127.0.0.1:{nobody}"]\n'
            f'[[routes]]\npath = "/"\nauth = "required"\nupstream = "echo"\n[[routes]]\npath = "/nobody"\nauth = "required"\nupstream = "nobody"\n'
        )
        grace = 'stream_grace = "0s"'
        self.plain = self.gateway("plain", routes, grace)
        self.tls = self.gateway("tls", tls + routes, grace)
        self.token = self.plain.token()
        self.trust = ssl.create_default_context(cafile=f"{work}/ca.pem")

    def gateway(self, name, sections, tokens):
        gateway = Gateway(self.program, self.work, name, sections, tokens=tokens)
        try:
            gateway.start()
        except RuntimeError as error:
            check(f"the gateway {name} starts", False, error)
        self.processes.append(gateway.process)
        return gateway

    def connect(self, secure=False, path="/", token=None, **options):
        """A client of the gateway; with a token it goes in the header."""
        gateway = self.tls if secure else self.plain
        if token:
            options["additional_headers"] = {"Authorization": f"Bearer {token}"}
        if secure:
            options["ssl"] = self.trust
        url = f"{'wss' if secure else 'ws'}://{HOST}:{gateway.port}{path}"
        return connect(url, host="127.0.0.1", port=gateway.port, max_size=None, proxy=None, open_timeout=10, **options)


async def exchange(bench, name, **options):
    """Messages of all sizes, with compression as both sides want it."""
    async with bench.connect(**options) as client:
        for message in ("", "text", "ä" * 70_000, b"", os.urandom(125), os.urandom(65536), os.urandom(3_000_000)):
            await client.send(message)
            if await asyncio.wait_for(client.recv(), 20) != message:
                return check(f"{name}: {len(message)} come back as they were", False)
        check(f"{name}: messages of all sizes come back", True)
        await client.ping()
        await client.send("who")
        told = json.loads(await client.recv())
        check.equal(f"{name}: the server is told who calls", ["alice"], told["x-user-id"])
        check.equal(f"{name}: and no token", [], told["authorization"])
        check(f"{name}: nor in the protocols", bench.token not in str(told), told)
        check.equal(f"{name}: compression as asked for", options.get("compression", "deflate") is not None, bool(client.protocol.extensions))
        return client.subprotocol


async def clients(bench):
    for secure in (False, True):
        way = "wss" if secure else "ws"
        await exchange(bench, f"{way}, token in the header", secure=secure, token=bench.token)
        await exchange(bench, f"{way}, without compression", secure=secure, token=bench.token, compression=None)
        chosen = await exchange(bench, f"{way}, token in the protocol", secure=secure, subprotocols=["bearer", bench.token])
        check.equal(f"{way}: bearer is echoed", "bearer", chosen)
        chosen = await exchange(bench, f"{way}, token beside another protocol", secure=secure, subprotocols=["bearer", bench.token, "chat"])
        check(f"{way}: a protocol that was offered is chosen", chosen in ("chat", "bearer"), chosen)
        chosen = await exchange(bench, f"{way}, another protocol alone", secure=secure, token=bench.token, subprotocols=["chat"])
        check.equal(f"{way}: another protocol is the server's", "chat", chosen)


async def refusals(bench):
    cases = [
        ("no token", {}, 401),
        ("a broken token", {"token": bench.token[:-6] + "AAAAAA"}, 401),
        ("bearer without a token", {"subprotocols": ["bearer"]}, 401),
        ("bearer with a broken token", {"subprotocols": ["bearer", bench.token[:-6] + "AAAAAA"]}, 401),
        ("a token and no bearer", {"subprotocols": [bench.token]}, 401),
        ("a server that is not there", {"path": "/nobody", "token": bench.token}, (502, 503)),
    ]
    for secure in (False, True):
        for name, options, status in cases:
            paths = [options.get("path")] if "path" in options else ["/", "/nobody"]
            for path in paths:
                try:
                    async with bench.connect(secure, **{**options, "path": path}):
                        seen = "a WebSocket"
                except websockets.exceptions.InvalidStatus as error:
                    seen = error.response.status_code
                except Exception as error:
                    seen = repr(error)
                wanted = status if isinstance(status, tuple) else (status,)
                check(f"{'wss' if secure else 'ws'} {path}: {name} is refused", seen in wanted, seen)


async def closing(bench):
    """What ends a WebSocket: its token, its session, and nobody else's."""
    for secure in (False, True):
        way, gateway = ("wss", bench.tls) if secure else ("ws", bench.plain)
        witness = await bench.connect(secure, token=gateway.token("witness")).__aenter__()
        revoked = await bench.connect(secure, token=gateway.token("revoked")).__aenter__()
        began = time.monotonic()
        short = await bench.connect(secure, token=gateway.token("short", "3s")).__aenter__()
        for client in (witness, revoked, short):
            await client.send("x")
            check.equal(f"{way}: it goes", "x", await asyncio.wait_for(client.recv(), 5))
        await asyncio.to_thread(gateway.revoke, "revoked")
        at = time.monotonic()
        code, took = await ended(revoked, at, 3)
        check.equal(f"{way}: a revoked session closes with", 1008, code)
        check(f"{way}: within a second", took < 1.0, f"{took:.3f} s")
        print(f"{way}: closed {max(took, 0.0) * 1e3:.0f} ms after its session")
        code, took = await ended(short, began, 6)
        check.equal(f"{way}: an expired token closes with", 1008, code)
        check(f"{way}: when it expires", 1.5 < took < 4.5, f"{took:.3f} s")
        await witness.send("still")
        check.equal(f"{way}: nobody else's is closed", "still", await asyncio.wait_for(witness.recv(), 5))
        await witness.close()


async def ended(client, since, limit):
    try:
        await asyncio.wait_for(client.recv(), limit)
    except websockets.exceptions.ConnectionClosed as error:
        return (error.rcvd.code if error.rcvd else f"no close frame: {error}"), time.monotonic() - since
    except TimeoutError:
        return "never", limit
    return "a message", time.monotonic() - since


# ---- what is no WebSocket ----

def other_upgrades(bench):
    base = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {bench.token}\r\n"
    key = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    for name, head in (
        ("h2c", base + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ("another protocol", base + "Upgrade: frob\r\nConnection: Upgrade\r\n"),
        ("a WebSocket without a key", base + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"),
        ("a WebSocket of another version", base + f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\n{key}"),
        ("a WebSocket that is no upgrade", base + f"Upgrade: websocket\r\nConnection: keep-alive\r\nSec-WebSocket-Version: 13\r\n{key}"),
        ("a WebSocket by POST", base.replace("GET", "POST") + f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{key}"),
        ("a WebSocket in HTTP/1.0", base.replace("1.1", "1.0") + f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{key}"),
    ):
        with socket.create_connection(("127.0.0.1", bench.plain.port), timeout=5) as client:
            client.sendall((head + "\r\n").encode())
            seen = client.recv(65536)
            check(f"{name} is not passed", seen.startswith(b"HTTP/1.") and b" 101 " not in seen[:20], seen[:200])


# ---- WebSockets over HTTP/2 ----

class Http2:
    """A connection of HTTP/2 with one extended CONNECT (RFC 8441)."""

    def __init__(self, bench, secure):
        gateway = bench.tls if secure else bench.plain
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=5)
        if secure:
            context = ssl.create_default_context(cafile=f"{bench.work}/ca.pem")
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=HOST)
        self.scheme = "https" if secure else "http"
        self.talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.talk.initiate_connection()
        self.flush()
        self.status, self.data, self.over, self.settings = None, b"", False, None
        self.until(lambda: self.settings is not None)

    def flush(self):
        self.socket.sendall(self.talk.data_to_send())

    def until(self, holds):
        while not holds() and not self.over:
            data = self.socket.recv(65536)
            if not data:
                self.over = True
            for event in self.talk.receive_data(data) if data else []:
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self.settings = self.talk.remote_settings.enable_connect_protocol
                elif isinstance(event, h2.events.ResponseReceived):
                    self.status = dict(event.headers)[":status"]
                elif isinstance(event, h2.events.DataReceived):
                    self.data += event.data
                    self.talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    self.over = True
            self.flush()

    def open(self, token, protocol="websocket"):
        head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", self.scheme), (":authority", HOST), (":path", "/"), ("sec-websocket-version", "13")]
        self.talk.send_headers(1, head + ([("authorization", f"Bearer {token}")] if token else []))
        self.flush()
        self.until(lambda: self.status is not None)
        return self.status

    def send(self, data):
        self.talk.send_data(1, data)
        self.flush()


def over_http2(bench):
    for secure in (False, True):
        way = f"WebSocket over HTTP/2{' with TLS' if secure else ''}"
        client = Http2(bench, secure)
        check.equal(f"{way}: it is offered", 1, client.settings)
        check.equal(f"{way}: it opens", "200", client.open(bench.token))
        for message in (b"hello", b"x" * 16000):
            client.data = b""
            client.send(frame(TEXT, message))
            wanted = frame(TEXT, message, masked=False)
            client.until(lambda: len(client.data) >= len(wanted))
            check(f"{way}: {len(message)} bytes come back", client.data == wanted, client.data[:100])
        client.data = b""
        client.send(close(1000))
        client.until(lambda: False)
        check(f"{way}: it closes", client.data.startswith(b"\x88\x02\x03\xe8"), client.data)
        check.equal(f"{way}: not without a token", "401", Http2(bench, secure).open(None))
        other = Http2(bench, secure).open(bench.token, "frob")
        check(f"{way}: no other protocol", other is None or not other.startswith("2"), other)


# ---- Autobahn ----

def autobahn(bench, wstest):
    """The fuzzing client, directly and through the gateway. Limits and compression are left out, which take minutes."""
    servers = [
        {"agent": "direct", "url": f"ws://127.0.0.1:{bench.echo}"},
        {"agent": "gateway", "url": f"ws://127.0.0.1:{bench.plain.port}", "protocols": ["bearer", bench.token]},
    ]
    place = f"{bench.work}/autobahn"
    with open(f"{bench.work}/autobahn.json", "w") as file:
        json.dump({"outdir": place, "servers": servers, "cases": ["*"], "exclude-cases": ["9.*", "12.*", "13.*"], "exclude-agent-cases": {}}, file)
    done = run(wstest, "-m", "fuzzingclient", "-s", f"{bench.work}/autobahn.json", timeout=240)
    try:
        with open(f"{place}/index.json") as file:
            found = json.load(file)
    except OSError:
        return check("Autobahn runs", False, done.stdout[-300:] + done.stderr[-300:])
    direct, through = found.get("direct", {}), found.get("gateway", {})
    # Whether an echo comes before the close that a later frame brings about is a matter of time, directly as well: both pass.
    ranks = {"FAILED": 0, "WRONG CODE": 0, "UNCLEAN": 0, "FAILED BY CLIENT": 0, "UNIMPLEMENTED": 1, "NON-STRICT": 2, "INFORMATIONAL": 2, "OK": 2}
    for case, outcome in sorted(direct.items()):
        seen = through.get(case, {})
        for what in ("behavior", "behaviorClose"):
            worse = ranks.get(seen.get(what), -1) < ranks.get(outcome[what], 0)
            check(f"Autobahn {case}: {what}", not worse, f"{outcome[what]} directly, {seen.get(what)} through the gateway")
    good = sum(outcome["behavior"] in ("OK", "NON-STRICT", "INFORMATIONAL") for outcome in direct.values())
    print(f"Autobahn: {len(direct)} cases, {good} pass directly")
    check("Autobahn's cases pass directly", len(direct) > 200 and good > 0.9 * len(direct), f"{good} of {len(direct)}")


def main():
    if sys.argv[1:2] == ["--echo"]:
        return asyncio.run(echo_server(int(sys.argv[2])))
    need("openssl")
    with tempfile.TemporaryDirectory() as work:
        bench = None
        try:
            bench = Bench(program_from(sys.argv), work)
            check.section("matrix", matrix, bench.echo, bench.plain.port, bench.token)
            for part in (clients, refusals, closing):
                check.section(part.__name__, lambda: asyncio.run(part(bench)))
            check.section("other upgrades", other_upgrades, bench)
            check.section("HTTP/2", over_http2, bench)
            if len(sys.argv) > 2:
                check.section("Autobahn", autobahn, bench, sys.argv[2])
            for gateway in (bench.plain, bench.tls):
                check(f"the gateway {gateway.name} still runs", gateway.runs(), gateway.said()[-500:])
        except Exception as error:
            check("the run reaches its end", False, f"{type(error).__name__}: {error}")
        finally:
            end(bench.processes if bench else [])
    check.finish(LEAST)


if __name__ == "__main__":
    main()
