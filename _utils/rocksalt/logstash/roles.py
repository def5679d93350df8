"""What the settings amount to on a log server and on a witness, and what in them cannot be."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.accounts import forced
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.logstash.facts import Setup
from rocksalt.logstash.receiving import HOST
from rocksalt.nrpe import tls
from rocksalt.settings import SECRET

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
    that mean it; its address where none does.
    """
    own = {setup.minion, setup.settings["receiver"].get("address", "")}
    found = []
    for server in setup.settings["servers"]:
        name = server.get("name", server["host"])
        if {server["host"], name} & own or is_here(server["host"]):
            found.append(name)
    return list(dict.fromkeys(found)) or [setup.settings["receiver"].get("address", "")]


def asked_for(setup: Setup) -> list[str]:
    """What the certificate of a log server is to be for beside the minion's id."""
    names = [*called(setup), setup.settings["receiver"].get("address", "")]
    return [name for name in dict.fromkeys(names) if name and "*" not in name]


def is_here(name: str) -> bool:
    """Whether a name or an address leads to this host."""
    with contextlib.suppress(OSError, ValueError):
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
        return any(map(tls.is_own, found))
    return False


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
