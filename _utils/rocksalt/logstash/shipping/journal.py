"""Reads the journal as journalctl tells it, from a cursor on, and sees what is missing in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from rocksalt.logstash.shipping import datasets, entries, journalctl, marks, places
from rocksalt.logstash.shipping.datasets import plain
from rocksalt.logstash.shipping.entries import PROGRAM
from rocksalt.logstash.shipping.events import SOURCE, Document, Maker, stamp
from rocksalt.logstash.shipping.journalctl import COMMAND, OMITTED, Follower, Unanswered
from rocksalt.logstash.shipping.marks import MARK
from rocksalt.logstash.shipping.mask import KEY_RECORDS
from rocksalt.logstash.shipping.places import Account, Cursor
from rocksalt.logstash.shipping.positions import CUT, DROPPED, GAPS
from rocksalt.logstash.shipping.steps import JOURNAL, Step

NAME = JOURNAL
MACHINE_ID = "/etc/machine-id"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FIELDS = (
    *("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "_UID"),
    *("_COMM", "_EXE", "_CMDLINE", "_SYSTEMD_UNIT", "_TRANSPORT", "_SOURCE_REALTIME_TIMESTAMP"),
    *("_STREAM_ID", MARK),
)
_LONGEST_MARK = 64
cursor = places.cursor


class Journal:
    """The journal as a source of steps. Of what was ``reached`` before nothing is passed over.
    Without a position it is read from ``begin`` on, which is told to ``begins`` when it is found:
    what was written before the first line arrived is sent also after the next boot.
    """

    def __init__(
        self,
        maker: Maker,
        wanted: Collection[str],
        command: Sequence[str] = COMMAND,
        reached: str = "",
        begin: str = "",
        begins: Callable[[str], None] = lambda place: None,
    ):
        self._maker, self._wanted, self._command = maker, frozenset(wanted), tuple(command)
        self.follower = Follower()
        self._last: Cursor | None = None
        self._position: str | None = None
        self._prepared = False
        self._first, self._account = True, Account()
        self._gaps = 0
        self._begin, self._begins = begin if cursor(begin) else "", begins
        self._keep = self._reached = cursor(reached)
        self._skip = 0
        self._newest: Cursor | None = None
        self._unanswered = ""
        self._then: list[str] = []

    def start(self, position: str | None, now: float) -> None:
        """Reads from a position on, or from the beginning."""
        self._keep = self._reached
        self._last = cursor(position) if position else None
        if position and not self._last:
            self._gaps, position, self._begin = self._gaps + 1, None, ""
        self._position, self._prepared = position, False
        self._account.start(self._last)
        self._again(now)

    def _again(self, now: float) -> None:
        """Reads on behind what was taken."""
        self.follower.stop()
        self._first, self._skip = True, 0
        if not self.follower.due(now):
            return
        try:
            self._prepare()
            where, self._then = self._where(self._position or self._begin)
        except Unanswered as error:
            self.follower.failed(str(error), now)
            return
        self._read(where, now)

    def _prepare(self) -> None:
        """What a connection has to know before it reads on. A private key may have begun before its
        position.
        """
        if self._prepared:
            return
        before: list[bytes] = []
        if self._position:
            fields = ("MESSAGE", *SOURCE)
            before = journalctl.before(self._command, fields, self._position, KEY_RECORDS)
        elif first := cursor(self._beginning()):
            self._last = first._replace(i=first.i - 1)
            self._account.start(self._last)
        self._maker.resume_journal(map(entries.parsed, reversed(before)))
        self._prepared = True

    def _beginning(self) -> str:
        """Where the journal begins of which nobody has any line: at first with the current boot."""
        if not self._begin:
            self._begin = journalctl.first(self._command, *self._boot())
            if self._begin:
                self._begins(self._begin)
        return self._begin

    def _read(self, where: list[str], now: float) -> None:
        fields = f"--output-fields={','.join(FIELDS)}"
        arguments = [fields, *_of_all_boots(), *where]
        self.follower.start(self._command, arguments, now, follow=not self._then)

    def _where(self, position: str) -> tuple[list[str], list[str]]:
        """What is to be read from a position on, and what after that. Where a clock went back at a
        boot, its entries are before those of the last one, so it is read by itself.
        """
        if not position or not self._last:
            return self._boot(), []
        behind, present = f"--cursor={position}", _present_boot()
        if own := _own_boot(self._last):
            return [behind, *own], []
        own = [f"_BOOT_ID={present}"]
        newest = self._ask(*own, "-n1") if present else []
        if not newest or newest[0].s == self._last.s:
            return [behind], []
        others = [f"_BOOT_ID={it}" for it in journalctl.boots(self._command) if it != present]
        return ([behind, *others], own) if others else (own, [])

    def fill(self, now: float) -> None:
        """Reads what is there; starts journalctl again if it has ended."""
        if self.follower.running:
            self.follower.fill(now)
        elif not self.follower.pending and self.follower.due(now):
            if self._then and not self.follower.problem(now):
                where, self._then = self._then, []
                self._read(where, now)
            else:
                self._again(now)

    def problem(self, now: float) -> str:
        """A sentence about what is wrong with journalctl, or empty."""
        return self.follower.problem(now) or self._unanswered

    def take(self, count: int, now: float) -> Iterator[Step]:
        """At most so many steps of what was read."""
        while count > 0 and self.follower.pending:
            entry = entries.parsed(self.follower.take())
            place = cursor(entry.get("__CURSOR", ""))
            if not place:
                continue
            missing = self._missing(place)
            if missing is None:
                self._again(now)
                return
            self._account.took(place)
            known = self._first and self._position and self._last
            if known and place.moment == known.moment:
                self._first, self._last = False, place
                continue
            self._first, self._last, self._position = False, place, entry["__CURSOR"]
            yield self._step(entry, place, missing)
            count -= 1

    def _step(self, entry: dict[str, Any], place: Cursor, counts: dict[str, int]) -> Step:
        kept = self._keep and place.until(self._keep)
        if not kept:
            self._reached = place
        old = self._skip > 0 and self._newest and place.until(self._newest)
        self._skip = max(self._skip - 1, 0)
        if old and not kept:
            counts[DROPPED] = 1
            return Step(NAME, entry["__CURSOR"], (), place.micros, counts)
        if OMITTED in entry:
            counts[CUT] = 1
        mark = plain(entry.get(MARK))[:_LONGEST_MARK] if entry.get("_UID") == "0" else ""
        probe = bool(mark) and entry.get("SYSLOG_IDENTIFIER") == PROGRAM
        if probe:
            lines = self._maker.of_own(datasets.PROBE, mark, *_probe(mark, place.micros))
        else:
            lines = self._maker.of_journal(entry, place.moment, None if mark else self._wanted)
        return Step(NAME, entry["__CURSOR"], tuple(lines), place.micros, counts, mark, probe)

    def _missing(self, place: Cursor) -> dict[str, int] | None:
        """What is missing before an entry; None if that has to be read once more."""
        found = self._account.missing(place, self._last, self._first)
        if found is not None and self._gaps:
            found[GAPS] = found.get(GAPS, 0) + self._gaps
            self._gaps = 0
        return found

    def limit(self, most: int) -> None:
        """Passes over the oldest entries where more wait than may, of those that are there now.
        Those that were on their way when a connection ended are sent, for nobody knows whether they
        arrived.
        """
        try:
            newest = self._ask(*_own_boot(self._last), "-n1")
        except Unanswered as error:
            self._unanswered = str(error)
            return
        waiting = newest[0].behind(self._last) if newest and self._last else 0
        self._skip, self._newest = max(waiting - most, 0), next(iter(newest), None)

    def _boot(self) -> list[str]:
        """What chooses the entries since the last boot. In a sandbox in a container the kernel
        tells another boot than the journal, so ``--boot`` would find none.
        """
        present = _present_boot()
        own = [f"_BOOT_ID={present}"]
        if present and self._ask(*own, "-n1"):
            return own
        return [f"_BOOT_ID={place.moment[0]}" for place in self._ask("-n1")]

    def _ask(self, *arguments: str) -> list[Cursor]:
        """The places that journalctl prints when it is called with arguments."""
        found = map(cursor, journalctl.ask(self._command, *arguments))
        return [it for it in found if it]

    def waiting(self, position: str | None) -> tuple[int | None, int]:
        """How many entries are behind a position, None if journalctl does not say it, and when the
        first of them was written, in microseconds since 1970; 0 where there is none. What another
        sequence has before counts as nothing.
        """
        try:
            found = self._waiting(position)
        except Unanswered as error:
            self._unanswered = str(error)
            return None, 0
        self._unanswered = ""
        return found

    def _waiting(self, position: str | None) -> tuple[int, int]:
        place = cursor(position or "")
        behind = place or cursor(self._beginning())
        own = _own_boot(behind)
        newest = self._ask(*own, "-n1")
        self._account.newest = newest[0] if newest else None
        if not newest or not behind or (place and newest[0].moment == place.moment):
            return 0, 0
        number = newest[0].behind(behind)
        if not place:
            return number + 1, behind.micros
        after = self._ask(f"--cursor={position}", *own, "-n2")
        return max(number, 1), next((it.micros for it in after if it.moment != place.moment), 0)


def _present_boot() -> str:
    """The boot as the kernel tells it, which the journal may not know; empty for none."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read().strip().replace("-", "")
    except (OSError, ValueError):
        return ""


def _own_boot(place: Cursor | None) -> list[str]:
    """What chooses the present boot where a place is in it, whatever its clock says."""
    present = _present_boot()
    return [f"_BOOT_ID={present}"] if place and place.moment[0] == present else []


def write_probe(mark: str) -> None:
    """Writes a line with a mark to the journal; OSError if that does not take it at once."""
    marks.write(mark, _probe(mark, 0)[0], PROGRAM, timeout=0)


def _probe(mark: str, micros: int) -> tuple[str, Document]:
    """The text of a marked line of our own, and what goes into its document."""
    event = {"category": ["host"], "type": ["info"]}
    extra = {"@timestamp": stamp(micros), "event": event, "rocksalt": {"mark": mark}}
    return f"{PROGRAM}: probe {mark}", extra


def _of_all_boots() -> list[str]:
    """What makes journalctl follow the entries of this host whenever they were made: ``--follow``
    alone passes over those of earlier boots, also behind a cursor.
    """
    try:
        with open(MACHINE_ID, encoding="ascii") as file:
            return ["--merge", f"_MACHINE_ID={file.read().strip()}"]
    except (OSError, ValueError):
        return ["--merge"]
