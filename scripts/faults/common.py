"""What the faults share: the list of them, a gateway that is run under something, and clients that tell what they saw."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import Checks, Gateway, end, free_port, must, run, wait_for  # noqa: E402, F401

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PASSWORD = "correct horse"
CHEAP = '[users.hashing]\nmemory = "64KiB"\niterations = 1\n'
FAULTS = []


class Skip(Exception):
    """The fault cannot be made on this machine."""


class Fault:
    def __init__(self, name, what, limit, quick, make):
        self.name, self.what, self.limit, self.quick, self.make = name, what, limit, quick, make


def fault(name, what, limit, quick=False):
    """Registers a fault: its name, what is done, and how many seconds it may take in its default size."""

    def register(make):
        FAULTS.append(Fault(name, what, limit, quick, make))
        return make

    return register


class Trial:
    """Where a fault is tried: a directory, the program, how much of everything, and what held."""

    def __init__(self, work, program, size):
        self.work, self.program, self.size = work, program, size
        self.check = Checks()
        self.started = []

    def note(self, text):
        """A line about what was measured."""
        print(f"  {text}", flush=True)

    def gateway(self, name, upstream=9, users=("alice",), **options):
        gateway = Faulty(self.program, self.work, name, upstream, **options)
        for user in users:
            must(self.program, "user", "add", user, "--config", gateway.config, input=f"{PASSWORD}\n")
        self.started.append(gateway)
        return gateway

    def process(self, *words, **options):
        process = subprocess.Popen([str(word) for word in words], **options)
        self.started.append(process)
        return process

    def upstream(self, *words):
        """A process of flapping.py, and its port."""
        port = free_port()
        process = self.process(sys.executable, f"{SCRIPTS}/faults/flapping.py", "--port", port, *words)
        wait_for(port, process)
        return port, process

    def end(self):
        for one in reversed(self.started):
            process = one.process if isinstance(one, Faulty) else one
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


class Answer:
    """What a client was answered: status 0 when there was no whole answer."""

    def __init__(self, status, body=b"", fields=(), error=""):
        self.status, self.body, self.error = status, body, error
        self.fields = {name.lower(): value for name, value in fields}

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def reason(self):
        told = self.json()
        return told.get("reason") if isinstance(told, dict) else None

    def __str__(self):
        return f"{self.status} {self.reason or ''} {self.error}".strip()


def ask(port, method, path, body=None, token=None, fields=None, timeout=20):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    head = dict(fields or {})
    if token:
        head["Authorization"] = f"Bearer {token}"
    if isinstance(body, dict):
        body, head["Content-Type"] = json.dumps(body), "application/json"
    try:
        connection.request(method, path, body, head)
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.getheaders())
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, error=type(error).__name__)
    finally:
        connection.close()


def jti(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"]


class Faulty(Gateway):
    """A gateway of the harness with an upstream, a route that asks for a token, one that does not, an admin address, and
    whatever it is run under."""

    def __init__(self, program, work, name, upstream, sections="", server="", tokens="", route="", log=""):
        self.admin = free_port()
        super().__init__(
            program, work, name,
            f"{log}\n{sections}\n{CHEAP}"
            f'[upstreams.api]\ntargets = ["http://127.0.0.1:{upstream}"]\n'
            f'[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n{route}\n'
            '[[routes]]\npath = "/open"\nauth = "public"\nupstream = "api"\n',
            server=server, tokens=tokens,
        )
        with open(self.config) as file:
            text = file.read()
        with open(self.config, "w") as file:
            file.write(text.replace('admin = ""', f'admin = "127.0.0.1:{self.admin}"'))
        self.store = f"{self.place}/data/tollgate.db"

    def start(self, under=(), env=None, output=None, wait=True):
        """`under` are the words of a program that runs the gateway, such as strace."""
        self.log = open(f"{self.place}/log", "w")
        output = self.log if output is None else output
        self.process = subprocess.Popen(
            [*under, self.program, "run", "--config", self.config],
            stdout=output, stderr=self.log, env={**os.environ, **(env or {})},
        )
        if wait:
            try:
                wait_for(self.port, self.process)
            except RuntimeError as error:
                raise RuntimeError(f"{self.name}: {error}: {self.said()[-800:]}") from None
        return self

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    @property
    def pid(self):
        """Of the gateway itself, also when it runs under something."""
        pid = self.process.pid
        while True:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == os.path.basename(self.program):
                return pid
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                below = children.read().split()
            if not below:
                raise RuntimeError("the gateway is not there")
            pid = int(below[0])

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self, within=10):
        """Ends it by SIGTERM. Returns its exit code and how long it took; None when it did not end in time."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return code, time.monotonic() - began

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def post(self, path, body, **options):
        return ask(self.port, "POST", path, body, **options)

    def get(self, path="/", **options):
        return ask(self.port, "GET", path, **options)

    def login(self, user="alice", **options):
        return self.post("/api/token/", {"username": user, "password": PASSWORD}, **options)

    def known_login(self):
        """A login whose access token every thread has seen, by connections enough to reach each."""
        pair = self.login().json()
        for _ in range(30):
            self.get("/who", token=pair["access"])
        return pair

    def refresh(self, token, **options):
        return self.post("/api/token/refresh/", {"refresh": token}, **options)

    def logout(self, token, **options):
        return self.post("/api/token/blacklist/", {"refresh": token}, **options)

    def probe(self, path="/readyz"):
        return ask(self.admin, "GET", path, timeout=3).status

    def processor_seconds(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, what="VmHWM"):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(what))


def until(seconds, holds):
    """How many seconds it took until something held; None when it did not."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if holds():
            return time.monotonic() - began
        time.sleep(0.02)
    return None


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("inf")


class Load:
    """A steady stream of requests from threads, each with a connection of its own that is kept."""

    def __init__(self, port, path="/", token=None, threads=2, pause=0.01, timeout=10):
        self.port, self.path, self.pause, self.timeout = port, path, pause, timeout
        self.fields = {"Authorization": f"Bearer {token}"} if token else {}
        self.times, self.statuses, self.lock, self.stopping = [], {}, threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def work(self):
        connection = None
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
                connection.request("GET", self.path, headers=self.fields)
                response = connection.getresponse()
                response.read()
                status = response.status
                if response.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                connection, status = None, type(error).__name__
            with self.lock:
                self.times.append(time.monotonic() - began)
                self.statuses[status] = self.statuses.get(status, 0) + 1
            time.sleep(self.pause)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=self.timeout + 5)

    def bad(self):
        return {status: count for status, count in self.statuses.items() if status != 200}

    def ms(self, part):
        return percentile(self.times, part) * 1000


def need_root():
    if os.geteuid() != 0:
        raise Skip("it needs root")


def need_program(program, package):
    """Installs what is missing where that is possible."""
    if shutil.which(program):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install(package)
    if not shutil.which(program):
        raise Skip(f"{program} is missing (package {package})")


def install(package):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 120}
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], **quiet, check=False)
    subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", package], env=env, **quiet, check=False)


def need_mounts():
    need_root()
    if os.environ.get("FAULTS_OWN_MOUNTS") != "1":
        raise Skip("there is no mount namespace of its own")


def need_namespaces(*flags):
    need_root()
    need_program("unshare", "util-linux")
    if run("unshare", *flags, "true").returncode != 0:
        raise Skip(f"unshare {' '.join(flags)} is not allowed here")


def connect(port, timeout=10):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_all(connection, timeout=10):
    """What comes until the other side has closed; and how long that took."""
    connection.settimeout(timeout)
    began, got = time.monotonic(), b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except OSError:
        pass
    return got, time.monotonic() - began
