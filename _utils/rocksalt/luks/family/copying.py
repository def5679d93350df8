"""Whether every header has its second copy, and who is to be able to read that."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from rocksalt.backup.crypto import age
from rocksalt.luks import config, copies
from rocksalt.luks.config import Volume
from rocksalt.luks.copies import Copy
from rocksalt.luks.family.reading import Reading, customers
from rocksalt.luks.headers import Header
from rocksalt.luks.volumes import states


@dataclass(frozen=True)
class Owned:
    """A header, and whose it is: of a volume, or of the operator."""

    header: Header
    volume: Volume | None
    recipients: Sequence[str]


@dataclass(frozen=True)
class Missing:
    """A header without a copy as it should be: ``words`` say why, and ``careful`` whether a person
    has to look first, for the copy that is there may be the better one.
    """

    owned: Owned
    words: str
    careful: bool = False


class Copying:
    """Second copies of the headers of a host."""

    def __init__(
        self,
        reading: Reading,
        settings: config.Settings,
        volumes: Sequence[Volume],
        recipients: Sequence[str],
        now: dt.datetime,
    ):
        """``recipients`` are those of the operator's headers (age1...)."""
        self.reading = reading
        self.settings = settings
        self.volumes = volumes
        self.recipients = recipients
        self.now = now

    def owned(self) -> list[Owned]:
        """The headers that need a copy. Those of a customer who is not declared any more have no
        one to whom it could be encrypted.
        """
        devices = self.reading.devices
        by_number = {it.number: v for v in self.volumes if (it := devices.find(v.device))}
        found = []
        for number, header in self.reading.headers.known.items():
            volume = by_number.get(number)
            if volume and header.label == volume.name:
                found.append(Owned(header, volume, volume.customer.recipients))
            elif not customers(header):
                found.append(Owned(header, None, self.recipients))
        return found

    def missing(self) -> list[Missing]:
        """Headers that have no copy as it should be."""
        if not self.settings["header_backups"]:
            return []
        there = copies.copies(self.reading.host)
        looks = (self._wrong(it, there.get(it.header.uuid)) for it in self.owned())
        return [it for it in looks if it]

    def _wrong(self, owned: Owned, copy: Copy | None) -> Missing | None:
        """The first thing that is wrong with a copy."""
        if not owned.recipients:
            words = "nobody could read a copy of its header: name hardening:backup:recipients"
            return Missing(owned, words, careful=True)
        damage = _damage(owned)
        if copy is None:
            return Missing(owned, f"its header has no second copy{damage}", bool(damage))
        held = copies.material(self.reading.host, owned.header) if copy.material else {}
        if slots := copy.damaged(held):
            return Missing(owned, slots, careful=True)
        if copy.digest != owned.header.digest:
            words = f"its header is not as it was on {copy.time}, when it was copied{damage}"
            return Missing(owned, words, bool(damage))
        if sorted(copy.recipients) != sorted(map(age.fingerprint, owned.recipients)):
            words = "the copy of its header is not encrypted to those who are declared"
            return Missing(owned, words)
        days = (self.now - _time(copy.time)).days
        if days > self.settings["header_backup_days"]:
            return Missing(owned, f"the copy of its header is {days} days old")
        return None

    def at_home(self) -> list[str]:
        """Devices the copy of whose header is on this host alone."""
        if not self.settings["header_backups"]:
            return []
        there = copies.copies(self.reading.host)
        return [
            it.header.device
            for it in self.owned()
            if (copy := there.get(it.header.uuid)) and not copy.kept
        ]

    def make(self, owned: Owned) -> None:
        """Makes a copy; :class:`Refused` says why not."""
        header, volume = owned.header, owned.volume
        copies.back_up(
            self.reading.host,
            header.device,
            owned.recipients,
            self.now,
            volume=volume.name if volume else "",
            customer=volume.customer.name if volume else "",
            header=header.file if header.detached else "",
        )


def _damage(owned: Owned) -> str:
    """Why a header is none to be kept in place of an older one, the end of a sentence."""
    header = owned.header
    if not header.slots:
        return ", and has no key slot left"
    theirs = {*states.owners(header).values()} == {states.CUSTOMER}
    if owned.volume and not theirs and not header.reencrypting:
        return ", and has key slots that are not the customer's (LUKS-041)"
    return ""


def _time(text: str) -> dt.datetime:
    """A time of a copy; the beginning of time where it is none."""
    try:
        found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return dt.datetime.fromtimestamp(0, dt.timezone.utc)
    return found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)
