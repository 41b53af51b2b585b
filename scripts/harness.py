"""What the scripts with real clients share: checks that are counted, ports, certificates, and a gateway of their own."""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time


class Checks:
    """Counts what held and tells what did not. Threads may share it."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def __call__(self, what, holds, seen=""):
        with self.lock:
            if holds:
                self.passed += 1
            else:
                self.failed += 1
                shown = " | ".join(str(seen).split("\n"))[:600]
                print(f"FAILED: {what}" + (f": {shown}" if shown else ""), flush=True)
        return bool(holds)

    def equal(self, what, expected, seen):
        return self(what, expected == seen, f"expected {expected!r}, got {seen!r}")

    def section(self, name, run, *arguments):
        """Runs some checks; one that breaks off has failed, and the others go on."""
        began = time.monotonic()
        try:
            run(*arguments)
        except Exception as error:
            self(name, False, f"{type(error).__name__}: {error}")
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)

    def finish(self, least):
        """Prints the count and ends the program. Fewer checks than `least` are a failure."""
        if self.passed + self.failed < least:
            self(f"at least {least} checks are made", False, f"{self.passed + self.failed} were")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed > 0)


def program_from(arguments, place=1):
    return os.path.abspath(arguments[place] if len(arguments) > place else "target/debug/tollgate")


# Ports that were given away; another may be asked for before the first one's taker listens.
_given = set()


def free_port():
    """A port below those that the system gives to outgoing connections, one of which could take it before its listener."""
    while True:
        port = random.randrange(10_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_for(port, process=None):
    """Until something listens on the port."""
    for _ in range(1000):
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the program that should listen on {port} has ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


def run(*words, **options):
    """Runs a program to its end and returns what it did, output as text."""
    options.setdefault("timeout", 60)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.run([str(word) for word in words], text=True, errors="replace", **options)


def must(*words, **options):
    done = run(*words, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))[:200]}: {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def ec_key():
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def make_ca(work, name):
    """A certificate authority: NAME.pem and NAME.key."""
    must("openssl", "req", "-x509", *ec_key(), "-subj", f"/CN={name}", "-days", "2", "-keyout", f"{work}/{name}.key",
         "-out", f"{work}/{name}.pem", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")


def make_certificate(work, ca, name, sans, usage="serverAuth"):
    """A certificate signed by the authority, with the common name NAME: NAME.pem and NAME.key."""
    must("openssl", "req", "-x509", *ec_key(), "-CA", f"{work}/{ca}.pem", "-CAkey", f"{work}/{ca}.key", "-subj", f"/O=Trial/CN={name}",
         "-days", "2", "-keyout", f"{work}/{name}.key", "-out", f"{work}/{name}.pem", "-addext", f"subjectAltName={sans}",
         "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}")


class Gateway:
    """A gateway with a directory, a store and a port of its own. `{listen}` in the sections is its port."""

    def __init__(self, program, work, name, sections, server="", tokens=""):
        self.program, self.name = program, name
        self.place = f"{work}/{name}"
        self.port = free_port()
        self.process = None
        os.makedirs(self.place)
        self.config = f"{self.place}/gateway.toml"
        if not os.path.exists(f"{work}/signing.pem"):
            must(program, "key", "generate", "--out", f"{work}/signing.pem")
        with open(self.config, "w") as file:
            file.write(
                f'[server]\nlisten = ["127.0.0.1:{self.port}"]\nadmin = ""\ndrain_timeout = "1s"\n{server}\n'
                f"[tokens]\n{tokens}\n"
                f'[[tokens.keys]]\nkid = "trial"\nalg = "EdDSA"\nfile = "{work}/signing.pem"\n'
                f"[log]\naccess = false\n{sections}\n"
            )

    def start(self, environment=None):
        self.log = open(f"{self.place}/log", "w")
        self.process = subprocess.Popen([self.program, "run", "--config", self.config], stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(environment or {})})
        try:
            wait_for(self.port, self.process)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}: {self.said()[-800:]}") from None
        return self

    def said(self):
        with open(f"{self.place}/log", errors="replace") as log:
            return log.read()

    def token(self, user="alice", lifetime=None):
        more = ["--lifetime", lifetime] if lifetime else []
        return must(self.program, "token", "mint", "--user", user, *more, "--config", self.config).strip()

    def revoke(self, user):
        must(self.program, "session", "revoke", "--user", user, "--config", self.config)

    def runs(self):
        return self.process is not None and self.process.poll() is None


def end(processes):
    """Ends processes that were started here."""
    for process in processes:
        if process is not None and process.poll() is None:
            process.terminate()
    for process in processes:
        if process is None:
            continue
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nginx(work, port, name="nginx"):
    """An nginx that answers every request with two bytes."""
    place = f"{work}/{name}"
    os.makedirs(place)
    with open(f"{place}/nginx.conf", "w") as conf:
        conf.write(
            f"daemon off; master_process off; pid {place}/nginx.pid; error_log stderr crit; events {{}}\n"
            f"http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n"
            f"fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n"
            f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }} }}\n'
        )
    return subprocess.Popen(["nginx", "-e", "stderr", "-p", place, "-c", f"{place}/nginx.conf"])


def need(*programs):
    """Ends the script where a program is missing, so that nothing passes for want of a client."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        print(f"FAILED: these programs are needed: {', '.join(missing)}\n0 passed, 1 failed")
        sys.exit(1)
