"""Faults of the store: the process is killed, the disk loses, refuses or lacks what is written, the file goes away."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from common import SCRIPTS, Load, Skip, fault, jti, need_mounts, need_program, run, until

ROTATING = 'rotate_refresh = true\nreuse_grace = "10m"'
# A page of the store with the head of its frame in the log.
FRAME = 4096 + 24


@fault("X1", "kill -9 in the middle of refreshes, again and again", 60)
def killed(trial):
    cycles = max(2, int(25 * trial.size))
    done = run(sys.executable, f"{SCRIPTS}/kill_loop.py", cycles, trial.program, timeout=3600)
    trial.note(f"{cycles} kills, scripts/kill_loop.py: {done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr[-200:]}")
    trial.check("no token is lost and none is spent twice", done.returncode == 0, done.stdout + done.stderr)


class Chain:
    """A refresh token that is exchanged again and again: what was answered, and what not."""

    def __init__(self, trial, gateway):
        self.trial, self.statuses = trial, {}
        self.before, self.token = None, gateway.login().json()["refresh"]

    def go_on(self, gateway):
        answer = gateway.refresh(self.token)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status == 200:
            self.before, self.token = self.token, answer.json()["refresh"]
        return answer

    def survive(self, gateway):
        """The last answered token works; the one before is refused, since its successor was used."""
        answer = gateway.refresh(self.token)
        self.trial.check("the last refresh token that was answered works after the restart", answer.status == 200, answer)
        if answer.status != 200:
            return
        self.before, self.token = self.token, answer.json()["refresh"]
        again = gateway.refresh(self.token)
        self.trial.check("its successor works", again.status == 200, again)
        stale = gateway.refresh(self.before)
        self.trial.check("what was used up stays so", stale.status == 401, stale)


def injected(trial, rule):
    """One gateway whose disk fails for a while, then is killed. What it answered has to be true after the restart."""
    name = re.sub(r"\W+", "-", rule)
    gateway = trial.gateway(name, tokens=ROTATING).start()
    chain, leaving = Chain(trial, gateway), gateway.login().json()
    gateway.kill()
    under = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,pwrite64,pread64", "-e", f"inject={rule}"]
    gateway.start(under=under, wait=False)
    if until(20, lambda: not gateway.runs() or gateway.listens()) is None or not gateway.runs():
        refused = gateway.process.wait(timeout=5)
        trial.check(f"{rule}: a start that fails says why", refused == 3 and "tollgate.db" in gateway.said(), gateway.said()[-300:])
        gateway.start()
        chain.survive(gateway)
        gateway.kill()
        return "refused to start"
    for _ in range(12):
        chain.go_on(gateway)
    out = gateway.logout(leaving["refresh"])
    trial.check(f"{rule}: nobody is told anything but yes or 503", set(chain.statuses) <= {200, 503}, chain.statuses)
    trial.check(f"{rule}: a logout too", out.status in (200, 503), out)
    # The numbers count for each thread, so that a first one fails at every new connection.
    if not rule.endswith("+") and "when=1." not in rule:
        recovered = until(10, lambda: gateway.login().status == 200 and chain.go_on(gateway).status == 200)
        trial.check(f"{rule}: the same process writes again when the disk does", recovered is not None, gateway.said()[-400:])
    gateway.kill()
    gateway.start()
    if out.status == 200:
        trial.check(f"{rule}: who was logged out stays out", gateway.refresh(leaving["refresh"]).status == 401)
    chain.survive(gateway)
    gateway.kill()
    return chain.statuses


@fault("X2", "the disk fails: EIO from fsync, fdatasync and pread64, EIO and ENOSPC from pwrite64, by strace", 100)
def not_written(trial):
    need_program("strace", "strace")
    rounds = max(1, int(2 * trial.size))
    # Of the first two, whichever SQLite was built to use.
    for call, error, begin in (("fsync,fdatasync", "EIO", 1), ("pwrite64", "ENOSPC", 16), ("pwrite64", "EIO", 16), ("pread64", "EIO", 12)):
        for when in [f"{first}..{first + 3}" for first in range(begin, begin + 3 * rounds, 3)] + [f"{begin + 6}+"]:
            statuses = injected(trial, f"{call}:error={error}:when={when}")
            trial.note(f"{call} {error} at {when} of each thread: refreshes answered {statuses}")


def frames_of_last_transaction(wal):
    """How many frames the last transaction of a write-ahead log has (SQLite's file format, section 4)."""
    count = (len(wal) - 32) // FRAME
    salt = wal[16:24]
    commits = []
    for number in range(count):
        head = wal[32 + number * FRAME: 32 + number * FRAME + 24]
        if head[8:16] != salt:
            break
        if int.from_bytes(head[4:8], "big"):
            commits.append(number + 1)
    return commits[-1], commits[-1] - commits[-2]


@fault("X2b", "power loss: the write-ahead log is cut at every byte of its last transaction", 100)
def cut(trial):
    gateway = trial.gateway("cut", tokens=ROTATING).start()
    out, kept = gateway.login().json(), gateway.login().json()
    trial.check("a logout before the last transaction", gateway.logout(out["refresh"]).status == 200)
    last = gateway.refresh(kept["refresh"])
    gateway.kill()
    place = f"{gateway.place}/data"
    with open(f"{place}/tollgate.db-wal", "rb") as file:
        wal = file.read()
    with open(f"{place}/tollgate.db", "rb") as file:
        main = file.read()
    end, frames = frames_of_last_transaction(wal)
    whole, shortest = 32 + end * FRAME, 32 + (end - frames) * FRAME

    def lay(length):
        for name, content in (("tollgate.db", main), ("tollgate.db-wal", wal[:length])):
            with open(f"{place}/{name}", "wb") as file:
                file.write(content)
        if os.path.exists(f"{place}/tollgate.db-shm"):
            os.remove(f"{place}/tollgate.db-shm")

    ended = spent = looked = 0
    step = max(1, int(40 / trial.size))
    lengths = sorted({*range(shortest, whole + 1, step), whole, shortest, *range(whole - 40, whole + 1)})
    for length in lengths:
        lay(length)
        with sqlite3.connect(gateway.store) as base:
            ended += base.execute("SELECT count(*) FROM revocations WHERE sid IS NOT NULL").fetchone()[0]
            spent += base.execute("SELECT count(*) FROM used_refresh_tokens").fetchone()[0]
        base.close()
        looked += 1
    trial.check("a logout that was answered is in the store after every cut", ended == looked, f"{ended} of {looked}")
    trial.check("the last transaction is there whole or not at all", spent == 1, f"in {spent} of {looked}")
    starts = 0
    for length in lengths[:: max(1, len(lengths) // max(6, int(10 * trial.size)))] + [whole]:
        lay(length)
        gateway.start()
        starts += 1
        trial.check(f"cut to {length}: who was logged out stays out", gateway.refresh(out["refresh"]).status == 401)
        trial.check(f"cut to {length}: his access token too", gateway.get(token=out["access"]).status == 401)
        answer = gateway.refresh(kept["refresh"])
        trial.check(f"cut to {length}: the other session goes on", answer.status == 200, answer)
        gateway.kill()
    same = jti(answer.json()["refresh"]) == jti(last.json()["refresh"])
    trial.check("the whole log gives the successor that was answered", same)
    lay(whole)
    for name, damage in (("tollgate.db", b"no database " * 400), ("tollgate.db", main[:5000])):
        with open(f"{place}/{name}", "wb") as file:
            file.write(damage)
        os.remove(f"{place}/tollgate.db-wal")
        done = run(trial.program, "run", "--config", gateway.config, timeout=30)
        trial.check("a store that is none is refused loudly", done.returncode == 3 and "store" in done.stderr, f"{done.returncode} {done.stderr}")
        lay(whole)
    trial.note(f"{frames} frames, {looked} cuts read, {starts} starts from a cut")


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"f" * size)
            except OSError:
                continue


def stays_useful(trial, gateway, known, what):
    """Who is known is served while the store is out of order."""
    answer = gateway.get("/who", token=known)
    trial.check(f"{what}: a token that is known passes", answer.status == 200, answer)
    answer = gateway.get("/open")
    trial.check(f"{what}: a public route is served", answer.status == 200, answer)


@fault("X3", "the disk is full, the file size limited, the log on a full device", 60, quick=True)
def full(trial):
    need_mounts()
    port, _ = trial.upstream()
    gateway = trial.gateway("full", port, tokens=ROTATING)
    shutil.move(f"{gateway.place}/data", f"{gateway.place}/first")
    os.mkdir(f"{gateway.place}/data")
    made = run("mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", f"{gateway.place}/data")
    if made.returncode != 0:
        raise Skip("tmpfs cannot be mounted")
    run("sh", "-c", f"cp -a {gateway.place}/first/. {gateway.place}/data/")
    gateway.start()
    pair = gateway.known_login()
    fill(f"{gateway.place}/data/ballast")
    statuses = [gateway.login().status for _ in range(4)] + [gateway.refresh(pair["refresh"]).status for _ in range(2)]
    trial.check("login and refresh are refused with 503", set(statuses[1:]) == {503}, statuses)
    stays_useful(trial, gateway, pair["access"], "full disk")
    trial.check("full disk: a logout is refused rather than lost", gateway.logout(pair["refresh"]).status == 503)
    os.remove(f"{gateway.place}/data/ballast")
    took = until(10, lambda: gateway.login().status == 200)
    trial.check("it recovers when there is space", took is not None and gateway.refresh(pair["refresh"]).status == 200)
    trial.note(f"full disk: {statuses}, back after {(took or 0):.2f} s")
    code, seconds = gateway.stop()
    trial.check("it ends cleanly", code == 0, f"{code} after {seconds:.1f} s")
    limited(trial, port)
    log_on_full_device(trial, port)


def limited(trial, port):
    """A limit of the size of files, which by default ends a process by SIGXFSZ."""
    gateway = trial.gateway("limited", port)
    gateway.start(under=["prlimit", "--fsize=150000", "--"], output=subprocess.DEVNULL)
    first = gateway.known_login()
    statuses = {}
    for _ in range(60):
        answer = gateway.login()
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    trial.check("file size limit: the process lives", gateway.runs(), f"it ended with {gateway.process.poll()}")
    trial.check("file size limit: logins get 200 or 503", set(statuses) <= {200, 503} and 503 in statuses, statuses)
    trial.note(f"file size limit: logins {statuses}")
    if gateway.runs():
        stays_useful(trial, gateway, first["access"], "file size limit")
        gateway.kill()


def log_on_full_device(trial, port):
    with open("/dev/full", "wb") as device:
        gateway = trial.gateway("dev-full", port, server="[server.limits]").start(output=device)
    pair = gateway.known_login()
    stays_useful(trial, gateway, pair["access"], "log on /dev/full")
    code, seconds = gateway.stop()
    trial.check("log on /dev/full: it ends cleanly", code == 0, f"{code} after {seconds:.1f} s")


@fault("X4", "the store is locked, moved away, replaced, not readable, read-only", 90, quick=True)
def gone(trial):
    port, _ = trial.upstream()
    gateway = trial.gateway("gone", port, tokens=ROTATING).start()
    pair = gateway.known_login()
    locked(trial, gateway, pair)
    moved(trial, gateway, pair)
    gateway.stop()
    unreadable(trial, port)
    read_only(trial)


def locked(trial, gateway, pair):
    seconds = min(30, 4 * max(1, trial.size))
    lock = sqlite3.connect(gateway.store, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    answers = []

    def ask():
        started = time.monotonic()
        answers.append((gateway.login().status, time.monotonic() - started))

    with Load(gateway.port, "/who", pair["access"]) as load:
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stays_useful(trial, gateway, pair["access"], "locked")
        time.sleep(max(0, began + seconds - time.monotonic()))
    lock.execute("ROLLBACK")
    lock.close()
    longest = max(took for _, took in answers)
    trial.check("locked: logins get 503", {status for status, _ in answers} == {503}, answers)
    trial.check("locked: nobody waits longer than 5 s", longest < 5, f"{longest:.1f} s")
    trial.check("locked: who is known does not wait", not load.bad() and load.ms(0.99) < 500, f"{load.statuses} p99 {load.ms(0.99):.0f} ms")
    took = until(10, lambda: gateway.login().status == 200)
    trial.check("locked: it recovers", took is not None)
    trial.note(f"locked {seconds} s: 503 after at most {longest:.1f} s, back after {(took or 0):.2f} s, others' p99 {load.ms(0.99):.0f} ms")


def moved(trial, gateway, pair):
    """The file is moved away; then somebody else puts another one in its place."""
    away = f"{gateway.place}/away"
    os.rename(f"{gateway.place}/data", away)
    time.sleep(0.3)
    statuses = [gateway.login().status, gateway.refresh(pair["refresh"]).status]
    trial.check("moved away: nothing is written where nobody finds it", set(statuses) == {503}, statuses)
    stays_useful(trial, gateway, pair["access"], "moved away")
    done = run(trial.program, "session", "revoke", "--all", "--config", gateway.config)
    trial.check("moved away: a revocation is not lost in a new store", done.returncode != 0 and "tollgate.db" in done.stderr, done.stderr)
    run(trial.program, "user", "add", "bob", "--config", gateway.config, input="some password\n")
    time.sleep(0.3)
    statuses = [gateway.login().status, gateway.refresh(pair["refresh"]).status]
    trial.check("replaced: another file is not taken for the store", set(statuses) == {503}, statuses)
    trial.check("replaced: it is told", "is not the file that was opened" in gateway.said(), gateway.said()[-300:])
    shutil.rmtree(f"{gateway.place}/data", ignore_errors=True)
    os.rename(away, f"{gateway.place}/data")
    took = until(10, lambda: gateway.login().status == 200)
    trial.check("moved back: it recovers", took is not None)
    answer = gateway.refresh(pair["refresh"])
    trial.check("moved back: nothing was lost", answer.status == 200, answer)


def unreadable(trial, port):
    """Nobody but root may read a file of mode 000, so the gateway is somebody else."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        trial.note("not readable: not tried, it needs root and setpriv")
        return
    gateway = trial.gateway("unreadable", port)
    os.chmod(trial.work, 0o755)
    shutil.copy(trial.program, f"{trial.work}/tollgate")
    run("chown", "-R", "65534:65534", gateway.place, f"{trial.work}/signing.pem")
    gateway.program = f"{trial.work}/tollgate"
    gateway.start(under=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"])
    pair = gateway.known_login()
    os.chmod(gateway.store, 0)
    os.chmod(f"{gateway.place}/data", 0)
    statuses = {gateway.login().status for _ in range(5)}
    trial.check("mode 000: logins get 200 by what is open, or 503", statuses <= {200, 503}, statuses)
    stays_useful(trial, gateway, pair["access"], "mode 000")
    os.chmod(f"{gateway.place}/data", 0o700)
    gateway.kill()
    done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", gateway.program, "run", "--config", gateway.config)
    refused = done.returncode == 3 and "tollgate.db" in done.stderr
    trial.check("mode 000: it does not start, and says why", refused, f"{done.returncode} {done.stderr}")


def read_only(trial):
    if os.environ.get("FAULTS_OWN_MOUNTS") != "1":
        trial.note("read-only: not tried, there is no mount namespace of its own")
        return
    gateway = trial.gateway("read-only")
    data = f"{gateway.place}/data"
    run("mount", "--bind", data, data)
    run("mount", "-o", "remount,bind,ro", data)
    done = run(trial.program, "run", "--config", gateway.config)
    refused = done.returncode == 3 and "tollgate.db" in done.stderr
    trial.check("read-only: it does not start, and says why", refused, f"{done.returncode} {done.stderr}")
    run("umount", data)


@fault("X4b", "the database of a Django application stands still", 60)
def database_stands_still(trial):
    from postgres import Postgres
    database = Postgres(trial)
    port, _ = trial.upstream()
    gateway = trial.gateway(
        "django", port, users=(), tokens="rotate_refresh = true",
        sections=f'[users]\nsource = "django"\n[users.django]\nurl = "{database.url}"\nhashers = ["pbkdf2_sha256"]\nrecheck = "1s"\n',
    ).start()
    pair = gateway.known_login()
    fresh = gateway.login().json()["access"]
    database.signal(signal.SIGSTOP)
    # Until then users are known as they were read.
    time.sleep(2.5)
    answers = []

    def ask(what):
        began = time.monotonic()
        answers.append((what(), time.monotonic() - began))

    asked = [lambda: gateway.login().status, lambda: gateway.refresh(pair["refresh"]).status, lambda: gateway.get(token=fresh).status]
    with Load(gateway.port, "/who", pair["access"]) as load:
        threads = [threading.Thread(target=ask, args=(what,)) for what in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses, longest = [status for status, _ in answers], max(took for _, took in answers)
    database.signal(signal.SIGCONT)
    trial.check("stopped database: 503 for who needs it", set(statuses) == {503}, statuses)
    trial.check("stopped database: nobody waits longer than 10 s", longest < 10, f"{longest:.1f} s")
    trial.check("stopped database: who is known does not wait", not load.bad(), f"{load.statuses}")
    took = until(15, lambda: gateway.login().status == 200)
    trial.check("stopped database: it recovers", took is not None, gateway.said()[-400:])
    trial.note(f"stopped database: {statuses} after at most {longest:.1f} s, others {load.statuses}, back after {(took or -1):.2f} s")
