"""A PostgreSQL server of its own, for scripts: initdb as an unprivileged user, in a directory that the caller removes."""

import glob
import os
import shutil
import signal
import subprocess
import time

from harness import free_port, must, run

PASSWORD = "cluster-database-secret"


class Server:
    """Durable, as in production: what it has told to be committed survives kill -9."""

    def __init__(self, work):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            raise RuntimeError("PostgreSQL is not installed (package postgresql)")
        self.programs, self.port, self.process = found[-1], free_port(), None
        self.place = f"{work}/postgres"
        os.makedirs(self.place)
        os.chmod(work, 0o755)
        self.under = []
        if os.geteuid() == 0:
            shutil.chown(self.place, "postgres", "postgres")
            self.under = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        word = f"{work}/password"
        with open(word, "w") as file:
            file.write(PASSWORD)
        os.chmod(word, 0o644)
        must(*self.under, f"{self.programs}/initdb", "-D", f"{self.place}/data", "-U", "tollgate", "-A", "scram-sha-256",
             "--pwfile", word, "-E", "UTF8", "--locale=C", "-N", cwd="/")

    def start(self):
        words = ["-D", f"{self.place}/data", "-p", self.port, "-c", "listen_addresses=127.0.0.1", "-k", self.place,
                 "-c", "max_connections=200", "-c", "restart_after_crash=on"]
        log = open(f"{self.place}/log", "a")
        self.process = subprocess.Popen([str(word) for word in [*self.under, f"{self.programs}/postgres", *words]], cwd="/",
                                        stdout=log, stderr=log)
        for _ in range(500):
            if self.psql("SELECT 1").returncode == 0:
                return self
            time.sleep(0.02)
        raise RuntimeError("PostgreSQL does not start")

    def psql(self, sql):
        return run(f"{self.programs}/psql", "-h", "127.0.0.1", "-p", self.port, "-U", "tollgate", "-d", "postgres", "-Atqc", sql,
                   env={**os.environ, "PGPASSWORD": PASSWORD})

    def pids(self):
        """The server and all of its processes."""
        pids = run("pgrep", "-P", self.process.pid).stdout.split()
        return [self.process.pid, *map(int, pids)]

    def signal(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """As when the machine's power is cut, except that what was written is not lost with the page cache."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        pid = f"{self.place}/data/postmaster.pid"
        if os.path.exists(pid):
            os.remove(pid)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def url(self, port=None):
        return f"postgres://tollgate:{PASSWORD}@127.0.0.1:{port or self.port}/postgres?sslmode=disable"
