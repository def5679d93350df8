"""A folder with the ``/sys``, ``/proc`` and ``/dev`` of a host that has block devices."""

from __future__ import annotations

from pathlib import Path

LUKS = "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-disk"
LVM = "LVM-abcdefghijklmnop"


class Machine:
    """Block devices by name, and mounts by path. From the start there is one mount, of memory, on
    the root.
    """

    def __init__(self, root: Path):
        self.root = root
        self._mounts = 0
        for folder in ("proc/self", "dev/mapper", "dev/disk/by-id", "sys/dev/block"):
            (root / folder).mkdir(parents=True)
        self.mount("/", "0:1", "tmpfs", "none")

    def disk(
        self,
        name: str,
        number: str,
        *slaves: str,
        uuid: str = "",
        backing: str = "",
        virtual: bool = False,
        **attributes: str,
    ) -> None:
        """A device that is made of others; one of device-mapper has a ``uuid``, and its name there
        is that of the kernel with ``the-`` before it.
        """
        node = self.root / "sys/devices" / ("virtual/block" if virtual else "pci/block") / name
        (node / "slaves").mkdir(parents=True)
        for slave in slaves:
            (node / "slaves" / slave).symlink_to(self._node(slave))
        given = {"size": "131072", "ro": "0", "removable": "0", **attributes}
        if uuid:
            given |= {"dm/uuid": uuid, "dm/name": f"the-{name}"}
        if backing:
            given["loop/backing_file"] = backing
        for file, text in given.items():
            (node / file).parent.mkdir(exist_ok=True)
            (node / file).write_text(text + "\n")
        self._known(name, number, node)

    def partition(self, name: str, number: str, disk: str) -> None:
        node = self._node(disk) / name
        node.mkdir()
        (node / "partition").write_text("1\n")
        (node / "size").write_text("65536\n")
        self._known(name, number, node)

    def _known(self, name: str, number: str, node: Path) -> None:
        (self.root / "sys/dev/block" / number).symlink_to(node)
        path = self.root / "dev" / name.replace("!", "/")
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def _node(self, name: str) -> Path:
        return next((self.root / "sys/devices").glob(f"*/**/{name}"))

    def mount(
        self,
        path: str,
        device: str,
        kind: str = "ext4",
        source: str = "/dev/x",
        options: str = "rw",
        upon: int = 0,
        root: str = "/",
    ) -> int:
        """Mounts on a mount (the first one unless told) and gives the number of the new one."""
        number = 30 + self._mounts
        self._mounts += 1
        parent = upon or (1 if number == 30 else 30)
        where = f"{number} {parent} {device} {root} {path} rw shared:1"
        line = f"{where} - {kind} {source} {options}\n"
        with open(self.root / "proc/self/mountinfo", "a") as file:
            file.write(line)
        return number

    def swap(self, path: str, kind: str = "partition") -> None:
        file = self.root / "proc/swaps"
        known = file.read_text() if file.exists() else "Filename Type Size Used Priority\n"
        file.write_text(f"{known}{path} {kind} 65536 0 -2\n")

    def pool(self, *names: str) -> None:
        """A btrfs."""
        folder = self.root / "sys/fs/btrfs/8f6c/devices"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).symlink_to(self._node(name))


def machine(root: Path) -> Machine:
    """A disk with a partition and a second one, each with LUKS on it."""
    made = Machine(root)
    made.disk("sda", "8:0")
    made.partition("sda1", "8:1", "sda")
    made.disk("sdb", "8:16")
    made.disk("dm-0", "252:0", "sda1", uuid=LUKS)
    made.disk("dm-1", "252:1", "sdb", uuid=LUKS)
    return made
