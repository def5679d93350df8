"""What there is of a volume now: read, never changed, and without a key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from rocksalt.blocks import Device, Mount
from rocksalt.errors import Refused
from rocksalt.luks import headers
from rocksalt.luks.config import Volume
from rocksalt.luks.headers import Header
from rocksalt.luks.volumes import formatting, journal, layers, memory, wrapping
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.wrapping import Token

SUBSYSTEM, FRESH = "rocksalt", "rocksalt:new"
"""What the header calls itself, and what before there was a file system."""
MISSING, EMPTY, OTHER, BEGUN, CLOSED, OPEN = (
    "missing", "empty", "other", "begun", "closed", "open",
)  # fmt: skip
CUSTOMER, CHANGED, UNKNOWN = "customer", "changed", "unknown"


@dataclass(frozen=True)
class State:
    """``condition``: missing (no such device), empty (it may be formatted), other (``what`` says
    what is there instead), begun (its header was written in part: settle), closed or open.

    ``slots``: whose each key slot is: the customer's, changed since its token was made, or unknown.
    ``strangers``: a sentence for everything in the header that is not the customer's.
    ``tokens``: those of ours that name a slot. ``pending``: what is half done, a sentence;
    ``needs_key`` whether only the customer can finish that. ``mapping`` and ``mounts`` while it is
    open. ``device`` is where its stable name leads.
    """

    condition: str
    what: str = ""
    device: str = ""
    header: Header | None = None
    slots: Mapping[int, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    tokens: tuple[Token, ...] = ()
    pending: str = ""
    needs_key: bool = False
    mapping: Device | None = None
    mounts: tuple[Mount, ...] = ()

    @property
    def made(self) -> bool:
        """Whether the volume is there."""
        return self.condition in (CLOSED, OPEN)

    @property
    def uuid(self) -> str:
        """Of the header, empty without one."""
        return self.header.uuid if self.header else ""

    @property
    def anew(self) -> bool:
        """Whether everything is being encrypted anew."""
        return self.header is not None and self.header.reencrypting

    @property
    def fresh(self) -> bool:
        """Whether it has no file system yet, for it was never opened."""
        return self.header is not None and self.header.subsystem == FRESH

    @property
    def recipients(self) -> list[str]:
        """The fingerprints of all who can read a key of the volume, sorted."""
        return sorted({name for token in self.tokens for name in token.recipients})

    @property
    def wrapped(self) -> bytes | None:
        """The newest wrapped key, an age file."""
        newest = max(self.tokens, key=lambda token: token.created, default=None)
        return newest.wrapped if newest else None

    @property
    def readers(self) -> int | None:
        """How many can read the newest wrapped key, whatever its token says; None for nobody."""
        return wrapping.readers(self.wrapped) if self.wrapped is not None else None

    @property
    def undisclosed(self) -> tuple[str, ...]:
        """A sentence for each wrapped key that others can read than its token says."""
        return tuple(filter(None, map(wrapping.undisclosed, self.tokens)))


def state(machine: Machine, volume: Volume) -> State:
    """How it is; :class:`Refused` where that cannot be told, such as with a damaged header."""
    entry = journal.read(machine, volume.name)
    path = machine.path(volume.device)
    if not path.exists():
        return State(MISSING, f"{volume.device} does not exist")
    device = os.path.realpath(path)
    if isinstance(entry, journal.Creation):
        pending = f"the creation of the volume {volume.name} was interrupted"
        return State(BEGUN, pending, device, pending=pending)
    try:
        header = headers.read(machine.host, volume.device)
    except Refused as error:
        if entry is None:
            raise
        return State(BEGUN, str(error), device, pending=str(error))
    made = memory.read(machine, volume.name)
    if header is None:
        return _without(machine, volume, device, made)
    wrong = foreign(volume, header) or _exchanged(volume, header, made)
    if wrong:
        return State(OTHER, f"{volume.device} {wrong}", device, header)
    return _made(machine, volume, device, header, entry)


def _without(machine: Machine, volume: Volume, device: str, made: memory.Made | None) -> State:
    if made:
        what = f"{volume.device} has no header any more; {_known(volume, made)}"
        return State(OTHER, what, device)
    obstacles = formatting.obstacles(machine, volume)
    if obstacles:
        return State(OTHER, "; ".join(obstacles), device)
    return State(EMPTY, device=device)


def _known(volume: Volume, made: memory.Made) -> str:
    """What is remembered of a volume that is not there, and what to do."""
    return (
        f"the volume {volume.name} was made on {made.device} with the header {made.uuid}: restore"
        f" that from its copy, or forget it if the data are to go (luks.forget {volume.name})"
    )


def _exchanged(volume: Volume, header: Header, made: memory.Made | None) -> str:
    """What is wrong with a header that may look like the volume's, the end of a sentence."""
    if made is None or made.uuid == header.uuid:
        return ""
    return f"has another header ({header.uuid}); {_known(volume, made)}"


def foreign(volume: Volume, header: Header) -> str:
    """What is wrong with a header that is not the volume's, the end of a sentence."""
    if header.version != 2 or header.subsystem not in (SUBSYSTEM, FRESH):
        return "has a header of LUKS that is no volume's of a customer"
    if header.label != volume.name:
        return f"is the volume {header.label or 'without a name'}, not {volume.name}"
    for token in wrapping.tokens(header):
        if token.customer != volume.customer.name or token.volume != volume.name:
            return (
                f"is the volume {token.volume} of the customer {token.customer}, not of"
                f" {volume.customer.name}"
            )
    return ""


def _made(
    machine: Machine, volume: Volume, device: str, header: Header, entry: journal.Entry | None
) -> State:
    pending, needs_key = _pending(volume, header, entry)
    found = State(
        condition=CLOSED,
        device=device,
        header=header,
        slots=owners(header),
        strangers=tuple(_strangers(header, entry)),
        tokens=tuple(token for token in wrapping.tokens(header) if token.slots),
        pending=pending,
        needs_key=needs_key,
    )
    return look_again(machine, volume, found)


def look_again(machine: Machine, volume: Volume, found: State) -> State:
    """The same with what is open and mounted now; the header is not read again."""
    mapping = mapped(machine, volume, found.header)
    mounts = mounts_of(machine, mapping) if mapping else ()
    found = replace(found, mapping=mapping, mounts=mounts)
    still = layers.still(machine, volume, mapping)
    if still:
        return replace(found, condition=OPEN, pending=still, needs_key=True)
    return replace(found, condition=OPEN if mapping else CLOSED)


def owners(header: Header) -> dict[int, str]:
    """Whose each key slot is: the customer's if exactly one token of ours names it, and it alone,
    and it is as it was then.
    """
    found = {}
    for number, slot in header.slots.items():
        naming = [token for token in wrapping.tokens(header) if number in token.slots]
        if not naming:
            found[number] = UNKNOWN
        elif len(naming) == 1 and naming[0].slots == (number,) and naming[0].digest == slot.digest:
            found[number] = CUSTOMER
        else:
            found[number] = CHANGED
    return found


def _strangers(header: Header, entry: journal.Entry | None) -> Iterator[str]:
    """What is in the header beside the customer's; not what is on its way there."""
    known = wrapping.tokens(header)
    ours = {token.number for token in known}
    coming = {entry.new} if isinstance(entry, journal.Rotation) else set()
    anew = header.reencrypting or isinstance(entry, journal.Reencryption)
    found = owners(header)
    if not anew and CUSTOMER not in found.values():
        yield "no key slot has a key of the customer's any more"
    for number, owner in found.items():
        if owner == UNKNOWN and number not in coming and header.slots[number].kind != "reencrypt":
            yield f"key slot {number} has a key that is not the customer's"
        if owner == CHANGED and not anew:
            yield f"key slot {number} was changed after the customer's key was put there"
    for number, token in header.tokens.items():
        if number not in ours:
            yield f"token {number} is of the type {token.get('type', 'unknown')}"
    yield from filter(None, map(wrapping.undisclosed, known))
    if not isinstance(entry, journal.Rotation):
        for it in known:
            if not it.slots:
                yield f"token {it.number} has the wrapped key of a slot that is gone"
    if not anew:
        yield from _further(found, entry)


def _further(found: Mapping[int, str], entry: journal.Entry | None) -> Iterator[str]:
    """A second slot of the customer's, except while a rotation is under way. A token proves
    nothing: whoever adds a key can copy it.
    """
    slots = [number for number, owner in found.items() if owner == CUSTOMER]
    if isinstance(entry, journal.Rotation):
        under_way = {entry.new, *entry.old}
        for number in slots:
            if number not in under_way:
                yield f"key slot {number} has a token like the customer's, and was not there before"
    elif len(slots) > 1:
        numbers = ", ".join(map(str, slots))
        yield f"key slots {numbers} pass for the customer's, who has one: a rotation removes them"


def _pending(volume: Volume, header: Header, entry: journal.Entry | None) -> tuple[str, bool]:
    """What is half done, and whether only the customer can finish it."""
    if header.reencrypting or isinstance(entry, journal.Reencryption):
        begun = header.reencrypting or CUSTOMER not in owners(header).values()
        return f"the volume {volume.name} is encrypted anew in part", begun
    if isinstance(entry, journal.FirstOpening):
        fresh = header.subsystem == FRESH  # otherwise, only the journal was left
        return f"the file system of the volume {volume.name} was made in part", fresh
    if isinstance(entry, journal.Rotation):
        return f"the rotation of the key of the volume {volume.name} was interrupted", False
    return "", False


def is_open(machine: Machine, volume: Volume) -> bool:
    """Whether cryptsetup has it open, mounted or not."""
    return mapped(machine, volume) is not None


def mapped(machine: Machine, volume: Volume, header: Header | None = None) -> Device | None:
    """The device of the open volume; :class:`Refused` where something else has its name. Without a
    ``header``, whatever cryptsetup opened under this name.
    """
    tree = machine.tree()
    for device in tree.by_number.values():
        if device.dm_name != volume.name:
            continue
        number = header.uuid.replace("-", "") if header else ""
        start = f"CRYPT-LUKS2-{number}"
        if not device.dm_uuid.startswith(start) or not device.dm_uuid.endswith(f"-{volume.name}"):
            raise Refused(f"{volume.mapping} exists, and is not the volume {volume.name}")
        if header and _number(machine, volume) not in layers.below(tree, device):
            raise Refused(f"{volume.mapping} is open from another disk than {volume.device}")
        return device
    return None


def mounts_of(machine: Machine, mapping: Device) -> tuple[Mount, ...]:
    """Where it is mounted, in the order of mounting."""
    return tuple(it for it in machine.tree().mounts if it.number == mapping.number)


def _number(machine: Machine, volume: Volume) -> str:
    return machine.disks.number(os.stat(machine.path(volume.device)))
