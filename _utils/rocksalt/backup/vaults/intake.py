"""What a receiver takes of a client, and what it refuses: before the bytes come, and by them."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from rocksalt.backup import config, manifest, names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified, VaultError
from rocksalt.backup.proof import judge
from rocksalt.backup.vaults import Stored
from rocksalt.backup.vaults.file import Store

REPORTS = "rocksalt-report"
"""The namespace of the signatures of reports."""
_SIGNATURE = 4096
"""Bytes that a signature may have."""
_TIMES = {"drill": "finished", "verify": "time"}
"""What in a report, by its kind, is the time in its name."""


class Intake:
    """The rules for one client, by its name below ``receiver:clients``. ``settings`` are the whole
    settings of this host, ``now`` its clock.
    """

    def __init__(
        self,
        store: Store,
        settings: Mapping[str, Any],
        client: str,
        now: Callable[[], dt.datetime],
    ):
        self._store, self._now, self._name = store, now, client
        self._receiver = settings["receiver"]
        self._reporters = tuple(settings.get("drill_keys", ()))
        self._client = self._receiver["clients"][client]
        self._instance = self._client["instance"]

    def admit(self, name: str, size: int, there: Mapping[str, Stored]) -> None:
        """Whether the name, the size and the client are such that the bytes may be sent;
        :class:`VaultError` says why not.
        """
        archive = names.ARCHIVE.fullmatch(name)
        report = names.REPORT.fullmatch(name.removesuffix(names.SIGNATURE))
        if archive and not self._client.get("archives", True):
            raise VaultError(f"the receiver is a witness for {self._name}, so not for {name}")
        if report:
            self._admit_report(name, report["stamp"])
        else:
            self._admit_next(name, there)
        self._admit_size(name, size, there)

    def _admit_report(self, name: str, stamp: str) -> None:
        if not self._reporters:
            raise VaultError(
                f"the receiver takes no reports, so not {name}: {config.TOP}:drill_keys there has"
                " to name the keys of those who are believed"
            )
        now = self._now()
        if stamp > (now + judge.CLOCK).strftime(names.STAMP):
            raise VaultError(f"the receiver has {names.utc(now)}, so {name} is from the future")

    def _admit_next(self, name: str, there: Mapping[str, Stored]) -> None:
        if "signer" not in self._client:
            raise VaultError(
                f"the receiver takes no snapshot of {self._name}, so not {name}: it needs"
                f" {config.TOP}:receiver:clients:{self._name}:signer"
            )
        head = newest(there)
        if head and int(name[:8]) != int(head[:8]) + 1:
            raise VaultError(
                f"the receiver has the snapshots up to {head}, so {name} is not the next one:"
                f" put what is missing first, or have {self._store.folder} there moved aside"
            )

    def _admit_size(self, name: str, size: int, there: Mapping[str, Stored]) -> None:
        most = _SIGNATURE if name.endswith(names.SIGNATURE) else manifest.LARGEST
        if names.ARCHIVE.fullmatch(name):
            most = self._receiver.get("largest", size)
        if size > most:
            raise VaultError(f"the receiver takes at most {most} bytes, and {name} has {size}")
        disk = os.statvfs(self._store.path)
        if size > disk.f_bavail * disk.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        held = sum(it.size for it in there.values())
        quota = self._client.get("quota", disk.f_blocks * disk.f_frsize // self._instances())
        if held + size > quota:
            raise VaultError(
                f"the receiver holds {held} of the {quota} bytes of {self._name}, {name} has {size}"
                f" more: raise {config.TOP}:receiver:clients:{self._name}:quota there"
            )

    def _instances(self) -> int:
        """How many share the disk, each as much as another where no quota says otherwise."""
        return len({it["instance"] for it in self._receiver["clients"].values()})

    def judge(self, name: str, data: bytes, there: Mapping[str, Stored]) -> None:
        """Whether the content of what is no archive may become an object; :class:`Unverified` says
        why not.
        """
        if names.MANIFEST.fullmatch(name):
            self._continues(name, data, there)
        elif report := names.REPORT.fullmatch(name):
            sshsig.verify(data, self._signature(name), REPORTS, self._reporters)
            self._reports(data, report["stamp"], _TIMES[report["kind"]])

    def _signature(self, name: str) -> bytes:
        try:
            return self._store.read(name + names.SIGNATURE, manifest.LARGEST)
        except FileNotFoundError:
            raise Unverified("has no signature yet, which has to be put first") from None

    def _continues(self, name: str, data: bytes, there: Mapping[str, Stored]) -> None:
        """Whether a manifest is the client's, the next of the chain, of a time that has come, and
        has its archives here.
        """
        signature = self._signature(name)
        sshsig.verify(data, signature, manifest.NAMESPACE, [self._client["signer"]])
        found = manifest.read(data, name)
        if found.instance != self._instance:
            raise Unverified(f"is of the instance {found.instance}, not {self._instance}")
        now = self._now()
        if names.parsed(found.started) > now + judge.CLOCK:
            raise Unverified(
                f"says it was begun at {found.started}, and here it is {names.utc(now)}: set the"
                " clock right that is wrong (NTP)"
            )
        head = newest(there)
        if head and found.previous != self._store.digest(head):
            raise Unverified(f"does not continue {head}: the chain was forked or rebuilt")
        if found.kind != "full" or not self._client.get("archives", True):
            return
        for archive in found.archives.values():
            if not archive.name.startswith(found.stem + "."):
                raise Unverified(f"claims an archive of another snapshot, {archive.name}")
            if archive.name not in there or there[archive.name].size != archive.size:
                raise Unverified(f"needs {archive.name} with {archive.size} bytes, put before it")
            if self._store.digest(archive.name) != archive.sha256:
                raise Unverified(f"needs {archive.name} with the SHA-256 {archive.sha256}")

    def _reports(self, data: bytes, stamp: str, key: str) -> None:
        """Whether a report is about this instance, and of the time that its name says."""
        try:
            value = json.loads(data)
            instance, time = value["instance"], names.parsed(value[key])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Unverified(f"is no report: it needs an instance and a time, {key}") from None
        if instance != self._instance:
            raise Unverified(f"is of the instance {instance}, not {self._instance}")
        if time.strftime(names.STAMP) != stamp:
            raise Unverified(f"is of {value[key]}, which is not the time in its name")


def newest(there: Mapping[str, Stored]) -> str:
    """The name of the newest manifest; empty where there is none."""
    return max(filter(names.MANIFEST.fullmatch, there), default="")
