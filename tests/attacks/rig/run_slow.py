"""Runs slow clients, all at once; each must be ended by the gateway within its limit."""

import dataclasses
import threading
import time

from rig.http2 import ACK, DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, frame
from rig.report import short

# Seconds, as in gateway.toml. stall is for clients that go on, but too slowly, and for those that never read.
LIMITS = {"header": 3.0, "body": 4.0, "idle": 6.0, "stall": 15.0}
GRACE = 2.0  # seconds beyond the limit that are still a pass


def run(bench, cases, report, options):
    """Starts all cases at once, serves another client meanwhile, scores when all have ended."""
    clients = [Client(bench, case, getattr(options, case.limit)) for case in cases]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        if problem := bench.control():
            report.fault("slow", f"while others are slow {problem}")
        time.sleep(1)
    for client in clients:
        client.score(report)


class Client(threading.Thread):
    """One slow client."""

    def __init__(self, bench, case, limit):
        super().__init__(daemon=True)
        self.bench = bench
        self.case = case
        self.limit = limit
        self.kept = 0.0
        self.received = b""
        self.end = ""
        self.acknowledged = False
        self.steps = 0

    def run(self):
        """Sends, drips, reads, until the gateway ends it or the limit is well over."""
        case = self.case
        first = case.first(self.bench.token) if callable(case.first) else self.bench.fill(case.first)
        started = time.monotonic()
        try:
            target = dataclasses.replace(self.bench.target, tls=False) if case.plain else self.bench.target
            connection = target.connect(1.0, "h2" if case.id.startswith("slow-h2") else "http/1.1")
            connection.settimeout(0.9)
            connection.sendall(first)
            self.end = self.hold(connection, started + self.limit + GRACE)
        except OSError as error:
            self.end = f"ended ({type(error).__name__})"
        self.kept = time.monotonic() - started

    def hold(self, connection, deadline):
        """Keeps the connection open and reads; returns how it ended."""
        while time.monotonic() < deadline:
            try:
                piece = connection.recv(4096)
                if not piece:
                    return "closed"
                self.received += piece
                if ending := self.answered(connection):
                    return ending
            except TimeoutError:
                pass
            if self.case.drip:
                drip = self.case.drip
                connection.sendall(drip(self.steps) if callable(drip) else drip)
                self.steps += 1
                time.sleep(0.1)
        return "still open"

    def answered(self, connection):
        """On HTTP/2 an ended stream or GOAWAY ends the case, though the connection may close later."""
        if not self.case.id.startswith("slow-h2"):
            return ""
        buffer = self.received
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            size, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
            buffer = buffer[9 + size :]
            if kind == SETTINGS and not flags & ACK and not self.acknowledged:
                connection.sendall(frame(SETTINGS, ACK, 0))
                self.acknowledged = True
            if kind in (GOAWAY, RST_STREAM):
                return "GOAWAY" if kind == GOAWAY else "RST_STREAM"
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return "answered"
        return ""

    def score(self, report):
        """Pass: ended in time, and answered as the case demands."""
        faults = []
        if self.end == "still open":
            faults.append(f"still open after {self.kept:.1f} s; the {self.case.limit} limit is {self.limit:.0f} s")
        if not self.received.startswith(self.case.must_start_with):
            faults.append(f"the answer does not begin with {self.case.must_start_with.decode()}")
        facts = [
            ("sent", short(self.case.first) if isinstance(self.case.first, bytes) else "HTTP/2 frames"),
            ("answered", f"{self.end} after {self.kept:.1f} s, {short(self.received, size=80)}"),
        ]
        report.add(self.case, faults, facts)
