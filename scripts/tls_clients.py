#!/usr/bin/env python3
"""What OpenSSL and curl see of the gateway's TLS: versions, resumption, the choice of a certificate, protocols, client
certificates, hosts that a certificate does not cover, the redirect from plain HTTP, and spans for
a collector over TLS.

Usage: scripts/tls_clients.py [PROGRAM]
Prints the count of checks in the last line. Needs curl and openssl.
"""

import json
import os
import queue
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from harness import Checks, Gateway, end, free_port, make_ca, make_certificate, must, need, program_from, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# Fewer checks than this are a run that did not reach its end.
LEAST = 80
check = Checks()


class Bench:
    def __init__(self, program, work):
        self.program, self.work, self.processes = program, work, []
        for name in ("ca", "clients", "foreign"):
            make_ca(work, name)
        make_certificate(work, "ca", "first", "DNS:first.test")
        make_certificate(work, "ca", "exact", "DNS:exact.test")
        make_certificate(work, "ca", "wild", "DNS:*.wild.test")
        make_certificate(work, "ca", "special", "DNS:special.wild.test")
        for name, ca in (("alice", "clients"), ("mallory", "foreign")):
            make_certificate(work, ca, name, f"email:{name}@example.com", usage="clientAuth")
        self.api = free_port()
        self.processes.append(subprocess.Popen([sys.executable, f"{HERE}/upstream.py", "--port", str(self.api)]))
        wait_for(self.api)
        self.redirect = free_port()
        self.tls = self.gateway("tls", "", f'http_redirect = "127.0.0.1:{self.redirect}"')
        auth = lambda mode: f'[tls.client_auth]\nca = "{work}/clients.pem"\nmode = "{mode}"\nheaders = {{ "X-Client-Subject" = "subject" }}\n'
        self.optional = self.gateway("optional", auth("optional"))
        self.required = self.gateway("required", auth("required"))
        self.token = self.tls.token()

    def gateway(self, name, client_auth, server=""):
        pairs = [("first", "first.test"), ("exact", "exact.test"), ("wild", "*.wild.test"), ("special", "special.wild.test")]
        certificates = "".join(
            f'[[tls.certificates]]\nhosts = ["{host}"]\ncert = "{self.work}/{file}.pem"\nkey = "{self.work}/{file}.key"\n' for file, host in pairs
        )
        sections = (
            f'[tls]\n{certificates}{client_auth}[upstreams.api]\ntargets = ["http://127.0.0.1:{self.api}"]\n'
            f'[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
            f'[[routes]]\nhost = "first.test"\npath = "/"\nauth = "public"\nupstream = "api"\n'
        )
        gateway = Gateway(self.program, self.work, name, sections, server=server)
        try:
            gateway.start()
        except RuntimeError as error:
            check(f"the gateway {name} starts", False, error)
        self.processes.append(gateway.process)
        return gateway

    def s_client(self, port, *words, host="exact.test", request=None):
        """Connects with OpenSSL; with a request, it is sent and the answer is in the output."""
        name = ["-servername", host] if host else ["-noservername"]
        stay = ["-ign_eof"] if request else []
        try:
            done = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", f"{self.work}/ca.pem", *name, *stay, *words,
                       input=request or "", timeout=20)
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess([], 124, (late.stdout or b"").decode("latin-1"), "too late")
        return done

    def request(self, path="/fields", host="exact.test", token=True, fields=""):
        authorization = f"Authorization: Bearer {self.token}\r\n" if token else ""
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{fields}Connection: close\r\n\r\n"


def both(done):
    return done.stdout + done.stderr


def agreed(done):
    """The version that was agreed on, or nothing."""
    found = re.search(r"^\s*(?:New|Reused), (?!\(NONE\))(\S+), Cipher is (?!\(NONE\))\S+", done.stdout, re.M)
    version = re.search(r"^\s*Protocol\s*: (\S+)", done.stdout, re.M)
    return (version.group(1) if version else found.group(1)) if found else None


def served(done):
    """The common name of the certificate that was served."""
    found = re.search(r"^subject=.*?CN = (\S+)", done.stdout, re.M)
    return found.group(1) if found else None


OLD = ["-cipher", "DEFAULT@SECLEVEL=0"]


def versions(bench):
    for option in ("-tls1", "-tls1_1"):
        done = bench.s_client(bench.tls.port, option, *OLD)
        check.equal(f"{option} is refused", None, agreed(done))
        check(f"{option}: the connection fails", done.returncode != 0, done.stdout[-300:])
        # rustls looks at the signature algorithms first, which the old versions do not name, and may stop there.
        check(f"{option}: with an alert", re.search("alert (protocol version|handshake failure)", both(done)), done.stderr[-300:])
    for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        done = bench.s_client(bench.tls.port, option, request=bench.request())
        check.equal(f"{option} is spoken", version, agreed(done))
        check(f"{option}: a request passes", "HTTP/1.1 200" in done.stdout, done.stdout[-400:])
        check(f"{option}: the certificate is verified", "Verify return code: 0 (ok)" in done.stdout, done.stdout[-400:])
    weak = bench.s_client(bench.tls.port, "-tls1_2", "-cipher", "AES128-SHA:AES256-SHA:DES-CBC3-SHA:@SECLEVEL=0")
    check.equal("ciphers without forward secrecy are refused", None, agreed(weak))
    compression = bench.s_client(bench.tls.port, "-tls1_2", "-comp")
    check("nothing is compressed", "Compression: NONE" in compression.stdout, compression.stdout[-500:])
    renegotiation = bench.s_client(bench.tls.port, "-tls1_2", "-no_ign_eof", request="R\n")
    check("renegotiation is refused", "HTTP/1.1 200" not in renegotiation.stdout and renegotiation.returncode != 124, both(renegotiation)[-300:])
    control_of_old_versions(bench)


def control_of_old_versions(bench):
    """This OpenSSL can speak the old versions, so that their refusal is the gateway's."""
    port = free_port()
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", f"{bench.work}/exact.pem", "-key",
                               f"{bench.work}/exact.key", "-www", "-quiet", *OLD, "-min_protocol", "TLSv1"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bench.processes.append(server)
    wait_for(port, server)
    for option, version in (("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1")):
        check.equal(f"control: {option} is spoken by OpenSSL's own server", version, agreed(bench.s_client(port, option, *OLD)))


def resumption(bench):
    # -reconnect makes five more connections with the session of the first.
    done = bench.s_client(bench.tls.port, "-tls1_2", "-reconnect")
    check.equal("TLS 1.2 sessions are resumed", 5, len(re.findall(r"^Reused, TLSv1\.2", done.stdout, re.M)))
    for option in ("-tls1_2", "-tls1_3"):
        session = f"{bench.work}/session{option}"
        first = bench.s_client(bench.tls.port, option, "-sess_out", session, request=bench.request())
        check(f"{option}: the first session is new", re.search(r"^New, TLS", first.stdout, re.M), both(first)[-300:])
        if not check(f"{option}: there is a session to resume", os.path.exists(session), both(first)[-300:]):
            continue
        again = bench.s_client(bench.tls.port, option, "-sess_in", session, request=bench.request())
        check(f"{option}: it is resumed", re.search(r"^Reused, TLS", again.stdout, re.M), both(again)[-300:])
        check(f"{option}: a request on it passes", "HTTP/1.1 200" in again.stdout, again.stdout[-300:])
    early = bench.s_client(bench.tls.port, "-tls1_3", "-sess_in", f"{bench.work}/session-tls1_3")
    check("no early data is taken", "Max Early Data: 0" in early.stdout or "Early data was not sent" in early.stdout, early.stdout[-400:])


def names(bench):
    cases = [
        ("exact.test", "exact"),
        ("EXACT.test", "exact"),
        ("a.wild.test", "wild"),
        ("special.wild.test", "special"),
        ("a.b.wild.test", "first"),
        ("wild.test", "first"),
        ("unknown.test", "first"),
        ("first.test", "first"),
        (None, "first"),
    ]
    for version in ("-tls1_2", "-tls1_3"):
        for host, certificate in cases:
            check.equal(f"{version}: the certificate for {host}", certificate, served(bench.s_client(bench.tls.port, version, host=host)))


def application_protocols(bench):
    for offered, chosen in (("h2,http/1.1", "h2"), ("http/1.1,h2", "h2"), ("http/1.1", "http/1.1"), ("h2", "h2"), (None, None)):
        done = bench.s_client(bench.tls.port, *(["-alpn", offered] if offered else []))
        found = re.search(r"ALPN protocol: (\S+)", done.stdout)
        check.equal(f"of {offered} is agreed on", chosen, found.group(1) if found else None)
    strange = bench.s_client(bench.tls.port, "-alpn", "spdy/3")
    check("of protocols that nobody speaks none is agreed on", "ALPN protocol:" not in strange.stdout, strange.stdout[-300:])
    plain = bench.s_client(bench.tls.port, request=bench.request())
    check("without ALPN HTTP/1.1 is spoken", "HTTP/1.1 200" in plain.stdout, plain.stdout[-300:])


def subject(done):
    """The status, and the client's subject as the API sees it."""
    # OpenSSL writes its own words and the answer through two buffers, so the answer may begin anywhere in a line.
    status = re.search(r"HTTP/1\.1 (\d+) ", done.stdout)
    body = re.search(r"\[\[.*?\]\]", done.stdout)
    fields = json.loads(body.group()) if body else []
    found = [value for name, value in fields if name == "x-client-subject"]
    return int(status.group(1)) if status else None, found


def client_certificates(bench):
    pair = lambda name: ["-cert", f"{bench.work}/{name}.pem", "-key", f"{bench.work}/{name}.key"]
    forged = "X-Client-Subject: CN=root\r\nX_Client_Subject: CN=root\r\n"
    for version in ("-tls1_2", "-tls1_3"):
        call = lambda gateway, *words: bench.s_client(gateway.port, version, *words, request=bench.request(fields=forged))
        check.equal(f"{version}: optional, none", (200, []), subject(call(bench.optional)))
        for mode, gateway in (("optional", bench.optional), ("required", bench.required)):
            status, told = subject(call(gateway, *pair("alice")))
            check.equal(f"{version}: {mode}, a good one", 200, status)
            check(f"{version}: {mode}: the API is told its subject", len(told) == 1 and "CN" in told[0] and "alice" in told[0], told)
            check(f"{version}: {mode}: and nothing that the client made up", "root" not in "".join(told), told)
            check.equal(f"{version}: {mode}, one of another authority", (None, []), subject(call(gateway, *pair("mallory"))))
            check.equal(f"{version}: {mode}, one that is for servers", (None, []), subject(call(gateway, *pair("exact"))))
            asked = bench.s_client(gateway.port, version)
            check(f"{version}: {mode}: the authority is named", "CN = clients" in asked.stdout, asked.stdout[-500:])
        check.equal(f"{version}: required, none", (None, []), subject(call(bench.required)))
    # A certificate is no token.
    done = bench.s_client(bench.required.port, *pair("alice"), request=bench.request(token=False))
    check.equal("a client certificate without a token", 401, subject(done)[0])


def plain_http(bench):
    for name, data in (("HTTP/1.1", bench.request(host="first.test").encode()), ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)), ("nothing at all", b"")):
        with socket.create_connection(("127.0.0.1", bench.tls.port), timeout=5) as client:
            client.sendall(data)
            if not data:
                client.shutdown(socket.SHUT_WR)
            seen = b""
            try:
                while piece := client.recv(65536):
                    seen += piece
                ended = True
            except ConnectionResetError:
                ended = True
            except TimeoutError:
                ended = False
            check(f"{name} on the port of TLS is closed", ended)
            check(f"{name} on the port of TLS is not answered", b" 200" not in seen and b"ok" not in seen and len(seen) < 512, seen)


def curl(bench, sni, *words, host=None):
    port = bench.tls.port
    done = run("curl", "-sS", "--max-time", 10, "-k", "--resolve", f"{sni}:{port}:127.0.0.1", "-o", f"{bench.work}/answer", "-w", "%{http_code}",
               "-H", f"Authorization: Bearer {bench.token}", *(["-H", f"Host: {host}"] if host else []), *words, f"https://{sni}:{port}/fields")
    return done.stdout if done.returncode == 0 else f"curl {done.returncode} {done.stderr}"


def misdirected(bench):
    cases = [
        ("exact.test", None, "200"),
        ("exact.test", "exact.test", "200"),
        ("exact.test", "EXACT.TEST:443", "200"),
        ("a.wild.test", "b.wild.test", "200"),
        ("first.test", None, "200"),
        ("exact.test", "first.test", "421"),
        ("exact.test", "a.wild.test", "421"),
        ("a.wild.test", "exact.test", "421"),
        ("a.wild.test", "a.b.wild.test", "421"),
        ("unknown.test", "exact.test", "421"),
        ("unknown.test", "unknown.test", "421"),
    ]
    for version in ("--http1.1", "--http2"):
        for sni, host, status in cases:
            check.equal(f"{version}: {host or sni} on a connection for {sni}", status, curl(bench, sni, version, host=host))
            if status == "421":
                body = open(f"{bench.work}/answer").read()
                check(f"{version}: {host} on a connection for {sni}: the body", re.search(r'"status":\s*421\b', body), body)


def redirect(bench):
    port = bench.redirect
    for method, path, host in (("GET", "/a/b?c=d&e", "exact.test"), ("POST", "/", "exact.test"), ("GET", "/x%20y", "a.wild.test"), ("HEAD", "/a", "exact.test")):
        shape = ["--head"] if method == "HEAD" else ["-X", method]
        done = run("curl", "-sS", "--max-time", 10, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", *shape, "--resolve", f"{host}:{port}:127.0.0.1",
                   f"http://{host}:{port}{path}")
        expected = re.compile(rf"308 https://{re.escape(host)}(:{bench.tls.port})?{re.escape(path)}")
        check(f"{method} {path} is sent to https", expected.fullmatch(done.stdout), done.stdout + done.stderr)
    print(f"redirect: {done.stdout}")
    for name, head in (("no host", "GET / HTTP/1.1\r\n\r\n"), ("two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"),
                       ("a host that is none", "GET / HTTP/1.1\r\nHost: a.test/evil\r\n\r\n"), ("no HTTP", "hello\r\n\r\n")):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(head.encode())
            try:
                seen = client.recv(65536)
            except OSError as error:
                seen = str(error).encode()
            check(f"with {name} nobody is sent anywhere", b" 308" not in seen and (not seen or b" 400" in seen), seen)
    done = run("curl", "-sS", "--max-time", 10, "-L", "-k", "--resolve", f"exact.test:{port}:127.0.0.1", "--resolve", f"exact.test:{bench.tls.port}:127.0.0.1",
               "--connect-to", f"exact.test:443:127.0.0.1:{bench.tls.port}", "-o", "/dev/null", "-w", "%{http_code} %{scheme}", "--oauth2-bearer", bench.token,
               "--location-trusted", f"http://exact.test:{port}/")
    check.equal("curl follows to the gateway", "200 HTTPS", done.stdout.upper() or done.stderr)


def self_signed(bench):
    place = f"{bench.work}/tried"
    done = run(bench.program, "cert", "self-signed", "--host", "try.test", "--out-dir", place)
    if not check.equal("cert self-signed", 0, done.returncode):
        print(done.stderr)
        return
    check.equal("only its owner reads the key", 0o600, os.stat(f"{place}/key.pem").st_mode & 0o777)
    text = must("openssl", "x509", "-in", f"{place}/cert.pem", "-noout", "-text")
    check("the certificate is for the host", "DNS:try.test" in text, text)
    public = lambda *words: must("openssl", *words)
    check.equal("the key is its key", public("x509", "-in", f"{place}/cert.pem", "-noout", "-pubkey"), public("pkey", "-in", f"{place}/key.pem", "-pubout"))
    sections = (f'[tls]\n[[tls.certificates]]\nhosts = ["try.test"]\ncert = "{place}/cert.pem"\nkey = "{place}/key.pem"\n'
                f'[upstreams.api]\ntargets = ["http://127.0.0.1:{bench.api}"]\n[[routes]]\npath = "/"\nauth = "public"\nupstream = "api"\n')
    gateway = Gateway(bench.program, bench.work, "self-signed", sections).start()
    bench.processes.append(gateway.process)
    done = run("curl", "-sS", "--max-time", 10, "--cacert", f"{place}/cert.pem", "--resolve", f"try.test:{gateway.port}:127.0.0.1", f"https://try.test:{gateway.port}/")
    check.equal("curl verifies it", "ok", done.stdout or done.stderr)


class Collector(threading.Thread):
    """Takes spans over TLS, as a collector of OpenTelemetry does."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{work}/collector.pem", f"{work}/collector.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.batches, self.refused = queue.Queue(), queue.Queue()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            try:
                with self.context.wrap_socket(connection, server_side=True) as stream, stream.makefile("rb") as file:
                    head = b"".join(iter(file.readline, b"\r\n")).decode().lower()
                    body = file.read(int(re.search(r"content-length: (\d+)", head).group(1)))
                    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    self.batches.put((head, json.loads(body)))
            except (OSError, ssl.SSLError) as error:
                self.refused.put(error)


def collector(bench):
    """Spans over TLS: to a collector whose certificate the system believes, and to no other."""
    make_certificate(bench.work, "ca", "collector", "IP:127.0.0.1")
    spans = Collector(bench.work)
    spans.start()
    with open(f"{bench.work}/collector-headers", "w") as file:
        file.write("api-key=of-the-collector\n")
    sections = (f'[log.otlp]\nendpoint = "https://127.0.0.1:{spans.port}"\nheaders_file = "{bench.work}/collector-headers"\n'
                f'[upstreams.api]\ntargets = ["http://127.0.0.1:{bench.api}"]\n[[routes]]\nname = "traced"\npath = "/"\nauth = "public"\nupstream = "api"\n')
    believed, other = (Gateway(bench.program, bench.work, name, sections) for name in ("traced", "traced-elsewhere"))
    believed.start({"SSL_CERT_FILE": f"{bench.work}/ca.pem"})
    other.start({"SSL_CERT_FILE": f"{bench.work}/foreign.pem"})
    bench.processes += [believed.process, other.process]
    must("curl", "-sSf", "--max-time", 10, f"http://127.0.0.1:{believed.port}/some/path")
    head, batch = spans.batches.get(timeout=20)
    check("the batch is posted where traces are taken", head.startswith("post /v1/traces http/1.1"), head)
    check("with the field that the collector asks for", "api-key: of-the-collector" in head, head)
    names = [span["name"] for scope in batch["resourceSpans"][0]["scopeSpans"] for span in scope["spans"]]
    check.equal("the span has come", ["GET traced"], names)
    must("curl", "-sSf", "--max-time", 10, f"http://127.0.0.1:{other.port}/some/path")
    check("a collector that is not believed is sent nothing", "alert" in str(spans.refused.get(timeout=20)).lower())
    check("nothing more has come", spans.batches.empty())


def main():
    need("curl", "openssl")
    with tempfile.TemporaryDirectory() as work:
        bench = None
        try:
            bench = Bench(program_from(sys.argv), work)
            for part in (versions, resumption, names, application_protocols, client_certificates, plain_http, misdirected, redirect, self_signed, collector):
                check.section(part.__name__.replace("_", " "), part, bench)
            for gateway in (bench.tls, bench.optional, bench.required):
                check(f"the gateway {gateway.name} still runs", gateway.runs(), gateway.said()[-500:])
        except Exception as error:
            check("the run reaches its end", False, f"{type(error).__name__}: {error}")
        finally:
            end(bench.processes if bench else [])
    check.finish(LEAST)


if __name__ == "__main__":
    main()
