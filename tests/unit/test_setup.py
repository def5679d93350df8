"""scripts/setup: what it installs, once, and the one sentence it ends in where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A small copy of the repository whose Salt needs no package at all."""
    clone = tmp_path / "clone"
    (clone / "requirements").mkdir(parents=True)
    (clone / "scripts").mkdir()
    shutil.copy(REPO / "scripts/setup", clone / "scripts")
    (clone / "requirements/debian.txt").write_text(
        "# name, who\ngit  all\nshellcheck  all\niproute2  lab\nmmdebstrap  lab\n"
    )
    for name in ("salt-3008", "salt-3006", "test", "lint"):
        (clone / f"requirements/{name}.txt").write_text("# nothing\n")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    return clone


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str, str], None]:
    """Put a command in front of the machine's own, as a few lines of shell."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    put("id", "echo 0")
    put("df", "printf 'Filesystem Blocks Used Available\\nfs 0 0 99999999\\n'")
    put("dpkg-query", "printf installed")
    put("apt-get", f'echo "$@" >> {tmp_path}/apt-get.log')
    return put


@pytest.fixture
def setup(clone: Path, machine: object, tmp_path: Path) -> Setup:
    """Run the copy's scripts/setup there."""
    env = {
        "HOME": str(tmp_path),
        "OS_RELEASE": str(tmp_path / "os-release"),
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [clone / "scripts/setup", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a run that failed with nothing but a sentence."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("rocksalt: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("rocksalt: ").strip()


def pretend_venv(clone: Path) -> None:
    """Leave what scripts/setup leaves beside a finished virtual environment."""
    made_of = "/usr/bin/python3 --version; cd ..; sha256sum requirements/{salt-3006,test}.txt"
    (clone / ".venv-3006").mkdir()
    with (clone / ".venv-3006/made-of").open("w") as file:
        subprocess.run(["bash", "-c", made_of], cwd=clone / "scripts", stdout=file, check=True)


def test_venv_is_made_only_when_its_requirements_change(clone, setup):
    pretend_venv(clone)
    assert (setup("3006").stdout, setup("3006").returncode) == ("", 0)

    (clone / "requirements/test.txt").write_text("# another nothing\n")
    changed = setup("3006")
    assert changed.returncode == 0, changed.stderr
    assert "Python packages of Salt 3006 in .venv-3006: done" in changed.stdout
    assert os.path.realpath(clone / ".venv-3006/bin/python").startswith("/usr/bin/python3")

    assert (setup("3006").stdout, setup("3006").returncode) == ("", 0)


def test_failed_venv_shows_why_and_is_not_taken_for_finished(clone, setup):
    (clone / "requirements/salt-3006.txt").write_text("./no-such-package\n")
    done = setup("3006")
    assert done.returncode == 1
    assert "no-such-package" in done.stderr
    assert "Python packages of Salt 3006 in .venv-3006 failed: its last lines" in done.stderr
    assert not (clone / ".venv-3006/made-of").exists()


def test_only_missing_debian_packages_are_installed(clone, setup, machine, tmp_path):
    pretend_venv(clone)
    machine(
        "dpkg-query",
        'case "$*" in *mmdebstrap) exit 1 ;; *iproute2) printf config-files ;;'
        " *) printf installed ;; esac",
    )
    assert setup("3006").returncode == 0
    assert not (tmp_path / "apt-get.log").exists()

    assert setup("3006", "lab").returncode == 0
    log = (tmp_path / "apt-get.log").read_text().splitlines()
    assert log == ["update", "install -y --no-install-recommends iproute2 mmdebstrap"]


def test_failed_apt_shows_why(setup, machine):
    machine("dpkg-query", "exit 1")
    machine("apt-get", "echo no such mirror; exit 100")
    done = setup("3006")
    assert done.returncode == 1
    assert "no such mirror\nrocksalt: Debian packages git shellcheck" in done.stderr


def test_missing_debian_packages_without_root(setup, machine):
    machine("id", "echo 65534")
    machine("dpkg-query", 'case "$*" in *git | *shellcheck) exit 1 ;; *) printf installed ;; esac')
    assert refusal(setup("3008")) == (
        "Debian packages are missing: as root, run: apt-get install git shellcheck"
    )


def test_lab_without_root(clone, setup, machine, tmp_path):
    machine("id", "echo 65534")
    sentence = refusal(setup("3008", "lab"))
    assert sentence == (
        "the lab boots system containers, which takes root: try again with sudo, or as root."
    )
    assert not (tmp_path / ".cache").exists()
    assert not (clone / ".venv-3008").exists()


def test_no_room_for_the_lab(clone, setup, machine, tmp_path):
    machine("df", "printf 'Filesystem Blocks Used Available\\nfs 0 0 3145728\\n'")
    assert refusal(setup("3008", "lab")) == (
        f"{tmp_path}/.cache/rocksalt has 3 GiB free and 8 GiB are needed: make room, or set "
        "XDG_CACHE_HOME to a folder that has it, and try again."
    )


def test_no_room_for_a_venv(clone, setup, machine):
    machine("df", "printf 'Filesystem Blocks Used Available\\nfs 0 0 1048576\\n'")
    assert ". has 1 GiB free and 2 GiB are needed" in refusal(setup("3006"))
    assert not (clone / ".venv-3006").exists()


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("ID=fedora\nVERSION_ID=44\n", "fedora 44"),
        ("ID=debian\nVERSION_ID=11\n", "debian 11"),
        ("ID=debian\n", "debian"),
        ("", "an unknown system"),
    ],
)
def test_unsupported_system(setup, tmp_path, release, name):
    (tmp_path / "os-release").write_text(release)
    assert refusal(setup("3008")) == (
        f"this runs on Debian 12, Debian 13 and Ubuntu, not on '{name}'; a virtual machine with "
        "one of them will do."
    )


@pytest.mark.parametrize("arguments", [(), ("3007",), ("3008", "laboratory")])
def test_usage(setup, arguments):
    assert refusal(setup(*arguments)) == "usage: scripts/setup 3008|3006 [lab]"
