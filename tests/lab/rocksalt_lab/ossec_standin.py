"""Makes the package of a stand-in for the OSSEC agent, and a signed repository with it.

OSSEC has no package in Debian. The stand-in has its paths, users, units, messages and interfaces,
in code of our own: see ``ossec_daemons`` (its programs) and ``ossec_package`` (the rest). What is
proved with it is proved of the baseline, and of the real agent only where both behave the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
import time
import zipapp
from pathlib import Path

from .host import Host
from .system import sh

HERE = Path(__file__).parent
PACKAGE, VERSION = "ossec-hids-agent", "4.3.0+standin"
PROGRAMS = (
    *("ossec-agentd", "ossec-execd", "ossec-logcollector", "ossec-syscheckd", "agent-auth"),
)
SERVER = "ossec-server-standin"
MODES = {"bin/*": 0o550, "active-response/bin/*": 0o550, "etc/*.conf": 0o640, "etc/shared/*": 0o640}
_SKIPPED = shutil.ignore_patterns("__pycache__")


def program(target: Path) -> None:
    """One of the programs, as a file that runs by itself; its name says which."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        name = "ossec_daemons"
        shutil.copytree(HERE / name, folder / name, ignore=_SKIPPED)
        (folder / "__main__.py").write_text(f"from {name}.__main__ import main\n\nmain()\n")
        zipapp.create_archive(folder, target, interpreter="/usr/bin/python3 -I")


def package(target: Path) -> None:
    """The package."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        shutil.copytree(HERE / "ossec_package", root)
        home = root / "var/ossec"
        (home / "bin").mkdir(exist_ok=True)
        program(home / "bin" / PROGRAMS[0])
        for name in PROGRAMS[1:]:
            shutil.copyfile(home / "bin" / PROGRAMS[0], home / "bin" / name)
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "DEBIAN" else 0o644)
        for pattern, mode in MODES.items():
            for path in home.glob(pattern):
                path.chmod(mode)
        (root / "DEBIAN/conffiles").chmod(0o644)
        (root / "DEBIAN/md5sums").write_text(_md5sums(root))
        sh("dpkg-deb", "--root-owner-group", "--build", root, target)


def _md5sums(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = {path: str(path.relative_to(root)) for path in files}
    return "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"
        for path, name in names.items()
        if not name.startswith("DEBIAN/") and name != "var/ossec/etc/ossec.conf"
    )


def repository(folder: Path, codename: str) -> str:
    """A repository for one release of Debian in an empty folder; its public key, armoured. The
    private one signs once and is thrown away.
    """
    pool, release = folder / "pool", folder / "dists" / codename
    index = release / "main/binary-amd64"
    pool.mkdir(parents=True)
    index.mkdir(parents=True)
    deb = pool / f"{PACKAGE}_{VERSION}_all.deb"
    package(deb)
    entry = sh("dpkg-deb", "--field", deb).stdout.rstrip("\n")
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    entry += f"\nFilename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
    (index / "Packages").write_text(entry)
    (index / "Packages.gz").write_bytes(gzip.compress(entry.encode(), mtime=0))
    sums = [
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size}"
        f" {path.relative_to(release)}"
        for path in sorted(index.iterdir())
    ]
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    head = ["Origin: Rocksalt lab", f"Suite: {codename}", f"Codename: {codename}", f"Date: {date}"]
    head += ["Architectures: amd64", "Components: main", "SHA256:"]
    (release / "Release").write_text("\n".join([*head, *sums, ""]))
    return _signed(release)


def _signed(release: Path) -> str:
    with tempfile.TemporaryDirectory() as home:
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode=loopback")
        who = "OSSEC stand-in of the Rocksalt lab"
        try:
            sh(*gpg, "--passphrase=", "--quick-generate-key", who, "rsa3072", "sign", "never")
            sh(*gpg, "--output", release / "InRelease", "--clearsign", release / "Release")
            return sh(*gpg, "--armor", "--export").stdout
        finally:
            sh("gpgconf", "--homedir", home, "--kill", "all")


class Server:
    """A stand-in server on a host of the lab, at one of its addresses."""

    def __init__(self, host: Host, address: str, password: str) -> None:
        self.host, self.address, self.password = host, address, password
        self.folder = f"/srv/ossec-{address}"
        self.unit = f"ossec-server-{address}"

    def set_up(self, folder: Path, certificate: str, key: str) -> None:
        """Puts everything there; it does not run yet. ``certificate`` and ``key`` are PEM."""
        self.host.copy_tree(folder, "/opt/ossec-standin")
        self.host.write(f"{self.folder}/server.pem", certificate)
        self.host.write(f"{self.folder}/server.key", key, mode="0600")
        self.host.write(f"{self.folder}/authd.pass", self.password + "\n", mode="0600")
        self.host.write(f"{self.folder}/shared/ar.conf", RESPONSES)
        self.host.run(f"ip address replace {self.address}/24 dev eth0")

    def start(self) -> None:
        """It serves."""
        command = ["systemd-run", "--quiet", f"--unit={self.unit}", "--property=Type=exec"]
        self.host.run([*command, f"/opt/ossec-standin/{SERVER}", self.address, self.folder])
        self.host.wait_for(["nc", "-z", self.address, "1515"])

    def stop(self) -> None:
        """It is gone, without a word to its agents."""
        self.host.run(
            f"systemctl kill --signal=KILL {self.unit}; systemctl stop {self.unit}", False
        )
        self.host.run(f"systemctl reset-failed {self.unit}", False)

    def events(self) -> list[list[str]]:
        """What it was told: number of the agent, kind and text."""
        return [json.loads(line) for line in self._read("events").splitlines()]

    def agents(self) -> list[str]:
        """Number and name of each that enrolled."""
        return [" ".join(line.split()[:2]) for line in self._read("agents").splitlines()]

    def forget(self) -> None:
        """Removes every agent, as a person does before a host enrols again."""
        self.host.run(f"rm -f {self.folder}/agents")

    def _read(self, name: str) -> str:
        return self.host.run(f"cat {self.folder}/{name}", check=False).stdout

    def order(self, text: str) -> None:
        """Has agents do something, such as ``firewall-drop600 - 192.0.2.7 1.2 5712 (web1) any``."""
        send = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        send += f"s.sendto(sys.argv[1].encode(), '{self.folder}/orders')"
        self.host.run(["python3", "-c", send, text])


RESPONSES = """\
restart-ossec0 - restart-ossec.sh - 0
firewall-drop600 - firewall-drop.sh - 600
firewall-drop3 - firewall-drop.sh - 3
host-deny600 - host-deny.sh - 600
route-null600 - route-null.sh - 600
disable-account600 - disable-account.sh - 600
"""
"""What the server hands out as ar.conf: name, script and seconds."""
