"""A small catalogue, the shipped one, and a host that is a folder with canned answers."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksalt import catalogue, settings, sshd
from rocksalt.firewall.policy import Facts, Policy
from rocksalt.host import Attributes, Host, Ran
from rocksalt.sshd import checks, reading

REPO = Path(__file__).resolve().parents[2]
NOW = dt.datetime.now(dt.timezone.utc)


@pytest.fixture(autouse=True)
def no_files_of_a_program_left_open(request: pytest.FixtureRequest):
    """Programs that ship and receive logs keep files open until they end; their tests do not."""
    ours = request.path.name.startswith("test_logstash_") and "tmp_path" in request.fixturenames
    folder = str(request.getfixturevalue("tmp_path")) if ours else ""
    yield
    for handle in map(int, os.listdir("/proc/self/fd") if folder else ()):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{handle}").startswith(folder):
                os.close(handle)


CONTROLS = """
title: Door lock
controls:
  LOCK-001:
    title: The door is locked
    severity: high
    rationale: An open door
      lets everybody in.
    references: ["lock(1)"]
  LOCK-002:
    title: The key is long
    severity: low
    rationale: Short keys are guessed.
    references: ["lock(1)"]
    floor: {size: {min: 4}}
    guarded: true
  LOCK-003:
    title: Somebody has a key
    severity: critical
    remedy: manual
    waivable: false
    rationale: Otherwise nobody gets in.
    references: ["lock(1)", "key(5)"]
"""
DEFAULTS = """
size: {type: integer, min: 1, max: 9, default: 6, help: Teeth of the key.}
kinds: {type: list, items: {type: string, choices: [disc, pin, wafer]}, default: [disc], help: Pin.}
shop: {type: mapping, values: {type: integer}, default: {mon: 8}, help: Hours.}
code: {type: string, secret: true, default: "", help: The code., formerly: [pin_code]}
"""
WATCH = """
title: Watchman
after: ["*"]
controls:
  WATCH-001:
    title: The watchman is awake
    severity: medium
    rationale: A sleeping one sees nothing.
    references: ["watch(1)"]
"""


def described(name: str, controls: str, defaults: str) -> catalogue.FamilyCatalogue:
    parsed = (catalogue.parse_yaml(text, name) for text in (controls, defaults))
    return catalogue.family(name, *parsed)


@pytest.fixture(scope="session")
def families() -> dict[str, catalogue.FamilyCatalogue]:
    """Two families: ``lock``, and ``watch``, which comes after everything."""
    return {
        "watch": described("watch", WATCH, ""),
        "lock": described("lock", CONTROLS, DEFAULTS),
    }


@pytest.fixture(scope="session")
def shipped() -> dict[str, catalogue.FamilyCatalogue]:
    """The families of the repository."""
    return {
        path.parent.name: described(
            path.parent.name, path.read_text(), (path.parent / "defaults.yaml").read_text()
        )
        for path in sorted(REPO.glob("salt/hardening/*/controls.yaml"))
    }


@pytest.fixture(scope="session")
def resolve(families) -> Callable[..., settings.Baseline]:
    """The baseline of the minion web1 for a pillar."""

    def call(pillar: Any = None, roles=(), minion: str = "web1", **os_settings: Any):
        return settings.resolve(families, pillar or {}, os_settings, minion, roles, NOW)

    return call


@pytest.fixture
def policy(shipped) -> Callable[..., Policy]:
    """The packet filter's policy for settings of the firewall and other parts of a pillar."""

    def call(firewall: Any = None, facts: Facts | None = None, **pillar: Any):
        networks = {"management": ["192.0.2.0/24", "2001:db8::/32"], **pillar.pop("networks", {})}
        pillar = {"networks": networks, "firewall": firewall or {}, **pillar}
        return Policy(settings.resolve(shipped, pillar, {}, "web1"), facts or Facts())

    return call


@pytest.fixture
def today() -> dt.date:
    return NOW.date()


@pytest.fixture
def waiver(today) -> Callable[..., dict[str, Any]]:
    """A good waiver; arguments replace parts of it."""
    good = {
        "reason": "the lock is on order",
        "owner": "ann",
        "approver": "bob",
        "expires": str(today + dt.timedelta(days=30)),
    }
    return lambda **other: {**good, **other}


class FakeHost(Host):
    """A folder instead of a host. Commands give the canned answer of their longest known
    beginning, and are not installed otherwise; everything belongs to root unless told.
    """

    def __init__(self, root: Path):
        super().__init__(str(root))
        self.answers: dict[tuple[str, ...], Ran] = {}
        self.owners: dict[str, str] = {}
        self.groups: dict[str, str] = {}
        self.ran: list[tuple[str, ...]] = []
        self.told: list[str] = []

    def run(self, *command: str, timeout: float = 30, text: str = "") -> Ran:
        self.ran.append(command)
        self.told.append(text)
        for length in range(len(command), 0, -1):
            if command[:length] in self.answers:
                return self.answers[command[:length]]
        return Ran(127, "", f"{command[0]} is not installed")

    def answer(self, command: str, out: str = "", status: int = 0, err: str = "") -> None:
        self.answers[tuple(command.split())] = Ran(status, out, err)

    def attributes(self, path: str, follow: bool = True) -> Attributes | None:
        found = super().attributes(path, follow)
        owner = self.owners.get(path, "root")
        group = self.groups.get(path, owner)
        return found and dataclasses.replace(found, owner=owner, group=group)

    def secure(self, path: str, owner: str, group: str, mode: str) -> None:
        self.owners[path], self.groups[path] = owner, group
        self.path(path).chmod(int(mode, 8))

    def own(self, handle: int, path: str, owner: str, group: str) -> None:
        self.owners[path], self.groups[path] = owner, group

    def put(self, path: str, text: str = "", mode: int = 0o644, owner: str = "root") -> None:
        """A file, in folders that nobody but their owner can write."""
        target = self.path(path)
        for folder in reversed(Path(path).parents[:-1]):
            if not self.path(str(folder)).exists():
                self.path(str(folder)).mkdir()
                self.path(str(folder)).chmod(0o755)
        target.write_text(text)
        target.chmod(mode)
        self.owners[path] = owner


@pytest.fixture
def host(tmp_path) -> FakeHost:
    root = tmp_path / "host"
    root.mkdir()
    return FakeHost(root)


@pytest.fixture(scope="session")
def public_key() -> Callable[..., str]:
    """A line of authorized_keys: ``public_key("ssh-rsa", bits=2048)``. Its numbers are random, so
    nobody has the private half.
    """

    def make(kind: str = "ssh-ed25519", bits: int = 3072, comment: str = "ann@desk") -> str:
        if kind == "ssh-rsa":
            modulus = (1 << (bits - 1)) | int.from_bytes(os.urandom(bits // 8 - 1), "big")
            fields = [b"\x01\x00\x01", modulus.to_bytes(bits // 8 + 1, "big")]
        else:
            fields = [os.urandom(32)]
        blob = b"".join(struct.pack(">I", len(f)) + f for f in (kind.encode(), *fields))
        return f"{kind} {base64.b64encode(blob).decode()} {comment}"

    return make


# An SSH server that is as the baseline wants it ---------------------------------------------------

STOCK = "\n# The distribution's own file.\nKbdInteractiveAuthentication no\nX11Forwarding yes\n"
OFFERED = {
    "ciphers": "3des-cbc aes128-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com "
    "chacha20-poly1305@openssh.com",
    "macs": "hmac-md5 umac-128-etm@openssh.com hmac-sha2-256-etm@openssh.com "
    "hmac-sha2-512-etm@openssh.com",
    "kexalgorithms": "diffie-hellman-group14-sha1 diffie-hellman-group16-sha512 "
    "diffie-hellman-group18-sha512 diffie-hellman-group-exchange-sha256 curve25519-sha256 "
    "curve25519-sha256@libssh.org sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com",
    "hostkeyalgorithms": "ssh-ed25519 sk-ssh-ed25519@openssh.com ecdsa-sha2-nistp256 "
    "ecdsa-sha2-nistp384 ecdsa-sha2-nistp521 sk-ecdsa-sha2-nistp256@openssh.com ssh-dss ssh-rsa "
    "rsa-sha2-256 rsa-sha2-512",
}
UNITS = """\
Id=ssh.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
MainPID=100
StateChangeTimestampMonotonic={stamp}
ReloadResult=success

Id=ssh.socket
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
"""


class SshHost(FakeHost):
    """A host with OpenSSH."""

    def effective(self, old: str = "", new: str = "") -> None:
        """``sshd -T`` as recorded from OpenSSH 9.2, with one text replaced."""
        text = (Path(__file__).parent / "data/sshd-T-hardened.txt").read_text()
        assert old in text
        self.answer("/usr/sbin/sshd -T", text.replace(old, new))

    def units(self, old: str = "", new: str = "", started_in: float = 60) -> None:
        """What systemd shows, with one text replaced; sshd read its configuration in so many
        seconds from now, which is after every file that a test writes.
        """
        stamp = int((time.monotonic() + started_in) * 1e6)
        assert old in UNITS
        self.answer("systemctl show ssh.service", UNITS.format(stamp=stamp).replace(old, new))

    def process(
        self,
        pid: int,
        title: str,
        namespace: str = "pid:[1]",
        program: str = "/usr/sbin/sshd",
        owner: str = "root",
        unit: str = "",
    ) -> None:
        """A process as /proc shows it, in place of one that had its number; ``unit`` is the one
        whose main process it is.
        """
        folder = self.path(f"/proc/{pid}")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/pid").symlink_to(namespace)
        (folder / "exe").symlink_to(program)
        (folder / "cmdline").write_bytes(title.replace(" ", "\0").encode())
        (folder / "cgroup").write_text(f"0::/system.slice/{unit or 'session-1.scope'}\n")
        self.owners[f"/proc/{pid}"] = owner
        if unit:
            self.answer(f"systemctl show --property=MainPID --value {unit}", f"{pid}\n")

    def host_key(self, kind: str, name: str, bits: int, mode: int = 0o600) -> None:
        path = f"/etc/ssh/ssh_host_{name}_key"
        self.put(path, "private", mode)
        self.put(f"{path}.pub", "public")
        self.answer(f"ssh-keygen -l -f {self.path(path)}", f"{bits} SHA256:x root@web1 ({kind})\n")


@pytest.fixture
def ssh_host(tmp_path, shipped, public_key) -> SshHost:
    """A host on which every control of sshd is ok, except for cloud-init, which it has not."""
    root = tmp_path / "ssh"
    root.mkdir()
    host = SshHost(root)
    for path in ("/run/lock", "/usr/sbin/sshd", "/bin/bash"):
        host.put(path)
    host.process(100, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-60 startups")
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to("pid:[1]")
    host.units()
    host.effective()
    for query, names in OFFERED.items():
        host.answer(f"ssh -Q {query}", names.replace(" ", "\n"))
    for kind, bits in (("ED25519", 256), ("ECDSA", 256), ("RSA", 3072)):
        host.host_key(kind, kind.lower(), bits)
    host.put("/usr/share/openssh/sshd_config", f"Include sshd_config.d/*.conf\n{STOCK}")
    host.put(sshd.MAIN, f"{sshd.INCLUDE}\n{STOCK}", 0o600)
    host.put(sshd.MODULI, "# moduli\n20230101000000 2 6 100 3071 2 ABC\n")
    host.put("/etc/passwd", "ann:x:1000:1000::/home/ann:/bin/bash\n")
    host.put("/etc/group", "sudo:x:27:ann\n")
    host.put("/etc/shadow", "ann:!:20000:0:99999:7:::\n")
    host.put("/home/ann/.ssh/authorized_keys", public_key(), 0o600, owner="ann")
    host.answer("sudo -n -l -U ann", "    (ALL) NOPASSWD: ALL\n")
    host.answer("setpriv --reuid 1000")
    it = checks.Sshd(settings.resolve(shipped, {}, {}, "web1"), reading.read(host))
    host.put(sshd.BANNER, checks.banner(it))
    host.put(sshd.DROP_IN, it.render(), 0o600)
    return host


@pytest.fixture
def look(shipped) -> Callable[..., checks.Sshd]:
    """The comparison of a host with the baseline of a pillar."""

    def call(host: Host, **pillar: Any) -> checks.Sshd:
        return checks.Sshd(settings.resolve(shipped, pillar, {}, "web1"), reading.read(host))

    return call
