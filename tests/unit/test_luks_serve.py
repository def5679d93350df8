"""A customer's request by SSH: rocksalt.luks.handover.relay, serve and commands."""

from __future__ import annotations

import getpass
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config
from rocksalt.luks.handover import commands, frames, receiving, relay, serve, units
from rocksalt.luks.keys import SIZE, WrongKey
from rocksalt.luks.volumes.machine import Machine

KEY = bytes(range(SIZE))
CUSTOMERS = ("acme", "beta")


class Said(NamedTuple):
    code: int
    out: bytes
    errors: str


class Site:
    """Two customers, each with a socket; what is done with volumes is only noted in ``done``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.config = folder / "config.json"
        self.machine = Machine(Host(str(folder)))
        self.done: list[tuple[str, str, bytes]] = []
        self.real = dict(commands.COMMANDS)
        self.answer: Callable[[commands.Task], commands.Answer] = lambda _: commands.Answer()
        self._listeners = []
        self.write()
        for name, command in commands.COMMANDS.items():
            known = command._replace(run=self._noting(name, command.needs_key))
            monkeypatch.setitem(commands.COMMANDS, name, known)
        for customer in CUSTOMERS:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.socket(customer))
            listener.listen()
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, customer), daemon=True).start()

    def write(self, **changes: Any) -> None:
        settings = {
            "user": getpass.getuser(),
            "customers": {name: {"recipients": [age.generate()[1]]} for name in CUSTOMERS},
            "volumes": {
                name: {
                    "customer": customer,
                    "device": f"/dev/disk/by-id/{name}",
                    "confirm": name,
                    "mount": f"/srv/{name}",
                }
                for name, customer in (("data", "acme"), ("logs", "acme"), ("secret", "beta"))
            },
            **changes,
        }
        self.config.write_text(json.dumps(settings))
        self.config.chmod(0o600)

    def _noting(self, name: str, needs_key: bool) -> Callable[[commands.Task], commands.Answer]:
        def run(task: commands.Task) -> commands.Answer:
            key = b""
            if needs_key:
                with task.key() as given:
                    key = bytes(given.secret)
            self.done.append((name, task.volume.name, key))
            return self.answer(task)

        return run

    def socket(self, customer: str) -> str:
        return str(self.folder / f"{customer}.sock")

    def _accept(self, listener: socket.socket, customer: str) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve.serve(customer, connection, self.machine, str(self.config))

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def ask(self, text: str, given: bytes = b"", customer: str = "acme") -> Said:
        """As sshd runs the relay; what is given ends."""
        reading, writing = os.pipe()

        def write() -> None:
            with open(writing, "wb") as file:
                try:
                    file.write(given)
                    file.flush()
                except BrokenPipeError:
                    file.detach()

        threading.Thread(target=write, daemon=True).start()
        return self.ask_from(reading, text, customer)

    def ask_from(self, stdin: int, text: str, customer: str = "acme") -> Said:
        out, errors = io.BytesIO(), io.BytesIO()
        code = relay.relay(customer, text, stdin, out, errors, self.socket(customer))
        return Said(code, out.getvalue(), errors.getvalue().decode())


@pytest.fixture
def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    monkeypatch.setattr(receiving, "keep_private", lambda: None)
    made = Site(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_key_reaches_the_volume_of_its_customer(site):
    assert site.ask("open data", KEY) == Said(0, b"", "")
    assert site.done == [("open", "data", KEY)]


def test_what_is_said_comes_back_as_it_is(site):
    out = bytes(range(256)) * 1024
    site.answer = lambda _: commands.Answer(out, ["one", "two ü"])
    assert site.ask("header data") == Said(0, out, "one\ntwo ü\n")


def test_a_refusal_comes_back(site):
    def refuse(_: commands.Task) -> commands.Answer:
        raise WrongKey("the key does not open the volume data")

    site.answer = refuse
    assert site.ask("open data", KEY) == Said(1, b"", "the key does not open the volume data\n")


def test_a_failure_says_nothing_of_what_was_handed_over(site, capfd):
    def fail(_: commands.Task) -> commands.Answer:
        raise ValueError(KEY)

    site.answer = fail
    said = site.ask("open data", KEY)
    assert (said.code, said.out) == (1, b"")
    assert said.errors == "a failure on this host, which its journal names\n"
    journal = capfd.readouterr().err
    assert "acme: ValueError at " in journal and "test_luks_serve.py" in journal
    assert "acme: open data: exit code 1" in journal
    assert "\\x01" not in journal and KEY.hex() not in journal


def test_the_journal_has_who_asked_for_what(site, capfd):
    site.ask("status data")
    site.ask("status secret")
    assert capfd.readouterr().err.splitlines() == [
        "acme: status data: exit code 0",
        "acme: status secret: exit code 1",
    ]


@pytest.mark.parametrize("text", ["status secret", "open secret", "wrapped secret", "close nosuch"])
def test_nobody_reaches_what_is_another_customers(site, text):
    """Nor learns that there is such a volume."""
    said = site.ask(text, KEY)
    assert (said.code, said.out) == (1, b"")
    assert said.errors == ("you have no volume of that name on this host; yours are: data, logs\n")
    assert site.done == []


@pytest.mark.parametrize(("command", "remove"), [("rotate", False), ("expel", True)])
def test_who_can_read_a_new_key_is_for_the_customer_to_say(site, monkeypatch, command, remove):
    """As many as a request has room for; a volume decides whether they are those declared."""
    asked = []

    def rotate(*words: Any) -> Any:
        asked.append(words[-2:])
        return commands.rotating.Rotation(b"wrapped", ["done"])

    monkeypatch.setattr(commands.rotating, "rotate", rotate)
    monkeypatch.setattr(commands.Task, "strength", None)
    monkeypatch.setattr(commands.Task, "copied", lambda _: [])
    monkeypatch.setitem(commands.COMMANDS, command, site.real[command])
    names = tuple(f"{number:064x}" for number in range(30))
    assert site.ask(f"{command} data", KEY) == Said(0, b"wrapped", "done\n")
    assert site.ask(f"{command} data {' '.join(names)}", KEY).code == 0
    assert asked == [(remove, ()), (remove, names)]


def test_each_customer_has_a_socket_of_its_own(site):
    assert site.ask("status secret", customer="beta").code == 0
    assert site.ask("status data", customer="beta").code == 1
    assert site.done == [("status", "secret", b"")]


HOSTILE = [
    "",
    " ",
    "list data",
    "open",
    "open ",
    "open data ",
    " open data",
    "open  data",
    "open\tdata",
    "open data\n",
    "open data\nclose logs",
    "open data secret",
    "rotate data secret",
    "rotate data " + "A" * 64,
    "rotate data  " + "a" * 64,
    "rotate " + "a" * 64,
    "open data " + "a" * 64,
    "rotate data" + (" " + "a" * 64) * 40,
    "open -h",
    "open --config=/tmp/x",
    "open ../data",
    "open data;id",
    "open $(id)",
    "OPEN data",
    "open DATA",
    "serve acme",
    "relay beta",
    "seal data",
    "settle",
    "open-all",
    "/usr/lib/openssh/sftp-server",
    "internal-sftp",
    "scp -t /",
    "sh -c id",
    "open d\u00e4ta",
    "open \u0000",
    "open " + "a" * 33,
    "a" * 100_000,
    "\x1b[2J",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_nobody_can_ask_for(site, text):
    """The relay refuses it, and repeats none of it."""
    said = site.ask(text, KEY)
    assert (said.code, said.out, site.done) == (2, b"", [])
    assert said.errors.startswith("ask for one of these: list, status VOLUME, ")
    assert "\x1b" not in said.errors


@pytest.mark.parametrize("text", [it for it in HOSTILE if "\n" not in it])
def test_whoever_speaks_to_the_socket_itself_gets_no_further(site, text):
    code, _, errors = direct(site, text.encode(errors="replace") + b"\n" + KEY)
    assert (code, site.done) == (1, [])
    assert errors.startswith("ask for one of these")


def direct(site: Site, data: bytes, half_close: bool = True) -> Said:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.socket("acme"))
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        found = list(frames.received(connection))
    parts = {kind: b"".join(d for k, d in found if k == kind) for kind in (b"O", b"E", b"X")}
    return Said(parts[b"X"][0], parts[b"O"], parts[b"E"].decode())


def test_a_request_without_an_end(site):
    assert direct(site, b"status data").code == 0
    assert direct(site, b"x" * 100_000).errors.startswith("ask for one of these")
    assert direct(site, b"").errors.startswith("ask for one of these")


def test_the_key_may_come_in_pieces_with_the_request(site):
    """In one piece with the line, byte by byte, and later."""
    assert direct(site, b"open data\n" + KEY).code == 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.socket("acme"))
        for byte in b"open data\n" + KEY:
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert list(frames.received(connection)) == [(b"X", b"\0")]
    assert site.done == [("open", "data", KEY)] * 2


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1, receiving.LARGEST, 1 << 22])
def test_what_is_too_little_or_too_much(site, size):
    """However much it is, no more is read than is needed to say so, and the answer arrives."""
    said = site.ask("open data", b"\xff" * size)
    assert (said.code, said.out, site.done) == (1, b"", [])
    assert f"a key has {SIZE}" in said.errors


def test_input_that_nobody_wants_is_left_alone(site):
    """A terminal, or a pipe that never ends, keeps nobody waiting."""
    reading, writing = os.pipe()
    began = time.monotonic()
    assert site.ask_from(reading, "status data").code == 0
    os.write(writing, b"still there")
    assert os.read(reading, 100) == b"still there"
    assert time.monotonic() - began < 5
    os.close(reading)
    os.close(writing)


def test_who_is_slow_with_a_request_is_sent_away(site, monkeypatch):
    monkeypatch.setattr(serve, "LINE_SECONDS", 0.1)
    assert direct(site, b"open da", half_close=False).errors == (
        "no whole request arrived in time: try again\n"
    )


def test_who_is_slow_with_a_key_is_sent_away(site, monkeypatch):
    monkeypatch.setattr(serve, "KEY_SECONDS", 0.1)
    said = direct(site, b"open data\n" + KEY, half_close=False)
    assert (said.code, said.errors) == (1, "no whole key arrived in time: try again\n")
    assert site.done == []


def test_who_sends_a_byte_now_and_then_gains_no_time(site, monkeypatch):
    monkeypatch.setattr(serve, "KEY_SECONDS", 0.3)
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.socket("acme"))
        connection.sendall(b"open data\n")
        with pytest.raises(OSError):
            while time.monotonic() - began < 5:
                connection.sendall(b"x")
                time.sleep(0.05)
    assert time.monotonic() - began < 3


def test_who_reads_no_answer_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr(serve, "ANSWER_SECONDS", 0.1)
    site.answer = lambda _: commands.Answer(bytes(1 << 22))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.socket("acme"))
        connection.sendall(b"header data\n")
        while not site.done:
            time.sleep(0.01)
        assert site.ask("status data").code == 0


def test_what_was_begun_is_finished_although_nobody_listens(site):
    goes_on, over = threading.Event(), threading.Event()

    def slow(_: commands.Task) -> commands.Answer:
        goes_on.wait(5)
        over.set()
        return commands.Answer(bytes(1 << 20), ["done"])

    site.answer = slow
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.socket("acme"))
        connection.sendall(b"close data\n")
    goes_on.set()
    assert over.wait(5)
    assert site.ask("status data").code == 0


def test_an_answer_that_breaks_off(site, monkeypatch):
    """As where systemd takes no more connections, or the service dies."""
    monkeypatch.setattr(serve, "serve", lambda *_: 0)
    for text, given in (("status data", b""), ("open data", KEY), ("open data", bytes(1 << 20))):
        said = site.ask(text, given)
        assert (said.code, said.out) == (1, b"")
        assert said.errors.startswith("there was no answer: too many requests at a time")


def test_an_answer_that_is_none(site, monkeypatch):
    for nonsense in (b"HTTP/1.1 200 OK\r\n\r\n", b"O\xff\xff\xff\xff", b"O\0\0\0\x05ab"):

        def answer(_: str, connection: socket.socket, *__: object, said: bytes = nonsense) -> None:
            connection.sendall(said)

        monkeypatch.setattr(serve, "serve", answer)
        assert site.ask("status data").code == 1


def test_nobody_listens(site):
    said = site.ask_from(0, "status data", customer="gamma")
    assert said == Said(1, b"", "nobody listens for you on this host at the moment\n")


def test_another_user_of_the_host_may_not_ask(site, monkeypatch):
    monkeypatch.setattr(serve.struct, "unpack", lambda *_: (1, 4242, 4242))
    said = direct(site, b"status data\n")
    assert (said.code, site.done) == (1, [])
    assert said.errors == "the user with the number 4242 may not ask for anything here\n"


def test_a_configuration_that_others_can_write_counts_for_nothing(site):
    site.config.chmod(0o666)
    said = site.ask("status data")
    assert (said.code, site.done) == (1, [])
    assert "can be written by others" in said.errors


def test_a_customer_that_is_no_longer_declared_has_nothing(site):
    site.write(customers={"beta": {"recipients": [age.generate()[1]]}}, volumes={})
    assert site.ask("list") == Said(0, b"", "")
    assert site.ask("status data").code == 1


def test_the_list_says_what_can_be_told(site, monkeypatch):
    class Closed(NamedTuple):
        condition: str = "closed"

    def state(_: Machine, volume: config.Volume) -> Closed:
        if volume.name == "logs":
            raise Refused("damaged")
        return Closed()

    monkeypatch.setattr(commands.states, "state", state)
    assert site.ask("list").out == b"data\tclosed\t/srv/data\nlogs\tunknown\t/srv/logs\n"


def test_the_connection_is_no_programs_standard_input(tmp_path):
    """What serve starts could read the key there, or answer in its place."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        os.dup2(theirs.fileno(), 0)
        os.set_inheritable(0, True)
        connection = serve.accepted()
        good = os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev
        good = good and not os.get_inheritable(connection.fileno())
        connection.sendall(b"yes" if good else b"no")
        os._exit(0)
    theirs.close()
    os.waitpid(child, 0)
    assert ours.recv(10) == b"yes"
    ours.close()


def test_only_customers_with_keys_of_ssh_are_served():
    customers = {
        "acme": config.Customer("acme", ("age1x",), ("ssh-ed25519 AAAA me@laptop", "ssh-rsa BBBB")),
        "beta": config.Customer("beta", ("age1y",)),
    }
    found = units.texts(customers, {}, "volumes")
    assert sorted(found) == [
        "/etc/systemd/system/rocksalt-volumes-acme.socket",
        "/etc/systemd/system/rocksalt-volumes-acme@.service",
    ]
    assert units.sockets(customers) == ["rocksalt-volumes-acme.socket"]
    assert units.authorized_keys(customers.values()).splitlines()[1:] == [
        f'restrict,command="/usr/local/sbin/rocksalt-luks relay acme" {key} acme'
        for key in ("ssh-ed25519 AAAA", "ssh-rsa BBBB")
    ]


def test_no_unit_hides_a_mount_or_a_disk():
    """Whatever gives a service a mount namespace of its own."""
    customer = config.Customer("acme", ("age1x",), ("ssh-ed25519 AAAA",))
    volume = config.Volume("data", customer, "/dev/disk/by-id/x", "/srv/x", key_command=("/bin/x",))
    found = units.texts({"acme": customer}, {"data": volume}, "volumes")
    assert len(found) == 3 and units.services({"data": volume}) == [units.OPENER]
    hiding = (
        "Private", "ProtectSystem", "ProtectHome", "ProtectKernel", "ProtectControlGroups",
        "ProtectClock", "ProtectProc", "ProtectHostname", "ReadWritePaths", "ReadOnlyPaths",
        "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "TemporaryFileSystem",
        "MountFlags", "RootDirectory", "DynamicUser", "DeviceAllow", "DevicePolicy",
        "StateDirectory", "RuntimeDirectory", "LoadCredential", "SetCredential",
    )  # fmt: skip
    for text in found.values():
        keys = [line.partition("=")[0] for line in text.splitlines() if "=" in line]
        assert not [key for key in keys if key.startswith(hiding)]


def test_without_a_key_service_nothing_is_opened_at_boot():
    customer = config.Customer("acme", ("age1x",))
    volume = config.Volume("data", customer, "/dev/disk/by-id/x", "/srv/x")
    assert units.texts({"acme": customer}, {"data": volume}, "volumes") == {}
