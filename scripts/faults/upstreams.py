"""Faults of upstreams and of the way to them: servers that flap, stand still or lie, names, ports."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

from common import SCRIPTS, Load, ask, fault, free_port, must, need_mounts, need_namespaces, until, wait_for
from frames import Client

MODES = ("killed", "stopped", "refusing", "silent", "cut", "slow", "closing")


class Flapping:
    """An upstream on one port that goes and comes."""

    def __init__(self, trial):
        self.trial, self.port, self.seen, self.process = trial, free_port(), f"{trial.work}/seen", None

    def start(self, mode="good"):
        self.process = self.trial.process(sys.executable, f"{SCRIPTS}/faults/flapping.py", "--port", self.port, "--seen", self.seen, "--mode", mode)

    def end(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def flap(self, mode, seconds):
        """For some seconds: killed and started again every 0.2 to 3 s, or wrong in one way."""
        ends, number = time.monotonic() + seconds, 0
        if mode == "killed":
            while time.monotonic() < ends:
                self.end()
                self.start()
                time.sleep((0.3, 0.9, 0.5, 1.4)[number % 4])
                number += 1
            return
        self.end()
        if mode == "stopped":
            self.start()
            wait_for(self.port, self.process)
            self.process.send_signal(signal.SIGSTOP)
        elif mode != "refusing":
            self.start(mode)
        time.sleep(max(0, ends - time.monotonic()))


class Nonces:
    """Requests, each with a number of its own, to the upstream that flaps."""

    def __init__(self, port, token):
        self.port, self.token, self.sent, self.statuses = port, token, Counter(), Counter()
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(number,), daemon=True) for number in range(4)]

    def work(self, worker):
        number = 0
        while not self.stopping.is_set():
            number += 1
            method = ("GET", "POST")[number % 2]
            fields, body = {"X-Nonce": f"{worker}-{number}"}, b"order" if method == "POST" else None
            answer = ask(self.port, method, "/bad/", body, token=self.token, fields=fields, timeout=4)
            with self.lock:
                self.sent[method] += 1
                self.statuses[answer.status] += 1
            time.sleep(0.01)

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=10)


def measured(gateway, token, seconds):
    with Load(gateway.port, "/", token, threads=2, pause=0.005) as load:
        time.sleep(seconds)
    return load


@fault("X5", "an upstream is killed, stopped, refuses, is silent, cuts, drips, closes; the others go on", 120)
def flapping(trial):
    good, _ = trial.upstream()
    bad = Flapping(trial)
    bad.start()
    more = f'[upstreams.bad]\ntargets = ["http://127.0.0.1:{bad.port}"]\nresponse_timeout = "1s"\nconnect_timeout = "1s"\nmax_connections = 32\n'
    route = '[[routes]]\npath = "/bad"\nauth = "required"\nupstream = "bad"'
    gateway = trial.gateway("flapping", good, sections=more, route=route).start()
    token = gateway.login().json()["access"]
    span = 3 * max(1, trial.size)
    nonces = Nonces(gateway.port, token)
    for thread in nonces.threads:
        thread.start()
    time.sleep(0.5)
    base = measured(gateway, token, span)
    for mode in MODES:
        flap = threading.Thread(target=bad.flap, args=(mode, span))
        flap.start()
        load = measured(gateway, token, span)
        flap.join()
        bad.end()
        bad.start()
        wait_for(bad.port, bad.process)
        back = until(5, lambda: ask(gateway.port, "GET", "/bad/", token=token, timeout=3).status == 200)
        allowed = max(1.5 * base.ms(0.99), base.ms(0.99) + 25)
        trial.check(f"{mode}: others have no error", not load.bad(), load.statuses)
        trial.check(f"{mode}: others' p99 keeps", load.ms(0.99) <= allowed, f"{load.ms(0.99):.1f} ms, before {base.ms(0.99):.1f} ms")
        trial.check(f"{mode}: it is used again when it is back", back is not None and back < 2, back)
        trial.note(f"{mode}: others {load.statuses}, p99 {load.ms(0.99):.1f} ms (before {base.ms(0.99):.1f}), back after {(back or 9):.2f} s")
    nonces.end()
    with open(bad.seen) as file:
        seen = Counter(tuple(line.split()) for line in file)
    posts = [nonce for (method, nonce), count in seen.items() if method == "POST" and count > 1]
    total, sent = sum(seen.values()), sum(nonces.sent.values())
    trial.check("no POST comes twice", not posts, posts[:5])
    trial.check("at most 1.1 times the requests", total <= 1.1 * sent, f"{total} of {sent}")
    trial.check("enough was asked", sent > 200 and seen, f"{sent} {len(seen)}")
    trial.check("failures are told as such", set(nonces.statuses) <= {200, 0, 502, 503, 504}, nonces.statuses)
    trial.note(f"{sent} requests to the flapping one {dict(nonces.statuses)}, {total} came")


@fault("X14", "an upstream's name that is unknown, slow to resolve, changes; 20 local ports", 60)
def names_and_ports(trial):
    """In a network of its own, with loopback alone, and with files of names of its own."""
    if os.environ.get("FAULTS_OWN_NETWORK") == "1":
        names(trial)
        slow_names(trial)
        ports(trial)
        return
    need_mounts()
    need_namespaces("-n")
    inside = ["env", "FAULTS_OWN_NETWORK=1", sys.executable, f"{SCRIPTS}/faults", "--one", "X14", trial.program]
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *inside]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=55)
    print("\n".join(done.stdout.splitlines()[:-1]))
    counted = re.findall(r"^(\d+) passed, (\d+) failed$", done.stdout, re.M)
    trial.check.passed += sum(int(passed) for passed, _ in counted)
    trial.check("all of it holds", done.returncode == 0, done.stdout[-300:])


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def names(trial):
    """The machine's own files of names stay as they are: this process sees others in their place."""
    hosts, resolver = f"{trial.work}/hosts", f"{trial.work}/resolv.conf"
    write(hosts, "127.0.0.1 localhost\n")
    write(resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    need_mounts()
    for ours, theirs in ((hosts, "/etc/hosts"), (resolver, "/etc/resolv.conf")):
        must("mount", "--bind", ours, theirs)
    port, _ = trial.upstream()
    more = f'[upstreams.named]\ntargets = ["http://upstream.test:{port}"]\nconnect_timeout = "2s"\n'
    route = '[[routes]]\npath = "/named"\nauth = "public"\nupstream = "named"'
    gateway = trial.gateway("names", port, sections=more, route=route, server="workers = 1").start()
    answer = gateway.get("/named")
    trial.check("an unknown name is 502 or 503", answer.status in (502, 503), answer)
    write(hosts, "127.0.0.1 localhost\n127.0.0.1 upstream.test\n")
    took = until(5, lambda: gateway.get("/named").status == 200)
    trial.check("when it is known it is used, without a restart", took is not None and took < 2, took)
    write(hosts, "127.0.0.1 localhost\n127.0.0.9 upstream.test\n")
    trial.check("a connection that is open goes on when the name changes", gateway.get("/named").status == 200)
    trial.note(f"a name that became known was used after {(took or 9):.2f} s")
    gateway.kill()


def slow_names(trial):
    """A resolver that never answers: only those wait who ask for the name, and the end does not wait for it."""
    hole = trial.process(sys.executable, "-c", HOLE)
    write(f"{trial.work}/resolv.conf", "nameserver 127.0.0.1\noptions timeout:10 attempts:3\n")
    port, _ = trial.upstream()
    more = f'[upstreams.named]\ntargets = ["http://slow.test:{port}"]\nconnect_timeout = "1s"\n'
    route = '[[routes]]\npath = "/named"\nauth = "public"\nupstream = "named"'
    gateway = trial.gateway("slow-names", port, sections=more, route=route).start()
    with Load(gateway.port, "/named", threads=20, pause=0.05) as waiting:
        with Load(gateway.port, "/open") as load:
            time.sleep(3)
    trial.check("who asks for the name gets 502 to 504 within connect_timeout", set(waiting.statuses) <= {502, 503, 504} and waiting.ms(0.99) < 3000,
                f"{waiting.statuses} p99 {waiting.ms(0.99):.0f} ms")
    trial.check("others do not wait", not load.bad() and load.ms(0.99) < 200, f"{load.statuses} p99 {load.ms(0.99):.0f} ms")
    with open(f"/proc/{gateway.pid}/status") as status:
        threads = next(int(line.split()[1]) for line in status if line.startswith("Threads"))
    code, seconds = gateway.stop(within=20)
    trial.check("the end does not wait for the resolver", code == 0 and seconds < 2, f"{code} after {seconds:.1f} s")
    trial.check("the resolver was there and silent", hole.poll() is None)
    trial.note(f"silent resolver: {waiting.statuses}, {threads} threads, others p99 {load.ms(0.99):.0f} ms, ended after {seconds:.1f} s")


# Takes questions for names and answers none.
HOLE = """
import socket, time
hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
hole.bind(("127.0.0.1", 53))
time.sleep(600)
"""


def ports(trial):
    """20 ports for all connections that begin on this machine."""
    write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50019")
    upstream = 40001
    process = trial.process(sys.executable, f"{SCRIPTS}/faults/flapping.py", "--port", upstream)
    wait_for(upstream, process)
    gateway = trial.gateway("ports", upstream, server="")
    with open(gateway.config) as file:
        text = file.read().replace(f"127.0.0.1:{gateway.port}", "127.0.0.1:40002").replace(f"127.0.0.1:{gateway.admin}", "127.0.0.1:40003")
    write(gateway.config, text)
    gateway.port, gateway.admin = 40002, 40003
    gateway.start()
    trial.check("it serves", gateway.get("/open").status == 200)
    # One client with 60 streams, each of which takes a connection to the upstream, and with it a port.
    client = Client(40002)
    for _ in range(60):
        client.get("/open/wait?0.5")
    client.read(15, lambda: client.ended == 60)
    client.close()
    other = 60 - client.statuses.get(200, 0)
    trial.check("without ports some are refused, the others answered", client.ended == 60 and 0 < other < 60, f"{client.statuses} {client.ended}")
    took = until(60, lambda: ask(40002, "GET", "/open", timeout=2).status == 200)
    trial.check("it recovers at once", took is not None and took < 2, took)
    trial.note(f"20 local ports, 60 requests at once: {client.statuses.get(200, 0)} answered, {other} refused, back after {(took or 99):.2f} s")
