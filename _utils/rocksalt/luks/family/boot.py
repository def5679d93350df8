"""What opens disks when the host starts: crypttab, its key files, and what disks are told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from rocksalt.host import Host
from rocksalt.luks import config, crypttab
from rocksalt.luks.crypttab import Entry
from rocksalt.luks.family.reading import Reading

ALONE = "root alone"
_LINKS = 40
"""That the kernel follows in one path."""


class Boot:
    """What of it is not as decided, as sentences."""

    def __init__(self, reading: Reading, settings: config.Settings):
        self.reading = reading
        self.settings = settings

    def key_files(self) -> list[str]:
        """The key files of crypttab that are there, as files and no devices."""
        host = self.reading.host
        named = (path for it in self.reading.crypttab for path in it.key_files)
        return [path for path in dict.fromkeys(named) if _regular(host, path)]

    def readers(self) -> dict[str, str]:
        """Who can read each key file, or put another one in its place."""
        found = {}
        for path in self.key_files():
            rights = self.reading.host.attributes(path)
            if rights:
                alone = rights.owner == "root" and int(rights.mode, 8) & 0o077 == 0
                loose = self.loose(path)
                found[path] = ALONE if alone and not loose else f"{rights.access}{loose}"
        return found

    def loose(self, path: str) -> str:
        """In which folder others decide where a path leads, the end of a sentence; empty where
        root alone does. Nothing is changed at the end of such a path.
        """
        for folder in _way(self.reading.host, path):
            rights = self.reading.host.attributes(folder, follow=False)
            if rights and (rights.owner != "root" or int(rights.mode, 8) & 0o022):
                return f" below {folder} ({rights.access}), where others can exchange it"
        return ""

    def exposed(self) -> list[str]:
        """Key files that lie on a disk in the clear."""
        devices, files = self.reading.devices, self.key_files()
        found = []
        for path in files:
            below = devices.below_path(path)
            if not below.safe:
                where = ", ".join(it.path for it in below.plain) or "; ".join(below.unknown)
                found.append(f"{path} lies on {where}, not encrypted")
        copied = crypttab.copied_to_initramfs(self.reading.host, files)
        if copied and not devices.below_path("/boot").safe:
            found += [f"{path} is copied into /boot, with the initial RAM disk" for path in copied]
        return [*found, *self._elsewhere()]

    def _elsewhere(self) -> Iterator[str]:
        """Keys on other devices; what somebody can take away and keep apart is meant for that."""
        for it in self.reading.crypttab:
            if it.key_kind not in ("device", "elsewhere"):
                continue
            place = it.key if it.key_kind == "device" else it.key.rpartition(":")[2]
            device = self.reading.devices.find(place)
            if (
                device
                and not device.removable
                and not self.reading.devices.below(device.number).safe
            ):
                yield f"the key of {it.name} lies on {device.path}, not encrypted"

    def discards(self) -> list[str]:
        """What may tell a disk which blocks are free although that was not decided."""
        own = self.settings["volumes"]
        if self.settings["discard"]:
            return []
        found = [
            f"{crypttab.PATH} line {it.line}: {it.name} has the option discard"
            for it in self.reading.crypttab
            if it.discard
        ]
        for table in self.reading.mapped:
            told = any(it.discards for it in table.crypts)
            if told and not own.get(table.name, {}).get("discard", False):
                found.append(f"{table.name} is open and passes on which blocks are free")
        return found

    def lines(self) -> list[str]:
        """What is wrong with crypttab, by itself and with what this host has."""
        found = crypttab.problems(self.reading.crypttab_text)
        for it in self.reading.crypttab:
            found += [f"{crypttab.PATH} line {it.line}: {words}" for words in self._line(it)]
        return found

    def _line(self, entry: Entry) -> Iterator[str]:
        if entry.name in self.settings["volumes"]:
            yield f"{entry.name} is a volume of a customer, which nothing opens at boot"
        waits = not {"nofail", "noauto"} & {*entry.options}
        if waits and self.reading.devices.find(entry.device) is None:
            yield f"{entry.name} is to be opened, and there is no {entry.source}"
        if not waits and entry.key_kind != "random":
            where = self._mounted_from(entry.name)
            option = "nofail" if "nofail" in entry.options else "noauto"
            if where:
                yield (
                    f"with {option} the host starts without {entry.name}, and what belongs to "
                    f"{where} is written to the disk below it"
                )

    def _mounted_from(self, name: str) -> str:
        """Where fstab mounts what is in a mapping, by its path or by what says that it is it."""
        device = self.reading.devices.find(f"/dev/mapper/{name}")
        signature = self.reading.signatures.get(device.number) if device else None
        sources = [f"/dev/mapper/{name}"]
        if signature:
            sources += [f"UUID={signature.uuid}", f"LABEL={signature.label}"]
        found = (it for it in sources if self.reading.fstab.get(it, "").startswith("/"))
        return self.reading.fstab[source] if (source := next(found, "")) else ""


def _way(host: Host, path: str) -> Iterator[str]:
    """The folders in which it is decided where a path leads, those of links on the way too."""
    todo, done, links = path.split("/")[::-1], "", 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        yield done or "/"
        target = host.path(f"{done}/{part}")
        if part == "..":
            done = os.path.dirname(done).rstrip("/")
        elif target.is_symlink() and links < _LINKS:
            links, link = links + 1, os.readlink(target)
            done = "" if link.startswith("/") else done
            todo += link.split("/")[::-1]
        else:
            done += f"/{part}"


def _regular(host: Host, path: str) -> bool:
    try:
        return stat.S_ISREG(host.path(path).stat().st_mode)
    except OSError:
        return False
