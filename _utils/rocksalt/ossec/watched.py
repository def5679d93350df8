"""Which files a configuration watches, with what the server adds to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.ossec import CONF, SHARED, conf
from rocksalt.ossec.conf import Entry, Section

AGENT_CONF = f"{SHARED}/agent.conf"
CRITICAL = (
    *("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d"),
    *("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", "/root/.ssh/authorized_keys"),
    *("/etc/pam.d", "/etc/security", "/etc/login.defs", "/etc/crontab", "/etc/cron.d"),
    *("/etc/systemd/system", "/etc/profile", "/etc/ld.so.preload", "/etc/ld.so.conf.d"),
    *("/etc/hosts", "/etc/hosts.allow", "/etc/hosts.deny", "/etc/apt/sources.list.d"),
    *("/etc/salt/minion", "/etc/salt/minion.d", "/etc/rocksalt", "/boot"),
    *("/usr/bin/sudo", "/usr/bin/passwd", "/usr/bin/ssh", "/usr/sbin/sshd"),
)
"""What decides over who gets in and what runs as root."""
_HARMLESS = {
    "syscheck": ("directories", "nodiff", "alert_new_files"),
    "localfile": (
        *("location", "command", "log_format", "alias", "query", "frequency"),
        "only-future-events",
    ),
}
"""What only adds to what is watched. Commands of the server are not run, by OSS-015."""
_AS_IT_IS = (("disabled", "no"), ("scan_on_start", "yes"))


def uncovered(sections: Iterable[Section], host: Host) -> list[str]:
    """Those of the critical files that are there and that nobody watches, with the reason."""
    parts = [section for section in sections if section.name == "syscheck"]
    directories = [entry for part in parts for entry in part.all("directories")]
    ignored = [entry for part in parts for entry in part.all("ignore")]
    found = []
    for path in CRITICAL:
        if not host.path(path).exists():
            continue
        if not any(_watches(entry, path) for entry in directories):
            found.append(f"{path} is in no watched folder")
        elif hiding := [str(entry) for entry in ignored if _ignores(entry, path, host)]:
            found.append(f"{path} is ignored by {hiding[0]!r}")
    return found


def _watches(entry: Entry, path: str) -> bool:
    """Whether a line has everything at a path watched; a pattern that restricts it may leave out
    anything.
    """
    attributes = entry.attributes
    sums = [attributes.get(key) for key in ("check_all", "check_sum", "check_sha1sum")]
    if "restrict" in attributes or "yes" not in sums:
        return False
    for folder in (part.strip().rstrip("/") for part in entry.text.split(",")):
        inner = path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""
        if path == (folder or "/") or (inner and not ("no_recurse" in attributes and "/" in inner)):
            return True
    return False


def _ignores(entry: Entry, path: str, host: Host) -> bool:
    """Whether a line has a path, or something below it, passed over."""
    folder = f"{path}/"
    below = [name for name in host.glob(f"{folder}**") if host.path(path).is_dir()]
    if any(_matches(entry, name) for name in (path, folder, *below)):
        return True
    beginnings = [entry.text]
    if entry.attributes.get("type") == "sregex":
        beginnings = [part[1:] for part in entry.text.split("|") if part.startswith("^")]
    inner = [text.strip().lower().startswith(folder) for text in beginnings]
    return host.path(path).is_dir() and any(inner)


def _matches(entry: Entry, path: str) -> bool:
    name = path.lower()
    if entry.attributes.get("type") != "sregex":
        return name.startswith(entry.text.strip().lower())
    return any(_pattern(pattern, name) for pattern in entry.text.lower().split("|"))


def _pattern(pattern: str, name: str) -> bool:
    """OSSEC's simple patterns: a piece of text, at the beginning or the end where they say so. One
    that says what is not meant hides anything.
    """
    if pattern.startswith("!"):
        return True
    bare = pattern.removeprefix("^").removesuffix("$")
    if pattern.startswith("^") and pattern.endswith("$"):
        return name == bare
    if pattern.startswith("^"):
        return name.startswith(bare)
    return name.endswith(bare) if pattern.endswith("$") else bare in name


def handed_out(text: str | None, agent: str = "") -> list[str]:
    """In words, what the server's ``agent.conf`` takes away from what this host watches. Raises
    :class:`Refused` where it cannot be judged.
    """
    return [words for section in _shared(text, agent) for words in _weaker(section)]


def prefilters(text: str | None, agent: str = "") -> list[str]:
    """The commands in ``agent.conf`` that the scan would run as root, for every file."""
    sections = _shared(text, agent)
    return [entry.text for section in sections for entry in section.all("prefilter_cmd")]


def _shared(text: str | None, agent: str) -> list[Section]:
    """What the server hands out for the agent of this name."""
    try:
        found = conf.blocks(text or "")
    except Refused as error:
        raise Refused(f"{AGENT_CONF} cannot be judged: {error}") from None
    return [section for attributes, part in found if _meant(attributes, agent) for section in part]


def _meant(attributes: Mapping[str, str], agent: str) -> bool:
    """Whether a block may be for this host; which profile it has does not matter, for there is no
    harm in what nobody reads.
    """
    here = {"os": f"{' '.join(os.uname())} - OSSEC HIDS", "name": agent}
    return all(
        any(_pattern(pattern, value.lower()) for pattern in attributes[key].lower().split("|"))
        for key, value in here.items()
        if value and key in attributes
    )


def _weaker(section: Section) -> Iterator[str]:
    for entry in section.entries:
        harmless = entry.tag in _HARMLESS.get(section.name, ())
        if harmless or (entry.tag, entry.text) in _AS_IT_IS or entry.tag == "prefilter_cmd":
            continue
        if entry.tag == "disabled":
            yield f"{AGENT_CONF} disables {section.name}"
        elif entry.tag == "ignore":
            yield f"{AGENT_CONF} has {section.name} ignore {entry.text!r}"
        else:
            yield f"{AGENT_CONF} sets {entry.tag} of {section.name} to {entry.text}"


def in_force(text: str | None, shared: str | None, agent: str = "") -> Sequence[Section]:
    """What the daemons read, in their order; raises :class:`Refused` for what cannot be judged."""
    try:
        found = conf.parse(text or "")
    except Refused as error:
        raise Refused(f"{CONF} cannot be judged: {error}") from None
    return [*found, *_shared(shared, agent)]
