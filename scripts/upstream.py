"""An API for the scripts: HTTP/1.1 by hand, so that it can do what frameworks hide. See PATHS.

Usage: scripts/upstream.py [--port N] [--unix PATH] [--cert PEM --key PEM [--client-ca PEM]]
"""

import argparse
import asyncio
import hashlib
import json
import ssl
import time

PATHS = {
    "/hash": "the length and the SHA-256 of the body",
    "/early": "103 Early Hints, and the answer half a second later",
    "/events?N": "N server-sent events, one each 200 ms, each with the time of its sending (CLOCK_MONOTONIC)",
    "/slow": "an answer after half a second",
    "/fields": "the fields of the request as JSON",
}
INTERVAL = 0.2


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head[:-4].split("\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    return line, pairs


async def read_body(reader, fields):
    digest, length = hashlib.sha256(), 0

    async def take(count):
        nonlocal length
        while count > 0:
            piece = await reader.read(min(count, 65536))
            if not piece:
                raise asyncio.IncompleteReadError(b"", count)
            digest.update(piece)
            length += len(piece)
            count -= len(piece)

    if fields.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    else:
        await take(int(fields.get("content-length", 0)))
    return f"{length} {digest.hexdigest()}"


def whole(body, kind="text/plain", status="200 OK"):
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


async def events(writer, count):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(count):
        await writer.drain()
        await asyncio.sleep(INTERVAL)
        event = f"data: {time.monotonic():.6f}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
    writer.write(b"0\r\n\r\n")


async def answer(line, pairs, reader, writer):
    path, _, query = line.split(" ")[1].partition("?")
    fields = dict(pairs)
    if fields.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    body = await read_body(reader, fields)
    if path == "/events":
        await events(writer, int(query))
    elif path == "/early":
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.5)
        writer.write(whole("early"))
    elif path == "/slow":
        await asyncio.sleep(0.5)
        writer.write(whole("slow"))
    elif path == "/fields":
        writer.write(whole(json.dumps(pairs), "application/json"))
    elif path == "/hash":
        writer.write(whole(body))
    else:
        writer.write(whole("ok"))
    await writer.drain()


async def connection(reader, writer):
    try:
        while True:
            line, pairs = await read_head(reader)
            await answer(line, pairs, reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, ValueError, IndexError, TimeoutError):
        pass
    finally:
        writer.close()


async def serve(options):
    secure = None
    if options.cert:
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(options.cert, options.key)
        if options.client_ca:
            secure.load_verify_locations(options.client_ca)
            secure.verify_mode = ssl.CERT_REQUIRED
    servers = []
    if options.port:
        servers.append(await asyncio.start_server(connection, "127.0.0.1", options.port, ssl=secure))
    if options.unix:
        servers.append(await asyncio.start_unix_server(connection, options.unix))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--port", type=int)
    for name in ("--unix", "--cert", "--key", "--client-ca"):
        words.add_argument(name)
    asyncio.run(serve(words.parse_args()))


if __name__ == "__main__":
    main()
