"""Tokens: each function takes a Mint (the gateway's own key) and yields the cases of one group.

Groups: control, alg-none, key-confusion, crit, structure, time, binding. Nearly all tokens are truly signed, so that
only the fault named in the case can be the reason for refusing them.
"""

import hashlib

from rig.case import Token
from rig.tokens import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    LIFETIME,
    b64,
    compact,
    ecdsa_signer,
    hmac_signer,
    pss_signer,
    rsa_signer,
)

BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HMACS = (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512))


def case(mint, group, id, token, expect, why, source="", subject="alice"):
    """A case whose id begins with the algorithm."""
    return Token(f"{mint.algorithm}.{id}", group, token, expect, why, source, subject)


def control(mint):
    """Sound tokens: a gateway that refuses everything fails here."""
    spaced = b'{ "alg" : "%s" ,\n"typ":"JWT"}' % mint.algorithm.encode()
    sound = [
        ("ok", mint.token(), "a sound token", "RFC 7519"),
        (
            "ok-aud-array",
            mint.token(claims=mint.claims(aud=["other", AUDIENCE])),
            "our audience in a list",
            "RFC 7519 4.1.3",
        ),
        ("ok-typ-atjwt", mint.token({**mint.header, "typ": "at+jwt"}), "the access token type of RFC 9068", "RFC 9068"),
        (
            "ok-extra-header",
            mint.token({**mint.header, "x-unknown": "1"}),
            "unknown header members are ignored",
            "RFC 7515 4",
        ),
        ("ok-ws-in-json", mint.token(spaced), "white space is legal in JSON", "Wycheproof 376, 377"),
        (
            "ok-no-kid",
            mint.token({"alg": mint.algorithm}),
            "neither kid nor typ, as other issuers write it",
            "RFC 7515 4.1",
        ),
    ]
    for id, token, why, source in sound:
        yield case(mint, "control", id, token, "accept", why, source)


def alg_none(mint):
    """Algorithms that are none, in every spelling, and signatures that are empty."""

    def bad(id, token, why, source="CVE-2015-9235"):
        return case(mint, "alg-none", id, token, "reject", why, source)

    for number, algorithm in enumerate(["none", "None", "NONE", "nOnE", "none ", "", None, "HS256\x00"]):
        header = {"alg": algorithm, "typ": "JWT"}
        message = b64(compact(header)) + b"." + b64(compact(mint.claims()))
        yield bad(f"none{number}-emptysig", message + b".", f"alg {algorithm!r}, empty signature")
        yield bad(f"none{number}-nodot", message, f"alg {algorithm!r}, no third part")
        yield bad(f"none{number}-goodsig", mint.token(header), f"alg {algorithm!r}, true signature", "RFC 8725 3.1")
    yield bad("noalg", mint.token({"typ": "JWT"}), "alg is missing", "RFC 7515 4.1.1")
    lower = {"alg": mint.algorithm.lower(), "typ": "JWT"}
    yield bad("alg-lower", mint.token(lower), "alg is case-sensitive", "RFC 7515 4.1.1")
    yield bad("emptysig", mint.token().rsplit(b".", 1)[0] + b".", "right alg, empty signature", "CVE-2020-28042")


def key_confusion(mint):
    """Another algorithm or another key than the one that the gateway holds."""

    def bad(id, token, why, source="RFC 8725 3.1"):
        return case(mint, "key-confusion", id, token, "reject", why, source)

    for form, key in public_forms(mint).items():
        for algorithm, digest in HMACS:
            token = mint.token({"alg": algorithm, "typ": "JWT"}, sign=hmac_signer(key, digest))
            yield bad(
                f"confuse-{form}-{algorithm}", token, "HMAC keyed with the public key", "CVE-2015-9235, CVE-2022-29217"
            )
    for algorithm, digest in HMACS:
        for name, key in (("empty", b""), ("secret", b"secret"), ("nul", bytes(32))):
            token = mint.token({"alg": algorithm, "typ": "JWT"}, sign=hmac_signer(key, digest))
            yield bad(
                f"weak-{name}-{algorithm}", token, "HMAC with an empty or guessable key", "RFC 8725 2.2; CVE-2019-20933"
            )
    if mint.algorithm == "HS256":
        token = mint.token({"alg": "HS384", "typ": "JWT"}, sign=hmac_signer(mint.key, hashlib.sha384))
        yield bad("hs384-samekey", token, "the right key, an algorithm that is not allowed")
        yield bad("otherkey", mint.token(sign=hmac_signer(bytes(range(48)))), "another HMAC key")
    else:
        yield from asymmetric_confusion(mint, bad)


def public_forms(mint):
    """The public key in every form that an HMAC has been keyed with by mistake."""
    if mint.algorithm == "HS256":
        return {}
    from cryptography.hazmat.primitives import serialization as form

    public = mint.key.public_key()
    pem = public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    forms = {
        "pem": pem,
        "pem-nonl": pem.rstrip(b"\n"),
        "pem-crlf": pem.replace(b"\n", b"\r\n"),
        "der": public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo),
    }
    if mint.algorithm == "RS256":
        forms["pkcs1pem"] = public.public_bytes(form.Encoding.PEM, form.PublicFormat.PKCS1)
        forms["n"] = public.public_numbers().n.to_bytes(256, "big")
    if mint.algorithm == "ES256":
        forms["point"] = public.public_bytes(form.Encoding.X962, form.PublicFormat.UncompressedPoint)
        forms["x"] = forms["point"][1:33]
    if mint.algorithm == "EdDSA":
        forms["raw"] = public.public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    return forms


def asymmetric_confusion(mint, bad):
    """PSS for PKCS#1, and a stranger's key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if mint.algorithm == "RS256":
        pss = pss_signer(mint.key)
        yield bad("ps256-samekey", mint.token({"alg": "PS256", "typ": "JWT"}, sign=pss), "PS256 with the RS256 key")
        yield bad("rs256-hdr-ps", mint.token(sign=pss), "a PSS signature under RS256", "Wycheproof")
        stranger = rsa_signer(rsa.generate_private_key(65537, 2048))
    elif mint.algorithm == "ES256":
        stranger = ecdsa_signer(ec.generate_private_key(ec.SECP256R1()))
    else:
        stranger = ed25519.Ed25519PrivateKey.generate().sign
    yield bad("otherkey", mint.token(sign=stranger), "another key of the same kind")


def crit(mint):
    """Critical header members: what is not understood must be refused."""
    source = "RFC 7515 4.1.11; CVE-2025-59420, CVE-2026-32597"
    forms = [
        ({"crit": ["exp"], "exp": 0}, "reject", "unknown critical extension"),
        ({"crit": ["x-bork"], "x-bork": True}, "reject", "unknown critical extension"),
        ({"crit": []}, "reject", "an empty crit is illegal"),
        ({"crit": "exp"}, "reject", "crit is no list"),
        ({"crit": ["alg"]}, "reject", "a registered name in crit"),
        ({"crit": ["x-missing"]}, "reject", "crit names an absent member"),
        ({"crit": ["b64"], "b64": True}, "any", "RFC 7797 with b64 true"),
    ]
    for number, (members, expect, why) in enumerate(forms):
        yield case(mint, "crit", f"crit{number}", mint.token({**mint.header, **members}), expect, why, source)
    header = {**mint.header, "b64": False, "crit": ["b64"]}
    raw = b64(compact(header)) + b"." + compact(mint.claims())
    yield case(
        mint, "crit", "b64false-raw", raw + b"." + b64(mint.sign(raw)), "reject", "unencoded payload", "RFC 7797"
    )
    yield case(mint, "crit", "b64false-enc", mint.token(header), "reject", "b64 false, encoded payload", "RFC 7797")
    lone = mint.token({**mint.header, "b64": False})
    yield case(mint, "crit", "b64false-nocrit", lone, "any", "b64 false without crit", "RFC 7797 6")


def structure(mint):
    """Compact serialisation, by the letter: three parts, base64url without padding, nothing around it."""

    def bad(id, token, why, source="RFC 7515 7.1; Wycheproof json_web_signature"):
        return case(mint, "structure", id, token, "reject", why, source)

    good = mint.token()
    header, payload, signature = good.split(b".")
    yield bad("trailing-dot", good + b".", "a dot at the end")
    yield bad("leading-dot", b"." + good, "a dot at the beginning")
    yield bad("four", good + b".AAAA", "four parts")
    yield bad("five-jwe", good + b".AAAA.BBBB", "five parts")
    yield bad("jwe-real", encrypted({"alg": "dir", "enc": "A256GCM"}, b""), "an encrypted token")
    slow = {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2147483647, "p2s": "AAAAAAAAAAA"}
    yield bad("jwe-pbes2", encrypted(slow, bytes(40)), "two billion rounds asked for", "GHSA-2c7c-3mj9-8fqh")
    yield bad("two", header + b"." + payload, "two parts")
    yield bad("one", header, "one part")
    yield bad("dots", b"..", "nothing but dots")
    yield bad("manydots", b"." * 100000, "100,000 dots", "CVE-2025-30204, CVE-2025-27144")
    yield bad("manydots8k", b"." * 8000, "8,000 dots, inside the header limit", "CVE-2025-30204, CVE-2025-27144")
    yield bad("nohdr", b"." + payload + b"." + signature, "no header")
    yield bad("nopayload", header + b".." + signature, "no payload")
    yield bad("pad1", good + b"=", "padding on the signature")
    yield bad("pad2", header + b"=." + payload + b"." + signature, "padding on the header")
    padded = header + b"." + payload + b"=="
    yield bad("pad-signed", padded + b"." + b64(mint.sign(padded)), "padding inside the signed text")
    standard = good.replace(b"-", b"+").replace(b"_", b"/")
    yield bad("stdb64", standard if standard != good else good + b"+", "the standard base64 alphabet")
    yield bad("space", header + b". " + payload + b"." + signature, "a space")
    yield bad("nl", good + b"%0a", "a percent-encoded newline")
    yield bad("tab", header + b"\t." + payload + b"." + signature, "a TAB")
    parts = {"payload": payload.decode(), "protected": header.decode(), "signature": signature.decode()}
    yield bad("json-ser", compact(parts), "flattened JSON serialisation")
    signatures = [{"protected": header.decode(), "signature": signature.decode()}]
    general = {"payload": payload.decode(), "signatures": signatures}
    yield bad("json-gen", compact(general), "general JSON serialisation")
    yield bad("sig-trunc", good[:-4], "a shortened signature")
    yield bad("sig-ext", good + b"AAAA", "a lengthened signature")
    yield from second_spellings(mint, bad, signature, good)
    yield bad("lower-bearer-nul", good + b"\x00", "a NUL after the token")
    yield bad("utf8", good + "é".encode(), "a letter beyond ASCII after the token")


def second_spellings(mint, bad, signature, good):
    """The same bytes in other text: whoever keys a cache or a denylist on the text is split."""
    if other := other_last_character(signature):
        yield bad("sig-noncanon", good.rsplit(b".", 1)[0] + b"." + other, "unused bits of the signature are not zero")
    for name in ("payload", "header"):
        for spaces in range(3):  # white space moves the length until there are unused bits
            header = b64(compact(mint.header) + b" " * (spaces if name == "header" else 0))
            payload = b64(compact(mint.claims()) + b" " * (spaces if name == "payload" else 0))
            other = other_last_character(payload if name == "payload" else header)
            if not other:
                continue
            message = header + b"." + other if name == "payload" else other + b"." + payload
            token = message + b"." + b64(mint.sign(message))
            yield bad(
                f"{name}-noncanon-signed", token, f"unused bits of the {name} are not zero", "Wycheproof 374, 375"
            )
            break


def other_last_character(text):
    """The same bytes with another last character, or None where every bit is used."""
    if len(text) % 4 not in (2, 3):
        return None
    last = BASE64URL.index(text[-1:])
    return text[:-1] + BASE64URL[last ^ 1 : (last ^ 1) + 1]


def encrypted(header, key):
    """A token in the form of a JWE."""
    parts = (compact(header), key, bytes(12), bytes(40), bytes(16))
    return b".".join(b64(part) for part in parts)


def time(mint):
    """Times are numbers, required, and checked to the second (leeway is 0s in gateway.toml)."""
    now = mint.now
    later = now + LIFETIME

    def at(id, claims, expect, why, source="RFC 7519 4.1.4, 4.1.5"):
        return case(mint, "time", id, mint.token(claims=claims), expect, why, source)

    def expired(seconds):
        return mint.claims(exp=now - seconds, iat=now - seconds - 600, nbf=now - seconds - 600)

    yield at("exp-past2", expired(2), "reject", "expired 2 s ago: the default leeway of a library is not ours")
    yield at("exp-past30", expired(30), "reject", "expired 30 s ago: the default leeway of a library is not ours")
    yield at("exp-past5m", expired(300), "reject", "expired 5 minutes ago")
    yield at("exp-past1h", expired(3600), "reject", "expired an hour ago")
    yield at("exp-past1d", expired(86400), "reject", "expired a day ago")
    yield at("exp-float", mint.claims(exp=later + 0.5), "accept", "a NumericDate may have a fraction", "RFC 7519 2")
    yield at("exp-float-past", mint.claims(exp=now - 3600.5), "reject", "expired, with a fraction")
    wrong = {
        "del": ABSENT, "null": None, "str": "never", "strnum": str(later), "neg": -1,
        "zero": 0, "bool": True, "arr": [later], "obj": {},
    }  # fmt: skip
    for name, value in wrong.items():
        yield at(f"exp-{name}", mint.claims(exp=value), "reject", f"exp is {name}", "CVE-2026-25537")
    literals = {
        "1e300": "any", "1e400": "reject", "18446744073709551615": "any", "18446744073709551616": "any",
        "9223372036854775807": "any", "18446744073709551556": "any", "-0.0": "reject", "0x7fffffff": "reject",
        f"0{later}": "reject",
    }  # fmt: skip
    for number, (literal, expect) in enumerate(literals.items()):
        text = compact(mint.claims()).replace(b'"exp":%d' % later, b'"exp":' + literal.encode())
        why = f"exp is written as {literal}: never an overflow; a token that never expires is better refused"
        yield at(f"exp-literal{number}", text, expect, why)
    yield at("nbf-future", mint.claims(nbf=now + 3600), "reject", "not valid yet (a library may leave this unchecked)")
    yield at("nbf-str", mint.claims(nbf="99999999999"), "reject", "nbf is a string", "CVE-2026-25537")
    yield at("nbf-obj", mint.claims(nbf={}), "reject", "nbf is an object")
    yield at("nbf-del", mint.claims(nbf=ABSENT), "accept", "nbf is optional")
    yield at("iat-future", mint.claims(iat=now + 86400), "reject", "issued tomorrow", "GO-2026-5732")
    yield at("iat-str", mint.claims(iat="x"), "any", "iat is a string: better refused")
    yield at("iat-neg", mint.claims(iat=-1), "any", "iat is negative")


def binding(mint):
    """Issuer, audience and kind are required, of the right type, and equal to the letter."""

    def bound(id, claims, why, source="RFC 8725 3.8, 3.9, 3.11, 3.12", expect="reject", header=None):
        return case(mint, "binding", id, mint.token(header, claims), expect, why, source)

    issuers = {
        "wrong": "https://evil.test", "del": ABSENT, "num": 1, "obj": {}, "null": None,
        "arr": [ISSUER, "https://evil.test"], "slash": ISSUER + "/", "case": ISSUER.upper(),
    }  # fmt: skip
    for name, value in issuers.items():
        yield bound(f"iss-{name}", mint.claims(iss=value), f"iss is {name}", "CVE-2026-25537")
    audiences = {
        "wrong": "other", "del": ABSENT, "num": 1, "obj": {AUDIENCE: 1}, "null": None, "empty": [],
        "emptystr": [""], "substr": AUDIENCE[:-1], "super": AUDIENCE + "2", "nest": [[AUDIENCE]],
    }  # fmt: skip
    for name, value in audiences.items():
        yield bound(f"aud-{name}", mint.claims(aud=value), f"aud is {name}", "CVE-2024-5798, CVE-2020-26160")
    yield bound("aud-mixed", mint.claims(aud=[AUDIENCE, 1]), "our audience beside a number", expect="any")
    for kind in ("refresh", "id", "reset", "REFRESH", "", None, 1, ["access"]):
        why = f"a token of another kind used as access token: {kind!r}"
        yield bound(f"tt-{kind}", mint.claims(token_type=kind), why)
    yield bound("tt-del", mint.claims(token_type=ABSENT), "the kind is missing")
    yield bound("jti-del", mint.claims(jti=ABSENT), "jti is missing: nothing could revoke the token", "RFC 7519 4.1.7")
    yield bound("jti-num", mint.claims(jti=1), "jti is a number", "RFC 7519 4.1.7")
    refresh = {**mint.header, "typ": "rt+jwt"}
    yield bound("typ-refresh", mint.claims(), "typ rt+jwt", expect="any", header=refresh)


GROUPS = [control, alg_none, key_confusion, crit, structure, time, binding]

_SAME = {"control": 6, "alg-none": 27, "crit": 10, "structure": 29, "time": 32, "binding": 31}
_KEY_CONFUSION = {"HS256": 11, "RS256": 30, "ES256": 28, "EdDSA": 25}


def minimum(algorithm):
    """How many cases there are: a run with fewer is a failure."""
    return {**_SAME, "key-confusion": _KEY_CONFUSION[algorithm]}
