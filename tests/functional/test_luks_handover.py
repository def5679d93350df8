"""Keys of volumes by SSH, and sealed for one host, with the tools that a customer has: ssh, age,
ssh-keygen. The sshd is real, and so are the forced command and the headers; opening itself needs
dm-crypt and is tried in a virtual machine of the lab.
"""

from __future__ import annotations

import base64
import datetime as dt
import getpass
import gzip
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import luks_volumes as given
import pytest
from backup_servers import HERE, free_ports, listens, running, wait

from conftest import REPOSITORY
from rocksalt.backup.crypto import age, sshsig
from rocksalt.host import Host
from rocksalt.luks import config, copies, cryptsetup
from rocksalt.luks.handover import onetime, units
from rocksalt.luks.keys import Key
from rocksalt.luks.volumes import creating, states

pytestmark = pytest.mark.any_salt

START = """
import sys
sys.path[:0] = [{library!r}, {tests!r}]
import luks_volumes as given
from rocksalt.host import Host
from rocksalt.luks import __main__ as cli
from rocksalt.luks.handover import commands, units
from rocksalt.luks.volumes.machine import Machine
units.SOCKETS = {folder!r}
cli.Machine = lambda: Machine(Host({root!r}), given.Files())
commands.Task.strength = given.WEAK
raise SystemExit(cli.main(["--config", {config!r}, *sys.argv[1:]]))
"""


class Said(NamedTuple):
    code: int
    out: bytes
    errors: str


class Site:
    """A host with an sshd of its own, and two customers with one volume each."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "root"
        self.machine = given.machine(self.root)
        given.disk(self.machine, "beta")
        self.customers, self.identities = {}, {}
        for name in ("acme", "beta"):
            key = sshsig.generate(folder / f"ssh-{name}")
            customer, identity = given.customer(name)
            self.customers[name] = config.Customer(name, customer.recipients, (key,))
            self.identities[name] = str(folder / f"identity-{name}")
            Path(self.identities[name]).write_text(f"{identity}\n")
        self.volumes = {
            "data": given.volume(self.customers["acme"]),
            "ledger": given.volume(
                self.customers["beta"], "ledger",
                device="/dev/disk/by-id/virtio-beta", mount="/srv/ledger",
            ),
        }  # fmt: skip
        for volume in self.volumes.values():
            creating.create(self.machine, volume, given.NOW, given.WEAK)
        self.program = self._program()
        self._configure()
        self._listen()

    def _program(self) -> str:
        words = {
            "library": REPOSITORY / "_utils", "tests": REPOSITORY / "tests/unit",
            "folder": self.folder, "root": self.root, "config": self.folder / "config.json",
        }  # fmt: skip
        script = self.folder / "rocksalt-luks.py"
        script.write_text(START.format(**{key: str(path) for key, path in words.items()}))
        return f"{sys.executable} {script}"

    def _configure(self) -> None:
        customers = {
            name: {"recipients": list(it.recipients), "ssh_keys": list(it.ssh_keys)}
            for name, it in self.customers.items()
        }
        volumes = {
            name: {
                "customer": it.customer.name,
                "device": it.device,
                "confirm": os.path.basename(it.device),
                "mount": it.mount,
            }
            for name, it in self.volumes.items()
        }
        settings = {
            "user": getpass.getuser(), "header_backups": True,
            "customers": customers, "volumes": volumes,
        }  # fmt: skip
        path = self.folder / "config.json"
        path.write_text(json.dumps(settings))
        path.chmod(0o600)

    def _listen(self) -> None:
        """As systemd does with ``Accept=yes``."""
        for customer in self.customers:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.folder / f"{customer}.sock"))
            listener.listen()
            threading.Thread(target=self._accept, args=(listener, customer), daemon=True).start()

    def _accept(self, listener: socket.socket, customer: str) -> None:
        command = [*shlex.split(self.program), "serve", customer]
        with open(self.folder / "journal", "ab") as journal:
            while True:
                connection, _ = listener.accept()
                with connection:
                    subprocess.Popen(command, stdin=connection, stdout=journal, stderr=journal)

    @property
    def journal(self) -> str:
        return (self.folder / "journal").read_text()

    def start(self) -> Any:
        """The sshd, with the keys as they are rendered."""
        (self.port,) = free_ports(1)
        self.host_key = sshsig.generate(self.folder / "host")
        keys = units.authorized_keys(self.customers.values())
        keys = keys.replace("/usr/local/sbin/rocksalt-luks", self.program)
        (self.folder / "authorized_keys").write_text(keys)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {HERE}\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\n"
        )
        (self.folder / "known_hosts").write_text(f"[{HERE}]:{self.port} {self.host_key}\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        return running(command, self.folder / "sshd.log")

    def options(self, customer: str) -> list[str]:
        return [
            "-F", "none", "-i", f"{self.folder}/ssh-{customer}", "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
            "-o", "LogLevel=ERROR",
        ]  # fmt: skip

    def ssh(self, customer: str, *more: str) -> list[str]:
        where = ["-p", str(self.port), f"{getpass.getuser()}@{HERE}"]
        return ["ssh", *self.options(customer), *where, *more]

    def ask(self, request: str, data: bytes | None = b"", customer: str = "acme") -> Said:
        done = subprocess.run(
            self.ssh(customer, request), input=data, capture_output=True, timeout=30, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr.decode())

    def shell(self, script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """What a customer types."""
        ssh = {name.upper(): shlex.join(self.ssh(name)) for name in self.customers}
        environment = {**os.environ, **ssh, **variables}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=environment, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def key(self, wrapped: bytes, customer: str = "acme") -> bytes:
        """What stock ``age`` reads in a wrapped key."""
        command = ["age", "-d", "-i", self.identities[customer]]
        return subprocess.run(command, input=wrapped, capture_output=True, check=True).stdout

    def opens(self, key: bytes) -> bool:
        found = states.state(self.machine, self.volumes["data"])
        return any(cryptsetup.opens(found.device, Key(key), slot) for slot in found.slots)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    with made.start():
        wait(lambda: listens(made.port), "sshd to listen")
        yield made


def test_a_customer_sees_its_own_volumes(site: Site) -> None:
    assert site.ask("list") == Said(0, b"data\tclosed\t/srv/data\n", "")
    assert site.ask("list", customer="beta") == Said(0, b"ledger\tclosed\t/srv/ledger\n", "")
    told = json.loads(site.ask("status data").out)
    assert (told["condition"], told["key_slots"], told["strangers"]) == (
        "closed", {"0": "customer"}, [],
    )  # fmt: skip


def test_a_customer_reaches_nothing_else(site: Site) -> None:
    for request in ("wrapped ledger", "open ledger"):
        said = site.ask(request)
        assert (said.code, said.out) == (1, b"")
        assert said.errors == "you have no volume of that name on this host; yours are: data\n"
    for request in ("list; id", "serve beta", "list\nid"):
        said = site.ask(request)
        assert (said.code, said.out) == (2, b"")
        assert said.errors.startswith("ask for one of these: list, ")


def test_a_key_gives_no_shell_no_files_and_no_way_on(site: Site) -> None:
    said = site.ask("")
    assert (said.code, said.out) == (2, b"")
    terminal = subprocess.run(
        site.ssh("acme", "-tt"), input=b"id\n", capture_output=True, timeout=30, check=False
    )
    assert terminal.returncode != 0 and b"uid=" not in terminal.stdout
    copy = subprocess.run(
        ["scp", *site.options("acme"), "-P", str(site.port), f"{HERE}:/etc/passwd", "."],
        cwd=site.folder, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert copy.returncode != 0 and not (site.folder / "passwd").exists()
    forward = [*site.ssh("acme")[:-1], "-W", f"{HERE}:{site.port}", site.ssh("acme")[-1]]
    onward = subprocess.run(forward, input=b"", capture_output=True, timeout=30, check=False)
    assert onward.returncode != 0 and b"SSH-2.0" not in onward.stdout


def test_what_is_handed_over_without_end(site: Site) -> None:
    """Neither a terminal that stays open nor an endless file keeps anybody waiting."""
    for request, code in (("status data", 0), ("open data", 1), ("list", 0)):
        with open("/dev/zero", "rb") as endless:
            done = subprocess.run(
                site.ssh("acme", request), stdin=endless, capture_output=True, timeout=30,
                check=False,
            )  # fmt: skip
        assert done.returncode == code, done.stderr
    reading, writing = os.pipe()
    done = subprocess.run(
        site.ssh("acme", "status data"), stdin=reading, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0
    os.close(reading)
    os.close(writing)


def test_a_wrong_key_changes_nothing_and_is_said_so(site: Site) -> None:
    said = site.ask("rotate data", bytes(64))
    assert (said.code, said.out) == (1, b"")
    assert "does not open the volume data" in said.errors
    assert "still encrypted" in site.ask("open data", site.ask("wrapped data").out).errors
    identity = Path(site.identities["acme"]).read_bytes()
    said = site.ask("open data", identity)
    assert "is an identity" in said.errors and identity.decode().strip() not in said.errors


def test_a_customer_rotates_its_key_with_stock_tools(site: Site) -> None:
    old = site.key(site.ask("wrapped data").out)
    assert site.opens(old)
    done = site.shell(
        '$ACME wrapped data | age -d -i "$IDENTITY" | $ACME rotate data > new.age',
        IDENTITY=site.identities["acme"],
    )
    assert done.returncode == 0, done.stderr
    (recipient,) = site.customers["acme"].fingerprints
    assert f"the new key can be unwrapped by {recipient}\n".encode() in done.stderr
    assert b"a copy of the header that was made before has the old key slot" in done.stderr
    new = site.key((site.folder / "new.age").read_bytes())
    assert new != old and site.opens(new) and not site.opens(old)
    assert site.ask("wrapped data").out == (site.folder / "new.age").read_bytes()
    assert [it.volume for it in copies.copies(Host(str(site.root))).values()] == ["data"]
    assert "does not open" in site.ask("rotate data", old).errors
    assert site.opens(new)
    spread(site, old, new)


def test_who_reads_a_new_key_is_for_the_customer_to_say(site: Site) -> None:
    """The operator declared a recipient of its own; the customer's key is worth nothing there."""
    old = site.key(site.ask("wrapped data").out)
    path = site.folder / "config.json"
    before = path.read_text()
    (own,), mine = site.customers["acme"].recipients, age.generate()[1]
    try:
        changed = json.loads(before)
        changed["customers"]["acme"]["recipients"].append(mine)
        path.write_text(json.dumps(changed))
        for request in ("rotate data", f"rotate data {age.fingerprint(own)}"):
            said = site.ask(request, old)
            assert (said.code, said.out) == (1, b"")
            assert age.fingerprint(mine) in said.errors
    finally:
        path.write_text(before)
    assert site.opens(old)


def spread(site: Site, *keys: bytes) -> None:
    """No key is in any file of the host, nor in what sshd and our programs say."""
    for key in keys:
        forms = (key, key.hex().encode(), base64.b64encode(key), base64.b64encode(key)[:40])
        for path in site.folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                assert not [form for form in forms if form in content], path


def test_the_journal_has_who_did_what(site: Site) -> None:
    site.ask("status data")
    site.ask("status ledger")
    wait(lambda: "acme: status ledger: exit code 1" in site.journal, "the journal")
    assert "acme: status data: exit code 0" in site.journal


def test_a_header_is_restored_with_stock_tools(site: Site) -> None:
    """After the disk lost it; the key of its owner opens the volume as before."""
    key = site.key(site.ask("wrapped data").out)
    disk = site.machine.path("/disks/acme")
    before = states.state(site.machine, site.volumes["data"]).header
    backup = '$ACME header data | age -d -i "$IDENTITY" | gunzip > header.img'
    done = site.shell(backup, IDENTITY=site.identities["acme"])
    assert done.returncode == 0, done.stderr
    with open(disk, "rb+") as file:
        file.write(bytes(16 << 20))
    assert not site.opens(key)
    done = site.shell(
        'cryptsetup luksHeaderRestore --batch-mode "$DISK" --header-backup-file header.img',
        DISK=str(disk),
    )
    assert done.returncode == 0, done.stderr
    assert states.state(site.machine, site.volumes["data"]).header == before
    assert site.opens(key)


def _read(sealed: bytes, identity: str) -> bytes:
    return age.Reader(io.BytesIO(sealed), age.identities(identity)).readall() or b""


def test_the_copy_of_a_header_of_the_old_format_is_restored(tmp_path: Path) -> None:
    disk, (customer, identity) = tmp_path / "disk", given.customer()
    with open(disk, "wb") as file:
        file.truncate(32 << 20)
    made = ["cryptsetup", "luksFormat", "-q", "--type=luks1", "--pbkdf-force-iterations=1000"]
    opened = ["cryptsetup", "open", "--test-passphrase"]
    subprocess.run([*made, "--key-file=-", str(disk)], input=b"old", check=True)
    host = Host(str(tmp_path))
    copy = copies.back_up(host, "/disk", customer.recipients, given.NOW)
    image = gzip.decompress(_read(copies.content(host, copy.uuid), identity))
    (tmp_path / "header.img").write_bytes(image)
    with open(disk, "rb+") as file:
        file.write(bytes(2 << 20))
    restore = ["cryptsetup", "luksHeaderRestore", "-q", "--header-backup-file"]
    subprocess.run([*restore, str(tmp_path / "header.img"), str(disk)], check=True)
    subprocess.run([*opened, "--key-file=-", str(disk)], input=b"old", check=True)


SEAL = """
jq -j .statement request.json > statement.json
jq -j .signature request.json > statement.json.sig
echo "web1 $HOST_KEY" > known
ssh-keygen -Y verify -f known -I web1 -n rocksalt-volume-key -s statement.json.sig < statement.json
RECIPIENT=$(jq -r .recipient statement.json)
$ACME wrapped data | age -d -i "$IDENTITY" | age -r "$RECIPIENT" | base64 -w0 > sealed
$ACME wrapped data | age -d -i "$IDENTITY" | age -a -r "$RECIPIENT" > sealed.asc
"""


@pytest.mark.parametrize("file", ["sealed", "sealed.asc"])
def test_a_key_is_sealed_with_stock_tools(site: Site, tmp_path: Path, file: str) -> None:
    host = Host(str(tmp_path))
    (tmp_path / "etc/ssh").mkdir(parents=True)
    public = sshsig.generate(tmp_path / "etc/ssh/ssh_host_ed25519_key")
    volume, now = site.volumes["data"], dt.datetime.now(dt.timezone.utc)
    uuid = states.state(site.machine, volume).uuid
    request = onetime.request(host, "web1", volume, uuid, "open", 15, now)
    (site.folder / "request.json").write_text(json.dumps(request))
    done = site.shell(SEAL, IDENTITY=site.identities["acme"], HOST_KEY=public)
    assert done.returncode == 0, done.stderr
    assert b'Good "rocksalt-volume-key" signature for web1' in done.stdout
    sealed = (site.folder / file).read_text()
    with onetime.take(host, volume, uuid, "open", sealed, now) as key:
        assert bytes(key.secret) == site.key(site.ask("wrapped data").out)


def test_stock_tools_see_that_a_request_was_changed(site: Site, tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    (tmp_path / "etc/ssh").mkdir(parents=True)
    public = sshsig.generate(tmp_path / "etc/ssh/ssh_host_ed25519_key")
    now = dt.datetime.now(dt.timezone.utc)
    request = onetime.request(host, "web1", site.volumes["data"], "uuid", "open", 15, now)
    request["statement"] = request["statement"].replace("web1", "web2")
    (site.folder / "request.json").write_text(json.dumps(request))
    done = site.shell(SEAL, IDENTITY=site.identities["acme"], HOST_KEY=public)
    assert done.returncode != 0
    assert b"verif" in done.stderr.lower() + done.stdout.lower()


def test_the_program_seals_what_stock_age_wrapped(site: Site, tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    (tmp_path / "etc/ssh").mkdir(parents=True)
    public = sshsig.generate(tmp_path / "etc/ssh/ssh_host_ed25519_key")
    now = dt.datetime.now(dt.timezone.utc)
    request = onetime.request(host, "web1", site.volumes["data"], "uuid", "open", 15, now)
    (site.folder / "request.json").write_text(json.dumps(request))
    (recipient,) = site.customers["acme"].recipients
    done = site.shell(
        'head -c 64 /dev/urandom > plain; age -r "$RECIPIENT" plain | $PROGRAM seal data'
        ' --identity "$IDENTITY" --host-key "$HOST_KEY" --request request.json',
        RECIPIENT=recipient, IDENTITY=site.identities["acme"], HOST_KEY=public,
        PROGRAM=site.program,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = site.folder / "plain"
    with onetime.take(host, site.volumes["data"], "uuid", "open", done.stdout.decode(), now) as key:
        assert bytes(key.secret) == plain.read_bytes()
    plain.unlink()
