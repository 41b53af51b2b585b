#!/usr/bin/env python3
"""The client of a Django API with djangorestframework-simplejwt, as such clients are written, against `tollgate demo`.

Usage: scripts/django_client.py [PROGRAM]
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

import requests

TIMEOUT = 20
passed = failed = 0


def check(what, expected, actual):
    global passed, failed
    if expected == actual:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}\n  expected: {expected!r}\n  got:      {actual!r}")


def get(url, access):
    return requests.get(url, headers={"Authorization": f"Bearer {access}"}, timeout=TIMEOUT)


def use(base, username, password):
    tokens = requests.post(
        f"{base}/api/token/", data={"username": username, "password": password}, timeout=TIMEOUT
    ).json()
    check("a login answers two tokens", {"access", "refresh"}, set(tokens))
    user = get(f"{base}/api/user/", tokens["access"])
    check("the access token passes", 200, user.status_code)
    check("the API knows the user", (1, username), (user.json()["id"], user.json()["username"]))

    seen = {tokens["access"]}
    for number in range(1, 4):
        fresh = requests.post(
            f"{base}/api/token/refresh/", data={"refresh": tokens["refresh"]}, timeout=TIMEOUT
        ).json()
        check(f"refresh {number} answers an access token", {"access"}, set(fresh))
        check(f"access token {number} is new", False, fresh["access"] in seen)
        seen.add(fresh["access"])
        check(f"access token {number} passes", 200, get(f"{base}/api/user/", fresh["access"]).status_code)
    check("the first access token passes still", 200, get(f"{base}/api/user/", tokens["access"]).status_code)

    as_json = requests.post(
        f"{base}/api/token", json={"username": username, "password": password}, timeout=TIMEOUT
    )
    check("JSON, and no slash at the end", 200, as_json.status_code)

    wrong = requests.post(
        f"{base}/api/token/", data={"username": username, "password": "wrong"}, timeout=TIMEOUT
    )
    check("a wrong password", 401, wrong.status_code)
    check("its text", "No active account found with the given credentials", wrong.json()["detail"])
    empty = requests.post(f"{base}/api/token/", data={}, timeout=TIMEOUT)
    check("an empty form", 400, empty.status_code)
    check("its fields", ["This field is required."], empty.json()["username"])
    nobody = requests.get(f"{base}/api/user/", timeout=TIMEOUT)
    check("no token", 401, nobody.status_code)
    check("its text", "Authentication credentials were not provided.", nobody.json()["detail"])
    swapped = get(f"{base}/api/user/", tokens["refresh"])
    check("a refresh token is no access token", (401, "token_not_valid"), (swapped.status_code, swapped.json()["code"]))


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "target/debug/tollgate"
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        demo = subprocess.Popen([program, "demo", "--json"], stdout=subprocess.PIPE, text=True, env=environment)
        # Ends the reading below, should the program say nothing.
        watchdog = threading.Timer(60, demo.kill)
        watchdog.start()
        try:
            told = json.loads(demo.stdout.readline() or "{}")
            check("the demo says where it is", {"url", "username", "password"}, set(told))
            if told:
                use(told["url"], told["username"], told["password"])
            demo.send_signal(signal.SIGTERM)
            check("the demo ends well", 0, demo.wait(timeout=TIMEOUT))
            check("and prints nothing else", "", demo.stdout.read())
            check("and leaves nothing behind", [], os.listdir(scratch))
        finally:
            watchdog.cancel()
            demo.kill()
            demo.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
