"""The settings of the shipper, as the family writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rocksalt.errors import Refused
from rocksalt.logstash.shipping import mask

BLOCK, DROP = "block", "drop"


@dataclass(frozen=True)
class Server:
    """One of the log servers; ``name`` is the one in its certificate."""

    host: str
    port: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.host}:{self.port})"


@dataclass(frozen=True)
class Config:
    """All of it; ``digest`` is the SHA-256 of the file. ``files`` is glob -> dataset, ``probe``
    seconds, ``limit`` lines.
    """

    host: str
    servers: tuple[Server, ...]
    ca: str
    certificate: str
    key: str
    files: dict[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    report: str = ""
    ignore: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    limit: int = 2_000_000
    at_limit: str = BLOCK
    probe: int = 300
    digest: str = ""


_TYPES: dict[str, type] = {
    **{"host": str, "servers": list, "ca": str, "certificate": str, "key": str, "files": dict},
    **{"datasets": list, "report": str, "ignore": list, "mask": list, "labels": dict},
    **{"limit": int, "at_limit": str, "probe": int},
}
_WORDS = {str: "a text", list: "a list", dict: "a mapping", int: "a number"}


def load(path: str) -> Config:
    """The settings in a file; :class:`Refused` has a sentence for each thing that is wrong."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        value = json.loads(data)
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    found = list(_problems(value)) if isinstance(value, dict) else ["is no JSON object"]
    if found:
        raise Refused("; ".join(f"{path}: {sentence}" for sentence in found))
    plain: dict[str, Any] = {
        name: tuple(it) if isinstance(it, list) else it for name, it in value.items()
    }
    plain["servers"] = tuple(Server(it["host"], it["port"], it["name"]) for it in value["servers"])
    plain["labels"] = {name: text for name, text in value.get("labels", {}).items() if text}
    return Config(**plain, digest=hashlib.sha256(data).hexdigest())


def _problems(value: dict[str, Any]) -> Iterator[str]:
    for name in ("host", "servers", "ca", "certificate", "key"):
        if not value.get(name):
            yield f"{name} is missing"
    for name, found in value.items():
        wanted: Any = _TYPES.get(name)
        if wanted is None:
            yield f"{name} is no setting of the shipper"
        elif not isinstance(found, wanted) or isinstance(found, bool):
            yield f"{name} is {found!r}, not {_WORDS[wanted]}"
        elif name == "servers":
            yield from _server_problems(found)
        elif wanted in (list, dict) and not all(isinstance(it, str) for it in _texts(found)):
            yield f"{name} has something that is no text"
        elif name == "mask":
            yield from (f"mask: {sentence}" for sentence in mask.problems(found))
        elif wanted is int and found < 1:
            yield f"{name} is {found}, less than 1"
    if value.get("at_limit", BLOCK) not in (BLOCK, DROP):
        yield f"at_limit is {value['at_limit']!r}, not {BLOCK} or {DROP}"


def _texts(value: Any) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _server_problems(servers: list[Any]) -> Iterator[str]:
    shape = {"host": str, "port": int, "name": str}
    for number, server in enumerate(servers):
        whole = isinstance(server, dict) and server.keys() == shape.keys()
        if not whole or not all(isinstance(server[it], shape[it]) for it in shape):
            yield f"servers[{number}] is {server!r}, not a host, a port and a name"
        elif not 0 < server["port"] < 65536:
            yield f"servers[{number}] has the port {server['port']}"
