"""The restore drill: fetches the newest snapshot, restores it, and starts the master that is in it.

On a host that holds an identity, never on the master. The restored master runs in namespaces of its
own, without a network, and everything is gone afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rocksalt.backup import errors, manifest, names
from rocksalt.backup.config import FOLDER
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import BackupError, Unreachable
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.proof import verify
from rocksalt.backup.proof.verify import Pins
from rocksalt.backup.restoring import fetch, rehearsal, restore, stage
from rocksalt.backup.restoring.extract import Workspace
from rocksalt.backup.restoring.rehearsal import FAILED, OK, SKIPPED
from rocksalt.backup.vaults import Vault

NAMESPACE = "rocksalt-report"
FOLDERS = ("/run/rocksalt-drill", "/var/lib/rocksalt/drill")
"""In memory, and where a snapshot goes that has no room there."""
CONFIG = "/etc/salt/master"
_ROOM = 256 << 20
"""Bytes beside the snapshot, for what the master writes while it runs."""


@dataclass(frozen=True)
class Drill:
    """How a drill went: the exit code, seconds from its beginning to its last step (``rto``), the
    age of the restored data in seconds (``rpo``, None where nothing was restored), and each step as
    ``{"name", "status": "ok" | "failed" | "skipped", "reason"}``.
    """

    code: int
    instance: str
    host: str
    sequence: int
    started: str
    finished: str
    rto: int
    rpo: int | None
    steps: list[dict[str, str]]
    format: int = 1

    def to_bytes(self) -> bytes:
        """What is signed."""
        return manifest.canonical(dataclasses.asdict(self))


def run(
    settings: Mapping[str, Any],
    vaults: Sequence[Vault],
    identities: Sequence[X25519PrivateKey],
    signer: Signer | None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc),
    tell: Callable[[Mapping[str, str]], None] = lambda step: None,
    folders: Sequence[str] = FOLDERS,
) -> Drill:
    """Restores the newest snapshot of ``settings["drill"]`` and tries it out.

    The first of ``vaults`` that is verified, else the first that answers, gives the snapshot; the
    signed report is put into each of them, and one that takes none is a step that failed. ``tell``
    gets every step as it is done. It all happens in the first of ``folders`` that has room. What
    fails is a step; only :class:`Locked` is raised, while another drill is at work, and SystemExit
    on SIGTERM, after everything was ended and removed.
    """
    with _ended_by_sigterm():
        it = _Run(settings, vaults, now, tell)
        it.take(identities, folders)
        return it.report(signer)


class _Run:
    """One drill on its way."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        vaults: Sequence[Vault],
        now: Callable[[], dt.datetime],
        tell: Callable[[Mapping[str, str]], None],
    ):
        self._drill: Mapping[str, Any] = settings["drill"]
        self._vaults = vaults
        self._now = now
        self._tell = tell
        self._started = now()
        self._steps: list[dict[str, str]] = []
        self._code = errors.OK
        self._newest: Manifest | None = None
        self._restored = False
        self._witnesses = {
            name for name, it in settings["vaults"].items() if not it.get("archives", True)
        }
        self._pins = Pins(
            instance=self._drill["instance"],
            signers=(self._drill["signer"],),
            authority=settings.get("authority", ""),
            receivers=tuple(
                it["receiver"] for it in settings["vaults"].values() if it.get("receiver")
            ),
            reporters=tuple(settings.get("drill_keys", ())),
        )

    def step(self, name: str, status: str, reason: str, code: int = errors.FAILED) -> None:
        """Notes a step; a failure of several is named by its first."""
        self._steps.append({"name": name, "status": status, "reason": reason})
        if status == FAILED and self._code in (errors.OK, errors.WARNINGS):
            self._code = code
        elif status == SKIPPED and self._code == errors.OK:
            self._code = errors.WARNINGS
        self._tell(self._steps[-1])

    def take(self, identities: Sequence[X25519PrivateKey], folders: Sequence[str]) -> None:
        """Every step, or those until one that the others need has failed."""
        name = "fetch"
        try:
            vault, known = self._verified()
            self._newest = fetch.choose(known)
            source = fetch.full(known, self._newest)
            with _workspace(source, folders) as space:
                tree = Path(space.path, "tree")
                restored = restore.restore(vault, source, identities, tree)
                self._restored = True
                missing = f"; not for this identity: {', '.join(restored.missing)}"
                self.step(
                    name,
                    OK,
                    f"{self._newest.name} from {vault.name}: {restored.files} files,"
                    f" {restored.bytes} bytes" + (missing if restored.missing else ""),
                )
                name = "compare"
                problems = "; ".join(restored.problems[:5])
                self.step(
                    name,
                    FAILED if problems else OK,
                    problems or "every restored entry is as the index says",
                )
                name = rehearsal.STAGE
                self._rehearse(space, restored, source.versions.get("salt", ""))
        except errors.Locked:
            raise
        except (BackupError, OSError) as error:
            code = error.code if isinstance(error, BackupError) else errors.FAILED
            self.step(name, FAILED, str(error), code)
            self._skip_rest(f"the step {name!r} failed")

    def _verified(self) -> tuple[Vault, list[Manifest]]:
        """The vault to restore from and the manifests in it, after all vaults were checked."""
        good: list[Vault] = []
        bad: list[Vault] = []
        away: list[str] = []
        for vault in self._vaults:
            name = f"verify {vault.name}"
            archives = vault.name not in self._witnesses
            try:
                found = verify.check(vault, self._pins, self._now(), deep=False, archives=archives)
            except Unreachable as error:
                away.append(f"{vault.name}: {error}")
                self.step(name, SKIPPED, str(error))
                continue
            except BackupError as error:
                if archives:
                    bad.append(vault)
                self.step(name, FAILED, str(error), error.code)
                continue
            if archives:
                (good if found.ok else bad).append(vault)
            wrong = [it.sentence for it in found.problems if it.severity == "error"]
            told = "; ".join(wrong[:5]) or f"{found.snapshots} snapshots, a whole chain"
            self.step(name, OK if found.ok else FAILED, told, errors.UNVERIFIED)
        if not good + bad:
            told = "; ".join(away) or "there is none with archives"
            raise Unreachable(f"no vault answers: {told}")
        vault = (good + bad)[0]
        return vault, fetch.manifests(vault, self._pins)

    def _rehearse(self, space: Workspace, restored: restore.Restored, salt: str) -> None:
        config = str(self._drill.get("config", CONFIG))
        if os.geteuid() != 0:
            return self._skip_rest("only root can start a master in namespaces of its own")
        if not any(config == top or config.startswith(f"{top}/") for top in restored.tops):
            return self._skip_rest(f"{config} is not in what this identity restores")
        scratch = os.path.join(space.path, "scratch")
        os.mkdir(scratch, 0o700)
        plan = {
            "tree": os.path.join(space.path, "tree"),
            "tops": restored.tops,
            "scratch": scratch,
            "config": config,
            "salt": salt,
            "canary": self._drill.get("canary", ""),
            "minion": self._minion(),
            "hidden": self._hidden(),
            "programs": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        }
        for line in stage.play(rehearsal.__name__, plan):
            self.step(line["name"], line["status"], line["reason"])
        taken = {it["name"]: it["status"] for it in self._steps}
        if taken.get(rehearsal.STAGE) == OK and rehearsal.STEPS[-1] not in taken:
            self.step("rehearsal", FAILED, "it ended before its last step")
        return self._skip_rest("the rehearsal did not come to it")

    def _minion(self) -> dict[str, str]:
        folder = self._drill.get("minion", "")
        if not folder:
            return {}
        try:
            return {kind: Path(folder, f"minion.{kind}").read_text() for kind in ("pem", "pub")}
        except (OSError, ValueError) as error:
            raise BackupError(
                f"the minion's key pair in {folder} cannot be read: {error}"
            ) from None

    def _hidden(self) -> list[str]:
        """Folders of this host that the restored master must not see, wherever they are."""
        identity, minion = (str(self._drill.get(key, "")) for key in ("identity", "minion"))
        return [it for it in (FOLDER, os.path.dirname(identity), minion) if it]

    def _skip_rest(self, reason: str) -> None:
        taken = {it["name"] for it in self._steps}
        for name in ("fetch", "compare", *rehearsal.STEPS):
            if name not in taken:
                self.step(name, SKIPPED, reason)

    def report(self, signer: Signer | None) -> Drill:
        """The outcome, signed and put into the vaults. What a vault says to that is in the outcome,
        and cannot be in the report.
        """
        finished = self._now()
        if signer is None:
            self.step("report", SKIPPED, "this host has no key that signs it")
            return self._outcome(finished)
        drill = self._outcome(finished)
        data = drill.to_bytes()
        name = f"{finished.strftime(names.STAMP)}.drill.json"
        for vault in self._vaults:
            try:
                _put(vault, name + names.SIGNATURE, signer.sign(data, NAMESPACE))
                _put(vault, name, data)
            except (BackupError, OSError) as error:
                self.step(f"report to {vault.name}", FAILED, str(error), errors.WARNINGS)
        return self._outcome(finished)

    def _outcome(self, finished: dt.datetime) -> Drill:
        newest = self._newest
        age = finished - names.parsed(newest.started) if newest else None
        return Drill(
            code=self._code,
            instance=self._drill["instance"],
            host=platform.node(),
            sequence=newest.sequence if newest else 0,
            started=names.utc(self._started),
            finished=names.utc(finished),
            rto=round((finished - self._started).total_seconds()),
            rpo=round(age.total_seconds()) if age and self._restored else None,
            steps=list(self._steps),
        )


@contextlib.contextmanager
def _workspace(source: Manifest, folders: Sequence[str]) -> Iterator[Workspace]:
    """The first folder in which the snapshot has room twice over, encrypted and restored."""
    needed = sum(it.size + it.bytes for it in source.archives.values()) + _ROOM
    for folder in folders:
        parent = os.path.dirname(folder)
        os.makedirs(parent, exist_ok=True)
        if shutil.disk_usage(parent).free >= needed:
            space = Workspace(folder)
            try:
                yield space
            finally:
                space.close()
            return
    raise BackupError(f"none of {', '.join(folders)} has room for {needed} bytes")


def _put(vault: Vault, name: str, data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        vault.put(name, Path(file.name), manifest.digest(data))


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end a run as an exception does, so that it cleans up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
