"""Where the minion's masters are: what their names give now, and what they ever gave. An address
that was found once stays, so that no failure of DNS takes a master's protection away, and so that a
report without a master knows them as well.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping

from rocksalt.host import Host
from rocksalt.ossec import MASTERS, state


def known(host: Host, names: Iterable[str]) -> dict[str, list[str]]:
    """Name -> its addresses, none where none was ever found. The names of other masters are those
    of other processes: each of several masters has one of its own.
    """
    found = {name: {*addresses(name)} for name in names}
    for name, kept in state.read(str(host.path(MASTERS))).items():
        found.setdefault(name, set()).update(it for it in kept if _is_one(it))
    return {name: sorted(found[name]) for name in sorted(found)}


def text(found: Mapping[str, Iterable[str]]) -> str:
    """What is kept, for the next time."""
    return json.dumps({name: [*those] for name, those in found.items()}, indent=1) + "\n"


def addresses(name: str) -> list[str]:
    """The addresses that a name has, none where it is not known now. It may have a port."""
    bare = name.strip("[]")
    if _is_one(bare):
        return [bare]
    try:
        found = socket.getaddrinfo(bare.partition(":")[0], None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(address[4][0]) for address in found if "%" not in str(address[4][0])})


def _is_one(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
