"""What systemd says of units."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from .asking import Answer

FOLDER = "/etc/systemd/system"
KEYS = (
    "Id,ActiveState,SubState,UnitFileState,FragmentPath,DropInPaths,ExecStart,User,"
    "ExecMainStartTimestamp,StateChangeTimestamp"
)
STAMP = "%a %Y-%m-%d %H:%M:%S.%f UTC"


def show(*names: str) -> str:
    """The command that shows units."""
    return f"systemctl show --timestamp=us+utc {' '.join(names)} -p {KEYS}"


def down(answer: Answer, names: Iterable[str]) -> list[str]:
    """Which of them do not run, or do not start at boot."""
    blocks = answer.blocks
    return [
        f"{name} is {unit.get('ActiveState')} and {unit.get('UnitFileState')}"
        for name in names
        for unit in [blocks.get(name, {})]
        if (unit.get("ActiveState"), unit.get("UnitFileState")) != ("active", "enabled")
    ]


def moved(answer: Answer, names: Iterable[str]) -> list[str]:
    """Which of them come from elsewhere than /etc/systemd/system, or are changed by a drop-in."""
    blocks = answer.blocks
    return [
        f"{name} is {unit.get('FragmentPath')} with {' '.join(drop_ins(unit)) or 'no drop-ins'}"
        for name in names
        for unit in [blocks.get(name, {})]
        if unit.get("FragmentPath") != f"{FOLDER}/{name}" or drop_ins(unit)
    ]


def drop_ins(unit: Mapping[str, str]) -> list[str]:
    """The drop-ins of a unit that are about it; those for all of a kind come with containers."""
    general = ("/service.d", "/timer.d", "/socket.d")
    return [
        path
        for path in unit.get("DropInPaths", "").split()
        if not path.rpartition("/")[0].endswith(general)
    ]


def command(answer: Answer, name: str) -> list[str]:
    """The words of the command that a service starts."""
    line = answer.blocks[name]["ExecStart"]
    return next(it for it in line.split(" ; ") if it.startswith("argv[]="))[7:].split()


def started(answer: Answer, name: str) -> float:
    """When a service was started, in seconds."""
    stamp = answer.blocks[name]["ExecMainStartTimestamp"]
    return dt.datetime.strptime(stamp, STAMP).replace(tzinfo=dt.timezone.utc).timestamp()
