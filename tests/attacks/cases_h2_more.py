"""More HTTP/2 cases: requests that HTTP/1 cannot carry, and frames out of order."""

import struct

from rig.case import Stream
from rig.forms_h2 import AUTHORIZATION, SMUGGLED, authority, get, hop, length, method, name, path, post, scheme, stream, value
from rig.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    integer,
    literal,
    pseudo,
)

PUSH_PROMISE = 5
OWNED = (b"x-user-id", b"x-user-name", b"x-user-email", b"x-user-groups")


def spelled(id, text, fields=None):
    """An owned name in another spelling."""
    fields = fields or get((text, b"admin"))
    return stream(id, fields, "safe", f"an owned name in another spelling ({text!r})", source="CVE-2025-64484", check="no_spelling")


def open_path(id, text):
    """A path without a token: only what is public in every reading may pass."""
    return stream(id, pseudo(path=text), "noauth", "the path that was matched is the path that the upstream reads", source="CVE-2026-33494")


def frames(id, make, why, expect="reject"):
    """Frames out of order. make(block) gets the header block of a sound GET."""
    return Stream(id, (AUTHORIZATION,), None, None, expect, why, "RFC 9113 4 to 6", group="frames", frames=make)


def without(field):
    """The fields of a sound GET but one."""
    return tuple(pair for pair in get() if pair[0] != field)


def twice(field):
    """The fields of a sound GET, one of the pseudo-headers twice."""
    return tuple(pair for pair in pseudo() for _ in range(2 if pair[0] == field else 1)) + (AUTHORIZATION,)


def whole(stream_id, headers):
    """A whole request."""
    return frame(HEADERS, END_STREAM | END_HEADERS, stream_id, headers)


CASES = [
    # --- lengths against data
    *(length(f"h2-len{number:02}", post((b"content-length", text)), f"content-length {text!r}") for number, text in enumerate((b"+3", b"03", b"0x3", b"3,3", b"3, 3", b"4", b"18446744073709551619", b"3\t", b"3\x00", b"3a", b"-0", b"1e1", b"3.0", b"\xef\xbc\x93"))),
    length("h2-len-space-first", post((b"content-length", b" 3")), "a space before the length"),
    length("h2-len-twice", post((b"content-length", b"3"), (b"content-length", b"3")), "the same length twice: refused, or one", expect="safe"),
    length("h2-len-get", get((b"content-length", b"5")), "a GET with a length and other data"),
    length("h2-len-none", get((b"content-length", b"5")), "a GET with a length and no data", data=None),
    length("h2-len-huge", post((b"content-length", b"99999999999")), "beyond max_body"),
    stream("h2-head-data", get(method=b"HEAD"), "safe", "a body on HEAD is refused or forwarded", SMUGGLED, check="body_kept"),
    stream("h2-options-data", get(method=b"OPTIONS"), "safe", "a body on OPTIONS is refused or forwarded", SMUGGLED, check="body_kept"),
    stream("h2-delete-data", get(method=b"DELETE"), "safe", "a body on DELETE is refused or forwarded", SMUGGLED, check="body_kept"),
    stream("h2-post-smuggled", post(), "safe", "a request in a body stays a body", SMUGGLED, check="body_kept"),
    stream("h2-post-chunks", post(), "safe", "chunks in a body stay a body", b"0\r\n\r\n" + SMUGGLED, check="body_kept"),
    stream("h2-expect", post((b"expect", b"100-continue")), "safe", "Expect with an eager body", SMUGGLED, check="body_kept"),
    stream("h2-expect-odd", post((b"expect", b"foo")), "safe", "an expectation that nobody knows", SMUGGLED),
    # --- fields of the connection
    *(hop(f"h2-hop{number:02}", field, text) for number, (field, text) in enumerate(((b"keep-alive", b"timeout=5"), (b"proxy-connection", b"close"), (b"upgrade", b"h2c"), (b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"connection", b""), (b"transfer-encoding", b"identity"), (b"transfer-encoding", b""), (b"te", b"gzip"), (b"te", b"trailers, gzip"), (b"te", b"")))),
    stream("h2-http2-settings", get((b"http2-settings", b"AAMAAABk")), "safe", "HTTP2-Settings goes nowhere"),
    # --- values and names
    *(value(f"h2-value-end{number}", b"a" + text, "safe") for number, text in enumerate((b" ", b"\t", b" \t ", b"\xc2\xa0", b"\x0b"))),
    *(value(f"h2-value-bad{number}", text) for number, text in enumerate((b"a\nb", b"\ra", b"a\r", b"a\n", b"\x00", b"a\r\n b", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"))),
    *(value(f"h2-value-odd{byte:02x}", b"a" + bytes([byte]) + b"b", "safe") for byte in b"\x07\x0b\x1b\x7f\x80\xff"),
    value("h2-value-empty", b"", "safe"),
    value("h2-value-space", b" ", "safe"),
    *(name(f"h2-namebad{number:02}", text) for number, text in enumerate((b"foo\r\n", b"fo\to", b"foo ", b" foo", b"foo\n", b"x-user-id: a\r\nfoo", b"foo\x7f", b"foo\x80", b"fo:o", b"fo,o", b"fo(o", b'fo"o', b"fo/o", b"fo@o", b"X-user-id", b"x-user-iD", b":", b"::path", b":method2", b"fo\x0bo"))),
    name("h2-name-long", b"n" * 60_000),
    # --- identity
    *(spelled(f"h2-spell-{byte:02x}", b"x" + bytes([byte]) + b"user" + bytes([byte]) + b"id") for byte in b"!#$%&'*+-.^_`|~"),
    *(spelled(f"h2-cgi-{text.decode()}", b"http_" + text.replace(b"-", b"_")) for text in OWNED),
    *(spelled(f"h2-own-{text.decode()}", text) for text in OWNED),
    *(spelled(f"h2-public-{text.decode()}", text, (*pseudo(path=b"/public/x"), (text, b"admin"), (text.replace(b"-", b"_"), b"admin"))) for text in OWNED),
    spelled("h2-spell-many", b"x-user-id", get(*(((b"x-user-id", b"admin"), (b"x_user.id", b"admin"), (b"xuserid", b"admin")) * 10))),
    *(stream(f"h2-forged{number:02}", get((field, text)), "safe", "what a client says of itself is not passed on", source="CVE-2026-40575", check="nothing_forged") for number, (field, text) in enumerate(((b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=6.6.6.6"), (b"x_forwarded_for", b"6.6.6.6"), (b"x-real-ip", b"6.6.6.6"), (b"x-forwarded-host", b"evil.test"), (b"x-original-url", b"/evil.test"), (b"x-request-id", b"forged-by-client")))),
    # --- trailers
    *(stream(f"h2-trailer{number}", post(), expect, "trailers carry nothing to the upstream", b"abc", fields, source="RFC 9110 6.5.1") for number, (fields, expect) in enumerate(((((b"x_user_id", b"admin"),), "safe"), (((b"host", b"evil.test"), (b"authorization", b"Bearer x")), "safe"), (((b"content-length", b"5"),), "safe"), (((b"transfer-encoding", b"chunked"),), "safe"), (((b":path", b"/smuggled"),), "safe"), (((b"foo", b"a\r\nx-user-id: admin"),), "safe"), (((b"X-User-Id", b"admin"),), "safe"), (tuple((b"f%d" % n, b"a") for n in range(150)), "safe")))),
    # --- request line
    *(method(f"h2-meth{number:02}", text) for number, text in enumerate((b"", b" GET", b"GET ", b"GE\tT", b"GET /smuggled HTTP/1.1\r\nfoo: ", b"TRACE", b"GET\xff", b"GE:T", b"GE/T", b"CONNECT"))),
    method("h2-meth-long", b"M" * 20_000, "safe"),
    *(path(f"h2-target{number:02}", text) for number, text in enumerate((b"", b"/a b", b"/a\tb", b"/\x00", b"/a\r\nx-user-id: admin", b"/a HTTP/1.1\r\nfoo: a", b"/\x7f", b"/a\\b", b"/%", b"/%zz", b"/%00", b"/..", b"/a/../b", b"/a/%2e%2e/b", b"/a%2fb", b"/a;b", b"*", b"http://gw.test/echo", b"//evil.test/echo", b"/a//b", b"/\xc3\xa9", b"echo", b"./echo", b"?x=/echo", b"/" + b"a" * 70_000))),
    path("h2-target-fragment", b"/echo#x", "safe"),
    *(open_path(f"h2-open{number:02}", text) for number, text in enumerate((b"/private", b"/public/../private", b"/public/%2e%2e/private", b"/public%2f..%2fprivate", b"/public/..;/private", b"/public/..\\private", b"/publicx", b"//private", b"/PUBLIC/private", b"/public?/../private", b"/public#/private", b"/%70rivate", b"/public/.%00./private", b"/public/%252e%252e/private", b"/public;/private"))),
    *(stream(f"h2-open-method-{text.decode()}", pseudo(path=b"/private", method=text), "noauth", "no method skips the token", source="CVE-2026-71324") for text in (b"OPTIONS", b"HEAD", b"TRACE", b"CONNECT", b"PRI", b"get", b"PROPFIND")),
    # --- authority, host, scheme
    *(authority(f"h2-authority{number:02}", text) for number, text in enumerate((b"gw.test:99999", b"gw.test:x", b"gw.test:-1", b"u:p@gw.test", b"@gw.test", b"gw.test,evil.test", b"gw test", b" gw.test", b"gw.test ", b"gw.test\x00", b"gw.test?x", b"gw.test#x", b"gw.test\\evil", b"http://gw.test", b"gw.test%00", b"[::1", b"::1", b"", b"gw.test\t", b"gw.test/../private", b"gw..test", b"\xc3\xa9.test", b"*", b"gw.test;x", b"<script>", b"a" * 300))),
    authority("h2-authority-upper", b"GW.TEST", "safe"),
    authority("h2-authority-dot", b"gw.test.", "safe"),
    stream("h2-host-same", get((b"host", b"gw.test")), "safe", "host beside an equal :authority", source="RFC 9113 8.3.1"),
    stream("h2-host-equal-twice", get((b"host", b"gw.test"), (b"host", b"gw.test")), "reject", "two host fields, though equal"),
    stream("h2-host-port", get((b"host", b"gw.test:81")), "reject", "host differs from :authority in its port"),
    stream("h2-host-empty", get((b"host", b"")), "reject", "an empty host beside :authority"),
    stream("h2-host-only-bad", (*without(b":authority")[:3], (b"host", b"gw.test/evil"), AUTHORIZATION), "reject", "a malformed host alone"),
    stream("h2-host-only-two", (*without(b":authority")[:3], (b"host", b"gw.test"), (b"host", b"evil.test"), AUTHORIZATION), "reject", "two hosts and no authority"),
    *(scheme(f"h2-scheme{number}", text) for number, text in enumerate((b"", b"ftp", b"http\x00", b"http://gw.test", b"http ", b"javascript", b"http/1.1\r\nx: a", b"file"))),
    scheme("h2-scheme-upper", b"HTTP", "safe"),
    # --- pseudo-headers
    *(stream(f"h2-no{field.decode()[1:]}", without(field), "reject", f"no {field.decode()}") for field in (b":method", b":path", b":scheme")),
    stream("h2-nothing", (), "reject", "no field at all"),
    stream("h2-noauthority", without(b":authority"), "reject", "no authority and no host"),
    *(stream(f"h2-twice{field.decode()[1:]}", twice(field), "reject", f"two {field.decode()}") for field in (b":method", b":path", b":scheme", b":authority")),
    stream("h2-unknown-pseudo", (*pseudo(), (b":foo", b"a"), AUTHORIZATION), "reject", "a pseudo-header that nobody knows"),
    stream("h2-pseudo-after", (*pseudo(), AUTHORIZATION, (b":authority", b"evil.test")), "reject", "a pseudo-header after a field"),
    *(stream(f"h2-protocol{number}", fields, "reject" if number < 4 else "safe", "an extended CONNECT is a WebSocket or refused", source="RFC 8441") for number, fields in enumerate((
        (*pseudo(method=b"CONNECT"), (b":protocol", b"connect-udp"), AUTHORIZATION), (*pseudo(), (b":protocol", b"websocket"), AUTHORIZATION), (*pseudo(method=b"CONNECT"), (b":protocol", b""), AUTHORIZATION), (*pseudo(method=b"CONNECT"), AUTHORIZATION), (*pseudo(method=b"CONNECT"), (b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), AUTHORIZATION),
    ))),
    stream("h2-protocol-open", (*pseudo(method=b"CONNECT"), (b":protocol", b"websocket"), (b"sec-websocket-version", b"13")), "noauth", "a WebSocket needs a token", source="RFC 8441"),
    # --- credentials and sizes
    *(stream(f"h2-cred{number}", (*pseudo(path=b"/private"), *fields), "noauth", "this is no credential") for number, fields in enumerate((((b"cookie", b"access_token=@TOK@"),), ((b"x-authorization", b"Bearer @TOK@"),), ((b"authorization_", b"Bearer @TOK@"),), ((b"http_authorization", b"Bearer @TOK@"),), ((b"authorization", b"@TOK@"),), ((b"authorization", b"Basic @TOK@"),), ((b"proxy-authorization", b"Bearer @TOK@"),)))) ,
    stream("h2-auth-same-twice", get(AUTHORIZATION), "reject", "two authorization fields, though equal"),
    stream("h2-auth-basic-too", get((b"authorization", b"Basic x")), "reject", "two authorization fields"),
    stream("h2-fields-101", get(*((b"f%d" % number, b"a") for number in range(101))), "reject", "more than max_headers"),
    stream("h2-cookies", get(*((b"cookie", b"c%d=a" % number) for number in range(500))), "safe", "hundreds of cookie crumbs: refused, or one line"),
    stream("h2-field-40k", get((b"foo", b"a" * 15_000), (b"bar", b"a" * 15_000), (b"baz", b"a" * 10_000)), "reject", "more than max_header_bytes"),
    # --- frames out of order
    frames("h2-frame-ok", lambda headers: whole(1, headers), "a control: a whole request", "accept"),
    frames("h2-frame-unknown", lambda headers: frame(0x2A, 0xFF, 1, b"abc") + frame(0xEE, 0, 0, b"") + whole(1, headers), "unknown frames are ignored", "accept"),
    frames("h2-frame-priority", lambda headers: frame(PRIORITY, 0, 1, bytes(5)) + whole(1, headers), "PRIORITY is ignored", "accept"),
    frames("h2-frame-padded", lambda headers: frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, b"\x05" + headers + bytes(5)), "padding is no field", "accept"),
    frames("h2-frame-continued", lambda headers: frame(HEADERS, END_STREAM, 1, headers[:9]) + frame(CONTINUATION, END_HEADERS, 1, headers[9:]), "a head in two frames", "accept"),
    *(frames(f"h2-frame-bad-{id}", make, why) for id, make, why in (
        ("stream0", lambda headers: whole(0, headers), "HEADERS on stream 0"),
        ("even", lambda headers: whole(2, headers), "HEADERS on a stream of the server"),
        ("idle-data", lambda headers: frame(DATA, END_STREAM, 1, SMUGGLED), "DATA on an idle stream"),
        ("data0", lambda headers: frame(DATA, 0, 0, b"abc"), "DATA on stream 0"),
        ("continuation", lambda headers: frame(CONTINUATION, END_HEADERS, 1, headers), "CONTINUATION without HEADERS"),
        ("interleaved", lambda headers: frame(HEADERS, END_STREAM, 1, headers[:9]) + frame(PING, 0, 0, bytes(8)) + frame(CONTINUATION, END_HEADERS, 1, headers[9:]), "a PING inside a head"),
        ("other-stream", lambda headers: frame(HEADERS, END_STREAM, 1, headers[:9]) + frame(CONTINUATION, END_HEADERS, 3, headers[9:]), "a head that goes on in another stream"),
        ("two-heads", lambda headers: frame(HEADERS, 0, 1, headers[:9]) + whole(3, headers), "a head inside a head"),
        ("padding", lambda headers: frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, b"\xff" + headers[:100]), "more padding than frame"),
        ("push", lambda headers: frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + headers), "a client that pushes"),
        ("settings-length", lambda headers: frame(SETTINGS, 0, 0, b"abc") + whole(1, headers), "SETTINGS of three bytes"),
        ("settings-stream", lambda headers: frame(SETTINGS, 0, 1) + whole(1, headers), "SETTINGS on a stream"),
        ("settings-window", lambda headers: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x80000000)) + whole(1, headers), "a window beyond 2^31-1"),
        ("settings-frame", lambda headers: frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)) + whole(1, headers), "a frame size of 1"),
        ("ping-length", lambda headers: frame(PING, 0, 0, b"abc") + whole(1, headers), "PING of three bytes"),
        ("window-0", lambda headers: frame(WINDOW_UPDATE, 0, 0, bytes(4)) + whole(1, headers), "an increment of 0"),
        ("window-overflow", lambda headers: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)) + whole(1, headers), "a window that overflows"),
        ("rst-idle", lambda headers: frame(RST_STREAM, 0, 1, bytes(4)) + whole(3, headers), "RST_STREAM on an idle stream"),
        ("large", lambda headers: frame(HEADERS, END_STREAM | END_HEADERS, 1, headers + bytes(20_000)), "a frame beyond 16 KiB"),
        ("hpack-index", lambda headers: whole(1, headers + integer(200, 7, 0x80)), "an index that is in no table"),
        ("hpack-0", lambda headers: whole(1, headers + b"\x80"), "index 0"),
        ("hpack-size", lambda headers: whole(1, integer(1 << 20, 5, 0x20) + headers), "a table larger than was allowed"),
        ("hpack-cut", lambda headers: whole(1, headers + b"\x00\x7f\xff"), "a field that is cut off"),
        ("hpack-huffman", lambda headers: whole(1, headers + b"\x00\x03foo\x84\xff\xff\xff\xff"), "Huffman code that ends in EOS"),
        ("hpack-overflow", lambda headers: whole(1, headers + b"\xff" + b"\xff" * 20), "an integer without end"),
        ("reused", lambda headers: frame(RST_STREAM, 0, 1, bytes(4)) + whole(1, headers) + whole(1, headers), "a stream that was used"),
    )),
    frames("h2-frame-after-end", lambda headers: whole(1, headers) + frame(DATA, END_STREAM, 1, SMUGGLED), "DATA after the end of a request", "safe"),
    frames("h2-frame-head-after-end", lambda headers: whole(1, headers) + whole(1, headers + literal(b"x-user-id", b"admin")), "HEADERS after the end of a request", "safe"),
    frames("h2-frame-goaway", lambda headers: frame(GOAWAY, 0, 0, bytes(8)) + whole(1, headers), "a request after GOAWAY", "safe"),
    frames("h2-frame-down", lambda headers: whole(5, headers) + whole(1, headers), "a stream below an earlier one", "safe"),
    frames("h2-frame-open-trailers", lambda headers: frame(HEADERS, END_HEADERS, 1, headers) + frame(HEADERS, END_HEADERS, 1, block(((b"foo", b"a"),))) + frame(DATA, END_STREAM, 1, SMUGGLED), "trailers that do not end the stream", "safe"),
]  # fmt: skip
