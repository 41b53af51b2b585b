#!/usr/bin/env python3
"""Certificates are swapped under load: 100 handshakes a second, each with a request, while the pair of certificate and key
is renamed over ten times a second. Every tenth pair does not match. No handshake fails, and a good pair is soon served.

Usage: scripts/certificate_swaps.py [SWAPS] [PROGRAM]
Prints what was measured, and the count of checks in the last line. Needs openssl.
"""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter

from harness import Checks, Gateway, end, free_port, make_ca, make_certificate, need, program_from, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
LEAST = 12
HOST = "swap.test"
HANDSHAKES = 100
SWAPS = 10
# Pairs that take turns; a certificate that is served tells by its bytes which one it is.
PAIRS = 7
# How soon a good pair has to be served, in seconds.
SOON = 2.0
check = Checks()


def put(work, certificate, key):
    """Renames a pair over the one that is configured: the certificate first, so that for a moment the two differ."""
    for source, name in ((f"{certificate}.pem", "cert.pem"), (f"{key}.key", "key.pem")):
        shutil.copy(f"{work}/{source}", f"{work}/served/{name}.new")
        os.rename(f"{work}/served/{name}.new", f"{work}/served/{name}")


class Client:
    def __init__(self, work, port):
        self.port, self.served, self.failures, self.times = port, Counter(), Counter(), []
        self.contexts = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=f"{work}/ca.pem")
            context.minimum_version = context.maximum_version = version
            self.contexts.append(context)

    async def request(self, number=0):
        """One handshake with one request; returns the certificate that was served."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.contexts[number % 2], server_hostname=HOST)
        try:
            writer.write(f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read()
            if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"ok"):
                raise RuntimeError(f"no answer: {answer[:80]!r}")
            return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.close()

    async def counted(self, number):
        began = time.monotonic()
        try:
            self.served[await asyncio.wait_for(self.request(number), 5)] += 1
            self.times.append(time.monotonic() - began)
        except Exception as error:
            self.failures[f"{type(error).__name__}: {error}"[:120]] += 1

    async def load(self, stop):
        """Handshakes at a steady pace, whether or not those before have ended."""
        began, number, tasks = time.monotonic(), 0, set()
        while not stop.is_set():
            task = asyncio.create_task(self.counted(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, began + number / HANDSHAKES - time.monotonic()))
        self.rate = number / (time.monotonic() - began)
        await asyncio.gather(*tasks)

    async def until_served(self, certificate, limit=10.0):
        """How long until this certificate is served, in seconds; nothing if it takes longer than the limit."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < limit:
            if await self.request() == certificate:
                return waited
            await asyncio.sleep(0.02)
        return None


def der(work, name):
    with open(f"{work}/{name}.pem") as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


async def swapping(work, client, swaps):
    stop = asyncio.Event()
    load = asyncio.create_task(client.load(stop))
    began = time.monotonic()
    for swap in range(swaps):
        mismatched = swap % 10 == 9
        put(work, f"pair{swap % PAIRS}", f"pair{(swap + mismatched) % PAIRS}")
        await asyncio.sleep(max(0.0, began + (swap + 1) / SWAPS - time.monotonic()))
    lags = []
    # With the load still on: what is good is served soon, and what does not match never.
    for name in ("late0", "late1", "late2"):
        put(work, name, name)
        lags.append(await client.until_served(der(work, name)))
    put(work, "late0", "late1")
    await asyncio.sleep(SOON)
    kept = await client.request() == der(work, "late2")
    put(work, "late3", "late3")
    lags.append(await client.until_served(der(work, "late3")))
    stop.set()
    await load
    return lags, kept, time.monotonic() - began


def judge(work, gateway, client, swaps, lags, kept, seconds):
    count = sum(client.served.values())
    failures = sum(client.failures.values())
    times = sorted(client.times) or [0.0]
    print(f"{count} handshakes in {seconds:.1f} s, {failures} failed; p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.1f} ms; "
          f"{swaps} swaps, {len(client.served)} certificates served; new ones after {', '.join('never' if lag is None else f'{lag:.2f} s' for lag in lags)}")
    check("no handshake fails", failures == 0, dict(client.failures.most_common(5)))
    check("the load is as heavy as it should be", client.rate > 0.9 * HANDSHAKES, f"{client.rate:.0f} a second")
    check("every handshake was answered", count >= 0.9 * HANDSHAKES * seconds, count)
    ours = {der(work, name) for name in [f"pair{number}" for number in range(PAIRS)] + [f"late{number}" for number in range(4)] + ["first"]}
    check("only certificates of ours are served", set(client.served) <= ours)
    # A pair stays for a tenth of a second only, so most of them are gone before they are looked at.
    pairs = {der(work, f"pair{number}") for number in range(PAIRS)}
    check("swaps are seen while they go on", pairs & set(client.served), len(client.served))
    for number, lag in enumerate(lags):
        check(f"a good pair is served within {SOON:.0f} s ({number})", lag is not None and lag < SOON, lag)
    check("a pair that does not match leaves the old one", kept)
    said = gateway.said()
    check("and the log says so", "cert.pem" in said and "key" in said, said[-600:])
    check("the gateway still runs", gateway.runs(), said[-600:])


def main():
    need("openssl")
    swaps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    processes, gateway = [], None
    with tempfile.TemporaryDirectory() as work:
        try:
            make_ca(work, "ca")
            for name in [f"pair{number}" for number in range(PAIRS)] + [f"late{number}" for number in range(4)] + ["first"]:
                make_certificate(work, "ca", name, f"DNS:{HOST}")
            os.makedirs(f"{work}/served")
            put(work, "first", "first")
            api = free_port()
            processes.append(subprocess.Popen([sys.executable, f"{HERE}/upstream.py", "--port", str(api)]))
            wait_for(api)
            gateway = Gateway(
                program_from(sys.argv, 2), work, "swaps",
                f'[tls]\n[[tls.certificates]]\nhosts = ["{HOST}"]\ncert = "{work}/served/cert.pem"\nkey = "{work}/served/key.pem"\n'
                f'[upstreams.api]\ntargets = ["http://127.0.0.1:{api}"]\n[[routes]]\npath = "/"\nauth = "public"\nupstream = "api"\n',
            ).start()
            processes.append(gateway.process)
            client = Client(work, gateway.port)
            judge(work, gateway, client, swaps, *asyncio.run(swapping(work, client, swaps)))
        except Exception as error:
            check("the run reaches its end", False, f"{type(error).__name__}: {error}: {gateway.said()[-800:] if gateway else ''}")
        finally:
            end(processes)
    check.finish(LEAST)


if __name__ == "__main__":
    main()
