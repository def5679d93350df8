"""What this host may look at, by its settings: which vaults, of which instance, believing whom."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.backup import config
from rocksalt.backup.crypto import age
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import BackupError
from rocksalt.backup.proof.verify import Pins
from rocksalt.backup.vaults import Vault, opening

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """A vault seen from this host: by what name, described how, whom to believe about what is in
    it, whether it keeps archives, and whether this host may read them, as a master may not.
    """

    name: str
    settings: Settings
    pins: Pins
    archives: bool = True
    reads: bool = True


def credentials(path: str = config.CREDENTIALS) -> dict[str, dict[str, str]]:
    """What opens s3 vaults, by their names; empty without the file. One that others than its owner
    can read is refused.
    """
    try:
        with open(path, encoding="utf-8") as file:
            mode, value = os.fstat(file.fileno()).st_mode, json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from None
    if mode & 0o077:
        raise BackupError(f"{path} can be read by others than its owner: chmod 600 {path}")
    if not isinstance(value, dict):
        raise BackupError(f"{path} does not hold credentials by vault")
    return value


def signer(path: str = config.SIGNING_KEY) -> Signer:
    """The key of this host, which signs its manifests, receipts and reports."""
    if not os.path.lexists(path):
        raise BackupError(f"{path} does not exist: state.apply hardening.backup makes this key")
    return Signer.load(path)


def identities(paths: Sequence[str]) -> list[Any]:
    """The age identities in files; :class:`BackupError` where one cannot be read."""
    found: list[Any] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found += age.identities(file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise BackupError(f"the identity file {path} cannot be read: {error}") from None
        except BackupError as error:
            raise BackupError(f"{path}: {error}") from None
    return found


def sides(
    settings: Settings, names: Sequence[str] = (), key: str = config.SIGNING_KEY
) -> list[Side]:
    """The vaults that this host can look at, all or those with these names: as a master or a drill
    host those of its settings, as a vault host what it keeps for each client.
    """
    found = [*_remote(settings, key), *_kept(settings, key)]
    known = [side.name for side in found]
    for name in names:
        if name not in known:
            raise BackupError(f"no vault {name!r}; there are {', '.join(known) or 'none'}")
    if not found:
        raise BackupError(f"{config.TOP}:vaults: names no vault that this host could look at")
    return [side for side in found if not names or side.name in names]


def _remote(settings: Settings, key: str) -> Iterator[Side]:
    drill = settings["drill"]
    if settings["master"]:
        instance, keys = settings["instance"], (signer(key).public,)
    elif drill:
        instance, keys = drill["instance"], (drill["signer"],)
    else:
        return
    receivers = [it["receiver"] for it in settings["vaults"].values() if it.get("receiver")]
    pins = Pins(
        instance, keys, settings["authority"], tuple(receivers), tuple(settings["drill_keys"])
    )
    for name, entry in settings["vaults"].items():
        if settings["master"] or name in drill["vaults"]:
            reads = not settings["master"] or entry["type"] == "file"
            yield Side(name, entry, pins, entry.get("archives", True), reads)


def _kept(settings: Settings, key: str) -> Iterator[Side]:
    receiver = settings["receiver"]
    for name, client in receiver.get("clients", {}).items():
        if "signer" in client:
            pins = Pins(
                client["instance"], (client["signer"],), settings["authority"],
                (signer(key).public,), tuple(settings["drill_keys"]),
            )  # fmt: skip
            entry = {"type": "file", "path": receiver["path"], "allow_unencrypted": True}
            yield Side(name, entry, pins, client.get("archives", True))


@contextlib.contextmanager
def opened(side: Side, secrets: opening.Credentials) -> Iterator[Vault]:
    """The vault, which is closed in the end."""
    vault = opening.vault(side.name, side.settings, secrets, side.pins.instance)
    try:
        yield vault
    finally:
        vault.close()


@contextlib.contextmanager
def vaults(settings: Settings, secrets: opening.Credentials) -> Iterator[list[Vault]]:
    """Every vault of this master, closed in the end."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, entry in settings["vaults"].items():
            found.append(opening.vault(name, entry, secrets, settings["instance"]))
            stack.callback(found[-1].close)
        yield found
