#!/usr/bin/env python3
"""Sees that the schema of the configuration is one, and that it takes every shipped configuration and no other.

schema.py PROGRAM: the last line is "N passed, N failed".
"""

import copy
import datetime
import json
import pathlib
import subprocess
import sys
import tomllib

from jsonschema import Draft202012Validator

ROOT = pathlib.Path(__file__).resolve().parent.parent


def as_json(value):
    """A document of TOML as editors hand it to a validator: dates are strings."""
    if isinstance(value, dict):
        return {name: as_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_json(element) for element in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value


def damaged(document):
    """The same document with one thing wrong, in several ways."""
    for change in (
        lambda root: root.update(servers={}),
        lambda root: root.setdefault("server", {}).update(listn=[]),
        lambda root: root["routes"][0].pop("auth"),
        lambda root: root["routes"][0].update(auth="everybody"),
        lambda root: root["routes"][0].update(timeout=30),
        lambda root: root["routes"][0].update(timeout="30 s"),
        lambda root: root["routes"][0].update(max_body="1 MB"),
        lambda root: root["routes"][0].update(methods="GET"),
        lambda root: root["routes"][0].update(cors={"credentials": True}),
        lambda root: root.pop("upstreams"),
        lambda root: next(iter(root["upstreams"].values())).update(retries=11),
        lambda root: next(iter(root["upstreams"].values())).pop("targets"),
    ):
        other = copy.deepcopy(document)
        change(other)
        yield other


def main():
    program = sys.argv[1]
    printed = subprocess.run([program, "schema"], check=True, capture_output=True, text=True).stdout
    schema = json.loads(printed)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    passed = failed = 0
    for path in sorted(ROOT.glob("examples/*.toml")) + [ROOT / "gateway.toml"]:
        document = as_json(tomllib.loads(path.read_text()))
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
        for number, other in enumerate(damaged(document)):
            if validator.is_valid(other):
                errors.append(f"it is taken with damage {number}")
        for error in errors:
            print(f"{path.relative_to(ROOT)}: {error}")
        passed, failed = passed + (not errors), failed + bool(errors)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
