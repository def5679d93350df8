"""Where an open volume is mounted, and who may enter it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator

from rocksalt.blocks import Device
from rocksalt.errors import Refused
from rocksalt.luks.config import TOP, Volume
from rocksalt.luks.programs import must, run
from rocksalt.luks.volumes import states
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import State

_FLAGS = {
    "ro": os.ST_RDONLY,
    "nodev": os.ST_NODEV,
    "nosuid": os.ST_NOSUID,
    "noexec": os.ST_NOEXEC,
    "noatime": os.ST_NOATIME,
    "nodiratime": os.ST_NODIRATIME,
    "sync": os.ST_SYNCHRONOUS,
}
"""What the kernel tells of a mount; other options are those of a file system."""
_SHOWN = 3


def differences(machine: Machine, volume: Volume, found: State) -> list[str]:
    """How an open volume is not mounted as declared, a sentence each; nothing for others."""
    if found.mapping is None:
        return []
    if volume.mount not in [mount.path for mount in found.mounts]:
        return [f"the volume {volume.name} is open and not mounted at {volume.mount}"]
    path = machine.path(volume.mount)
    flags = os.statvfs(path).f_flag
    known = [it for it in volume.mount_options if it in _FLAGS]
    missing = [it for it in known if not flags & _FLAGS[it]]
    said = [f"{volume.mount} is mounted without {', '.join(missing)}"] if missing else []
    attributes = machine.host.attributes(volume.mount)
    wanted = f"{volume.owner}:{volume.group} {volume.mode}"
    if attributes is None or attributes.access != wanted:
        access = attributes.access if attributes else "gone"
        said.append(f"{volume.mount} is {access}, and should be {wanted}")
    return said


def possible(machine: Machine, volume: Volume, found: State) -> None:
    """:class:`Refused` where the volume could not be mounted, before anything is opened."""
    where = f"{TOP}:volumes:{volume.name}"
    _number(pwd.getpwnam, volume.owner, f"{where}:owner")
    _number(grp.getgrnam, volume.group, f"{where}:group")
    if volume.mount in [mount.path for mount in found.mounts]:
        return
    path = machine.path(volume.mount)
    if os.path.realpath(path) != os.path.join(os.path.realpath(machine.path("/")), *_parts(volume)):
        raise Refused(f"{where}:mount: {volume.mount} leads elsewhere: there is a link in it")
    if any(mount.path == volume.mount for mount in machine.tree().mounts):
        raise Refused(f"{where}:mount: something else is mounted at {volume.mount}")
    if not path.exists():
        return
    if not path.is_dir():
        raise Refused(f"{where}:mount: {volume.mount} is not a folder")
    hidden = sorted(os.listdir(path))
    if hidden:
        names = ", ".join(hidden[:_SHOWN]) + (", ..." if len(hidden) > _SHOWN else "")
        raise Refused(
            f"{where}:mount: {volume.mount} has files of its own, which are not encrypted and"
            f" would be hidden: {names}; move them away"
        )


def mount(machine: Machine, volume: Volume, found: State) -> list[str]:
    """Mounts an open volume as declared; what was done, a sentence each. :class:`Refused` if
    :func:`differences` are left.
    """
    before = differences(machine, volume, found)
    if not before:
        return []
    path, options = machine.path(volume.mount), ",".join(volume.mount_options)
    if volume.mount not in [mount.path for mount in found.mounts]:
        os.makedirs(path.parent, 0o755, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
        mapping = str(machine.path(volume.mapping))
        ran = run("mount", "-t", volume.filesystem, "-o", options, mapping, str(path))
        must(f"the volume {volume.name} could not be mounted at {volume.mount}", ran)
        said = f"the volume {volume.name} was mounted at {volume.mount}"
    else:
        ran = run("mount", "-o", f"remount,{options}", str(path))
        must(f"{volume.mount} could not be mounted with {options}", ran)
        said = f"{volume.mount} was made as declared"
    now = states.look_again(machine, volume, found)
    if volume.mount in [mount.path for mount in now.mounts]:
        machine.host.secure(volume.mount, volume.owner, volume.group, volume.mode)
    left = differences(machine, volume, now)
    if left:
        raise Refused("; ".join(left))
    return [said]


def unmount(machine: Machine, volume: Volume, mapping: Device) -> list[str]:
    """Unmounts it wherever it is mounted; :class:`Refused` names who uses it, before anything is
    unmounted.
    """
    users = _users(mapping.number)
    if users:
        raise Refused(f"the volume {volume.name} is in use: by {', '.join(users)}")
    done = []
    for mount in reversed(states.mounts_of(machine, mapping)):
        ran = run("umount", str(machine.path(mount.path)))
        must(f"the volume {volume.name} could not be unmounted from {mount.path}", ran)
        done.append(f"the volume {volume.name} was unmounted from {mount.path}")
    return done


def _users(number: str) -> list[str]:
    """Processes that have something open on a device, as ``sshd (12)``."""
    found = set()
    for process in filter(str.isdecimal, os.listdir("/proc")):
        if any(_device(path) == number for path in _open_paths(f"/proc/{process}")):
            found.add((int(process), _name(process)))
    return [f"{name} ({process})" for process, name in sorted(found)]


def _open_paths(process: str) -> Iterator[str]:
    yield from (f"{process}/{it}" for it in ("cwd", "root", "exe"))
    for folder in ("fd", "map_files"):
        try:
            yield from (f"{process}/{folder}/{it}" for it in os.listdir(f"{process}/{folder}"))
        except OSError:
            continue


def _device(path: str) -> str:
    """The number of the device that an open file is on."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if stat.S_ISBLK(found.st_mode):
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def _number(lookup: Callable[[str], object], name: str, where: str) -> None:
    try:
        lookup(name)
    except KeyError:
        raise Refused(f"{where}: there is no {name} on this host") from None


def _parts(volume: Volume) -> list[str]:
    return volume.mount.strip("/").split("/")
