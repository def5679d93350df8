"""What runs of Salt's services on a host, and which configuration they were given."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from rocksalt.errors import Refused
from rocksalt.host import Host, unit_properties

MASTER, API = "salt-master.service", "salt-api.service"
STANDARD = "/etc/salt"
"""Where Salt looks for its configuration unless something says otherwise."""
Unit = Mapping[str, str]
_PROPERTIES = (
    "Id,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,MainPID,ExecStart,Environment,"
    "EnvironmentFiles"
)
_ARGUMENTS = re.compile(r"argv\[\]=(.*?) ; ")
_SHORT = re.compile(r"-d*c=?(.*)")
_LONG, _LEAST = "--config-dir", len("--c")
_FILES = re.compile(r"^EnvironmentFiles=(/.*?) \(ignore_errors=\w+\)$", re.MULTILINE)
_WITH_ARGUMENT = ("-W", "-X")
"""Options of Python that have a word of their own after them."""
_FOLDER, _FILE = "SALT_CONFIG_DIR", "SALT_MASTER_CONFIG"


def units(host: Host) -> dict[str, dict[str, str]]:
    """What systemd knows of the two services, by their names. Raises :class:`Refused` where it does
    not say, which is no sign that there are none.
    """
    ran = host.run("systemctl", "show", MASTER, API, "-p", _PROPERTIES)
    found = {unit["Id"]: unit for unit in unit_properties(ran.out) if "Id" in unit}
    for block in ran.out.split("\n\n"):  # which has a line for each of these files
        name = next((line[3:] for line in block.splitlines() if line.startswith("Id=")), "")
        if name in found:
            found[name]["EnvironmentFiles"] = " ".join(_FILES.findall(block))
    if ran.status or MASTER not in found:
        why = " ".join(ran.err.split()) or "it prints nothing of them"
        raise Refused(f"systemctl show {MASTER} {API}, which says whether they run, fails: {why}")
    return found


# Which configuration ------------------------------------------------------------------------------


def folder(host: Host, unit: Unit) -> str:
    """The folder of the configuration that a service reads."""
    found = _ARGUMENTS.search(unit.get("ExecStart", ""))
    told = [_told(_split(found[1])) if found else ""]
    # A process has what its unit said when it started, which may be another one by now.
    if (pid := unit.get("MainPID", "0")) != "0":
        told.append(_told(_words(host, pid)))
    for path in told:
        if path:
            return os.path.normpath(path)
    given = environment(host, unit)
    if path := given.get(_FILE, ""):
        return os.path.dirname(path) if os.path.basename(path) == "master" else path
    return os.path.normpath(given.get(_FOLDER) or STANDARD)


def _told(words: Sequence[str]) -> str:
    """What a command line says of the folder; empty where it says nothing."""
    found = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, given, value = word.partition("=")
        if len(name) >= _LEAST and _LONG.startswith(name):
            found = value if given else following
        elif short := _SHORT.fullmatch(word):
            found = short[1] or following
    return found


def environment(host: Host, unit: Unit) -> dict[str, str]:
    """The variables that a service is given: by its unit, and those that it runs with, which may be
    of systemd itself.
    """
    lines = [*_split(unit.get("Environment", ""))]
    for path in unit.get("EnvironmentFiles", "").split():
        texts = (host.read(name) or "" for name in host.glob(path))
        lines += [
            word
            for text in texts
            for line in text.splitlines()
            if not line.lstrip().startswith(("#", ";"))
            for word in _split(line.strip())
        ]
    if (pid := unit.get("MainPID", "0")) != "0":
        lines += of_process(host, pid, "environ").split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _split(text: str) -> list[str]:
    """Words as a shell would have them, or as they are where it would not."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def personal(host: Host, home: str, unit: Unit) -> list[str]:
    """The files that salt-api lays over the configuration of the master, of those that are there:
    in the home of its user and of root, as whom it starts, and what its environment names.
    """
    given = environment(host, unit)
    homes = dict.fromkeys(("/root", home, given.get("HOME", "")))
    places = [f"{top}/.config/salt" for top in homes if top]
    if "XDG_CONFIG_HOME" in given:
        places.append(f"{given['XDG_CONFIG_HOME']}/salt")
    names = [f"{top}/.saltrc" for top in homes if top]
    names += [f"{place}/saltrc" for place in places]
    names.append(given.get("SALT_CLIENT_CONFIG", ""))
    return [name for name in dict.fromkeys(names) if name and host.attributes(name)]


# Which processes ----------------------------------------------------------------------------------


def strays(host: Host, unit: str) -> Iterator[str]:
    """Processes with the program of a service that systemd did not start as that service, each as
    ``process 17``. One that ends meanwhile is none, nor is one that only says its version, as it
    does for another report at the same time.
    """
    program = unit.removesuffix(".service")
    for path in host.glob("/proc/[0-9]*/cmdline"):
        pid = path.split("/")[2]
        words = _words(host, pid)
        if _program(words) != program or "--version" in words or not _is_of_this_host(host, pid):
            continue
        other = not is_in(unit, of_process(host, pid, "cgroup"))
        if other and host.attributes(f"/proc/{pid}"):
            yield f"process {pid}"


def of_process(host: Host, pid: str, name: str) -> str:
    """A file of a process; empty where it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return host.read(f"/proc/{pid}/{name}") or ""
    return ""


def is_in(unit: str, group: str) -> bool:
    """Whether a group of processes, as its file has it, is that of a service."""
    return unit in re.split(r"[/\n]", group)


def _words(host: Host, pid: str) -> list[str]:
    return of_process(host, pid, "cmdline").replace("\0", " ").split()


def _program(words: Sequence[str]) -> str:
    """The name of a program, or of the one that Python runs."""
    rest = list(words)
    if rest and os.path.basename(rest[0]).startswith("python"):
        rest.pop(0)
        while rest and rest[0].startswith("-") and rest[0] != "-c":
            rest = rest[2:] if rest[0] in _WITH_ARGUMENT else rest[1:]
    return os.path.basename(rest[0]) if rest else ""


def _is_of_this_host(host: Host, pid: str) -> bool:
    """Whether a process is not one of a container on this host."""
    try:
        own, other = (os.readlink(host.path(f"/proc/{it}/ns/pid")) for it in ("self", pid))
    except OSError:
        return True
    return own == other
