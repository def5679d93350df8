"""Whether lines leave this host without their secrets, tried with lines that have some."""

from __future__ import annotations

from rocksalt import logstash
from rocksalt.findings import Seen
from rocksalt.logstash.facts import Facts, read_json
from rocksalt.logstash.shipping.mask import Masker

_NAMED = "what-nobody-else-may-know-3f1c"
CANARIES = {
    "a password in a setting": (f"login failed, password={_NAMED}", _NAMED),
    "a password on a command line": (f"COMMAND=/usr/bin/x --password {_NAMED}", _NAMED),
    "a bearer token": (f"Authorization: Bearer {_NAMED}", _NAMED),
    "a password in an address": (f"connect to postgres://app:{_NAMED}@db1/app", _NAMED),
    "a JSON web token": (
        "session eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJlLW9m begins",
        "eyJzdWIiOiIxMjM0NTYifQ",
    ),
    "a private key": (
        f"-----BEGIN PRIVATE KEY-----\n{_NAMED}\n-----END PRIVATE KEY-----",
        _NAMED,
    ),
    "an access key of a cloud": ("key AKIAABCDEFGHIJKLMNOP is used", "AKIAABCDEFGHIJKLMNOP"),
}
"""What a line looks like that has a secret, and the secret."""


def seen(it: Facts) -> Seen:
    """Of the expressions in the configuration that the shipper has on the disk."""
    found = read_json(it.host, logstash.SHIPPER_CONFIG)
    if found is None:
        return Seen(problem="error", reason=f"{logstash.SHIPPER_CONFIG} cannot be read")
    masker = Masker(found.get("mask") or [])
    leaves = [
        what for what, (line, secret) in CANARIES.items() if secret in masker.mask(line)
    ]  # fmt: skip
    same = found.get("mask") == [*it.setup.settings["mask"]]
    where = it.setup.family.where("mask") if same else logstash.SHIPPER_CONFIG
    why = f"{where} lets out {', '.join(leaves)}" if leaves else ""
    return Seen(leaves, why, remedy="manual" if same and leaves else "")
