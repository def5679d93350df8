"""A lab host that is a virtual machine with a kernel of its own: dm-crypt, audit, all sysctls.

QEMU emulates the processor, so it works where there is no KVM, and takes its time.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import channel, image, network
from .host import Host, occupied
from .system import LabError, sh, step

if TYPE_CHECKING:
    from .lab import Lab

HERE = Path(__file__).parent
RECIPE = HERE / "make-machine.sh"
OPS = 1000  # uid and gid of the administrator's account
IDENTITY = "opt/rocksalt-lab/identity"  # where machine-init.sh looks for it
CHANNEL = (sys.executable, "-I", "-S", str(HERE / "channel.py"), "call")
QEMU = (
    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
    *("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", "1024"),
    *("-display", "none", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
    *("-device", f"virtio-serial-pci,max_ports={channel.PORTS + 1}"),
)
# What QEMU was told to write is kept when it is killed, by the cache of this machine's own kernel:
# to wait for a real disk would only take time.
DRIVE = "if=none,cache=unsafe,discard=unmap"
KERNEL = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr net.ifnames=0 cryptomgr.notests"


def ensure_image(release: str, salt: str) -> Path:
    """The folder with kernel, initrd and root.img for a release and a Salt line."""
    base = image.ensure(release, salt)
    files = [*HERE.glob("machine-*.*"), *image.files_below(HERE / "machine-rootfs")]
    files += [RECIPE, HERE / "channel.py"]
    packages = image.words(image.MACHINE_PACKAGES)

    def build(folder: Path, work: Path) -> None:
        private = ("unshare", "--mount", "--propagation=private", "--")
        with step(f"{release} image for virtual machines"):
            sh(*private, RECIPE, base, work, folder, *packages)

    return image.cached(f"vm-{release}-{salt}", image.digest(base.name, sorted(files)), build)


class Machine(Host):
    """A virtual machine. Made by `Lab.machine`; disks are name -> size, as in {"fresh": "64M"}."""

    PATIENCE = 300

    def __init__(self, lab: Lab, name: str, ip: str, disks: Mapping[str, str]) -> None:
        super().__init__(lab, name, ip)
        for disk, size in disks.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", disk) or disk == "root":
                raise LabError(f"{disk!r} is no name for a disk: use up to 20 letters and digits.")
            if not re.fullmatch(r"[1-9][0-9]*[MG]", size):
                raise LabError(f"{size!r} is no size of the disk {disk}: say 64M or 1G.")
        self.disks = dict(disks)
        self._ports = self._state / "ports"
        self._identity = self._state / "identity.tar"

    def disk(self, name: str) -> Path:
        """The file behind a disk, for a look from outside: /dev/disk/by-id/virtio-NAME inside."""
        if name not in self.disks:
            raise LabError(f"{self.name} has no disk {name!r}, only {', '.join(self.disks)}.")
        return self._disk / f"{name}.img"

    @property
    def running(self) -> bool:
        return occupied(self._cgroup)

    def _power_on(self) -> None:
        folder = self._disk / "image"
        if not self._disk.exists():
            self._make_disks(ensure_image(self.lab.release, self.lab.salt))
            network.tap(self.lab.switch, self.name)
            self._guard()
        # One machine, one owner: QEMU must not find the sockets of an earlier boot.
        for socket in self._ports.glob("*[0-9]"):
            socket.unlink()
        root = f"file={self._disk / 'root.qcow2'},format=qcow2"
        drives = {name: f"file={self.disk(name)},format=raw" for name in self.disks}
        mac = "52:54:" + ":".join(f"{int(number):02x}" for number in self.ip.split("."))
        command: list[str | Path] = [
            *("nsenter", f"--net={self.lab.switch}", *QEMU),
            *("-name", f"rocksalt-{self.lab.id}-{self.name}"),
            *("-kernel", folder / "kernel", "-initrd", folder / "initrd"),
            *("-append", f"{KERNEL} lab.address={self.ip}/24"),
            *("-fw_cfg", f"name={IDENTITY},file={self._identity}"),
            *("-netdev", f"tap,id=net,ifname=vm-{self.name},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=net,mac={mac},romfile="),
        ]
        for name, where in {"root": root, **drives}.items():
            command += ["-drive", f"{DRIVE},id=disk-{name},{where}"]
            command += ["-device", f"virtio-blk-pci,drive=disk-{name},serial={name}"]
        for number in range(channel.PORTS):
            path = self._ports / f"port{number}"
            command += ["-chardev", f"socket,id=port{number},path={path},server=on,wait=off"]
            port = f"virtserialport,chardev=port{number},name={channel.PREFIX}{number}"
            command += ["-device", port]
        self._launch(command)
        self._wait_for_channel()

    def _guard(self) -> None:
        """Let the machine go when the process of its lab run does: it costs a lot to leave it."""
        if self.lab.owner:
            script = (
                'exec >/dev/null 2>&1; echo $$ >"$0/cgroup.procs"; '
                'tail --pid="$1" --follow /dev/null; echo 1 >"$2/cgroup.kill"'
            )
            words = ("sh", "-c", script, self.lab.cgroup, str(self.lab.owner), self._cgroup)
            sh("setsid", "--fork", *words)

    def _make_disks(self, folder: Path) -> None:
        """Make the disks, and what the first boot takes over: who this machine is."""
        self._disk.mkdir()
        (self._disk / "image").symlink_to(folder)
        self._ports.mkdir(parents=True)
        for number in range(channel.PORTS):
            (self._ports / f"port{number}.lock").touch()
        overlay = (
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            folder / "root.img",
        )
        sh(*overlay, self._disk / "root.qcow2")
        for name, size in self.disks.items():
            sh("truncate", f"--size={size}", self.disk(name))
        ssh = self._state / "identity/etc/ssh"
        ssh.mkdir(parents=True)
        sh("ssh-keygen", "-A", "-f", ssh.parent.parent)
        with tarfile.open(self._identity, "w") as tar:
            _add(tar, "etc/hostname", f"{self.name}\n")
            _add(tar, "etc/machine-id", f"{uuid.uuid4().hex}\n")
            _add(tar, "etc/hosts", self.lab.hosts_file())
            for key in sorted(ssh.iterdir()):
                _add(tar, f"etc/ssh/{key.name}", key.read_text(), key.stat().st_mode & 0o777)
            _add(tar, "home/ops/.ssh", None, 0o700, OPS)
            _add(tar, "home/ops/.ssh/authorized_keys", self.lab.public_key, 0o644, OPS)

    def _wait_for_channel(self) -> None:
        """Wait until commands can be run inside."""
        sockets = [self._ports / f"port{number}" for number in range(channel.PORTS)]
        while not all(path.exists() for path in sockets):
            if self._process and self._process.poll() is not None:
                raise LabError(f"{self.name} did not start: {self.console()[-1500:]}")
        self.run("true", check=False)

    def _power_off(self) -> None:
        self.run("systemctl poweroff", check=False)

    def _inside(self, words: list[str], env: Mapping[str, str]) -> list[str]:
        request = json.dumps({"argv": words, "env": dict(env)})
        return [*CHANNEL, str(self._ports), str(self.PATIENCE), request]


def _add(
    tar: tarfile.TarFile, name: str, text: str | None, mode: int = 0o644, owner: int = 0
) -> None:
    """Add a file to an archive, or a folder where there is no text."""
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = mode, owner, owner
    member.mtime = int(Path("/proc/self").stat().st_mtime)
    if text is None:
        member.type = tarfile.DIRTYPE
    data = (text or "").encode()
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
