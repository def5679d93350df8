"""Hosts of a backup that work: a Salt master, its vault and its drill host, with true keys."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rocksalt import settings
from rocksalt.backup import names, status
from rocksalt.backup.crypto import age, recipients
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.family import checks, reading
from rocksalt.backup.family.setup import Setup

NOW = dt.datetime(2026, 11, 22, 14, 0, tzinfo=dt.timezone.utc)
MASTER_UNIT = (
    "Id=salt-master.service\nActiveState={}\nUnitFileState=enabled\n"
    "ActiveEnterTimestampMonotonic=1000000\n"
)


@cache
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def public() -> str:
    return Signer(Ed25519PrivateKey.generate()).public


def master_settings(**other: Any) -> dict[str, Any]:
    """Settings of a master, authorised as they are."""
    people = [age.generate()[1] for _ in range(2)]
    found = {
        "master": True,
        "instance": "control",
        "location": "Berlin",
        "admin_domain": "web team",
        "authority": signer().public,
        "recipients": people,
        "escrow": people[0],
        "vaults": {
            "far": {
                "type": "ssh", "location": "Oslo", "admin_domain": "vault team",
                "host": "192.0.2.9", "user": "rocksalt-vault", "host_key": public(),
                "receiver": public(),
            },
            "near": {
                "type": "file", "location": "berlin ", "admin_domain": "web team",
                "path": "/mnt/near",
            },
        },
        **other,
    }  # fmt: skip
    record = {"customers": {}, "revision": 1, **found}
    signature = signer().sign(recipients.record_bytes(record), recipients.NAMESPACE)
    return {"authorisation": signature.decode(), **found}


def vault_settings(**other: Any) -> dict[str, Any]:
    """Settings of a vault host with a master and a reader as clients."""
    clients = {
        "control": {"instance": "control", "key": public(), "signer": public()},
        "drill": {"instance": "control", "key": public(), "read": True},
    }
    return {"receiver": {"path": "/srv/vault", "clients": clients, **other}}


def drill_settings() -> dict[str, Any]:
    """Settings of a drill host."""
    vault = master_settings()["vaults"]["far"]
    drill = {"instance": "control", "identity": "/root/identity", "signer": public()}
    return {"vaults": {"far": vault}, "drill": {**drill, "vaults": ["far"]}}


def baseline(shipped: Any, own: dict[str, Any], **pillar: Any) -> settings.Baseline:
    return settings.resolve(shipped, {"backup": own, **pillar}, {}, "web1")


def place(**other: Any) -> reading.Place:
    return reading.Place("web1", "/etc/salt", "/opt/salt/bin/python3", "/bin/salt-run", **other)


def setup(shipped: Any, own: dict[str, Any], **pillar: Any) -> Setup:
    return Setup(baseline(shipped, own, **pillar), place())


def comparison(shipped: Any, host: Any, own: dict[str, Any], **pillar: Any) -> checks.Backup:
    """What the checks say of a host."""
    folder = host.path("/extmods")
    here = place(runners=[f"{folder}/runners"], libraries=[f"{folder}/utils"], served=["/srv/salt"])
    return checks.Backup(baseline(shipped, own, **pillar), here, host, NOW)


def ago(**how: float) -> str:
    return names.utc(NOW - dt.timedelta(**how))


def good_status() -> dict[str, Any]:
    """What the last runs said when all went well."""
    part = {"size": 4000, "files": 100, "bytes": 9000, "changed": 3}
    vault = {"sequence": 7, "time": ago(minutes=20), "error": "", "faults": []}
    return {
        "schema": 1,
        "instance": "control",
        "time": ago(minutes=20),
        "snapshot": {
            "time": ago(minutes=20), "code": 0, "sequence": 7, "kind": "full",
            "started": ago(minutes=20), "finished": ago(minutes=20), "next": ago(minutes=-45),
            "vaults": {
                "far": {**vault, "receipt": ago(minutes=20)},
                "near": {**vault, "receipt": "", "faults": ["near is a folder"]},
            },
            "archives": {"operator": part}, "before": {"operator": {**part}},
            "warnings": ["/run/x: skipped: a socket"], "reason": "",
        },
        "verify": {
            "time": ago(hours=9), "code": 0,
            "vaults": {"far": {"problems": [], "newest": {"sequence": 7}}},
        },
        "drill": {
            "time": ago(days=2), "code": 0, "rto": 20, "rpo": 3600, "problems": [],
            "steps": dict.fromkeys(("fetch", "compare", "keys", "master"), "ok"),
        },
    }  # fmt: skip


def write_status(host: Any, value: Any) -> None:
    path: Path = host.path(status.PATH)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
