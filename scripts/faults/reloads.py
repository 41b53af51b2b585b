"""Faults of reloading: a storm of signals, and files that are written while they are read."""

import os
import signal
import time

from common import Load, fault, until


def write(gateway, text):
    with open(f"{gateway.config}.new", "w") as file:
        file.write(text)
    os.rename(f"{gateway.config}.new", gateway.config)


def settled(gateway):
    """Whether nothing is read any more."""
    said = gateway.said()
    time.sleep(1)
    return gateway.said() == said


@fault("X10", "SIGHUP again and again, 50 a second, with files that take turns and every tenth of them broken", 120, quick=True)
def storm(trial):
    port, _ = trial.upstream()
    gateway = trial.gateway("storm", port, server="workers = 2\nwatch_config = false\n").start()
    with open(gateway.config) as file:
        one = file.read()
    other = one + '[[routes]]\npath = "/export"\nauth = "public"\nupstream = "api"\n'
    broken = other.replace('auth = "required"', 'auth = "requird"')
    token = gateway.token()
    signals = int(200 * max(1, trial.size))
    gateway.get("/", token=token)
    before, settled_mb = gateway.memory_mb("RssAnon"), 0.0
    with Load(gateway.port, token=token, threads=4, pause=0.002) as load:
        for number in range(signals):
            began = time.monotonic()
            write(gateway, broken if number % 10 == 9 else one if number % 2 else other)
            gateway.signal(signal.SIGHUP)
            if number % 10 == 0:
                gateway.signal(signal.SIGHUP)
            if number <= signals // 4:
                # What a reload needs for a moment stays with the allocator, once: growth is what comes after the first ones.
                settled_mb = max(settled_mb, gateway.memory_mb("RssAnon"))
            time.sleep(max(0.0, 0.02 - (time.monotonic() - began)))
        write(gateway, other)
        gateway.signal(signal.SIGHUP)
        trial.check("X10 the last sound file wins", until(10, lambda: settled(gateway)) is not None and gateway.get("/export").status == 200)
        write(gateway, broken)
        gateway.signal(signal.SIGHUP)
        until(10, lambda: settled(gateway))
        trial.check("X10 and a broken one after it changes nothing", gateway.get("/export").status == 200)
    trial.check("X10 no request fails", not load.bad(), load.bad())
    after = gateway.memory_mb("RssAnon")
    trial.check("X10 memory does not grow with the signals", after - settled_mb < 15, f"{settled_mb:.1f} MB, then {after:.1f} MB")
    trial.check("X10 and a reload needs little memory beside what is in use", after - before < 64, f"{before:.1f} MB, then {after:.1f} MB")
    said = gateway.said()
    applied, refused = said.count("the configuration was reloaded"), said.count("the configuration is not reloaded")
    trial.check("X10 both kinds are in the log", applied > 5 and refused > 0, f"{applied} and {refused}")
    trial.note(f"{signals} signals: {applied} reloads applied, {refused} refused, {sum(load.statuses.values())} requests, p99 {load.ms(0.99):.1f} ms")
    trial.note(f"memory {before:.0f} MB before, {settled_mb:.0f} MB with the first reloads, {after:.0f} MB after")
    gateway.signal(signal.SIGHUP)
    code, took = gateway.stop()
    trial.check("X10 a signal to stop in the middle of a reload is obeyed", code == 0 and took < 5, f"{code} after {took:.1f} s")
