"""Certificates of log shipping: asked for by a host, and brought to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocksalt.host import Host
from rocksalt.logstash.facts import Facts


def status(it: Facts) -> dict[str, Any]:
    """What the authority asks before it signs."""
    return {}


def request(it: Facts) -> dict[str, str]:
    """Requests in PEM: ``host``, and ``server`` of a log server, empty elsewhere."""
    return {}


def install(host: Host, it: Facts, certificates: Mapping[str, str], authority: str) -> str:
    """Put signed certificates, by the names of :func:`request`, to where they are used."""
    return ""
