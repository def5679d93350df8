"""The certificates and keys of log shipping: whose they are, how long, and who can read them."""

from __future__ import annotations

from collections.abc import Collection

from rocksalt.host import Host
from rocksalt.logstash.facts import Checks, Facts
from rocksalt.transaction import Transaction

CHECKS: Checks = {}


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> None:
    """Write what the drifting controls ids ask for."""


def take_effect(host: Host, it: Facts) -> None:
    """Start what was put."""


def leftovers(host: Host) -> list[str]:
    """What is still there although nobody wants it."""
    return []


def clean(host: Host) -> None:
    """Take away what is ours."""
