"""The schema language of ``defaults.yaml``: one mapping per setting, checked with sentences a
person can act on.

A setting is ``{type, default, help}`` and, where it applies, ``min``, ``max``, ``choices``,
``pattern``, ``format``, ``items`` (a list's elements), ``values`` (a mapping's values), ``fields``
(a mapping's keys by name, each a description of its own that may be ``required``; other keys are as
``values`` says, or errors), ``secret`` and ``formerly`` (names it had before).
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rocksalt.sshd import keys

Spec = Mapping[str, Any]

TYPES: dict[str, tuple[type, str]] = {
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "string": (str, "a string (in quotes if YAML would read it as something else)"),
    "list": (list, "a list"),
    "mapping": (dict, "a mapping"),
}
SPEC_KEYS = {
    *("type", "default", "help", "min", "max", "choices", "pattern", "format", "items", "values"),
    *("fields", "secret", "formerly"),
}
INNER_KEYS = SPEC_KEYS - {"default", "help", "secret", "formerly"}


def _is_group(value: str) -> bool:
    return re.fullmatch(r"[a-z_][a-z0-9_-]*\$?", value) is not None


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def attempt(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return attempt


def _is_user(value: str) -> bool:
    return re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", value) is not None


def _is_public_key(value: str) -> bool:
    return "\n" not in value.strip() and len(keys.parse(value)) == 1


_SALTED = r"[./A-Za-z0-9]+"
_HASH = re.compile(
    rf"\$(?:g?y|7)\${_SALTED}(?:\${_SALTED})?\$[./A-Za-z0-9]{{43}}"
    rf"|\$6\$(?:rounds=\d+\$)?{_SALTED}\$[./A-Za-z0-9]{{86}}"
    rf"|\$5\$(?:rounds=\d+\$)?{_SALTED}\$[./A-Za-z0-9]{{43}}"
    r"|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}"
)
_PRIVATE = re.compile("PRIVATE KEY|AGE-SECRET-KEY-", re.IGNORECASE)
"""What stands in private keys, which nobody meant to write there."""


FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "address": (_parses(ipaddress.ip_address), "an IPv4 or IPv6 address"),
    "network": (_parses(ipaddress.ip_network), "a network such as 10.0.0.0/8"),
    "group": (_is_group, "a group name such as sudo"),
    "user": (_is_user, "an account name such as ann"),
    "public_key": (
        _is_public_key,
        "a public key in one line of authorized_keys, such as ssh-ed25519 AAAA... ann",
    ),
    "password_hash": (
        lambda value: _HASH.fullmatch(value) is not None,
        "a password hash of a known kind, such as mkpasswd --method=yescrypt prints",
    ),
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean X?"`` for a name close to a known one, else the known names."""
    known = sorted(known)
    if not known:
        return "; there is none"
    meant = _as_control(name)
    close = [meant] if meant in known else difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _as_control(name: str) -> str:
    """The id of a control that was misread: ``sshd-1O1`` is SSHD-101, ``FW-1`` FW-001."""
    family, _, number = name.upper().rpartition("-")
    return f"{family}-{number.replace('O', '0').replace('I', '1').replace('L', '1').zfill(3)}"


def shown(value: Any, spec: Spec) -> str:
    """The value as an error may print it: never a secret, and no more of a long one than shows
    which it is.
    """
    if spec.get("secret") or _PRIVATE.search(str(value)):
        return "***"
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:150]}... ({len(text)} characters)"


def problems(value: Any, spec: Spec, path: str) -> list[str]:
    """What is wrong with ``value`` at the pillar ``path`` (``hardening:sshd:ports``); empty when it
    fits.
    """
    kind, words = TYPES[spec["type"]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return [f"{path}: {_other_type(value, spec, kind, words)}"]
    found = [f"{path}: {shown(value, spec)} {fault}" for fault in _faults(value, spec)]
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += problems(item, _inherit(spec.get("items"), spec), f"{path}:{index}")
        repeated = [item for index, item in enumerate(value) if item in value[:index]]
        found += [f"{path}: {shown(item, spec)} is listed twice" for item in repeated]
    if isinstance(value, dict):
        found += _entry_problems(value, spec, path)
    return found


def _other_type(value: Any, spec: Spec, kind: type | tuple[type, ...], words: str) -> str:
    """What to write in the place of a value of another type."""
    if value is None:
        return f"is empty: write {words}, or leave it out"
    text = shown(value, spec)
    brackets = f"; write [{text}]" if kind is list and isinstance(value, str) else ""
    return f"{text} is not {words}{brackets}"


def _entry_problems(value: Mapping[Any, Any], spec: Spec, path: str) -> list[str]:
    """What is wrong with the keys and values of a mapping."""
    fields = spec.get("fields", {})
    found = [
        f"{path}:{key}: is missing"
        for key, child in fields.items()
        if child.get("required") and key not in value
    ]
    for key, item in value.items():
        if not isinstance(key, str) and (fields or "values" in spec):
            found.append(f"{path}:{key}: the key {key} is not a string; put it in quotes")
            continue
        child = fields.get(key, spec.get("values"))
        if child:
            found += problems(item, _inherit(child, spec), f"{path}:{key}")
        elif fields:
            found.append(f"{path}:{key}: no such key{nearest(key, fields)}")
    return found


def _inherit(child: Spec | None, parent: Spec) -> Spec:
    """The description of an element; what is in a secret is secret."""
    return {"type": "string", **(child or {}), "secret": parent.get("secret", False)}


def _faults(value: Any, spec: Spec) -> list[str]:
    """Why a value of the right type still does not fit."""
    size = len(value) if isinstance(value, (str, list, dict)) else value
    unit = (
        ""
        if isinstance(value, int)
        else " entries" if not isinstance(value, str) else " characters"
    )
    found = []
    if "min" in spec and size < spec["min"]:
        found.append(f"is less than {spec['min']}{unit}")
    if "max" in spec and size > spec["max"]:
        found.append(f"is more than {spec['max']}{unit}")
    if "choices" in spec and value not in spec["choices"]:
        found.append(f"is not known{nearest(str(value), map(str, spec['choices']))}")
    if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
        found.append(f"does not match {spec['pattern']}")
    if "format" in spec:
        fits, words = FORMATS[spec["format"]]
        if not fits(value):
            meant = _without_host_bits(value) if spec["format"] == "network" else ""
            found.append(f"is not {words}{meant}")
    return found


def _without_host_bits(value: str) -> str:
    """The network that an address with a mask lies in, as a proposal."""
    try:
        return f"; did you mean '{ipaddress.ip_interface(value).network}'?"
    except ValueError:
        return ""


def spec_problems(name: str, spec: Any, path: str) -> list[str]:
    """What is wrong with a setting's own description in ``defaults.yaml``."""
    where = f"{path}: {name}"
    if not isinstance(spec, dict) or spec.get("type") not in TYPES:
        return [f"{where}: needs a type, one of {', '.join(TYPES)}"]
    unknown = sorted(set(spec) - SPEC_KEYS)
    if unknown:
        return [f"{where}: unknown key {unknown[0]!r}{nearest(unknown[0], SPEC_KEYS)}"]
    if "default" not in spec or not spec.get("help"):
        return [f"{where}: needs a default and a help text"]
    found = _nested_problems(spec, where)
    return found or problems(spec["default"], spec, where)


def _nested_problems(spec: Spec, where: str) -> list[str]:
    """What is wrong with the descriptions of a list's elements, or of a mapping's values and
    fields.
    """
    fields = spec.get("fields", {})
    if not isinstance(fields, dict):
        return [f"{where}: fields needs a mapping of keys, each with a type"]
    inner = [(key, spec[key], INNER_KEYS) for key in ("items", "values") if key in spec]
    inner += [(f"fields: {name}", it, INNER_KEYS | {"required"}) for name, it in fields.items()]
    found = []
    for key, description, allowed in inner:
        if not isinstance(description, dict) or description.get("type") not in TYPES:
            found.append(f"{where}: {key} needs a type, one of {', '.join(TYPES)}")
            continue
        unknown = sorted(set(description) - allowed)
        found += [f"{where}: {key}: unknown key {k!r}{nearest(k, allowed)}" for k in unknown]
        found += _nested_problems(description, f"{where}: {key}")
    return found
