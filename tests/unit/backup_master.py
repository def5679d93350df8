"""A Salt master that is a folder, and vaults that are dictionaries, to take snapshots of."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import age, recipients, sshsig
from rocksalt.backup.errors import Taken, Unreachable, VaultError
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.snapshots import snapshot
from rocksalt.backup.vaults import Stored, Vault

BEGIN = dt.datetime(2026, 11, 22, 13, 0, tzinfo=dt.timezone.utc)
HOUR = dt.timedelta(hours=1)


class Memory(Vault):
    """A vault in memory. ``away`` and ``mute`` make it fail as real ones do; ``order`` is what was
    put, in order.
    """

    def __init__(self, name: str = "near", objects: dict[str, bytes] | None = None):
        self.name = name
        self.objects = {} if objects is None else objects
        self.order: list[str] = []
        self.away = self.mute = False
        self.fails_at = ""

    def _reach(self) -> None:
        if self.away:
            raise Unreachable(f"{self.name}: no route to host")

    def names(self) -> Mapping[str, Stored]:
        self._reach()
        if self.mute:
            raise VaultError(f"{self.name}: these credentials read nothing")
        return {name: Stored(len(data)) for name, data in self.objects.items()}

    def open(self, name: str) -> BinaryIO:
        self.names()
        if name not in self.objects:
            raise FileNotFoundError(name)
        return io.BytesIO(self.objects[name])

    def put(self, name: str, source: Path, sha256: str) -> None:
        self._reach()
        if self.fails_at and self.fails_at in name:
            raise Unreachable(f"{self.name}: connection reset")
        data = source.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise VaultError(f"{name} arrived damaged")
        if self.objects.get(name, data) != data:
            raise Taken(f"{name} is taken")
        self.objects[name] = data
        self.order.append(name)

    def faults(self) -> list[str]:
        self._reach()
        return []

    def manifests(self) -> list[Manifest]:
        found = sorted(filter(names.MANIFEST.fullmatch, self.objects))
        return [manifest.read(self.objects[name], name) for name in found]


class Master:
    """The master below a folder: configuration, keys, states, pillar, and its settings."""

    def __init__(self, folder: Path):
        self.folder = folder
        for path, text in {
            "etc/salt/master": "interface: 0.0.0.0\n",
            "etc/salt/pki/master/master.pem": "private\n",
            "etc/salt/pki/master/minions/web1": "public\n",
            "srv/salt/top.sls": "base: {}\n",
            "srv/pillar/acme/secret.sls": "password: x\n",
            "cache/jobs/1": "job\n",
        }.items():
            self.write(path, text)
        self.identity, self.reader = age.generate()
        self.escrow = age.generate()[1]
        sshsig.generate(folder / "authority")
        sshsig.generate(folder / "signing")
        self.authority = sshsig.Signer.load(folder / "authority")
        self.signer = sshsig.Signer.load(folder / "signing")
        self.status = str(folder / "state/backup-status.json")
        self.settings: dict[str, Any] = {
            "master": True, "instance": "master1", "authority": self.authority.public,
            "recipients": [self.reader, self.escrow], "escrow": self.escrow, "revision": 1,
            "customers": {}, "authorisation": "", "vaults": {}, "success": 0, "extra": [],
            "location": "here", "admin_domain": "us", "drill": {}, "drill_keys": [],
            "exclude": [], "interval": 60, "jitter": 300, "full_every": 24,
            "spool": self.path("state/spool"), "receiver": {},
        }  # fmt: skip
        self.authorise()

    def path(self, path: str) -> str:
        return str(self.folder / path)

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    @property
    def opts(self) -> dict[str, Any]:
        return {
            "conf_file": self.path("etc/salt/master"),
            "default_include": "master.d/*.conf",
            "pki_dir": self.path("etc/salt/pki/master"),
            "cachedir": self.path("cache"),
            "file_roots": {"base": [self.path("srv/salt")]},
            "pillar_roots": {"base": [self.path("srv/pillar")]},
        }

    def authorise(self, **changes: Any) -> None:
        """Changes settings, and has the offline key sign who can read the snapshots."""
        self.settings.update(changes)
        signed = self.authority.sign(recipients.record_bytes(self.settings), recipients.NAMESPACE)
        self.settings["authorisation"] = signed.decode()

    def take(self, *vaults: Vault, at: dt.datetime = BEGIN, **options: Any) -> snapshot.Result:
        return snapshot.take(
            self.opts, self.settings, vaults, self.signer, at, status_path=self.status, **options
        )
