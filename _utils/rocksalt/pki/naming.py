"""Names and addresses in certificates: which may be there, and which are the same to TLS."""

from __future__ import annotations

import ipaddress
import re

from rocksalt.errors import Refused

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LONGEST = 253
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def plain(name: str) -> str:
    """The one spelling of all that TLS takes for the same name or address."""
    found = _address(name)
    return str(found) if found else name.casefold().removesuffix(".")


def refuse_odd(name: str, what: str) -> None:
    """:class:`Refused` for what is neither a name in DNS nor the address of a host."""
    found = _address(name)
    if found is None:
        if len(name) > _LONGEST or not all(map(_LABEL.fullmatch, name.split("."))):
            raise Refused(
                f"{what} is for {name[:_LONGEST]!r}; a name has letters, digits, _ and - between "
                "its dots"
            )
    elif any((found.is_unspecified, found.is_multicast, found.is_loopback, found.is_link_local,
              found.is_reserved)):  # fmt: skip
        raise Refused(f"{what} is for {found}, which is no address of a host")


def _address(name: str) -> _Address | None:
    """An address; one of IPv4 that is written as one of IPv6 is that of IPv4."""
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
