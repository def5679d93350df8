"""What an administrator decided: the settings of the family luks, as :mod:`_modules.luks` and the
program ``rocksalt-luks`` read them.

``state.apply hardening.luks`` writes what the program needs, validated, to :data:`PATH`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused

TOP = "hardening:luks"
FOLDER = "/etc/rocksalt/luks"
PATH = f"{FOLDER}/config.json"
STATE = "/var/lib/rocksalt/luks"
"""Journals of what is under way, and encrypted copies of headers (below ``headers``)."""
RUNTIME = "/run/rocksalt/luks"
"""Locks, and what one-time keys are for; gone with a reboot."""
BY_ID = "/dev/disk/by-id/"

_CUSTOMER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VOLUME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SSH_KEY = re.compile(r"\s*(?:ssh|ecdsa|sk)-\S+\s")
_PRIVATE = re.compile(r"AGE-SECRET-KEY-|PRIVATE KEY", re.IGNORECASE)
_SYSTEM = (
    *("/bin", "/boot", "/dev", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/lost+found"),
    *("/opt/saltstack", "/proc", "/root", "/run", "/sbin", "/srv/pillar", "/srv/salt", "/sys"),
    *("/tmp", "/usr", "/var/backups", "/var/cache/apt", "/var/cache/salt", "/var/lib/apt"),
    *("/var/lib/dpkg", "/var/lib/rocksalt", "/var/lib/rocksalt-backup"),
    *("/var/lib/rocksalt-volumes", "/var/lib/salt", "/var/lib/systemd", "/var/lock", "/var/run"),
    *("/var/spool/cron", "/var/tmp"),
)
"""Folders with which a host works: nothing of a customer is mounted there or below."""
_SHARED = {
    *("", "/", "/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/cache", "/var/lib"),
    *("/var/log", "/var/mail", "/var/spool", "/var/www"),
}
"""Folders in which others have theirs: below them there is a place."""
_FIRM = ("nodev", "nosuid")
_REFUSED = {
    *("defaults", "dev", "suid", "user", "users", "owner", "group"),
    *("bind", "rbind", "move", "remount", "loop", "offset", "sizelimit"),
    *("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"),
    *("journal_path", "journal_dev", "logdev", "rtdev"),
}
"""Options that undo ours, mount something else, or write outside of the volume."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Customer:
    """Whose volumes: ``recipients`` are age public keys, ``ssh_keys`` lines of authorized_keys."""

    name: str
    recipients: tuple[str, ...]
    ssh_keys: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> list[str]:
        """Of those who can unwrap a key, sorted."""
        return sorted(map(age.fingerprint, self.recipients))


@dataclass(frozen=True)
class Volume:
    """One volume of a customer; while it is open, its device is ``/dev/mapper/<name>``."""

    name: str
    customer: Customer
    device: str
    mount: str
    filesystem: str = "ext4"
    options: tuple[str, ...] = ()
    owner: str = "root"
    group: str = "root"
    mode: str = "0750"
    key_command: tuple[str, ...] = ()
    discard: bool = False

    @property
    def mapping(self) -> str:
        return f"/dev/mapper/{self.name}"

    @property
    def mount_options(self) -> list[str]:
        """Sorted; nodev and nosuid at the end, where nothing overrules them."""
        return [*sorted({*self.options} - {*_FIRM}), *_FIRM]


def customers(settings: Settings) -> dict[str, Customer]:
    """The customers by name."""
    return {
        name: Customer(name, tuple(entry["recipients"]), tuple(entry.get("ssh_keys", ())))
        for name, entry in settings["customers"].items()
    }


def volumes(settings: Settings) -> dict[str, Volume]:
    """The volumes of customers by name; the settings have no :func:`problems`."""
    known = customers(settings)
    return {name: _volume(name, entry, known) for name, entry in settings["volumes"].items()}


def _volume(name: str, entry: Settings, known: Mapping[str, Customer]) -> Volume:
    given: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("customer", "confirm")}
    for key in ("options", "key_command"):
        given[key] = tuple(given.get(key, ()))
    return Volume(name=name, customer=known[entry["customer"]], **given)


def load(path: str = PATH) -> Settings:
    """The settings in the program's configuration; :class:`Refused` says what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            found, text = os.fstat(file.fileno()), file.read()
        settings: Settings = json.loads(text)
    except FileNotFoundError:
        raise Refused(f"{path} does not exist: state.apply hardening.luks writes it") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise Refused(f"{path} can be written by others than root: chown root, chmod go-w")
    try:
        wrong = problems(settings)
    except (AttributeError, KeyError, TypeError) as error:
        wrong = [f"{type(error).__name__} {error}: not what state.apply hardening.luks writes"]
    if wrong:
        raise Refused("\n".join(f"{path}: {problem}" for problem in wrong))
    return settings


def problems(settings: Settings, resolved: Callable[[str], str] = os.path.realpath) -> list[str]:
    """What is wrong with settings although each is well-formed, a sentence each. ``resolved``
    tells which device a stable name leads to, for one device has several.
    """
    if _PRIVATE.search(json.dumps([settings["customers"], settings["volumes"]])):
        return [
            f"{TOP}: holds a private key, which must be on no host and in no pillar; recipients are"
            " public keys, which begin with age1"
        ]
    return [
        *_customer_problems(settings["customers"]),
        *_volume_problems(settings),
        *_twice(settings["volumes"], "device", resolved),
        *_twice(settings["volumes"], "mount", os.path.normpath),
        *_nested(settings["volumes"]),
    ]


def _customer_problems(entries: Mapping[str, Settings]) -> Iterator[str]:
    owner: dict[str, str] = {}
    for name, entry in entries.items():
        where = f"{TOP}:customers:{name}"
        if not _CUSTOMER.fullmatch(name):
            yield f"{where}: the name needs lower-case letters, digits and hyphens"
        for key in entry["recipients"]:
            try:
                age.recipient(key)
            except ValueError as error:
                yield f"{where}:recipients: {key!r} {error}"
            if owner.setdefault(key, where) != where:
                yield f"{where}:recipients: {key} is also in {owner[key]}:recipients"
        for line in entry.get("ssh_keys", ()):
            key = " ".join(line.split()[:2])
            if not _SSH_KEY.match(line):
                yield (
                    f"{where}:ssh_keys: {line!r} has options in front of the key; write the key "
                    "alone, which is bound to one command anyway"
                )
            if owner.setdefault(key, where) != where:
                yield f"{where}:ssh_keys: {key} is also in {owner[key]}:ssh_keys"


def _volume_problems(settings: Settings) -> Iterator[str]:
    for name, entry in settings["volumes"].items():
        where = f"{TOP}:volumes:{name}"
        if not _VOLUME.fullmatch(name):
            yield f"{where}: the name needs lower-case letters, digits and hyphens, at most 32"
        if entry["customer"] not in settings["customers"]:
            known = ", ".join(sorted(settings["customers"])) or "nobody"
            yield f"{where}:customer: {entry['customer']!r} is none of {TOP}:customers ({known})"
        stable = entry["device"].removeprefix(BY_ID)
        if entry["confirm"] != stable:
            yield (
                f"{where}:confirm: is {entry['confirm']!r}, and the device is {stable!r}; both have"
                " to name the same device before it may be formatted"
            )
        mount, options = entry["mount"], entry.get("options", ())
        if os.path.normpath(mount) != mount or mount in _SHARED or _within(mount, _SYSTEM):
            yield f"{where}:mount: {mount!r} is not a folder of its own, such as /srv/{name}"
        for option in options:
            if option.partition("=")[0] in _REFUSED:
                yield (
                    f"{where}:options: {option} undoes nodev or nosuid, or mounts something else; "
                    "remove it"
                )


def _nested(entries: Mapping[str, Settings]) -> Iterator[str]:
    """Volumes that are mounted in others: whoever has the outer one decides where that leads."""
    for name, entry in entries.items():
        for other, outer in entries.items():
            if entry["mount"] != outer["mount"] and _within(entry["mount"], [outer["mount"]]):
                yield (
                    f"{TOP}:volumes:{name}:mount: {entry['mount']} lies in the volume {other}; "
                    "each volume needs a place outside of all others"
                )


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == it or path.startswith(f"{it}/") for it in folders)


def _twice(entries: Mapping[str, Settings], key: str, same: Callable[[str], str]) -> Iterator[str]:
    """Volumes that say the same."""
    first: dict[str, str] = {}
    for name, entry in entries.items():
        other = first.setdefault(same(entry[key]), name)
        if other != name:
            yield (
                f"{TOP}:volumes:{name}:{key}: {entry[key]} is the same as that of the volume"
                f" {other}; each volume needs its own"
            )
