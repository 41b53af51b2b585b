#!/usr/bin/env python3
"""Runs the attacks of tests/attacks against gateways of their own, in the clear and over TLS, and counts every case.

What only waits runs side by side; floods, whose bounds are times, run alone. A sub-command of which fewer cases ran than
there are has failed, and so has one without its positive controls.

Usage: scripts/attacks.py [TOLLGATE] [TEXT]   (TEXT: only jobs whose name holds it, which is never a pass)
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
from harness import Checks, end, free_port, wait_for

ATTACKS = Path(__file__).resolve().parent.parent / "tests/attacks"
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
CELLS = ("clear", "tls")
# Most cases wait to see that nothing more comes, so they are divided among several gateways.
PARTS = {"http1": 6, "h2": 2}
AT_ONCE = 14
# For one job, in seconds. Each is done in a fraction of it.
PATIENCE = 300
# A group of cases as the rig prints it: name, passed, failed.
GROUP = re.compile(r"^  (\S+) +(\d+) passed +(\d+) failed$", re.M)
# Another client is served more slowly beside a build without optimisation, which also needs more processor time.
UNOPTIMISED = ("--typical-ms", "100", "--max-other-ms", "1500", "--max-cpu", "40")


class Job:
    """One run of the rig against a gateway of its own."""

    def __init__(self, command, cell, alg="HS256", part=None):
        self.command, self.cell, self.alg, self.part = command, cell, alg, part
        self.name = "-".join(filter(None, (command, cell, alg if command == "jwt" else "", part and f"part{part}")))
        self.groups = {}

    def run(self, program, work, checks):
        """Runs it to its end and takes over its count."""
        place = f"{work}/{self.name}"
        words = [] if self.cell == "clear" else ["--tls"]
        harness.must(sys.executable, ATTACKS / "attack.py", "prepare", place, "--alg", self.alg, *words)
        port, upstream = free_port(), free_port()
        ports = {"RIG_GATEWAY_PORT": str(port), "RIG_UPSTREAM_PORT": str(upstream)}
        with open(f"{place}/log", "w") as log:
            gateway = subprocess.Popen([program, "run", "--config", f"{place}/gateway.toml"], stdout=log, stderr=log,
                                       env=os.environ | ports)
        try:
            wait_for(port, gateway)
            words += self.words(program, place) + ["--pid", gateway.pid, "--alg", self.alg]
            words += ["--gateway", f"127.0.0.1:{port}", "--upstream-port", upstream, "--key", next(Path(place).glob(f"{self.alg.lower()}.*"))]
            done = harness.run(sys.executable, ATTACKS / "attack.py", self.command, *words, timeout=PATIENCE)
        finally:
            end([gateway])
        self.count(done, checks, gateway.returncode)

    def words(self, program, place):
        """What only this sub-command is told."""
        part = ["--part", f"{self.part}/{PARTS[self.command]}"] if self.part else []
        if self.command == "http1":
            return ["--log", f"{place}/log", *part]
        if self.command == "floods" and "/debug/" in program:
            return list(UNOPTIMISED)
        return part

    def count(self, done, checks, code):
        """Takes over what the rig has counted."""
        for name, passed, failed in GROUP.findall(done.stdout):
            self.groups[name] = int(passed) + int(failed)
            checks.passed += int(passed)
            checks.failed += int(failed)
        checks(f"{self.name} was run to its end", done.returncode in (0, 1) and self.groups, done.stderr[-600:])
        checks.equal(f"{self.name}: the gateway ends in peace", 0, code)
        if done.returncode != 0:
            print(f"--- {self.name}\n{done.stdout}", flush=True)


def jobs():
    """Those that may run side by side, the longest first, and those that run alone."""
    together = [Job(command, cell, part=part + 1) for command, parts in PARTS.items() for part in range(parts) for cell in CELLS]
    together += [Job(command, cell) for command in ("slow", "upstream") for cell in CELLS]
    together += [Job("jwt", cell, alg) for alg in ALGORITHMS for cell in CELLS]
    return together, [Job("floods", cell) for cell in CELLS]


def require(checks, done, minimum):
    """Every group of every cell ran with as many cases as there are."""
    ran = {}
    for job in done:
        for group, count in job.groups.items():
            key = (job.command, job.cell, job.alg, group)
            ran[key] = ran.get(key, 0) + count
    for command, least in minimum.items():
        for cell in CELLS:
            for alg in ALGORITHMS if command == "jwt" else ("HS256",):
                for group, count in (least(alg) if callable(least) else least).items():
                    seen = ran.get((command, cell, alg, group), 0)
                    checks(f"{command} {cell} {alg}: all {count} cases of {group} ran", seen >= count, f"{seen} did")


def least_counts():
    """How many cases of each group there are, as the rig itself knows it."""
    sys.path.insert(0, str(ATTACKS))
    spec = importlib.util.spec_from_file_location("attack", ATTACKS / "attack.py")
    attack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(attack)
    return attack.MINIMUM


def main():
    program = harness.program_from(sys.argv)
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    checks = Checks()
    work = tempfile.mkdtemp(prefix="attacks-")
    together, alone = jobs()
    chosen = [job for job in together + alone if only in job.name]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for job in together:
                if job in chosen:
                    pool.submit(checks.section, job.name, job.run, program, work, checks)
        for job in alone:
            if job in chosen:
                checks.section(job.name, job.run, program, work, checks)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if only:
        checks("a run of some jobs is never a pass", False)
    else:
        require(checks, chosen, least_counts())
    checks.finish(5000)


if __name__ == "__main__":
    main()
