"""Faults of what lies beside the gateway: certificates that are swapped, a second instance, a store of another version."""

import hashlib
import os
import sqlite3
import sys
import threading
import time

from common import SCRIPTS, Faulty, fault, jti, need_program, run, until

ROTATING = 'rotate_refresh = true\nreuse_grace = "10m"'


@fault("X11", "certificates are swapped under load, some pairs do not match", 60)
def swapped(trial):
    need_program("openssl", "openssl")
    swaps = max(10, int(40 * trial.size))
    done = run(sys.executable, f"{SCRIPTS}/certificate_swaps.py", swaps, trial.program, timeout=3600)
    trial.note(f"{swaps} swaps, scripts/certificate_swaps.py: {done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr[-200:]}")
    trial.check("no handshake fails, and a good pair is soon served", done.returncode == 0, done.stdout + done.stderr)


def together(calls):
    """Makes all calls at one moment and returns what they gave."""
    gate, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def make(place, call):
        gate.wait()
        answers[place] = call()

    threads = [threading.Thread(target=make, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@fault("X16", "two instances on one store: one refresh token at both at once, a logout at one", 60, quick=True)
def two_instances(trial):
    port, _ = trial.upstream()
    one = trial.gateway("one", port, tokens=ROTATING).start()
    # The same directory under another name, with ports of its own.
    two = Faulty(trial.program, trial.work, "two", port, tokens=ROTATING)
    os.rmdir(f"{two.place}/data") if os.path.isdir(f"{two.place}/data") else None
    os.symlink(f"{one.place}/data", f"{two.place}/data")
    trial.started.append(two)
    two.start()
    rounds, several, lost = max(5, int(40 * trial.size)), 0, []
    token = one.login().json()["refresh"]
    for _ in range(rounds):
        answers = together([lambda on=on, old=token: on.refresh(old) for on in (one, two) * 4])
        good = [answer.json()["refresh"] for answer in answers if answer.status == 200]
        lost += [str(answer) for answer in answers if answer.status != 200]
        several += len({jti(other) for other in good}) != 1
        token = good[0] if good else one.login().json()["refresh"]
    trial.check("a token has one successor on both instances", several == 0, f"{several} of {rounds} rounds")
    trial.check("nobody is refused meanwhile", not lost, lost[:5])
    slowest = 0
    for number in range(max(3, int(10 * trial.size))):
        here, there = (one, two) if number % 2 else (two, one)
        pair = here.login().json()
        trial.check("a token of one passes at the other", there.get(token=pair["access"]).status == 200)
        here.logout(pair["refresh"])
        trial.check("a refresh token that was logged out is refused by the other at once", there.refresh(pair["refresh"]).status == 401)
        took = until(2, lambda: there.get(token=pair["access"]).status == 401)
        trial.check("an access token within a second", took is not None and took < 1, took)
        slowest = max(slowest, took or 9)
    trial.note(f"{rounds} rounds of 8 at once; a logout held at the other after at most {slowest * 1000:.0f} ms")


def read(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


@fault("X17", "the store of the version before, and of a later one", 30, quick=True)
def other_versions(trial):
    port, _ = trial.upstream()
    gateway = trial.gateway("versions", port).start()
    pair = gateway.login().json()
    gateway.stop()
    with sqlite3.connect(gateway.store) as base:
        last, = base.execute("SELECT max(version) FROM _sqlx_migrations").fetchone()
        base.execute("DELETE FROM _sqlx_migrations WHERE version = ?", (last,))
        # What the last one has made; it has to be undone here whenever there is another.
        base.execute("DROP TABLE token_keys")
        base.execute("DELETE FROM revisions WHERE topic = 'keys'")
    base.close()
    gateway.start()
    trial.check("a store of the version before is taken over", gateway.login().status == 200)
    trial.check("with its sessions", gateway.refresh(pair["refresh"]).status == 200)
    gateway.stop()
    with sqlite3.connect(gateway.store) as base:
        base.execute("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99991231, 'later', 1, x'00', 0)")
    base.close()
    before, began = read(gateway.store), time.monotonic()
    done = run(trial.program, "run", "--config", gateway.config)
    trial.check("a later store is refused", done.returncode == 3 and "newer version" in done.stderr, f"{done.returncode} {done.stderr}")
    trial.check("and left as it was", read(gateway.store) == before)
    done = run(trial.program, "user", "add", "bob", "--config", gateway.config, input="some password\n")
    trial.check("by the other commands too", done.returncode != 0 and read(gateway.store) == before, f"{done.returncode} {done.stderr}")
    trial.note(f"refused after {time.monotonic() - began:.1f} s: {done.stderr.strip()[:120]}")
