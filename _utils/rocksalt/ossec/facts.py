"""What the checks of the family know: the settings, and what was looked up on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from rocksalt import systemd
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.ossec import (
    AGENTD,
    CONF,
    DAEMONS,
    EXECD,
    KEYS,
    ORIGINALS,
    RESPONSES,
    STATUS,
    declared,
    enrolment,
    files,
    installed,
    repository,
    state,
)
from rocksalt.ossec.declared import Declared, rendered

UNITS = ("ossec-agent.target", "ossec-hids-agent.service", "ossec-hids.service", "ossec.service")
"""What starts all daemons, by whichever name the package has; the first one that is there."""


class Facts:
    """The settings of one host, and what was looked up there. ``now`` is in seconds since 1970."""

    def __init__(self, declared: Declared, host: Host, now: float):
        self.declared = declared
        self.settings: Mapping[str, Any] = declared.settings
        self.host = host
        self.now = now

    @cached_property
    def version(self) -> str:
        """The agent's version, empty where it is not installed."""
        return installed.version(self.host)

    @cached_property
    def package(self) -> str:
        return repository.package(self.declared)

    @cached_property
    def build(self) -> str:
        return installed.build(self.host, self.package)

    @cached_property
    def lost(self) -> bool:
        """Whether only a person can tell that the agent is as it was installed: our record of that
        is lost, and its package does not know all of it.
        """
        return installed.lost(self.host) and bool(installed.unknown(self.host, self.package))

    @cached_property
    def status(self) -> dict[str, Any]:
        """How the agent does now."""
        before = state.read(str(self.host.path(STATUS)))
        return state.look(self.declared.program(), self.now, before, self.host.root)

    @cached_property
    def daemons(self) -> dict[str, float | None]:
        return state.daemons(self.host.root)

    @property
    def needed(self) -> list[str]:
        """The daemons that have to run; the one for responses ends by itself where none are."""
        return [name for name in DAEMONS if name != EXECD or self.settings["active_response"]]

    @cached_property
    def unit(self) -> str:
        """What starts the agent; empty where nothing of systemd does."""
        known = systemd.units(self.host, UNITS)
        return next((name for name in UNITS if known.get(name, {}).get("FragmentPath")), "")

    @cached_property
    def key(self) -> enrolment.Key | None:
        return enrolment.key(self.host.read(KEYS))

    @property
    def agent(self) -> str:
        """The name by which the server knows this host; empty where it does not."""
        return self.key.name if self.key else ""

    @cached_property
    def note(self) -> enrolment.Note:
        return enrolment.note(self.host)

    def render(self) -> str:
        """The agent's configuration."""
        return rendered(self.declared, self.known())

    def known(self) -> declared.Facts:
        """What of the host decides about it."""
        return declared.facts(self.host, self.settings, installed.numbers(self.version))

    def own(self) -> dict[str, tuple[str, str]]:
        """Our program and what it knows of the settings."""
        place = self.declared.place
        return files.own(self.declared.program(), place.interpreter, place.masters)

    def scripts(self) -> list[str]:
        """The names of all scripts for responses, before which ours stand."""
        found = [*self.host.glob(f"{RESPONSES}/*"), *self.host.glob(f"{ORIGINALS}/*")]
        names = {path.rpartition("/")[2] for path in found if self.host.path(path).is_file()}
        return sorted(names - {*files.HARMLESS})

    @property
    def late(self) -> list[str]:
        """Daemons that started before what they read was written; for the one that speaks with the
        server that is the key, too.
        """
        return [name for name in self.needed if self._is_late(name)]

    def _is_late(self, name: str) -> bool:
        started = self.daemons[name]
        read = [self.host.attributes(path) for path in (CONF, KEYS)[: 1 + (name == AGENTD)]]
        return bool(started) and any(it.changed > started for it in read if it and started)

    @property
    def adoptable(self) -> bool:
        """Whether a declared server answers to the key that is there, which is the one that the
        daemon has read. Who may read it does not matter here, so the time of its content counts.
        """
        if not enrolment.adoptable(self.declared, self.key, self.status):
            return False
        return self.host.path(KEYS).stat().st_mtime <= (self.daemons[AGENTD] or 0)


Checks = dict[str, tuple[Callable[[Facts], Any], Callable[[Facts], Seen]]]
"""Control id -> what it expects, and what was seen."""


def listed(found: Sequence[object], why: str = "") -> Seen:
    """What should be an empty list."""
    return Seen([str(item) for item in found], why or some(found))


def nothing(it: Facts) -> list[str]:
    """What is expected of a list of faults."""
    return []


def files_seen(host: Host, wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Path -> how a file of ours is, with its access."""
    found = {}
    for path, (text, _) in wanted.items():
        attributes = host.attributes(path, follow=False)
        content = compared(host.read(path), text)
        found[path] = f"{content}, {attributes.access}" if attributes else content
    return found


def files_wanted(wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The same as it shall be."""
    return {path: f"{AS_RENDERED}, {access}" for path, (_, access) in wanted.items()}


def amiss(seen: Mapping[str, str], wanted: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """In words, which files of ours are not as they shall be."""
    for path, (_, access) in wanted.items():
        content, _, now = seen[path].partition(", ")
        if content != AS_RENDERED:
            yield f"{path} {content}"
        elif now != access:
            yield f"{path} is {now}, expected {access}"
