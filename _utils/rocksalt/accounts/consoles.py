"""What opens a shell on the console without a password: emergency mode and automatic log-ins.

Sources: sulogin(8), systemd-sulogin-shell in rescue.service, agetty(8), systemd-debug-generator(8).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.findings import Seen
from rocksalt.host import Host, unit_properties
from rocksalt.transaction import ASIDE, systemctl

EMERGENCY, BY_ITSELF = "ACC-002", "ACC-003"
MODES = ("emergency.service", "rescue.service")
_GETTYS = ("getty@*", "serial-getty@*", "container-getty@*", "console-getty.service")
_DEBUG = "debug-shell.service"
_FORCED = "SYSTEMD_SULOGIN_FORCE"
_PROPERTIES = "Id,Environment,ExecStart,DropInPaths,FragmentPath,ActiveState,UnitFileState"
_FOLDER = "/etc/systemd/system"
_NAME = "50-rocksalt.conf"
_DROP_IN = f"""# Written by rocksalt; state.apply hardening.accounts undoes a change here.
[Service]
Environment={_FORCED}=1
"""
_OPENS, _ASKS = "a shell for everybody", "no shell without root's password"
_AUTOMATIC = re.compile(
    r"argv\[\]=[^;]*(?:\s(?:--autologin[= ]|-a\s)\s*(?P<user>\S+)|\slogin\s[^;]*-f\s)"
)


@dataclass(frozen=True)
class Reading:
    """Unit name -> its properties, as ``systemctl show`` prints them; ``problem`` says why there
    are none.
    """

    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problem: str = ""


def read(host: Host) -> Reading:
    """Asks systemd once for all units."""
    ran = host.run("systemctl", "show", *MODES, *_GETTYS, _DEBUG, "-p", _PROPERTIES)
    units = {unit["Id"]: unit for unit in unit_properties(ran.out) if "Id" in unit}
    if not set(MODES) <= set(units):
        reason = " ".join(ran.err.split()) or "it says nothing of emergency mode"
        return Reading(problem=f"systemctl show fails: {reason}")
    return Reading(units)


def expected(shell: bool) -> dict[str, str]:
    """What each mode shall want before it opens a shell."""
    return dict.fromkeys(MODES, _OPENS if shell else _ASKS)


def seen(reading: Reading, shell: bool) -> Seen:
    """What each mode wants. A program that is no sulogin is for a person to judge."""
    if reading.problem:
        return Seen(problem="error", reason=reading.problem)
    actual, why, strange = {}, [], False
    for name in MODES:
        unit = reading.units[name]
        if "sulogin" not in unit.get("ExecStart", ""):
            actual[name], strange = f"runs {_command(unit)}", True
            why.append(f"{name} runs {_command(unit)} instead of sulogin")
            continue
        actual[name] = _OPENS if _forced(unit) else _ASKS
        if _forced(unit) and not shell:
            why.append(f"{name} opens a root shell to whoever is at the console")
        if shell and not _forced(unit):
            why.append(f"{name} opens no shell, for root's password is locked")
    return Seen(actual, "; ".join(why), remedy="manual" if strange else "")


def _forced(unit: Mapping[str, str]) -> bool:
    words = dict(word.partition("=")[::2] for word in shlex.split(unit.get("Environment", "")))
    return words.get(_FORCED, "0").lower() in ("1", "yes", "y", "true", "t", "on")


def _command(unit: Mapping[str, str]) -> str:
    found = re.search(r"argv\[\]=(.*?) ;", unit.get("ExecStart", ""))
    return found.group(1) if found else "nothing"


def by_itself(reading: Reading) -> Seen:
    """The units that log somebody in without being asked."""
    if reading.problem:
        return Seen(problem="error", reason=reading.problem)
    found = []
    for name, unit in reading.units.items():
        automatic = _AUTOMATIC.search(unit.get("ExecStart", ""))
        if name == _DEBUG:
            on = unit.get("ActiveState") == "active" or unit.get("UnitFileState") == "enabled"
            found += [f"{name} keeps a root shell open on a console"] if on else []
        elif automatic and name not in MODES:
            found.append(f"{name} logs {automatic.group('user') or 'somebody'} in by itself")
    return Seen(found, "; ".join(found))


def fix(host: Host, shell: bool, ids: Sequence[str]) -> None:
    """Emergency and rescue mode as declared; what others said of it is put aside."""
    if EMERGENCY not in ids:
        return
    for name in MODES:
        if shell:
            host.write(_drop_in(name), _DROP_IN)
        else:
            host.remove(_drop_in(name))
    if not shell:
        _put_aside(host)
    systemctl(host, "daemon-reload")


def _put_aside(host: Host) -> None:
    for unit in read(host).units.values():
        for path in shlex.split(unit.get("DropInPaths", "")):
            ours = unit["Id"] in MODES and path.startswith("/etc/")
            if ours and _FORCED in (host.read(path) or ""):
                host.rename(path, path + ASIDE)


def _drop_in(unit: str) -> str:
    return f"{_FOLDER}/{unit}.d/{_NAME}"


def leftovers(host: Host) -> list[str]:
    """Our drop-ins that are on the host."""
    return [path for path in map(_drop_in, MODES) if host.read(path) is not None]


def clean(host: Host) -> None:
    """Takes them away."""
    for path in leftovers(host):
        host.remove(path)
    systemctl(host, "daemon-reload")
