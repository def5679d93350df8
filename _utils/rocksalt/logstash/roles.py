"""What the settings amount to on a log server and on a witness, and what in them cannot be."""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.accounts import forced
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.errors import Refused
from rocksalt.logstash.facts import Setup
from rocksalt.logstash.receiving import HOST
from rocksalt.pki import naming
from rocksalt.settings import SECRET, merge

WITNESS_HOME = "/var/lib/rocksalt-witness"
_DAYS, _SILENT, _SSH = 400, 900, 22


def receiver(setup: Setup) -> dict[str, Any]:
    """receiver.json of this host."""
    own = setup.settings["receiver"]
    witness = own.get("witness")
    return {
        "name": setup.minion,
        "address": own.get("address", ""),
        "path": own.get("path", logstash.RECEIVED).rstrip("/"),
        "days": own.get("days", _DAYS),
        "silent": own.get("silent", _SILENT),
        "hosts": dict(setup.settings["ports"]),
        "witness": witness and {"port": _SSH, "user": logstash.WITNESS_USER, **witness},
    }


def witness(setup: Setup) -> dict[str, Any]:
    """witness.json of this host."""
    own = setup.settings["witness"]
    return {
        "name": setup.minion,
        "path": own.get("path", logstash.WITNESSED).rstrip("/"),
        "clients": own.get("clients", {}),
    }


def witness_user(setup: Setup) -> str:
    """The account of the witness, and its group."""
    return str(setup.settings["witness"].get("user", logstash.WITNESS_USER))


def witness_account(setup: Setup) -> forced.Forced:
    """The account by which log servers reach the witness, each by a forced command alone."""
    user = witness_user(setup)
    lines = ["# Written by rocksalt; state.apply hardening.logstash undoes a change here."]
    for name, client in sorted(witness(setup)["clients"].items()):
        kind, key = client["key"].split()[:2]
        command = f"{logstash.LOGS} witness --key {logstash.WITNESS_KEY} --client {name}"
        lines.append(f'restrict,command="{command}" {kind} {key} {name}')
    file = forced.key_file(setup.baseline, user, WITNESS_HOME)
    return forced.Forced(user, WITNESS_HOME, file, "\n".join([*lines, ""]))


def as_json(value: Mapping[str, Any]) -> str:
    """JSON as our files have it."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def given(setup: Setup) -> dict[str, str]:
    """Path -> content of the certificates and the key that the pillar gives; a secret that is not
    known here is left out.
    """
    paths = (
        ("ca", logstash.AUTHORITY),
        ("certificate", logstash.CERTIFICATE),
        ("private_key", logstash.KEY),
    )
    found = {path: str(setup.settings[key]) for key, path in paths}
    return {path: f"{text.strip()}\n" for path, text in found.items() if text not in ("", SECRET)}


def called(setup: Setup) -> list[str]:
    """The names in a certificate by which hosts know this log server, of the entries of ``servers``
    that name it or its address; its address where none does.
    """
    return _called(setup.settings, setup.minion)


def asked_for(setup: Setup) -> list[str]:
    """What the certificate of a log server is to be for beside the minion's id."""
    return _asked_for(setup.settings, setup.minion)


def rendered(pillar: Any, minion: str) -> list[str]:
    """The same by the value of ``hardening`` that the master renders for a minion; :class:`Refused`
    where that makes it no log server. A role that the minion's own configuration names is its
    claim, and does not count.
    """
    try:
        settings: Any = {"servers": [], "receiver": {}}
        for role in (pillar.get("roles") or {}).values():
            if any(fnmatch.fnmatchcase(minion, it) for it in role.get("minions") or ()):
                layer = (role.get("settings") or {}).get(logstash.FAMILY) or {}
                settings = merge(settings, layer)
        settings = merge(settings, pillar.get(logstash.FAMILY) or {})
        if settings["receiver"]:
            return _asked_for(settings, minion)
    except (AttributeError, KeyError, TypeError):
        raise Refused(
            f"the pillar of {minion} is not well-formed: salt {minion} hardening.validate says why"
        ) from None
    raise Refused(
        f"{minion} asks for the certificate of a log server, and its pillar, as the master renders "
        f"it, makes it none: {logstash.TOP}:receiver is missing"
    )


def _called(settings: Mapping[str, Any], minion: str) -> list[str]:
    address = settings["receiver"].get("address", "")
    own = {naming.plain(minion), naming.plain(address)}
    found = []
    for server in settings["servers"]:
        name = server.get("name", server["host"])
        if {naming.plain(server["host"]), naming.plain(name)} & own:
            found.append(name)
    return list(dict.fromkeys(found)) or [address]


def _asked_for(settings: Mapping[str, Any], minion: str) -> list[str]:
    names = [*_called(settings, minion), settings["receiver"].get("address", "")]
    return [name for name in dict.fromkeys(names) if name]


# What cannot be -----------------------------------------------------------------------------------


def problems(setup: Setup) -> list[str]:
    """What is wrong with the settings of a log server or a witness, a sentence each."""
    found = [*_receiver(setup)] if setup.receives else []
    return [*found, *_witness(setup)] if setup.witnesses else found


def _receiver(setup: Setup) -> Iterator[str]:
    where, own = setup.family.where, receiver(setup)
    yield from _folder(where("receiver", "path"), own["path"])
    if not own["address"]:
        yield f"{where('receiver', 'address')}: is missing; name the address to listen on"
    elif ipaddress.ip_address(own["address"]).is_unspecified:
        yield (
            f"{where('receiver', 'address')}: {own['address']} is every address of this host; name "
            "the internal one"
        )
    for host in own["hosts"]:
        if not HOST.fullmatch(host):
            yield f"{where('ports', host)}: {host!r} cannot be the name of a folder"
    if own["witness"]:
        yield from _keys(own["witness"], ("host_key", "key"), where("receiver", "witness"))


def _witness(setup: Setup) -> Iterator[str]:
    own, where = witness(setup), setup.family.where
    yield from _folder(where("witness", "path"), own["path"])
    owner: dict[str, str] = {}
    for name, client in sorted(own["clients"].items()):
        path = where("witness", "clients", name)
        if not HOST.fullmatch(name):
            yield f"{path}: {name!r} cannot be the name of a folder"
        if owner.setdefault(" ".join(client["key"].split()[:2]), name) != name:
            yield f"{path}:key: is the key of another log server; give each its own"
        yield from _keys(client, ("key", "signer"), path)
    yield from forced.problems(setup.baseline, witness_user(setup), "the witness of log servers")


def _folder(where: str, path: str) -> Iterator[str]:
    if path != os.path.normpath(path) or path.count("/") < 2:
        yield f"{where}: {path or '/'!r} is no folder of its own, such as {logstash.RECEIVED}"


def _keys(described: Mapping[str, str], names: tuple[str, ...], where: str) -> Iterator[str]:
    for name in names:
        try:
            sshsig.bare(described[name])
        except BackupError as error:
            yield f"{where}:{name}: {error}"
