"""Volumes of customers: what of each is not as declared, the end of a sentence by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from rocksalt.errors import RocksaltError
from rocksalt.host import Host
from rocksalt.luks.config import Volume
from rocksalt.luks.family.reading import Reading, customers
from rocksalt.luks.family.setup import Setup
from rocksalt.luks.volumes import mounting, states, wrapping
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import State

Wrong = dict[str, str]


class Customers:
    """The declared volumes of a host as they are."""

    def __init__(self, machine: Machine, setup: Setup, reading: Reading):
        self.machine = machine
        self.setup = setup
        self.reading = reading

    @property
    def host(self) -> Host:
        return self.machine.host

    @cached_property
    def looks(self) -> Mapping[str, State | str]:
        """How each volume is, or why that cannot be told."""
        found: dict[str, State | str] = {}
        for name, volume in self.setup.volumes.items():
            try:
                found[name] = states.state(self.machine, volume)
            except (RocksaltError, OSError) as error:
                found[name] = str(error)
        return found

    def unreadable(self) -> Wrong:
        """Volumes that could not be looked at."""
        looks = self.looks.items()
        return {name: f"cannot be looked at: {it}" for name, it in looks if isinstance(it, str)}

    def unseen(self) -> Wrong:
        """Those, and volumes of which there is no header that could be judged."""
        return self.unreadable() | {
            name: f"cannot be judged: {it.what}"
            for name, it in self.looks.items()
            if isinstance(it, State) and not it.made and it.condition != states.EMPTY
        }

    def _made(self) -> Iterator[tuple[Volume, State]]:
        """Those that are there; :meth:`made` tells of the others."""
        for name, look in self.looks.items():
            if isinstance(look, State) and look.made:
                yield self.setup.volumes[name], look

    def made(self) -> Wrong:
        """Volumes that are not on their devices."""
        found = {}
        for name, look in self.looks.items():
            if isinstance(look, str):
                continue
            if look.condition == states.EMPTY:
                found[name] = f"is not made yet: {self.setup.volumes[name].device} is empty"
            elif not look.made:
                found[name] = f"is not there: {look.what}"
        return found

    def strangers(self) -> Wrong:
        """Volumes in whose header is something that is not the customer's, or that have another
        one: whoever exchanged it may have the key of that.
        """
        other = {
            name: f"has no header that is its customer's: {look.what}"
            for name, look in self.looks.items()
            if isinstance(look, State) and look.condition == states.OTHER and look.header
        }
        return other | {
            volume.name: f"is not its customer's alone: {'; '.join(look.strangers)}"
            for volume, look in self._made()
            if look.strangers
        }

    def wrapped(self) -> Wrong:
        """Volumes whose key others can unwrap than those who are declared."""
        found = {}
        for volume, look in self._made():
            declared, there = {*volume.customer.fingerprints}, {*look.recipients}
            words = []
            if missing := len(declared - there):
                words.append(f"{missing} of {len(declared)} declared public keys cannot unwrap it")
            if more := len(there - declared):
                words.append(f"{more} that {'is' if more == 1 else 'are'} not declared can")
            words += look.undisclosed
            if not look.tokens:
                words = ["its header has no wrapped key"]
            if words:
                found[volume.name] = f"has a key to wrap anew: {', and '.join(words)}"
        return found

    def unsettled(self) -> Wrong:
        """Volumes with which something is half done."""
        return {
            name: f"is not settled: {look.pending}"
            for name, look in self.looks.items()
            if isinstance(look, State) and look.pending
        }

    def need_a_key(self) -> bool:
        """Whether only customers can finish what is half done."""
        pending = [it for it in self.looks.values() if isinstance(it, State) and it.pending]
        return bool(pending) and all(it.needs_key for it in pending)

    def closed(self) -> Wrong:
        """Volumes that a key service opens, and that are not open."""
        return {
            volume.name: "is closed, and a key service has its key"
            for volume, look in self._made()
            if volume.key_command and look.condition == states.CLOSED
        }

    def misplaced(self) -> Wrong:
        """Volumes that are not mounted as declared, and closed ones in whose place something is."""
        found = {}
        for volume, look in self._made():
            words = mounting.differences(self.machine, volume, look)
            if look.condition == states.CLOSED:
                words = [*self._open_folder(volume), *self._taken(volume)]
            if words:
                found[volume.name] = "; ".join(words)
        return found

    def _open_folder(self, volume: Volume) -> Iterator[str]:
        """Whether somebody else could put something there."""
        found = self.host.attributes(volume.mount, follow=False)
        if found and (found.owner != "root" or int(found.mode, 8) & 0o022):
            yield f"is closed, and others than root can write to {volume.mount} ({found.access})"

    def _taken(self, volume: Volume) -> Iterator[str]:
        """What is where a closed volume belongs, and would be hidden or lead elsewhere."""
        for words in mounting.obstacles(self.machine, volume):
            yield f"is closed, and cannot be mounted: {words}"

    def beyond_states(self) -> bool:
        """Whether all that is misplaced is what only a person can move away."""
        wrong = self.misplaced()
        closed = [it for it, look in self._made() if look.condition == states.CLOSED]
        return bool(wrong) and {*wrong} <= {it.name for it in closed if [*self._taken(it)]}

    def undeclared(self) -> list[str]:
        """Volumes of customers that nobody declares any more, by their devices."""
        devices, found = self.reading.devices, []
        declared = {
            it.number: volume
            for volume in self.setup.volumes.values()
            if (it := devices.find(volume.device))
        }
        for number, header in self.reading.headers.known.items():
            volume = declared.get(number)
            if not customers(header) or (volume and volume.name == header.label):
                continue
            names = sorted({it.customer for it in wrapping.tokens(header)}) or ["nobody"]
            found.append(
                f"{header.device} has the volume {header.label or 'without a name'} of "
                f"{', '.join(names)}, which is not declared here"
            )
        return found
