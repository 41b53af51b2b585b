#!/usr/bin/env python3
"""A real Django with djangorestframework-simplejwt, and the gateway in front of the same users with the same key.

Usage: scripts/django_interop.py [PROGRAM]. Installs what it needs into target/venv.
"""

import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "venv"
PACKAGES = ["django", "djangorestframework", "djangorestframework-simplejwt", "requests", "argon2-cffi", "bcrypt"]
TIMEOUT = 20
SECRET_KEY = "interop-secret-key-0123456789abcdef-0123456789-é"

SETTINGS = f'''
SECRET_KEY = {SECRET_KEY!r}
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "rest_framework_simplejwt"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}}}
REST_FRAMEWORK = {{"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"]}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers." + name for name in [
    "PBKDF2PasswordHasher", "PBKDF2SHA1PasswordHasher", "Argon2PasswordHasher", "BCryptSHA256PasswordHasher",
    "BCryptPasswordHasher", "ScryptPasswordHasher"]]
'''
URLS = '''
from django.urls import path
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView, TokenVerifyView

class Me(APIView):
    permission_classes = [IsAuthenticated]
    def get(self, request):
        return Response({"id": request.user.pk, "username": request.user.username})

urlpatterns = [path("api/token/", TokenObtainPairView.as_view()), path("api/token/refresh/", TokenRefreshView.as_view()),
               path("api/token/verify/", TokenVerifyView.as_view()), path("me/", Me.as_view())]
'''
SETUP = '''
from django.contrib.auth.models import Group, User
from django.contrib.auth.hashers import make_password
for hasher in ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt", "scrypt"]:
    User.objects.create(username=hasher, email=hasher + "@example.com", password=make_password("pässwörd ☃", hasher=hasher))
User.objects.get(username="argon2").groups.add(Group.objects.create(name="finance"))
'''

passed = failed = 0


def check(what, expected, actual):
    global passed, failed
    if expected == actual:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}\n  expected: {expected!r}\n  got:      {actual!r}")


def prepare():
    """Runs the rest in a virtual environment that has Django."""
    python = VENV / "bin" / "python3"
    if not python.exists():
        venv.create(VENV, with_pip=True)
    probe = "import django, rest_framework_simplejwt, requests, argon2, bcrypt"
    if subprocess.run([python, "-c", probe], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True, timeout=300)
    environment = {**os.environ, "TOLLGATE_INTEROP": "1"}
    return subprocess.run([python, __file__, *sys.argv[1:]], env=environment, timeout=300).returncode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, holds, within=TIMEOUT):
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            check(f"{what}, in time", True, False)
            return False
        time.sleep(0.05)
    check(what, True, True)
    return True


class Api(http.server.BaseHTTPRequestHandler):
    """The API behind the gateway: answers with what it was told."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        told = {name: self.headers.get(f"X-User-{name}") for name in ("Id", "Name", "Email", "Groups")}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def manage(work, *arguments, code=None):
    command = [sys.executable, "-m", "django", *arguments]
    if code is not None:
        command = [sys.executable, "-c", "import django; django.setup()\n" + code]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(work)}
    subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)


@contextlib.contextmanager
def running(command, work, probe):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(work)}
    with open(work / "output", "ab") as output:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=output, stderr=output)
        try:
            if not eventually(f"{pathlib.Path(command[0]).name} answers", probe):
                sys.exit((work / "output").read_text(errors="replace")[-4000:])
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def interop(program, work):
    import requests

    def post(base, path, **fields):
        return requests.post(f"{base}/api/token/{path}", json=fields, timeout=TIMEOUT)

    def get(base, path, access):
        return requests.get(f"{base}{path}", headers={"Authorization": f"Bearer {access}"}, timeout=TIMEOUT)

    def answers(base):
        def probe():
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(base, timeout=TIMEOUT).status_code > 0
            return False
        return probe

    (work / "settings.py").write_text(SETTINGS)
    (work / "urls.py").write_text(URLS)
    (work / "secret").write_text(SECRET_KEY + "\n")
    manage(work, "migrate", "--verbosity=0")
    manage(work, code=SETUP)

    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    listen, port = free_port(), free_port()
    (work / "gateway.toml").write_text(f'''
[server]
listen = ["127.0.0.1:{listen}"]
admin = ""
[[tokens.keys]]
alg = "HS256"
secret_file = "secret"
[users]
source = "django"
[users.django]
url = "sqlite://db.sqlite3"
hashers = ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt", "scrypt"]
recheck = "1s"
[upstreams.api]
targets = ["http://127.0.0.1:{api.server_port}"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
''')
    password = "pässwörd ☃"
    gateway, django = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{port}"
    server = [sys.executable, "-m", "django", "runserver", "--noreload", str(port)]
    with running(server, work, answers(django)), running([program], work, answers(gateway)):
        # Tokens of before the move go on.
        old = post(django, "", username="argon2", password=password).json()
        told = get(gateway, "/", old["access"])
        check("an access token of Django passes", 200, told.status_code)
        expected = {"Id": "3", "Name": "argon2", "Email": "argon2@example.com", "Groups": "finance"}
        check("the API is told who it is", expected, told.json() if told.ok else told.text)
        fresh = post(gateway, "refresh/", refresh=old["refresh"])
        check("a refresh token of Django refreshes", 200, fresh.status_code)
        check("and what it gives passes at Django", 200, get(django, "/me/", fresh.json().get("access")).status_code)

        # Every hash that Django makes, and an unchanged backend accepts what the gateway issues.
        for number, hasher in enumerate(["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt", "scrypt"], 1):
            login = post(gateway, "", username=hasher, password=password)
            check(f"login with {hasher}", 200, login.status_code)
            check(f"wrong password with {hasher}", 401, post(gateway, "", username=hasher, password="wrong").status_code)
            tokens = login.json()
            me = get(django, "/me/", tokens.get("access"))
            check(f"Django accepts the access token of {hasher}", {"id": number, "username": hasher}, me.json())
        check("Django refreshes with it", 200, post(django, "refresh/", refresh=tokens["refresh"]).status_code)
        check("Django verifies it", (200, {}), (lambda r: (r.status_code, r.json()))(post(django, "verify/", token=tokens["access"])))
        check("Django takes no refresh token for access", 401, get(django, "/me/", tokens["refresh"]).status_code)

        # What changes in Django is in force soon.
        code = 'from django.contrib.auth.models import Group, User\nuser = User.objects.get(username="argon2")\n'
        manage(work, code=code + 'user.groups.set([Group.objects.create(name="audit")])')
        eventually("a changed group is seen", lambda: get(gateway, "/", old["access"]).json().get("Groups") == "audit")
        manage(work, code=code + "user.is_active = False; user.save()")
        eventually("an inactive user is refused", lambda: get(gateway, "/", old["access"]).status_code == 401)
        check("by its code", "user_inactive", get(gateway, "/", old["access"]).json()["code"])
        check("and cannot log in", 401, post(gateway, "", username="argon2", password=password).status_code)
        refused = post(gateway, "refresh/", refresh=old["refresh"])
        check("nor refresh", (401, "No active account found for the given token."), (refused.status_code, refused.json()["detail"]))
        manage(work, code=code + 'user.is_active = True; user.set_password("new"); user.save()')
        eventually("a new password counts", lambda: post(gateway, "", username="argon2", password="new").status_code == 200)
        check("and the old one does not", 401, post(gateway, "", username="argon2", password=password).status_code)
    leftovers = [name for name in os.listdir(work) if name.startswith("db.sqlite3-")]
    check("the gateway leaves nothing beside the database", [], leftovers)
    if failed:
        print((work / "output").read_text(errors="replace")[-4000:])


def main():
    if os.environ.get("TOLLGATE_INTEROP") != "1":
        return prepare()
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/tollgate")
    with tempfile.TemporaryDirectory() as scratch:
        interop(program, pathlib.Path(scratch))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
