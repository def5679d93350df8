"""One look at the host: everything about NRPE that the checks need, and nothing decided yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt import nrpe
from rocksalt.errors import NoSuch
from rocksalt.firewall import sockets
from rocksalt.host import Attributes, Host, unit_properties
from rocksalt.nrpe import config, tls
from rocksalt.pki import certificates, held

PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_LOCAL = "/etc/nagios/nrpe_local.cfg"
_FOREIGN = ("/etc/nagios/nrpe.d/*.cfg", "/etc/nagios/nrpe.d/*/*.cfg")
_PROPERTIES = (
    *("ActiveState", "UnitFileState", "NeedDaemonReload", "FragmentPath", "DropInPaths"),
    *("MainPID", "ActiveEnterTimestampMonotonic", *config.SANDBOX),
)
_DROP_INS = tuple(f"/{place}/systemd/system*/{nrpe.UNIT}.d/*.conf" for place in ("etc", "run"))
_DISTRIBUTION = ("/lib/systemd/system/", "/usr/lib/systemd/system/")
PLACE = held.Place(nrpe.AUTHORITY, nrpe.CERTIFICATE, nrpe.KEY, nrpe.NEXT_KEY)
FILES = (nrpe.AUTHORITY, nrpe.CERTIFICATE, nrpe.KEY)


@dataclass(frozen=True)
class Wires:
    """How the network is reached, which tests replace."""

    knock: tls.Knock = tls.knock
    source: Callable[[str], str] = tls.source
    is_own: Callable[[str], bool] = tls.is_own
    answers_in: Callable[..., bool] = tls.answers_in
    free_port: Callable[[str], int] = tls.free_port


@dataclass(frozen=True)
class Process:
    """The running NRPE. ``capabilities`` are those that it has or could have."""

    command: Sequence[str] = ()
    user: str = ""
    group: str = ""
    groups: Sequence[str] = ()
    capabilities: bool = False
    no_new_privileges: bool = False
    filtered: bool = False


@dataclass(frozen=True)
class Reading:
    """``absent`` says what is not installed; ``process`` is None while NRPE does not run, and
    ``listening`` None where nobody can tell. ``started`` is in seconds since 1970.
    """

    absent: str = ""
    unit: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None
    started: float | None = None
    listening: Sequence[str] | None = ()
    texts: Mapping[str, str | None] = field(default_factory=dict)
    attributes: Mapping[str, Attributes | None] = field(default_factory=dict)
    certificates: held.Held = field(default_factory=held.Held)
    foreign: Sequence[str] = ()
    drop_ins: Sequence[str] = ()

    @property
    def runs(self) -> bool:
        """Whether a NRPE runs, be it that of the unit or another one that listens."""
        return bool(self.process or self.listening)


def read(host: Host) -> Reading:
    """Looks at everything once, but for the network."""
    certified = held.read(host, PLACE)
    attributes = {
        path: host.attributes(path, follow=False) for path in (nrpe.ABOVE, nrpe.FOLDER, *FILES)
    }
    for path in (nrpe.CONFIG, nrpe.DROP_IN, nrpe.NEXT_KEY, nrpe.KEPT):
        attributes[path] = host.attributes(path, follow=False)
    if host.attributes(nrpe.PROGRAM) is None:
        absent = "nagios-nrpe-server is not installed"
        return Reading(absent=absent, certificates=certified, attributes=attributes)
    unit = show(host)
    pid = int(unit.get("MainPID") or 0)
    return Reading(
        unit=unit,
        process=process(host, pid) if pid else None,
        started=_started(unit),
        listening=_listening(host),
        texts={path: host.read(path) for path in (nrpe.CONFIG, nrpe.DROP_IN)},
        attributes=attributes,
        certificates=certified,
        foreign=foreign(host),
        drop_ins=_drop_ins(host, unit),
    )


def show(host: Host) -> dict[str, str]:
    """What systemd knows of the unit."""
    shown = host.run("systemctl", "show", nrpe.UNIT, "-p", ",".join(_PROPERTIES))
    return unit_properties(shown.out)[0]


def _started(unit: Mapping[str, str]) -> float | None:
    stamp = int(unit.get("ActiveEnterTimestampMonotonic") or 0)
    if unit.get("ActiveState") != "active" or not stamp:
        return None
    return time.time() - time.monotonic() + stamp / 1e6


def process(host: Host, pid: int) -> Process | None:
    """A process by what the kernel says of it; None where it has just ended."""
    status = _fields(host.read(f"/proc/{pid}/status") or "")
    if not status:
        return None
    users, groups = _names(host, "/etc/passwd"), _names(host, "/etc/group")
    own = status["Gid"].split()[1]
    others = [number for number in status.get("Groups", "").split() if number != own]
    held = (int(status.get(key, "0"), 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb"))
    return Process(
        command=(host.read(f"/proc/{pid}/cmdline") or "").split("\0")[:-1],
        user=users.get(status["Uid"].split()[1], status["Uid"].split()[1]),
        group=groups.get(own, own),
        groups=sorted(groups.get(number, number) for number in others),
        capabilities=any(held),
        no_new_privileges=status.get("NoNewPrivs") == "1",
        filtered=status.get("Seccomp") == "2",
    )


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _names(host: Host, path: str) -> dict[str, str]:
    """Number -> name in /etc/passwd or /etc/group."""
    rows = (line.split(":") for line in (host.read(path) or "").splitlines())
    return {row[2]: row[0] for row in rows if len(row) > 2}


def sharing(host: Host) -> list[str]:
    """Whose group NRPE's is as well, beside its own account."""
    rows = (line.split(":") for line in (host.read("/etc/group") or "").splitlines())
    own = next((row for row in rows if row[0] == nrpe.USER and len(row) > 3), None)
    if own is None:
        return []
    users = (line.split(":") for line in (host.read("/etc/passwd") or "").splitlines())
    first = [row[0] for row in users if len(row) > 3 and row[3] == own[2]]
    return sorted({*first, *filter(None, own[3].split(","))} - {nrpe.USER})


def _listening(host: Host) -> list[str] | None:
    """Where a process called nrpe waits: ``10.0.0.7 5666``."""
    try:
        found = sockets.listeners(host)
    except NoSuch:
        return None
    return [f"{it.address} {it.port}" for it in found if it.process == "nrpe"]


def foreign(host: Host) -> list[str]:
    """Configuration beside ours; that of the distribution has comments alone."""
    found = [path for pattern in _FOREIGN for path in host.glob(pattern)]
    if config.parse(host.read(_LOCAL) or ""):
        found.append(_LOCAL)
    return found


def _drop_ins(host: Host, unit: Mapping[str, str]) -> list[str]:
    """What systemd reads of the unit beside the distribution's file and our drop-in, or will after
    a reload. A drop-in for every service is not about us.
    """
    found = [path for pattern in _DROP_INS for path in host.glob(pattern)]
    found += unit.get("DropInPaths", "").split()
    if not unit.get("FragmentPath", "").startswith(_DISTRIBUTION):
        found.append(unit.get("FragmentPath", ""))
    return [
        path
        for path in dict.fromkeys(found)
        if path and path != nrpe.DROP_IN and not path.rpartition("/")[0].endswith("/service.d")
    ]


def is_public(host: Host, authority: certificates.Certificate) -> bool:
    """Whether the host takes an authority for one that may sign for anything."""
    body = "".join(certificates.pem(authority).split("-----")[2].split())
    return body in "".join((host.read(PUBLIC_AUTHORITIES) or "").split())
