"""Faults that a gateway has to survive: each is made with the real program on this machine, within a limit of time, and what
survived is told.

Usage: python3 scripts/faults [--size N] [--quick] [--only X2,X3] [PROGRAM]
The default size takes a few minutes; 100 is the size for a night. Prints what was done and measured for every fault, and
the count of checks in the last line. A fault that cannot be made here is named as skipped, and has not passed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import FAULTS, Skip, Trial

import ending  # noqa: F401
import machine  # noqa: F401
import outputs  # noqa: F401
import reloads  # noqa: F401
import store  # noqa: F401
import upstreams  # noqa: F401
import versions  # noqa: F401

HERE = os.path.dirname(os.path.abspath(__file__))
# What a skipped fault ends with.
SKIPPED = 77


def one(fault, program, size):
    """Makes one fault, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix=f"tollgate-{fault.name}-", ignore_cleanup_errors=True) as work:
        trial = Trial(work, program, size)
        try:
            fault.make(trial)
        except Skip as why:
            print(f"skipped: {why}")
            sys.exit(SKIPPED)
        except Exception as error:
            trial.check(fault.name, False, f"{type(error).__name__}: {error}")
        finally:
            trial.end()
        trial.check.finish(1)


def own_mounts():
    """Words that give a process mounts of its own, so that none is left behind; none where that is not allowed."""
    words = ["unshare", "-m", "env", "FAULTS_OWN_MOUNTS=1"]
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return []
    return words if subprocess.run([*words, "true"], stderr=subprocess.DEVNULL).returncode == 0 else []


def attempt(fault, program, size):
    """Lets a process make the fault, and ends it with all that it started when its time is over."""
    words = [*own_mounts(), sys.executable, HERE, "--one", fault.name, "--size", str(size), program]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    limit = fault.limit * max(1, size)
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        output = f"FAILED: {fault.name} takes longer than {limit:.0f} s\n0 passed, 1 failed\n"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return process.returncode, output


def all_of(chosen, program, size):
    passed = failed = 0
    skipped = []
    for fault in chosen:
        began = time.monotonic()
        print(f"{fault.name}: {fault.what}", flush=True)
        code, output = attempt(fault, program, size)
        lines = output.splitlines()
        counted = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1]) if lines else None
        if code == SKIPPED:
            skipped.append(fault.name)
            print(f"  SKIPPED {lines[-1].removeprefix('skipped: ')}")
            continue
        held, broke = (int(counted[1]), int(counted[2])) if counted else (0, 1)
        passed, failed = passed + held, failed + broke
        for line in lines[:-1] if counted else [*lines, f"FAILED: {fault.name} ended with {code}"]:
            print(line)
        print(f"  {'survived' if broke == 0 else 'BROKE'}: {held} of {held + broke} in {time.monotonic() - began:.1f} s", flush=True)
    if skipped:
        print(f"skipped, which is not passed: {', '.join(skipped)}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", type=float, default=1)
    words.add_argument("--quick", action="store_true", help="the short ones only")
    words.add_argument("--only", default="", help="names, with commas between them")
    words.add_argument("--one", help=argparse.SUPPRESS)
    words.add_argument("program", nargs="?", default="target/debug/tollgate")
    given = words.parse_args()
    program = os.path.abspath(given.program)
    if given.one:
        one(next(fault for fault in FAULTS if fault.name == given.one), program, given.size)
    only = set(filter(None, given.only.split(",")))
    chosen = [fault for fault in FAULTS if (fault.name in only if only else fault.quick or not given.quick)]
    chosen.sort(key=lambda fault: (int(re.search(r"\d+", fault.name)[0]), fault.name))
    all_of(chosen, program, given.size)


main()
