"""What an administrator decided: the settings of the family backup, as the runner and the programs
on vault and drill hosts read them.

``state.apply hardening.backup`` writes them, validated, to :data:`PATH`; secrets go to
:data:`CREDENTIALS`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError

FOLDER = "/etc/rocksalt/backup"
PATH = f"{FOLDER}/config.json"
CREDENTIALS = f"{FOLDER}/credentials.json"
SIGNING_KEY = f"{FOLDER}/signing"
"""Ed25519 in OpenSSH's form, without a passphrase: signs manifests (and receipts, and reports)."""
TRANSPORT_KEY = f"{FOLDER}/transport"
"""The key that logs in at ssh vaults."""

TOP = "hardening:backup"
_NEEDED = {
    "file": ("path",),
    "ssh": ("host", "user", "host_key", "receiver"),
    "s3": ("bucket",),
}
_OPTIONAL = {
    "file": ("allow_unencrypted",),
    "ssh": ("port", "archives", "timeout"),
    "s3": ("endpoint", "region", "prefix", "ca", "timeout"),
}
_COMMON = ("type", "location", "admin_domain")
_CUSTOMER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PRIVATE = re.compile(r"AGE-SECRET-KEY-|PRIVATE KEY|PuTTY-User-Key-File", re.IGNORECASE)

Settings = Mapping[str, Any]


def load(path: str = PATH) -> Settings:
    """The settings in a configuration file; :class:`BackupError` says what is wrong with them.

    A file that others than root and this user can write is refused, and so is one that holds a
    private key: whoever breaks into the master must not be able to read what it wrote.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found, text = os.fstat(file.fileno()), file.read()
        settings = json.loads(text)
    except FileNotFoundError:
        raise BackupError(
            f"{path} does not exist: state.apply hardening.backup writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from None
    if found.st_uid not in (0, os.geteuid()):
        raise BackupError(f"{path} belongs to another user: chown root {path}")
    if found.st_mode & 0o022:
        raise BackupError(f"{path} can be written by others than its owner: chmod go-w {path}")
    try:
        wrong = problems(settings)
    except (AttributeError, KeyError, TypeError) as error:
        wrong = [f"{type(error).__name__} {error}: not what state.apply hardening.backup writes"]
    if wrong:
        raise BackupError("\n".join(f"{path}: {problem}" for problem in wrong))
    return dict(settings)


def problems(settings: Settings) -> list[str]:
    """What is wrong with settings although each is well-formed, a sentence each."""
    if _PRIVATE.search(json.dumps(settings, default=str)):
        return [
            f"{TOP}: holds a private key, which must be on no master, no minion and in no pillar;"
            " recipients are public keys, which begin with age1"
        ]
    found = _vault_problems(settings["vaults"])
    if settings["master"]:
        found += _recipient_problems(settings) + _master_problems(settings)
    for name in settings["drill"].get("vaults", ()):
        if name not in settings["vaults"]:
            found.append(f"{TOP}:drill:vaults: {name!r} is not below {TOP}:vaults")
    return found


def _recipient_problems(settings: Settings) -> list[str]:
    """Who can read the snapshots: enough people, real keys, and nobody who can read another's."""
    recipients, where = settings["recipients"], f"{TOP}:recipients"
    found = []
    if len(recipients) < 2:
        found.append(f"{where}: has {len(recipients)}, needs at least 2, one of them escrow")
    if settings["escrow"] not in recipients:
        found.append(f"{TOP}:escrow: {settings['escrow']!r} is none of {where}")
    found += [f"{where}: {key!r} {fault}" for key, fault in _bad_keys(recipients)]
    owner = dict.fromkeys(recipients, where)
    paths: dict[str, str] = {}
    for name, customer in settings["customers"].items():
        place = f"{TOP}:customers:{name}"
        if not _CUSTOMER.fullmatch(name):
            found.append(f"{place}: the name needs lower-case letters, digits and hyphens")
        found += [
            f"{place}:recipients: {k!r} {fault}" for k, fault in _bad_keys(customer["recipients"])
        ]
        for key in customer["recipients"]:
            if owner.setdefault(key, place) != place:
                found.append(f"{place}:recipients: {key} is also in {owner[key]}")
        for path in map(os.path.normpath, customer["paths"]):
            other = next((p for p in paths if within(path, p) or within(p, path)), None)
            if other:
                found.append(f"{place}:paths: {path} overlaps {other} of {paths[other]}")
            paths[path] = place
    return found


def _bad_keys(recipients: list[str]) -> list[tuple[str, str]]:
    found = []
    for key in recipients:
        try:
            age.recipient(key)
        except ValueError as error:
            found.append((key, str(error)))
    return found


def _master_problems(settings: Settings) -> list[str]:
    found = []
    for key, words in (
        ("location", "where this master stands"),
        ("admin_domain", "who administers this master"),
        ("authority", "the public key that signs changes of recipients"),
        ("authorisation", "the authority's signature on what backup.record prints"),
    ):
        if not settings[key].strip():
            found.append(f"{TOP}:{key}: is empty, needs {words}")
    if not [v for v in settings["vaults"].values() if v.get("archives", True)]:
        found.append(f"{TOP}:vaults: has no vault that takes archives")
    if settings["success"] > len(settings["vaults"]):
        found.append(
            f"{TOP}:success: {settings['success']} is more than the {len(settings['vaults'])}"
            f" vaults of {TOP}:vaults"
        )
    return found


def _vault_problems(vaults: Mapping[str, Settings]) -> list[str]:
    found = []
    for name, vault in vaults.items():
        kind, where = vault["type"], f"{TOP}:vaults:{name}"
        found += [
            f"{where}:{key}: is missing, a vault of the type {kind} needs it"
            for key in _NEEDED[kind]
            if key not in vault
        ]
        known = (*_COMMON, *_NEEDED[kind], *_OPTIONAL[kind])
        found += [
            f"{where}:{key}: a vault of the type {kind} has no such setting"
            for key in vault
            if key not in known
        ]
    return found


def within(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
