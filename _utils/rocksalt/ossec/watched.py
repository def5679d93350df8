"""Which files a configuration watches, with what the server adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.ossec import SHARED, conf
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
        elif hiding := [str(entry) for entry in ignored if _ignores(entry, path)]:
            found.append(f"{path} is ignored by {hiding[0]!r}")
    return found


def _watches(entry: Entry, path: str) -> bool:
    """Whether a line has everything at a path watched; a pattern that restricts it may leave out
    anything.
    """
    attributes = entry.attributes
    if "restrict" in attributes or not {"check_all", "check_sum", "check_sha1sum"} & {*attributes}:
        return False
    for folder in (part.strip().rstrip("/") for part in entry.text.split(",")):
        inner = path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""
        if path == (folder or "/") or (inner and not ("no_recurse" in attributes and "/" in inner)):
            return True
    return False


def _ignores(entry: Entry, path: str) -> bool:
    """Whether a line has a path, or all below it, passed over."""
    return any(_matches(entry, name) for name in (path, f"{path}/"))


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


def handed_out(text: str | None) -> list[str]:
    """In words, what the server's ``agent.conf`` takes away from what this host watches."""
    if not (text or "").strip():
        return []
    try:
        sections = conf.parse(text or "")
    except Refused as error:
        return [f"{AGENT_CONF} cannot be judged: {error}"]
    return [words for section in sections for words in _weaker(section)]


def _weaker(section: Section) -> Iterator[str]:
    for entry in section.entries:
        if entry.tag == "disabled" and entry.text != "no":
            yield f"{AGENT_CONF} disables {section.name}"
        if entry.tag == "ignore":
            yield f"{AGENT_CONF} has {section.name} ignore {entry.text!r}"
        if entry.tag in ("frequency", "scan_time", "scan_day") and section.name != "localfile":
            yield f"{AGENT_CONF} sets {entry.tag} of {section.name} to {entry.text}"


def in_force(text: str | None, shared: str | None) -> Sequence[Section]:
    """What the daemons read, in their order; raises :class:`Refused` for what is no XML."""
    found = conf.parse(text or "")
    try:
        return [*found, *conf.parse(shared or "")]
    except Refused:
        return found
