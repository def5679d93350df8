"""A real master, minion and salt-api: what people and programs outside see, and what leaks."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string
from saltfactories.utils.ports import get_unused_localhost_port

from conftest import ENVIRONMENT, GRAINS, SAMPLE, Result, clone, program
from rocksalt import __version__

CANARY = "canary-5e1f-never-to-be-seen"
API_SECRET = random_string("api-")


@dataclass
class Cluster:
    """Programs of the master and the minion ``web1``, and the folder that is the sample's host."""

    clone: Path
    pillar: Path
    files: Path
    state_dir: Path
    master: Any
    minion: Any
    port: int
    synced: dict[str, list[str]] = field(default_factory=dict)

    def run(self, name: str, *words: str) -> Result:
        """A program as a person runs it; its exit code is the process's own."""
        owner = self.minion if name == "salt-call" else self.master
        command = [program(name), "-c", str(owner.config_dir), "--out=json", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
        )
        try:
            value = json.loads(done.stdout)
        except ValueError:
            value = None
        return Result(value, done.returncode, done.stdout, done.stderr)

    def ask(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of web1, by salt-api: it saves a second of imports for each question."""
        answer = self.api(client="local", tgt="web1", fun=function, arg=list(args), kwarg=kwargs)
        assert "web1" in answer, f"{function}: no answer"
        return answer["web1"]

    def host(self, **texts: str) -> None:
        for file in self.files.iterdir():
            file.unlink()
        for name, text in texts.items():
            (self.files / name).write_text(text)

    def configure(self, **sample: Any) -> None:
        own = {"folder": str(self.files), "password": CANARY, **sample}
        (self.pillar / "site.sls").write_text(yaml.safe_dump({"hardening": {"sample": own}}))
        assert self.ask("saltutil.refresh_pillar", wait=True) is True

    def api(self, **low: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/run",
            data=json.dumps(
                [{"eauth": "sharedsecret", "username": "tests", "password": API_SECRET, **low}]
            ).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["return"][0]


@pytest.fixture(scope="module")
def cluster(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    repository = clone(folder / "clone")
    for name in ("pillar", "files"):
        (folder / name).mkdir()
    (folder / "pillar" / "top.sls").write_text("base: {'*': [site]}\n")
    (folder / "pillar" / "site.sls").write_text("hardening: {}\n")
    port = get_unused_localhost_port()
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            "file_roots": {"base": [str(SAMPLE), str(repository / "salt")]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "rest_cherrypy": {"port": port, "host": "127.0.0.1", "disable_ssl": True},
            "sharedsecret": API_SECRET,
            "external_auth": {"sharedsecret": {"tests": [".*"]}},
            "netapi_enable_clients": ["local"],
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    minion = master.salt_minion_daemon(
        "web1",
        overrides={
            "hardening": {"state_dir": str(folder / "state"), "roles": []},
            "grains": GRAINS,
            "multiprocessing": True,
            "pytest-minion": {"log": {"level": "warning"}},
        },
    )
    with master.started(), minion.started(), master.salt_api_daemon().started():
        files, state = folder / "files", folder / "state"
        it = Cluster(repository, folder / "pillar", files, state, master, minion, port)
        it.synced = it.ask("saltutil.sync_all")
        it.configure()
        yield it


@pytest.fixture(autouse=True)
def healthy(cluster: Cluster) -> None:
    """Every test starts with a host without drift in the family sample."""
    cluster.host(
        greeting="hello", password=CANARY, signature="signed", kernel="new", door="closed", key=""
    )


def test_sync_brings_the_modules_and_the_library(cluster: Cluster) -> None:
    synced = cluster.synced

    assert set(synced["modules"]) == {
        "modules.access", "modules.accounts", "modules.backup", "modules.deploy", "modules.drift",
        "modules.fail2ban", "modules.firewall", "modules.hardening", "modules.logstash",
        "modules.luks", "modules.nrpe", "modules.ossec", "modules.sshd", "modules.sample",
    }  # fmt: skip
    assert sorted(synced["states"]) == ["states.hardening", "states.ossec"]
    assert synced["grains"] == ["grains.hardening"]
    assert synced["output"] == ["output.drift"]
    assert "utils.rocksalt.settings" in synced["utils"]
    assert cluster.ask("hardening.version") == __version__


def test_the_grain_says_version_virtualisation_and_roles_alone(cluster: Cluster) -> None:
    grain = cluster.ask("grains.get", "hardening")

    assert set(grain) == {"version", "virtual", "roles"}
    assert (grain["version"], grain["roles"]) == (__version__, [])
    assert grain["virtual"] == cluster.ask("grains.get", "virtual")


def test_the_report_through_the_master(cluster: Cluster) -> None:
    cluster.host(greeting="tampered", password="x", signature="signed", kernel="new", door="closed")
    report = cluster.ask("drift.report", families="sample")

    assert [finding["id"] for finding in report["findings"]] == ["SAMPLE-001", "SAMPLE-002"]
    assert (report["host"], report["settings"]) == ("web1", "live")
    assert set(cluster.ask("drift.report")) >= {"schema", "summary", "findings"}


def test_a_run_through_the_master_in_test_mode_and_for_real(cluster: Cluster) -> None:
    cluster.host(greeting="tampered", password=CANARY, signature="signed", kernel="new", key="")
    would = cluster.run("salt", "web1", "state.apply", "hardening.sample", "test=True")
    assert {state["result"] for state in would.value["web1"].values()} == {None, True}
    assert would.retcode == 0
    assert (cluster.files / "greeting").read_text() == "tampered"

    done = cluster.run("salt", "web1", "state.apply", "hardening.sample")
    assert {state["result"] for state in done.value["web1"].values()} == {True}
    assert (cluster.files / "greeting").read_text() == "hello"
    assert cluster.run("salt", "web1", "drift.report", "families=sample").retcode == 0


def test_a_mistake_in_the_pillar_stops_the_run_through_the_master(cluster: Cluster) -> None:
    cluster.configure(greting="hello")
    try:
        result = cluster.run("salt", "web1", "state.apply", "hardening.sample")
    finally:
        cluster.configure()

    assert result.retcode == 1
    [message] = result.value["web1"]
    assert "hardening:sample:greting: no such setting; did you mean 'greeting'?" in message
    assert "Traceback" not in message


def outside(cluster: Cluster) -> dict[str, int]:
    """The code of one report as each kind of caller gets it."""
    words = ("drift.report", "families=sample")
    answer = cluster.api(client="local", tgt="web1", fun="drift.report", full_return=True,
                         kwarg={"families": "sample"})  # fmt: skip
    return {
        "salt-call": cluster.run("salt-call", *words).retcode,
        "salt-call passthrough": cluster.run("salt-call", "--retcode-passthrough", *words).retcode,
        "salt": cluster.run("salt", "web1", *words).retcode,
        "salt -b": cluster.run("salt", "-b", "1", "-t", "30", "web1", *words).retcode,
        "salt-api": answer["web1"]["retcode"],
    }


def test_the_return_code_outside_when_nothing_drifts(cluster: Cluster) -> None:
    assert set(outside(cluster).values()) == {0}


def test_the_return_code_outside_when_something_drifts(cluster: Cluster) -> None:
    cluster.host()
    assert outside(cluster) == {
        "salt-call": 1, "salt-call passthrough": 2, "salt": 1, "salt -b": 2, "salt-api": 2,
    }  # fmt: skip


def test_the_return_code_outside_when_a_check_cannot_run(cluster: Cluster) -> None:
    cluster.configure(folder="/nonexistent")
    try:
        codes = outside(cluster)
    finally:
        cluster.configure()
    assert codes == {
        "salt-call": 1, "salt-call passthrough": 3, "salt": 1, "salt -b": 3, "salt-api": 3,
    }  # fmt: skip


def test_salt_api_shows_the_report_without_full_return(cluster: Cluster) -> None:
    cluster.host()
    answer = cluster.api(client="local", tgt="web1", fun="drift.report", arg=["sample"])

    assert answer["web1"]["summary"]["drift"] == 5
    assert "retcode" not in answer["web1"]


def test_salt_api_serves_nothing_that_is_not_listed(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError):
        cluster.api(client="runner", fun="jobs.list_jobs")


def test_a_master_serves_nothing_but_the_baseline(cluster: Cluster) -> None:
    served = cluster.ask("cp.list_master")

    tops = {path.split("/")[0] for path in served}
    assert tops == {
        "top.sls", "hardening", "_modules", "_states", "_grains", "_output", "_runners", "_utils",
    }  # fmt: skip
    assert not [path for path in served if "pillar" in path or ".git" in path]
    states = set(cluster.ask("cp.list_states"))
    assert {"hardening", "hardening.sshd", "hardening.drift"} < states
    assert not [name for name in states if not name.startswith("hardening") and name != "top"]


def test_a_secret_is_found_nowhere_after_it_was_used(cluster: Cluster, tmp_path: Path) -> None:
    events = tmp_path / "events"
    with events.open("w") as file:
        command = [program("salt-run"), "-c", str(cluster.master.config_dir), "state.event"]
        listener = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT)
        try:
            deadline = time.monotonic() + 60
            while "salt/" not in events.read_text() and time.monotonic() < deadline:
                cluster.ask("test.ping")
            cluster.host(greeting="hello", password="another one", key="")
            answers = [
                cluster.ask("state.apply", "hardening.sample", test=True),
                cluster.ask("drift.report", all=True),
                cluster.ask("state.apply", "hardening.sample"),
                cluster.ask("drift.record"),
                cluster.ask("hardening.settings"),
                cluster.ask("grains.items"),
                cluster.ask("state.show_sls", "hardening.sample"),
                cluster.run("salt-run", "jobs.list_jobs").stdout,
                cluster.run("salt-call", "state.apply", "hardening.sample", "-l", "debug").stderr,
            ]
            cluster.configure(password=7)
            answers.append(cluster.ask("hardening.validate"))
        finally:
            listener.terminate()
            listener.wait()
            cluster.configure()

    assert (cluster.files / "password").read_text() == CANARY
    assert CANARY not in json.dumps(answers)
    assert "hardening.enforced" not in events.read_text() and "drift.report" in events.read_text()
    assert CANARY not in events.read_text()
    # Beside the pillar itself Salt keeps a copy of what it rendered for each minion, on the master.
    copies = {"pillar/web1.p", "web1/data.p"}
    found = holding(CANARY, Path(cluster.master.config["root_dir"]))
    assert [path for path in found if "/".join(path.split("/")[-2:]) not in copies] == []
    assert holding(CANARY, Path(cluster.minion.config["root_dir"])) == []
    assert holding(CANARY, cluster.state_dir) == []


def holding(secret: str, folder: Path) -> list[str]:
    """Files below a folder in which the secret can be read."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


def test_an_upgrade_works_under_a_running_minion(cluster: Cluster) -> None:
    before = cluster.ask("hardening.version")
    library = cluster.clone / "_utils" / "rocksalt" / "__init__.py"
    module = cluster.clone / "_modules" / "hardening.py"
    library.write_text(
        library.read_text().replace(f'"{before}"', '"99.0.0"') + '\nCODENAME = "granite"\n'
    )
    module.write_text(
        module.read_text().replace("from rocksalt import ", "from rocksalt import CODENAME, ", 1)
        + "\n\ndef codename():\n    return CODENAME\n"
    )
    assert "modules.hardening" in cluster.ask("saltutil.sync_all")["modules"]

    assert cluster.ask("hardening.codename") == "granite"
    assert cluster.ask("hardening.version") == "99.0.0"
    assert cluster.ask("drift.report", families="sample")["version"] == "99.0.0"
    assert cluster.ask("grains.get", "hardening")["version"] == "99.0.0"
