#!/usr/bin/env python3
"""Real clients in every protocol that the gateway speaks: curl, h2load, readers of event streams, sockets that are half
closed, senders of the PROXY protocol, and upstreams over TLS, HTTP/2 and Unix sockets. TLS itself: tls_clients.py.

Usage: scripts/protocols.py [PROGRAM]
Prints what was measured, and the count of checks in the last line. Needs curl, openssl, h2load, nghttpd, nginx, and the
Python package h2.
"""

import hashlib
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

import h2.config
import h2.connection
import h2.events

from harness import Checks, Gateway, end, free_port, make_ca, make_certificate, must, need, nginx, program_from, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# Fewer checks than this are a run that did not reach its end.
LEAST = 150
HOST = "api.test"
# What a reader of an event stream may be late, in seconds.
LATE = 0.050
check = Checks()


class Bench:
    """Upstreams and gateways of one run."""

    def __init__(self, program, work):
        self.program, self.work, self.processes = program, work, []
        make_ca(work, "ca")
        make_ca(work, "foreign")
        make_certificate(work, "ca", "server", f"DNS:{HOST}")
        self.api = self.upstream("--port")
        self.fast = free_port()
        self.processes.append(nginx(work, self.fast))
        wait_for(self.fast)
        routes = (
            f'[upstreams.api]\ntargets = ["http://127.0.0.1:{self.api}"]\n[upstreams.fast]\ntargets = ["http://127.0.0.1:{self.fast}"]\n'
            f'[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n[[routes]]\npath = "/fast"\nauth = "required"\nupstream = "fast"\n'
        )
        tls = f'[tls]\n[[tls.certificates]]\nhosts = ["{HOST}"]\ncert = "{work}/server.pem"\nkey = "{work}/server.key"\n'
        trusted = 'trusted_proxies = ["127.0.0.1/32"]'
        grace = 'stream_grace = "0s"'
        self.plain = self.gateway("plain", routes, tokens=grace)
        self.tls = self.gateway("tls", tls + routes, tokens=grace)
        self.behind = self.gateway("behind", routes, server=trusted)
        self.tls_behind = self.gateway("tls-behind", tls + routes, server=trusted)
        self.token = self.plain.token()

    def gateway(self, name, sections, **options):
        gateway = Gateway(self.program, self.work, name, sections, **options)
        try:
            gateway.start()
        except RuntimeError as error:
            check(f"the gateway {name} starts", False, error)
        self.processes.append(gateway.process)
        return gateway

    def upstream(self, *words):
        """An upstream in a process of its own; with `--port` alone on a free port, which is returned."""
        port = free_port() if "--port" in words else None
        words = [word for each in words for word in ((each, str(port)) if each == "--port" else (each,))]
        process = subprocess.Popen([sys.executable, f"{HERE}/upstream.py", *words])
        self.processes.append(process)
        if port:
            wait_for(port, process)
        return port

    def client_tls(self, alpn):
        context = ssl.create_default_context(cafile=f"{self.work}/ca.pem")
        context.set_alpn_protocols([alpn])
        return context

    def connect(self, gateway, alpn=None):
        """A connection; with TLS when a protocol is named to be agreed on."""
        raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.client_tls(alpn).wrap_socket(raw, server_hostname=HOST) if alpn else raw


# ---- curl ----

# Name, options, whether over TLS, and the version of HTTP that comes out.
CURLS = [
    ("HTTP/1.1", ["--http1.1"], False, "1.1"),
    ("HTTP/2 with prior knowledge", ["--http2-prior-knowledge"], False, "2"),
    # An offer to upgrade that nobody has to take up (RFC 9113 section 3.1).
    ("HTTP/1.1 with an offer of h2c", ["--http2"], False, "1.1"),
    ("HTTP/1.1 over TLS", ["--http1.1"], True, "1.1"),
    ("HTTP/2 over TLS", ["--http2"], True, "2"),
]


def curl(bench, variant, path, *words, token=None):
    name, options, secure, _ = variant
    gateway = bench.tls if secure else bench.plain
    url = f"{'https' if secure else 'http'}://{HOST}:{gateway.port}{path}"
    authorization = ["-H", f"Authorization: Bearer {token}"] if token else []
    return run("curl", "-sS", "--max-time", 20, *options, "--cacert", f"{bench.work}/ca.pem", "--resolve",
               f"{HOST}:{gateway.port}:127.0.0.1", *authorization, *words, url)


def curl_requests(bench, variant):
    name, _, secure, version = variant
    told = ["-o", f"{bench.work}/answer", "-D", f"{bench.work}/head", "-w", "%{http_code} %{http_version}"]
    done = curl(bench, variant, "/", *told, token=bench.token)
    check.equal(f"{name}: a token passes", f"200 {version}", done.stdout or done.stderr)
    for what, token in (("no token", None), ("a broken token", bench.token[:-6] + "AAAAAA")):
        done = curl(bench, variant, "/", *told, token=token)
        check.equal(f"{name}: {what} is refused", f"401 {version}", done.stdout or done.stderr)
        head, body = open(f"{bench.work}/head").read().lower(), open(f"{bench.work}/answer").read()
        check(f"{name}: {what}: the challenge", 'www-authenticate: bearer realm="api"' in head, head)
        check(f"{name}: {what}: a problem", "content-type: application/problem+json" in head, head)
        problem = json.loads(body)
        reason = "token_invalid" if token else "credentials_missing"
        check.equal(f"{name}: {what}: its reason", (401, reason), (problem.get("status"), problem.get("reason")))
    done = curl(bench, variant, "/fields", "-H", "X-User-Id: root", "-H", "X-Request-Trial: a", token=bench.token)
    fields = json.loads(done.stdout)
    names = [name for name, _ in fields]
    check.equal(f"{name}: the API is told who calls", ["alice"], [value for name, value in fields if name == "x-user-id"])
    check(f"{name}: and no token", "authorization" not in names, names)
    check(f"{name}: nothing of the connection goes on", not {"upgrade", "http2-settings", "te"} & set(names), names)
    check.equal(f"{name}: the host goes on", 1, sum(name == "host" and value.startswith(HOST) for name, value in fields))
    scheme = [value for name, value in fields if name == "x-forwarded-proto"]
    check.equal(f"{name}: the scheme is told", ["https" if secure else "http"], scheme)


def curl_bodies(bench, variant):
    name = variant[0]
    for size in (0, 1, 5_000_000):
        body = os.urandom(size)
        with open(f"{bench.work}/body", "wb") as file:
            file.write(body)
        expected = f"{size} {hashlib.sha256(body).hexdigest()}"
        # curl asks for 100 Continue by itself from a megabyte on; here it is asked to or not.
        for expect in ("", "100-continue"):
            done = curl(bench, variant, "/hash", "--data-binary", f"@{bench.work}/body", "-H", f"Expect: {expect}", "-v",
                        "--expect100-timeout", 3, token=bench.token)
            check.equal(f"{name}: a body of {size} bytes, expecting {expect or 'nothing'}", expected, done.stdout)
            if expect and size:
                seen = done.stderr
                check(f"{name}: 100 Continue comes before {size} bytes", re.search(r"< HTTP/\S+ 100", seen), seen[-800:])


def curl_early(bench, variant):
    name = variant[0]
    done = curl(bench, variant, "/early", "-i", token=bench.token)
    statuses = re.findall(r"^HTTP/\S+ (\d+)", done.stdout, re.M)
    check.equal(f"{name}: early hints, then the answer", ["103", "200"], statuses)
    check(f"{name}: the hint is whole", "link: </style.css>; rel=preload" in done.stdout.lower(), done.stdout)


def curls(bench):
    for variant in CURLS:
        check.section(f"curl, {variant[0]}", lambda: [part(bench, variant) for part in (curl_requests, curl_bodies, curl_early)])


def early_hints_at_once(bench):
    """The hint is of use only while the answer is not there yet."""
    for name, gateway, alpn in (("HTTP/1.1", bench.plain, None), ("HTTP/1.1 over TLS", bench.tls, "http/1.1")):
        with bench.connect(gateway, alpn) as client:
            client.sendall(get("/early", bench.token))
            client.settimeout(5)
            first = client.recv(65536)
            began = time.monotonic()
            data = first
            while b"early" not in data.split(b"\r\n\r\n")[-1] and (more := client.recv(65536)):
                data += more
            check(f"{name}: the hint comes by itself", first.startswith(b"HTTP/1.1 103"), first)
            ahead = time.monotonic() - began
            check(f"{name}: it comes before the answer", ahead > 0.3, f"{ahead:.3f} s before")


# ---- h2load ----

def h2load(bench):
    for name, gateway, scheme in (("cleartext", bench.plain, "http"), ("TLS", bench.tls, "https")):
        done = run(
            "h2load", "-n10000", "-c8", "-m16", "-H", f"authorization: Bearer {bench.token}", "--connect-to", f"127.0.0.1:{gateway.port}",
            f"{scheme}://{HOST}:{gateway.port}/fast", timeout=90)
        told = re.search(r"requests: .*", done.stdout)
        codes = re.search(r"status codes: .*", done.stdout)
        speed = re.search(r"finished in .*", done.stdout)
        print(f"h2load, {name}: {speed.group() if speed else done.stderr[-200:]}")
        seen = f"{told and told.group()}; {codes and codes.group()}"
        check(f"h2load, {name}: nothing fails", "10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout" in seen, seen)
        check(f"h2load, {name}: all are answered with 2xx", "10000 2xx, 0 3xx, 0 4xx, 0 5xx" in seen, seen)


# ---- event streams ----

def get(path, token, fields=""):
    return f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n{fields}\r\n".encode()


def lines_h1(bench, gateway, alpn, path, token):
    """The pieces of an answer over HTTP/1.1 with the times of their arrival; ends with the stream."""
    with bench.connect(gateway, alpn) as client:
        client.sendall(get(path, token))
        while True:
            try:
                piece = client.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return
            if not piece:
                return
            yield time.monotonic(), piece
            if piece.endswith(b"0\r\n\r\n"):
                return


def lines_h2(bench, gateway, alpn, path, token):
    """The same over HTTP/2."""
    with bench.connect(gateway, alpn) as client:
        talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        talk.initiate_connection()
        head = [(":method", "GET"), (":scheme", "https" if alpn else "http"), (":authority", HOST), (":path", path),
                ("authorization", f"Bearer {token}")]
        talk.send_headers(1, head, end_stream=True)
        client.sendall(talk.data_to_send())
        while True:
            data = client.recv(65536)
            now = time.monotonic()
            if not data:
                return
            for event in talk.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    yield now, b"HTTP/2 " + dict(event.headers)[":status"].encode()
                elif isinstance(event, h2.events.DataReceived):
                    talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    yield now, event.data
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    return
            client.sendall(talk.data_to_send())


def readers(bench):
    return [
        ("HTTP/1.1", lines_h1, bench.plain, None),
        ("HTTP/1.1 over TLS", lines_h1, bench.tls, "http/1.1"),
        ("HTTP/2", lines_h2, bench.plain, None),
        ("HTTP/2 over TLS", lines_h2, bench.tls, "h2"),
    ]


class Stream(threading.Thread):
    """Reads an event stream to its end."""

    def __init__(self, bench, reader, path, token):
        super().__init__(daemon=True)
        self.bench, self.reader, self.path, self.token = bench, reader, path, token
        self.head_at = self.ended_at = self.error = None
        self.data, self.late = b"", []
        self.first = threading.Event()
        self.began = time.monotonic()
        self.start()

    def run(self):
        name, lines, gateway, alpn = self.reader
        try:
            for at, piece in lines(self.bench, gateway, alpn, self.path, self.token):
                self.head_at = self.head_at or at
                self.data += piece
                for sent in re.findall(rb"data: ([0-9.]+)\n\n", self.data)[len(self.late):]:
                    self.late.append(at - float(sent))
                    self.first.set()
        except Exception as error:
            self.error = error
        self.ended_at = time.monotonic()
        self.first.set()


def event_streams(bench):
    count = 20
    streams = [Stream(bench, reader, f"/events?{count}", bench.token) for reader in readers(bench)]
    for stream in streams:
        stream.join(timeout=20)
        name, late = stream.reader[0], sorted(stream.late)
        if not check.equal(f"{name}: every event arrives", count, len(late)):
            print(f"{name}: {stream.error} {stream.data[:300]}")
            continue
        middle, most, p95 = late[len(late) // 2], late[-1], late[int(len(late) * 0.95) - 1]
        print(f"events over {name}: late by {middle * 1e3:.1f} ms in the median, {most * 1e3:.1f} ms at most")
        check(f"{name}: an event arrives within 50 ms of its sending", p95 < LATE, f"{p95:.3f} s")
        waited = stream.head_at - stream.began
        # The upstream sends the head at once and the first event after 200 ms.
        check(f"{name}: the head is passed on before there is a body", waited < 0.15, f"{waited:.3f} s")


def streams_end(bench):
    """A stream ends with its token and with its session, and no other stream does."""
    paths = "/events?40"
    witnesses = [Stream(bench, reader, paths, gateway_token(reader, "witness")) for reader in readers(bench)]
    # Whole seconds: a token of three seconds ends between two and three seconds from now.
    short = [Stream(bench, reader, paths, gateway_token(reader, "short", "3s")) for reader in readers(bench)]
    ended = [Stream(bench, reader, paths, gateway_token(reader, f"ended{number}")) for number, reader in enumerate(readers(bench))]
    for number, stream in enumerate(ended):
        name = stream.reader[0]
        stream.first.wait(timeout=5)
        check(f"{name}: the stream to be ended goes", stream.late, stream.data[:300])
        stream.reader[2].revoke(f"ended{number}")
        revoked = time.monotonic()
        stream.join(timeout=3)
        if check(f"{name}: a revoked session ends its stream", not stream.is_alive()):
            took = max(0.0, stream.ended_at - revoked)
            print(f"stream over {name}: ended {took * 1e3:.0f} ms after its session")
            check(f"{name}: within a second", took < 1.0, f"{took:.3f} s")
            check(f"{name}: and not before its end by itself", len(stream.late) < 40, len(stream.late))
    for stream in short:
        name = stream.reader[0]
        check(f"{name}: the stream of a short token goes", stream.late, stream.data[:300])
        stream.join(timeout=max(0.0, stream.began + 4.5 - time.monotonic()))
        if check(f"{name}: an expired token ends its stream", not stream.is_alive()):
            took = stream.ended_at - stream.began
            print(f"stream over {name}: ended {took:.2f} s after the mint of a token of 3 s")
            check(f"{name}: when the token expires", 1.5 < took < 4.0, f"{took:.3f} s")
    for stream in witnesses:
        stream.join(timeout=20)
        check.equal(f"{stream.reader[0]}: nobody else's stream ends", 40, len(stream.late))


def gateway_token(reader, user, lifetime=None):
    return reader[2].token(user, lifetime)


# ---- half-closed connections ----

def read_all(client):
    data = b""
    while piece := client.recv(65536):
        data += piece
        if data.endswith(b"slow"):
            break
    return data


def half_closed(bench):
    with bench.connect(bench.plain) as client:
        client.sendall(get("/slow", bench.token))
        client.shutdown(socket.SHUT_WR)
        data = read_all(client)
        check("a client that has shut down its side gets a slow answer", data.startswith(b"HTTP/1.1 200") and data.endswith(b"slow"), data)
    # TLS has its own end of one side: close_notify, which does not end the other (RFC 8446 section 6.1).
    raw = socket.create_connection(("127.0.0.1", bench.tls.port), timeout=5)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = bench.client_tls("http/1.1").wrap_bio(incoming, outgoing, server_hostname=HOST)

    def until(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                piece = raw.recv(65536)
                incoming.write(piece) if piece else incoming.write_eof()

    with raw:
        until(talk.do_handshake)
        talk.write(get("/slow", bench.token))
        try:
            talk.unwrap()
        except ssl.SSLWantReadError:
            pass
        raw.sendall(outgoing.read())
        data = b""
        try:
            while not data.endswith(b"slow") and (piece := until(lambda: talk.read(65536))):
                data += piece
        except (ssl.SSLError, OSError) as error:
            data += f" [{error}]".encode()
        check("over TLS too", data.startswith(b"HTTP/1.1 200") and data.endswith(b"slow"), data)


# ---- upstreams ----

def upstreams(bench):
    work = bench.work
    make_certificate(work, "ca", "backend", "DNS:billing.internal")
    make_certificate(work, "ca", "gateway", "DNS:gateway.internal", usage="clientAuth")
    os.makedirs(f"{work}/files")
    with open(f"{work}/files/file", "w") as file:
        file.write("from nghttpd")
    own = bench.upstream("--port", "--cert", f"{work}/backend.pem", "--key", f"{work}/backend.key")
    mutual = bench.upstream("--port", "--cert", f"{work}/backend.pem", "--key", f"{work}/backend.key", "--client-ca", f"{work}/ca.pem")
    bench.upstream("--unix", f"{work}/api.sock")
    h2c, h2s = free_port(), free_port()
    for words in ([h2c, "--no-tls"], [h2s, f"{work}/backend.key", f"{work}/backend.pem"]):
        bench.processes.append(subprocess.Popen(["nghttpd", "-a", "127.0.0.1", "-d", f"{work}/files", "--echo-upload", *map(str, words)],
                                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for(words[0])
    ca, name = f'ca = "{work}/ca.pem"', 'server_name = "billing.internal"'
    pair = f'client_cert = "{work}/gateway.pem", client_key = "{work}/gateway.key"'
    # Path, target, tls, and the status that is expected.
    cases = [
        ("own-ca", f"https://127.0.0.1:{own}", f"{ca}, {name}", 200),
        ("wrong-ca", f"https://127.0.0.1:{own}", f'ca = "{work}/foreign.pem", {name}', 502),
        ("no-ca", f"https://127.0.0.1:{own}", name, 502),
        ("wrong-name", f"https://127.0.0.1:{own}", f'{ca}, server_name = "other.internal"', 502),
        ("name-of-target", f"https://127.0.0.1:{own}", ca, 502),
        ("client-certificate", f"https://127.0.0.1:{mutual}", f"{ca}, {name}, {pair}", 200),
        ("no-client-certificate", f"https://127.0.0.1:{mutual}", f"{ca}, {name}", 502),
        ("tls-to-a-plain-port", f"https://127.0.0.1:{bench.api}", f"{ca}, {name}", 502),
        ("h2c", f"h2c://127.0.0.1:{h2c}", "", 200),
        ("h2-over-tls", f"https://127.0.0.1:{h2s}", f"{ca}, {name}", 200),
        ("h2c-to-http1", f"h2c://127.0.0.1:{bench.api}", "", 502),
        ("unix", f"unix:{work}/api.sock", "", 200),
        ("no-unix", f"unix:{work}/nobody.sock", "", 503),
    ]
    sections = "".join(
        f'[upstreams.{path}]\ntargets = ["{target}"]\nconnect_timeout = "1s"\n' + (f"tls = {{ {tls} }}\n" if tls else "")
        + f'[[routes]]\npath = "/{path}"\nauth = "required"\nupstream = "{path}"\n'
        for path, target, tls, _ in cases
    )
    gateway = bench.gateway("upstreams", sections)
    os.makedirs(f"{work}/files/h2c")
    os.makedirs(f"{work}/files/h2-over-tls")
    for place in ("h2c", "h2-over-tls"):
        with open(f"{work}/files/{place}/index.html", "w") as file:
            file.write("from nghttpd")
    for path, _, _, status in cases:
        upstream_case(bench, gateway, path, status)
    for path in ("h2c", "h2-over-tls"):
        upstream_bodies(bench, gateway, path)
    check("the gateway with many upstreams still runs", gateway.runs(), gateway.said()[-500:])


def upstream_case(bench, gateway, path, status):
    slash = "/" if path in ("h2c", "h2-over-tls") else "/x"
    for again in range(2):
        done = run("curl", "-sS", "--max-time", 20, "-o", f"{bench.work}/answer", "-w", "%{http_code}", "-H",
                   f"Authorization: Bearer {bench.token}", f"http://127.0.0.1:{gateway.port}/{path}{slash}")
        body = open(f"{bench.work}/answer").read()
        # One that says nothing to a handshake is too slow rather than wrong.
        wanted = {200: ("200",), 503: ("502", "503"), 502: ("502", "503", "504") if path == "tls-to-a-plain-port" else ("502",)}[status]
        check(f"upstream {path} answers {status}", done.stdout in wanted, f"{done.stdout} {done.stderr} {body}")
        if status == 200:
            check(f"upstream {path}: its body", body in ("ok", "from nghttpd"), body)
    if status != 200:
        reason = re.search(r'"reason":\s*"(\w+)"', body)
        print(f"upstream {path}: {done.stdout} {reason and reason.group(1)}")
        check(f"upstream {path}: the reason is the upstream", reason and reason.group(1).startswith("upstream_"), body)
    done = run("curl", "-sS", "--max-time", 20, "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{gateway.port}/{path}{slash}")
    check.equal(f"upstream {path}: not without a token", "401", done.stdout)


def upstream_bodies(bench, gateway, path):
    """nghttpd sends back what it is sent."""
    for size in (1, 65536, 5_000_000):
        body = os.urandom(size)
        with open(f"{bench.work}/body", "wb") as file:
            file.write(body)
        must("curl", "-sS", "--max-time", 20, "-o", f"{bench.work}/answer", "--data-binary", f"@{bench.work}/body", "-H",
             f"Authorization: Bearer {bench.token}", f"http://127.0.0.1:{gateway.port}/{path}/")
        with open(f"{bench.work}/answer", "rb") as file:
            back = file.read()
        check(f"upstream {path} sends back {size} bytes", back == body, f"{len(back)} bytes, or others")
    done = run("h2load", "-n2000", "-c4", "-m8", "-H", f"authorization: Bearer {bench.token}", f"http://127.0.0.1:{gateway.port}/{path}/")
    seen = " ".join(re.findall(r"requests: .*|status codes: .*", done.stdout))
    check(f"upstream {path}: many streams at once", "2000 succeeded, 0 failed" in seen and "2000 2xx" in seen, seen)


# ---- PROXY protocol ----

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(command, family, addresses):
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(addresses)) + addresses


def ipv4(source):
    return socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 5555, 443)


def ipv6(source):
    return socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack("!HH", 5555, 443)


def proxied(bench, gateway, pieces, secure=False, fields=""):
    """Sends a PROXY header in pieces, then a request; returns the status and the X-Forwarded-For that the API sees."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=5)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    try:
        for piece in pieces:
            raw.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.05)
        client = bench.client_tls("http/1.1").wrap_socket(raw, server_hostname=HOST) if secure else raw
        client.sendall(get("/fields", bench.token, fields + "connection: close\r\n"))
        while piece := client.recv(65536):
            data += piece
        client.close()
    except (OSError, ssl.SSLError) as error:
        data = data or str(error).encode()
    finally:
        raw.close()
    if not data.startswith(b"HTTP/1.1 200"):
        return data[:60].decode("latin-1").split("\r\n")[0] or "closed", None
    found = dict(json.loads(data.partition(b"\r\n\r\n")[2]))
    return "200", found.get("x-forwarded-for")


def proxy_protocol(bench):
    text = lambda source, kind="TCP4", local="127.0.0.1": f"PROXY {kind} {source} {local} 5555 443\r\n".encode()
    extra = b"\x04\x00\x03abc"
    good = [
        ("version 1", [text("203.0.113.7")], "203.0.113.7"),
        ("version 1 with IPv6", [text("2001:db8::7", "TCP6", "::1")], "2001:db8::7"),
        ("version 1 in pieces", [text("203.0.113.8")[:9], text("203.0.113.8")[9:]], "203.0.113.8"),
        ("version 1 of an unknown client", [b"PROXY UNKNOWN\r\n"], "127.0.0.1"),
        ("version 2", [version_2(1, 0x11, ipv4("203.0.113.9"))], "203.0.113.9"),
        ("version 2 with IPv6", [version_2(1, 0x21, ipv6("2001:db8::9"))], "2001:db8::9"),
        ("version 2 in pieces", [SIGNATURE[:5], SIGNATURE[5:], version_2(1, 0x11, ipv4("203.0.113.10"))[12:]], "203.0.113.10"),
        ("version 2 with more than addresses", [version_2(1, 0x11, ipv4("203.0.113.11") + extra)], "203.0.113.11"),
        ("version 2 of the proxy itself", [version_2(0, 0x00, b"")], "127.0.0.1"),
        ("no PROXY header", [], "127.0.0.1"),
    ]
    for name, pieces, client in good:
        for way, gateway, secure in (("plain", bench.behind, False), ("TLS", bench.tls_behind, True)):
            check.equal(f"{name}, {way}, from a trusted proxy", ("200", client), proxied(bench, gateway, pieces, secure))
    forged = "x-forwarded-for: 198.51.100.1\r\n"
    check.equal("a client behind a trusted proxy forges nothing", ("200", "203.0.113.7"),
                proxied(bench, bench.behind, [text("203.0.113.7")], fields=forged))
    bad = [
        ("no address", [b"PROXY TCP4 999.1.1.1 127.0.0.1 1 2\r\n"]),
        ("a port beyond 65535", [b"PROXY TCP4 1.1.1.1 127.0.0.1 70000 2\r\n"]),
        ("a line without end", [b"PROXY TCP4 " + b"1" * 200]),
        ("two headers", [text("203.0.113.7") * 2]),
        ("version 2 that is too short", [version_2(1, 0x11, b"\1\2\3\4")]),
        ("version 3", [SIGNATURE + b"\x31\x11\0\x0c" + ipv4("203.0.113.7")]),
    ]
    for name, pieces in bad:
        refused(bench, bench.behind, f"{name}, from a trusted proxy", pieces)
    for name, pieces, _ in good[:-1]:
        refused(bench, bench.plain, f"{name}, from anybody else", pieces)
        refused(bench, bench.tls, f"{name}, TLS, from anybody else", pieces, True)


def refused(bench, gateway, name, pieces, secure=False):
    status, _ = proxied(bench, gateway, pieces, secure)
    check(f"{name}, is refused", status != "200", status)
    if not secure and status.startswith("HTTP/"):
        check(f"{name}, is a bad request", status.startswith("HTTP/1.1 400"), status)


def main():
    need("curl", "openssl", "h2load", "nghttpd", "nginx")
    with tempfile.TemporaryDirectory() as work:
        bench = None
        try:
            bench = Bench(program_from(sys.argv), work)
            curls(bench)
            for name, part in (("early hints", early_hints_at_once), ("h2load", h2load), ("event streams", event_streams),
                               ("ends of streams", streams_end), ("half-closed connections", half_closed),
                               ("upstreams", upstreams), ("PROXY protocol", proxy_protocol)):
                check.section(name, part, bench)
            for gateway in (bench.plain, bench.tls, bench.behind, bench.tls_behind):
                check(f"the gateway {gateway.name} still runs", gateway.runs(), gateway.said()[-500:])
        except Exception as error:
            check("the run reaches its end", False, f"{type(error).__name__}: {error}")
        finally:
            end(bench.processes if bench else [])
    check.finish(LEAST)


if __name__ == "__main__":
    main()
