"""An upstream that misbehaves on purpose: HTTP/1.1 by hand. What it was asked is appended to a file, one word a request.

Usage: scripts/faults/flapping.py --port N [--seen FILE] [--mode MODE]
"""

import argparse
import asyncio
import base64
import hashlib
import os

MODES = {
    "good": "answers at once",
    "silent": "accepts and never answers",
    "cut": "resets in the middle of the answer's body",
    "slow": "sends its answer at one byte a second",
    "closing": "closes the connection without an answer",
}


class Upstream:
    def __init__(self, options):
        self.mode = options.mode
        self.seen = os.open(options.seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if options.seen else None

    async def head(self, reader):
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = text[:-4].split("\r\n")
        return line, {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}

    async def body(self, reader, fields):
        """The length of the body."""
        length = int(fields.get("content-length", 0))
        left = length
        while left > 0:
            piece = await reader.read(min(left, 65536))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
        if fields.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await reader.readexactly(size + 2)
                length += size
            await reader.readuntil(b"\r\n")
        return length

    async def connection(self, reader, writer):
        try:
            while True:
                line, fields = await self.head(reader)
                if self.seen is not None and "x-nonce" in fields:
                    os.write(self.seen, f"{line.split()[0]} {fields['x-nonce']}\n".encode())
                if fields.get("upgrade") == "websocket":
                    return await self.websocket(fields, reader, writer)
                length = await self.body(reader, fields)
                if not await self.answer(line, fields, length, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, TimeoutError):
            pass
        finally:
            writer.close()

    async def answer(self, line, fields, length, writer):
        """Whether the connection goes on."""
        path, _, query = line.split()[1].partition("?")
        path = path.removeprefix("/open")
        if self.mode == "silent":
            await asyncio.sleep(3600)
        elif self.mode == "closing":
            return False
        elif self.mode == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
            await writer.drain()
            writer.transport.abort()
            return False
        elif self.mode == "slow":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b"s")
                await writer.drain()
                await asyncio.sleep(1)
        elif path == "/large":
            await self.large(int(query), writer)
        elif path == "/wait":
            await asyncio.sleep(float(query))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nwaited")
        elif path == "/events":
            await self.events(int(query), writer)
        elif path == "/who":
            body = f"{fields.get('x-user-id', '')} {fields.get('x-nonce', '')}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        else:
            body = str(length).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        return True

    async def websocket(self, fields, reader, writer):
        """Agrees, and says nothing until the other side has closed."""
        digest = hashlib.sha1(fields["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: "
                     + base64.b64encode(digest) + b"\r\n\r\n")
        await writer.drain()
        while await reader.read(1024):
            pass

    async def large(self, size, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        piece = b"x" * 65536
        while size > 0:
            writer.write(piece[:size])
            size -= len(piece)
            await writer.drain()

    async def events(self, count, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(count):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.2)
        writer.write(b"0\r\n\r\n")


async def serve(options):
    server = await asyncio.start_server(Upstream(options).connection, "127.0.0.1", options.port, backlog=1000)
    await server.serve_forever()


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--seen")
    words.add_argument("--mode", choices=sorted(MODES), default="good")
    asyncio.run(serve(words.parse_args()))


if __name__ == "__main__":
    main()
