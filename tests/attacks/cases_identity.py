"""More HTTP/1 cases of identity: other spellings, what Connection may not do, public routes, forwarding headers."""

from rig.case import Case
from rig.forms_http1 import CHUNKED, connection, forged_forward, forwarded, identity, probe, request

ODD = "the name has the letters and digits of an owned header, whatever stands between them"
OWNED = (b"X-User-Id", b"X-User-Name", b"X-User-Email", b"X-User-Groups")
# Every byte but letters and digits that may stand in a name (RFC 9110 section 5.6.2).
SEPARATORS = b"!#$%&'*+-.^_`|~"


def spelled(id, name, value=b"admin", **parts):
    """An owned header in another spelling, legal as a name."""
    raw = request(headers=name + b": " + value + b"\r\n", **parts)
    return Case(id, "identity", raw, "safe", f"{ODD} ({name!r})", "CVE-2025-64484, CVE-2026-33433", check="no_spelling")


def malformed(id, name, why):
    """An owned header behind bytes that no name may have."""
    raw = request(headers=name + b": admin\r\n")
    return Case(id, "identity", raw, "reject", why, "RFC 9110 5.1, RFC 9112 5")


def separated(name, separator):
    """The name with this byte wherever a dash is."""
    return name.replace(b"-", bytes([separator]))


def public(id, headers):
    """A public route without a token: nobody is anybody."""
    raw = request(b"/public/x", headers=headers, auth=False)
    return Case(id, "identity", raw, "safe", "removed on public routes too", "CVE-2026-30851", check="no_spelling")


def hop(id, headers, why="Connection must not change what the upstream sees of the gateway's own headers", **parts):
    """A trick with Connection and its like, beside a sound token."""
    return identity(id, headers, why, "GHSA-w9mr-28mw-j8hg, CVE-2026-29054, RFC 9110 7.6.1", **parts)


CASES = [
    # --- every separator, for every owned header
    *(spelled(f"id-sep{byte:02x}", separated(b"X-User-Id", byte)) for byte in SEPARATORS),
    *(spelled(f"id-sep-{name.decode()}-{byte:02x}", separated(name, byte)) for name in OWNED[1:] for byte in b"_.~'"),
    *(spelled(f"id-upper-{name.decode()}", name.upper()) for name in OWNED),
    *(spelled(f"id-cgi-{name.decode()}", b"HTTP_" + name.upper().replace(b"-", b"_")) for name in OWNED),
    spelled("id-mixed", b"X_User.Id"),
    spelled("id-none", b"XUserId"),
    spelled("id-lead", b"-X-User-Id"),
    spelled("id-lead2", b"__X_User_Id"),
    spelled("id-trail2", b"X-User-Id__"),
    spelled("id-double", b"X__User__Id"),
    spelled("id-http-dot", b"http.x.user.id"),
    spelled("id-http-none", b"HTTPXUserId"),
    spelled("id-http-twice", b"HTTP_HTTP_X_USER_ID"),
    spelled("id-http-lead", b"_HTTP_X_USER_ID"),
    spelled("id-odd-case", b"x-uSER-iD"),
    # --- what is no name at all
    spelled("id-colon-value", b"X-User-Id", b": admin"),
    malformed("id-bad-vt", b"X-User-Id\x0b", "a control byte in a name"),
    malformed("id-bad-nul", b"X-User\x00-Id", "a NUL in a name"),
    malformed("id-bad-del", b"X-User-Id\x7f", "DEL in a name"),
    malformed("id-bad-utf8", b"X\xe2\x80\x90User\xe2\x80\x90Id", "a dash of Unicode in a name"),
    malformed("id-bad-wide", "Ｘ-User-Id".encode(), "a full-width letter in a name"),
    malformed("id-bad-slash", b"X/User/Id", "a slash in a name"),
    malformed("id-bad-paren", b"(X-User-Id)", "parentheses in a name"),
    malformed("id-bad-quote", b'"X-User-Id"', "quotes around a name"),
    malformed("id-bad-at", b"X@User@Id", "an at sign in a name"),
    malformed("id-bad-eq", b"X=User=Id", "an equals sign in a name"),
    malformed("id-bad-sp", b"X-User-Id  ", "two spaces before the colon"),
    # --- hidden in other lines
    identity("id-dup-apart", b"X-User-Id: admin\r\nFoo: a\r\nx-user-id: root\r\nBar: b\r\nX_USER_ID: root\r\n"),
    identity("id-many", b"X-User-Id: admin\r\n" * 60),
    identity("id-empty-many", b"X-User-Id:\r\nX-User-Id: \t\r\nX-User-Id: admin\r\n"),
    identity("id-fold", b"Foo: a\r\n X-User-Id: admin\r\n", "a folded line is refused, or one value"),
    identity("id-fold-tab", b"X-User-Id:\r\n\tadmin\r\n", "a folded line is refused, or one value"),
    identity("id-lf", b"Foo: a\nX-User-Id: admin\r\n", "a bare LF ends a line or is refused, for both"),
    identity("id-cr", b"Foo: a\rX-User-Id: admin\r\n", "a bare CR is refused"),
    identity("id-crcr", b"Foo: a\r\r\nX-User-Id: admin\r\n", "CR CR LF is refused, or ends a line"),
    identity("id-before-host", b"X-User-Id: admin\r\nHost: gw.test\r\n", host=b""),
    identity("id-nbsp", b"X-User-Id: \xa0alice\r\n"),
    identity("id-subject", b"X-User-Id: alice\r\nX_User_Id: alice\r\n"),
    # --- Connection and its like
    connection("id-conn-quoted", b'"X-User-Id"'),
    connection("id-conn-tab", b"\tX-User-Id\t"),
    connection("id-conn-alias", b"X_User_Id"),
    connection("id-conn-fold", b"close,\r\n X-User-Id"),
    connection("id-conn-vt", b"X-User-Id\x0b"),
    connection("id-conn-nul", b"X-User-Id\x00"),
    connection("id-conn-many", b", ".join(b"t%d" % number for number in range(3000)) + b", X-User-Id"),
    connection("id-conn-lines", b"\r\nConnection: ".join(b"t%d" % number for number in range(40)) + b", X-User-Id"),
    connection("id-conn-fwd", b"X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-Id"),
    connection("id-conn-empty", b""),
    connection("id-conn-commas", b",,, ,,X-User-Id,,"),
    connection("id-conn-close-id", b"close, X-User-Id, X-User-Name, X-User-Groups, X-User-Email"),
    connection("id-conn-conn", b"Connection, X-User-Id"),
    hop("id-conn-lower-name", b"connection: X-User-Id\r\n"),
    hop("id-conn-upper-name", b"CONNECTION: X-USER-ID\r\n"),
    hop("id-conn-spelled", b"Connection_: X-User-Id\r\nConnection.: X-User-Id\r\n"),
    hop("id-conn-te", b"Connection: Transfer-Encoding\r\n" + CHUNKED, method=b"POST", body=b"3\r\nabc\r\n0\r\n\r\n"),
    hop("id-conn-cl", b"Connection: Content-Length\r\nContent-Length: 3\r\n", method=b"POST", body=b"abc"),
    hop("id-conn-host", b"Connection: Host\r\n"),
    hop("id-proxy-conn", b"Proxy-Connection: X-User-Id\r\n"),
    hop("id-te", b"TE: X-User-Id\r\nConnection: TE\r\n"),
    hop("id-te-trailers", b"TE: trailers, X-User-Id;q=0.5\r\nConnection: TE, X-User-Id\r\n"),
    hop("id-trailer-name", b"Trailer: X-User-Id, Host, Authorization\r\n"),
    # --- trailers
    identity(
        "id-trailer-many",
        CHUNKED,
        "no trailer reaches the upstream",
        method=b"POST",
        body=b"3\r\nabc\r\n0\r\n" + b"".join(b"X-User-Id: %d\r\n" % number for number in range(50)) + b"\r\n",
    ),
    identity(
        "id-trailer-cgi",
        CHUNKED + b"Trailer: HTTP_X_USER_ID\r\nConnection: Trailer\r\n",
        "no trailer reaches the upstream",
        method=b"PUT",
        body=b"3\r\nabc\r\n0\r\nHTTP_X_USER_ID: admin\r\nX.User.Id: admin\r\n\r\n",
    ),
    identity(
        "id-trailer-public",
        CHUNKED,
        "no trailer reaches the upstream on public routes either",
        method=b"POST",
        target=b"/public/x",
        auth=False,
        body=b"3\r\nabc\r\n0\r\nX-User-Id: admin\r\n\r\n",
    ),
    # --- public routes
    *(public(f"id-public-{name.decode()}", name + b": admin\r\n") for name in OWNED),
    *(public(f"id-public-cgi-{name.decode()}", b"HTTP_" + name.replace(b"-", b"_") + b": admin\r\n") for name in OWNED),
    public("id-public-dots", b"X.User.Id: admin\r\nX~User~Id: admin\r\nXUserId: admin\r\n"),
    public("id-public-conn", b"X-User-Id: admin\r\nConnection: X-User-Id\r\n"),
    public("id-public-basic", b"X-User-Id: admin\r\nAuthorization: Basic YWRtaW46YWRtaW4=\r\n"),
    public("id-public-twice", b"X-User-Id: admin\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
    # --- what a peer that is not trusted says of itself
    *(
        forged_forward(f"fwd-forged-{number:02}", name, value)
        for number, (name, value) in enumerate(
            [
                (b"X-Forwarded-For", b"127.0.0.1, 6.6.6.6"),
                (b"X_Forwarded_For", b"6.6.6.6"),
                (b"X.Forwarded.For", b"6.6.6.6"),
                (b"HTTP_X_FORWARDED_FOR", b"6.6.6.6"),
                (b"x-forwarded-for", b"6.6.6.6"),
                (b"X-Forwarded-Host", b"evil.test"),
                (b"X_Forwarded_Host", b"evil.test"),
                (b"X-Forwarded-Server", b"evil.test"),
                (b"X-Forwarded-By", b"6.6.6.6"),
                (b"X-Host", b"evil.test"),
                (b"Forwarded", b"for=6.6.6.6;host=evil.test;proto=https"),
                (b"X-Real-IP", b"6.6.6.6"),
                (b"X_Real_IP", b"6.6.6.6"),
                (b"X-Client-IP", b"6.6.6.6"),
                (b"True-Client-IP", b"6.6.6.6"),
                (b"CF-Connecting-IP", b"6.6.6.6"),
                (b"X-Cluster-Client-IP", b"6.6.6.6"),
                (b"Forwarded-For", b"6.6.6.6"),
                (b"X-Original-Forwarded-For", b"6.6.6.6"),
                (b"X-Original-Host", b"evil.test"),
                (b"X-Forwarded", b"6.6.6.6"),
                (b"Fastly-Client-IP", b"6.6.6.6"),
                (b"X-Envoy-External-Address", b"6.6.6.6"),
                (b"X-ProxyUser-Ip", b"6.6.6.6"),
                (b"X-Request-Id", b"forged-by-client"),
                (b"X_Request_Id", b"forged-by-client"),
            ]
        )
    ),
    *(
        forwarded("fwd-open-" + name.decode(), name)
        for name in (
            b"X-Forwarded-Prefix", b"X-Forwarded-Path", b"X-Forwarded-Method", b"X-HTTP-Method-Override", b"X-HTTP-Method",
            b"X-Method-Override", b"X-Original-URI", b"X-Envoy-Original-Path", b"X-Auth-Request-User", b"Remote-User",
            b"X-Remote-User", b"X-Authenticated-User", b"X-WEBAUTH-USER", b"SSL-Client-Cert", b"X-SSL-Client-Verify",
            b"X-Client-Cert", b"X-Amzn-Oidc-Data", b"X-Goog-Authenticated-User-Email", b"X-MS-Client-Principal", b"Cf-Access-Jwt-Assertion",
        )
    ),
    probe("ua-google", b"GoogleHC/1.0"),
    probe("ua-elb", b"ELB-HealthChecker/2.0"),
    probe("ua-haproxy", b"HAProxy"),
    probe("ua-consul", b"Consul Health Check"),
]  # fmt: skip
