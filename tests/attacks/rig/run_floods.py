"""Runs floods: the attacker in a process of its own, another client served meanwhile, memory and time in bounds.

A gateway may close the connection or bear the flood; either is a pass as long as the others do not notice. How fast
the gateway is, is measured on a refusal, which needs no upstream: the rig's upstream is slow by itself when a flood
reaches it, and that must not count against the gateway. Proxied requests only have to succeed.
"""

import multiprocessing
import statistics
import threading
import time
from dataclasses import dataclass

from rig import http2
from rig.client import ask

SECONDS = 15  # at most, per flood
MAX_GROWTH_MIB = 32


@dataclass
class Outcome:
    """What the attacker could do."""

    pieces: int = 0
    sent_bytes: int = 0
    end: str = "bore it"


def run(bench, cases, report, options):
    """One flood after the other."""
    for case in cases:
        run_case(bench, case, report, options)


def run_case(bench, case, report, options):
    """One flood; meanwhile another client is refused and served in turn."""
    rss, cpu, mark = bench.watch.rss_mib(), bench.watch.cpu_seconds(), bench.recorder.mark()
    peak, times, faults = rss, [], []
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    attacker = context.Process(target=attack, args=(theirs, bench.target, case.id, bench.mint.control()), daemon=True)
    attacker.start()
    while attacker.is_alive():
        refused = ask(bench.target, b"/private", b"", limit=3.0)
        served = ask(bench.target, b"/other", bench.token, limit=10.0)
        if refused.statuses != [401] or served.statuses != [200]:
            faults.append(f"another client got {refused.describe()} and {served.describe()}")
        times.append(refused.seconds * 1000)
        if bench.watch.alive():
            peak = max(peak, bench.watch.rss_mib())
        time.sleep(0.02)
    outcome = ours.recv() if ours.poll(1) else Outcome(end="the attacker failed")
    if problem := bench.control():
        faults.append(f"afterwards {problem}")
    used = bench.watch.cpu_seconds() - cpu if bench.watch.alive() else 0.0
    faults += judge(outcome, peak - rss, used, times, options)
    reached = sum(one.target == b"/echo" for one in bench.recorder.since(mark))
    report.add(
        case, faults[:6], facts(outcome, rss, peak, used, times) + [("upstream", f"{reached} of the flood's requests")]
    )


def judge(outcome, growth, used, times, options):
    """The bounds."""
    faults = []
    if outcome.pieces == 0:
        faults.append(f"nothing was sent: {outcome.end}")
    if growth > MAX_GROWTH_MIB:
        faults.append(f"resident memory grew by {growth:.0f} MiB")
    if used > options.max_cpu:
        faults.append(f"{used:.1f} s of processor time")
    if statistics.median(times) > options.typical_ms:
        faults.append(f"another client's median was {statistics.median(times):.0f} ms")
    if max(times) > options.max_other_ms:
        faults.append(f"another client's slowest request took {max(times):.0f} ms")
    return faults


def facts(outcome, rss, peak, used, times):
    """Lines for the report."""
    return [
        ("sent", f"{outcome.pieces} pieces, {outcome.sent_bytes} bytes"),
        ("answered", outcome.end),
        ("gateway", f"{rss:.0f} to {peak:.0f} MiB, {used:.2f} s of processor time"),
        ("others", f"{len(times)} refusals, median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms"),
    ]


def attack(pipe, target, id, token):
    """Runs in the attacker's process, where the case is looked up again: functions cannot be sent there."""
    from attack import SUITE

    case = next(case for case in SUITE.floods if case.id == id)
    outcome = Outcome()
    ended = threading.Event()
    try:
        connection = http2.open_connection(target, timeout=3.0)
        if case.read:
            threading.Thread(target=watch_answers, args=(connection, outcome, ended), daemon=True).start()
        time.sleep(0.1)
        pour(connection, case, token, outcome, ended)
        time.sleep(0.3)
        connection.close()
    except TimeoutError:
        outcome.end = "the gateway stopped reading"
    except OSError as error:
        outcome.end = outcome.end if ended.is_set() else f"closed ({type(error).__name__})"
    pipe.send(outcome)


def pour(connection, case, token, outcome, ended):
    """Sends piece after piece until the gateway ends it."""
    deadline = time.monotonic() + SECONDS
    batch = []
    for piece in case.frames(token):
        batch.append(piece)
        if len(batch) == case.per_write:
            data = b"".join(batch)
            outcome.pieces += len(batch)
            outcome.sent_bytes += len(data)
            connection.sendall(data)
            batch = []
        if outcome.pieces >= case.total or ended.is_set() or time.monotonic() > deadline:
            return


def watch_answers(connection, outcome, ended):
    """Reads what the gateway sends; GOAWAY with an error or the end of the connection ends the flood."""
    try:
        for kind, _, _, payload in http2.frames_from(connection):
            if kind == http2.GOAWAY and int.from_bytes(payload[4:8], "big"):
                outcome.end = f"GOAWAY {int.from_bytes(payload[4:8], 'big')} {payload[8:40].decode('latin1')}"
                break
        else:
            outcome.end = "closed"
    except TimeoutError:
        return  # nothing to read for a while: the flood goes on
    except OSError:
        outcome.end = "reset"
    ended.set()
