"""As much of HTTP/2 as a client needs that has many streams and goes on after GOAWAY, which libraries do not."""

import select
import time

from common import connect

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
# In HPACK's static table: the index of each status that has one, as an indexed field (RFC 7541, appendix A).
STATUSES = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """A literal without Huffman's code (RFC 7541 sections 5.1 and 5.2)."""
    length, left = [min(len(value), 127)], len(value) - 127
    while left >= 128:
        length.append(left % 128 + 128)
        left //= 128
    if len(value) >= 127:
        length.append(left)
    return bytes(length) + value.encode()


def status_of(block):
    """The status of a head; 0 for one that is not in the static table."""
    while block and block[0] & 0xE0 == 0x20:
        block = block[1:]
    return STATUSES.get(block[0] if block else 0, 0)


class Client:
    def __init__(self, port):
        self.socket = connect(port)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        self.buffer, self.opened, self.statuses, self.ended, self.goaway = b"", 0, {}, 0, False

    def get(self, path, token=None):
        fields = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "x"}
        if token:
            fields["authorization"] = f"Bearer {token}"
        block = b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())
        self.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 2 * self.opened + 1, block))
        self.opened += 1

    def read(self, seconds, enough):
        """Reads until it is enough, or nothing more comes."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not enough():
            if not select.select([self.socket], [], [], 0.05)[0]:
                continue
            piece = self.socket.recv(65536)
            if not piece:
                return
            self.buffer += piece
            self.take()

    def take(self):
        while len(self.buffer) >= 9 and len(self.buffer) >= 9 + (length := int.from_bytes(self.buffer[:3], "big")):
            kind, flags, payload = self.buffer[3], self.buffer[4], self.buffer[9:9 + length]
            self.buffer = self.buffer[9 + length:]
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == HEADERS:
                status = status_of(payload)
                self.statuses[status] = self.statuses.get(status, 0) + 1
            elif kind == GOAWAY:
                self.goaway = True
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.ended += 1

    def close(self):
        self.socket.close()
