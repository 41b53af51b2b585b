"""Faults of the end: signals in the middle of everything."""

import base64
import http.client
import os
import signal
import socket
import sqlite3
import threading
import time

from common import connect, fault, read_all, until
from frames import Client
from harness import make_ca, make_certificate

DRAIN = 3
OPENING = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)


def later(call, *arguments):
    """Runs something beside, and returns where its result will be."""
    result = []
    thread = threading.Thread(target=lambda: result.append(call(*arguments)), daemon=True)
    thread.start()
    return thread, result


def slow_upload(port, token):
    """A body that takes two seconds."""
    with connect(port) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 20\r\n\r\n".encode())
        for _ in range(20):
            time.sleep(0.1)
            connection.sendall(b"u")
        got, _ = read_all(connection)
        return got


def slow_download(port, token):
    """8 MB, read in two seconds."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET /large?8388608 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        connection.settimeout(10)
        size = 0
        while piece := connection.recv(131072):
            size += len(piece)
            time.sleep(0.015)
            if size > 8388608:
                break
        return size


def events(port, token):
    with connect(port) as connection:
        connection.sendall(f"GET /events?8 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        got = b""
        while b"\r\n0\r\n\r\n" not in got:
            piece = connection.recv(65536)
            if not piece:
                break
            got += piece
        return got


def websocket(port, token):
    """Opens one and returns the first frame after the signal."""
    connection = connect(port)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(OPENING.format(path="/socket", token=token, key=key).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"no WebSocket: {head[:100]!r}")
        head += piece
    return connection, head


@fault("X12", "SIGTERM with uploads, downloads, streams, WebSockets, handshakes and 100 streams of HTTP/2 under way", 60, quick=True)
def drain(trial):
    make_ca(trial.work, "ca")
    make_certificate(trial.work, "ca", "server", "DNS:x")
    port, _ = trial.upstream()
    gateway = trial.gateway("drain", port)
    with open(gateway.config) as file:
        text = file.read().replace('drain_timeout = "1s"', f'drain_timeout = "{DRAIN}s"')
    with open(gateway.config, "w") as file:
        file.write(text)
    gateway.start()
    token = gateway.login().json()["access"]
    sockets = [websocket(gateway.port, token)[0] for _ in range(5)]
    kept = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    kept.request("GET", "/wait?1", headers={"Authorization": f"Bearer {token}"})
    works = {name: later(call, gateway.port, token) for name, call in (("upload", slow_upload), ("download", slow_download), ("events", events))}
    streams = later(hundred_streams, gateway.port, token)
    silent, half = connect(gateway.port), connect(gateway.port)
    half.sendall(b"GET / HTTP/1.1\r\nHo")
    trial.check("ready before", gateway.probe() == 200)
    time.sleep(0.5)
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    took = until(1, lambda: gateway.probe() == 503)
    trial.check("readiness says 503 at once", took is not None, took)
    refused = until(1, lambda: refuses(gateway.port))
    trial.check("no connection is taken any more", refused is not None, refused)
    trial.check("it lives meanwhile", gateway.probe("/healthz") == 200)
    response = kept.getresponse()
    response.read()
    trial.check("an answer that is due comes, with Connection: close", response.status == 200 and response.getheader("Connection") == "close",
                f"{response.status} {response.getheaders()}")
    closed = [first_frame(one) for one in sockets]
    trial.check("WebSockets get 1001", all(frame[:1] == b"\x88" and frame[2:4] == b"\x03\xe9" for frame in closed), closed)
    trial.check("a silent connection and half a head are not waited for", read_all(silent)[1] < 1 and read_all(half)[1] < 1)
    for name, (thread, _) in works.items():
        thread.join(10)
    upload = b"".join(works["upload"][1])
    trial.check("the upload is taken whole", b"200 OK" in upload and upload.endswith(b"20"), upload)
    trial.check("the download is whole", works["download"][1] and works["download"][1][0] > 8388608, works["download"][1])
    trial.check("the events come to their end", works["events"][1] and b"data: 7" in works["events"][1][0], str(works["events"][1])[-100:])
    streams[0].join(10)
    trial.check("100 streams of HTTP/2 are answered, and GOAWAY comes", streams[1] and streams[1][0] == (100, True), streams[1])
    code = gateway.process.wait(timeout=10)
    seconds = time.monotonic() - began
    trial.check("exit 0 within the drain time and a second", code == 0 and seconds < DRAIN + 1, f"{code} after {seconds:.2f} s")
    whole(trial, gateway, "drained")
    trial.note(f"drained in {seconds:.2f} s of {DRAIN}; readiness 503 after {(took or 9) * 1000:.0f} ms")
    overdue(trial, port)
    twice(trial, port)
    handshakes(trial, port)


def refuses(port):
    try:
        connect(port, timeout=1).close()
        return False
    except OSError:
        return True


def first_frame(connection):
    """The close frame; it is answered as RFC 6455 wants it."""
    connection.settimeout(5)
    try:
        frame = connection.recv(100)
        connection.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
        return frame
    except OSError as error:
        return str(error).encode()


def whole(trial, gateway, when):
    """A store that was closed cleanly has no write-ahead log."""
    left = [name for name in os.listdir(f"{gateway.place}/data") if name.endswith(("-wal", "-shm"))]
    with sqlite3.connect(gateway.store) as base:
        sound, = base.execute("PRAGMA integrity_check").fetchone()
    base.close()
    trial.check(f"{when}: the store is closed cleanly", not left and sound == "ok", f"{left} {sound}")


def hundred_streams(port, token):
    """Opens 100 streams whose answers take a moment. Returns how many were answered with 200, and whether GOAWAY came."""
    client = Client(port)
    for _ in range(100):
        client.get("/wait?1.5", token)
    client.read(8, lambda: client.ended == 100 and client.goaway)
    client.close()
    return client.statuses.get(200, 0), client.goaway


def overdue(trial, port):
    """What does not end in the drain time is cut off."""
    gateway = trial.gateway("overdue", port).start()
    token = gateway.login().json()["access"]
    held = connect(gateway.port)
    held.sendall(f"GET /wait?30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    time.sleep(0.3)
    code, seconds = gateway.stop()
    trial.check("drain time over: exit 0 within a second more", code == 0 and seconds < 2, f"{code} after {seconds:.2f} s")
    whole(trial, gateway, "cut off")


def twice(trial, port):
    """A second signal stops at once; one right after the start, or during it, leaves nothing half made."""
    gateway = trial.gateway("twice", port).start()
    token = gateway.login().json()["access"]
    held = connect(gateway.port)
    held.sendall(f"GET /wait?30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    time.sleep(0.3)
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    time.sleep(0.1)
    gateway.signal(signal.SIGTERM)
    code = gateway.process.wait(timeout=10)
    seconds = time.monotonic() - began
    trial.check("a second signal stops at once", code == 0 and seconds < 1, f"{code} after {seconds:.2f} s")
    codes = {}
    for number in range(int(12 * max(1, trial.size))):
        gateway.start(wait=False)
        time.sleep(0.003 * number if number else 0.005)
        gateway.process.send_signal(signal.SIGTERM)
        code = gateway.process.wait(timeout=10)
        codes[code] = codes.get(code, 0) + 1
        trial.check("a signal at the start ends it", code in (0, -signal.SIGTERM), code)
    lock = sqlite3.connect(gateway.store, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    gateway.start(wait=False)
    time.sleep(0.3)
    gateway.process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    lock.execute("ROLLBACK")
    lock.close()
    code = gateway.process.wait(timeout=10)
    trial.check("a signal while it waits for the store ends it as soon as it has that", code == 0, f"{code} {gateway.said()[-200:]}")
    gateway.start()
    trial.check("and it starts again", gateway.login().status == 200)
    gateway.stop()
    whole(trial, gateway, "ended at its start")
    trial.note(f"second signal: {seconds:.2f} s; signals 3 to 35 ms after the start: exit codes {codes}")


def handshakes(trial, port):
    """Handshakes that are never finished hold up no end."""
    tls = f'[tls]\n[[tls.certificates]]\nhosts = ["x"]\ncert = "{trial.work}/server.pem"\nkey = "{trial.work}/server.key"\n'
    gateway = trial.gateway("handshakes", port, sections=tls).start()
    held = [connect(gateway.port) for _ in range(20)]
    for one in held[10:]:
        one.sendall(b"\x16\x03\x01\x02\x00\x01")
    time.sleep(0.2)
    code, seconds = gateway.stop()
    trial.check("handshakes under way are not waited for", code == 0 and seconds < 1, f"{code} after {seconds:.2f} s")
