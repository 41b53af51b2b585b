"""What a test case is. Cases are data; how they are scored is in verdict.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One HTTP/1 message, byte for byte.

    Inside `raw`, @TOK@ stands for a valid access token of alice and @CANARY@ for a port to which nobody may connect.
    """

    id: str
    group: str
    raw: bytes
    expect: str  # a verdict rule: reject, one, noauth, safe, accept
    why: str
    source: str = ""
    requests: int = 1  # accept: so many requests must reach the upstream
    answers: int = 0  # when not 0: the client may see at most so many final answers
    check: str = ""  # name of one more rule in verdict.CHECKS


@dataclass(frozen=True)
class Stream:
    """One HTTP/2 request on a connection of its own: header fields, then DATA, then trailers."""

    id: str
    fields: tuple
    data: bytes | None
    trailers: tuple | None
    expect: str
    why: str
    source: str = "RFC 9113 8.2, 8.3"
    check: str = ""
    group: str = "h2"
    frames: object = None  # function(header block of a sound GET): the frames in place of all of the above


@dataclass(frozen=True)
class Token:
    """One Bearer token, sent in an otherwise ordinary request."""

    id: str
    group: str
    token: bytes
    expect: str  # accept, reject, any
    why: str
    source: str = ""
    subject: str = "alice"  # the identity that the upstream must see when the token is accepted
    unfit: bool = False  # the subject may not fit a header: 502 is then an answer too


@dataclass(frozen=True)
class Slow:
    """A client that sends `first`, then `drip` once a second, and never finishes.

    `limit` names the limit that must end it: header, body, idle or stall (see README.md).
    """

    id: str
    first: bytes
    limit: str
    why: str
    drip: object = b""  # bytes, or a function(step) that makes them
    plain: bool = False  # speaks without TLS also where there is TLS
    must_start_with: bytes = b""
    group: str = "slow"


@dataclass(frozen=True)
class Flood:
    """Endless frames on one HTTP/2 connection; `frames(token)` is a generator function."""

    id: str
    frames: object
    total: int
    why: str
    per_write: int = 100
    read: bool = True  # False: the attacker never reads what the gateway answers
    group: str = "floods"


@dataclass(frozen=True)
class BadAnswer:
    """What a broken upstream answers to request A; the rules for A, and what must not appear in it."""

    id: str
    play: object  # function(socket): writes the answer
    allowed: tuple  # status codes that A may get; 0 = closed without an answer is allowed too
    why: str
    body: bytes | None = None  # when A gets a 200: its exact body
    cut: bool = False  # a 200 must look cut to the client
    forbidden: tuple = (b"POISON",)
    upload: bool = False  # A is a POST with 200 kB of body
    method: bytes = b"GET"  # of A, when it is no upload
    rest: float = 0.0  # seconds until others are served, in which the upstream goes on
    source: str = "RFC 9112"
    group: str = "upstream"
