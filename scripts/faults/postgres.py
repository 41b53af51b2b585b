"""A PostgreSQL server with the users of a Django application, for as long as a fault needs it."""

import base64
import glob
import hashlib
import os
import shutil
import signal
import subprocess

from common import PASSWORD, Skip, free_port, must, wait_for

TABLES = """
CREATE TABLE auth_user (id serial PRIMARY KEY, password varchar(128) NOT NULL, last_login timestamptz, is_superuser boolean NOT NULL
    DEFAULT false, username varchar(150) NOT NULL UNIQUE, first_name varchar(150) NOT NULL DEFAULT '', last_name varchar(150) NOT NULL
    DEFAULT '', email varchar(254) NOT NULL DEFAULT '', is_staff boolean NOT NULL DEFAULT false, is_active boolean NOT NULL DEFAULT true,
    date_joined timestamptz NOT NULL DEFAULT now());
CREATE TABLE auth_group (id serial PRIMARY KEY, name varchar(150) NOT NULL UNIQUE);
CREATE TABLE auth_user_groups (id serial PRIMARY KEY, user_id integer NOT NULL, group_id integer NOT NULL);
"""


def django_hash(password):
    derived = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 1000)
    return f"pbkdf2_sha256$1000$salt${base64.b64encode(derived).decode()}"


class Postgres:
    def __init__(self, trial):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found or os.geteuid() != 0 or not shutil.which("setpriv"):
            raise Skip("it needs root, setpriv and PostgreSQL (package postgresql)")
        place, port = f"{trial.work}/postgres", free_port()
        os.makedirs(place)
        os.chmod(trial.work, 0o755)
        shutil.chown(place, "postgres", "postgres")
        under = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        must(*under, f"{found[-1]}/initdb", "-D", f"{place}/data", "-A", "trust", "-N", cwd="/")
        words = ["-D", f"{place}/data", "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", place, "-c", "fsync=off"]
        self.process = trial.process(*under, f"{found[-1]}/postgres", *words, cwd="/", stderr=subprocess.DEVNULL)
        wait_for(port, self.process)
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        insert = f"INSERT INTO auth_user (username, password) VALUES ('alice', '{django_hash(PASSWORD)}')"
        for attempt in range(20):
            try:
                must("psql", "-q", self.url, "-c", TABLES, "-c", insert)
                return
            except RuntimeError:
                if attempt == 19:
                    raise

    def signal(self, number):
        """To the server and all of its processes; the children first when they are to stop."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            everybody = [*map(int, children.read().split()), self.process.pid]
        for pid in everybody if number == signal.SIGSTOP else reversed(everybody):
            os.kill(pid, number)
