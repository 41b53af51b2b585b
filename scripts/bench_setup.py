"""What the measurements need that is not part of a system: programs from Debian's packages, and Python packages in target/venv-bench."""

import datetime
import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCHES = f"{ROOT}/benches"
VENV = f"{ROOT}/target/venv-bench"
# Each program with the Debian package that has it.
PROGRAMS = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl", "taskset": "util-linux"}


def programs(names):
    """Installs the programs that are missing, or ends the script where it may not."""
    missing = [name for name in names if not shutil.which(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = sorted({PROGRAMS[name] for name in missing})
        print(f"installing {', '.join(packages)}", file=sys.stderr)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=False, stdout=subprocess.DEVNULL, env=environment)
        subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", *packages], check=True, stdout=subprocess.DEVNULL, env=environment)
        missing = [name for name in names if not shutil.which(name)]
    if missing:
        sys.exit("these programs are needed: " + ", ".join(f"{name} (Debian: {PROGRAMS[name]})" for name in missing))


def packages(wanted):
    """Goes on in an environment of Python that has these packages, named as {module: package}."""
    python = f"{VENV}/bin/python3"
    inside = os.path.realpath(sys.prefix) == os.path.realpath(VENV)
    if not inside and os.path.exists(python):
        os.execv(python, [python, *sys.argv])
    missing = [package for module, package in wanted.items() if importlib.util.find_spec(module) is None]
    if not inside or missing:
        print(f"installing {', '.join(missing) or 'a Python environment'} in {VENV}", file=sys.stderr)
        if not inside:
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted.values()], check=True)
        os.execv(python, [python, *sys.argv])


def descriptors(wanted):
    """Lets this script and what it starts have so many files open."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), max(most, wanted)))
    except (OSError, ValueError):
        sys.exit(f"{wanted} open files are needed, and {most} are allowed: run this as root, or raise the limit (ulimit -Hn)")


def program(path):
    if not os.access(path, os.X_OK):
        sys.exit(f"there is no program {path}: build it with cargo build --release")
    return os.path.abspath(path)


def run_to_end(main):
    """Runs a measurement. What it has started ends with it, also when it is ended by a signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"FAILED: {error}")


def machine():
    """The processors, the kernel and the day, as a report names them."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "processor": models[0] if models else os.uname().machine,
        "processors": os.cpu_count(),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "date": datetime.date.today().isoformat(),
    }
