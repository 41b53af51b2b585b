"""The command line: one sub-command per group."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from rig import prepare, run_floods, run_h2, run_http1, run_jwt, run_slow, run_upstream
from rig.bench import Bench
from rig.client import Target
from rig.process import Watch
from rig.recorder import Canary
from rig.report import Report
from rig.tokens import ALGORITHMS, Mint


@dataclass(frozen=True)
class Suite:
    """The cases of a run, and how many of each group there are: fewer is a failure.

    jwt holds functions(mint) that yield tokens, and its minimum is a function(algorithm).
    """

    http1: list
    h2: list
    jwt: list
    slow: list
    floods: list
    upstream: list
    minimum: dict = field(default_factory=dict)


RUNNERS = {"http1": run_http1, "h2": run_h2, "jwt": run_jwt, "slow": run_slow, "floods": run_floods}


def main(suite, folder):
    """Parses the arguments, runs one sub-command, returns the exit code."""
    options = parse()
    if options.command == "prepare":
        return prepare.write(folder, options)
    host, _, port = options.gateway.rpartition(":")
    target = Target(host.strip("[]"), int(port), options.tls)
    canary = Canary()
    mint = Mint(options.alg, options.key, canary.port)
    watch = Watch(options.pid)
    report = Report(options.verbose)
    cases = choose(suite, options, mint)
    if options.command == "upstream":
        run_upstream.run(target, mint, watch, options.upstream_port, cases, report)
    else:
        bench = Bench(target, mint, watch, canary, options.upstream_port)
        run_with_recorder(bench, options, cases, report)
    if not options.only and not options.part:
        least = suite.minimum[options.command]
        report.require(least(options.alg) if callable(least) else least)
    return report.finish(bool(options.only))


def run_with_recorder(bench, options, cases, report):
    """Every group but `upstream`: a control before, the cases, a control after, memory in bounds."""
    if problem := bench.wait_until_ready():
        report.fault("control", f"before the first case {problem}")
        return
    watch = bench.watch
    before = watch.rss_mib()
    RUNNERS[options.command].run(bench, cases, report, options)
    if problem := bench.wait_until_ready(3):
        report.fault("control", f"after the last case {problem}")
    if watch.alive() and watch.rss_mib() > before + options.max_growth:
        report.fault("memory", f"resident memory grew from {before:.0f} to {watch.rss_mib():.0f} MiB")


def choose(suite, options, mint):
    """The cases of the sub-command, filtered by --only and --part."""
    cases = getattr(suite, options.command)
    if options.command == "jwt":
        cases = [token for group in cases for token in group(mint)]
    if options.part:
        number, of = map(int, options.part.split("/"))
        cases = cases[number - 1 :: of]
    return [case for case in cases if options.only in case.id]


def parse():
    """The arguments."""
    parser = argparse.ArgumentParser(description="Attacks a gateway on loopback and scores it. See README.md.")
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("prepare", help="write a key, users and the gateway's configuration into a folder")
    writer.add_argument("folder", type=Path)
    writer.add_argument("--alg", default="HS256", choices=ALGORITHMS)
    writer.add_argument("--key", type=Path, help="use this key instead of a new one")
    writer.add_argument("--kid", default="rig")
    writer.add_argument("--tls", action="store_true", help="a self-signed certificate and [tls] in gateway.toml")
    for name in ("http1", "h2", "jwt", "slow", "floods", "upstream"):
        add_options(commands.add_parser(name), name)
    options = parser.parse_args()
    if options.command != "prepare" and not options.gateway.startswith(("127.", "localhost:", "[::1]")):
        parser.error("the rig attacks loopback only")
    return options


def add_options(parser, name):
    """What every group takes, and what only some take."""
    parser.add_argument("--gateway", default="127.0.0.1:18080", metavar="HOST:PORT")
    parser.add_argument("--upstream-port", type=int, default=18081, metavar="N")
    parser.add_argument("--pid", type=int, help="the gateway's process: liveness, memory, processor time")
    parser.add_argument("--key", type=Path, required=True, help="the gateway's signing key (see prepare)")
    parser.add_argument("--alg", default="HS256", choices=ALGORITHMS)
    parser.add_argument("--tls", action="store_true", help="the gateway's port speaks TLS")
    parser.add_argument("--only", default="", metavar="TEXT", help="ids that hold TEXT; never a pass")
    parser.add_argument("--part", default="", metavar="I/N", help="every Nth case; whoever asks for parts counts the cases")
    parser.add_argument("--max-growth", type=float, default=64, metavar="MIB", help="resident memory after the run")
    parser.add_argument("-v", "--verbose", action="store_true", help="print passed cases too")
    if name == "http1":
        parser.add_argument("--log", type=Path, help="the gateway's log file, read after the run")
    if name == "slow":
        for limit, seconds in run_slow.LIMITS.items():
            parser.add_argument(f"--{limit}", type=float, default=seconds, metavar="SECONDS")
    if name == "floods":
        parser.add_argument("--max-other-ms", type=float, default=500, help="slowest refusal of another client")
        parser.add_argument("--typical-ms", type=float, default=50, help="median refusal of another client")
        parser.add_argument("--max-cpu", type=float, default=10, help="seconds of processor time for one flood")
