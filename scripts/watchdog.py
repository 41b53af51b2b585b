#!/usr/bin/env python3
"""The service manager's watchdog: the gateway says that it is alive as long as all of its data-plane threads go round, and not
any more when one of them stands still, which its log names. The thread is held by the debugger's system call.

Usage: scripts/watchdog.py [PROGRAM]
"""

import ctypes
import errno
import os
import select
import socket
import subprocess
import sys
import tempfile
import time

from harness import Checks, Gateway, end, program_from, wait_for

PROGRAM = program_from(sys.argv)
# base::bounds::STALL_MS.
STALL = 5.0
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
check = Checks()
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def thread_named(pid, name):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                return int(thread)
    raise RuntimeError(f"there is no thread {name}")


class Manager:
    """Where a service manager would listen."""

    def __init__(self, place):
        self.path = f"{place}/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.said = []

    def listen(self, seconds, until=None):
        """What is said within so many seconds, each with its time."""
        over, heard = time.monotonic() + seconds, []
        while (left := over - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                break
            heard.append((time.monotonic(), self.socket.recv(4096).decode()))
            if until is not None and until in heard[-1][1]:
                break
        self.said += heard
        return heard


def alive(heard):
    return [when for when, what in heard if "WATCHDOG=1" in what]


def trial(work):
    manager = Manager(work)
    gateway = Gateway(PROGRAM, work, "watched", '[upstreams.a]\ntargets = ["http://127.0.0.1:9"]\n[[routes]]\npath = "/"\nauth = "required"\nupstream = "a"',
                      server="workers = 2")
    gateway.log = open(f"{gateway.place}/log", "w")
    environment = {**os.environ, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "30000000"}
    gateway.process = subprocess.Popen([PROGRAM, "run", "--config", gateway.config], stdout=gateway.log, stderr=gateway.log, env=environment)
    try:
        wait_for(gateway.port, gateway.process)
        check("it says that it serves", any("READY=1" in what for _, what in manager.listen(20, until="READY=1")))
        check("and that it is alive, several times", len(alive(manager.listen(2))) >= 4)
        thread = thread_named(gateway.process.pid, "worker-1")
        try:
            ptrace(PTRACE_SEIZE, thread)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            print("no thread may be held here: a thread that stands still was not tried")
            return
        ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
        held = time.monotonic()
        heard = alive(manager.listen(STALL + 3))
        last = heard[-1] - held if heard else 0.0
        # At a look every quarter of a second, from the last sign of life on.
        check("it says so until the thread has stood still for as long as it may", STALL - 1 < last < STALL + 1, f"{last:.2f} s")
        said = gateway.said()
        check("the log names the thread", '"message":"a data-plane thread stands still' in said and '"thread":"worker-1"' in said, said[-600:])
        check("and no other", '"thread":"worker-0"' not in said, said[-600:])
        check("the process goes on", gateway.runs())
        ptrace(PTRACE_DETACH, thread)
        check("it says that it is alive again when the thread goes on", len(alive(manager.listen(3, until="WATCHDOG=1"))) == 1)
        manager.listen(1)
        check("and the log says that it does", "a data-plane thread goes on that stood still" in gateway.said())
    finally:
        end([gateway.process])
    check("it says that it stops", any("STOPPING=1" in what for _, what in manager.said + manager.listen(0.5)))
    check("it ends as it should", gateway.process.returncode == 0, gateway.process.returncode)


with tempfile.TemporaryDirectory() as work:
    check.section("watchdog", trial, work)
check.finish(least=2)
