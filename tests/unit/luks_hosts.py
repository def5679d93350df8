"""Hosts with volumes of customers: settings, and the comparison."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rocksalt import settings
from rocksalt.backup.crypto import age
from rocksalt.luks.family.checks import Luks
from rocksalt.luks.volumes.machine import Machine

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
ACME, LATER, GLOBEX, OPERATOR = (age.generate()[1] for _ in range(4))
USER = "rocksalt-volumes"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 42 + "E ann"
LET_IN = {"sshd": {"allow_groups": ["sudo", USER]}, "accounts": {"users": {USER: {}}}}
BACKUP = {"backup": {"recipients": [OPERATOR]}}


def volume(name: str = "data", **more: Any) -> dict[str, Any]:
    device = {"device": f"/dev/disk/by-id/virtio-{name}", "confirm": f"virtio-{name}"}
    return {"customer": "acme", **device, "mount": f"/srv/{name}", **more}


def own(*, ssh: bool = True, **volumes: dict[str, Any]) -> dict[str, Any]:
    """Settings of the family: a customer, and these volumes or one."""
    keys = {"ssh_keys": [SSH_KEY]} if ssh else {}
    return {
        "customers": {"acme": {"recipients": [ACME], **keys}, "globex": {"recipients": [GLOBEX]}},
        "volumes": volumes or {"data": volume()},
    }


def baseline(shipped, own: Any = None, **pillar: Any) -> settings.Baseline:
    return settings.resolve(shipped, {"luks": own or {}, **pillar}, {}, "web1")


def comparison(shipped, host, own: Any = None, **pillar: Any) -> Luks:
    return Luks(baseline(shipped, own, **pillar), Machine(host), NOW)
