"""Deploys: which app and version are taken, what came of them, records, the lock and the time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import salt.payload

from rocksalt.access import deployed, deploying, deploys
from rocksalt.errors import NoSuch, Refused

FOLDER = "/state/deploys"
APPS = {
    "shop": {"states": ["shop.deployed"], "version": r"v\d+\.\d+", "minions": ["web*"]},
    "blog": {"states": ["a", "b"], "version": ".+", "minions": ["web1"], "timeout": 30},
    "pay": {"states": ["pay"], "version": ".+", "minions": ["pay1"]},
    "../etc": {"states": ["x"], "version": ".+", "minions": ["*"]},
}
SHOP = deploys.find(APPS, "shop", "web1")
CONFLICT = 'The function "state.apply" is running as PID 17 and was started at X with jid 9'


def plain(text):
    return text


def state(result=True, comment="", changes=None):
    return {"result": result, "comment": comment, "changes": changes or {}}


def key(identifier, name="", module="file", function="managed"):
    return f"{module}_|-{identifier}_|-{name or identifier}_|-{function}"


# What may be deployed -----------------------------------------------------------------------------


def test_an_app_of_this_minion():
    assert deploys.App("shop", ("shop.deployed",), r"v\d+\.\d+", 600) == SHOP
    assert deploys.find(APPS, "blog", "web1").timeout == 30


@pytest.mark.parametrize(
    ("name", "minion", "says"),
    [
        (
            "shopp",
            "web1",
            "'shopp' is no app of web1 in hardening:access:apps; did you mean 'shop'",
        ),
        ("nothing", "web1", "'nothing' is no app of web1 in hardening:access:apps"),
        ("pay", "web1", "'pay' is no app of web1 in hardening:access:apps"),
        ("shop", "WEB1", "'shop' is no app of WEB1 in hardening:access:apps"),
        ("../etc", "web1", "'../etc' is no app of web1"),
        (["shop"], "web1", "did you mean 'shop'"),
        ("", "web1", "'' is no app of web1"),
    ],
)
def test_another_app_is_refused_and_those_that_there_are_are_not_told(name, minion, says):
    with pytest.raises(NoSuch) as error:
        deploys.find(APPS, name, minion)
    assert says in str(error.value)
    assert "pay" not in str(error.value).replace("'pay' is no app", "")
    assert "blog" not in str(error.value)


def test_a_version_that_matches():
    deploys.check(SHOP, "v1.10", False)
    deploys.check(SHOP, "v1.10", True)


@pytest.mark.parametrize(
    "version",
    [
        "v1.10\n",
        "v1.10;id",
        "$(id)",
        "xv1.1",
        "v1.1 ",
        "",
        "V1.1",
        "v1.1\0",
        "v" + "1" * 200 + ".1",
    ],
)
def test_a_version_that_does_not_match_is_refused(version):
    with pytest.raises(Refused, match=r"^version: "):
        deploys.check(SHOP, version, False)


def test_the_refusal_names_the_version_the_pattern_and_where_it_stands():
    with pytest.raises(Refused) as error:
        deploys.check(SHOP, "latest", False)
    assert str(error.value) == (
        r"version: 'latest' is no version of shop, which has to match 'v\\d+\\.\\d+' as a whole "
        "(hardening:access:apps:shop:version)"
    )


@pytest.mark.parametrize("version", ["a\nb", "a\x1b[2J", "a\u202eb", "v\u0661", "x" * 65])
def test_what_no_version_should_have_is_refused_whatever_the_pattern(version):
    app = deploys.App("blog", ("a",), r"(?s:.+)", 10)
    with pytest.raises(Refused, match="not printable ASCII"):
        deploys.check(app, version, False)


@pytest.mark.parametrize("pattern", ["(1", r"v\d{1,99999999999}", "(" * 3000 + "a" + ")" * 3000])
def test_a_pattern_that_cannot_be_is_named(pattern):
    with pytest.raises(Refused, match="is no regular expression"):
        deploys.check(deploys.App("blog", ("a",), pattern, 10), "1", False)


def test_what_is_too_long_is_matched_with_nothing():
    app = deploys.App("blog", ("a",), r"(\d+)+", 10)
    with pytest.raises(Refused, match="more than 64 characters"):
        deploys.check(app, "1" * 64 + "!", False)


@pytest.mark.parametrize("version", [1.1, 8, None, True, ["v1.1"], {"__kwarg__": 1}])
def test_a_version_that_is_no_text_is_refused(version):
    with pytest.raises(Refused, match=r"put it in quotes of its own, version='\"1.10\"'"):
        deploys.check(SHOP, version, False)


@pytest.mark.parametrize("test", ["False", 0, 1, None, {"__kwarg__": 1, "app": "shop"}])
def test_a_test_that_is_neither_yes_nor_no_is_refused(test):
    with pytest.raises(Refused, match=r"^test: .* is neither True nor False"):
        deploys.check(SHOP, "v1.1", test)


def test_a_pattern_that_is_none_is_named():
    with pytest.raises(Refused, match=r"^hardening:access:apps:shop:version: '\(' is no regular"):
        deploys.check(deploys.App("shop", ("a",), "(", 10), "v1.1", False)


# What came of it ----------------------------------------------------------------------------------


def test_states_are_counted():
    returned = {
        key("a"): state(changes={"diff": "-x"}),
        key("b"): state(),
        key("c", "/srv/c"): state(False, "no space"),
    }
    found = deploys.outcome(SHOP, returned, False, plain)
    assert found.told() == {
        "states": 3, "changed": 1, "failed": {"c (file.managed /srv/c)": "no space"},
    }  # fmt: skip
    assert not found.result


def test_in_test_mode_what_would_change_counts():
    returned = {key("a"): state(None), key("b"): state()}
    found = deploys.outcome(SHOP, returned, True, plain)
    assert (found.states, found.changed, found.result) == (2, 1, True)
    assert deploys.outcome(SHOP, returned, False, plain).changed == 0


@pytest.mark.parametrize(
    ("returned", "comment"),
    [
        (["Rendering SLS 'base:x' failed", "and more"], "Rendering SLS 'base:x' failed\nand more"),
        ({}, "no state was applied"),
        (None, "None"),
        ({"x": "a text"}, "{'x': 'a text'}"),
        ([], "no comment"),
    ],
)
def test_what_is_no_mapping_of_states_has_failed(returned, comment):
    found = deploys.outcome(SHOP, returned, False, plain)
    assert not found.result
    assert found.told() == {"states": 0, "changed": 0, "failed": {"shop.deployed": comment}}


def test_what_a_command_said_is_told():
    changes = {"pid": 1, "retcode": 3, "stdout": "", "stderr": "disk is full"}
    returned = {key("a", "make", "cmd", "run"): state(False, 'Command "make" run', changes)}
    found = deploys.outcome(SHOP, returned, False, plain)
    assert found.failed == {"a (cmd.run make)": 'Command "make" run\ndisk is full'}


def test_much_that_failed_is_told_in_short():
    returned = {key(f"s{n}"): state(False, "x" * 5000) for n in range(30)}
    found = deploys.outcome(SHOP, returned, False, plain)
    assert found.failed["others"] == "10 more states failed"
    assert len(found.failed) == 21
    assert all(len(it) < 2100 for it in found.failed.values())


def test_a_conflict_is_told_from_errors():
    assert deploys.conflict([CONFLICT])
    assert not deploys.conflict(["Rendering SLS failed"])
    assert not deploys.conflict([])
    assert not deploys.conflict({CONFLICT: {}})


def test_secrets_of_the_pillar_leave_no_comment():
    pillar = {
        "shop": {"db_password": "hunter22", "port": 5432, "name": "storefront"},
        "tokens": ["tok-1234567", {"deep": "deep-secret"}],
        "tls": {"key": "-----BEGIN X-----\nMIIBlinesofkey\n"},
        "pin": {"secret": 123456, "short_secret": "abc"},
    }
    mask = deploys.masker(pillar, lambda text: text.replace("looks-secret", "***"))
    text = "hunter22 5432 storefront tok-1234567 deep-secret MIIBlinesofkey 123456 abc looks-secret"
    assert mask(text) == "*** 5432 storefront *** *** *** *** abc ***"
    assert deploys.outcome(
        SHOP, {key("a", "hunter22"): state(False, "login -p hunter22 failed")}, False, mask
    ).failed == {"a (file.managed ***)": "login -p *** failed"}


# Records ------------------------------------------------------------------------------------------


@pytest.fixture
def records(host):
    return deployed.Records(host, FOLDER)


def record(app="shop", status=deployed.OK, version="v1.0", **more):
    return {"app": app, "version": version, "status": status, "started": "2026-01-01T00:00:00Z",
            "previous": "v0.9", **more}  # fmt: skip


def test_there_are_no_records(records, host):
    assert records.status() == {}
    assert records.previous("shop") is None
    assert not host.path("/state").exists()
    with pytest.raises(NoSuch, match=r"no deploy of 'shop' is on record here\Z"):
        records.status("shop")


def test_records_by_app(records, host):
    records.write(record())
    records.write(record("gone", deployed.FAILED))
    host.put(f"{FOLDER}/Not-an-app.json", "{}")
    assert list(records.status()) == ["gone", "shop"]
    assert records.status("gone") == {"gone": record("gone", deployed.FAILED)}
    assert stat.S_IMODE(host.path(f"{FOLDER}/shop.json").stat().st_mode) == 0o600
    for name in ("../deploys/shop", "blog"):
        with pytest.raises(NoSuch, match=r"is on record here\Z"):
            records.status(name)


def test_the_previous_version_is_the_last_that_went_well(records):
    records.write(record())
    assert records.previous("shop") == "v1.0"
    for status in (deployed.FAILED, deployed.RUNNING):
        records.write(record(status=status))
        assert records.previous("shop") == "v0.9"
    records.write({key: it for key, it in record(status=status).items() if key != "previous"})
    assert records.previous("shop") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "{}", '{"app": "shop"}', "[" * 100_000, "\udcff"]
)
def test_a_record_that_is_none_of_ours(records, host, text):
    host.write(f"{FOLDER}/shop.json", text)
    records.write(record("blog"))
    assert records.status()["shop"] == {
        "app": "shop",
        "status": deployed.UNREADABLE,
        "reason": f"{FOLDER}/shop.json is damaged; the next deploy of shop writes it anew",
    }
    assert records.status()["blog"] == record("blog")
    assert records.previous("shop") is None


def test_a_deploy_that_nobody_works_on_was_interrupted(records):
    running = record(status=deployed.RUNNING)
    records.write(running)
    with records.alone({"app": "shop", "version": "v1.0", "started": "now"}):
        assert records.status("shop") == {"shop": running}
    found = records.status("shop")["shop"]
    assert found["status"] == deployed.INTERRUPTED
    assert "what it had done by then is not known" in found["reason"]
    with records.alone({"app": "blog", "version": "v1.0", "started": "now"}):
        assert records.status("shop")["shop"]["status"] == deployed.INTERRUPTED


def test_a_deploy_that_ends_while_it_is_looked_at(records, monkeypatch):
    records.write(record(status=deployed.RUNNING))
    monkeypatch.setattr(records, "holder", lambda: records.write(record()))
    assert records.status("shop") == {"shop": record()}


def test_one_deploy_at_a_time(records, monkeypatch):
    monkeypatch.setattr(deployed, "_PAUSE", 0)
    about = {"app": "shop", "version": "v1.0", "started": "T", "user": "alice", "jid": "7"}
    with records.alone(about):
        assert records.holder() == about
        with pytest.raises(Refused) as error, records.alone({"app": "blog"}):
            pytest.fail("two at a time")
        assert records.holder() == about
    assert str(error.value) == (
        "shop v1.0 is being deployed by alice since T, job 7: nothing was done, try again later"
    )
    assert records.holder() is None
    with records.alone(about):
        pass


def test_a_look_at_the_lock_does_not_refuse_a_deploy(records):
    with records.alone({"app": "shop"}):
        pass
    handle = os.open(records._lock, os.O_RDONLY)
    deployed.fcntl.flock(handle, deployed.fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [handle]).start()
    with records.alone({"app": "shop"}):
        assert records.holder() == {"app": "shop"}


def test_the_lock_is_gone_although_a_child_has_it_open(records):
    with records.alone({"app": "shop"}):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        assert records.holder() is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_that_says_nothing(records, monkeypatch):
    monkeypatch.setattr(deployed, "_PAUSE", 0)
    for text in (b"", b"[]", b"\xff"):
        with records.alone({"app": "shop"}):
            records._lock.write_bytes(text)
            with pytest.raises(Refused, match=r"^another deploy is under way: nothing was done"):
                records.alone({"app": "blog"}).__enter__()


# A deploy -----------------------------------------------------------------------------------------


class Salt(dict):
    """The functions of a minion; ``returned`` is what its states give."""

    def __init__(self, returned=None):
        super().__init__()
        self.returned = {key("a"): state()} if returned is None else returned
        self.active = []
        self.applied = []
        self.meanwhile = lambda: None
        self["state.running"] = lambda: self.active
        self["state.apply"] = self.apply

    def apply(self, mods, **keywords):
        self.applied.append((mods, keywords))
        self.meanwhile()
        if isinstance(self.returned, BaseException):
            raise self.returned
        return self.returned


@pytest.fixture
def opts(tmp_path):
    (tmp_path / "cache/proc").mkdir(parents=True)
    return {"cachedir": str(tmp_path / "cache")}


def deploy(minion, opts, app=SHOP, version="v1.1"):
    return deploying.Deploy(app, version, minion, opts, plain)


def tree(host):
    return sorted(str(it) for it in host.path("/").rglob("*"))


def test_a_deploy_applies_the_states_and_keeps_a_record(records, opts):
    minion = Salt({key("a"): state(changes={"new": 1})})
    minion.meanwhile = lambda: seen.append(records.status("shop")["shop"])
    seen = []
    app = deploys.find(APPS, "blog", "web1")
    records.write(record("shop"))
    told = deploy(minion, opts).run(records)

    assert told.pop("seconds") >= 0
    assert told == {
        "app": "shop", "version": "v1.1", "previous": "v1.0", "result": True, "states": 1,
        "changed": 1, "failed": {}, "jid": "",
    }  # fmt: skip
    assert minion.applied == [
        ("shop.deployed", {"pillar": {"deploy": {"app": "shop", "version": "v1.1"}},
                           "test": False, "queue": False})
    ]  # fmt: skip
    assert (seen[0]["status"], seen[0]["version"]) == (deployed.RUNNING, "v1.1")
    kept = records.status("shop")["shop"]
    assert (kept["status"], kept["previous"], kept["changed"]) == (deployed.OK, "v1.0", 1)
    assert kept["started"] <= kept["ended"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", kept["ended"])
    deploy(minion, opts, app).run(records)
    assert minion.applied[1][0] == "a,b"


@pytest.mark.parametrize(
    ("returned", "failed"),
    [
        ({key("a"): state(False, "no")}, {"a (file.managed)": "no"}),
        (["Rendering failed"], {"shop.deployed": "Rendering failed"}),
        (ValueError("pillar is broken"), {"shop.deployed": "pillar is broken"}),
    ],
)
def test_a_deploy_that_fails_says_what_did(records, opts, returned, failed):
    records.write(record())
    told = deploy(Salt(returned), opts).run(records)
    assert (told["result"], told["failed"], told["previous"]) == (False, failed, "v1.0")
    kept = records.status("shop")["shop"]
    assert (kept["status"], kept["failed"], kept["previous"]) == (deployed.FAILED, failed, "v1.0")


def test_a_deploy_that_is_killed_is_interrupted_and_the_next_works(records, opts):
    with pytest.raises(SystemExit):
        deploy(Salt(SystemExit()), opts).run(records)
    assert records.status("shop")["shop"]["status"] == deployed.INTERRUPTED
    assert deploy(Salt(), opts).run(records)["result"]
    assert records.status("shop")["shop"]["status"] == deployed.OK


@pytest.mark.parametrize("late", [False, True])
def test_another_state_run_is_active(records, opts, late):
    minion = Salt([CONFLICT])
    minion.active = [] if late else [CONFLICT]
    for before in (None, record()):
        if before:
            records.write(before)
        with pytest.raises(Refused, match=r"^another state run is active: The function") as error:
            deploy(minion, opts).run(records)
        assert str(error.value).endswith("Nothing was done")
        assert bool(minion.applied) is late
        assert records.status() == ({"shop": before} if before else {})
    with pytest.raises(Refused, match=r"^another state run is active"):
        deploy(minion, opts).rehearse(records)


def test_a_rehearsal_leaves_no_trace(records, opts, host):
    minion = Salt({key("a"): state(None)})
    told = deploy(minion, opts).rehearse(records)
    assert (told["test"], told["result"], told["changed"]) == (True, True, 1)
    assert minion.applied[0][1]["test"] is True
    assert tree(host) == []


def test_no_deploy_without_a_record(records, opts, host, monkeypatch):
    minion = Salt()

    def full(record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "write", full)
    with pytest.raises(Refused, match=r"no record can be kept: .*No space left.*nothing was done"):
        deploy(minion, opts).run(records)
    assert minion.applied == []


def test_a_record_that_cannot_be_written_in_the_end_is_a_warning(records, opts, monkeypatch):
    write = records.write

    def full(record):
        if record["status"] != deployed.RUNNING:
            raise OSError(28, "No space left on device")
        write(record)

    monkeypatch.setattr(records, "write", full)
    told = deploy(Salt(), opts).run(records)
    assert told["result"]
    assert "shop.json could not be written" in told["warning"]


def test_in_a_thread_nothing_is_done(records, opts):
    minion, errors = Salt(), []

    def work():
        try:
            deploy(minion, opts).run(records)
        except Refused as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "multiprocessing: False" in errors[0]
    assert minion.applied == [] and records.status() == {}


def test_the_job_and_its_user_are_in_the_record(records, opts):
    folder = deploying._jobs(opts)
    load = {"jid": "20260101000000000000", "user": "alice", "pid": os.getpid(), "fun": "deploy.run"}
    (folder / "1").write_bytes(salt.payload.dumps({**load, "user": "bob", "pid": 1}))
    (folder / "2").write_bytes(salt.payload.dumps(load))
    (folder / "3").write_bytes(b"")
    (folder / "4").mkdir()
    told = deploy(Salt(), opts).run(records)
    assert told["jid"] == load["jid"]
    kept = records.status("shop")["shop"]
    assert (kept["jid"], kept["user"]) == (load["jid"], "alice")


def test_salt_sees_a_state_run_meanwhile(records, opts):
    minion, seen = Salt(), []
    minion.meanwhile = lambda: seen.extend(
        salt.payload.loads(it.read_bytes()) for it in deploying._jobs(opts).iterdir()
    )
    deploy(minion, opts).run(records)
    assert [(it["fun"], it["pid"]) for it in seen] == [("state.apply", os.getpid())]
    assert seen[0]["jid"].isdecimal()
    assert list(deploying._jobs(opts).iterdir()) == []


def test_the_file_of_the_job_is_there_whole_or_not_at_all(records, opts, monkeypatch):
    """Salt removes an empty one."""
    folder, put = deploying._jobs(opts), []
    replace = os.replace

    def look(new, path):
        if Path(path).parent == folder:
            assert Path(new).parent != folder and list(folder.iterdir()) == []
            put.append(salt.payload.loads(Path(new).read_bytes())["fun"])
        replace(new, path)

    monkeypatch.setattr(os, "replace", look)
    deploy(Salt(), opts).run(records)
    assert put == ["state.apply"]
    assert [it.name for it in folder.parent.iterdir()] == [folder.name]


def test_what_fails_after_a_deploy_does_not_undo_it(records, opts, monkeypatch):
    tell = deployed._tell

    def full(handle, text):
        tell(handle, text)
        if not text:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(deployed, "_tell", full)
    minion = Salt()
    told = deploy(minion, opts).run(records)
    assert told["result"] and "Input/output error" in told["warning"]
    assert len(minion.applied) == 1
    assert records.status("shop")["shop"]["status"] == deployed.OK


# The time -----------------------------------------------------------------------------------------


def test_what_takes_too_long_is_ended_with_its_programs(records, opts):
    sleeper = "import time; time.sleep(60)"
    app = deploys.App("shop", ("shop.deployed",), ".+", 0.3)
    minion, programs = Salt(), []

    def hang():
        programs.append(subprocess.Popen([sys.executable, "-c", sleeper]))
        with contextlib.suppress(Exception):
            programs[0].wait()
        pytest.fail("went on")

    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    bystander = subprocess.Popen([sys.executable, "-c", sleeper])
    minion.meanwhile = hang
    try:
        began = time.monotonic()
        told = deploy(minion, opts, app).run(records)
        assert time.monotonic() - began < 5
        assert told["failed"] == {"shop.deployed": "it took more than 0.3 s and was ended"}
        assert records.status("shop")["shop"]["status"] == deployed.FAILED
        assert programs[0].wait() == -signal.SIGTERM
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert signal.getsignal(signal.SIGALRM) == handler
    assert bool(signal.getitimer(signal.ITIMER_REAL)[0]) == bool(timer)


def test_what_would_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(deploying, "_AGAIN", 0.2)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as outside:
        outside.stdout.readline()
        try:
            assert outside.pid in deploying.descendants(os.getpid())
            with (
                pytest.raises(deploying.TookTooLong),
                deploying.at_most(0.5),
                subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as it,
            ):
                it.stdout.readline()
                it.wait()
            assert it.wait() == -signal.SIGKILL
            assert outside.poll() is None
        finally:
            outside.kill()


def test_what_is_in_time_is_left_alone():
    with deploying.at_most(0.2):
        pass
    time.sleep(0.3)


def test_an_alarm_in_the_last_moment_comes_to_nothing(monkeypatch):
    before, (_, again) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    setitimer = signal.setitimer

    def late(which, seconds, again=0.0):
        """As if it came just before the clock is stopped."""
        if not seconds and signal.getsignal(signal.SIGALRM) != before:
            signal.getsignal(signal.SIGALRM)(signal.SIGALRM, None)
        return setitimer(which, seconds, again)

    monkeypatch.setattr(signal, "setitimer", late)
    with deploying.at_most(5):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[1] == again
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_record_has_nothing_but_what_it_is_for(records, opts):
    deploy(Salt(), opts).run(records)
    text = records.host.read(records.path("shop"))
    assert sorted(json.loads(text)) == [
        "app", "changed", "ended", "failed", "jid", "previous", "schema", "seconds", "started",
        "states", "status", "user", "version",
    ]  # fmt: skip
