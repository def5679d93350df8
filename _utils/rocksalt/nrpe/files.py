"""Files: the configuration, what others put beside it, keys, and plugins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from rocksalt import nrpe, permissions
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.nrpe import commands, config, controls, reading
from rocksalt.nrpe.facts import ACCESS, CONFIG_FILE, PROGRAM_FILE, Checks, Facts

_GROUP = f"in the group {nrpe.USER}"
_LISTED = " and more by an ACL"
_LINKS = 40
"""So many links one behind the other the kernel follows."""


def _config_expected(it: Facts) -> dict[str, str]:
    return {nrpe.CONFIG: f"{AS_RENDERED}, {CONFIG_FILE}"}


def _config_seen(it: Facts) -> Seen:
    text, found = it.reading.texts[nrpe.CONFIG], it.reading.attributes[nrpe.CONFIG]
    wanted = it.render()[nrpe.CONFIG]
    state = compared(text, wanted)
    actual = {nrpe.CONFIG: f"{state}, {found.access}" if found else None}
    if text is None or text == wanted:
        return Seen(actual)
    ours, theirs = set(config.parse(wanted)), set(config.parse(text))
    lines = [f"lacks {_option(it)}" for it in sorted(ours - theirs)]
    lines += [f"has {_option(it)}" for it in sorted(theirs - ours)]
    return Seen(actual, f"{nrpe.CONFIG} {some(lines) or 'was edited'}")


def _option(pair: tuple[str, str]) -> str:
    """A line as a report may show it: arguments of commands can be anything."""
    return pair[0] if "command[" in pair[0] else "=".join(pair)


def _alone_seen(it: Facts) -> Seen:
    found = [*it.reading.foreign, *it.reading.drop_ins]
    why = [
        f"{path} is not the baseline's, and NRPE would not read it" for path in it.reading.foreign
    ]
    why += [f"{path} changes the unit" for path in it.reading.drop_ins]
    return Seen(found, some(why))


def _closed_seen(it: Facts) -> Seen:
    text = it.reading.texts[nrpe.CONFIG] or ""
    if others := config.others(text):
        return Seen(problem="error", reason=f"{nrpe.CONFIG} has NRPE read {some(others)} as well")
    options = config.effective(text)
    actual = {key: options.get(key, "0") for key in config.CLOSED}
    return Seen(actual)


def _private_expected(it: Facts) -> dict[str, str]:
    found = {path: rights for path, rights in ACCESS.items() if it.reading.attributes[path]}
    if _asked(it):
        found[nrpe.NEXT_KEY] = "root:root 0600"
    return {**found, _GROUP: "nobody"}


def _asked(it: Facts) -> bool:
    return it.reading.attributes[nrpe.NEXT_KEY] is not None


def _private_seen(it: Facts) -> Seen:
    wanted = _private_expected(it)
    found = {path: it.reading.attributes[path] for path in wanted if path != _GROUP}
    actual = {
        path: f"{attributes.access}{_LISTED if permissions.acl(it.host, path) else ''}"
        for path, attributes in found.items()
        if attributes
    }
    why = [f"{path} is {have}, expected {wanted[path]}" for path, have in actual.items()
           if have != wanted[path]]  # fmt: skip
    others = reading.sharing(it.host) if it.reading.attributes[nrpe.KEY] else []
    people = [f"{', '.join(others)} can read the key, by the group {nrpe.USER}"] if others else []
    actual[_GROUP] = ", ".join(others) or "nobody"
    return Seen(actual, some([*why, *people]), remedy="manual" if people and not why else "")


def _ours_expected(it: Facts) -> dict[str, str]:
    return dict.fromkeys(it.own_plugins, f"{AS_RENDERED}, {PROGRAM_FILE}")


def _ours_seen(it: Facts) -> Seen:
    actual: dict[str, str | None] = {}
    for path, text in it.own_plugins.items():
        found = it.host.attributes(path, follow=False)
        state = compared(it.host.read(path), text)
        actual[path] = f"{state}, {found.access}" if found else None
    why = [f"{path} {have or 'does not exist'}" for path, have in actual.items()
           if have != f"{AS_RENDERED}, {PROGRAM_FILE}"]  # fmt: skip
    return Seen(actual, some(why))


def missing_plugins(it: Facts) -> list[str]:
    """Plugins that do not exist, other than ours, of commands that NRPE has not yet: one that has
    gone since is drift, and no reason to leave everything else as it is.
    """
    text = it.host.read(nrpe.CONFIG) or ""
    old = config.effective(text) if text.startswith(config.HEADER) else {}
    lines = it.setup.commands
    found = {
        commands.plugin(described)
        for name, described in it.setup.settings["commands"].items()
        if old.get(f"command[{name}]") != lines[name]
    }
    others = sorted(found - {*it.own_plugins})
    return [path for path in others if it.host.attributes(path) is None]


def _others_seen(it: Facts) -> Seen:
    wrong = {}
    for path in it.setup.plugins:
        if path not in it.own_plugins and (fault := _fault(it.host, path)):
            wrong[path] = fault
    return Seen(wrong, some([f"{path} {fault}" for path, fault in wrong.items()]))


def _fault(host: Host, path: str) -> str:
    """Why a plugin cannot be trusted, or be run."""
    found = host.attributes(path)
    if found is None:
        return "does not exist"
    for place in dict.fromkeys(_leading(host, path)):
        at = host.attributes(place)
        if at and (at.owner != "root" or int(at.mode, 8) & 0o022):
            return f"can be changed by others than root: {place} is {at.access}"
    if not int(found.mode, 8) & 0o001:
        return f"cannot be run by {nrpe.USER}: it is {found.access}"
    return ""


def _leading(host: Host, path: str) -> Iterator[str]:
    """A file, the folders that it is in, and the same of what it is a link to."""
    whole = str(host.path(path).resolve())[len(host.root.rstrip("/")) :]
    for it in (*_links(host, path), whole):
        yield it
        yield from map(str, PurePosixPath(it).parents)


def _links(host: Host, path: str) -> Iterator[str]:
    for _ in range(_LINKS):
        yield path
        target = host.path(path)
        if not target.is_symlink():
            return
        path = os.path.normpath(PurePosixPath(path).parent / os.readlink(target))


CHECKS: Checks = {
    controls.CONFIG: (_config_expected, _config_seen),
    controls.ALONE: (lambda it: [], _alone_seen),
    controls.CLOSED: (lambda it: dict(config.CLOSED), _closed_seen),
    controls.PRIVATE: (_private_expected, _private_seen),
    controls.OURS: (_ours_expected, _ours_seen),
    controls.OTHERS: (lambda it: {}, _others_seen),
}
