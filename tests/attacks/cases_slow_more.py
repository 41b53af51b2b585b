"""More slow clients: handshakes, heads and bodies piece by piece, and HTTP/2 that goes nowhere."""

import struct

from rig.forms_slow import CLIENT_HELLO, GREETING, POST, h2_headers, open_post, slow, whole_get
from rig.http2 import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, PRIORITY, SETTINGS, WINDOW_UPDATE, block, frame, literal, pseudo

GET = b"GET /echo HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer @TOK@\r\n\r\n"


def begun(token):
    """A head whose last frame never comes."""
    return GREETING + h2_headers(b"GET", token, END_STREAM)


def half_a_head(token):
    """A frame of HEADERS of which the end never comes."""
    return GREETING + h2_headers(b"GET", token, END_HEADERS | END_STREAM)[:-40]


CASES = [
    # --- before HTTP: with TLS a handshake, without it garbage or silence
    slow("slow-tls-silent", b"", "idle", "a handshake that never begins", plain=True),
    slow("slow-tls-half-hello", CLIENT_HELLO, "header", "half a ClientHello", plain=True),
    slow("slow-tls-hello-drip", CLIENT_HELLO[:5], "header", "a ClientHello, byte by byte", lambda step: (CLIENT_HELLO + bytes(500))[5 + step : 6 + step], plain=True),
    slow("slow-tls-one-byte", b"\x16", "header", "one byte of a handshake", plain=True),
    # --- the head
    slow("slow-one-byte", b"G", "header", "one byte"),
    slow("slow-line-drip", b"GET /", "header", "a request line, byte by byte", b"a"),
    slow("slow-name-drip", b"GET / HTTP/1.1\r\nX", "header", "a header name, byte by byte", b"a"),
    slow("slow-value-drip", b"GET / HTTP/1.1\r\nX: ", "header", "a header value, byte by byte", b"a"),
    slow("slow-no-end", POST[:-2], "header", "a head without its last line end"),
    slow("slow-empty-lines", b"\r\n", "idle", "empty lines before a request are not a request", b"\r\n"),
    slow("slow-preface-drip", PREFACE[:2], "header", "the preface, byte by byte", lambda step: PREFACE[2 + step : 3 + step]),
    slow("slow-second-head", GET + b"GET /echo HTTP/1.1\r\nX: ", "header", "the second head of a connection, byte by byte", b"a", must_start_with=b"HTTP/1.1 200"),
    slow("slow-keepalive-lines", GET, "idle", "empty lines between requests", b"\r\n", must_start_with=b"HTTP/1.1 200"),
    # --- the body
    slow("slow-body-never", POST + b"Content-Length: 100\r\n\r\n", "body", "a body that never comes"),
    slow("slow-body-half", POST + b"Content-Length: 100\r\n\r\nhalf", "body", "a body of which half comes"),
    slow("slow-body-drip", POST + b"Content-Length: 100000\r\n\r\n", "stall", "a body, byte by byte", b"a"),
    slow("slow-chunks-never", POST + b"Transfer-Encoding: chunked\r\n\r\n", "body", "chunks that never come"),
    slow("slow-size-drip", POST + b"Transfer-Encoding: chunked\r\n\r\n", "stall", "the size of a chunk, byte by byte", b"0"),
    slow("slow-trailer-drip", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "stall", "trailers, one by one", b"X: y\r\n"),
    slow("slow-trailer-never", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "body", "trailers that never end"),
    slow("slow-expect", POST + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n", "body", "asks to send and sends nothing", must_start_with=b"HTTP/1.1 100"),
    slow("slow-unauthenticated-drip", b"POST /private HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 100000\r\n\r\n", "body", "no token, and a body byte by byte", b"a", must_start_with=b"HTTP/1.1 401"),
    slow("slow-login-body", b"POST /api/token/ HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{", "body", "a login that never ends"),
    slow("slow-login-drip", b"POST /api/token/ HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n{", "stall", "a login, byte by byte", b" "),
    # --- HTTP/2
    slow("slow-h2-preface-only", PREFACE, "idle", "a preface and nothing else"),
    slow("slow-h2-half-preface", PREFACE[:10], "header", "half a preface"),
    slow("slow-h2-settings-drip", GREETING, "idle", "SETTINGS are no request", frame(SETTINGS, 0, 0)),
    slow("slow-h2-window-drip", GREETING, "idle", "WINDOW_UPDATE is no request", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    slow("slow-h2-priority-drip", GREETING, "idle", "PRIORITY is no request", frame(PRIORITY, 0, 1, bytes(5))),
    slow("slow-h2-unknown-drip", GREETING, "idle", "unknown frames are no request", frame(0x2A, 0, 0, b"a")),
    slow("slow-h2-no-end-headers", begun, "header", "HEADERS without END_HEADERS"),
    slow("slow-h2-continuation-drip", begun, "header", "a head that goes on for ever", frame(CONTINUATION, 0, 1, literal(b"x", b"y"))),
    slow("slow-h2-continuation-empty", begun, "header", "empty CONTINUATION", frame(CONTINUATION, 0, 1)),
    slow("slow-h2-half-headers", half_a_head, "header", "half a frame of HEADERS"),
    slow("slow-h2-headers-drip", half_a_head, "header", "a frame of HEADERS, byte by byte", b"\x00"),
    slow("slow-h2-frame-drip", GREETING + b"\x00\x3f\xff", "idle", "a frame without end, byte by byte", b"\x2a"),
    slow("slow-h2-post-ping", open_post, "body", "a POST whose DATA never comes, and PING", frame(PING, 0, 0, bytes(8))),
    slow("slow-h2-data-drip", open_post, "stall", "DATA, byte by byte", frame(DATA, 0, 1, b"a")),
    slow("slow-h2-data-empty", open_post, "stall", "empty DATA", frame(DATA, 0, 1)),
    slow("slow-h2-data-half", lambda token: open_post(token) + frame(DATA, 0, 1, bytes(100))[:20], "body", "half a frame of DATA"),
    slow("slow-h2-data-padding", open_post, "stall", "DATA that is padding alone", frame(DATA, 8, 1, b"\xff" + bytes(255))),
    slow("slow-h2-window-1", lambda token: whole_get(token, struct.pack(">HI", 4, 0)), "stall", "a window of 0 and PING", frame(PING, 0, 0, bytes(8))),
    slow("slow-h2-unauthenticated", GREETING + frame(HEADERS, END_HEADERS, 1, block(pseudo(b"POST", b"/private"))), "body", "no token, and DATA that never comes"),
    slow("slow-h2-login", GREETING + frame(HEADERS, END_HEADERS, 1, block((*pseudo(b"POST", b"/api/token/"), (b"content-type", b"application/json")))), "body", "a login whose DATA never comes"),
    slow("slow-h2-socket", lambda token: GREETING + frame(HEADERS, END_HEADERS, 1, block((*pseudo(b"CONNECT"), (b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), (b"authorization", b"Bearer " + token)))), "stall", "an opening of a WebSocket that the upstream refuses"),
]  # fmt: skip
