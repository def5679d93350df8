"""What each control of the family expects, and what was seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from rocksalt.errors import RocksaltError
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.luks.family import receiving
from rocksalt.luks.family.boot import ALONE, Boot
from rocksalt.luks.family.copying import Copying
from rocksalt.luks.family.customers import Customers, Wrong
from rocksalt.luks.family.disks import Disks
from rocksalt.luks.family.quality import Quality
from rocksalt.luks.family.reading import Reading, encrypts
from rocksalt.luks.family.setup import Setup, container
from rocksalt.luks.volumes.machine import Machine
from rocksalt.settings import Baseline

KEY_FILES, COPIES, MADE, SETTLED, OPENED, MOUNTED, RECEIVING = (
    *("LUKS-020", "LUKS-030", "LUKS-040", "LUKS-043", "LUKS-044", "LUKS-045", "LUKS-046"),
)
NOTHING = "no volumes of customers on this host"
_SHOWN = 4


class Luks:
    """The comparison for one host: settings in, expected and seen values out."""

    def __init__(self, baseline: Baseline, machine: Machine, now: dt.datetime):
        self.setup = Setup(baseline)
        self.machine = machine
        self.now = now

    @property
    def host(self) -> Host:
        return self.machine.host

    @cached_property
    def container(self) -> str:
        """Which container this host is; empty for none."""
        return container(self.host)

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.host, self.setup.settings["detached_headers"])

    @property
    def disks(self) -> Disks:
        return Disks(self.reading, self.setup.settings["exempt"])

    @property
    def quality(self) -> Quality:
        return Quality(self.reading, self.setup.settings)

    @property
    def boot(self) -> Boot:
        return Boot(self.reading, self.setup.settings)

    @property
    def copying(self) -> Copying:
        setup = self.setup
        volumes = list(setup.volumes.values())
        return Copying(self.reading, setup.settings, volumes, setup.recipients, self.now)

    @cached_property
    def customers(self) -> Customers:
        return Customers(self.machine, self.setup, self.reading)

    def packages(self) -> list[str]:
        """What this host needs to be looked at, and for its volumes. Starts no program and always
        has an answer: what is wrong is told by the checks, and by the problems of settings.
        """
        try:
            found = [] if self.container else self.setup.packages()
        except RocksaltError:
            found = []
        return found or (["cryptsetup-bin"] if encrypts(self.host) else [])

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        return {i: self._expected(i, expect) for i, (expect, _) in CHECKS.items()}

    def _expected(self, identifier: str, expect: Callable[[Luks], Any]) -> Any:
        try:
            return expect(self)
        except (RocksaltError, OSError):
            return None  # what is seen says why

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen. In a container there are no disks to look at, and what
        cannot be looked at is an error.
        """
        return {identifier: self._seen(identifier) for identifier in CHECKS}

    def _seen(self, identifier: str) -> Seen:
        try:
            if identifier in ABOUT_DISKS and self.container:
                why = f"this host is a container ({self.container}): the disks are those of its"
                return Seen(problem="skipped", reason=f"{why} host")
            return CHECKS[identifier][1](self)
        except (RocksaltError, OSError) as error:
            return Seen(problem="error", reason=str(error))


def some(found: Sequence[str]) -> str:
    """A list as a sentence can carry it."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


# One pair per control: expected(it), seen(it) -----------------------------------------------------

Check = tuple[Callable[[Luks], Any], Callable[[Luks], Seen]]
Blind = Callable[[Customers], Wrong]


def _nothing_wrong(look: Callable[[Luks], list[str]]) -> Check:
    """A control that holds where a look finds nothing."""

    def seen(it: Luks) -> Seen:
        found = look(it)
        return Seen(found, some(found))

    return lambda it: [], seen


def _but_exempt(look: Callable[[Disks], list[str]]) -> Check:
    """The same for disks; who reads what lies open also reads what was left out of that."""

    def seen(it: Luks) -> Seen:
        found = look(it.disks)
        exempt = it.disks.exemptions() if found else []
        return Seen(found, some(found) + (f"; exempt: {'; '.join(exempt)}" if exempt else ""))

    return lambda it: [], seen


def _of_headers(look: Callable[[Luks], list[str]]) -> Check:
    """The same for headers; one that cannot be read is no good one."""

    def seen(it: Luks) -> Seen:
        found, unreadable = look(it), it.reading.headers.unreadable
        if unreadable and not found:
            return Seen(problem="error", reason=some(unreadable))
        return Seen(found, some([*found, *unreadable]))

    return lambda it: [], seen


def _of_volumes(look: Callable[[Customers], Wrong], blind: Blind = Customers.unreadable) -> Check:
    """A control about the volumes of customers: by name, what is wrong with each. What ``blind``
    names could not be looked at, which is never right.
    """

    def expected(it: Luks) -> Any:
        return dict.fromkeys(it.setup.volumes, "as declared") or NOTHING

    def seen(it: Luks) -> Seen:
        if not it.setup.volumes:
            return Seen(NOTHING)
        found, unknown = look(it.customers), blind(it.customers)
        words = [f"{name} {words}" for name, words in {**unknown, **found}.items()]
        if unknown and not found:
            return Seen(problem="error", reason=some(words))
        found = {**unknown, **found}
        actual = {name: found.get(name, "as declared") for name in it.setup.volumes}
        return Seen(actual, some(words))

    return expected, seen


def _unless(check: Check, only_a_person: Callable[[Customers], bool]) -> Check:
    """The same control, which no state heals where a person, or a customer, has to."""
    expected, look = check

    def seen(it: Luks) -> Seen:
        alone = bool(it.setup.volumes) and only_a_person(it.customers)
        return replace(look(it), remedy="manual") if alone else look(it)

    return expected, seen


def _readers_expected(it: Luks) -> dict[str, str]:
    return {} if it.container else dict.fromkeys(it.boot.readers(), ALONE)


def _readers_seen(it: Luks) -> Seen:
    found = it.boot.readers()
    wrong = [path for path, readers in found.items() if readers != ALONE]
    loose = bool(wrong) and all(map(it.boot.loose, wrong))
    return Seen(found, remedy="manual" if loose else "")


def _copies_seen(it: Luks) -> Seen:
    found, unreadable = it.copying.missing(), it.reading.headers.unreadable
    if unreadable and not found:
        return Seen(problem="error", reason=some(unreadable))
    words = [f"{it.owned.header.device}: {it.words}" for it in found]
    careful = bool(found) and all(it.careful for it in found)
    return Seen(words, some(words), remedy="manual" if careful else "")


def _receiving_expected(it: Luks) -> Any:
    return receiving.expected(it.setup) if it.setup.volumes else _without_volumes()


def _receiving_seen(it: Luks) -> Seen:
    if it.setup.volumes:
        return Seen(receiving.seen(it.setup, it.host))
    return Seen({**_without_volumes(), "left over": receiving.left_over(it.setup, it.host)})


def _without_volumes() -> dict[str, Any]:
    return {"volumes": NOTHING, "left over": []}


CHECKS: dict[str, Check] = {
    "LUKS-001": _but_exempt(Disks.mounted),
    "LUKS-002": _but_exempt(Disks.swaps),
    "LUKS-003": _but_exempt(Disks.members),
    "LUKS-004": _but_exempt(Disks.temporary),
    "LUKS-010": _of_headers(lambda it: it.quality.of_headers(it.quality.versions)),
    "LUKS-011": _of_headers(lambda it: it.quality.of_headers(it.quality.ciphers)),
    "LUKS-012": _of_headers(lambda it: it.quality.of_headers(it.quality.costs)),
    "LUKS-013": _of_headers(lambda it: it.quality.of_headers(it.quality.sectors)),
    "LUKS-014": _of_headers(lambda it: it.quality.of_headers(it.quality.slots)),
    "LUKS-015": _of_headers(lambda it: it.quality.of_headers(it.quality.tokens)),
    "LUKS-016": _of_headers(lambda it: it.quality.mapped()),
    "LUKS-017": _of_headers(lambda it: it.quality.without_header()),
    KEY_FILES: (_readers_expected, _readers_seen),
    "LUKS-021": _nothing_wrong(lambda it: it.boot.exposed()),
    "LUKS-022": _nothing_wrong(lambda it: it.boot.discards()),
    "LUKS-023": _nothing_wrong(lambda it: it.boot.lines()),
    COPIES: (lambda it: [], _copies_seen),
    "LUKS-031": _of_headers(lambda it: it.copying.at_home()),
    MADE: _of_volumes(Customers.made),
    "LUKS-041": _of_volumes(Customers.strangers, Customers.unseen),
    "LUKS-042": _of_volumes(Customers.wrapped, Customers.unseen),
    SETTLED: _unless(_of_volumes(Customers.unsettled), Customers.need_a_key),
    OPENED: _of_volumes(Customers.closed),
    MOUNTED: _unless(_of_volumes(Customers.misplaced), Customers.beyond_states),
    RECEIVING: (_receiving_expected, _receiving_seen),
    "LUKS-047": _of_headers(lambda it: it.customers.undeclared()),
}
_ABOUT_VOLUMES = {MADE, "LUKS-041", "LUKS-042", SETTLED, OPENED, MOUNTED, RECEIVING}
ABOUT_DISKS = {*CHECKS} - _ABOUT_VOLUMES
"""What a container has not."""
