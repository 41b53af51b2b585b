"""Faults of the machine: the clock jumps, descriptors and memory run out, the process stands still."""

import glob
import os
import signal
import threading
import time

from common import Load, Skip, ask, connect, fault, install, need_root, read_all, run, until

ROTATING = 'rotate_refresh = true\nreuse_grace = "10m"'


def faketime():
    """The library that lies about the time."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found and os.geteuid() == 0:
        install("faketime")
        found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise Skip("libfaketime is missing (package faketime)")
    return found[0]


class FalseClock:
    def __init__(self, trial):
        self.file = f"{trial.work}/time"
        self.env = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
        self.set("+0")

    def set(self, shift):
        with open(f"{self.file}.new", "w") as file:
            file.write(f"{shift}\n")
        os.rename(f"{self.file}.new", self.file)


@fault("X6", "the clock jumps an hour ahead and a day back, and begins in 1970", 60, quick=True)
def clock(trial):
    false = FalseClock(trial)
    port, _ = trial.upstream()
    gateway = trial.gateway("clock", port, tokens=ROTATING, server='[server.limits]\nheader_timeout = "1s"').start(env=false.env)
    kept, out, spent = (gateway.login().json() for _ in range(3))
    trial.check("a token passes", gateway.get(token=kept["access"]).status == 200)
    gateway.logout(out["refresh"])
    successor = gateway.refresh(spent["refresh"]).json()["refresh"]
    trial.check("its successor is used", gateway.refresh(successor).status == 200)
    with Load(gateway.port, "/open") as load:
        ahead(trial, gateway, false, kept)
        back(trial, gateway, false, (kept, out, spent))
    far_ahead_and_back(trial, gateway, false, (out, spent))
    trial.check("requests that need no time go on", not load.bad() and load.ms(0.99) < 1000, f"{load.statuses} p99 {load.ms(0.99):.0f} ms")
    trial.check("nothing panicked", "panick" not in gateway.said(), gateway.said()[-400:])
    trial.note(f"meanwhile {sum(load.statuses.values())} public requests {load.statuses}, p99 {load.ms(0.99):.0f} ms")
    gateway.kill()
    in_1970(trial, false, port)


def ahead(trial, gateway, false, kept):
    false.set("+1h")
    took = until(3, lambda: gateway.get(token=kept["access"]).status == 401)
    trial.check("an hour ahead: an access token has expired", took is not None)
    answer = gateway.refresh(kept["refresh"])
    trial.check("an hour ahead: a refresh token works, and its access token passes", answer.status == 200
                and gateway.get(token=answer.json()["access"]).status == 200, answer)
    slow_head(trial, gateway, "an hour ahead")


def slow_head(trial, gateway, when):
    """A head that never ends has its own time, whatever the clock says."""
    with connect(gateway.port) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        _, took = read_all(slow)
    trial.check(f"{when}: header_timeout is a second", 0.8 < took < 2, f"{took:.2f} s")


def back(trial, gateway, false, pairs):
    kept, out, spent = pairs
    false.set("-1d")
    time.sleep(0.3)
    trial.check("a day back: who was logged out stays out", gateway.refresh(out["refresh"]).status == 401)
    trial.check("a day back: his access token too", gateway.get(token=out["access"]).status == 401)
    trial.check("a day back: what was used up stays so", gateway.refresh(spent["refresh"]).status == 401)
    answer = gateway.login()
    trial.check("a day back: a new login works", answer.status == 200 and gateway.get(token=answer.json()["access"]).status == 200, answer)
    slow_head(trial, gateway, "a day back")


def far_ahead_and_back(trial, gateway, false, pairs):
    """What has expired is forgotten once a minute, and at the start; a clock that was wrong must not make anybody forget."""
    out, spent = pairs
    false.set("+3d")
    gateway.kill()
    gateway.start(env=false.env)
    time.sleep(0.7)
    false.set("+0")
    time.sleep(0.3)
    answer = gateway.refresh(out["refresh"])
    trial.check("three days ahead at a restart, then right again: who was logged out stays out", answer.status == 401, answer)
    trial.check("his access token too", gateway.get(token=out["access"]).status == 401)
    answer = gateway.refresh(spent["refresh"])
    trial.check("what was used up stays so", answer.status == 401, answer)
    trial.check("logins go on", gateway.login().status == 200)


def in_1970(trial, false, port):
    false.set("@1970-01-02 00:00:00")
    gateway = trial.gateway("in-1970", port)
    pair = trial.gateway("today", port).start().login().json()
    gateway.start(env=false.env, wait=False)
    serves = until(10, lambda: not gateway.runs() or ask(gateway.port, "GET", "/open").status == 200)
    trial.check("in 1970: it serves what needs no token", serves is not None and gateway.runs(), gateway.said()[-400:])
    answer = gateway.login()
    trial.check("in 1970: nothing is issued", answer.status == 500, answer)
    trial.check("in 1970: nor exchanged", gateway.refresh(pair["refresh"]).status in (401, 500))
    trial.check("in 1970: no token passes", gateway.get(token=pair["access"]).status == 401)
    trial.check("in 1970: the log says what to do", "clock" in gateway.said(), gateway.said()[-400:])
    env = {**os.environ, **false.env}
    done = run(trial.program, "token", "mint", "--user", "alice", "--config", gateway.config, env=env)
    trial.check("in 1970: no token is minted", done.returncode != 0 and "clock" in done.stderr, done.stderr)
    false.set("+0")
    took = until(5, lambda: gateway.login().status == 200)
    trial.check("when the clock is right it issues", took is not None, gateway.said()[-400:])


@fault("X7", "64 descriptors, 200 clients", 40, quick=True)
def descriptors(trial):
    port, _ = trial.upstream()
    gateway = trial.gateway("descriptors", port).start(under=["prlimit", "--nofile=64", "--"])
    pair = gateway.known_login()
    clients = []
    for _ in range(200):
        try:
            clients.append(connect(gateway.port, timeout=2))
        except OSError:
            pass
    time.sleep(0.5)
    lines, used, began = len(gateway.said().splitlines()), gateway.processor_seconds(), time.monotonic()
    time.sleep(max(3, 3 * min(trial.size, 10)))
    seconds = time.monotonic() - began
    share = (gateway.processor_seconds() - used) / seconds
    rate = (len(gateway.said().splitlines()) - lines) / seconds
    trial.check("it does not spin: less than a tenth of a processor", share < 0.1, f"{share:.0%}")
    trial.check("it tells about once a second", 0.3 <= rate <= 2, f"{rate:.1f} lines a second: {gateway.said()[-300:]}")
    for client in clients:
        client.close()
    took = until(5, lambda: ask(gateway.port, "GET", "/", token=pair["access"], timeout=2).status == 200)
    trial.check("it recovers within a second", took is not None and took < 1, took)
    login = until(5, lambda: gateway.login().status == 200)
    trial.check("logins too", login is not None and login < 1, login)
    trial.note(f"{len(clients)} clients: {share:.1%} of a processor, {rate:.1f} lines a second, back after {(took or 0):.2f} s")
    code, _ = gateway.stop()
    trial.check("it ends cleanly", code == 0, code)


class Ceiling:
    """A memory limit by a control group of either version; where there is none, what was used is compared with it."""

    def __init__(self, trial, mb):
        need_root()
        self.mb, self.path = mb, None
        for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            path = f"{parent}/tollgate-{os.getpid()}"
            try:
                os.mkdir(path)
                with open(f"{path}/{limit}", "w") as file:
                    file.write(str(mb << 20))
                self.path = path
                return
            except OSError:
                if os.path.isdir(path):
                    os.rmdir(path)

    def words(self):
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh"] if self.path else []

    def end(self):
        if self.path:
            until(5, lambda: not open(f"{self.path}/cgroup.procs").read().strip())
            os.rmdir(self.path)


@fault("X8", "a ceiling of 96 MB, a flood of logins, and large bodies up and down that nobody hurries", 60)
def memory(trial):
    port, _ = trial.upstream()
    ceiling = Ceiling(trial, 96)
    hashing = '[server.limits]\nmax_body = "0"\nmin_rate = "0"'
    gateway = trial.gateway("memory", port, server=hashing)
    with open(gateway.config) as file:
        costly = 'memory = "8MiB"\niterations = 2\nmax_memory = "32MiB"\nmax_queue = 64\n[users.lockout]\nattempts = 1000000'
        text = file.read().replace('memory = "64KiB"\niterations = 1', costly)
    with open(gateway.config, "w") as file:
        file.write(text)
    try:
        gateway.start(under=ceiling.words())
        pair = gateway.login().json()
        gateway.get("/who", token=pair["access"])
        slow = [slow_transfer(gateway.port, pair["access"], number) for number in range(int(40 * max(1, trial.size)))]
        statuses = {}
        with Load(gateway.port, "/who", pair["access"]) as load:
            flood(gateway, statuses, 5 * max(1, trial.size))
        trial.check("it lives", gateway.runs(), f"it ended with {gateway.process.poll()}")
        trial.check("logins get an answer", set(statuses) <= {200, 401, 429, 503}, statuses)
        trial.check("who is known is served", not load.bad(), load.statuses)
        answer = gateway.get("/who", token=pair["access"])
        trial.check("and afterwards", answer.status == 200, answer)
        peak = gateway.memory_mb()
        trial.check(f"it keeps below {ceiling.mb} MB", peak < ceiling.mb, f"{peak:.0f} MB")
        for one in slow:
            one.close()
        how = "control group" if ceiling.path else "no control group, measured"
        trial.note(f"{how}: peak {peak:.0f} MB with {len(slow)} slow transfers, logins {statuses}, others {load.statuses}")
        gateway.kill()
    finally:
        ceiling.end()


def slow_transfer(port, token, number):
    """An upload of 1 GB of which a little comes, or a download of 1 GB of which nothing is read."""
    connection = connect(port)
    head = f"Host: x\r\nAuthorization: Bearer {token}\r\n"
    if number % 2:
        connection.sendall(f"POST /up HTTP/1.1\r\n{head}Content-Length: {1 << 30}\r\n\r\n".encode() + b"u" * 65536)
    else:
        connection.sendall(f"GET /large?{1 << 30} HTTP/1.1\r\n{head}\r\n".encode())
    return connection


def flood(gateway, statuses, seconds):
    lock, ends = threading.Lock(), time.monotonic() + seconds

    def work(number):
        while time.monotonic() < ends and gateway.runs():
            body = {"username": f"user-{number}-{time.monotonic_ns() % 50}", "password": "wrong"}
            answer = gateway.post("/api/token/", body)
            with lock:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@fault("X9", "the process stands still for 3 s and goes on", 40, quick=True)
def frozen(trial):
    port, _ = trial.upstream()
    limits = '[server.limits]\nheader_timeout = "2s"\nbody_timeout = "2s"\nidle_timeout = "30s"'
    gateway = trial.gateway("frozen", port, server=limits).start()
    pair = gateway.known_login()
    head = f"Host: x\r\nAuthorization: Bearer {pair['access']}\r\n".encode()
    heads, bodies, waiting = ([connect(gateway.port) for _ in range(20)] for _ in range(3))
    for one in heads:
        one.sendall(b"GET / HTTP/1.1\r\n")
    for one in bodies:
        one.sendall(b"POST / HTTP/1.1\r\n" + head + b"Content-Length: 10\r\n\r\nfirst")
    for one in waiting:
        one.sendall(b"GET /wait?1 HTTP/1.1\r\n" + head + b"\r\n")
    time.sleep(0.3)
    gateway.signal(signal.SIGSTOP)
    for one in heads[10:]:
        one.sendall(head + b"\r\n")
    for one in bodies[10:]:
        one.sendall(b"other")
    time.sleep(3)
    gateway.signal(signal.SIGCONT)
    began = time.monotonic()
    # Who had sent everything in time, as far as the gateway could know, is served.
    answers = [first_line(one) for one in heads[10:] + bodies[10:] + waiting]
    trial.check("who had sent all is served after the thaw", set(answers) == {b"HTTP/1.1 200 OK"}, {line: answers.count(line) for line in answers})
    took = time.monotonic() - began
    rest = [(first_line(one), time.monotonic() - began) for one in heads[:10] + bodies[:10]]
    trial.check("who had not is refused once", all(b"408" in line for line, _ in rest), rest[:3])
    trial.check("and not at the very moment of the thaw", rest[0][1] > 1, f"{rest[0][1]:.2f} s")
    answer = gateway.get("/who", token=pair["access"])
    trial.check("then all is as before", answer.status == 200, answer)
    trial.note(f"served after {took:.2f} s, others refused after {rest[0][1]:.2f} to {rest[-1][1]:.2f} s")
    two = [first_line(one) for one in heads[:10]]
    trial.check("timeouts fire once", set(two) == {b""}, two[:3])


def first_line(connection):
    connection.settimeout(10)
    try:
        return connection.recv(65536).split(b"\r\n")[0]
    except OSError:
        return b""
