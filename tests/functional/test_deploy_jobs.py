"""deploy.run as a job of a real master and minion: whose it is, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import salt.client
import salt.config
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import GRAINS, REPOSITORY, SAMPLE

SECRET = random_string("password-")
NAP = f"300.{os.getpid()}"
STATES = {
    "slow": f"it takes its time: {{cmd.run: [name: 'sleep {NAP}']}}",
    "fine": "it works: {test.succeed_with_changes: []}",
    "broken": "it fails: {test.fail_without_changes: []}",
}


class Cluster(NamedTuple):
    client: salt.client.LocalClient

    def ask(self, function: str, _user: str = "", **kwargs: Any) -> dict[str, Any]:
        """The full return of web1; for a person, by that name and a password."""
        login = {"eauth": "sharedsecret", "username": _user, "password": SECRET} if _user else {}
        answer = self.client.cmd(
            "web1", function, kwarg=kwargs, full_return=True, timeout=60, **login
        )
        assert "web1" in answer, (function, answer)
        return answer["web1"]

    def deploy(self, app: str, user: str = "") -> dict[str, Any]:
        return self.ask("deploy.run", user, app=app, version="v1")

    def begin(self, app: str) -> str:
        """The id of a job that is under way by then."""
        login = {"eauth": "sharedsecret", "username": "alice", "password": SECRET}
        arguments = {"app": app, "version": "v1"}
        jid = str(self.client.cmd_async("web1", "deploy.run", kwarg=arguments, **login))
        wait_for(lambda: bool(sleepers()))
        return jid

    def status(self, app: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("deploy.status", app=app)["ret"][app]
        return found


def sleepers() -> list[int]:
    """Processes of the state that takes its time; Salt leaves them behind when it kills a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"sleep\0{NAP}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    for name in ("pillar", "sls", "files"):
        (folder / name).mkdir()
    for name, text in STATES.items():
        (folder / "sls" / f"{name}.sls").write_text(text)
    apps = {it: {"states": [it], "version": "v1", "minions": ["web1"]} for it in STATES}
    apps["hasty"] = {**apps["slow"], "timeout": 10}
    own = {"folder": str(folder / "files"), "password": "a-secret"}
    pillar = {"hardening": {"sample": own, "access": {"apps": apps}}}
    (folder / "pillar" / "top.sls").write_text("base: {'*': [site]}\n")
    (folder / "pillar" / "site.sls").write_text(yaml.safe_dump(pillar))
    roots = [str(folder / "sls"), str(SAMPLE), str(REPOSITORY / "salt")]
    rights = ["^deploy\\.run\\Z"]
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            "file_roots": {"base": roots},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "sharedsecret": SECRET,
            "external_auth": {"sharedsecret": {"alice": [{"web1": rights}]}},
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    minion = master.salt_minion_daemon(
        "web1",
        overrides={
            "hardening": {"state_dir": str(folder / "state")},
            "grains": GRAINS,
            "module_dirs": [str(SAMPLE / "_modules"), str(REPOSITORY / "_modules")],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "multiprocessing": True,
            "pytest-minion": {"log": {"level": "warning"}},
        },
    )
    with master.started(), minion.started():
        options = salt.config.client_config(str(Path(master.config_dir) / "master"))
        yield Cluster(salt.client.LocalClient(mopts=options))


@pytest.fixture
def no_sleepers() -> Iterator[None]:
    yield
    for pid in sleepers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_deploy_is_recorded_with_its_job_and_the_name_that_logged_in(cluster: Cluster) -> None:
    done = cluster.deploy("fine", "alice")
    assert (done["retcode"], done["ret"]["result"], done["ret"]["changed"]) == (0, True, 1)
    assert done["ret"]["jid"] == done["jid"]
    kept = cluster.status("fine")
    assert (kept["user"], kept["jid"], kept["status"]) == ("alice", done["jid"], "ok")


def test_a_deploy_that_fails_has_a_return_code(cluster: Cluster) -> None:
    done = cluster.deploy("broken", "alice")
    assert (done["retcode"], done["ret"]["result"]) == (2, False)
    assert done["ret"]["failed"] == {"it fails (test.fail_without_changes)": "Failure!"}


def test_a_deploy_ends_when_its_time_is_up_and_whoever_asked_waits_for_that(
    cluster: Cluster, no_sleepers: None
) -> None:
    arguments = {"app": "hasty", "version": "v1"}
    answer = cluster.client.cmd("web1", "deploy.run", kwarg=arguments, timeout=1)
    assert answer["web1"]["failed"] == {"slow": "it took more than 10 s and was ended"}
    assert cluster.status("hasty")["status"] == "failed"
    assert sleepers() == []


@pytest.mark.parametrize("end", ["saltutil.kill_job", "saltutil.term_job"])
def test_while_one_deploys_others_wait_and_a_job_that_is_ended_was_interrupted(
    cluster: Cluster, end: str, no_sleepers: None
) -> None:
    jid = cluster.begin("slow")
    assert cluster.status("slow")["status"] == "running"
    for user in ("alice", ""):
        other = cluster.deploy("fine", user)
        assert other["retcode"] != 0
        assert "slow v1 is being deployed by alice since" in other["ret"]
        assert f"job {jid}: nothing was done" in other["ret"]
    states = cluster.ask("state.apply", mods="fine")
    assert 'The function "state.apply" is running as PID' in states["ret"][0]

    cluster.ask(end, jid=jid)
    wait_for(lambda: cluster.status("slow")["status"] != "running")
    kept = cluster.status("slow")
    assert (kept["status"], kept["jid"], kept["user"]) == ("interrupted", jid, "alice")
    assert cluster.deploy("fine")["ret"]["result"] is True
