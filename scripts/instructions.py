"""Instructions that the gateway takes in user space for a request, counted by valgrind's callgrind. They hardly differ
between two runs, so a change that costs one in a hundred is seen, whatever else the machine does.

    scripts/instructions.py [PROGRAM] [--requests N] [--connections N] [--scene NAME] [--caches] [--profile FILE] [--gate BUILD]

`--profile` keeps what callgrind has written of the last scene, for callgrind_annotate. `--gate` fails where a scene takes
more than benches/instructions.json states for this build ("debug" or "release"); docs/performance.md says how to state
new figures. `--caches` simulates a first cache of 32 KiB for code and one for data, and tells how often the one for code
has not what a request executes next; several connections take turns then as they do under load."""

import argparse
import glob
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Checks, end, free_port, must, need

BODY = json.dumps({"status": "ok", "user": "1", "items": list(range(1, 11)), "message": "hello from the api behind the gateway"}).encode()
ANSWER = (b"HTTP/1.1 200 OK\r\nServer: api\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
          b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(BODY)) + BODY
# Until threads have settled, tables have grown and the token is known.
WARM_UP = 300
CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=524288,8,64")
STATED = "benches/instructions.json"
# What a scene has beside one route to one upstream: an admin listener, without which nothing is counted; a line in the log
# for every request; limits by network and by user.
SCENES = {
    "plain": (),
    "metrics": ("admin",),
    "access log": ("log",),
    "limits": ("limits",),
    "everything": ("admin", "log", "limits"),
}
LIMITS = """[limits.network]
key = "ip"
rate = "1000000/s"
[limits.user]
key = "user"
rate = "1000000/s"
"""


def upstream():
    """Answers every request on every connection at once, until the program ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        pending = b""
        while piece := connection.recv(65536):
            pending += piece
            while (place := pending.find(b"\r\n\r\n")) >= 0:
                pending = pending[place + 4:]
                connection.sendall(ANSWER)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def configure(work, port, upstream_port, has):
    with open(f"{work}/secret", "w") as secret:
        secret.write("a secret of this measurement alone, 48 bytes long")
    os.chmod(f"{work}/secret", 0o600)
    admin = f"127.0.0.1:{free_port()}" if "admin" in has else ""
    limit = 'limit = ["network", "user"]' if "limits" in has else ""
    with open(f"{work}/gateway.toml", "w") as file:
        file.write(f"""[server]
listen = ["127.0.0.1:{port}"]
admin = "{admin}"
workers = 1
[store]
url = "sqlite://{work}/tollgate.db"
[tokens]
issuer = "bench"
[[tokens.keys]]
kid = "HS256"
alg = "HS256"
secret_file = "{work}/secret"
[upstreams.api]
targets = ["http://127.0.0.1:{upstream_port}"]
[[routes]]
name = "all"
path = "/"
auth = "required"
upstream = "api"
{limit}
{LIMITS if "limits" in has else ""}
[log]
level = "error"
access = {"true" if "log" in has else "false"}
""")
    return f"{work}/gateway.toml"


class Client:
    """Keep-alive connections. All of them ask, and then all of them read."""

    def __init__(self, port, token, connections):
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        self.request = f"GET /items?page=2 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    def ask(self, times):
        """How many of so many requests got the upstream's answer."""
        right = 0
        for begun in range(0, times, len(self.sockets)):
            asking = self.sockets[:times - begun]
            for connection in asking:
                connection.sendall(self.request)
            for connection in asking:
                answer = b""
                while not answer.endswith(BODY):
                    piece = connection.recv(65536)
                    if not piece:
                        return right
                    answer += piece
                right += answer.startswith(b"HTTP/1.1 200 ")
        return right


def totals(name):
    """What was counted of each kind: instructions, and where caches were simulated, misses."""
    events, counts = [], []
    with open(name, errors="replace") as file:
        for line in file:
            if found := re.match(r"events: (.+)", line):
                events = found[1].split()
            if found := re.match(r"(?:summary|totals): (.+)", line):
                counts = [int(count) for count in found[1].split()]
    return dict(zip(events, counts))


def measure(program, requests, has, profile, connections, caches):
    """What was counted of each kind for a request, and whether all of the requests were answered as they should be."""
    work = tempfile.mkdtemp()
    process = None
    try:
        port = free_port()
        config = configure(work, port, upstream(), has)
        must(program, "user", "add", "bench", "--config", config, input="bench of the instructions\n")
        token = must(program, "token", "mint", "--user", "bench", "--config", config).strip()
        process = subprocess.Popen(
            # Every file names its functions: what is kept is the second one.
            ["valgrind", "--tool=callgrind", *caches, f"--callgrind-out-file={work}/callgrind.out", "--separate-threads=no", "--compress-strings=no",
             program, "run", "--config", config],
            stdout=subprocess.DEVNULL, stderr=open(f"{work}/errors", "w"))
        client = Client(listening(port, process), token, connections)
        right = client.ask(WARM_UP)
        before = set(glob.glob(f"{work}/callgrind.out*"))
        must("callgrind_control", "--dump", process.pid, timeout=120)
        warm = set(glob.glob(f"{work}/callgrind.out*"))
        right += client.ask(requests)
        must("callgrind_control", "--dump", process.pid, timeout=120)
        files = set(glob.glob(f"{work}/callgrind.out*")) - warm
        if not warm - before or len(files) != 1:
            raise RuntimeError(f"callgrind has written {len(files)} files")
        if profile:
            shutil.copy(next(iter(files)), profile)
        return {kind: count / requests for kind, count in totals(next(iter(files))).items()}, right == WARM_UP + requests
    except OSError as error:
        with open(f"{work}/errors", errors="replace") as errors:
            raise RuntimeError(f"{error}: {errors.read()[-2000:]}") from None
    finally:
        end([process])
        shutil.rmtree(work)


def least(most, *asked):
    """The least of up to three counts, as long as they are above `most`. What a gateway does ten times a second is counted with
    the requests, and there is more of it where a busy machine takes longer for them."""
    counts, right = measure(*asked)
    for _ in range(2):
        if counts["Ir"] > most:
            again, right_again = measure(*asked)
            counts, right = min(counts, again, key=lambda counts: counts["Ir"]), right and right_again
    return counts, right


def listening(port, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return port
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the gateway does not listen")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program", nargs="?", default="target/release/tollgate")
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--connections", type=int, default=1)
    options.add_argument("--caches", action="store_true")
    options.add_argument("--scene", choices=list(SCENES))
    options.add_argument("--profile")
    options.add_argument("--gate", metavar="BUILD", choices=["debug", "release"])
    options = options.parse_args()
    need("valgrind", "callgrind_control")
    check = Checks()
    with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), STATED)) as file:
        stated = json.load(file)
    gated = stated["instructions"].get(options.gate, {})
    program, caches, plain = os.path.abspath(options.program), CACHES if options.caches else (), None
    for scene in [options.scene] if options.scene else list(gated) or list(SCENES):
        most = gated[scene] * (1 + stated["tolerance"]) if scene in gated else math.inf
        counts, right = least(most, program, options.requests, SCENES[scene], options.profile, options.connections, caches)
        count = counts["Ir"]
        plain = plain or count
        print(f"{scene}: {count:.0f} instructions a request, {count / plain:.3f} of the first", flush=True)
        if options.caches:
            print(f"{scene}: {counts['I1mr']:.0f} times code was not in the first cache", flush=True)
        check(f"{scene}: every request is answered by the upstream", right)
        if scene in gated:
            check(f"{scene}: at most {most:.0f} instructions a request", count <= most, f"{count:.0f}")
            # Figures that were never lowered would let a slow-down pass.
            lowest = gated[scene] * (1 - 3 * stated["tolerance"])
            check(f"{scene}: what is stated is not far above what is measured", count >= lowest, f"{count:.0f}")
    check.finish(2 * len(gated) or 1)


main()
