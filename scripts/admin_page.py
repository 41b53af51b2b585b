#!/usr/bin/env python3
"""The admin page in a real browser: it draws what is counted while requests come, signs in with the token, ends a session,
and gives nothing to other sites. A headless Chromium is driven over its DevTools protocol.
Usage: scripts/admin_page.py [PROGRAM] [--screenshot FILE]. Needs Chromium and the Python package websockets."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from websockets.sync.client import connect

from harness import Checks, end, free_port, must, program_from, wait_for

SCREENSHOT = sys.argv[sys.argv.index("--screenshot") + 1] if "--screenshot" in sys.argv else None
PROGRAM = program_from([argument for argument in sys.argv if argument not in ("--screenshot", SCREENSHOT)])
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
checks = Checks()


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, work):
        self.port = free_port()
        self.process = subprocess.Popen(
            [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1400,1250",
             "--host-resolver-rules=MAP evil.test 127.0.0.1", f"--user-data-dir={work}/chromium", f"--remote-debugging-port={self.port}",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        self.socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None).__enter__()
        self.number, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def js(self, expression, **options):
        outcome = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, **options)
        if "exceptionDetails" in outcome:
            raise RuntimeError(f"{expression}: {outcome['exceptionDetails'].get('exception', {}).get('description')}")
        return outcome["result"].get("value")

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, expression, seconds=20):
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            if self.js(expression):
                return True
            time.sleep(0.1)
        return False

    def wait(self, seconds):
        """Lets the page go on. What the browser tells meanwhile is read, because it would wait for that."""
        over = time.monotonic() + seconds
        while (left := over - time.monotonic()) > 0:
            try:
                self.events.append(json.loads(self.socket.recv(timeout=left)))
            except TimeoutError:
                return

    def complaints(self):
        """What the browser holds against the page: scripts that failed, and what the policy has forbidden."""
        told = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                told.append(event["params"]["exceptionDetails"]["text"])
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                told.append(event["params"]["entry"]["text"] + " " + event["params"]["entry"].get("url", ""))
        return told

    def asked(self):
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]

    def stop(self):
        self.socket.close()
        end([self.process])


def gateway(work, upstream):
    port, admin = free_port(), free_port()
    must(PROGRAM, "key", "generate", "--out", f"{work}/signing.pem")
    token = base64.b16encode(os.urandom(24)).decode()
    with open(f"{work}/admin-token", "w") as file:
        file.write(token + "\n")
    with open(f"{work}/gateway.toml", "w") as file:
        file.write(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\nadmin = "127.0.0.1:{admin}"\nadmin_token_file = "admin-token"\nworkers = 2\n'
            f'[[tokens.keys]]\nkid = "trial"\nalg = "EdDSA"\nfile = "signing.pem"\n[users.hashing]\nmemory = "8KiB"\niterations = 1\n'
            f'[upstreams.billing]\ntargets = ["http://127.0.0.1:{upstream}"]\n[upstreams.website]\ntargets = ["http://127.0.0.1:{upstream}"]\n'
            '[[routes]]\nname = "invoices"\npath = "/billing/invoices"\nmethods = ["GET", "POST"]\nauth = "required"\nupstream = "billing"\n'
            '[[routes]]\nname = "customers"\npath = "/billing/customers/{id}"\nauth = "required"\nupstream = "billing"\n'
            '[[routes]]\nname = "search"\npath = "/search"\nauth = "optional"\nupstream = "website"\n'
            '[[routes]]\nname = "site"\npath = "/"\nauth = "public"\nupstream = "website"\n[log]\naccess = false\n'
        )
    for name in ("alice", "bob", "<img src=x onerror=alert(1)>"):
        must(PROGRAM, "user", "add", name, "--config", f"{work}/gateway.toml", input="secret-password\n")
    log = open(f"{work}/log", "w")
    process = subprocess.Popen([PROGRAM, "run", "--config", f"{work}/gateway.toml"], stdout=log, stderr=log)
    wait_for(port, process)
    return process, port, admin, token


def login(port, name):
    body = json.dumps({"username": name, "password": "secret-password"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/token/", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["access"]


def status(port, path, token=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def traffic(port, access, over):
    number = 0
    while not over.is_set():
        number += 1
        status(port, "/billing/invoices/7", access)
        status(port, f"/billing/customers/{number % 50}", access)
        status(port, "/search", None)
        status(port, "/", None)
        if number % 5 == 0:
            status(port, "/billing/invoices/7")
        if number % 9 == 0:
            status(port, "/billing/invoices/7", access + "x")
        if number % 11 == 0:
            status(port, "/a//b")
        over.wait(0.02)


def page_draws(browser, url, token):
    browser.go(url)
    checks("the page asks for the token", browser.until("!document.getElementById('sign-in').hidden"))
    checks("it shows nothing before", browser.js("document.getElementById('routes').children.length") == 0)
    sign_in(browser, "wrong-token")
    checks("a wrong token is told", browser.until("document.getElementById('sessions-trouble').textContent.includes('not the admin token')"))
    sign_in(browser, token)
    checks("sessions are shown", browser.until("document.getElementById('sessions').children.length === 3"))
    checks("the last refusals are shown", browser.until("document.getElementById('refusals').children.length > 3"))
    refusals = browser.js("document.getElementById('refusals').textContent")
    for word in ("credentials_missing", "/billing/invoices/7", "path_ambiguous", "The path has an empty segment"):
        checks(f"refusals show {word}", word in refusals, refusals)
    shown = browser.js("document.getElementById('sessions').textContent")
    checks("names are text", "<img src=x onerror=alert(1)>" in shown and browser.js("document.querySelectorAll('img').length") == 0, shown)
    checks("the charts move", browser.until("document.querySelectorAll('#chart-requests polyline').length > 1", 30))
    checks("there is a rate", browser.until("parseFloat(document.getElementById('rate').textContent) > 1"))
    for figure in ("p50", "p99", "own99"):
        checks(f"there is a {figure}", browser.until(f"/ms|µs/.test(document.getElementById('{figure}').textContent)"))
    routes = browser.js("document.getElementById('routes').textContent")
    for word in ("invoices", "/billing/customers/{id}", "everybody", "users", "(no route)"):
        checks(f"routes show {word}", word in routes, routes)
    reasons = browser.until("document.getElementById('legend-refusals').textContent.includes('credentials_missing')")
    checks("refusals have their reasons", reasons, browser.js("document.getElementById('legend-refusals').textContent"))
    checks("upstreams are shown", "billing" in browser.js("document.getElementById('upstreams').textContent"))


def sign_in(browser, token):
    browser.js(f"document.getElementById('token').value = {json.dumps(token)}; document.querySelector('#sign-in button').click()")


def page_revokes(browser, port, access):
    checks("the token passes", status(port, "/billing/invoices/7", access) == 200)
    browser.js("[...document.querySelectorAll('#sessions tr')].find(row => row.children[1].textContent === 'bob').querySelector('button').click()")
    checks("the session goes", browser.until("document.getElementById('sessions').children.length === 2"))
    checks("its token does not pass any more", status(port, "/billing/invoices/7", access) == 401)
    browser.js("document.getElementById('sign-out').click()")
    for table in ("sessions", "refusals"):
        checks(f"signing out hides the {table}", browser.js(f"document.getElementById('{table}').children.length") == 0)
    stored = browser.js("localStorage.length + sessionStorage.length + document.cookie.length")
    checks("the token is stored nowhere", stored == 0, stored)


def others_get_nothing(browser, admin, token):
    own = f"http://127.0.0.1:{admin}/"
    asked = [url for url in browser.asked() if not url.startswith((own, "about:", "data:"))]
    checks("the page asks nobody else", not asked, asked)
    # The browser reports the refusals of the token as well, which were asked for.
    complaints = [told for told in browser.complaints() if "401" not in told and "favicon" not in told]
    checks("the browser has nothing against the page", not complaints, complaints)
    forbidden = browser.js("(() => { try { return eval('1') } catch (error) { return error.name } })()", allowUnsafeEvalBlockedByCSP=False)
    checks("scripts of the page cannot be made of text", forbidden == "EvalError", forbidden)
    browser.go(f"http://evil.test:{admin}/")
    checks("another name gets no page", "not the admin listener" in browser.js("document.body.textContent"))
    fields = json.dumps({"X-Tollgate-Admin": "1", "Authorization": f"Bearer {token}"})
    for path in ("api/overview", "api/refusals", "api/sessions", "metrics"):
        same = browser.js(f"fetch('/{path}', {{ headers: {fields} }}).then(answer => answer.status)")
        checks(f"nor {path}", same == 421, same)
        cross = browser.js(f"fetch('{own}{path}', {{ headers: {fields} }}).then(() => 'read', error => error.name)")
        checks(f"{path} is not read from another site", cross == "TypeError", cross)
    sent = browser.js(f"fetch('{own}api/sessions/revoke', {{ method: 'POST', mode: 'no-cors', body: '{{}}' }}).then(answer => answer.type)")
    checks("what a form can send is refused", sent == "opaque", sent)


def work_through(work):
    upstream = free_port()
    started = [subprocess.Popen([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "upstream.py"), "--port", str(upstream)], stdout=subprocess.DEVNULL)]
    over, sending, browser = threading.Event(), [], None
    try:
        wait_for(upstream)
        process, port, admin, token = gateway(work, upstream)
        started.append(process)
        access = {name: login(port, name) for name in ("alice", "bob", "<img src=x onerror=alert(1)>")}
        sending = [threading.Thread(target=traffic, args=(port, access["alice"], over)) for _ in range(2)]
        for thread in sending:
            thread.start()
        browser = Browser(work)
        checks.section("the page draws", page_draws, browser, f"http://127.0.0.1:{admin}/", token)
        if SCREENSHOT:
            browser.wait(40)
            picture = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            with open(SCREENSHOT, "wb") as file:
                file.write(base64.b64decode(picture["data"]))
        checks.section("the page revokes", page_revokes, browser, port, access["bob"])
        checks.section("others get nothing", others_get_nothing, browser, admin, token)
        with open(f"{work}/log") as log:
            checks("the token is not logged", token not in log.read())
    finally:
        over.set()
        for thread in sending:
            thread.join()
        if browser:
            browser.stop()
        end(started)


if not BROWSER:
    print("Chromium is not installed: the page was not tried\n0 passed, 0 failed")
    sys.exit(0)
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
    checks.section("admin page", work_through, work)
checks.finish(least=37)
