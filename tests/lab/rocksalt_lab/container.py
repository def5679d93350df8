"""A lab host that is a container: booted by systemd-nspawn on an overlay, in seconds."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import network
from .host import Host
from .system import mounts_below, sh

if TYPE_CHECKING:
    from .lab import Lab

# Without these services inside cannot touch iptables or raw sockets: nspawn drops them when it is
# given a network namespace by path.
CAPABILITIES = (
    "CAP_NET_ADMIN,CAP_NET_RAW,CAP_SYS_ADMIN,CAP_AUDIT_CONTROL,CAP_AUDIT_WRITE,CAP_SYSLOG"
)
NSPAWN_ENV = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",  # services inside stop cleanly
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # net.* sysctls, and no others, are writable
}


class Container(Host):
    """A host with the kernel of this machine. Made by `Lab.host`.

    It may have another image than the lab's, and further options of systemd-nspawn.
    """

    def __init__(
        self,
        lab: Lab,
        name: str,
        ip: str,
        image: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(lab, name, ip)
        self._root = self._state / "root"
        self._image = image or lab.image
        self._options = options

    def _power_on(self) -> None:
        if not mounts_below(self._root):
            self._make_disk()
        network.plug(self.lab.switch, self._state / "netns", self.name, self.ip)
        command = [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self._root}"),
            *("--register=no", "--keep-unit", "--settings=no", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off", "--console=pipe"),
            *(f"--machine=rocksalt-{self.lab.id}-{self.name}", f"--hostname={self.name}"),
            f"--network-namespace-path={self._state / 'netns'}",
            f"--capability={CAPABILITIES}",
            *self._options,
        ]
        self._launch(command, NSPAWN_ENV)

    def _power_off(self) -> None:
        if self.init:
            os.kill(self.init, signal.SIGRTMIN + 4)

    def _make_disk(self) -> None:
        """Mount the overlay; a new disk gets what is different on every host."""
        new = not self._disk.exists()
        for folder in (self._disk / "upper", self._disk / "work", self._root):
            folder.mkdir(parents=True, exist_ok=True)
        layers = f"upperdir={self._disk}/upper,workdir={self._disk}/work"
        options = f"lowerdir={self._image},{layers}"
        sh("mount", "-t", "overlay", "rocksalt-lab", "-o", options, self._root)
        if new:
            (self._root / "etc/hostname").write_text(f"{self.name}\n")
            (self._root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
            (self._root / "etc/hosts").write_text(self.lab.hosts_file())
            sh("chroot", self._root, "ssh-keygen", "-A")
            keys = self._root / "home/ops/.ssh"
            keys.mkdir(mode=0o700)
            (keys / "authorized_keys").write_text(self.lab.public_key)
            sh("chroot", self._root, "chown", "-R", "ops:ops", "/home/ops/.ssh")

    @property
    def init(self) -> int | None:
        """The pid of the host's systemd, seen from the machine; None when the host is down."""
        for procs in self._cgroup.rglob("init.scope/cgroup.procs"):
            for pid in procs.read_text().split():
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^Name:\tsystemd$", status, re.M) and re.search(
                    r"^NSpid:\t\d+\t1$", status, re.M
                ):
                    return int(pid)
        return None

    @property
    def running(self) -> bool:
        return self.init is not None

    def _inside(self, words: list[str], env: Mapping[str, str]) -> list[str]:
        variables = [f"{key}={value}" for key, value in env.items()]
        enter = ["nsenter", f"--target={self.init}", "--all", "--", "env", "-i", *variables, *words]
        # In a control group of the host the command is one of its own processes for systemd too.
        procs = self._cgroup / "payload/init.scope/cgroup.procs"
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(procs), *enter]
