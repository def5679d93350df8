"""The agent as it was installed: its version, who owns what, and whether its programs and rules are
still the same.

Packages of OSSEC differ in owners and modes, so those of this host are written down when a version
is seen for the first time, and compared from then on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rocksalt.host import Host
from rocksalt.ossec import (
    BIN,
    DAEMONS,
    GROUP,
    HOME,
    INIT,
    INSTALLED,
    KEYS,
    LOG,
    NOTE,
    ORIGINALS,
    PROGRAM,
    RESPONSES,
    SETTINGS,
    SHARED,
    files,
    shipped,
    state,
)

_FOLDERS = (
    *("", "/bin", "/etc", "/etc/shared", "/active-response", "/active-response/bin"),
    "/active-response/originals",
    *("/queue", "/queue/*", "/logs", "/var", "/var/run"),
)
_FILES = (
    *("/bin/*", "/etc/*", "/active-response/bin/*", "/active-response/originals/*"),
    "/logs/ossec.log",
)
SCRIPT = f"root:{GROUP} 0550"
"""Who may do what with a script of which nothing is written down."""
_CLOSED = ("/etc/ossec.conf", "/etc/client.keys")
"""What nobody but the agent may read, whatever a package does."""
_OURS = re.compile(r".*\.rocksalt-[a-z]+(?:\.\d+)?|.*/\.[^/]*")
_PIECE_OF_LINE = 1023
_PIECE = re.compile(rb"!(\d+) ([^\n/]+)\n")


@dataclass(frozen=True)
class Record:
    """What was written down for a version: path -> owner, group and mode, and path -> digest."""

    version: str
    access: Mapping[str, str]
    digests: Mapping[str, str]


def version(host: Host) -> str:
    """The agent's version such as ``4.3.0``, and empty where it is not installed."""
    if any(host.attributes(f"{BIN}/{daemon}") is None for daemon in DAEMONS):
        return ""
    found = re.search(r'^VERSION="?v?([^"\n]+)', host.read(INIT) or "", re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


def numbers(version: str) -> tuple[int, ...]:
    """A version as one compares it."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def build(host: Host, package: str) -> str:
    """Which build of the agent this is: the package's version, else what it says of itself."""
    asked = ("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package)
    ran = host.run(*asked) if package else None
    if ran and not ran.status and ran.out.startswith("installed "):
        return ran.out.removeprefix("installed ").strip()
    date = re.search(r'^DATE="?([^"\n]+)', host.read(INIT) or "", re.MULTILINE)
    return f"{version(host)} {date.group(1) if date else ''}".strip()


def record(host: Host) -> Record:
    """What was written down last; of no version where nothing was."""
    found = state.read(str(host.path(INSTALLED)))
    return Record(found.get("version", ""), found.get("access", {}), found.get("digests", {}))


def write_down(host: Host, build: str) -> None:
    """Writes down what is there, but for what no package may do: let others write, or read keys."""
    scripts = [path for path in host.glob(f"{RESPONSES}/*") if host.path(path).is_file()]
    fresh = [path for path in scripts if not files.is_wrapper(path, host.read(path))]
    found = {
        "version": build,
        "access": {path: sound(path, access) for path, access in access(host).items()},
        "digests": digests(host) | {path: shipped.digest(_at(host, path)) for path in fresh},
    }
    host.write(INSTALLED, json.dumps(found, indent=1, sort_keys=True) + "\n", "0600")


def sound(path: str, access: str) -> str:
    """Owner, group and mode as we let a package have them."""
    who, mode = access.split(" ")
    owner, group = who.split(":")
    allowed = 0o770 if path.removeprefix(HOME) in _CLOSED else 0o7775
    owner = owner if owner in ("root", GROUP) else "root"
    group = group if group in ("root", GROUP) else GROUP
    return f"{owner}:{group} {int(mode, 8) & allowed:04o}"


def access(host: Host) -> dict[str, str]:
    """Path -> owner, group and mode of the agent's folders, programs and settings."""
    found = {}
    for pattern in (*_FOLDERS, *_FILES):
        for path in host.glob(HOME + pattern):
            target = host.path(path)
            kind = target.is_file() if pattern in _FILES else target.is_dir()
            attributes = host.attributes(path, follow=False)
            if kind and attributes and not target.is_symlink() and not _OURS.fullmatch(path):
                found[path] = attributes.access
    return found


def wanted_access(host: Host) -> dict[str, str]:
    """What :func:`access` shall give, of what is there. The key came after the package, and maybe
    the log: one that a test as root began the agent could not write to.
    """
    written = dict(record(host).access)
    written.setdefault(KEYS, f"root:{GROUP} 0640")
    written.setdefault(LOG, f"{GROUP}:{GROUP} 0660")
    written[ORIGINALS] = f"root:{GROUP} 0750"
    for path in host.glob(f"{ORIGINALS}/*"):
        written[path] = written.get(path.replace(ORIGINALS, RESPONSES, 1), SCRIPT)
    return {path: written.get(path, sound(path, now)) for path, now in access(host).items()}


def of(host: Host, path: str) -> str:
    """Owner, group and mode that a file of the agent is to have."""
    return record(host).access.get(path, f"root:{GROUP} 0640")


# Programs and rules ------------------------------------------------------------------------------


def digests(host: Host) -> dict[str, str]:
    """Path -> SHA-256 of programs, scripts and rules; of scripts before which ours stand, that of
    the package's own.
    """
    return {path: shipped.digest(_at(host, there)) for path, there in programs(host).items()}


def programs(host: Host) -> dict[str, str]:
    """Path of programs, scripts and rules -> where each is; ours are none."""
    found = {}
    for pattern in (f"{BIN}/*", f"{RESPONSES}/*", f"{SHARED}/*.txt"):
        for path in host.glob(pattern):
            if host.path(path).is_file() and not _ours(host, path):
                found[path] = path
    for path in host.glob(f"{ORIGINALS}/*"):
        found[path.replace(ORIGINALS, RESPONSES, 1)] = path
    return found


def _ours(host: Host, path: str) -> bool:
    return path.startswith(f"{RESPONSES}/") and files.is_wrapper(path, host.read(path))


def _at(host: Host, path: str) -> str:
    return str(host.path(path))


def lost(host: Host) -> bool:
    """Whether nothing is written down though we were here before, so that it once was."""
    ours = any(host.attributes(path) is not None for path in (SETTINGS, PROGRAM, NOTE))
    return ours and not record(host).version


def unknown(host: Host, package: str) -> list[str]:
    """Programs and rules of which neither the package nor the server knows what they should be."""
    known = {
        *shipped.md5sums(package, host.root),
        *(f"{SHARED}/{name}" for name in handed_out(host)),
    }
    return sorted(there for path, there in programs(host).items() if path not in known)


def changed(host: Host, package: str, build: str) -> list[str]:
    """In words, which programs and rules are not as they were installed; of a build that was not
    written down, as far as its package knows. Rules that the server hands out are as they were
    handed out.
    """
    was, now = record(host), programs(host)
    written = was.digests if was.version == build else {}
    known, handed = shipped.md5sums(package, host.root), handed_out(host)
    found = [f"{path} is gone" for path in {**known, **written} if path not in now]
    for path, there in now.items():
        name = path.removeprefix(f"{SHARED}/")
        if name in handed:
            if handed[name] != shipped.digest(_at(host, path), "md5"):
                found.append(f"{path} is not what the server handed out")
        elif path in known:
            if known[path] != shipped.digest(_at(host, there), "md5"):
                found.append(f"{there} is not what its package brought")
        elif was.version == build and path not in written:
            found.append(f"{there} came after the agent was installed")
        elif was.version == build and written[path] != shipped.digest(_at(host, there)):
            found.append(f"{there} was changed")
    return sorted(found)


def genuine(host: Host, package: str, build: str, name: str, path: str) -> bool | None:
    """Whether a file is the script of that name as its package brought it; of what was written down
    only that of this build counts. None: nobody knows.
    """
    written = record(host)
    digests = written.digests if written.version == build else {}
    known = shipped.md5sums(package, host.root)
    return shipped.genuine(_at(host, path), f"{RESPONSES}/{name}", known, digests)


def handed_out(host: Host) -> dict[str, str]:
    """Name -> MD5 of the files that the server handed out, which come in one file; the server is
    told of that file's own digest with every sign of life, and sends it again where it differs.
    """
    text = host.read(f"{SHARED}/merged.mg")
    data = (text or "").encode(errors="surrogateescape")
    found, place = {}, 0
    while match := _PIECE.search(data, place):
        place = match.end() + int(match[1])
        piece = data[match.end() : place]
        name = match[2].decode(errors="surrogateescape")
        found[name] = hashlib.md5(piece, usedforsecurity=False).hexdigest()
    return found


# What the server may do --------------------------------------------------------------------------


def remote_commands(texts: Mapping[str, str | None]) -> list[str]:
    """In words, why the server may have commands run by the options of the agent: ``texts`` by
    path, of which the last is the local one, which wins.
    """
    for path, text in reversed([*texts.items()]):
        value = option(text or "", "logcollector", "remote_commands")
        if value is not None:
            sound = re.fullmatch("[0-9]*", value) and not int(value or "0")
            return [] if sound else [f"{path} allows logcollector.remote_commands"]
    return []


def option(text: str, high: str, low: str) -> str | None:
    """What OSSEC takes for the value of an option: that of the first line that has its exact name
    and is no comment, in pieces of as much as it reads at a time.
    """
    for whole in text.split("\n"):
        for start in range(0, len(whole) or 1, _PIECE_OF_LINE):
            line = whole[start : start + _PIECE_OF_LINE].partition("\0")[0]
            first, _, rest = line.partition(".")
            second, equals, value = rest.partition("=")
            if line[:1] not in ("#", " ", "") and equals and (first, second) == (high, low):
                return value.rpartition("\r")[0] if "\r" in value else value
    return None
