"""What each control of the family expects, and what was seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rocksalt import systemd
from rocksalt.backup import check, config, program
from rocksalt.backup.crypto import recipients, sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.family import history, reading, units
from rocksalt.backup.family.setup import DRILL, MASTER, MONITOR, ROOT_ONLY, VAULT, Setup
from rocksalt.backup.vaults import disks
from rocksalt.backup.vaults.file import MARKER
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.nrpe import commands
from rocksalt.settings import Baseline

BACKED_UP = "BKP-001"
FILES, KEYS, UNITS, STARTED, FOLDERS, RUNNER = (
    *("BKP-002", "BKP-003", "BKP-004", "BKP-005", "BKP-006", "BKP-007"),
)
SNAPSHOT, VERIFIED, ACCOUNT, STORE = "BKP-010", "BKP-011", "BKP-030", "BKP-031"
NOTHING = {
    MASTER: "no Salt master on this host",
    VAULT: "no vault on this host",
    DRILL: "no drill on this host",
}
KEY_PLACES = ("/etc/rocksalt", "/root", "/dev/shm", "/run", "/tmp", "/var/tmp", "/home")
"""Where somebody may have left a key that opens snapshots, beside what is of the master."""
NOTHING_AT_ALL = "neither a Salt master nor a vault or drill on this host"
STORE_NOTE = f"{config.FOLDER}/store"
"""Which folder became the store of this host, beside the marker in it."""


class Backup:
    """The comparison for one host: settings and a place in, expected and seen values out."""

    def __init__(self, baseline: Baseline, place: reading.Place, host: Host, now: dt.datetime):
        self.setup = Setup(baseline, place)
        self.settings = self.setup.settings
        self.place = place
        self.host = host
        self.now = now

    @cached_property
    def signs(self) -> list[str]:
        """Why this host is a Salt master; empty when it is none."""
        return reading.master_signs(self.host, self.place.config_dir)

    @cached_property
    def past(self) -> history.History:
        """What the last runs did."""
        found, problem = reading.status(self.host)
        return history.History(self.settings, found, problem, self.now)

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found = {i: expect(self) for i, (roles, expect, _) in CHECKS.items() if self.has(roles)}
        absent = {i: _nothing(roles) for i, (roles, *_) in CHECKS.items() if i not in found}
        backed_up = "backed up" if MASTER in self.setup.roles or self.signs else NOTHING[MASTER]
        return {**found, **absent, BACKED_UP: backed_up}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen. What a host without the role would have to do is nothing,
        and that is done; a master that is not backed up is told once.
        """
        found: dict[str, Seen] = {BACKED_UP: self._backed_up()}
        for identifier, (roles, _, look) in CHECKS.items():
            if self.has(roles):
                found[identifier] = look(self)
            elif MASTER in roles and self.signs and not self.setup.roles:
                why = "the Salt master of this host is not backed up (BKP-001)"
                found[identifier] = Seen(problem="skipped", reason=why)
            else:
                found[identifier] = Seen(_nothing(roles))
        return found

    def has(self, roles: Iterable[str]) -> bool:
        """Whether this host is one of these by its settings."""
        return bool({*roles} & {*self.setup.roles})

    def _backed_up(self) -> Seen:
        if MASTER in self.setup.roles:
            why = f"{config.TOP}:master is true, and there is no Salt master here"
            return Seen("backed up") if self.signs else Seen(NOTHING[MASTER], why)
        if not self.signs:
            return Seen(NOTHING[MASTER])
        why = f"{', '.join(self.signs)}, and {config.TOP}:master is false"
        return Seen("not backed up", why)


def _nothing(roles: Sequence[str]) -> str:
    return NOTHING[roles[0]] if len(roles) == 1 else NOTHING_AT_ALL


def _differing(wanted: Mapping[str, str], actual: Mapping[str, str | None]) -> str:
    return some(
        [
            f"{path} {'is ' + have if have else 'does not exist'}, expected {wanted[path]}"
            for path, have in actual.items()
            if have != wanted[path]
        ]
    )


# One triple per control: roles, expected(it), seen(it) -------------------------------------------


def _files_expected(it: Backup) -> dict[str, str]:
    found = {path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in it.setup.files().items()}
    return {**found, **_plugin(it, f"{AS_RENDERED}, root:root 0755")}


def _plugin(it: Backup, value: str) -> dict[str, str]:
    """The check for NRPE, where that has a place for it, or is about to ask for it."""
    asked = it.host.path(program.PLUGINS).is_dir() or _asked_by_nrpe(it.setup.baseline)
    return {program.PLUGIN: value} if asked else {}


def _asked_by_nrpe(baseline: Baseline) -> bool:
    """Whether a command of NRPE runs the check: NRPE comes later in a run and needs it there."""
    family = baseline.families.get("nrpe")
    if not family or not family.settings["enabled"]:
        return False
    return program.PLUGIN in map(commands.plugin, family.settings["commands"].values())


def wanted_files(it: Backup) -> dict[str, tuple[str | None, str]]:
    """Path -> content and access of what we write."""
    plugin = {path: (program.plugin(), "root:root 0755") for path in _plugin(it, "")}
    return {**it.setup.files(), **plugin}


def _files_seen(it: Backup) -> Seen:
    actual: dict[str, str | None] = {}
    for path, (text, _) in wanted_files(it).items():
        found = it.host.read(path)
        state = AS_RENDERED if text is None and found is not None else compared(found, text or "")
        actual[path] = f"{state}, {it.host.access(path)}" if found is not None else None
    return Seen(actual, _differing(_files_expected(it), actual))


def _keys_expected(it: Backup) -> dict[str, str]:
    return {path: f"{sshsig.KIND}, {rights}" for path, rights in it.setup.own_keys().items()}


def _keys_seen(it: Backup) -> Seen:
    actual: dict[str, str | None] = {}
    why = []
    for path in it.setup.own_keys():
        rights = it.host.access(path)
        try:
            sshsig.Signer.load(it.host.path(path))
            actual[path] = f"{sshsig.KIND}, {rights}"
        except BackupError as error:
            actual[path] = rights
            why.append(str(error))
    return Seen(actual, some(why) or _differing(_keys_expected(it), actual))


def _units_seen(it: Backup) -> Seen:
    texts = it.setup.units()
    actual: dict[str, Any] = {
        path: compared(it.host.read(path), text) for path, text in texts.items()
    }
    beside = overrides(it)
    why = [f"{path} {state}" for path, state in actual.items() if state != AS_RENDERED]
    why += [f"{path} overrides our unit" for path in beside]
    left = leftover_units(it)
    why += [f"{path} is not wanted any more" for path in left]
    return Seen({**actual, "overrides": beside, "left over": left}, some(why))


def overrides(it: Backup) -> list[str]:
    """What systemd reads instead of our units, or on top of them."""
    own = [path for path in it.setup.units() if not path.endswith(".conf")]
    return systemd.overrides(it.host, own)


def leftover_units(it: Backup) -> list[str]:
    """Units of ours for what this host does no more."""
    return [path for path in installed_units(it.host, it.place) if path not in it.setup.units()]


def installed_units(host: Host, place: reading.Place) -> list[str]:
    """What of ours starts jobs on the host."""
    from_schedule = [units.schedule(place.config_dir)]
    found = [*host.glob(f"{units.FOLDER}/{units.PREFIX}*"), *host.glob(from_schedule[0])]
    return [path for path in found if path.endswith((".service", ".timer", ".conf"))]


def _units_expected(it: Backup) -> dict[str, Any]:
    rendered = dict.fromkeys(it.setup.units(), AS_RENDERED)
    return {**rendered, "overrides": [], "left over": []}


def _started_expected(it: Backup) -> dict[str, str]:
    found = dict.fromkeys(it.setup.timers(), "active, enabled")
    return found or {reading.MASTER_UNIT: "started after its schedule was written"}


def _started_seen(it: Backup) -> Seen:
    timers = it.setup.timers()
    if not timers:
        return _schedule_seen(it)
    known = systemd.units(it.host, timers)
    return Seen({timer: systemd.state(known.get(timer, {})) for timer in timers})


def _schedule_seen(it: Backup) -> Seen:
    """A master reads its schedule when it starts."""
    written = it.host.attributes(units.schedule(it.place.config_dir))
    started = systemd.started(it.host, reading.MASTER_UNIT)
    if started is None:
        return Seen({reading.MASTER_UNIT: "does not run"}, "the Salt master does not run")
    if written is None or written.changed > started:
        why = "the Salt master has not been started since its schedule was written"
        return Seen({reading.MASTER_UNIT: "started before its schedule was written"}, why)
    return Seen({reading.MASTER_UNIT: "started after its schedule was written"})


def _folders_seen(it: Backup) -> Seen:
    wanted = it.setup.folders()
    actual = {path: it.host.access(path) for path in wanted}
    return Seen(actual, _differing(wanted, actual))


def _runner_seen(it: Backup) -> Seen:
    """The runner, and the library beside it as far as the program has it, too."""
    if not any((Path(folder) / "backup.py").is_file() for folder in it.place.runners):
        return Seen(None, f"the master has no runner backup: {SYNC}")
    wanted = it.setup.library
    folders = it.place.libraries
    folder = next((f for f in folders if (Path(f) / "rocksalt/__init__.py").is_file()), None)
    if folder is None:
        return Seen(None, f"the master has no library rocksalt: {SYNC}")
    found = reading.contents(folder, wanted)
    other = sorted(name for name, data in wanted.items() if found[name] != data)
    why = f"{folder} has another version of {some(other)}: {SYNC}"
    return Seen("another version", why) if other else Seen("this version")


SYNC = "salt-run saltutil.sync_all brings it"


def _authorised_seen(it: Backup) -> Seen:
    found = [p for p in config.problems(it.settings) if "recipient" in p or "escrow" in p]
    try:
        recipients.authorised(it.settings)
    except BackupError as error:
        found.append(str(error))
    return Seen("authorised") if not found else Seen("not authorised", some(found))


def _secrets_seen(it: Backup) -> Seen:
    folders = [*KEY_PLACES, it.place.config_dir, *it.place.served]
    try:
        found = reading.secrets(it.host, folders, it.settings["authority"])
    except TimeoutError as error:
        return Seen(problem="error", reason=str(error))
    return Seen(found, some(found))


def _store_expected(it: Backup) -> dict[str, Any]:
    path = it.setup.receiver["path"]
    return {path: f"{it.setup.user}:{it.setup.user} 0700", "marked": True}


def _store_seen(it: Backup) -> Seen:
    wanted = _store_expected(it)
    marked = wanted.pop("marked") and reading.marked(it.host, it.setup.receiver["path"])
    actual: dict[str, Any] = {path: it.host.access(path) for path in wanted}
    if other := other_store(it):
        return Seen({**actual, "marked": False}, other, remedy="manual")
    open_above = [
        str(parent)
        for path in wanted
        for parent in Path(path).parents
        if _others_write(it.host, str(parent))
    ]
    why = _differing(wanted, actual)
    actual["marked"] = marked
    if open_above:
        words = f"others than root can write in {', '.join(open_above)}, above the store"
        fixed = why or not marked
        return Seen({**actual, "above it": open_above}, words, remedy="" if fixed else "manual")
    return Seen(actual, why or ("" if marked else f"there is no {MARKER} in it yet"))


def other_store(it: Backup) -> str:
    """Why the folder at the store's path is not the store, nor one that could become it."""
    path = it.setup.receiver["path"]
    if reading.marked(it.host, path):
        return ""
    if (it.host.read(STORE_NOTE) or "").strip() == path:
        return (
            f"{path} has no {MARKER}, and it was the store: its disk is not mounted, or it is "
            f"another one; remove {STORE_NOTE} to begin a new store there"
        )
    if found := reading.entries(it.host, path):
        return f"{path} holds {some(found)} and no {MARKER}: the store needs a folder of its own"
    return ""


def _others_write(host: Host, path: str) -> bool:
    found = host.attributes(path)
    return bool(found and (found.owner != "root" or int(found.mode, 8) & 0o1022 in (2, 0o20, 0o22)))


def _disk_seen(it: Backup) -> Seen:
    path = it.setup.receiver["path"]
    if it.host.attributes(path) is None:
        return Seen(None, f"{path} does not exist")
    if disks.encrypted(it.host.path(path)):
        return Seen("encrypted")
    return Seen("not encrypted", f"{path} lies on no disk that dm-crypt encrypts")


def _strays_seen(it: Backup) -> Seen:
    setup = it.setup
    found = reading.strays(it.host, setup.receiver["path"], setup.user, setup.instances)
    return Seen(found, some(found))


def _clients_expected(it: Backup) -> str:
    return f"at most {history.late_after(it.settings)} minutes ago"


def _clients_seen(it: Backup) -> Seen:
    limit, why = history.late_after(it.settings), []
    for name, client in sorted(it.setup.receiver["clients"].items()):
        if "signer" not in client:
            continue
        folder = it.host.path(f"{it.setup.receiver['path']}/{client['instance']}")
        received = check.received(folder)
        if received is None:
            why.append(f"{name} has not sent a snapshot yet")
        elif (it.now - received).total_seconds() > limit * 60:
            why.append(f"{name} sent its last snapshot at {received:%Y-%m-%d %H:%M} UTC")
    return Seen(why, some(why)) if why else Seen(_clients_expected(it))


def _identity_expected(it: Backup) -> dict[str, Any]:
    return {it.settings["drill"]["identity"]: ROOT_ONLY, "Salt master": []}


def _identity_seen(it: Backup) -> Seen:
    path = it.settings["drill"]["identity"]
    rights = it.host.access(path)
    why = (
        [] if rights == ROOT_ONLY else [f"{path} is {rights or 'not there'}, expected {ROOT_ONLY}"]
    )
    why += [f"this host is a Salt master: {sign}" for sign in it.signs]
    return Seen({path: rights, "Salt master": it.signs}, some(why))


_ALL = (MASTER, VAULT, MONITOR)
Check = tuple[Sequence[str], Callable[[Backup], Any], Callable[[Backup], Seen]]


def _verified(it: Backup) -> Seen:
    """A vault whose first snapshot arrived lately has not been checked yet, and need not be."""
    expect, look = history.CHECKS["verified"]
    if VAULT in it.setup.roles and not it.past.section("verify"):
        path = it.setup.receiver["path"]
        folders = [it.host.path(f"{path}/{instance}") for instance in it.setup.instances]
        first = min(filter(None, (check.received(folder, min) for folder in folders)), default=None)
        if first is None or it.now - first < history.unchecked_for(it.settings):
            return Seen(expect(it.past))
    return look(it.past)


def _of_past(name: str) -> tuple[Callable[[Backup], Any], Callable[[Backup], Seen]]:
    """A control about the last runs."""
    expect, look = history.CHECKS[name]
    return lambda it: expect(it.past), lambda it: look(it.past)


CHECKS: dict[str, Check] = {
    FILES: (_ALL, _files_expected, _files_seen),
    KEYS: (_ALL, _keys_expected, _keys_seen),
    UNITS: (_ALL, _units_expected, _units_seen),
    STARTED: (_ALL, _started_expected, _started_seen),
    FOLDERS: (_ALL, lambda it: it.setup.folders(), _folders_seen),
    RUNNER: ((MASTER,), lambda it: "this version", _runner_seen),
    SNAPSHOT: ((MASTER,), *_of_past("snapshot")),
    VERIFIED: (_ALL, _of_past("verified")[0], _verified),
    "BKP-012": ((MASTER, DRILL), *_of_past("drilled")),
    "BKP-013": ((MASTER,), *_of_past("everywhere")),
    "BKP-014": ((MASTER,), *_of_past("out of reach")),
    "BKP-015": ((MASTER,), lambda it: "authorised", _authorised_seen),
    "BKP-016": ((MASTER,), lambda it: [], _secrets_seen),
    "BKP-017": ((MASTER,), *_of_past("shrunk")),
    "BKP-018": ((MASTER,), *_of_past("rewritten")),
    "BKP-019": ((MASTER,), *_of_past("witnessed")),
    "BKP-020": ((MASTER,), *_of_past("complete")),
    ACCOUNT: (
        (VAULT,),
        lambda it: it.setup.account.expected(),
        lambda it: Seen(it.setup.account.seen(it.host)),
    ),
    STORE: ((VAULT,), _store_expected, _store_seen),
    "BKP-032": ((VAULT,), lambda it: "encrypted", _disk_seen),
    "BKP-033": ((VAULT,), lambda it: [], _strays_seen),
    "BKP-034": ((VAULT,), _clients_expected, _clients_seen),
    "BKP-040": ((DRILL,), _identity_expected, _identity_seen),
}
