"""What customers ask for, each about volumes of their own; root asks for it about any volume."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rocksalt.errors import Refused
from rocksalt.luks import config, copies
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.handover import receiving
from rocksalt.luks.keys import Key
from rocksalt.luks.volumes import opening, rotating, states
from rocksalt.luks.volumes.machine import Machine

LONGEST = 2048
"""Bytes of a request: a command, the name of a volume, and fingerprints of as many recipients as a
header has room for.
"""
_REQUEST = re.compile(r"([a-z]{1,16})(?: ([a-z0-9][a-z0-9-]{0,31})((?: [0-9a-f]{64})*))?")


@dataclass(frozen=True)
class Answer:
    """What is asked for (``out``), and what there is to say about it, a line each."""

    out: bytes = b""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """One request about one volume, with all that it takes. ``recipients`` are the fingerprints of
    those who shall read a new key, if the request names any.
    """

    machine: Machine
    settings: config.Settings
    volume: config.Volume
    now: dt.datetime
    hand_over: Callable[[], bytearray]
    recipients: tuple[str, ...] = ()

    def key(self) -> Key:
        """The key that is handed over; nothing is read before somebody needs it."""
        return receiving.key(self.hand_over())

    @property
    def strength(self) -> Strength:
        return Strength.of(self.settings)

    def copied(self) -> list[str]:
        """Copies the header that was changed; what there is to say of that."""
        return copies.renewed(self.machine.host, self.settings, self.volume, self.now)


class Command(NamedTuple):
    """``run`` carries it out; ``words`` say what for. ``replaces`` the key: the request may name
    recipients.
    """

    run: Callable[[Task], Answer]
    words: str
    needs_key: bool = False
    replaces: bool = False


@dataclass(frozen=True)
class Asked:
    """A request that is well-formed: ``volume`` is empty for ``list`` alone."""

    name: str
    volume: str
    recipients: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join((self.name, self.volume, *self.recipients)).rstrip()

    @property
    def needs_key(self) -> bool:
        return self.name in COMMANDS and COMMANDS[self.name].needs_key


def parsed(text: str) -> Asked:
    """The request in a line; :class:`Refused` says what can be asked for, and repeats nothing of
    what somebody else wrote.
    """
    match = _REQUEST.fullmatch(text) if len(text) <= LONGEST else None
    name, volume, named = match.groups(default="") if match else ("", "", "")
    command = COMMANDS.get(name)
    if command and volume and (command.replaces or not named):
        return Asked(name, volume, tuple(named.split()))
    if name == LIST and not volume:
        return Asked(name, volume)
    known = [
        LIST,
        *(f"{it} VOLUME{' [FINGERPRINT ...]' * COMMANDS[it].replaces}" for it in COMMANDS),
    ]
    raise Refused(f"ask for one of these: {', '.join(known)}")


def carry_out(
    machine: Machine,
    settings: config.Settings,
    own: Mapping[str, config.Volume],
    asked: Asked,
    hand_over: Callable[[], bytearray],
    now: dt.datetime,
) -> Answer:
    """Answers a request about the volumes in ``own``, and no others. ``hand_over`` gives what is
    handed over, and is called for commands that need a key.
    """
    if asked.name == LIST:
        return Answer(_listed(machine, own))
    volume = own.get(asked.volume)
    if volume is None:
        names = ", ".join(sorted(own)) or "none"
        raise Refused(f"you have no volume of that name on this host; yours are: {names}")
    task = Task(machine, settings, volume, now, hand_over, asked.recipients)
    return COMMANDS[asked.name].run(task)


def _listed(machine: Machine, own: Mapping[str, config.Volume]) -> bytes:
    """A line for each volume: name, condition, and where it is mounted or would be."""
    rows = [(name, _condition(machine, own[name]), own[name].mount) for name in sorted(own)]
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def _condition(machine: Machine, volume: config.Volume) -> str:
    """One that cannot be looked at hides no other one."""
    try:
        return states.state(machine, volume).condition
    except Refused:
        return "unknown"


def _status(task: Task) -> Answer:
    found = states.state(task.machine, task.volume)
    told = {
        "volume": task.volume.name,
        "customer": task.volume.customer.name,
        "device": task.volume.device,
        "condition": found.condition,
        "what": found.what,
        "uuid": found.uuid,
        "mounted": [mount.path for mount in found.mounts],
        "recipients": found.recipients,
        "readers": found.readers,
        "key_slots": {str(number): owner for number, owner in found.slots.items()},
        "strangers": list(found.strangers),
        "pending": found.pending,
    }
    return Answer((json.dumps(told, indent=1, sort_keys=True) + "\n").encode())


def _wrapped(task: Task) -> Answer:
    wrapped = states.state(task.machine, task.volume).wrapped
    if wrapped is None:
        raise Refused(f"{task.volume.device} has no wrapped key: status {task.volume.name}")
    return Answer(wrapped)


def _open(task: Task) -> Answer:
    with task.key() as key:
        done = opening.open_volume(task.machine, task.volume, key)
    return Answer(notes=[*done, *task.copied()])


def _close(task: Task) -> Answer:
    return Answer(notes=opening.close_volume(task.machine, task.volume))


def _rotate(task: Task) -> Answer:
    return _rotated(task, remove_strangers=False)


def _expel(task: Task) -> Answer:
    return _rotated(task, remove_strangers=True)


def _rotated(task: Task, remove_strangers: bool) -> Answer:
    with task.key() as key:
        done = rotating.rotate(
            task.machine, task.volume, key, task.now, task.strength, remove_strangers,
            task.recipients,
        )  # fmt: skip
    return Answer(done.wrapped, [*done.notes, *task.copied()])


def _reencrypt(task: Task) -> Answer:
    with task.key() as key:
        done = rotating.reencrypt(task.machine, task.volume, key, task.strength)
    return Answer(notes=[*done, *task.copied()])


def _header(task: Task) -> Answer:
    """A copy of the header as it is now."""
    host = task.machine.host
    return Answer(copies.content(host, copies.of_volume(host, task.volume, task.now).uuid))


LIST = "list"
COMMANDS: dict[str, Command] = {
    "status": Command(_status, "what is known of a volume, as JSON"),
    "wrapped": Command(_wrapped, "its key, encrypted to its customer (a file of age)"),
    "open": Command(_open, "open and mount it; the key is read from standard input", True),
    "close": Command(_close, "unmount and close it"),
    "rotate": Command(_rotate, "give it a new key, and print that encrypted", True, True),
    "expel": Command(_expel, "rotate, and remove all keys that are not the customer's", True, True),
    "reencrypt": Command(_reencrypt, "encrypt all of it anew, after a key was lost", True),
    "header": Command(_header, "a copy of its header, encrypted to its customer"),
}
