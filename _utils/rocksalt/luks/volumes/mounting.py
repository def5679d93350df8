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
from rocksalt.luks.programs import held, must, run
from rocksalt.luks.volumes import places, states
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
_READ_ONLY = "ro"


def differences(machine: Machine, volume: Volume, found: State) -> list[str]:
    """How an open volume is not mounted as declared, a sentence each; nothing for others."""
    if found.mapping is None:
        return []
    if volume.mount not in [mount.path for mount in found.mounts]:
        return [f"the volume {volume.name} is open and not mounted at {volume.mount}"]
    if _mounted(machine, volume)[-1:] not in ([], [found.mapping.number]):
        return [
            f"the volume {volume.name} is mounted at {volume.mount}, and something else over it"
        ]
    try:
        with places.reached(machine, volume):
            pass
    except Refused as error:
        return [str(error)]
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
    there = volume.mount in [mount.path for mount in found.mounts]
    with places.reached(machine, volume) as folder:
        if not there:
            _free(machine, volume, folder)


def obstacles(machine: Machine, volume: Volume) -> list[str]:
    """Why a volume that is not open could not be mounted, a sentence each; changes nothing."""
    try:
        possible(machine, volume, State(states.CLOSED))
    except Refused as error:
        return [str(error)]
    return []


def prepare(machine: Machine, volume: Volume) -> list[str]:
    """Has root alone enter the folder of a closed volume, if there is one; what was done, a
    sentence each. :class:`Refused` where the folder is not empty, or others can exchange it: then
    nothing was changed.
    """
    with places.reached(machine, volume) as folder:
        _free(machine, volume, folder)
        if folder is None:
            return []
        return [f"{volume.mount} is root's alone now"] if places.kept_for_root(folder) else []


def mount(machine: Machine, volume: Volume, found: State) -> list[str]:
    """Mounts an open volume as declared; what was done, a sentence each. :class:`Refused` if
    :func:`differences` are left.
    """
    before = differences(machine, volume, found)
    if not before:
        return []
    if volume.mount not in [mount.path for mount in found.mounts]:
        _mount(machine, volume)
        said = f"the volume {volume.name} was mounted at {volume.mount}"
    else:
        _remount(machine, volume, _writable(volume))
        said = f"{volume.mount} was made as declared"
    now = states.look_again(machine, volume, found)
    if volume.mount in [mount.path for mount in now.mounts]:
        with places.reached(machine, volume) as root:
            if root is not None:
                _give(volume, root)
        if _READ_ONLY in volume.mount_options:
            _remount(machine, volume, volume.mount_options)
    left = differences(machine, volume, now)
    if left:
        raise Refused("; ".join(left))
    return [said]


def _free(machine: Machine, volume: Volume, folder: int | None) -> None:
    """:class:`Refused` where a folder cannot be mounted over; that it is not there is no reason."""
    if _mounted(machine, volume):
        where = f"{TOP}:volumes:{volume.name}:mount"
        raise Refused(f"{where}: something else is mounted at {volume.mount}")
    if folder is not None:
        places.hidden(volume, folder)


def _mounted(machine: Machine, volume: Volume) -> list[str]:
    """The numbers of what is mounted at the place of a volume; the last one is to be seen."""
    return [it.number for it in machine.tree().mounts if it.path == volume.mount]


def _mount(machine: Machine, volume: Volume) -> None:
    """Over the very folder that was looked at, whatever has its name by then."""
    with places.reached(machine, volume, make=True) as folder:
        assert folder is not None
        _free(machine, volume, folder)
        places.kept_for_root(folder)
        with held(folder):
            ran = run(
                "mount", "--no-canonicalize", "-t", volume.filesystem,
                "-o", ",".join(_writable(volume)),
                str(machine.path(volume.mapping)), f"/proc/self/fd/{folder}/.",
            )  # fmt: skip
    must(f"the volume {volume.name} could not be mounted at {volume.mount}", ran)


def _remount(machine: Machine, volume: Volume, options: list[str]) -> None:
    ran = run("mount", "-o", f"remount,{','.join(options)}", str(machine.path(volume.mount)))
    must(f"{volume.mount} could not be mounted with {','.join(options)}", ran)


def _writable(volume: Volume) -> list[str]:
    """The options with which owner and mode can be set: those of one that is read only come
    afterwards.
    """
    return ["rw", *(it for it in volume.mount_options if it != _READ_ONLY)]


def _give(volume: Volume, folder: int) -> None:
    """Owner, group and mode of the root of a file system."""
    os.fchown(folder, pwd.getpwnam(volume.owner).pw_uid, grp.getgrnam(volume.group).gr_gid)
    os.fchmod(folder, int(volume.mode, 8))


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
