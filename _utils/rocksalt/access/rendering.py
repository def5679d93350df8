"""What the family puts on the host of a master: its part of the configuration, passwords, and the
door.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import yaml

from rocksalt import access
from rocksalt.access import compiled, door
from rocksalt.access.door import conf

HEADER = "# Written by rocksalt (the family access); edit the pillar, not this file.\n"
_HOUR = 3600

REFUSING: Mapping[str, Any] = {
    "open_mode": False,
    "auto_accept": False,
    "peer": {},
    "peer_run": {},
    "file_recv": False,
    "permissive_pki_access": False,
}
"""Options by which a master trusts nobody unasked."""
NO_WAY_ROUND: Mapping[str, Any] = {"netapi_allow_raw_shell": False, "enable_ssh_minions": False}
"""Options without which a client of salt-api does what no role may."""
SIGNED: Mapping[str, Any] = {
    "require_minion_sign_messages": True,
    "drop_messages_signature_fail": True,
}
"""Options by which a master drops answers without a signature, and with one that is wrong."""


def config(settings: Mapping[str, Any], now: dt.datetime) -> str:
    """The file in the master's ``master.d``, the same bytes for the same rights."""
    return HEADER + yaml.safe_dump(options(settings, now), default_flow_style=False, width=1000)


def options(settings: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """The master's options that the family sets. ``user`` is none of them, for a master that
    becomes another user needs its files to be that user's first.
    """
    found: dict[str, Any] = {
        **compiled.GROUNDS,
        **compiled.compile(settings, now),
        compiled.DATA: compiled.described(settings),
        "netapi_enable_clients": compiled.clients(settings, now),
        **NO_WAY_ROUND,
        **REFUSING,
        "token_expire": hours(settings) * _HOUR,
        "token_expire_user_override": False,
        **algorithms(settings),
        **(SIGNED if settings["require_signed"] else {}),
        "netapi_dirs": [door.NETAPI_DIR],
        "auth_dirs": [door.AUTH_DIR],
    }
    return {**found, conf.SECTION: api(settings)} if settings["address"] else found


def hours(settings: Mapping[str, Any]) -> int:
    """After how many a log-in ends. Nobody tells a master that a directory has locked or removed
    somebody, or knows another password by now, so that they are asked for it again each hour.
    """
    longest: int = settings["token_hours"]
    return min(longest, 1) if settings["backend"] == "ldap" else longest


def algorithms(settings: Mapping[str, Any]) -> dict[str, str]:
    """The master's options that say how it signs jobs, how masters of a cluster encrypt for each
    other, and how it verifies what minions sign: without that one it loses those answers. How it
    answers one minion, that minion says.
    """
    return {
        "signing_algorithm": settings["signing_algorithm"],
        "publish_signing_algorithm": settings["signing_algorithm"],
        "cluster_encryption_algorithm": settings["encryption_algorithm"],
    }


def api(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The door's own options."""
    return {
        "host": settings["address"],
        "port": settings["port"],
        "ssl_crt": settings["tls_certificate"],
        "ssl_key": settings["tls_key"],
        "client_ca": settings["client_ca"],
        "thread_pool": settings["threads"],
        "max_body": settings["max_body"],
        "login_failures": settings["login_failures"],
        "login_window": settings["login_window"],
        "eauth": compiled.BACKENDS[settings["backend"]],
        "users_file": access.USERS,
    }


def users(settings: Mapping[str, Any]) -> str | None:
    """The lines of names and hashes; None where passwords are checked elsewhere."""
    if settings["backend"] != "file":
        return None
    hashes = settings["hashes"]
    named = sorted({*settings["users"]} & {*hashes})
    return HEADER + "".join(f"{name}:{hashes[name]}\n" for name in named)


def door_files() -> dict[str, str]:
    """Path -> text of the door."""
    return dict(door.files())
