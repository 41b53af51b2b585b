"""More HTTP/1 cases of framing, upgrades, syntax, credentials and the log."""

from rig.forms_http1 import (
    BEARER,
    CHUNKED,
    HOST,
    SIZE,
    SMUGGLED,
    TOKEN,
    body_is_request,
    chunks,
    cl_name,
    cl_value,
    control,
    credentials,
    early_refusal,
    framing,
    log,
    request,
    syntax,
    te_name,
    te_value,
    upgrade,
    upgrade_without_token,
)

CODINGS = (
    b"identity, chunked", b"chunked ", b"\tchunked", b"chunked\x0b", b"chunked\x0c", b"'chunked'", b",chunked", b"chunked,,", b"chunk", b"chunked\x00", b"\x00chunked", b"\xa0chunked", b"\xffchunked",
    b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: gzip", b"gzip\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding:",
    b" \r\n chunked", b"\r\n\tchunked", b"x, chunked", b"chunked/1.0", b"chunked#", b"chunked\r", b"\rchunked", b"chunked\\", b"ch\xc3\xbcnked", "chun\u212aed".encode(), b"(chunked)", b"chunked=1", b"deflate, chunked",
    b"chunked, trailers", b"trailers, chunked", b"chunked ; q=1", b"chunked;", b"chunked:", b"=chunked", b"0", b"none", b"true", b"CHUNKED, identity", b"chunked\ttrailers", b"identity\x00chunked", b"chunkeD\x7f",
)  # fmt: skip
CODING_NAMES = (
    b"Transfer_Encoding", b"Transfer.Encoding", b"TransferEncoding", b"HTTP_TRANSFER_ENCODING", b"Transfer-Encoding\t", b"\tTransfer-Encoding", b"Transfer\x00-Encoding", b"Transfer-Encoding\r", b"Transfer\xadEncoding",
    b"Transfer--Encoding", b"-Transfer-Encoding", b"Transfer-Encoding-", b"Transfer~Encoding", b"Foo: a\r\n Transfer-Encoding", b"Foo: a\rTransfer-Encoding", b"TRANSFER-ENCODING", b"Transfer-Encoding\x0b", b"X-Transfer-Encoding", b"TE",
)  # fmt: skip
LENGTHS = (
    b"+5", b"-5", b"05", b"5,6", b"5 5", b"5,", b",5", b"0x05", b"5e0", b"1e1", "５".encode(), b'"5"', b"'5'", b"5\x00", b"\x005", b"5;", b"5\t", b"00", b"-0", b"+0", b"0", b"5\r\nContent-Length: 5", b"5\r\nContent-Length: 5\r\nContent-Length: 5",
    b"5\r\nContent-Length: 05", b"0\r\nContent-Length: 5", b"5\r\nContent-Length: 0", b"5\r\ncontent-length: 6", b"5\r\nFoo: a\r\nCONTENT-LENGTH: 7", b"18446744073709551615", b"18446744073709551621", b"4294967301", b"9223372036854775813",
    b"5\r", b"\r5", b"\r\n 5", b"5\r\n\t5", b"5#", b"5%", b"5 bytes", b"0b101", b"0o5", b"5L", b"\xa05", b"5\x7f", b"NaN", b"Infinity", b"5.", b".5", b"5/1", b"1_0", b"(5)", b"five", b"5\x0c", b"\xd9\xa5",
)  # fmt: skip
LENGTH_NAMES = (
    b"Content_Length", b"Content.Length", b"ContentLength", b"HTTP_CONTENT_LENGTH", b"Content-Length ", b"Content-Length\t", b" Content-Length", b"\tContent-Length", b"Content-Length\x0b", b"Content\x00-Length", b"Content-Length\r",
    b"Content--Length", b"Content-Length-", b"Content~Length", b"Foo: a\nContent-Length", b"Foo: a\rContent-Length", b"CONTENT-LENGTH", b"Content\xadLength",
)  # fmt: skip
# Chunked bodies with one fault, and what it is.
CHUNK_FAULTS = (
    (b"0x5\r\nabcde\r\n0\r\n\r\n", "a prefix"), (b" 5\r\nabcde\r\n0\r\n\r\n", "a leading space"), (b"\t5\r\nabcde\r\n0\r\n\r\n", "a leading tab"), (b"5\t\r\nabcde\r\n0\r\n\r\n", "a trailing tab"),
    (b"5_0\r\nabcde\r\n0\r\n\r\n", "an underscore"), (b"5;\r\nabcde\r\n0\r\n\r\n", "an empty extension"), (b"5 ;a\r\nabcde\r\n0\r\n\r\n", "a space before the extension"), (b"05\r\nabcde\r\n0\r\n\r\n", "a leading zero"),
    (b"g\r\nabcde\r\n0\r\n\r\n", "a letter that is no digit"), (b"\r\nabcde\r\n0\r\n\r\n", "no size"), (b";a\r\nabcde\r\n0\r\n\r\n", "an extension without a size"), (b"5,5\r\nabcde\r\n0\r\n\r\n", "a list of sizes"),
    (b"5\x00\r\nabcde\r\n0\r\n\r\n", "a NUL behind the size"), (b"5\x0b\r\nabcde\r\n0\r\n\r\n", "a vertical tab behind the size"), (b"5\xa0\r\nabcde\r\n0\r\n\r\n", "an 8-bit space behind the size"), (b'"5"\r\nabcde\r\n0\r\n\r\n', "quotes around the size"),
    (b"5\r\nabcde\r\n-0\r\n\r\n", "a negative zero"), (b"5\r\nabcde\r\n+0\r\n\r\n", "a positive zero"), (b"5\r\nabcde\r\n0x0\r\n\r\n", "a zero with a prefix"), (b"5\r\nabcde\r\n00\r\n\r\n", "two zeros"), (b"5\r\nabcde\r\n0;a\r\n\r\n", "an extension on the last chunk"),
    (b"5\r\nabcdef\r\n0\r\n\r\n", "more data than stated"), (b"5\r\nabcd\r\n0\r\n\r\n", "less data than stated"), (b"5\rabcde\r\n0\r\n\r\n", "a bare CR behind the size"), (b"5\n\rabcde\n\r0\n\r\n\r", "LF CR everywhere"), (b"5\r\nabcde\r0\r\n\r\n", "a bare CR behind the data"),
    (b"5\r\nabcde\r\n0\r\n\r", "a CR at the end"), (b"5\r\nabcde\r\n0\r\n\n", "LF at the very end"), (b"5\r\nabcde\r\n0\n\r\n", "LF behind the last size"), (b"5\r\nabcde\r\n0\r\n \r\n", "a line with a space at the end"), (b"5;a\x00b\r\nabcde\r\n0\r\n\r\n", "a NUL in an extension"),
    (b"5;a\x7f\r\nabcde\r\n0\r\n\r\n", "DEL in an extension"), (b"5;a\r\r\nabcde\r\n0\r\n\r\n", "CR CR LF behind an extension"), (b'5;a="b\r\nabcde\r\n0\r\n\r\n', "a quote that is not closed"), (b"5;a=b;c=d;;;\r\nabcde\r\n0\r\n\r\n", "empty extensions"),
    (b"5;" + b"e" * 20_000 + b"\r\nabcde\r\n0\r\n\r\n", "20 kB of extension"), (b"0000000005\r\nabcde\r\n0\r\n\r\n", "ten digits"), (b"FFFFFFFF\r\nabcde", "four gigabytes"), (b"7fffffffffffffff\r\nabcde", "2^63-1 bytes"), (b"100000005\r\nabcde\r\n0\r\n\r\n", "2^32+5"),
    (b"5\r\nabcde\r\n5\r\nabcde", "no end"), (b"5\r\nabcde\r\n0\r\nFoo\r\n\r\n", "a trailer without a colon"), (b"5\r\nabcde\r\n0\r\nFoo : a\r\n\r\n", "a space in a trailer's name"), (b"5\r\nabcde\r\n0\r\nFoo: a\n\n", "trailers that end with LF"), (b"5\r\nabcde\r\n0\r\nFoo: a\r\n b\r\n\r\n", "a folded trailer"),
    (b"5\r\nabcde\r\n0\r\nFoo: a\x00\r\n\r\n", "a NUL in a trailer"), (b"5\r\nabcde\r\n0\r\nFoo: a\rb\r\n\r\n", "a CR in a trailer"), (b"5\r\nabcde\r\n0\r\n: x\r\n\r\n", "a trailer without a name"), (b"5\r\nabcde\r\n0\r\n" + b"F: a\r\n" * 2000 + b"\r\n", "2,000 trailers"),
    (b"5\r\nabcde\r\n0\r\nF: " + b"a" * 200_000 + b"\r\n\r\n", "200 kB of trailer"), (b"5\r\nabcde\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n", "a request as trailer"), (b"5\r\n\r\nabcde\r\n0\r\n\r\n", "an empty line before the data"), (b"\xef\xbb\xbf5\r\nabcde\r\n0\r\n\r\n", "a byte order mark"),
)  # fmt: skip
EXPECTATIONS = (
    b"Expect: 100-continue\r\n", b"Expect: 100-Continue\r\n", b"Expect: 100-continue, 100-continue\r\n", b"Expect: 100-continue\r\nExpect: 100-continue\r\n", b"Expect: y 100-continue\r\n", b"Expect: 100-continue;a\r\n", b"Expect:\r\n 100-continue\r\n", b"Expect: 200-ok\r\n",
    b"Expect:\r\n", b"Expect : 100-continue\r\n", b"Expect: 100\r\n", b'Expect: "100-continue"\r\n', b"Expect: \x0b100-continue\r\n", b"Expect_: 100-continue\r\n",
)  # fmt: skip
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
H2C = b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
UPGRADES = (
    SOCKET, SOCKET.replace(b"websocket", b"WebSocket"), SOCKET.replace(b"websocket", b"websocket, h2c"), SOCKET.replace(b"websocket", b"h2c, websocket") + H2C, SOCKET + b"Upgrade: h2c\r\n" + H2C, SOCKET.replace(b"Connection: Upgrade\r\n", b""),
    SOCKET.replace(b": Upgrade", b": close, Upgrade"), SOCKET.replace(b": Upgrade", b": keep-alive\r\nConnection: upgrade"), SOCKET.replace(b"websocket", b"websocket/13"), SOCKET.replace(b"Version: 13", b"Version: 8"), SOCKET.replace(b"==", b""), SOCKET + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    SOCKET + b"Content-Length: %d\r\n" % SIZE, SOCKET + CHUNKED, SOCKET + b"X-User-Id: admin\r\n", SOCKET + b"Expect: 100-continue\r\n", SOCKET + b"Sec-WebSocket-Protocol: bearer, a\r\n", SOCKET + b"Sec-WebSocket-Version: 14\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + H2C, b"Upgrade: h2c\r\n" + H2C, H2C,
    b"Upgrade: h2c\r\nConnection: HTTP2-Settings\r\n" + H2C, b"Upgrade: H2C\r\nConnection: Upgrade, HTTP2-Settings\r\n" + H2C, b"Upgrade: h2\r\nConnection: Upgrade\r\n", b"Upgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n", b"Upgrade: HTTP/2.0\r\nConnection: Upgrade\r\n", b"Upgrade:\r\nConnection: Upgrade\r\n", b"Connection: Upgrade\r\n",
    b"Upgrade: " + b"a, " * 3000 + b"h2c\r\nConnection: Upgrade\r\n", b"Upgrade: connect-udp\r\nConnection: Upgrade\r\nCapsule-Protocol: ?1\r\n", b"Upgrade : h2c\r\nConnection: Upgrade\r\n" + H2C, b"Upgrade: foo\r\n h2c\r\nConnection: Upgrade\r\n" + H2C, b"HTTP_UPGRADE: h2c\r\nConnection: HTTP_UPGRADE\r\n" + H2C,
)  # fmt: skip
NO_NAME_BYTES = b"(),/:;<=>?@[\\]{}\" \t\x00\x01\x0b\x7f\x80\xff"


def refused_early(id, head, body, why="the body of a refused request is never parsed as a request"):
    """A refusal, with a token, before the body was read."""
    return framing(id, head, body, why, "CVE-2025-4366 (Pingora)", answers=1)


CASES = [
    # --- controls
    control("ok-expect", request(method=b"POST", headers=b"Expect: 100-continue\r\nContent-Length: 3\r\n", body=b"abc"), "an eager body beside Expect"),
    control("ok-empty-post", request(method=b"POST", headers=b"Content-Length: 0\r\n")),
    control("ok-many-chunks", request(method=b"POST", headers=CHUNKED, body=b"1\r\na\r\n" * 3000 + b"0\r\n\r\n"), "chunks of one byte"),
    control("ok-trailer", request(method=b"POST", headers=CHUNKED, body=b"1\r\na\r\n0\r\nFoo: a\r\n\r\n"), "a trailer is legal"),
    control("ok-get-body", request(headers=b"Content-Length: 3\r\n", body=b"abc"), "a GET may have a body"),
    control("ok-pipeline-post", request(b"/echo1", b"POST", b"Content-Length: 3\r\n", b"abc") + request(b"/echo2", b"POST", CHUNKED, b"1\r\na\r\n0\r\n\r\n") + request(b"/echo3"), "three pipelined requests", requests=3, check="in_order"),
    # --- Transfer-Encoding, with and without a length
    *(te_value(f"te{number:02}", text) for number, text in enumerate(CODINGS)),
    *(framing(f"te-alone{number:02}", b"Transfer-Encoding: " + text + b"\r\n", b"5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, f"Transfer-Encoding {text!r} alone") for number, text in enumerate(CODINGS)),
    *(te_name(f"tename{number:02}", name) for number, name in enumerate(CODING_NAMES)),
    framing("te-first", CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED, "both, Transfer-Encoding first"),
    framing("te-last", b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED, "both, Transfer-Encoding last"),
    framing("te-cl0", b"Content-Length: 0\r\n" + CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, "both, the length is zero"),
    framing("te-cl-whole", b"Content-Length: %d\r\n" % (SIZE + 5) + CHUNKED, b"0\r\n\r\n" + SMUGGLED, "both, the length spans the second request"),
    framing("te-get", CHUNKED, b"0\r\n\r\n" + SMUGGLED, "chunks on a GET", method=b"GET"),
    framing("te-head", CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, "chunks on a HEAD", method=b"HEAD"),
    framing("te-options", CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, "chunks on an OPTIONS", method=b"OPTIONS"),
    # --- Content-Length
    *(cl_value(f"cl{number:02}", text) for number, text in enumerate(LENGTHS)),
    *(cl_name(f"clname{number:02}", name) for number, name in enumerate(LENGTH_NAMES)),
    # --- chunks
    *(chunks(f"chunkfault{number:02}", body, what) for number, (body, what) in enumerate(CHUNK_FAULTS)),
    framing("chunk-one-byte", CHUNKED, b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n", "100,000 chunks of one byte cost bounded memory", "CVE-2023-39326", expect="safe"),
    # --- bodies where none is expected
    *(body_is_request("body-" + name.decode(), name) for name in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"PATCH", b"PROPFIND", b"QUERY")),
    *(body_is_request("body-close-" + name.decode(), name, b"Connection: close\r\n") for name in (b"GET", b"DELETE")),
    *(body_is_request("body-upgrade-" + name.decode(), name, SOCKET) for name in (b"GET", b"POST")),
    # --- HTTP/1.0
    framing("http10-te", CHUNKED, b"0\r\n\r\n" + SMUGGLED, "chunks in HTTP/1.0", "CVE-2026-2835", version=b"HTTP/1.0"),
    framing("http10-te-ka", CHUNKED + b"Connection: keep-alive\r\n", b"0\r\n\r\n" + SMUGGLED, "chunks in HTTP/1.0", "CVE-2026-2835", version=b"HTTP/1.0"),
    framing("http10-ka", b"Connection: keep-alive\r\n", SMUGGLED, "no length in HTTP/1.0", "CVE-2026-2835", version=b"HTTP/1.0"),
    framing("http10-expect", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % SIZE, SMUGGLED, "Expect in HTTP/1.0", "RFC 9110 10.1.1", version=b"HTTP/1.0"),
    framing("http10-get", b"Connection: keep-alive\r\nContent-Length: %d\r\n" % SIZE, SMUGGLED, "a body on GET in HTTP/1.0", method=b"GET", version=b"HTTP/1.0"),
    syntax("http10-nohost", b"GET /echo HTTP/1.0\r\n" + BEARER + b"\r\n", "safe", "HTTP/1.0 without Host: refused, or one Host upstream"),
    syntax("http10-upgrade", request(headers=SOCKET, version=b"HTTP/1.0"), "safe", "an upgrade in HTTP/1.0 is none"),
    # --- refusals before the body was read
    early_refusal("early-cl", b"Content-Length: %d\r\n" % SIZE, SMUGGLED, "the body of a 401 is never parsed"),
    early_refusal("early-chunks", CHUNKED, b"%x\r\n" % SIZE + SMUGGLED + b"\r\n0\r\n\r\n", "the body of a 401 is never parsed"),
    early_refusal("early-expect", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % SIZE, SMUGGLED, "the body of a 401 is never parsed"),
    early_refusal("early-short", b"Content-Length: %d\r\n" % (SIZE + 100), SMUGGLED, "half a body of a 401 is never parsed"),
    early_refusal("early-big", b"Content-Length: 3000000\r\n", SMUGGLED * 5000, "a large body of a 401 is never parsed"),
    early_refusal("early-badchunk", CHUNKED, b"zz\r\n" + SMUGGLED, "a broken body of a 401 is never parsed"),
    refused_early("early-413", b"Content-Length: 99999999999\r\n", SMUGGLED),
    refused_early("early-413-chunks", CHUNKED, b"%x\r\n" % 99_999_999_999 + SMUGGLED),
    refused_early("early-417", b"Expect: foo\r\nContent-Length: %d\r\n" % SIZE, SMUGGLED),
    refused_early("early-431", b"F: a\r\n" * 200 + b"Content-Length: %d\r\n" % SIZE, SMUGGLED),
    # --- Expect
    *(framing(f"expect{number:02}", text + b"Content-Length: %d\r\n" % SIZE, SMUGGLED, f"{text!r} with an eager body", "HTTP/1.1 must die (PortSwigger)", answers=1) for number, text in enumerate(EXPECTATIONS)),
    *(framing(f"expect-chunked{number:02}", text + CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n", f"{text!r} with eager chunks", "HTTP/1.1 must die (PortSwigger)", answers=1) for number, text in enumerate(EXPECTATIONS[:6])),
    # --- upgrades
    *(upgrade(f"upgrade{number:02}", text) for number, text in enumerate(UPGRADES)),
    *(upgrade_without_token(f"upgrade-open{number:02}", text) for number, text in enumerate(UPGRADES)),
    # --- syntax
    *(syntax(f"name-{byte:02x}", request(headers=b"Fo" + bytes([byte]) + b"o: x\r\n"), "safe" if byte == 0x3A else "reject", f"byte {byte:02x} in a name") for byte in NO_NAME_BYTES),
    *(syntax(f"value-{byte:02x}", request(headers=b"Foo: a" + bytes([byte]) + b"b\r\n"), "reject", f"control byte {byte:02x} in a value") for byte in b"\x00\x0d"),
    *(syntax(f"value-{byte:02x}", request(headers=b"Foo: a" + bytes([byte]) + b"b\r\n"), "safe", f"byte {byte:02x} in a value") for byte in b"\x01\x08\x0b\x0c\x1b\x1f\x7f\x80\xff"),
    *(syntax(f"version{number:02}", request(version=text), "reject", f"version {text!r}") for number, text in enumerate((b"HTTP/1", b"HTTP/1.", b"HTTP/01.1", b"HTTP/1.1x", b"HTTP/1.10", b"HTTP/3.0", b"HTTP/0.9", b"HTTP1.1", b"HTTP /1.1", b"HTTPS/1.1", b"HTTP/1.1\x00", b"HTTP/+1.1", b"HTTP/1,1", b"RTSP/1.0", b"HTTP\\1.1"))),
    syntax("version-bare-09", b"GET /private\r\n", "noauth", "HTTP/0.9 with one line"),
    syntax("lf-only", request().replace(b"\r\n", b"\n"), "reject", "bare LF everywhere"),
    syntax("lf-first", b"\n" + request(), "reject", "a LF before the request"),
    syntax("lf-request-line", request().replace(b"\r\n", b"\n", 1), "reject", "a LF ends the request line"),
    syntax("lf-value", request(headers=b"Foo: a\nX-User-Id: admin\r\n"), "reject", "a LF within a value ends a field, for everybody or for nobody"),
    *(chunks(f"lf-trailer{number:02}", b"5\r\nabcde\r\n0\r\n" + trailers + b"\r\n", what, expect="reject") for number, (trailers, what) in enumerate((
        (b"Foo: a\n", "a trailer that ends with LF"), (b"Foo: a\nBar: b\r\n", "a LF between trailers"), (b"\nFoo: a\r\n", "a LF before the trailers"),
    ))),
    syntax("cr-only", request().replace(b"\r\n", b"\r"), "reject", "bare CR everywhere"),
    syntax("lf-end", request()[:-2] + b"\n", "reject", "a LF ends the head"),
    syntax("lf-smuggle", request(headers=b"Foo: a\n\nGET /smuggled HTTP/1.1\r\nHost: gw.test\r\n"), "reject", "two LF end a head, for everybody or for nobody"),
    syntax("cr-smuggle", request(headers=b"Foo: a\r\rGET /smuggled HTTP/1.1\r\n"), "reject", "two CR end no head"),
    syntax("space-first", b" " + request(), "reject", "a space before the request"),
    syntax("tab-first", b"\t" + request(), "reject", "a tab before the request"),
    syntax("nul-first", b"\x00" + request(), "reject", "a NUL before the request"),
    syntax("empty-lines", b"\r\n" * 2000 + request(), "safe", "thousands of empty lines"),
    syntax("space-line", HOST.join((b"GET /echo HTTP/1.1\r\n \r\n", BEARER + b"\r\n")), "reject", "a line with a space behind the request line"),
    syntax("fold-first", b"GET /echo HTTP/1.1\r\n Foo: a\r\n" + HOST + BEARER + b"\r\n", "reject", "a folded first line"),
    syntax("fold-value", request(headers=b"Foo: a\r\n b\r\n"), "safe", "a folded line: refused, or one value"),
    syntax("colon-only", request(headers=b":\r\n"), "reject", "a line with a colon alone"),
    syntax("headers-101", request(headers=b"".join(b"H%d: x\r\n" % number for number in range(101))), "reject", "101 headers: 431"),
    syntax("headers-same", request(headers=b"H: x\r\n" * 5000), "reject", "5,000 times the same header: 431"),
    syntax("headers-empty-names", request(headers=b": x\r\n" * 50), "reject", "headers without names"),
    syntax("name-64k", request(headers=b"N" * 65_000 + b": x\r\n"), "reject", "65 kB of name"),
    syntax("value-33k", request(headers=b"H: " + b"a" * 33_000 + b"\r\n"), "reject", "33 kB of header: 431 by max_header_bytes"),
    syntax("method-64k", request(method=b"M" * 65_000), "reject", "65 kB of method"),
    syntax("endless-line", b"G" * 200_000, "reject", "200 kB without a line end"),
    *(syntax(f"protocol-{name}", raw, "reject", f"{name} on the port") for name, raw in {
        "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160), "ssh": b"SSH-2.0-OpenSSH_9.2\r\n", "smtp": b"EHLO gw.test\r\nMAIL FROM:<a@gw.test>\r\n", "redis": b"*1\r\n$4\r\nPING\r\n", "memcached": b"stats\r\n", "socks5": b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
        "proxy2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02" + request(), "proxy1-unknown": b"PROXY UNKNOWN\r\n" + request(), "rtsp": b"OPTIONS rtsp://gw.test RTSP/1.0\r\nCSeq: 1\r\n\r\n", "zeros": bytes(5000), "junk": bytes(range(256)) * 20,
    }.items()),
    syntax("pipeline-broken", request(b"/echo1") + b"GET /smuggled\x00 HTTP/1.1\r\n" + HOST + BEARER + b"\r\n", "one", "a sound request, then a broken one"),
    syntax("pipeline-close", request(b"/echo1", headers=b"Connection: close\r\n") + SMUGGLED, "one", "nothing is read behind Connection: close"),
    syntax("pipeline-hundred", (request(b"/echo1") * 100)[:-2] + b"X\r\n\r\n", "safe", "a hundred requests, the last one broken"),
    # --- credentials
    *(credentials(f"cred{number:02}", lines, "noauth", "this is no credential") for number, lines in enumerate((
        b"Cookie: access_token=" + TOKEN + b"; Authorization=Bearer " + TOKEN + b"\r\n", b"X-Access-Token: " + TOKEN + b"\r\n", b"HTTP_AUTHORIZATION: Bearer " + TOKEN + b"\r\n", b"Authorization_: Bearer " + TOKEN + b"\r\n", b"Authorization.: Bearer " + TOKEN + b"\r\n", b"X-Forwarded-Authorization: Bearer " + TOKEN + b"\r\n",
        b"Authorization: Token " + TOKEN + b"\r\n", b"Authorization: JWT " + TOKEN + b"\r\n", b"Authorization: Bearer," + TOKEN + b"\r\n", b"Authorization: Bearer" + TOKEN + b"\r\n", b"Authorization: Bearer=" + TOKEN + b"\r\n", b'Authorization: Bearer "' + TOKEN + b'"\r\n', b"Authorization: Bearer " + TOKEN + b" x\r\n",
        b"Authorization: Bearer " + TOKEN + b", Bearer " + TOKEN + b"\r\n", b"Authorization: Basic x, Bearer " + TOKEN + b"\r\n", b"Authorization: Bearer " + TOKEN + b"=\r\n", b"Authorization: Bearer " + TOKEN + b"\xff\r\n", b"Authorization: Bearer " + TOKEN + b"%20\r\n", b"Authorization: Bearer " + TOKEN + b";\r\n",
        b"Authorization: \xa0Bearer " + TOKEN + b"\r\n", b"Authorization: Bearer\xa0" + TOKEN + b"\r\n", b"Authorization: B\xc3\xa9arer " + TOKEN + b"\r\n", b"Authorization: Digest username=alice\r\n", b"Authorization: Negotiate " + TOKEN + b"\r\n", b"Authentication: Bearer " + TOKEN + b"\r\n", b"Sec-WebSocket-Protocol: bearer, " + TOKEN + b"\r\n",
        b"Authorization: Bearer a.b.c\r\n", b"Authorization: Bearer ..\r\n", b"Authorization: Bearer " + b"." * 8000 + b"\r\n", b"Authorization: Bearer " + b"a" * 20_000 + b"\r\n", b"Authorization: Bearer null\r\n", b"Authorization: Bearer undefined\r\n",
    ))),
    *(credentials(f"cred-twice{number:02}", lines, "reject", "two credentials: parsers differ in which one counts") for number, lines in enumerate((
        BEARER + BEARER, BEARER + b"Authorization:\r\n", b"Authorization:\r\n" + BEARER, BEARER + b"authorization: Basic x\r\n", b"Authorization: Basic x\r\nFoo: a\r\n" + BEARER, BEARER * 20,
    ))),
    framing("cred-form", b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n", b"access_token=abc", "a form is only a body", "RFC 6750 2.2"),
    # --- logs
    *(log(f"log-more{number:02}", target, headers) for number, (target, headers) in enumerate((
        (b"/echo", b"User-Agent: a\x1b[31mred\x07\r\n"), (b"/echo", "User-Agent: \u202eevil\u2066\r\n".encode()), (b"/echo", b'Referer: "}\\",{"level":"error"\r\n'), (b"/echo", b"X-Request-Id: a\x1b]0;x\x07\r\n"), (b"/echo", b'X-Request-Id: "},{"x":"\r\n'),
        (b"/echo", b"User-Agent: \xff\xfe\x80\r\n"), (b"/echo/%22%7d%0a%7b", b""), (b"/echo/%1b%5b31m", b""), ("/echo/%e2%80%ae".encode(), b""), (b"/echo?token=@TOK@", b""), (b"/echo?a=1&password=hunter2#x", b""), (b"/echo", b"Cookie: session=hunter2; t=@TOK@\r\n"), (b"/echo", b"X-Api-Key: hunter2\r\n"),
        (b"/\x1b[31m", b""), (b'/echo"}{', b""), (b"/echo\\n{", b""),
    ))),
]  # fmt: skip
