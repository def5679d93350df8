"""The logbook of a real master with a real minion: all of what people do is in it, once, in order,
whatever is killed meanwhile, and nobody changes it unseen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import salt.client
import salt.config
import salt.runner
import salt.utils.event
import salt.wheel
import yaml
from salt.exceptions import SaltClientError
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program
from rocksalt import logbook
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.vaults.wire import Wire
from rocksalt.logbook import accepted, checking, config, units
from rocksalt.logstash.receiving import remote, witness

CANARY = "canary-77b0-never-in-the-book"
MASK = yaml.safe_load((REPOSITORY / "salt/hardening/logstash/defaults.yaml").read_text())["mask"]
BURST = 300


class Site:
    """The master, its minion web1, and the logbook as its service runs it."""

    def __init__(self, folder: Path, master: Any, minion: Any):
        self.folder, self.master, self.minion = folder, master, minion
        self.opts = salt.config.master_config(str(Path(master.config_dir) / "master"))
        self.state, self.book = folder / "state", folder / "book"
        self.api_log = folder / "api.jsonl"
        self.config = folder / "logbook.json"
        self.state.mkdir()
        (folder / "witness").mkdir()
        self.public = sshsig.generate(self.state / "signing")
        self.witness_public = sshsig.generate(folder / "witness-key")
        self.settings = {
            "config": str(Path(master.config_dir) / "master"), "folder": str(self.book),
            "name": "master1", "api_log": str(self.api_log), "mask": MASK["default"],
            "watch_seconds": 1,
            "witness": {"host": "w", "port": 22, "user": "u", "host_key": "x",
                        "key": self.witness_public},
        }  # fmt: skip
        installed = units.files(self.settings, interpreter=sys.executable)
        self.config.write_bytes(installed[logbook.CONFIG])
        self.program = folder / "rocksalt-logbook"
        self.program.write_bytes(installed[logbook.PROGRAM])
        self.program.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(self.program), "run", "--config", str(self.config)]
        before = self.kinds().count("gap")
        self.process = subprocess.Popen([*command, "--state", str(self.state)], env=ENVIRONMENT)
        self.wait(lambda: self.kinds().count("gap") > before)

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    @property
    def lines(self) -> list[bytes]:
        paths = sorted((self.book / "master1").glob("*.jsonl"))
        return [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]

    @property
    def records(self) -> list[dict[str, Any]]:
        """Those of lines that are whole by now."""
        return [json.loads(line)["event"] for line in self.lines if line.endswith(b"\n")]

    def kinds(self) -> list[str]:
        return [str(record["kind"]) for record in self.records]

    def of(self, **fields: Any) -> list[dict[str, Any]]:
        """The records with these fields."""
        return [it for it in self.records if all(it.get(key) == fields[key] for key in fields)]

    def wait(self, holds: Callable[[], Any], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < end, self.records[-5:]
            assert self.process is None or self.process.poll() is None, "the logbook ended"
            time.sleep(0.05)
        return found

    def returned(self, jid: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.wait(lambda: self.of(kind="return", jid=jid))
        return found[0]

    def publish(self, function: str, *args: Any, **kwargs: Any) -> str:
        """A job of which nobody awaits the end; its number."""
        with salt.client.get_local_client(mopts=self.opts) as client:
            jid = client.cmd_async("web1", function, [*args], kwarg=kwargs or None)
        assert jid
        return str(jid)

    def publish_soon(self, function: str) -> str:
        """The same, with a master that may not listen yet, and a minion that may not be back."""

        def attempt() -> str:
            with contextlib.suppress(SaltClientError):
                return self.publish(function)
            return ""

        for _ in range(30):
            jid: str = self.wait(attempt)
            with contextlib.suppress(AssertionError):
                self.wait(lambda jid=jid: self.of(kind="return", jid=jid), 3)
                return jid
        raise AssertionError("the minion does not come back")

    def fire(self, tag: str, data: dict[str, Any]) -> None:
        sock = self.opts["sock_dir"]
        with salt.utils.event.get_master_event(self.opts, sock, listen=False) as bus:
            assert bus.fire_event(data, tag)

    def witnessed(self) -> str:
        """What the timer does."""
        settings = config.load(self.config)
        signer = sshsig.Signer.load(self.state / "signing")
        return checking.send(settings, signer, self.state / "heads.json", self._connect)

    def verify(self) -> dict[str, Any]:
        settings = config.load(self.config)
        evidence = checking.seen(settings, self.public, self._connect)
        return checking.check(settings, self.public, evidence)

    def _connect(self) -> remote.Witness:
        return checking.connect(config.load(self.config), "no key")


class Session:
    """In place of ssh: the witness in a thread, through pipes."""

    def __init__(self, site: Site):
        there, to = os.pipe()
        back, answers = os.pipe()
        self.wire, self._ends = Wire(back, to, 5), (to, back)
        self._thread = threading.Thread(target=self._serve, args=(site, there, answers))
        self._thread.start()

    def _serve(self, site: Site, there: int, answers: int) -> None:
        client = {"key": "x", "signer": site.public}
        settings = {
            "name": "witness1", "path": str(site.folder / "witness"),
            "clients": {"master1-logbook": client},
        }  # fmt: skip
        with open(there, "rb", 0) as stdin, open(answers, "wb", 0) as stdout:
            key = str(site.folder / "witness-key")
            witness.serve(settings, "master1-logbook", key, stdin, stdout)

    def end(self) -> tuple[int | None, str]:
        for end in self._ends:
            os.close(end)
        self._thread.join()
        return 0, ""


@pytest.fixture(scope="module")
def site(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("logbook")
    for name in ("states", "pillar"):
        (folder / name).mkdir()
    (folder / "states/app.sls").write_text("nothing changes: {test.nop: []}\n")
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            "file_roots": {"base": [str(folder / "states")]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    minion = master.salt_minion_daemon(
        "web1", overrides={"pytest-minion": {"log": {"level": "warning"}}}
    )
    with master.started():
        it = Site(folder, master, minion)
        it.start()
        with minion.started(), contextlib.ExitStack() as stack:
            stack.callback(lambda: it.process and it.process.kill())
            yield it


@pytest.fixture
def copied(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """The book, witnessed, and a way to change a copy of it and look again."""
    monkeypatch.setattr(remote, "Session", lambda *_: Session(site))
    site.wait(lambda: len(site.lines) > 10)
    assert site.witnessed() == ""
    whole = site.book

    def change(how: Callable[[list[bytes]], list[bytes]]) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "book", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "book")
        [path] = (tmp_path / "book/master1").glob("*.jsonl")
        path.write_bytes(b"".join(how(path.read_bytes().splitlines(keepends=True))))
        settings = {**site.settings, "folder": str(tmp_path / "book")}
        (tmp_path / "logbook.json").write_text(json.dumps(settings))
        loaded = config.load(tmp_path / "logbook.json")
        evidence = checking.seen(loaded, site.public, site._connect)
        return checking.check(loaded, site.public, evidence)

    yield SimpleNamespace(change=change)


def test_the_minions_key_was_accepted(site: Site) -> None:
    """It waited, somebody accepted it, and it was let in: each told once. Who accepts a key says so
    after it is done, when the minion may be in already.
    """
    site.wait(lambda: site.of(kind="auth", minion="web1", act="accept"))
    site.wait(lambda: site.of(kind="key", minion="web1"))
    found = [it for it in site.records if it.get("minion") == "web1"]
    told = [(it["kind"], it["act"], it["success"]) for it in found if it["kind"] != "return"]
    assert told[0] == ("auth", "pend", True)
    assert sorted(told[1:]) == [("auth", "accept", True), ("key", "accept", True)]
    [first, second] = [it["key"] for it in found if it["kind"] == "auth"]
    assert first == second and len(first) == 16


def test_a_job_and_what_came_of_it(site: Site) -> None:
    jid = site.publish("test.arg", "one", 2, app="shop", password=CANARY)
    found = site.returned(jid)
    [job] = site.of(kind="job", jid=jid)
    assert (job["fun"], job["arg"], job["tgt"], job["tgt_type"], job["minions"]) == (
        "test.arg", ["one", 2], "web1", "glob", ["web1"],
    )  # fmt: skip
    assert job["kwarg"] == {"app": "shop", "password": "***"}
    assert job["user"] and "filled" not in job
    assert (found["minion"], found["fun"], found["success"], found["retcode"]) == (
        "web1", "test.arg", True, 0,
    )  # fmt: skip
    assert site.records.index(job) < site.records.index(found)
    assert job["time"] <= found["time"]


def test_what_a_minion_does_unasked_and_what_it_claims(site: Site) -> None:
    def call(*words: str) -> None:
        command = [program("salt-call"), "-c", str(site.minion.config_dir), *words]
        subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)

    call("event.send", "salt/job/20990101000000000000/ret/web2", '{"return": "x"}')
    [claim] = site.wait(lambda: site.of(kind="claim"))
    assert (claim["minion"], claim["tag"]) == ("web1", "salt/job/20990101000000000000/ret/web2")
    call("test.arg", "mine", f"password={CANARY}")
    [found] = site.wait(lambda: site.of(kind="return", called=True, fun="test.arg"))
    assert (found["minion"], found["fun"]) == ("web1", "test.arg")
    assert found["arg"] == ["mine", "password=***"]


def test_jobs_that_fail(site: Site) -> None:
    missing = site.publish("no.such_function")
    command = site.publish("cmd.run", "exit 3", python_shell=True)
    state = site.publish("state.apply", "app", pillar={"db": {"secret word": CANARY}})
    assert site.returned(missing)["success"] is False
    assert (site.returned(command)["success"], site.returned(command)["retcode"]) in [
        (True, 3), (False, 3), (True, 1), (False, 1),
    ]  # fmt: skip
    assert site.returned(state)["states"] == {"all": 1, "changed": 0, "failed": 0}
    [job] = site.of(kind="job", jid=state)
    assert (job["arg"], job["kwarg"]) == (["app"], {"pillar": {"db": {"secret word": "***"}}})


def test_runners_and_wheel_calls(site: Site) -> None:
    salt.runner.RunnerClient(dict(site.opts)).cmd("test.arg", ["x"], print_event=False)
    salt.wheel.WheelClient(dict(site.opts)).cmd("key.list", ["accepted"], print_event=False)
    for kind, function, arg in (
        ("runner", "runner.test.arg", ["x"]), ("wheel", "wheel.key.list", ["accepted"]),
    ):  # fmt: skip
        [asked] = site.wait(lambda kind=kind: site.of(kind=kind))
        [ended] = site.wait(lambda kind=kind: site.of(kind=f"{kind}-return"))
        assert (asked["fun"], asked["arg"], bool(asked["user"])) == (function, arg, True)
        assert (ended["jid"], ended["success"]) == (asked["jid"], True)


def test_a_key_that_somebody_rejects(site: Site) -> None:
    public = (Path(site.opts["pki_dir"]) / "minions" / "web1").read_text()
    pending = Path(site.opts["pki_dir"]) / "minions_pre"
    pending.mkdir(exist_ok=True)
    (pending / "stranger").write_text(public)
    wheel = salt.wheel.WheelClient(dict(site.opts))
    wheel.cmd("key.reject", ["stranger"], print_event=False)
    [record] = site.wait(lambda: site.of(kind="key", minion="stranger"))
    assert (record["act"], record["success"]) == ("reject", True)
    assert site.of(kind="wheel", fun="wheel.key.reject")[0]["arg"] == ["stranger"]


def test_a_key_that_is_accepted_with_nobodys_word(site: Site) -> None:
    pki, kept = Path(site.opts["pki_dir"]), site.state / accepted.KEPT
    public = (pki / "minions" / "web1").read_text()
    (pki / "minions_pre" / "friend").write_text(public)
    salt.wheel.WheelClient(dict(site.opts)).cmd("key.accept", ["friend"], print_event=False)
    (pki / "minions" / "intruder").write_text(public)
    [found] = site.wait(lambda: site.of(kind="key", act="found"), 40)
    assert found["minion"] == "intruder"
    [said] = site.of(kind="key", minion="friend")
    assert (said["act"], said["success"]) == ("accept", True)
    known = site.wait(lambda: "friend" in (it := json.loads(kept.read_text())["known"]) and it)
    assert {*known} == {"friend", "web1"}
    for name in ("friend", "intruder"):
        (pki / "minions" / name).unlink()


def test_lines_of_the_door_through_rotation(site: Site) -> None:
    def line(number: int) -> str:
        said = {"time": f"2026-11-23T08:00:0{number}.123+00:00", "event": "login", "user": "alice",
                "source": "10.0.0.7", "outcome": "ok", "kwarg": {"password": CANARY}}  # fmt: skip
        return json.dumps(said) + "\n"

    site.api_log.write_text(line(1))
    site.wait(lambda: len(site.of(kind="api")) == 1)
    with site.api_log.open("a") as file:
        file.write(line(2))
    site.api_log.rename(f"{site.api_log}.1")
    site.api_log.write_text(line(3))
    site.wait(lambda: len(site.of(kind="api")) == 3)
    assert [it["time"] for it in site.of(kind="api")] == [
        f"2026-11-23T08:00:0{number}.123000Z" for number in (1, 2, 3)
    ]
    assert {it["source"] for it in site.of(kind="api")} == {"10.0.0.7"}


def test_changes_of_states_and_pillar(site: Site) -> None:
    site.wait(lambda: len(site.of(kind="files", first=True)) >= 2)
    state, pillar = site.folder / "states/app.sls", site.folder / "pillar/top.sls"
    state.write_text("something changes: {test.nop: []}\n")
    pillar.write_text("base: {}\n")
    [changed] = site.wait(lambda: site.of(kind="files", changed=[str(state)]))
    [added] = site.wait(lambda: site.of(kind="files", added=[str(pillar)]))
    assert (changed["tree"], added["tree"]) == ("file_roots:base", "pillar_roots:base")


def test_killed_in_the_middle_of_many_jobs(site: Site) -> None:
    """Returns of 300 jobs; the writer is killed twice while they come."""
    site.wait(lambda: not site.fire("salt/auth", {"id": "other", "act": "pend", "result": True}))
    jids = []
    with salt.client.get_local_client(mopts=site.opts) as client:

        def publish(count: int) -> None:
            for _ in range(count):
                jids.append(client.cmd_async("web1", "test.ping"))

        publish(10)
        firing = threading.Thread(target=_returns, args=(site, 1))
        firing.start()
        site.wait(lambda: len(site.of(kind="return", minion="ghost")) > 20)
        site.end(signal.SIGKILL)
        firing.join()
        publish(10)
        time.sleep(2)
        site.start()
        firing = threading.Thread(target=_returns, args=(site, 2))
        firing.start()
        publish(5)
        firing.join()
        for jid in jids:
            site.returned(jid)
    identities = [it["event.id"] for it in site.records]
    assert len(identities) == len(set(identities))
    assert [json.loads(line)["n"] for line in site.lines] == list(range(1, len(site.lines) + 1))
    assert all(len(site.of(kind=kind, jid=jid)) == 1 for jid in jids for kind in ("job", "return"))
    [*_, start] = site.of(kind="start")
    [*_, gap] = site.of(kind="gap")
    assert (start["clean"], gap["why"]) == (False, "the logbook was not running")
    assert gap["since"] == start["since"] < gap["until"]
    assert gap["filled"]["job"] >= 10 and gap["filled"]["return"] >= 10
    filled = {it["jid"] for it in site.of(kind="job", filled=True)}
    assert set(jids[10:20]) <= filled
    assert not (site.book / "master1/torn").exists()


def _returns(site: Site, number: int) -> None:
    """Events of returns as they come from many minions."""
    sock = site.opts["sock_dir"]
    with salt.utils.event.get_master_event(site.opts, sock, listen=False) as bus:
        for index in range(BURST):
            jid = f"2099010100000{number}{index:06d}"
            data = {"jid": jid, "id": "ghost", "fun": "test.ping", "success": True, "retcode": 0}
            bus.fire_event(data, f"salt/job/{jid}/ret/ghost")


def test_a_master_that_is_restarted_is_a_gap(site: Site) -> None:
    before = len(site.of(kind="gap"))
    site.master.terminate()
    site.wait(lambda: site.kinds()[-1] == "lost" or "lost" in site.kinds()[-3:])
    site.master.start()
    site.wait(lambda: len(site.of(kind="gap")) > before, 60)
    [*_, gap] = site.of(kind="gap")
    assert gap["why"] == "the event bus of the master ended"
    jid = site.publish_soon("test.ping")
    assert "filled" not in site.returned(jid)


def test_the_runner_tells_the_story(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "Session", lambda *_: Session(site))
    runner = _runner(site)
    jid = site.publish("test.arg", "story", app="shop", password=CANARY)
    site.returned(jid)
    [job] = site.of(kind="job", jid=jid)
    found = runner.playback(fun="test.arg", since=job["time"])
    story = found["story"]
    assert [(it["kind"], it["jid"]) for it in found["records"]] == [("job", jid), ("return", jid)]
    assert ": test.arg(story app=shop password=***) on web1 [job " in story[0]
    assert "web1: test.arg for " in story[1] and " done [job " in story[1]
    asked = {"user": job["user"], "tgt": "web1", "fun": "test.arg", "since": job["time"]}
    assert runner.playback(**asked)["records"] == found["records"]
    assert runner.playback(user="nobody")["records"] == []
    whole = runner.playback(since="")
    times = [it["time"] for it in whole["records"]]
    assert times == sorted(times) and any("the logbook begins" in it for it in whole["story"])
    assert runner.playback(since="tomorrow")["retcode"] == 1
    assert runner.playback(limit=2)["earlier"] > 0
    assert runner.status()["connected"] is True
    assert site.witnessed() == ""
    verified = runner.verify()
    assert (verified["ok"], "retcode" in verified) == (True, False), verified


def _runner(site: Site) -> Any:
    spec = importlib.util.spec_from_file_location("logbook", REPOSITORY / "_runners/logbook.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {  # type: ignore[attr-defined]
        "rocksalt_logbook": str(site.config), "rocksalt_logbook_state": str(site.state),
    }  # fmt: skip
    return module


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda it: [*it[:4], it[4].replace(b'"kind"', b'"kinb"', 1), *it[5:]], "line 5"),
        (lambda it: [*it[:4], *it[5:]], "line 5"),
        (lambda it: [*it[:4], it[3], *it[4:]], "inserted"),
        (lambda it: it[:-3], "the end was cut off"),
        (lambda it: rebuilt(it), "the chain was written anew"),
    ],
    ids=["edit", "deletion", "insertion", "cut", "rebuild"],
)
def test_a_change_of_the_book_is_found(
    copied: SimpleNamespace, how: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    assert copied.change(lambda it: it)["ok"] is True
    found = copied.change(how)
    problems = found["hosts"]["master1"]["problems"]
    assert found["ok"] is False
    assert any(words in it for it in problems), problems


def rebuilt(lines: list[bytes]) -> list[bytes]:
    """A book in which one user is another, and all hashes are right, as root could make it."""
    import hashlib

    before, found = "0" * 64, []
    for line in lines:
        body = line[:-76].replace(b'"success":true', b'"success":null')
        before = hashlib.sha256(before.encode() + body).hexdigest()
        found.append(b'%b,"hash":"%b"}\n' % (body, before.encode()))
    return found


def test_no_secret_is_in_the_book(site: Site) -> None:
    assert CANARY in site.api_log.with_name("api.jsonl.1").read_text()
    text = b"".join(site.lines)
    assert b'"***"' in text and CANARY.encode() not in text
    for path in (*site.state.iterdir(), *site.book.rglob("*")):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_it_stops_when_it_is_told_to(site: Site) -> None:
    begin = time.monotonic()
    site.end()
    assert time.monotonic() - begin < 5
    assert site.kinds()[-1] == "stop"
    site.start()
    [*_, start] = site.of(kind="start")
    assert start["clean"] is True
