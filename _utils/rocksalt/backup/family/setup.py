"""What the settings amount to on one host: its roles, and the files, accounts and folders that they
need there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from rocksalt.accounts import forced
from rocksalt.backup import config, names, program
from rocksalt.backup.crypto import recipients, sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.family import reading, units
from rocksalt.settings import SECRET, Baseline

MASTER, VAULT, DRILL, MONITOR = "master", "vault", "drill", "monitor"
USER = "rocksalt-vault"
HOME = "/var/lib/rocksalt-vault"
ROOT_ONLY = "root:root 0600"


class Setup:
    """The settings of the family for one host, as :mod:`config` wants them, and what follows."""

    def __init__(self, baseline: Baseline, place: reading.Place):
        self.baseline = baseline
        self.place = place
        own = dict(baseline.families["backup"].settings)
        self.credentials = own.pop("s3_credentials")
        self.enabled = own.pop("enabled")
        self.settings = {**own, "instance": own["instance"] or place.minion}
        self.jobs = units.jobs(self.settings, place.salt_run, place.config_dir)

    @property
    def roles(self) -> list[str]:
        """What this host is by its settings. A drill host is a monitoring host as well, which has
        no identity otherwise.
        """
        keys = ((MASTER, "master"), (VAULT, "receiver"), (MONITOR, "drill"))
        found = [role for role, key in keys if self.settings[key]]
        return [*found, DRILL] if "identity" in self.settings["drill"] else found

    @property
    def receiver(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.settings["receiver"]
        return found

    @property
    def user(self) -> str:
        """The account of the receiver, and its group."""
        return str(self.receiver.get("user", USER)) if self.receiver else "root"

    @property
    def instances(self) -> list[str]:
        """Whose snapshots are in the store."""
        return sorted({it["instance"] for it in self.receiver.get("clients", {}).values()})

    @cached_property
    def library(self) -> dict[str, bytes]:
        """What our program needs of this library."""
        return program.sources()

    def files(self) -> dict[str, tuple[str | None, str]]:
        """Path -> content and access of what we write, other than units. The content is None where
        a secret is not known, for which the host's own has to do.
        """
        if not self.roles:
            return {}
        group = self.user
        configuration = reading.as_json(self.settings)
        credentials = None if self.credentials == SECRET else reading.as_json(self.credentials)
        return {
            config.PATH: (configuration, f"root:{group} {'0640' if self.receiver else '0600'}"),
            config.CREDENTIALS: (credentials, ROOT_ONLY),
            program.PATH: (
                _text(program.build(self.place.interpreter, self.library)),
                "root:root 0755",
            ),
        }

    def own_keys(self) -> dict[str, str]:
        """Path -> access of the keys that this host needs."""
        found = {config.SIGNING_KEY: f"{self.user}:{self.user} 0600"} if self.roles else {}
        if {MASTER, MONITOR} & {*self.roles}:
            found[config.TRANSPORT_KEY] = ROOT_ONLY
        return found

    def folders(self) -> dict[str, str]:
        """Path -> access of the folders that are ours."""
        mode = "0750" if self.receiver else "0700"
        found = {config.FOLDER: f"root:{self.user} {mode}"} if self.roles else {}
        if MASTER in self.roles:
            found[self.settings["spool"]] = "root:root 0700"
        return found

    def units(self) -> dict[str, str]:
        """Path -> content of what starts our jobs."""
        return units.texts(self.settings, self.jobs, self.place.config_dir)

    def timers(self) -> list[str]:
        """The timers that have to run."""
        return [f"{job.unit}.timer" for job in units.timed(self.settings, self.jobs)]

    @property
    def account(self) -> forced.Forced:
        """The account of the receiver, by which clients reach it."""
        file = forced.key_file(self.baseline, self.user, HOME)
        return forced.Forced(self.user, HOME, file, self.authorized_keys())

    def authorized_keys(self) -> str:
        """Who reaches the receiver, each by a forced command and nothing else."""
        lines = ["# Written by rocksalt; state.apply hardening.backup undoes a change here."]
        for name, client in sorted(self.receiver.get("clients", {}).items()):
            kind, key = client["key"].split()[:2]
            lines.append(
                f'restrict,command="{program.PATH} receive --client {name}" {kind} {key} {name}'
            )
        return "\n".join([*lines, ""])


def _text(data: bytes) -> str:
    """Bytes as :class:`rocksalt.host.Host` reads and writes them."""
    return data.decode(errors="surrogateescape")


def problems(baseline: Baseline, place: reading.Place) -> list[str]:
    """What is wrong with the settings of the family, a sentence each, whether with each other or
    with those of the families that the receiver depends on.
    """
    setup = Setup(baseline, place)
    if not setup.roles:
        return []
    found = config.problems({**setup.settings, "s3_credentials": setup.credentials})
    if not names.INSTANCE.fullmatch(setup.settings["instance"]):
        found.append(
            f"{config.TOP}:instance: {setup.settings['instance']!r} needs lower-case letters, "
            "digits, dots and hyphens; set it where the minion's id has others"
        )
    if MASTER in setup.roles and len(setup.roles) > 1:
        other = "receiver" if VAULT in setup.roles else "drill"
        found.append(
            f"{config.TOP}:{other}: this host is a master as well, and has to be another one: "
            "whoever breaks into the master must reach neither the vault nor the key of drills"
        )
    found += [*_incomplete(setup), *_clients(setup)]
    if VAULT in setup.roles:
        found += forced.problems(baseline, setup.user, "the backup's receiver")
    return found


def _incomplete(setup: Setup) -> Iterator[str]:
    needed = {
        "receiver": ("path", "clients"),
        "drill": ("instance", "signer", "vaults"),
    }
    for key, fields in needed.items():
        for field in fields if setup.settings[key] else ():
            if field not in setup.settings[key]:
                yield f"{config.TOP}:{key}:{field}: is missing"


def _clients(setup: Setup) -> Iterator[str]:
    """Clients are told apart by their keys, and their names stand in authorized_keys."""
    owner: dict[str, str] = {}
    for name, client in setup.receiver.get("clients", {}).items():
        where = f"{config.TOP}:receiver:clients:{name}"
        if not names.INSTANCE.fullmatch(name):
            yield f"{where}: the name needs lower-case letters, digits, dots and hyphens"
        key = " ".join(client["key"].split()[:2])
        if owner.setdefault(key, name) != name:
            yield f"{where}:key: is also the key of {owner[key]}; give each client its own"
        try:
            sshsig.bare(client["key"])
        except BackupError as error:
            yield f"{where}:key: {error}"


def instructions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record that the offline key signs, as text; the commands; whether it has been signed."""
    try:
        recipients.authorised(settings)
        authorised = True
    except BackupError:
        authorised = False
    return {
        "record": recipients.record_bytes(settings).decode("ascii"),
        "commands": [
            "salt-call backup.record --out=json | jq -j .local.record > record.json",
            "take record.json to the host that has the offline key",
            f"ssh-keygen -Y sign -f authority -n {recipients.NAMESPACE} record.json",
            f"put the content of record.json.sig into {config.TOP}:authorisation",
        ],
        "authorised": authorised,
    }
