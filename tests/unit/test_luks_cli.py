"""The program ``rocksalt-luks``, and key services."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.crypto import age, sshsig
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import __main__ as cli
from rocksalt.luks import config, program
from rocksalt.luks.handover import commands, onetime, receiving, service
from rocksalt.luks.keys import SIZE, Key
from rocksalt.luks.volumes import opening, settling, states

ALLOWED = {*sys.stdlib_module_names, "rocksalt", "cryptography"}
REPO = Path(__file__).resolve().parents[2]
KEY = bytes(range(SIZE))
CUSTOMER = config.Customer("acme", ("age1x",))


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests go on in this process."""
    monkeypatch.setattr(receiving, "keep_private", lambda: None)


def configured(folder: Path, **commands_of: list[str]) -> str:
    """A configuration with a volume for each key command (none for an empty one)."""
    volumes = {
        name: {
            "customer": "acme",
            "device": f"/dev/disk/by-id/{name}",
            "confirm": name,
            "mount": f"/srv/{name}",
            **({"key_command": command} if command else {}),
        }
        for name, command in commands_of.items()
    }
    customers = {"acme": {"recipients": [age.generate()[1]]}}
    path = folder / "config.json"
    settings = {"user": "root", "header_backups": False}
    path.write_text(json.dumps({**settings, "customers": customers, "volumes": volumes}))
    path.chmod(0o600)
    return str(path)


def volume(*command: str) -> config.Volume:
    return config.Volume("data", CUSTOMER, "/dev/disk/by-id/x", "/srv/data", key_command=command)


def shell(text: str) -> config.Volume:
    return volume("/bin/sh", "-c", text)


def test_a_key_service_prints_the_key(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    assert service.fetch(volume("/bin/cat", str(file))) == Key(KEY)
    assert service.fetch(shell(f"base64 {file}")) == Key(KEY)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3", "ended with status 3"),
        (":", "nothing was handed over"),
        ("echo secret-part", "12 bytes were handed over"),
        ("cat /dev/zero", "bytes were handed over|ended with status"),
        ("kill -9 $$", "ended with status -9"),
    ],
)
def test_what_a_key_service_may_do_instead(command, words):
    with pytest.raises(Refused, match=words) as caught:
        service.fetch(shell(command))
    assert str(caught.value).startswith("data: /bin/sh: ")
    assert "secret-part" not in str(caught.value)


def test_a_key_of_a_service_that_failed_is_none(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    with pytest.raises(Refused, match="status 1, so there is no key"):
        service.fetch(shell(f"cat {tmp_path}/key; exit 1"))


def test_a_service_that_is_none():
    with pytest.raises(Refused, match="cannot be run: No such file"):
        service.fetch(volume("/nowhere"))


@pytest.mark.parametrize("command", ["sleep 60", "sleep 60 & exit 0", "exec >&-; sleep 60"])
def test_a_service_that_takes_too_long(command):
    """With all that it started, for that has the pipe."""
    began = time.monotonic()
    with pytest.raises(Refused, match="took more than 0 s"):
        service.fetch(shell(command), patience=0.3)
    assert time.monotonic() - began < 5


def test_a_service_is_given_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PILLAR_SECRET", "x")
    seen = tmp_path / "seen"
    with pytest.raises(Refused):
        service.fetch(shell(f"env > {seen}; cat >> {seen}; echo told >&2"))
    assert "PILLAR_SECRET" not in seen.read_text()


class _State:
    condition = states.CLOSED


def test_all_that_services_have_keys_of_are_opened(tmp_path, monkeypatch, capsys):
    (tmp_path / "key").write_bytes(KEY)
    command = ["/bin/cat", str(tmp_path / "key")]
    path = configured(tmp_path, first=["/bin/false"], second=command, third=[])
    opened = []

    def open_volume(_: Any, of: config.Volume, key: Key) -> list[str]:
        opened.append((of.name, bytes(key.secret)))
        return [f"the volume {of.name} was opened"]

    monkeypatch.setattr(opening, "open_volume", open_volume)
    monkeypatch.setattr(states, "state", lambda *_: _State())
    assert cli.main(["--config", path, "open-all"]) == 1
    assert opened == [("second", KEY)]
    told = capsys.readouterr().err
    assert "first: /bin/false: ended with status 1" in told
    assert "rocksalt-luks: the volume second was opened" in told


def test_an_open_volume_needs_no_key(tmp_path, monkeypatch):
    class Open:
        condition = states.OPEN

    monkeypatch.setattr(states, "state", lambda *_: Open())
    monkeypatch.setattr(opening, "mount_volume", lambda *_: [])
    path = configured(tmp_path, data=["/bin/false"])
    assert cli.main(["--config", path, "open-all"]) == 0


def test_what_was_broken_off_is_finished(tmp_path, monkeypatch, capsys):
    def settle(_: Any, of: config.Volume) -> list[str]:
        if of.name == "bad":
            raise Refused("bad: cannot be told")
        return [f"{of.name}: finished"]

    monkeypatch.setattr(settling, "settle", settle)
    assert cli.main(["--config", configured(tmp_path, bad=[], good=[]), "settle"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "rocksalt-luks: bad: cannot be told",
        "rocksalt-luks: good: finished",
    ]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What standard input has."""
    before = os.dup(0)

    def give(data: bytes) -> None:
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        os.dup2(reading, 0)
        os.close(reading)

    yield give
    os.dup2(before, 0)
    os.close(before)


def test_root_opens_with_a_key_in_standard_input(tmp_path, monkeypatch, stdin, capfd):
    given = []

    def run(task: commands.Task) -> commands.Answer:
        with task.key() as key:
            given.append((task.volume.name, bytes(key.secret)))
        return commands.Answer(b"\0raw", ["done"])

    known = commands.COMMANDS["open"]._replace(run=run)
    monkeypatch.setitem(commands.COMMANDS, "open", known)
    path = configured(tmp_path, data=[])
    stdin(KEY)
    assert cli.main(["--config", path, "open", "data"]) == 0
    assert given == [("data", KEY)]
    stdin(KEY + b"\n")
    assert cli.main(["--config", path, "open", "data"]) == 1
    assert "65 bytes were handed over" in capfd.readouterr().err
    assert cli.main(["--config", path, "open", "nosuch"]) == 1


def test_errors_are_sentences(tmp_path, capsys):
    assert cli.main(["--config", str(tmp_path / "none"), "list"]) == 1
    assert "state.apply hardening.luks writes it" in capsys.readouterr().err
    arguments = ["--identity", "/x", "--host-key", "x", "--request", str(tmp_path / "none")]
    assert cli.main(["seal", "data", *arguments]) == 1
    assert capsys.readouterr().err.endswith("none: No such file or directory\n")


def test_no_command_takes_a_key_as_an_argument():
    for words in (["open", "data", "key"], ["open", "--key", "x", "data"], ["rotate"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2


@pytest.mark.parametrize("what", ["open", "rotate"])
def test_a_customer_seals_a_key(tmp_path, monkeypatch, capsys, what):
    host = Host(str(tmp_path))
    (tmp_path / "etc/ssh").mkdir(parents=True)
    public = sshsig.generate(tmp_path / "etc/ssh/ssh_host_ed25519_key")
    identity, recipient = age.generate()
    of = config.Volume("data", config.Customer("acme", (recipient,)), "/dev/x", "/srv/data")
    request = onetime.request(host, "web1", of, "uuid", what, 15, cli._now())
    (tmp_path / "request.json").write_text(json.dumps(request))
    (tmp_path / "key.txt").write_text(f"# created\n{identity}\n")
    buffer = io.BytesIO()
    writer = age.Writer(buffer, [recipient])
    writer.write(KEY)
    writer.close()

    class Input:
        buffer = io.BytesIO()

    Input.buffer = io.BytesIO(buffer.getvalue())
    monkeypatch.setattr(sys, "stdin", Input)
    words = ["seal", "data", "--identity", str(tmp_path / "key.txt"), "--host-key", public]
    words += ["--request", str(tmp_path / "request.json"), "--what", what]
    if what == "rotate":
        assert cli.main(words) == 1
        assert f"could be read by {recipient}, and --recipient" in capsys.readouterr().err
        words += ["--recipient", recipient]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert told.err.startswith(
        f"rocksalt-luks: to web1, to {what} data with the header uuid, until 20"
    )
    assert (f"{recipient} can read the new key" in told.err) == (what == "rotate")
    with onetime.take(host, of, "uuid", what, told.out, cli._now()) as key:
        assert bytes(key.secret) == KEY
    assert base64.b64encode(KEY).decode() not in told.out + told.err


@pytest.mark.parametrize("command", sorted(cli._commands()))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"rocksalt-luks {command}" in capsys.readouterr().out


def test_it_has_no_salt_in_it_and_nothing_of_the_family():
    found = program.sources()
    for name in (
        "luks/__main__",
        "luks/handover/serve",
        "luks/volumes/opening",
        "backup/crypto/age",
    ):
        assert f"rocksalt/{name}.py" in found
    assert not [name for name in found if "/family/" in name or "catalogue" in name]
    for name, source in found.items():
        for node in ast.walk(ast.parse(source)):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            strange = {it.split(".")[0] for it in imported} - ALLOWED
            assert not strange, f"{name} imports {strange} wherever it runs"


def test_the_program_runs(tmp_path):
    path = tmp_path / "rocksalt-luks"
    path.write_bytes(program.build(sys.executable, program.sources()))
    path.chmod(0o755)
    environment = {"SSH_ORIGINAL_COMMAND": "rm -rf /", "PYTHONPATH": "/nowhere"}
    done = subprocess.run(
        [path, "relay", "acme"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ask for one of these: list, status VOLUME")
