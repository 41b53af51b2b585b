"""More HTTP/1 cases of targets, hosts and methods."""

from rig.case import Case
from rig.forms_http1 import BEARER, HOST, SIZE, SMUGGLED, absolute, host, method, method_case, path, path_raw, request

LINEAR = "many segments cost linear time"
# Ways to write "..", each once.
DOTS = (
    b"..", b".%2E", b"%2E.", b"%2E%2e", b"%252e%252e", b"%25%32%65%25%32%65", b"%c0%ae%c0%ae", b"%C0%2E%C0%2E", b"%e0%80%ae%e0%80%ae",
    b"%uff0e%uff0e", b"%u002e%u002e", b"%ef%bc%8e%ef%bc%8e", b"\xef\xbc\x8e\xef\xbc\x8e", b"\xc0\xae\xc0\xae", b"%e2%80%a5", b"..%20",
    b"..%09", b"..%00", b"..%0a", b"..%7f", b"..%ad", b"..\xa0", b"..;", b"..;x", b"..%3b", b";/..", b".;/..", b"..%3b/..", b"..?", b"..%3f",
    b"..#", b"..%23", b".%00.", b"%00..", b"./..", b".//..", b"%2e/%2e%2e", b"x/../..", b"%20..", b"+..", b"..:", b"..%5c..", b"..%5C", b"..\\",
)  # fmt: skip
# Ways to write "/" between ".." and "private".
SLASHES = (
    b"%2f", b"%2F", b"%252f", b"%25252f", b"%c0%af", b"%c1%9c", b"%e0%80%af", b"%5c", b"%255c", b"\\", b"%u2215", b"%u2216", b"%ef%bc%8f",
    b"%e2%88%95", b"%e2%81%84", "／".encode(), "∕".encode(), "⁄".encode(), b"%2f/", b"/%2f", b"//", b"\\/", b"%00/", b"%0d%0a/",
)  # fmt: skip
# Ways to write /private that somebody may read as that.
PRIVATE = (
    b"//private", b"///private", b"/private/", b"/private//", b"/private/.", b"/private/..", b"/private/../private", b"/%2e/%2e/private", b"/.%2fprivate",
    b"/%5cprivate", b"/%5c%5cprivate", b"/\\private", b"\\private", b"/private.", b"/private..", b"/private%2e", b"/private%09", b"/private%0a", b"/private%0d%0a",
    b"/private%00", b"/private;", b"/private;/public", b"/private%3b", b"/private%3bx=/public/x", b"/;/private", b"/;public/private", b"/PRIVATE", b"/Private",
    b"/pRiVaTe", b"/%50rivate", b"/%2570rivate", b"/%u0070rivate", b"/private%25", b"/private%", b"/private%2", b"/private%2g", b"/private%%", b"/private%\xff",
    b"/private?/../public/x", b"/private?public", b"/private%3fpublic", b"/private#/public/x", b"/private%23/public", b"/private/%70ublic", b"/private:80", b"/private@public",
    b"/private,public", b"/private&x", b"/private|x", b"/private^", b"/private`", b"/private{}", b"/private[]", b"/private<x>", b'/private"', b"/private\x7f",
    b"/private\x80", b"/private\xc3\xa9", b"/p%72ivat%65", b"/public%00/private", b"/public%0a/private", b"/public%20/private", b"/public./private",
    b"/public.", b"/public;/private", b"/public%3b/private", b"/publicx", b"/public-private", b"/public%", b"/public:/private", b"/PUBLIC/private", b"/Public",
    b"/%70ublicprivate", b"/public%2f", b"/public%5c", b"/public\\", b"/public%2e", b"/api/tokenprivate", b"/api/token/../../private", b"/api/token/%2e%2e/%2e%2e/private",
    b"/api/token;/private", b"/.well-known/../private", b"/.well-known/jwks.json/../../private", b"/.well-known/jwks.json;x", b"/healthz", b"/readyz", b"/metrics",
    b"/api//token/../private", b"*", b"", b"private", b"public", b"public/../private", b".", b"..", b"%2fprivate", b";/private", b"@private", b":80/private",
    b"http:private", b"http:/private", b"//gw.test/private", b"//gw.test/public/x", b"///public/../private", b"/~/private", b"/public/~", b"/http://gw.test/public/x",
)  # fmt: skip
# What no host is. Host is checked before anything else, so the token is sound.
HOSTS = (
    b"", b" ", b"gw.test/", b"gw.test/public", b"/gw.test", b"gw.test:99999", b"gw.test:65536", b"gw.test:-1", b"gw.test:8a", b"gw.test:80:80", b"gw.test:+80", b"gw.test: 80",
    b"gw.test :80", b"gw test", b"gw.test\t:80", b"gw.test\x00", b"gw.test\x00.evil.test", b"gw.test\x0b", b"gw.test\x7f", b"gw.test?x", b"gw.test#x", b"gw.test\\", b"gw.test\\@evil.test",
    b"@gw.test", b"user:pw@gw.test", b"http://gw.test", b"gw.test%00", b"%67w.test", b"gw.test%2f", b"[::1", b"::1", b"[::1]x", b"[::1]:x", b"[gw.test]", b"[]", b"[::1%25lo]", b":80", b":",
    b"gw.test,", b",gw.test", b"gw.test;x", b"'gw.test'", b'"gw.test"', b"<gw.test>", b"gw.test\xa0", b"\xc2\xa0gw.test", "gw。test".encode(), "ｇw.test".encode(), b"gw..test", b".gw.test",
    b"..", b"a" * 300, b"a." * 200 + b"test", b"gw.test\r\n evil.test", b"gw.test\r\n\tevil.test", b"{gw.test}", b"gw.test|x", b"gw.test^", b"gw.test`id`", b"gw.test$x", b"gw.test*", b"*",
)  # fmt: skip
REJECTED_TARGETS = (
    (b"/\x00", "a NUL"), (b"/\x1f", "a control byte"), (b"/\x7f", "DEL"), (b"/a\tb", "a TAB"), (b"/a\x0bb", "a vertical tab"), (b"/a\x0cb", "a form feed"),
    (b"/a\rb", "a bare CR"), (b"/a b", "a space"), (b"/%00", "an encoded NUL"), (b"/%2", "half an escape"), (b"/%zz", "a broken escape"),
)  # fmt: skip


def target(id, what, expect, why):
    """A target with a sound token."""
    return Case(id, "path", request(what), expect, why, "RFC 9112 3.2, RFC 3986 3.3")


CASES = [
    # --- dot segments in every spelling, between /public and /private
    *(path(f"dots{number:02}", b"/public/" + dots + b"/private") for number, dots in enumerate(DOTS)),
    *(path(f"dots-root{number:02}", b"/" + dots + b"/private") for number, dots in enumerate(DOTS[:14])),
    *(path(f"slash{number:02}", b"/public/.." + slash + b"private") for number, slash in enumerate(SLASHES)),
    *(path(f"slash-in{number:02}", b"/public" + slash + b".." + slash + b"private") for number, slash in enumerate(SLASHES)),
    *(path(f"private{number:03}", text) for number, text in enumerate(PRIVATE)),
    path("dots-thousands", b"/public" + b"/.." * 3000 + b"/private", why=LINEAR),
    path("dots-thousands-encoded", b"/public" + b"/%2e%2e" * 1500 + b"/private", why=LINEAR),
    path("dots-down-up", b"/public" + b"/a/.." * 1500 + b"/../private", why=LINEAR),
    path("slashes-thousands", b"/" * 8000 + b"private", why=LINEAR),
    path("segments-thousands", b"/public" + b"/a" * 4000, why=LINEAR),
    path("semicolons-thousands", b"/public" + b";" * 8000 + b"/private", why=LINEAR),
    path("escapes-thousands", b"/" + b"%70" * 4000, why=LINEAR),
    path("long70k", b"/public/" + b"a" * 70_000, "reject", "70 kB of path: 414 or 431", "RFC 9110 15.5.15"),
    path("long-query70k", b"/public/x?" + b"a" * 70_000, "reject", "70 kB of query: 414 or 431", "RFC 9110 15.5.15"),
    target("target-fragment", b"/echo#fragment", "safe", "a fragment is refused or cut off, for the decision and the upstream alike"),
    *(target(f"target-odd{number:02}", text, "reject", f"{what} in the target") for number, (text, what) in enumerate(REJECTED_TARGETS)),
    path_raw("line-tab", b"GET\t/private\tHTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "tabs between the words"),
    path_raw("line-lead", b" GET /private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "a space before the method"),
    path_raw("line-trail", b"GET /private HTTP/1.1 \r\n" + HOST + b"\r\n", "noauth", "a space after the version"),
    path_raw("line-four", b"GET /public/x /private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "four words"),
    path_raw("line-four2", b"GET /public/x HTTP/1.1 /private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "five words"),
    path_raw("line-vt", b"GET\x0b/private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "a vertical tab between the words"),
    path_raw("line-cr", b"GET /public/x\rGET /private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "a bare CR in the line"),
    path_raw("line-nul", b"GET /public/x\x00 /private HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "a NUL in the line"),
    path_raw("line-notarget", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", "noauth", "no target"),
    path_raw("line-nothing", b"GET\r\n" + HOST + b"\r\n", "noauth", "a method alone"),
    # --- absolute targets
    *(
        absolute(f"abs{number:02}", text, "noauth", "one authority, one path, for routing and for the decision")
        for number, text in enumerate(
            (
                b"http://gw.test/private", b"HTTP://gw.test/private", b"https://gw.test/private", b"http://gw.test:80/private", b"http://gw.test/public/../private",
                b"http://gw.test//private", b"http://evil.test/public/../private", b"http://gw.test@evil.test/private", b"http:///private", b"http://gw.test\\private",
                b"http://gw.test?/public/x", b"http://gw.test#/private", b"http://gw.test;/private", b"ftp://gw.test/private", b"gopher://gw.test/private", b"data:,x",
                b"javascript:alert(1)", b"gw.test:80", b"gw.test/private", b"http://[::1]/private", b"http://[::1/private", b"http://gw.test:/private", b"http://gw.test:x/private",
                b"http://gw.test:99999/private", b"http://gw.test%2fprivate", b"http://%67w.test/private", b"http://gw.test\x00/private", b"http://gw.test\t/private", b"http:/\\gw.test/private",
                b"http//gw.test/private", b"://gw.test/private", b"unix:/private", b"h2c://gw.test/private", b"ws://gw.test/private", b"wss://gw.test/private",
            )
        )
    ),
    absolute("abs-evil", b"http://evil.test/echo", "reject", "an absolute target that differs from Host", auth=True),
    absolute("abs-evil-port", b"http://gw.test:81/echo", "reject", "a port that differs from Host", auth=True),
    absolute("abs-user", b"http://u:p@gw.test/echo", "reject", "user information in the target", auth=True),
    absolute("abs-canary", b"http://127.0.0.1:@CANARY@/echo", "reject", "nobody connects to what the client names", auth=True),
    absolute("abs-canary-nohost", b"http://127.0.0.1:@CANARY@/echo", "reject", "an absolute target does not replace Host", auth=True, host=b""),
    absolute("abs-ok", b"http://gw.test/echo", "safe", "an absolute target that is like Host", auth=True),
    # --- Host
    *(host(f"host{number:02}", b"Host: " + text + b"\r\n", "reject", f"{text[:30]!r} is no host") for number, text in enumerate(HOSTS)),
    host("host-equal-twice", b"Host: gw.test\r\nHost: gw.test\r\n", "reject", "two Host headers, though equal"),
    host("host-twice-apart", b"Host: gw.test\r\nFoo: a\r\nHOST: evil.test\r\n", "reject", "two Host headers"),
    host("host-thrice", b"Host:\r\nHost: gw.test\r\nHost:\r\n", "reject", "three Host headers"),
    host("host-tabname", b"Host\t: gw.test\r\n", "reject", "a tab before the colon"),
    host("host-spname", b" Host: gw.test\r\n", "reject", "a space before the name"),
    host("host-alias", b"HTTP_HOST: gw.test\r\n", "reject", "another spelling is no Host"),
    host("host-alias2", b"Host.: gw.test\r\n", "reject", "another spelling is no Host"),
    host("host-port0", b"Host: gw.test:0\r\n", "safe", "a port that nobody listens on"),
    host("host-dot", b"Host: gw.test.\r\n", "safe", "a dot at the end makes no difference"),
    host("host-dots", b"Host: gw.test..\r\n", "reject", "two dots at the end"),
    host("host-ip", b"Host: 127.0.0.1\r\n", "safe", "an address is a host"),
    host("host-ip6", b"Host: [::1]:80\r\n", "safe", "an address is a host"),
    host("host-script", b"Host: <script>alert(1)</script>\r\n", "reject", "a script is no host"),
    # --- methods
    *(
        method(f"meth-open-{number:02}", name)
        for number, name in enumerate(
            (
                b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"TRACK", b"get", b"Get", b"LOCK", b"MKCOL", b"MOVE", b"COPY", b"SEARCH", b"QUERY", b"PURGE",
                b"BREW", b"X" * 300, b"X" * 20_000, b"!", b"GET@", b"GET/", b"G\x00ET", b"G\xc3\x89T", b"OPTIONS ", b"HEAD\t", b"JEFF", b"UNLOCK", b"REPORT", b"ACL",
            )
        )
    ),
    method("meth-preflight", b"OPTIONS", b"Origin: https://a.test\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n"),
    method("meth-override", b"POST", b"X-HTTP-Method-Override: OPTIONS\r\nContent-Length: 0\r\n"),
    method_case("trace", request(method=b"TRACE"), "reject", "TRACE would show what the gateway adds", "RFC 9110 9.3.8"),
    method_case("trace-fwd", request(method=b"TRACE", headers=b"Max-Forwards: 0\r\n"), "reject", "TRACE would show what the gateway adds", "RFC 9110 9.3.8"),
    method_case("connect-origin", request(method=b"CONNECT"), "reject", "CONNECT is no request to an upstream", "CVE-2026-71324"),
    method_case("connect-canary", b"CONNECT 127.0.0.1:@CANARY@ HTTP/1.1\r\nHost: 127.0.0.1:@CANARY@\r\n" + BEARER + b"\r\n", "reject", "no tunnel to what the client names", "CVE-2026-71324"),
    method_case("connect-public", b"CONNECT /public/x HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED, "reject", "no tunnel on a public route", "CVE-2026-71324"),
    method_case("connect-upgrade", request(b"/echo", b"CONNECT", b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: %d\r\n" % SIZE, SMUGGLED), "reject", "CONNECT with an upgrade", "CVE-2026-71324"),
    method_case("connect-lower", request(method=b"connect"), "safe", "methods are compared with their case", "RFC 9110 9.1"),
    method_case("options-star", request(b"*", b"OPTIONS"), "safe", "OPTIONS * is answered or refused", "RFC 9112 3.2.4"),
    method_case("options-star-open", request(b"*", b"OPTIONS", auth=False), "noauth", "OPTIONS * needs a token where everything does", "RFC 9112 3.2.4"),
    method_case("get-star", request(b"*"), "reject", "* belongs to OPTIONS only", "RFC 9112 3.2.4"),
]  # fmt: skip
