"""logbook.json: what the service is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocksalt import logbook, schema
from rocksalt.errors import Refused
from rocksalt.logstash.receiving import HOST

_TEXT = {"type": "string", "min": 1}
FIELDS: dict[str, dict[str, Any]] = {
    "config": {**_TEXT, "default": "/etc/salt/master"},
    "folder": {**_TEXT, "default": logbook.FOLDER},
    "api_log": {**_TEXT, "default": logbook.API_LOG},
    "name": {**_TEXT, "pattern": HOST.pattern, "required": True},
    "client": {"type": "string", "pattern": HOST.pattern},
    "mask": {"type": "list", "items": {"type": "string"}, "required": True},
    "days": {"type": "integer", "min": 1, "default": 400},
    "watch": {"type": "mapping", "values": {"type": "list", "items": {"type": "string"}}},
    "watch_seconds": {"type": "integer", "min": 1, "default": 60},
    "witness": {
        "type": "mapping",
        "fields": {
            "host": _TEXT, "port": {"type": "integer"}, "user": _TEXT, "host_key": _TEXT,
            "key": _TEXT,
        },
    },
}  # fmt: skip
"""``config`` is the file of the master; ``name`` the host's, under which its lines are;
``client`` what the witness calls this book (``<name>-logbook``); ``mask`` the expressions of
``hardening:logstash:mask``; ``watch`` more trees (name -> paths); ``witness`` that of
receiver.json, left out where there is none.
"""


def load(path: str | Path) -> dict[str, Any]:
    """The settings in a file, with all defaults; :class:`Refused` says what is wrong."""
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is no JSON: {error}") from None
    if isinstance(found, dict):
        found = {key: value for key, value in found.items() if value is not None}
    rule = {"type": "mapping", "fields": FIELDS}
    if wrong := schema.problems(found, rule, str(path)):
        raise Refused("; ".join(wrong))
    return complete(found)


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """With defaults for what is not given."""
    defaults = {key: rule["default"] for key, rule in FIELDS.items() if "default" in rule}
    whole = {**defaults, **given}
    return {"client": f"{whole['name']}-logbook", "witness": None, **whole}


def chains(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as the library for chains of received logs has it in receiver.json."""
    return {
        "path": settings["folder"], "name": settings["client"], "days": settings["days"],
        "witness": settings["witness"],
    }  # fmt: skip
