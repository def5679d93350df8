"""What the settings amount to on one host: customers and their volumes, and the files, units and
the account that receive their keys.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from functools import cached_property

from rocksalt import program as programs
from rocksalt.accounts import forced
from rocksalt.backup.family.setup import USER as RECEIVER
from rocksalt.blocks import mounts
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config, program
from rocksalt.luks.handover import units
from rocksalt.settings import Baseline

HOME = "/var/lib/rocksalt-volumes"
ROOT_ONLY = "root:root 0700"
_CONTAINER = ("/run/systemd/container", "/run/host/container-manager", "/run/.containerenv")
_DOCKER = "/.dockerenv"
_RUNTIMES = re.compile(r"docker|containerd|kubepods|libpod|lxc|machine-rkt")
_ENVIRONMENT = re.compile(r"(^|\0)container=")
_GIVEN = "/etc/hostname"
"""What Docker mounts in a container, by itself."""


def container(host: Host) -> str:
    """Which container this host is, empty for none: its disks are those of another host. Docker's
    file alone makes none, for it stays in what is made of an image; such a host is looked at.
    """
    for path in _CONTAINER:
        text = host.read(path)
        if text is not None:
            return text.split("\n")[0].strip() or "container"
    return "docker" if host.attributes(_DOCKER) and _contained(host) else ""


def _contained(host: Host) -> bool:
    """Whether the first process was started in a container."""
    signs = (("/proc/1/environ", _ENVIRONMENT), ("/proc/1/cgroup", _RUNTIMES))
    for path, sign in signs:
        with contextlib.suppress(OSError):
            if sign.search(host.read(path) or ""):
                return True
    return any(it.path == _GIVEN for it in mounts.mounts(host))


class Setup:
    """The settings of the family for one host, and what follows from them."""

    def __init__(self, baseline: Baseline):
        self.baseline = baseline
        own = dict(baseline.families["luks"].settings)
        own.pop("enabled")
        self.settings: config.Settings = own

    @cached_property
    def volumes(self) -> dict[str, config.Volume]:
        """The volumes of this host by name; :class:`Refused` where settings make no sense."""
        if wrong := config.problems(self.settings):
            raise Refused("; ".join(wrong))
        return config.volumes(self.settings)

    @property
    def customers(self) -> dict[str, config.Customer]:
        """Those who have volumes on this host; a pillar may declare the customers of a fleet."""
        return {it.customer.name: it.customer for it in self.volumes.values()}

    @property
    def user(self) -> str:
        """The account at which customers hand over keys, and its group."""
        return str(self.settings["user"]) if units.served(self.customers) else "root"

    @property
    def recipients(self) -> list[str]:
        """Public keys of those who may read the headers of the operator."""
        backup = self.baseline.families.get("backup")
        return list(backup.settings["recipients"]) if backup else []

    def packages(self) -> list[str]:
        """What the volumes of this host need."""
        if not self.volumes:
            return []
        kinds = {it.filesystem for it in self.volumes.values()}
        return ["cryptsetup-bin", *(["xfsprogs"] if "xfs" in kinds else [])]

    def files(self) -> dict[str, tuple[str, str]]:
        """Path -> content and access of what we write, other than units."""
        if not self.volumes:
            return {}
        built = program.build(programs.python(), program.sources())
        text = json.dumps(self.settings, indent=1, sort_keys=True) + "\n"
        return {
            config.PATH: (text, "root:root 0600"),
            program.PATH: (built.decode(errors="surrogateescape"), "root:root 0755"),
        }

    def folders(self) -> dict[str, str]:
        """Path -> access of the folders that are ours."""
        wanted = (config.FOLDER, config.STATE) if self.volumes else ()
        return dict.fromkeys(wanted, ROOT_ONLY)

    def units(self) -> dict[str, str]:
        """Path -> content of what listens for customers and opens volumes at boot."""
        return units.texts(self.customers, self.volumes, self.user) if self.volumes else {}

    def started(self) -> dict[str, str]:
        """Unit -> how it is where all is well."""
        listening = dict.fromkeys(units.sockets(self.customers), "active, enabled")
        return {**listening, **dict.fromkeys(units.services(self.volumes), "enabled")}

    @property
    def account(self) -> forced.Forced | None:
        """Where customers log in; None where nobody does."""
        served = units.served(self.customers)
        if not served:
            return None
        file = forced.key_file(self.baseline, self.user, HOME)
        return forced.Forced(self.user, HOME, file, units.authorized_keys(served))


def problems(baseline: Baseline, host: Host) -> list[str]:
    """What is wrong with the settings of the family, a sentence each, whether with each other, with
    those of the families that let customers in, or with what this host is.
    """
    settings = baseline.families["luks"].settings
    found = [*_exemptions(settings), *config.problems(settings)]
    if not settings["volumes"] or found:
        return found
    if kind := container(host):
        found.append(
            f"{config.TOP}:volumes: this host is a container ({kind}), which has no disks of its "
            "own; declare volumes on the host whose disks they are"
        )
    if units.served(Setup(baseline).customers):
        found += forced.problems(baseline, settings["user"], "customers who hand over keys")
        found += _shared_account(baseline, settings["user"])
    return found


def _shared_account(baseline: Baseline, user: str) -> Iterator[str]:
    """Two families would write its keys in turn."""
    backup = baseline.families.get("backup")
    receiver = backup.settings["receiver"] if backup else {}
    if receiver and receiver.get("user", RECEIVER) == user:
        yield (
            f"{config.TOP}:user: {user} is the account of hardening:backup:receiver as well; each "
            "needs its own"
        )


def _exemptions(settings: config.Settings) -> Iterator[str]:
    for name in settings["exempt"]:
        if name != "swap" and not name.startswith("/"):
            yield (
                f"{config.TOP}:exempt: {name!r} is neither swap nor a mount point or device such "
                "as /boot or /dev/sdb"
            )
