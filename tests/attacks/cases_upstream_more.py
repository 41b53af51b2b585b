"""More broken upstreams: framing, status lines, interim answers, heads, ends."""

from rig.forms_upstream import POISON, SOUND, answer, close_at_once, reset_at_once, say

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
FRAMING = "framing with more than one reading: 502, or the one reading that there is"
CUT = "a body that breaks off looks cut"
SURPLUS = "what follows an answer goes to nobody"
STATUS = "a status line that is none: 502, or a plain one"


def bad(id, raw, why=FRAMING, allowed=(502,), **more):
    """One answer in one piece, after which the connection stays open."""
    return answer(id, say(raw), allowed, why, **more)


def closed(id, raw, why=CUT, allowed=(200, 502), **more):
    """One answer, after which the upstream closes."""
    return answer(id, say(raw, close=True), allowed, why, **more)


def with_length(text):
    """A head with this length."""
    return OK + b"Content-Length: " + text + b"\r\n\r\nok"


def slow_reset(connection):
    """Half an answer, and then a reset."""
    say(OK + b"Content-Length: 100\r\n\r\nhalf")(connection)
    reset_at_once(connection)


LENGTHS = (b"+2", b"-2", b"0x2", b"2,2", b"2, 3", b"2 2", b"", b" ", b"2a", b"2.0", b"18446744073709551618", b"99999999999999999999", b"2\r\nContent-Length: 3", b"3\r\nContent-Length: 2", b"2\x00", b"2;", b'"2"', b"\xd9\xa2")
CODINGS = (b"gzip", b"identity", b"chunked, gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked\r\nTransfer-Encoding: identity", b"chunked\r\nTransfer-Encoding: chunked", b"identity\r\nTransfer-Encoding: chunked", b"", b'"chunked"', b"chunked;q=1", b"chunked\x0b", b"\x00chunked", b",chunked")
CHUNK_FAULTS = (b"g\r\nok\r\n", b"-2\r\nok\r\n", b"+2\r\nok\r\n", b"0x2\r\nok\r\n", b"\r\n", b"2\r\nokXX", b"2\r\noktoo long\r\n", b"ffffffffffffffff\r\nok", b"10000000000000002\r\nok\r\n", b"2\x00\r\nok\r\n", b"2;" + b"e" * 100_000 + b"\r\nok\r\n", b"2\n\rok", b"2 2\r\nok\r\n")
STATUS_LINES = (b"HTTP/1.1 99 Odd", b"HTTP/1.1 1000 Odd", b"HTTP/1.1 0 Odd", b"HTTP/1.1 -200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/3 200 OK", b"http/1.1 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b" HTTP/1.1 200 OK", b"ICY 200 OK", b"220 gw.test ESMTP", b"SSH-2.0-OpenSSH_9.2", b"\x16\x03\x01\x02\x00", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 " + b"a" * 200_000, b"GET /smuggled HTTP/1.1", b"<html>", b"{}")
HEAD_FAULTS = (b"X: a\x00b", b": x", b"Foo", b"Fo o: x", b"F\xc3\xa9: x", b"Foo : x", b" Foo: x", b'Fo"o: x', b"Fo\x7fo: x", b"Foo: a\rb", b"Fo(o: x", b"Fo/o: x")

CASES = [
    # --- more bytes than one answer
    answer("up-surplus-later", say(SOUND, POISON, pause=0.1), (200,), SURPLUS, body=b"ok", rest=0.4),
    answer("up-surplus-crlf", say(SOUND + b"\r\n\r\n"), (200, 502), SURPLUS, body=b"ok"),
    answer("up-surplus-bytes", say(SOUND + b"X" * 70_000), (200, 502), SURPLUS, body=b"ok"),
    answer("up-surplus-many", say(SOUND + POISON * 500), (200, 502), SURPLUS, body=b"ok"),
    answer("up-surplus-chunked", say(CHUNKED + b"2\r\nok\r\n" + LAST + POISON), (200, 502), SURPLUS, body=b"ok"),
    answer("up-surplus-chunked-later", say(CHUNKED + b"2\r\nok\r\n" + LAST, POISON, pause=0.1), (200,), SURPLUS, body=b"ok", rest=0.4),
    answer("up-surplus-408", say(SOUND, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\n\r\nPOISON", pause=0.1), (200,), SURPLUS, body=b"ok", rest=0.4),
    bad("up-204-body", b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, "204 has no body", (204, 502)),
    bad("up-204-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nPOISON", "204 has no body", (204, 502)),
    bad("up-204-chunked", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n" + LAST, "204 has no body", (204, 502)),
    bad("up-304-chunked", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n" + LAST, "304 has no body", (304, 502)),
    bad("up-205-body", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n" + POISON, "205 has no body", (205, 502)),
    answer("up-head-body", say(SOUND + POISON), (200, 502), "an answer to HEAD has no body", method=b"HEAD", forbidden=(b"POISON", b"ok")),
    answer("up-head-chunked", say(CHUNKED + b"6\r\nPOISON\r\n" + LAST), (200, 502), "an answer to HEAD has no body", method=b"HEAD"),
    # --- framing
    *(bad(f"up-length{number:02}", with_length(text)) for number, text in enumerate(LENGTHS)),
    bad("up-length-equal", with_length(b"2\r\nContent-Length: 2")),
    bad("up-length-zeros", with_length(b"0002")),
    *(closed(f"up-coding{number:02}", OK + b"Transfer-Encoding: " + text + b"\r\n\r\n2\r\nok\r\n" + LAST, FRAMING, forbidden=(b"gzip",)) for number, text in enumerate(CODINGS)),
    *(bad(f"up-both{number}", OK + text + b"\r\n2\r\nok\r\n" + LAST, allowed=(200, 502), body=b"ok") for number, text in enumerate((b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 12\r\nTransfer-Encoding : chunked\r\n"))),
    *(closed(f"up-chunk{number:02}", CHUNKED + b"2\r\nok\r\n" + text, "a broken chunk: 502, or cut where it broke", cut=True) for number, text in enumerate(CHUNK_FAULTS)),
    bad("up-10-chunked", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + LAST, allowed=(200, 502), body=b"ok"),
    closed("up-10-close", b"HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.0 ends its body by closing", (200,), body=b"ok"),
    closed("up-close-delimited", OK + b"Connection: close\r\n\r\nok", "a body that ends with the connection", (200,), body=b"ok"),
    # --- cut short
    closed("up-cut-chunk", CHUNKED + b"10\r\nhalf", cut=True),
    closed("up-cut-size", CHUNKED + b"2\r\nok\r\n1", cut=True),
    closed("up-cut-last", CHUNKED + b"2\r\nok\r\n0\r\n", cut=True),
    closed("up-cut-none", CHUNKED, cut=True),
    closed("up-cut-trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n", cut=True),
    answer("up-cut-reset", slow_reset, (200, 502), CUT, cut=True),
    closed("up-cut-head", OK + b"Content-Le", "half a head: 502", (502,)),
    closed("up-cut-line", b"HTTP/1.1 2", "half a status line: 502", (502,)),
    closed("up-cut-after-interim", b"HTTP/1.1 103 Early Hints\r\n\r\n", "an interim answer alone: 502", (502,)),
    answer("up-reset", reset_at_once, (502,), "reset before the answer: 502"),
    answer("up-close-upload", close_at_once, (502,), "closed in the middle of an upload: 502", upload=True),
    answer("up-reset-upload", reset_at_once, (502,), "reset in the middle of an upload: 502", upload=True),
    answer("up-early-close", say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", close=True), (403, 502), "an answer before the body was read, then closed", upload=True),
    answer("up-early-200", say(SOUND), (200, 502), "a yes before the body was read", upload=True, body=b"ok"),
    # --- status lines, interim answers
    *(closed(f"up-status{number:02}", line + b"\r\nContent-Length: 2\r\n\r\nok", STATUS, tuple(range(200, 600)), forbidden=(b"POISON", b"\x00", b"SSH-", b"ESMTP")) for number, line in enumerate(STATUS_LINES)),
    closed("up-09", b"ok", "HTTP/0.9: 502", (502,)),
    closed("up-empty-lines", b"\r\n" * 50 + SOUND, "empty lines before an answer: 502, or the answer", (200, 502), body=b"ok"),
    bad("up-999", b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", "an odd status code", (999, 502)),
    bad("up-noreason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "no reason phrase", (200, 502), body=b"ok"),
    bad("up-102", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + SOUND, "interim answers, then 200", (200,), body=b"ok"),
    bad("up-interim-thousand", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000 + SOUND, "a thousand interim answers: bounded", (200, 502), body=b"ok"),
    bad("up-interim-endless", b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, "interim answers without end: 502 or 504", (502, 504, 0)),
    bad("up-interim-length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\n\r\nPOISON" + SOUND, "an interim answer has no body", (200, 502)),
    bad("up-interim-bad", b"HTTP/1.1 103 Early Hints\r\nFo o: x\r\n\r\n" + SOUND, "a broken interim answer", (200, 502), forbidden=(b"POISON", b"Fo o")),
    bad("up-interim-identity", b"HTTP/1.1 103 Early Hints\r\nConnection: x\r\nX: hop\r\nTransfer-Encoding: chunked\r\n\r\n" + SOUND, "interim answers have hop-by-hop fields too", (200, 502), body=b"ok", forbidden=(b"POISON", b"x: hop", b"X: hop")),
    *(bad(f"up-101-{number}", b"HTTP/1.1 101 Switching Protocols\r\n" + text + b"\r\n" + POISON, "101 that nobody asked for: 502") for number, text in enumerate((b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n", b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Content-Length: 100\r\n"))),
    bad("up-426", b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno", "Upgrade of an answer ends at the gateway", (426, 502), forbidden=(b"h2c",)),
    bad("up-200-upgrade", OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok", "Upgrade of an answer ends at the gateway", (200, 502), body=b"ok", forbidden=(b"h2c",)),
    # --- heads
    *(bad(f"up-head{number:02}", OK + line + b"\r\nContent-Length: 2\r\n\r\nok", "a malformed field: 502, or not passed on", (200, 502), forbidden=(b"POISON", line)) for number, line in enumerate(HEAD_FAULTS)),
    bad("up-fold", OK + b"X: a\r\n POISON\r\nContent-Length: 2\r\n\r\nok", "a folded line: 502, or one value", (200, 502), forbidden=(b"\r\n POISON",)),
    bad("up-fields-1001", OK + b"X: a\r\n" * 1001 + b"Content-Length: 2\r\n\r\nok", "too many fields: 502"),
    bad("up-name-100k", OK + b"X" * 100_000 + b": a\r\nContent-Length: 2\r\n\r\nok", "100 kB of name: 502"),
    bad("up-head-10m", OK + b"X: " + b"a" * 10_000_000, "10 MB of head: 502"),
    bad("up-lf", SOUND.replace(b"\r\n", b"\n"), "bare LF: 502, or read alike", (200, 502), body=b"ok"),
    bad("up-hop", OK + b"Connection: close, Set-Cookie, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nProxy-Authenticate: Basic\r\nTE: x\r\nContent-Length: 2\r\n\r\nok", "hop-by-hop fields end at the gateway", (200, 502), body=b"ok", forbidden=(b"ecret", b"timeout=9", b"roxy-")),
    bad("up-hop-length", OK + b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok", "Connection cannot take the length away", (200, 502), body=b"ok"),
    bad("up-trailer-bad", CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 5\r\nSet-Cookie: POISON\r\nX y: 1\r\n\r\n", "a broken trailer is not passed on", (200, 502)),
    bad("up-request-id", OK + b"X-Request-Id: POISON\r\nContent-Length: 2\r\n\r\nok", "the id of the request is the gateway's", (200, 502), body=b"ok", forbidden=(b"POISON",)),
]  # fmt: skip
