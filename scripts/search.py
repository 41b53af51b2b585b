"""Secrets that are told apart from everything else, and the search for them in whatever spelling."""

import base64
import json
import os
import random
import string
import urllib.parse

LETTERS = string.ascii_letters + string.digits
# What a search by the last letters goes by.
TAIL = 8


def spellings(secret):
    """Every form in which a secret may turn up, as bytes, by the name of the form."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    forms = {"plain": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
        for shift in range(3):
            # Only the letters that do not depend on what stands before and behind.
            encoded = encode(b"\0" * shift + raw)
            first = (shift * 8 + 5) // 6
            last = (shift + len(raw)) * 8 // 6
            forms[f"{name} from {shift}"] = encoded[first:last]
    if isinstance(secret, str):
        forms["URL"] = urllib.parse.quote(secret, safe="").encode()
        forms["url"] = forms["URL"].decode().replace("%", "%25").encode()
        forms["form"] = urllib.parse.quote_plus(secret).encode()
        forms["lower URL"] = lower_escapes(forms["URL"].decode()).encode()
        forms["JSON"] = json.dumps(secret)[1:-1].encode()
        forms["JSON in UTF-8"] = json.dumps(secret, ensure_ascii=False)[1:-1].encode()
        forms["twice JSON"] = json.dumps(json.dumps(secret)[1:-1])[1:-1].encode()
        forms["its end"] = secret[-TAIL:].encode()
        forms["its beginning"] = secret[: TAIL + 4].encode()
    return {name: form for name, form in forms.items() if len(form) >= TAIL}


def lower_escapes(text):
    parts = text.split("%")
    return parts[0] + "".join("%" + part[:2].lower() + part[2:] for part in parts[1:])


class Secrets:
    """Secrets by name."""

    def __init__(self):
        self.forms = {}
        self.hits = 0
        self.searched = 0

    def new(self, name, form="{}", length=24):
        """A secret that is found nowhere else. Its random letters stand at both ends of `form`'s place."""
        secret = form.replace("{}", "".join(random.SystemRandom().choice(LETTERS) for _ in range(length)))
        self.keep(name, secret)
        return secret

    def keep(self, name, secret):
        self.forms.setdefault(name, []).extend(spellings(secret).items())
        return secret

    def keep_token(self, name, token):
        """A token: the whole, and its signature, which makes it one. Its claims are no secret."""
        self.keep(name, token)
        forms = self.forms[name]
        # All tokens of one key begin alike.
        forms[:] = [(form, found) for form, found in forms if form != "its beginning" and not form.startswith("base64")]
        if len(token.split(".")[-1]) >= 16:
            self.forms[name].extend((f"signature, {form}", found) for form, found in spellings(token.split(".")[-1]).items())
        return token

    def find(self, data, without=()):
        """Names and forms of the secrets in the bytes, but for those named."""
        self.searched += len(data)
        return [f"{name} ({form})" for name, forms in self.forms.items() if not name.startswith(tuple(without) or "\0")
                for form, found in forms if found in data]

    def absent(self, check, what, data, without=()):
        data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        found = self.find(data, without)
        where = ""
        if found:
            place = next(data.find(form) for forms in self.forms.values() for _, form in forms if form in data)
            where = data[max(0, place - 100) : place + 60]
        check(f"no secret in {what}", not found, f"{found[:4]} {where!r}")


def files(place):
    """Every regular file below a directory."""
    for directory, _, names in os.walk(place):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                yield path


def control(check):
    """Finds a secret that was planted in each form, whatever stands around it; what is not there is not found."""
    secrets = Secrets()
    planted = secrets.new("planted", 'ä"{} +/%&ö{}')
    absent = Secrets()
    absent.new("absent")
    noise = os.urandom(4096)
    found = {}
    text = planted.encode()
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found[f"{encode.__name__} behind {before} bytes"] = encode(b"x" * before + text + b"yz")
    found |= {
        "plain": text,
        "hex": text.hex().encode(),
        "HEX": text.hex().upper().encode(),
        "URL": urllib.parse.quote(planted, safe="").encode(),
        "form": urllib.parse.urlencode({"p": planted}).encode(),
        "JSON": json.dumps({"p": planted}).encode(),
        "JSON in JSON": json.dumps(json.dumps({"p": planted})).encode(),
        "its end": text[-TAIL:],
    }
    for name, data in found.items():
        hits = secrets.find(noise + data + noise)
        check(f"a planted secret is found as {name}", hits)
        check(f"nothing else is found beside it: {name}", not absent.find(noise + data + noise))
