#!/usr/bin/env python3
"""How Tollgate scales: throughput and processor time for a request by connections and workers, by distinct tokens, by routes and by the size
of answers, and how evenly few connections are spread over two workers. The figures go to docs/plots/scale.json, and plots of them
beside it.

    scripts/scale.py [SWEEP …] [--program FILE] [--rounds N] [--seconds N] [--draw]

With one worker the gateway is alone on processor 0, load and upstream are on processor 1. With two workers all of them share both. `--draw` measures
nothing and draws the figures that are there."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import bench_setup
from bench_load import forget_peak, peak, processor_us, resident, threads_us, wrk
from bench_peers import FILES, Material, Running, fill, run_upstream
from harness import free_port

PLOTS = f"{bench_setup.ROOT}/docs/plots"
EVERYTHING = '[[routes]]\npath = "/"\nauth = "required"\nupstream = "api"\n'
MIB = 1 << 20


class Place:
    """Where is measured: keys and tokens, the program, how long and how often."""

    def __init__(self, material, options):
        self.material, self.program, self.rounds, self.seconds = material, options.program, options.rounds, options.seconds
        self.everywhere = f"0-{os.cpu_count() - 1}"

    def upstream(self, workers=1):
        return run_upstream(self.material, "1" if workers == 1 else self.everywhere)

    def gateway(self, upstream, workers=1, algorithm="HS256", routes=EVERYTHING):
        work, port = self.material.work, free_port()
        key = f'secret_file = "{work}/secret"' if algorithm == "HS256" else f'file = "{work}/{algorithm}.pem"'
        text = fill("scale.toml", work=work, port=port, upstream=upstream.port, workers=workers, alg=algorithm, tollgate_key=key, routes=routes)
        command = [self.program, "run", "--config", self.material.write("scale.toml", text)]
        return Running(self.material, "tollgate", command, port, "0" if workers == 1 else self.everywhere)

    def load(self, gateway, seconds, connections=64, workers=1, tokens=None, targets=None, timeout="10s"):
        material = self.material
        return wrk(gateway.port, seconds, connections, tokens or f"{material.work}/HS256.one", targets or f"{material.work}/items",
                   "1" if workers == 1 else self.everywhere, timeout)

    def measure(self, gateway, warm_up=1, longer=0, **load):
        """One round at one point, after as long a warm-up as it needs, and for some seconds longer."""
        process = gateway.process.pid
        forget_peak(process)
        self.load(gateway, warm_up, **load)
        before = processor_us(process)
        done = self.load(gateway, self.seconds + longer, **load)
        used, mib = processor_us(process) - before, done.received / MIB
        if not done.received:
            raise RuntimeError("nothing was answered")
        return {"cpu_us": used / max(done.requests, 1), "cpu_us_per_mib": used / mib,
                "per_second": done.requests / done.seconds, "mib_per_second": mib / done.seconds, "p50_us": done.p50, "p99_us": done.p99,
                "longest_us": done.longest, "resident_mib": resident(process) / MIB, "peak_mib": peak(process) / MIB, "errors": done.errors}

    def sweep(self, points, keep, one):
        """The medians of rounds that go through all points in turn: what else the machine does meets all of them."""
        rounds = [[one(point) for point in points] for _ in range(self.rounds)]
        return [{**point, **{name: short(statistics.median(round_[name] for round_ in measured)) for name in keep},
                 "errors": sum(round_["errors"] for round_ in measured)} for point, *measured in zip(points, *rounds)]


def short(value):
    """Three digits: the others are chance."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def connections(place):
    points = [{"workers": workers, "connections": count} for workers in (1, 2) for count in (16, 64, 256, 1000, 4000, 10_000)]

    def one(point):
        workers = point["workers"]
        with place.upstream(workers) as upstream, place.gateway(upstream, workers) as gateway:
            # The kernel refuses some when thousands connect at once, and they come again a second later.
            delay = point["connections"] // 2000
            return place.measure(gateway, warm_up=2 + delay, longer=delay, **point)

    return place.sweep(points, ("cpu_us", "per_second", "p50_us", "p99_us", "resident_mib"), one)


def tokens(place):
    # Each in its turn, so that beyond what is remembered a token has always been forgotten when it comes again.
    points = [{"algorithm": algorithm, "tokens": count} for algorithm in ("HS256", "ES256")
              for count in (1, 1000, 10_000, 16_000, 20_000, 50_000, 100_000)]
    files = {(point["algorithm"], point["tokens"]): place.material.tokens(point["algorithm"], point["tokens"]) for point in points}

    def one(point):
        algorithm = point["algorithm"]
        with place.upstream() as upstream, place.gateway(upstream, algorithm=algorithm) as gateway:
            return place.measure(gateway, warm_up=2 + min(point["tokens"], 20_000) // 5000, tokens=files[algorithm, point["tokens"]])

    return place.sweep(points, ("cpu_us", "per_second", "p50_us", "p99_us", "longest_us", "resident_mib"), one)


def routes(place):
    def one(point):
        count = point["routes"]
        text = "".join(f'[[routes]]\npath = "/service-{number}/things/{{id}}"\nauth = "required"\nupstream = "api"\n' for number in range(count))
        targets = place.material.write("targets", "\n".join(f"/service-{number}/things/7" for number in range(count)))
        with place.upstream() as upstream:
            began = time.monotonic()
            with place.gateway(upstream, routes=text) as gateway:
                started = time.monotonic() - began
                return {**place.measure(gateway, targets=targets), "start_ms": started * 1e3}

    return place.sweep([{"routes": count} for count in (10, 100, 1000, 10_000)], ("cpu_us", "per_second", "p99_us", "resident_mib", "start_ms"), one)


def bodies(place):
    def one(point):
        targets = place.material.write("targets", f"/files/{point['body']}")
        with place.upstream() as upstream, place.gateway(upstream) as gateway:
            measured = place.measure(gateway, targets=targets, timeout="60s")
            if point["bytes"] > MIB:
                # Few of them come to their end within the time.
                measured["cpu_us"] = measured["cpu_us_per_mib"] * point["bytes"] / MIB
            return measured

    points = [{"body": name, "bytes": size} for name, size in FILES.items()]
    return place.sweep(points, ("cpu_us", "cpu_us_per_mib", "mib_per_second", "resident_mib", "peak_mib"), one)


def balance(place, trials=40):
    """For each number of connections, the share of the busiest of two workers in many trials, and the answers a second of each."""
    points = []
    with place.upstream(workers=2) as upstream, place.gateway(upstream, workers=2) as gateway:
        place.load(gateway, 1, workers=2)
        for count in (2, 4, 8, 16, 64):
            shares, per_second, errors = [], [], 0
            for _ in range(trials):
                before = threads_us(gateway.process.pid, "worker-")
                done = place.load(gateway, 1, connections=count, workers=2)
                used = [us - before[name] for name, us in threads_us(gateway.process.pid, "worker-").items()]
                shares.append(short(max(used) / sum(used)))
                per_second.append(round(done.requests / done.seconds))
                errors += done.errors
            points.append({"connections": count, "busiest": shares, "per_second": per_second, "errors": errors})
    return points


SWEEPS = {"connections": connections, "tokens": tokens, "routes": routes, "bodies": bodies, "balance": balance}


def show(name, points):
    print(f"\n## {name}\n")
    if name == "balance":
        print("| connections | median | highest | trials in which one worker did 90 % or more |\n|---|---|---|---|")
        for point in points:
            shares = point["busiest"]
            alone = sum(share >= 0.9 for share in shares)
            print(f"| {point['connections']} | {statistics.median(shares):.2f} | {max(shares):.2f} | {alone} of {len(shares)} |")
    else:
        print("| " + " | ".join(points[0]) + " |\n" + "|---" * len(points[0]) + "|")
        for point in points:
            print("| " + " | ".join(f"{value:,}" if isinstance(value, (int, float)) else value for value in point.values()) + " |")
    sys.stdout.flush()


def write(measured):
    with open(f"{PLOTS}/scale.json", "w") as file:
        sweeps = ",\n".join(f'"{name}": {{"machine": {json.dumps(sweep["machine"])}, "points": [\n'
                            + ",\n".join(json.dumps(point) for point in sweep["points"]) + "\n]}" for name, sweep in measured.items())
        file.write("{\n" + sweeps + "\n}\n")


def arguments():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sweeps", nargs="*", metavar="SWEEP", help=", ".join(SWEEPS))
    options.add_argument("--program", default=f"{bench_setup.ROOT}/target/release/tollgate")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=4, help="of load in each round of each point")
    options.add_argument("--draw", action="store_true", help="draws what was measured before")
    options = options.parse_args()
    unknown = set(options.sweeps) - set(SWEEPS)
    if unknown:
        sys.exit(f"there is no sweep {', '.join(sorted(unknown))}")
    return options


def main():
    options = arguments()
    bench_setup.packages({"jwt": "pyjwt", "cryptography": "cryptography", "matplotlib": "matplotlib"})
    os.makedirs(PLOTS, exist_ok=True)
    measured, errors = {}, 0
    if os.path.exists(f"{PLOTS}/scale.json"):
        with open(f"{PLOTS}/scale.json") as file:
            measured = json.load(file)
    if not options.draw:
        bench_setup.programs(["nginx", "wrk", "openssl", "taskset"])
        bench_setup.descriptors(16_384)
        options.program = bench_setup.program(options.program)
        with tempfile.TemporaryDirectory(prefix="tollgate-scale-") as work:
            place = Place(Material(work), options)
            for name in options.sweeps or SWEEPS:
                points = SWEEPS[name](place)
                show(name, points)
                measured[name] = {"machine": bench_setup.machine(), "points": points}
                errors += sum(point["errors"] for point in points)
        measured = {name: measured[name] for name in SWEEPS if name in measured}
        write(measured)
    import scale_plots
    scale_plots.draw(measured, PLOTS)
    if errors:
        sys.exit(f"there were {errors} errors")


if __name__ == "__main__":
    bench_setup.run_to_end(main)
