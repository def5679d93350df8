"""The section ``rocksalt_api`` of the master's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .filter import CLIENTS

SECTION = "rocksalt_api"
_LEAST = {"port": 1, "thread_pool": 2, "max_body": 64, "login_failures": 1, "login_window": 1}
_NEEDED = ("host", "ssl_crt", "ssl_key")


@dataclass(frozen=True)
class Options:
    """What the door is told. Paths are absolute, times are seconds, sizes bytes."""

    host: str
    ssl_crt: str
    ssl_key: str
    port: int = 8000
    client_ca: str = ""
    thread_pool: int = 20
    max_body: int = 65536
    login_failures: int = 5
    login_window: int = 900
    eauth: str = "rocksalt_file"
    users_file: str = "/etc/salt/rocksalt-users"
    log: str = "/var/log/salt/rocksalt-api.jsonl"


def read(opts: Mapping[str, Any]) -> Options:
    """The section, judged; :class:`ValueError` names the key that is wrong and why."""
    section = opts.get(SECTION)
    if not isinstance(section, dict):
        raise ValueError(f"{SECTION}: has to be a mapping with {', '.join(_NEEDED)}")
    types = {it.name: str if it.type == "str" else int for it in fields(Options)}
    for key, value in section.items():
        if key not in types:
            raise ValueError(f"{SECTION}:{key}: no such option; there are {', '.join(types)}")
        if type(value) is not types[key]:
            raise ValueError(f"{SECTION}:{key}: {value!r} is no {types[key].__name__}")
        if isinstance(value, int) and value < _LEAST.get(key, value):
            raise ValueError(f"{SECTION}:{key}: {value} is less than {_LEAST[key]}")
    for key in _NEEDED:
        if not section.get(key):
            raise ValueError(f"{SECTION}:{key}: is missing")
    return Options(**section)


def clients(opts: Mapping[str, Any]) -> frozenset[str]:
    """The clients that are both enabled for Salt's API and fit to pass the door."""
    return frozenset(opts.get("netapi_enable_clients") or ()) & CLIENTS


def seal_file(opts: Mapping[str, Any]) -> str:
    """Where the secret is that the door and the master's auth module share, see ``sealing``."""
    return os.path.join(str(opts["cachedir"]), "rocksalt-api.seal")
