#!/usr/bin/env python3
"""Uses the gateway in every way with secrets that are found nowhere else, at the most talkative level of the log, and looks
for them in all that it says and writes: log, errors, answers, files, lists of processes. Looks at the log's lines and at the
modes of files besides.

Usage: scripts/canary.py [PROGRAM]
"""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import h2.config
import h2.connection
import h2.events

from harness import Checks, end, free_port, must, program_from, run
from search import Secrets, control, files

PROGRAM = program_from(sys.argv)
LEAST = 400
check = Checks()
secrets = Secrets()
work = tempfile.mkdtemp(prefix="tollgate-canary-")

# What a line of the log must not be taken apart by, as an attacker would put it.
NASTY = "\r\n{\"event\":\"request\",\"status\":200}\x1b[31m\x07\u0085\u009b1m\u2028\u202e\u2066\u200b\"\\\x7fä"
ESCAPED = urllib.parse.quote(NASTY, safe="")


class Upstream(threading.Thread):
    """Answers every request, breaks off under /broken, and remembers what it saw."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.seen = b""

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                self.seen += head + b"\r\n\r\n"
                length = re.search(rb"content-length: (\d+)", head.lower())
                rest = int(length.group(1)) - len(data) if length else 0
                while rest > 0:
                    piece = connection.recv(rest)
                    if not piece:
                        return
                    rest -= len(piece)
                    data += piece
                data = b""
                if b" /broken" in head:
                    connection.sendall(f"HTTP/1.1 200 OK\r\nset-cookie: s={BROKEN_ANSWER}\r\nbad header {BROKEN_ANSWER}\r\n\r\n".encode())
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def text_file(name, content, mode=0o600):
    path = os.path.join(work, "input", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(path, mode)
    return path


def spoken(process):
    return process.stdout + process.stderr


def command(*words, stdin="", without=(), code=None, environment=None):
    """Runs a command of the program. It says no secret, but for those that are asked for."""
    env = {**os.environ, **(environment or {})}
    done = run(PROGRAM, *words, input=stdin, env=env)
    what = f"what {' '.join(map(str, words))[:60]!r} says"
    secrets.absent(check, what, spoken(done), without)
    secrets_on_lines(what, spoken(done))
    if code is not None:
        check.equal(f"exit code of {' '.join(map(str, words))[:60]!r}", code, done.returncode)
    return done


def secrets_on_lines(what, text):
    """What is told to a terminal holds nothing that it obeys."""
    bad = {letter for letter in text if letter not in "\n\t" and (ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or letter in "\u2028\u202e\u2066\u200b")}
    check(f"no control characters in {what}", not bad, f"{bad!r} in {text!r}")


class Gateway:
    """A gateway that logs all it can, with a directory of its own."""

    def __init__(self, name, upstream, log_format, more="", environment=None, trusted=False):
        self.name, self.format = name, log_format
        self.place = os.path.join(work, name)
        os.makedirs(self.place)
        self.config = os.path.join(self.place, "gateway.toml")
        self.port, self.admin = free_port(), free_port()
        self.environment = environment or {}
        self.ids = []
        self.sent = 0
        proxies = 'trusted_proxies = ["127.0.0.0/8"]' if trusted else ""
        self.admin_token = secrets.new("admin token", length=32)
        proxies += f'\nadmin_token_file = "{text_file(f"admin-{name}", self.admin_token)}"'
        with open(self.config, "w") as file:
            file.write(
                f'[server]\nlisten = ["127.0.0.1:{self.port}"]\nadmin = "127.0.0.1:{self.admin}"\ndrain_timeout = "2s"\nworkers = 2\n{proxies}\n'
                '[users.hashing]\nmemory = "64KiB"\niterations = 1\n'
                '[users.lockout]\nattempts = 1000\n'
                f'[log]\nlevel = "trace"\nformat = "{log_format}"\n'
                f'[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream.port}"]\n'
                '[upstreams.away]\ntargets = ["http://127.0.0.1:1"]\n'
                '[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
                '[[routes]]\nname = "open"\npath = "/open"\nauth = "public"\nupstream = "api"\n'
                '[[routes]]\npath = "/broken"\nauth = "public"\nupstream = "api"\n'
                f'[[routes]]\npath = "/away"\nauth = "public"\nupstream = "away"\n{more}\n'
            )

    def start(self):
        self.log = open(os.path.join(self.place, "log"), "wb")
        # With a mask that keeps nobody out: the program itself has to.
        self.process = subprocess.Popen([PROGRAM, "run", "--config", self.config], stdout=self.log, stderr=self.log,
                                        env={**os.environ, **self.environment}, preexec_fn=lambda: os.umask(0))
        # The ports are open before everything is read.
        deadline = time.monotonic() + 20
        while b"the gateway serves" not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: {self.said()[-600:]!r}")
            time.sleep(0.02)
        return self

    def said(self):
        with open(os.path.join(self.place, "log"), "rb") as log:
            return log.read()

    def heard(self, what, status, fields, body, without=()):
        """Notes an answer. One that refuses says no secret."""
        fields = list(fields)
        self.ids += [value for name, value in fields if name.lower() == "x-request-id"]
        text = "\n".join(f"{name}: {value}" for name, value in fields).encode() + b"\n\n" + body
        if status >= 400:
            secrets.absent(check, f"the answer {status} to {what}", text, without)
        return status

    def ask(self, what, method, path, body=None, fields=(), without=()):
        """A request by a client that sends what it is told to; status and body."""
        self.sent += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        if body is not None:
            body = body if isinstance(body, bytes) else body.encode()
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.heard(what, answer.status, answer.getheaders(), content, without)
        return answer.status, content

    def bytes(self, what, data, records=None):
        """Sends bytes and reads what comes. Some are no request, and then no record is expected."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            came = b""
            while piece := connection.recv(65536):
                came += piece
        head, _, body = came.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/1.1 ") else 0
        fields = [line.partition(": ")[::2] for line in lines[1:]]
        if records is None:
            records = int(any(name.lower() == "x-request-id" for name, _ in fields))
        self.sent += records
        return self.heard(what, status or 400, fields, body)

    def login(self, name, password):
        body = urllib.parse.urlencode({"username": name, "password": password})
        status, answer = self.ask("a login", "POST", "/api/token/", body, FORM)
        check.equal(f"a login of {name} passes", 200, status)
        pair = json.loads(answer)
        secrets.keep_token("access token", pair["access"])
        secrets.keep_token("refresh token", pair["refresh"])
        return pair["access"], pair["refresh"]

    def stop(self):
        end([self.process])
        self.log.close()


FORM = [("Content-Type", "application/x-www-form-urlencoded")]
JSON = [("Content-Type", "application/json")]
PASSWORD = secrets.new("password", "pass {}ä\"\\&=%+/{}")
WRONG = secrets.new("wrong password", "wrong {}<>#?@:{}")
LONG = secrets.new("long password", "{}" + "x" * 1100 + "{}")
BACKEND = secrets.new("password of a backend")
BEARER = secrets.new("token of a backend")
API_KEY = secrets.new("key of a backend")
# Every command reads the configuration that names it.
os.environ["CANARY_KEY"] = API_KEY
BROKEN_ANSWER = secrets.new("secret of the upstream")
QUERY = secrets.new("secret of a query")
COOKIE = secrets.new("cookie")
BASIC = secrets.new("Basic password")
# Long enough that no draw is taken for one that can be guessed.
HMAC = secrets.new("HMAC secret", length=48)
HMAC_VARIABLE = secrets.new("HMAC secret of a variable", length=48)
DATABASE = secrets.new("database password")


def multipart(fields, close=True):
    body = "".join(f'--limit\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields)
    return body + ("--limit--\r\n" if close else ""), [("Content-Type", "multipart/form-data; boundary=limit")]


def logins(gateway):
    """Right, wrong and broken logins in every form."""
    for name, word, expected in (("right", PASSWORD, 200), ("wrong", WRONG, 401), ("too long", LONG, 400)):
        fields = [("username", "alice"), ("password", word)]
        for what, body, kind in (
            ("a form", urllib.parse.urlencode(fields), FORM),
            ("JSON", json.dumps(dict(fields)), JSON),
            ("a multipart form", *multipart(fields)),
        ):
            status, answer = gateway.ask(f"a login with {what}, {name}", "POST", "/api/token/", body, kind)
            check(f"a login with {what} that is {name} gets {expected}", status == expected or (name == "too long" and status in (400, 401)), status)
            if status == 200:
                for token, kept in json.loads(answer).items():
                    secrets.keep_token(f"{token} token", kept)
    quoted = json.dumps(PASSWORD)
    broken = [
        ("JSON that breaks behind the password", f'{{"username":"alice","password":{quoted},', JSON),
        ("JSON that breaks in the password", f'{{"username":"alice","password":{quoted[:-1]}', JSON),
        ("JSON that breaks before the password", f'{{"username":"alice",,"password":{quoted}}}', JSON),
        ("JSON with a bad escape", f'{{"username":"alice","password":"\\q{PASSWORD[5:25]}"}}', JSON),
        ("a password in a list", f'{{"username":"alice","password":[{quoted}]}}', JSON),
        ("a password in an object", f'{{"username":"alice","password":{{"p":{quoted}}}}}', JSON),
        ("a password as a name", json.dumps({PASSWORD: "alice"}), JSON),
        ("a password twice", f'{{"username":"alice","password":{quoted},"password":[{quoted}]}}', JSON),
        ("JSON that is a string", quoted, JSON),
        ("a password without a user", json.dumps({"password": PASSWORD}), JSON),
        ("a password in the user's place", json.dumps({"username": PASSWORD, "password": WRONG}), JSON),
        ("a form with a broken escape", f"username=alice&password={urllib.parse.quote(PASSWORD)}%zz", FORM),
        ("a form without a name", urllib.parse.quote(PASSWORD), FORM),
        ("a form that is JSON", json.dumps({"username": "alice", "password": PASSWORD}), FORM),
        ("JSON that is a form", urllib.parse.urlencode({"username": "alice", "password": PASSWORD}), JSON),
        ("a multipart form without an end", *multipart([("username", "alice"), ("password", PASSWORD)], close=False)),
        ("a multipart form with another limit", multipart([("password", PASSWORD)])[0], [("Content-Type", f"multipart/form-data; boundary={QUERY}")]),
        ("an unknown type", PASSWORD, [("Content-Type", "text/plain")]),
        ("a type that is none", PASSWORD, [("Content-Type", QUERY)]),
        ("a body that is too long", json.dumps({"username": "alice", "password": PASSWORD, "more": "x" * 70000}), JSON),
    ]
    for what, body, kind in broken:
        status, _ = gateway.ask(what, "POST", "/api/token/", body, kind)
        check(f"{what} is refused", 400 <= status < 500, status)
    query = urllib.parse.urlencode({"username": "alice", "password": PASSWORD})
    status, _ = gateway.ask("a login in the query", "GET", f"/api/token/?{query}")
    check.equal("a login in the query", 405, status)
    gateway.bytes("a login that breaks off", f"POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{{\"password\":{quoted}".encode())


def tampered(token):
    head, claims, signature = token.split(".")
    return secrets.keep_token("forged token", f"{head}.{claims}.{signature[::-1]}")


def tokens(gateway, access, refresh, expired):
    """Tokens that pass and that do not, wherever a client may put one."""
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode() + "." + access.split(".")[1] + "."
    secrets.keep_token("unsigned token", unsigned)
    bad = [tampered(access), expired, unsigned, access[:-1], access + "A", access.replace(".", "!", 1), f"{access} {access}", f"{access},", refresh]
    for number, token in enumerate([access, *bad]):
        status, _ = gateway.ask("a Bearer token", "GET", f"/x?n={number}", fields=[("Authorization", f"Bearer {token}")])
        check.equal(f"token {number} as Bearer", 200 if number == 0 else 401, status)
        for path in ("refresh", "verify", "blacklist"):
            member = "token" if path == "verify" else "refresh"
            if token != refresh and not (path == "verify" and number == 0):
                for body in (json.dumps({member: token}), json.dumps({member: token})[:-2], json.dumps({member: [token]}), json.dumps({token: member})):
                    status, _ = gateway.ask(f"a bad token to {path}", "POST", f"/api/token/{path}/", body, JSON)
                    check(f"token {number} is refused by {path}", status in (400, 401), status)
    status, _ = gateway.ask("verify", "POST", "/api/token/verify/", json.dumps({"token": access}), JSON)
    check.equal("verify", 200, status)
    status, answer = gateway.ask("refresh", "POST", "/api/token/refresh/", json.dumps({"refresh": refresh}), JSON)
    check.equal("refresh", 200, status)
    for name, token in json.loads(answer).items():
        secrets.keep_token(f"{name} token", token)
    bearer = ("Authorization", f"Bearer {access}")
    basic = base64.b64encode(f"alice:{BASIC}".encode()).decode()
    odd = [
        ("a token in the query", f"/x?access_token={access}&api_key={QUERY}", []),
        ("a token in the query of a public route", f"/open?token={access}&password={QUERY}", []),
        ("a token in the fragment", f"/open#{access}", []),
        ("a token in a cookie", "/x", [("Cookie", f"session={COOKIE}; jwt={access}")]),
        ("a token in a cookie of a public route", "/open", [("Cookie", f"session={COOKIE}; jwt={access}")]),
        ("Basic", "/x", [("Authorization", f"Basic {basic}")]),
        ("a password alone", "/x", [("Authorization", BASIC)]),
        ("another scheme", "/x", [("Authorization", f"Token {access}")]),
        ("two tokens", "/x", [bearer, bearer]),
        ("a token in another field", "/x", [("Proxy-Authorization", f"Bearer {access}"), ("X-Api-Key", QUERY)]),
        ("a token in fields that are told on", "/x", [bearer, ("X-Request-Id", access), ("X-Forwarded-For", QUERY), ("Forwarded", f"for={QUERY}")]),
        ("a token in Referer and User-Agent", "/open", [("Referer", f"https://a/?t={access}"), ("User-Agent", QUERY)]),
        ("an upstream that is away", f"/away?token={access}", [("Cookie", COOKIE)]),
        ("an upstream that breaks off", f"/broken?token={access}", [("Cookie", COOKIE)]),
        ("no route", f"/open/../{QUERY[:1]}?token={access}", []),
        ("another host", "/x", [("Host", f"alice:{BASIC}@gw.test")]),
        ("another method", "/api/token/?" + QUERY, [bearer]),
        ("a range of the expectation", "/x", [("Expect", QUERY), bearer]),
        ("a long field", "/open", [("X-Long", access + "x" * 40000)]),
    ]
    for what, path, fields in odd:
        gateway.ask(what, "GET", path, fields=fields)
    gateway.ask("a query that is too long", "GET", f"/open?{access}{'x' * 20000}")
    raw = [
        ("a field without a colon", f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {access}\r\n\r\n"),
        ("a field with a control byte", f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\x01\r\n\r\n"),
        ("a folded field", f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n {access}\r\n\r\n"),
        ("a request line without a version", f"GET /x?token={access}\r\nHost: a\r\n\r\n"),
        ("a request line in two", f"GET /x?token={access} {QUERY} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target with a user", f"GET http://alice:{BASIC}@gw.test/x HTTP/1.1\r\nHost: gw.test\r\n\r\n"),
        ("no HTTP", f"LOGIN alice {PASSWORD}\r\n\r\n"),
        ("a body of two lengths", f"POST /api/token/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{WRONG}"),
        ("a body that is no chunk", f"POST /api/token/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{WRONG}"),
        ("a head that breaks off", f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}"),
        ("a method that is a token", f"{access.replace('.', '-').replace('_', '-')[-60:]} /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]
    for what, data in raw[:-1]:
        gateway.bytes(what, data.encode("utf-8"))
    socket_fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for what, protocols in (("a token", f"bearer, {access}"), ("a forged token", f"bearer, {tampered(access)}"), ("two tokens", f"bearer, {access}, bearer, {access}"), ("an odd list", f"bearer {access}; {QUERY}")):
        gateway.bytes(f"a WebSocket with {what}", f"GET /socket HTTP/1.1\r\nHost: a\r\n{socket_fields}Sec-WebSocket-Protocol: {protocols}\r\n\r\n".encode())
    over_http2(gateway, access, tampered(access))
    status, _ = gateway.ask("blacklist", "POST", "/api/token/blacklist/", json.dumps({"refresh": refresh}), JSON)
    check.equal("blacklist", 200, status)
    status, _ = gateway.ask("a revoked token", "GET", "/x", fields=[bearer])
    check.equal("a revoked token", 401, status)


def over_http2(gateway, access, forged):
    """The same over HTTP/2, every request on a stream of one connection."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False))
    answers = {}
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        connection.initiate_connection()
        wanted = [
            (f"/x?access_token={access}", [("authorization", f"Bearer {access}")]),
            (f"/x?access_token={access}", [("authorization", f"Bearer {forged}")]),
            ("/x", [("cookie", f"jwt={access}"), ("cookie", COOKIE)]),
            (f"/api/token/?{QUERY}", []),
            (f"/away?{QUERY}", [("x-request-id", access), ("user-agent", "\u202e\u2066\u009b\u0085")]),
            ("/" + ESCAPED, [("referer", ESCAPED)]),
        ]
        for number, (path, fields) in enumerate(wanted):
            connection.send_headers(2 * number + 1, [(":method", "GET"), (":scheme", "http"), (":authority", "gw.test"), (":path", path), *fields], end_stream=True)
        wire.sendall(connection.data_to_send())
        while len(answers) < len(wanted):
            data = wire.recv(65536)
            if not data:
                break
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    answers[event.stream_id] = [dict(event.headers), b"", False]
                elif isinstance(event, h2.events.DataReceived):
                    answers[event.stream_id][1] += event.data
                elif isinstance(event, h2.events.StreamReset):
                    answers.setdefault(event.stream_id, [{":status": "400"}, b"", True])
            wire.sendall(connection.data_to_send())
    check("HTTP/2 is answered", len(answers) == len(wanted) and answers[1][0][":status"] == "200" and answers[3][0][":status"] == "401", answers)
    for fields, body, _ in answers.values():
        gateway.sent += "x-request-id" in fields
        gateway.heard("a request over HTTP/2", int(fields[":status"]), [(name, value) for name, value in fields.items() if name != ":status"], body)


def nasty(gateway, access):
    """Bytes that would end a line of the log, colour a terminal or turn the direction of reading, in all that is logged."""
    raw = NASTY.replace("\r", "").replace("\n", "").encode()
    paths = ["/open/" + urllib.parse.quote(letter, safe="") for letter in NASTY] + ["/open/" + ESCAPED, "/open?" + ESCAPED, "/" + ESCAPED.lower()]
    for path in paths:
        gateway.ask("a nasty path", "GET", path, fields=[("User-Agent", ESCAPED), ("Referer", ESCAPED)])
    for name in ("User-Agent", "Referer", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "Host", "Authorization", "Sec-WebSocket-Protocol", "Content-Type", "Origin"):
        for value in (raw, raw.replace(b"\x1b", b"").replace(b"\x07", b"").replace(b"\x7f", b""), "\u202e\u2066ab".encode(), "\u009b31m\u0085".encode(), b"a\x9bb\x85", b'"quoted\\"'):
            host = b"" if name == "Host" else b"Host: gw.test\r\n"
            gateway.bytes(f"a nasty {name}", b"GET /open HTTP/1.1\r\n" + host + name.encode() + b": " + value + b"\r\n\r\n")
            gateway.bytes(f"a nasty {name}", b"POST /api/token/ HTTP/1.1\r\n" + host + name.encode() + b": " + value + b"\r\nContent-Length: 0\r\n\r\n")
    for line in (b"GET /open" + raw + b" HTTP/1.1", b"GET /open?" + raw + b" HTTP/1.1", b"G\x1bT /open HTTP/1.1", "GET /open/\u202e HTTP/1.1".encode(), b"GET /\x9b HTTP/1.1",
                 b"GET /open\r HTTP/1.1", b"GET http://gw.test/\x1b HTTP/1.1", b"\x1b]0;x\x07", b"GET /open HTTP/1.1\x1b"):
        gateway.bytes("a nasty request line", line + b"\r\nHost: gw.test\r\n\r\n")
    for name in (NASTY, "alice\r\nbob", "\u202ealice", "\x1b[31malice", "\u009balice"):
        for body, kind in ((json.dumps({"username": name, "password": WRONG}), JSON), (urllib.parse.urlencode({"username": name, "password": WRONG}), FORM)):
            status, _ = gateway.ask("a nasty name", "POST", "/api/token/", body, kind)
            check("a nasty name is refused", status in (400, 401), status)
        gateway.ask("a token that is nasty", "POST", "/api/token/verify/", json.dumps({"token": name}), JSON)
    gateway.ask("a good one", "GET", "/x", fields=[("Authorization", f"Bearer {access}")])


def lines(gateway):
    """One record for every request, each of them a line of its own without control bytes."""
    said = gateway.said()
    bad = sorted(set(said) - set(range(32, 127)) - {10})
    check("nothing panics", b"panicked" not in said)
    check(f"the log ({gateway.format}) holds printable ASCII only", not bad, f"{bad} in {next((line for line in said.splitlines() if set(line) & set(bad)), b'')!r}")
    found = [line for line in said.decode(errors="replace").split("\n") if line]
    if gateway.format == "json":
        parsed = [json.loads(line) if line.startswith("{") else {"other": line} for line in found]
        check("every line is an object", all("other" not in line for line in parsed), [line for line in parsed if "other" in line][:2])
        records = [line for line in parsed if line.get("event") == "request"]
        check("trace tells of more than requests", len(records) < len(parsed))
        ids = [line["request_id"] for line in records]
        missing = [value for value in gateway.ids if ids.count(value) != gateway.ids.count(value)]
        check("every answer has its record", not missing and len(gateway.ids) > 100, f"{missing[:3]} of {len(gateway.ids)}")
        check.equal("one request is one record", gateway.sent, len(records))
    else:
        first = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z +(\d+ .* user=\S+ route=|(TRACE|DEBUG|INFO|WARN|ERROR) )")
        strange = [line for line in found if not first.match(line)]
        check("every line begins as one", not strange, strange[:2])
        records = [line for line in found if re.match(r"^\S+ +\d+ .* user=", line)]
        check.equal("one request is one record in plain text", gateway.sent, len(records))


def processes(gateway):
    """What anybody sees of a running gateway."""
    found = b""
    children = subprocess.run(["pgrep", "-P", str(gateway.process.pid)], stdout=subprocess.PIPE, text=True).stdout.split()
    for pid in [str(gateway.process.pid), *children]:
        for name in ("cmdline", "comm"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                found += file.read()
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/comm", "rb") as file:
                found += file.read()
    secrets.absent(check, "the list of processes", found)
    check("the list of processes was read", b"run" in found and b"gateway.toml" in found)


def admin(gateway):
    for path in ("/healthz", "/readyz", "/metrics", "/", "/config", "/debug", f"/?{QUERY}", "/" + ESCAPED):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.admin, timeout=20)
        connection.request("GET", path, headers={"Authorization": f"Bearer {QUERY}", "User-Agent": QUERY})
        answer = connection.getresponse()
        secrets.absent(check, f"what the admin listener says of {path[:20]}", str(answer.getheaders()) + answer.read().decode(errors="replace"))
    _, keys = gateway.ask("the published keys", "GET", "/.well-known/jwks.json")
    secrets.absent(check, "the published keys", keys)


def refusals(gateway):
    """What is remembered of those who were refused, as the admin page and the command line tell it."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin, timeout=20)
    connection.request("GET", "/api/refusals", headers={"Authorization": f"Bearer {gateway.admin_token}", "X-Tollgate-Admin": "1"})
    answer = connection.getresponse()
    told = answer.read()
    secrets.absent(check, "what is remembered of refusals", told)
    remembered = json.loads(told)["refusals"]
    reasons = {refusal["reason"] for refusal in remembered}
    check("refusals of many kinds are remembered", len(reasons) > 8, reasons)
    # One of each kind.
    for refusal in {refusal["reason"]: refusal for refusal in remembered}.values():
        done = command("explain", "--request-id", refusal["request_id"], "--config", gateway.config, code=0)
        check("an explanation says why", refusal["reason"] in done.stdout, done.stdout)
    command("explain", "--request-id", "unknown", "--config", gateway.config, code=1)


def modes(place, below=("data",)):
    """Files for their owner only, and directories that only the owner may enter."""
    for name in below:
        seen = 0
        for directory, _, names in os.walk(os.path.join(place, name)):
            check.equal(f"mode of {os.path.relpath(directory, work)}", "0o700", oct(stat.S_IMODE(os.stat(directory).st_mode)))
            for file in names:
                seen += 1
                path = os.path.join(directory, file)
                check.equal(f"mode of {os.path.relpath(path, work)}", "0o600", oct(stat.S_IMODE(os.stat(path).st_mode)))
        check(f"{name} has files", seen >= 3, seen)


def store(gateway):
    """What is written holds neither passwords nor tokens; a password is there as a hash."""
    for path in files(gateway.place):
        name = os.path.relpath(path, gateway.place)
        if name == "gateway.toml" or name.startswith(os.path.join("data", "keys")):
            continue
        with open(path, "rb") as file:
            secrets.absent(check, f"the file {name}", file.read(), without=["hash"])


def private_key(path):
    """The bytes that make a key private: the last 32 of an EdDSA key in PKCS#8 (RFC 8410)."""
    with open(path) as file:
        pem = file.read()
    der = base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))
    at = der.find(b"\x04\x20") + 2
    secrets.keep("private key", der[at : at + 32])
    return pem, der


def backends(port, place):
    """Upstreams that the gateway has credentials for, with a route to each, and one that gets signed statements."""
    with open(os.open(place, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(BEARER + "\n")
    more = ""
    for name, lines in {
        "basic": f'credentials = {{ basic = {{ username = "gateway", password = "{BACKEND}" }} }}',
        "bearer": f'credentials = {{ bearer_file = "{place}" }}',
        "header": 'credentials = { header = "X-Api-Key", value_env = "CANARY_KEY" }\nforward_token = true',
        "stated": "assertion = true",
    }.items():
        auth = "required" if name == "stated" else "public"
        more += f'[upstreams.{name}]\ntargets = ["http://127.0.0.1:{port}"]\n{lines}\n[[routes]]\npath = "/{name}"\nauth = "{auth}"\nupstream = "{name}"\n'
    return more


def credentials(gateway, backend, access):
    """The gateway shows backends who it is, and says of it nothing to anybody else."""
    for name in ("basic", "bearer", "header"):
        for path in (f"/{name}", f"/{name}/broken"):
            gateway.ask(f"a backend with {name}", "GET", path, fields=[("X-Api-Key", QUERY), ("X-Tollgate-Assertion", QUERY)])
    for _ in range(2):
        gateway.ask("a backend with statements", "GET", "/stated", fields=[("Authorization", f"Bearer {access}")])
    basic = base64.b64encode(f"gateway:{BACKEND}".encode())
    for what, shown in (("Basic", b"Basic " + basic), ("a token", f"Bearer {BEARER}".encode()), ("a key", API_KEY.encode())):
        check(f"a backend gets {what}", shown in backend.seen)
    statements = re.findall(rb"x-tollgate-assertion: (\S+)", backend.seen)
    # Each thread has its own.
    check("a backend gets a statement", len(statements) == 2, len(statements))
    for statement in statements[:1]:
        secrets.keep_token("statement", statement.decode())
    check("what a client sends in such a field reaches no backend", QUERY.encode() not in backend.seen)


def life(upstream, log_format, trusted):
    """A gateway from its first start to its end."""
    name = f"life-{log_format}"
    backend = Upstream()
    backend.start()
    more = backends(backend.port, os.path.join(work, f"bearer-{log_format}"))
    gateway = Gateway(name, upstream, log_format, more, trusted=trusted)
    umask = os.umask(0)
    config = ["--config", gateway.config]
    command("user", "add", "alice", "--email", "alice@example.com", "--group", "staff", *config, stdin=PASSWORD + "\n", code=0)
    command("user", "add", "bob", *config, stdin=WRONG + "\n", code=0)
    command("user", "add", "carol", *config, stdin=secrets.new("short password", "{}", 9)[:5] + "\n")
    command("user", "add", "alice", *config, stdin=PASSWORD + "\n", code=1)
    command("user", "add", "dora", *config, stdin=LONG + "\n", code=1)
    command("user", "add", NASTY.replace("\0", ""), *config, stdin=PASSWORD + "\n")
    command("user", "passwd", "bob", *config, stdin=secrets.new("new password") + "\n", code=0)
    command("user", "passwd", "nobody", *config, stdin=secrets.new("new password") + "\n", code=1)
    command("user", "list", *config, code=0)
    gateway.start()
    os.umask(umask)
    try:
        for path in files(os.path.join(gateway.place, "data", "keys")):
            private_key(path)
        hashed = command("hash-password", *config, stdin=PASSWORD + "\n", code=0).stdout.strip()
        secrets.keep("hash", hashed.split("$")[-1])
        minted = command("token", "mint", "--user", "alice", "--lifetime", "1s", *config, code=0).stdout.strip()
        born = time.monotonic()
        secrets.keep_token("minted token", minted)
        access, refresh = gateway.login("alice", PASSWORD)
        other, _ = gateway.login("alice", PASSWORD)
        logins(gateway)
        admin(gateway)
        processes(gateway)
        for token in (access, tampered(access), refresh, access[:40], f"Bearer {access}", NASTY.replace("\0", "")):
            command("token", "inspect", *config, stdin=token + "\n")
        command("session", "list", *config, code=0)
        command("key", "list", *config, code=0)
        command("key", "export-jwks", *config, code=0)
        command("check", "--ignore", "T001", "--ignore", "T006", *config, code=0)
        time.sleep(max(0, born + 1.1 - time.monotonic()))
        command("token", "inspect", *config, stdin=minted + "\n", code=1)
        tokens(gateway, access, refresh, minted)
        credentials(gateway, backend, other)
        nasty(gateway, other)
        refusals(gateway)
        command("session", "revoke", "--user", "alice", *config, code=0)
        modes(gateway.place)
        store(gateway)
    finally:
        gateway.stop()
    lines(gateway)
    store(gateway)
    seen = [name for name in secrets.find(upstream.seen) if not name.startswith(("access token", "unsigned token (its end)", "secret of a query", "cookie"))]
    check("what was not meant for the upstream does not reach it", not seen, seen[:3])
    check("Authorization does not reach the upstream", b"authorization:" not in upstream.seen.lower())
    check("the upstream was reached", upstream.seen.count(b"HTTP/1.1") > 5)


# Configurations with a mistake beside a secret.
MISTAKES = {
    "a typo": '[[tokens.keys]]\nkid = "a"\nalg = "HS256"\nsecrett = "«secret»"',
    "another typo": '[[tokens.keys]]\nkid = "a"\nalg = "HS256"\nscret = "«secret»"',
    "a name that is not known": '[[tokens.keys]]\nkid = "a"\nalg = "HS256"\nshared = "«secret»"',
    "a name that says nothing": '[[tokens.keys]]\nkid = "a"\nalg = "HS256"\nvalue = "«secret»"\nhmac = "«secret»"\nk = "«secret»"',
    "capitals": '[[tokens.keys]]\nalg = "HS256"\nSECRET = "«secret»"',
    "a list": '[[tokens.keys]]\nalg = "HS256"\nsecret = ["«secret»"]',
    "a table": '[[tokens.keys]]\nalg = "HS256"\nsecret = { value = "«secret»" }',
    "a table in an unknown key": '[[tokens.keys]]\nalg = "HS256"\noptions = { value = "«secret»", more = ["«secret»"] }',
    "dotted": '[[tokens.keys]]\nalg = "HS256"\nsecret.value = "«secret»"',
    "a table instead of a list": '[tokens.keys]\nalg = "HS256"\nsecret = "«secret»"',
    "a table that is not known": '[[tokens.key]]\nalg = "HS256"\nsecret = "«secret»"',
    "a table at the top": '[secrets]\nhmac = "«secret»"',
    "the top": 'secret = "«secret»"',
    "the server": '[server]\nsecret = "«secret»"',
    "a token's secret": '[tokens]\nsecret = "«secret»"',
    "a name of others": '[tokens]\njwt_key = "«secret»"\nsigning_key = "«secret»"\napi_token = "«secret»"',
    "an inline list": 'tokens.keys = [{ kid = "a", alg = "HS256", secrt = "«secret»", secret = "«secret»" }]',
    "another value in the line": 'tokens.keys = [{ kid = 7, alg = "HS999", secret = "«secret»" }]',
    "too short": '[[tokens.keys]]\nalg = "HS512"\nsecret = "«short»"',
    "a key-encryption key": '[tokens]\nkey_encryption_key = "«short»"',
    "a key-encryption key with a typo": '[tokens]\nkey_encryption_kye = "«secret»"\nencryption_key = "«secret»"',
    "a key-encryption key as a variable": '[tokens]\nkey_encryption_key_env = "«secret»"',
    "a key-encryption key as a file": '[tokens]\nkey_encryption_key_file = "«secret»"',
    "two of them": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»"\nsecret_file = "«secret»"\nsecret_env = "«secret»"',
    "the secret as a variable": '[[tokens.keys]]\nalg = "HS256"\nsecret_env = "«secret»"',
    "the secret as a file": '[[tokens.keys]]\nalg = "HS256"\nsecret_file = "«secret»"',
    "the secret in a variable's place": '[[tokens.keys]]\nalg = "HS256"\nsecret = "${«secret»}"',
    "a variable that is short": '[[tokens.keys]]\nalg = "HS256"\nsecret = "${CANARY_SHORT}"',
    "a variable that is short, by name": '[[tokens.keys]]\nalg = "HS256"\nsecret_env = "CANARY_SHORT"',
    "a variable's default": '[[tokens.keys]]\nalg = "HS512"\nsecret = "${CANARY_NONE:-«short»}"',
    "a broken variable": '[[tokens.keys]]\nalg = "HS256"\nsecret = "${CANARY_NONE:-«secret»"',
    "a variable in a number": '[server]\nworkers = "${CANARY_SECRET}"',
    "a variable in an address": '[server]\nlisten = ["${CANARY_SECRET}"]',
    "a variable in a target": '[upstreams.b]\ntargets = ["${CANARY_SECRET}"]',
    "a variable in a name": '[tokens]\npath = "${CANARY_SECRET}"\nrealm = "${CANARY_SECRET}\\u0007"\naccess_lifetime = "${CANARY_SECRET}"',
    "twice": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»"\nsecret = "«secret»"',
    "an open quote": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»\nkid = "a"',
    "an open quote elsewhere": '[[tokens.keys]]\nkid = "a\nalg = "HS256"\nsecret = "«secret»"',
    "no quotes": '[[tokens.keys]]\nalg = "HS256"\nsecret = «secret»',
    "no equals sign": '[[tokens.keys]]\nalg = "HS256"\nsecret "«secret»"',
    "a colon": '[[tokens.keys]]\nalg = "HS256"\nsecret: "«secret»"',
    "a colon in a typo": '[[tokens.keys]]\nalg = "HS256"\nhmac: "«secret»"',
    "a bad escape": '[[tokens.keys]]\nalg = "HS256"\nsecret = "\\q«secret»"',
    "a bad escape behind": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»\\q"',
    "two values": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»" "«secret»"',
    "a comma": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»",',
    "a name not known, broken": '[[tokens.keys]]\nalg = "HS256"\nhmac = "«secret»" x',
    "a broken line of several": 'tokens.keys = [{ alg = "HS256" secret = "«secret»" }]',
    "several lines": '[[tokens.keys]]\nalg = "HS256"\nsecret = """\n«secret»\n""" x',
    "several lines without an end": '[[tokens.keys]]\nalg = "HS256"\nsecret = """\n«secret»\n',
    "a control character": '[[tokens.keys]]\nalg = "HS256"\nsecret = "«secret»\x01"',
    "a comment": '[[tokens.keys]]\nalg = "HS999" # secret = "«secret»"',
    "letters of several bytes": '[[tokens.keys]]\nkid = "äöü"\nalg = "ÄÖÜ" # ß\nsecrett = "«secret»"',
    "a tool's output": '«secret»',
    "a pasted key": '[[tokens.keys]]\nalg = "EdDSA"\nfile = """-----BEGIN PRIVATE KEY-----\n«secret»\n-----END PRIVATE KEY-----"""',
    "a pasted key in one line": '[[tokens.keys]]\nalg = "EdDSA"\nfile = "-----BEGIN PRIVATE KEY-----«secret»-----END PRIVATE KEY-----"',
    "a key with a secret": '[[tokens.keys]]\nalg = "EdDSA"\nsecret = "«secret»"',
    "a secret of a short kind": '[[tokens.keys]]\nalg = "HS256"\nsecret = 12345',
    "a password of a user": '[users]\npassword = "«secret»"',
    "a URL": '[users]\nsource = "django"\n[users.django]\nurl = "postgress://u:«secret»@127.0.0.1:1/db"',
    "a URL of another type": '[users]\nsource = "django"\n[users.django]\nurl = ["postgres://u:«secret»@127.0.0.1:1/db"]',
    "a URL in a typo": '[users]\nsource = "django"\n[users.django]\nulr = "postgres://u:«secret»@127.0.0.1:1/db"',
    "a URL without a scheme": '[users]\nsource = "django"\n[users.django]\nurl = "u:«secret»@127.0.0.1:1/db"',
    "a URL with a blank": '[users]\nsource = "django"\n[users.django]\nurl = "postgres://u: «secret»@127.0.0.1:1/db"',
    "a URL with one slash": '[users]\nsource = "django"\n[users.django]\nurl = "postgres:/u:«secret»@127.0.0.1:1/db"',
    "a URL with a bad port": '[users]\nsource = "django"\n[users.django]\nurl = "postgres://u:«secret»@127.0.0.1:port/db"',
    "a URL with a bad port and a blank": '[users]\nsource = "django"\n[users.django]\nurl = "mysql://u:«secret» %@127.0.0.1:port/db"',
    "a URL with a query": '[users]\nsource = "django"\n[users.django]\nurl = "postgres://127.0.0.1:1/db?password=«secret»&sslmode=wrong"',
    "a URL in a query of a typo": '[users]\nsource = "django"\n[users.django]\nulr = "postgres://127.0.0.1:1/db?password=«secret»"',
    "a URL as a variable": '[users]\nsource = "django"\n[users.django]\nurl_env = "postgres://u:«secret»@127.0.0.1:1/db"',
    "a URL as a file": '[users]\nsource = "django"\n[users.django]\nurl_file = "postgres://u:«secret»@127.0.0.1:1/db"',
    "a URL in a file": '[users]\nsource = "django"\n[users.django]\nurl_file = "url.txt"',
    "a URL in a variable": '[users]\nsource = "django"\n[users.django]\nurl_env = "CANARY_URL"',
    "a URL that is twice": '[users]\nsource = "django"\n[users.django]\nurl = "postgres://u:«secret»@127.0.0.1:1/db"\nurl = "postgres://u:«secret»@127.0.0.1:1/db"',
    "a URL with an open quote": '[users]\nsource = "django"\n[users.django]\nurl = "postgres://u:«secret»@127.0.0.1:1/db\ntable = "a"',
    "a URL of the store": '[store]\nurl = "postgres://u:«secret»@127.0.0.1:1/db"',
    "a URL of the store with a blank": '[store]\nurl = "mysql://u: «secret»@127.0.0.1:1/db"',
    "a URL of the store without a scheme": '[store]\nurl = "u:«secret»@127.0.0.1:1/db"',
    "a target with a password": '[upstreams.b]\ntargets = ["http://u:«secret»@127.0.0.1:1"]',
    "a target with a password, no list": '[upstreams.b]\ntargets = "http://u:«secret»@127.0.0.1:1"',
    "a target with a query": '[upstreams.b]\ntargets = ["http://127.0.0.1:1/?key=«secret»"]',
    "a target with a blank": '[upstreams.b]\ntargets = ["http://u:x «secret»@127.0.0.1:1"]',
    "headers": '[[routes]]\npath = "/h"\nauth = "public"\nupstream = "api"\nrequest_headers = { set = { "X-Api-Key" = "«secret»" } }',
    "credentials of a typo": '[upstreams.b]\ntargets = ["http://a"]\ncredental = { header = "X-Key", value = "«secret»" }',
    "credentials with a typo": '[upstreams.b]\ntargets = ["http://a"]\ncredentials = { header = "X-Key", valu = "«secret»" }',
    "credentials that do not fit": '[upstreams.b]\ntargets = ["http://a"]\ncredentials = { bearer = "«secret» x" }',
    "credentials twice": '[upstreams.b]\ntargets = ["http://a"]\ncredentials = { bearer = "«secret»", basic = { username = "a", password = "«secret»" } }',
    "credentials in a variable": '[upstreams.b]\ntargets = ["http://a"]\ncredentials = { header = "Host", value_env = "CANARY_SECRET" }',
    "credentials that are expanded": '[upstreams.b]\ntargets = ["http://a"]\nidentity = { "X-A" = "${CANARY_SECRET}" }',
    "credentials as the name of a file": '[upstreams.b]\ntargets = ["http://a"]\ncredentials = { bearer_file = "«secret»" }',
    "headers of a typo": '[[routes]]\npath = "/h"\nauth = "public"\nupstream = "api"\nheader = { "Authorization" = "Basic «secret»" }',
}


def mistakes(upstream):
    """Every mistake is told with its place, and without the secret."""
    base = f'[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream.port}"]\n[[routes]]\npath = "/"\nauth = "public"\nupstream = "api"\n'
    long, short = secrets.new("configured secret", "{}{}"), secrets.new("short secret", "{}", 16)
    environment = {"CANARY_SHORT": short, "CANARY_SECRET": long, "CANARY_URL": f"postgress://u:{DATABASE}@127.0.0.1:1/db"}
    text_file("mistakes/url.txt", f"postgress://u:{DATABASE}@127.0.0.1:1/db\n")
    for what, mistake in MISTAKES.items():
        mistake = mistake.replace("«secret»", long).replace("«short»", short)
        # At the end of the file what is not in a table would belong to the last one.
        texts = [f"{mistake}\n{base}"] + ([f"{base}{mistake}\n"] if mistake.startswith("[") else [])
        for text in texts:
            path = text_file("mistakes/gateway.toml", text)
            done = command("check", "--config", path, environment=environment)
            check(f"{what}: refused", done.returncode == 1, spoken(done))


def start_failures(upstream):
    """Starts that fail behind the configuration: keys, databases, user files that cannot be used."""
    base = f'[server]\nlisten = ["127.0.0.1:0"]\nadmin = ""\n[log]\nlevel = "trace"\n[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream.port}"]\n[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
    good = text_file("failures/good.pem", b"")
    os.remove(good)
    command("key", "generate", "--out", good, code=0)
    check.equal("mode of a generated key", "0o600", oct(stat.S_IMODE(os.stat(good).st_mode)))
    pem, der = private_key(good)
    body = "".join(pem.splitlines()[1:-1])
    secrets.keep("PEM", body[20:])
    broken = {
        "cut": pem[: len(pem) // 2],
        "garbage in the middle": pem.replace(body[30:34], "!!!!"),
        "without its end": "\n".join(pem.splitlines()[:-1]),
        "of another kind": pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        "encrypted": pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        "raw": body,
        "DER": der,
        "a letter changed": pem.replace(body[4:8], "AAAA"),
    }
    for what, content in broken.items():
        path = text_file("failures/broken.pem", content)
        for algorithm in ("EdDSA", "ES256", "RS256"):
            config = text_file("failures/gateway.toml", f'{base}[[tokens.keys]]\nalg = "{algorithm}"\nfile = "{path}"\n')
            for verb in ("check", "run"):
                done = command(verb, "--config", config)
                check(f"a key that is {what} is refused by {verb}", done.returncode in (1, 3), spoken(done))
    for what, secret_file in (("short", secrets.new("short secret of a file", "{}", 20)), ("with a line end", "{}\n{}"), ("no text", "\xff\xfe")):
        content = secrets.new("secret of a file", secret_file) if "{}" in secret_file else secret_file
        path = text_file("failures/secret", content)
        config = text_file("failures/gateway.toml", f'{base}[[tokens.keys]]\nalg = "HS512"\nsecret_file = "{path}"\n')
        command("check", "--config", config)
    secret_config = text_file("failures/secret.toml", f'{base}[[tokens.keys]]\nkid = "a"\nalg = "HS256"\nsecret = "{HMAC}"\n[[tokens.keys]]\nkid = "b"\nalg = "HS256"\nsecret_env = "CANARY_HMAC"\n')
    for words in (("check",), ("key", "list"), ("key", "export-jwks")):
        command(*words, "--config", secret_config, environment={"CANARY_HMAC": HMAC_VARIABLE}, code=0)
    # One that is not there is tried for two seconds, so not every way to name one is tried with each.
    urls = [
        (f"postgres://u:{DATABASE}@127.0.0.1:1/db", 'url = "{}"'),
        (f"mysql://u:{DATABASE}@127.0.0.1:1/db", 'url_file = "input"'),
        (f"postgres://u:{DATABASE}@127.0.0.1:{upstream.port}/db", 'url_env = "CANARY_URL"'),
        (f"postgres://127.0.0.1:1/db?password={DATABASE}&user=u", 'url = "{}"'),
    ]
    for number, (url, line) in enumerate(urls):
        text_file("failures/input", url)
        config = text_file("failures/gateway.toml", f'{base}[users]\nsource = "django"\n[users.django]\n{line.format(url)}\n')
        command("check", "--config", config, environment={"CANARY_URL": url})
        try:
            done = run(PROGRAM, "run", "--config", config, env={**os.environ, "CANARY_URL": url}, timeout=1.5)
            said = spoken(done)
        except subprocess.TimeoutExpired as late:
            said = str(late.stdout or "") + str(late.stderr or "")
        secrets.absent(check, "what a start without its database says", said)
        config = text_file("failures/store.toml", base)
        if number < 2:
            command("user", "import", "--from", "-", "--config", config, stdin=url + "\n", code=1)
        command("user", "import", "--from", url, "--config", config, code=1)
    config = text_file("failures/store.toml", base)
    plain, line_hash = secrets.new("plain password"), secrets.new("hash of a line", "{}{}")
    for name, content in (
        ("a.htpasswd", f"alice:{plain}\nbob:{{SHA}}{plain}\ncarol:$2y$05${line_hash}\n{plain}\ndora:$apr1${plain}$x\nname {NASTY}:{plain}\n"),
        ("a.csv", f"name,email,groups,password\nalice,a@b,,{plain}\n\"{plain}\n"),
        ("b.csv", f"name,email,groups,password\nalice,{plain},{plain};,{plain}\nbob,,,$argon2id$v=19$m=1${line_hash}\n"),
        ("c.csv", f"name,secret\nalice,{plain}\n"),
    ):
        path = text_file(f"failures/{name}", content)
        command("user", "import", "--from", path, "--config", config, code=1)
        command("user", "import", "--from", path, "--skip-refused", "--dry-run", "--config", config)
    for content in (
        f'[[users]]\nname = "alice"\npassword = "{plain}"\n',
        f'[[users]]\nname = "alice"\npasword = "{plain}"\n',
        f'[[users]]\nname = "alice"\npassword = ["{plain}"]\n',
        f'[[users]]\nname = "alice"\npassword = "{plain}\n',
        f'[[users]]\nname = "alice"\nhash = "$argon2id${line_hash}"\n',
        f'[[users]]\nname = "alice", password = "$argon2id${line_hash}"\n',
        f'users = [{{ name = 7, password = "{plain}" }}]\n',
        f'[[users]]\nname = "a\\u001b[31m\\u202e"\npassword = "{plain}"\n',
    ):
        path = text_file("failures/users.toml", content)
        config = text_file("failures/gateway.toml", f'{base}[users]\nsource = "file"\n[users.file]\npath = "{path}"\n')
        for verb in ("check", "run"):
            done = command(verb, "--config", config)
            check(f"users that cannot be read are refused by {verb}", done.returncode in (1, 3), spoken(done))


def keys_in_the_store(gateway, next_file):
    """What is said and written of keys that are made, changed and encrypted anew."""
    config = ["--config", gateway.config]
    listed = [line.split() for line in command("key", "list", *config, code=0).stdout.splitlines()[1:]]
    check("the gateway has made a key in the store", len(listed) == 1 and listed[0][-3:] == ["in", "the", "store"], listed)
    command("key", "rotate", "--alg", "HS256", *config, code=0)
    command("key", "rotate", *config, code=1)
    command("key", "rotate", "--now", *config, code=0)
    command("key", "retire", listed[0][0], "--now", *config, code=0)
    command("key", "export-jwks", *config, code=0)
    deadline = time.monotonic() + 10
    while b"the keys of the store change" not in gateway.said() and time.monotonic() < deadline:
        time.sleep(0.02)
    check("the gateway tells of other keys", b"the keys of the store change" in gateway.said())
    command("key", "rewrap", "--with", gateway.config + ".none", *config, code=1)
    command("key", "rewrap", "--with", next_file, *config, code=0)
    command("key", "list", *config, code=1)
    while b"those before stay" not in gateway.said() and time.monotonic() < deadline:
        time.sleep(0.02)
    check("the gateway tells of keys that it cannot read", b"another key-encryption key" in gateway.said())


def changes(upstream):
    """What a running gateway says of users and certificates that it cannot read, and what TLS says of plain requests."""
    plain = secrets.new("plain password of a change")
    users = text_file("changes/users.toml", "")
    must("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gw.test", "-days", "2", "-keyout", f"{work}/input/changes/key.pem", "-out", f"{work}/input/changes/cert.pem", "-addext", "subjectAltName=DNS:gw.test")
    for log_format in ("json", "pretty"):
        text_file("changes/users.toml", "")
        kek, next_kek = (secrets.new(f"{name} of {log_format}", length=48) for name in ("key-encryption key", "next key-encryption key"))
        file, next_file = text_file(f"changes/kek-{log_format}", kek), text_file(f"changes/next-kek-{log_format}", next_kek)
        more = f'[tokens]\nkey_encryption_key_file = "{file}"\n[users]\nsource = "file"\n[users.file]\npath = "{users}"\n[tls]\n[[tls.certificates]]\nhosts = ["gw.test"]\ncert = "{work}/input/changes/cert.pem"\nkey = "{work}/input/changes/key.pem"\n'
        gateway = Gateway(f"changes-{log_format}", upstream, log_format, more).start()
        try:
            text_file("changes/users.toml", f'[[users]]\nname = "a\\u001b\\u202e\\u009b"\npassword = "{plain}"\n[[users]]\nname = "b"\npasswort = "{plain}"\n')
            deadline = time.monotonic() + 10
            while b"stay as they were" not in gateway.said() and time.monotonic() < deadline:
                time.sleep(0.02)
            check("a change that cannot be used is told of", b"stay as they were" in gateway.said())
            gateway.bytes("a plain login to TLS", f"POST /api/token/ HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 900\r\n\r\npassword={PASSWORD}".encode(), records=0)
            context = ssl.create_default_context(cafile=f"{work}/input/changes/cert.pem")
            with context.wrap_socket(socket.create_connection(("127.0.0.1", gateway.port)), server_hostname="gw.test") as wire:
                wire.sendall(f"GET /x?{QUERY} HTTP/1.1\r\nHost: other.test\r\nAuthorization: Bearer {QUERY}\r\nConnection: close\r\n\r\n".encode())
                secrets.absent(check, "a refusal over TLS", wire.recv(65536))
                gateway.sent += 1
            keys_in_the_store(gateway, next_file)
            modes(gateway.place)
            store(gateway)
        finally:
            gateway.stop()
        store(gateway)
        secrets.absent(check, f"the log of changes ({log_format})", gateway.said())
        said = gateway.said()
        bad = sorted(set(said) - set(range(32, 127)) - {10})
        check(f"the log of changes ({log_format}) holds printable ASCII only", not bad, [line for line in said.splitlines() if set(line) & set(bad)][:1])


def commands_make_private_files():
    """What the commands write for themselves is for its owner only, whatever the mask of the shell."""
    umask = os.umask(0)
    try:
        place = os.path.join(work, "made")
        command("cert", "self-signed", "--host", "gw.test", "--out-dir", place, code=0)
        command("key", "generate", "--alg", "HS256", "--out", os.path.join(place, "secret"), code=0)
        for name in ("key.pem", "secret"):
            check.equal(f"mode of {name}", "0o600", oct(stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode)))
        demo = subprocess.Popen([PROGRAM, "demo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": place})
        try:
            said = json.loads(demo.stdout.readline())
            kept = [name for name in os.listdir(place) if name.startswith("tollgate-demo-")]
            check.equal("the demonstration has a directory", 1, len(kept))
            modes(place, kept)
            with open(f"/proc/{demo.pid}/cmdline", "rb") as file:
                check("its password is no argument", said["password"].encode() not in file.read())
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=20)
        check.equal("it leaves nothing", [], [name for name in os.listdir(place) if name.startswith("tollgate-demo-")])
    finally:
        os.umask(umask)


def planted():
    """The search sees what the program never says: in a file, in an output, and in the list of processes."""
    control(check)
    mine = Secrets()
    word = mine.new("planted")
    path = text_file("planted/file", b"\0" * 1000 + word.encode() + b"\n")
    found = [name for name in files(os.path.dirname(path)) if mine.find(open(name, "rb").read())]
    check.equal("a planted file is found", [path], found)
    process = subprocess.Popen([sys.executable, "-c", "input()", word], stdin=subprocess.PIPE)
    words = b""
    # The list of arguments is empty for a moment while the program begins.
    for _ in range(1000):
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            words = file.read()
        if words:
            break
        time.sleep(0.001)
    check("a planted argument is found", mine.find(words))
    process.communicate(b"\n")
    done = run(PROGRAM, "token", "inspect", "--config", word)
    check("a planted word in an error is found", mine.find(spoken(done).encode()), spoken(done))


def main():
    upstream = Upstream()
    upstream.start()
    try:
        check.section("the search", planted)
        check.section("mistakes in the configuration", mistakes, upstream)
        check.section("starts that fail", start_failures, upstream)
        check.section("a life in JSON", life, upstream, "json", False)
        check.section("a life in plain text", life, upstream, "pretty", True)
        check.section("changes", changes, upstream)
        check.section("what commands make", commands_make_private_files)
        for path in files(work):
            name = os.path.relpath(path, work)
            if name.endswith("log"):
                with open(path, "rb") as file:
                    secrets.absent(check, f"{name}, once all secrets are known", file.read())
    finally:
        if check.failed == 0:
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"what was made is in {work}")
    check.finish(LEAST)


main()
