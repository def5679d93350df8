"""`make vagrant-test` where it cannot run, and what its master does to the machines."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
SCRIPT = REPO / "scripts/vagrant-test"
Desk = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Runs the script where nothing but the named commands is installed."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    def run(env: dict[str, str], **commands: str) -> subprocess.CompletedProcess[str]:
        for name, script in commands.items():
            (tmp_path / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
            (tmp_path / name).chmod(0o755)
        env = {"PATH": str(tmp_path), "VAGRANT_DOTFILE_PATH": str(tmp_path / "state"), **env}
        return subprocess.run(
            [str(tmp_path / "bash"), str(SCRIPT)], capture_output=True, text=True, env=env
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal."""
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("rocksalt: ") and done.stderr.count("\n") == 1
    return done.stderr


def test_without_vagrant_one_sentence_says_what_to_install(desk: Desk) -> None:
    assert "Vagrant is not installed: apt-get install vagrant" in said(desk({}))


def test_without_anything_to_make_machines_with(desk: Desk) -> None:
    sentence = said(desk({}, vagrant="exit 0"))
    for package in ("libvirt-daemon-system", "virtualbox.org", "docker.io"):
        assert package in sentence


def test_without_the_right_to_use_docker(desk: Desk) -> None:
    env = {"VAGRANT_DEFAULT_PROVIDER": "docker"}
    sentence = said(desk(env, vagrant="exit 0", docker="exit 1"))
    assert "you may not use Docker, or it does not run: run this as root" in sentence


def test_without_the_provider_that_was_asked_for(desk: Desk) -> None:
    env = {"VAGRANT_DEFAULT_PROVIDER": "libvirt"}
    sentence = said(desk(env, vagrant="exit 0", docker="exit 0"))
    assert "VAGRANT_DEFAULT_PROVIDER is 'libvirt': libvirt is not installed" in sentence
    unknown = said(desk({"VAGRANT_DEFAULT_PROVIDER": "hyperv"}, vagrant="exit 0"))
    assert "'hyperv': there is no such provider" in unknown


def test_libvirt_without_its_plugin_is_not_taken(desk: Desk) -> None:
    env = {"VAGRANT_DEFAULT_PROVIDER": "libvirt"}
    sentence = said(desk(env, vagrant='echo "vagrant-hosts (1.0)"', virsh="exit 0"))
    assert "'libvirt': Vagrant has no plugin for libvirt: apt-get install vagrant-l" in sentence
    sentence = said(desk({}, vagrant="exit 0", virsh="exit 0"))
    assert "no plugin for libvirt" in sentence and "docker.io" in sentence


def test_machines_that_are_there_are_left_alone(desk: Desk, tmp_path: Path) -> None:
    for name, provider in (("db", "libvirt"), ("master", "docker")):
        path = tmp_path / "state/machines" / name / provider / "id"
        path.parent.mkdir(parents=True)
        path.write_text("1234")
    calls = tmp_path / "calls"
    sentence = said(desk({}, vagrant=f'echo "$@" >>{calls}', docker="exit 0"))
    assert "there are machines of this Vagrantfile (db, master)" in sentence
    assert "run vagrant destroy first" in sentence
    assert not calls.exists()


def test_machines_that_were_destroyed_are_no_machines(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "state/machines/web/docker").mkdir(parents=True)
    done = desk({}, vagrant='echo "$1 $VAGRANT_DEFAULT_PROVIDER"; exit 1', docker="exit 0")
    assert (done.returncode, done.stdout, done.stderr) == (1, "validate docker\n", "")


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script of the master, where web and db are known and answer what `answers` has."""
    spec = importlib.util.spec_from_file_location("on_master", REPO / "vagrant/on-master.py")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("web", "db"):
        (tmp_path / name).touch()
    answers: dict[str, Any] = {}
    monkeypatch.setattr(module, "MINIONS", tmp_path)
    monkeypatch.setattr(module, "wait", lambda: None)
    monkeypatch.setattr(module, "salt", lambda function, *_: answers[function])
    return types.SimpleNamespace(main=module.main, answers=answers)


def states(changes: dict[str, Any], result: bool = True) -> dict[str, Any]:
    return {
        "x": {"__id__": "sshd is hardened", "result": result, "comment": "why", "changes": changes}
    }


def report(*findings: tuple[str, str]) -> dict[str, Any]:
    counts = dict.fromkeys(("ok", "drift", "waived", "skipped", "error"), 0)
    rows = [{"id": i, "status": status, "reason": "why"} for i, status in findings]
    return {"summary": {"score": 100.0, **counts}, "findings": rows}


@pytest.mark.parametrize(
    ("web", "status", "words"),
    [
        (states({}), 0, ""),
        (states({"SSHD-101": "x"}), 1, "should have changed nothing"),
        (states({}, result=False), 1, "web: sshd is hardened: why"),
        (["Rendering failed"], 1, "web: ['Rendering failed']"),
    ],
)
def test_a_second_highstate_has_to_change_nothing(
    master: Any, capsys: pytest.CaptureFixture[str], web: Any, status: int, words: str
) -> None:
    master.answers["state.apply"] = {"db": states({}), "web": web}
    assert master.main(["unchanged"]) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("finding", "status"),
    [("drift", 1), ("error", 1), ("waived", 0), ("skipped", 0)],
)
def test_a_report_has_to_be_without_drift_and_errors(
    master: Any, capsys: pytest.CaptureFixture[str], finding: str, status: int
) -> None:
    master.answers["drift.report"] = {"db": report(), "web": report(("FW-001", finding))}
    assert master.main(["report"]) == status
    assert ("web: FW-001: why" in capsys.readouterr().err) == bool(status)


def test_a_machine_that_gives_no_report_is_a_failure(master: Any) -> None:
    master.answers["drift.report"] = {"db": report(), "web": "'drift.report' is not available."}
    assert master.main(["report"]) == 1


def test_an_unknown_command_is_refused(master: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert master.main(["tidy"]) == 2
    assert "on-master.py harden" in capsys.readouterr().err
