"""What people type with tools of their own, as the pages have it; what each session types stands in
tests/unit/data/commands-typed.yaml.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import pty
import re
import shlex
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

import documents
import pytest
from test_luks_handover import Site, site  # noqa: F401

from rocksalt.backup.crypto import sshsig
from rocksalt.host import Host
from rocksalt.luks.handover import onetime
from rocksalt.luks.volumes import states

pytestmark = pytest.mark.any_salt
HANDED_OVER = """#!/bin/sh
while [ "$1" != rocksalt-volumes@db1 ]; do shift; done
shift
exec %s "$@"
"""


class Desk:
    """A folder in which somebody types what a page shows; a terminal answers passphrases."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self.folder, self.names = folder, {"/dev/shm": str(folder), **names}
        (folder / "bin").mkdir()
        self.environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}

    def program(self, name: str, text: str) -> None:
        """A program that stands for another."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def type(self, session: str) -> dict[str, str]:
        """What each command of a session said; it is as it should be."""
        said = {}
        for command, wanted in documents.session(session).items():
            line = command
            for name, here in self.names.items():
                line = line.replace(name, here)
            code, text = self._run(line, wanted.get("input", ""))
            said[command] = text
            assert code == wanted.get("code", 0), f"{line}\n{text}"
            assert re.search(wanted.get("says", ""), text, re.MULTILINE), f"{line}\n{text}"
        return said

    def _run(self, line: str, typed: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder, env=self.environment, start_new_session=True,
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(theirs)
        os.write(ours, typed.encode())
        answers = threading.Thread(target=_answer, args=(ours,), daemon=True)
        answers.start()
        text, _ = process.communicate(timeout=60)
        os.close(ours)
        return process.returncode, text.decode(errors="replace")


def _own_terminal() -> None:
    """What stands at standard input is the terminal that programs ask for passphrases."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _answer(terminal: int) -> None:
    """Types the same answer whenever something is asked."""
    try:
        while question := os.read(terminal, 1024):
            if question.rstrip().endswith((b":", b"?")):
                os.write(terminal, b"a long passphrase\n")
    except OSError:
        pass


def test_keys_of_the_operator_and_of_customers(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    desk = Desk(tmp_path, {})
    desk.type("keys")
    assert (tmp_path / "identity").read_text() == (tmp_path / "escrow").read_text()
    signer = " ".join((tmp_path / "authority.pub").read_text().split()[:2])
    (tmp_path / "allowed").write_text(f"us {signer}\n")
    check = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "us", "-n", "rocksalt-recipients"]
    subprocess.run([*check, "-s", "record.json.sig"], cwd=tmp_path, input=b"{}", check=True)
    assert (tmp_path / "volumes.pub").exists()
    (tmp_path / "identity").unlink()
    desk.type("identity")


def test_a_line_of_a_log_server(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"n": 1, "event": {"message": "one"}}\n')
    Desk(tmp_path, {"jq .event": "jq .event lines"}).type("logs")


def test_an_upgrade(tmp_path: Path) -> None:
    """A clone gets what is new."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    source, clone = tmp_path / "source", tmp_path / "clone"
    subprocess.run([*git, "init", "-q", source], check=True)
    subprocess.run([*git, "-C", source, "commit", "-qm", "1", "--allow-empty"], check=True)
    subprocess.run([*git, "clone", "-q", source, clone], check=True)
    (source / "new").touch()
    subprocess.run([*git, "-C", source, "add", "new"], check=True)
    subprocess.run([*git, "-C", source, "commit", "-qm", "2"], check=True)
    Desk(tmp_path, {"/srv/rocksalt": str(clone)}).type("upgrade")
    assert (clone / "new").exists()


@pytest.fixture
def customer(site: Site, tmp_path: Path) -> Desk:  # noqa: F811
    """Where the customer of a volume sits, and the operator who restores its header."""
    (recipient,) = site.customers["acme"].recipients
    (tmp_path / "etc/ssh").mkdir(parents=True)
    public = sshsig.generate(tmp_path / "etc/ssh/ssh_host_ed25519_key")
    disk = str(site.machine.path("/disks/acme"))
    names = {
        "acme-data": "data",
        "ssh-ed25519 AAAA...": public,
        "--recipient age1... --recipient age1... ...": f"--recipient {recipient} --identity"
        ' identity --host-key "$HOST_KEY" --request request.json < data.age > sealed',
        "age1... age1...": recipient,
        "/dev/sdX": disk,
        "=/dev/disk/by-id/virtio-acme1": f"={disk}",
        "/dev/disk/by-id/virtio-acme1": disk,
        "luksDump DEVICE": 'luksDump "$DEVICE"',
        "UUID.age": "header.age",
    }
    desk = Desk(tmp_path, names)
    desk.environment |= {"DEVICE": disk, "HOST_KEY": public}
    desk.program("ssh", HANDED_OVER % shlex.join(["/usr/bin/ssh", *site.ssh("acme")[1:]]))
    desk.program("rocksalt-luks", f'#!/bin/sh\nexec {site.program} "$@"\n')
    (tmp_path / "identity").write_text(Path(site.identities["acme"]).read_text())
    return desk


def test_a_customer_hands_keys_over(site: Site, customer: Desk) -> None:  # noqa: F811
    said = customer.type("customer")
    status = json.loads(said["ssh rocksalt-volumes@db1 status acme-data"])
    assert status["recipients"] == [*site.customers["acme"].fingerprints]


@pytest.mark.parametrize(
    ("session", "what"),
    [("seal open", "open"), ("seal open by the program", "open"), ("seal rotate", "rotate")],
)
def test_a_customer_seals_a_key(
    site: Site, customer: Desk, session: str, what: str  # noqa: F811
) -> None:
    host, volume = Host(str(customer.folder)), site.volumes["data"]
    now, uuid = dt.datetime.now(dt.timezone.utc), states.state(site.machine, volume).uuid
    request = onetime.request(host, "db1", volume, uuid, what, 15, now)
    (customer.folder / "request.json").write_text(json.dumps(request))
    (customer.folder / "data.age").write_bytes(site.ask("wrapped data").out)
    customer.type(session)
    sealed = (customer.folder / "sealed").read_text()
    with onetime.take(host, volume, uuid, what, sealed, now) as key:
        assert bytes(key.secret) == site.key(site.ask("wrapped data").out)


def test_a_header_is_restored(site: Site, customer: Desk) -> None:  # noqa: F811
    header = states.state(site.machine, site.volumes["data"]).header
    (customer.folder / "header.age").write_bytes(site.ask("header data").out)
    dumped = subprocess.run(
        ["cryptsetup", "luksDump", customer.names["/dev/sdX"]], capture_output=True
    )
    (token,) = re.findall(rb"Tokens:\n +(\d+): ", dumped.stdout)
    customer.names["--token-id 0"] = f"--token-id {token.decode()}"  # another one after a rotation
    customer.type("restore")
    assert states.state(site.machine, site.volumes["data"]).header == header
    customer.type("erase")
    assert not site.opens(site.key((customer.folder / "wrapped.age").read_bytes()))
