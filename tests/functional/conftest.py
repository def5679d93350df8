"""Salt without a lab: masterless minions below a temporary folder, which only look at this machine.

They serve the repository and, beside it, the family ``sample`` of these tests, whose "host" is a
folder of text files; that is the one that gets enforced.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import salt._logging
import salt.client
import salt.config
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
A_TEST = dt.timedelta(minutes=1)
SAMPLE = Path(__file__).parent / "sample"
GRAINS = {"os": "Debian", "osmajorrelease": 12}

# Importing Salt starts to log everything, for handlers that only its programs set up.
salt._logging.shutdown_temp_handler()
logging.root.setLevel(logging.WARNING)


def pytest_configure(config: pytest.Config) -> None:
    """What Salt says to its own developers while it runs in this process is not for us."""
    config.option.log_level = "WARNING"
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


class Result(NamedTuple):
    """What a salt-call gave: the value it printed as JSON, and everything else."""

    value: Any
    retcode: int
    stdout: str
    stderr: str


class Minion:
    """A masterless minion of its own below ``folder``: configuration, pillar, cache and state."""

    def __init__(self, folder: Path, **options: Any):
        self.folder = folder
        self.state_dir = folder / "state"
        self.files = folder / "files"
        self.config = folder / "config"
        for path in (self.files, self.config, folder / "pillar"):
            path.mkdir()
        self.options = {
            "id": "web1",
            "file_client": "local",
            "root_dir": str(folder / "root"),
            "log_file": str(folder / "log"),
            "hardening": {"state_dir": str(self.state_dir)},
            "file_roots": {"base": [str(SAMPLE), str(REPOSITORY / "salt")]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "module_dirs": [str(SAMPLE / "_modules"), str(REPOSITORY / "_modules")],
            "states_dirs": [str(REPOSITORY / "_states")],
            "grains_dirs": [str(REPOSITORY / "_grains")],
            "outputter_dirs": [str(REPOSITORY / "_output")],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "grains": GRAINS,
            **options,
        }
        self.configure()
        self.pillar({})

    def configure(self, **options: Any) -> None:
        self.options.update(options)
        (self.config / "minion").write_text(yaml.safe_dump(self.options))

    def pillar(self, hardening: dict[str, Any], **sample: Any) -> None:
        """Sets the pillar ``hardening``; further keywords are settings of the family sample."""
        own = {"folder": str(self.files), "password": "a-secret", **sample}
        tree = {"hardening": {"sample": own, **hardening}}
        self.pillar_text(yaml.safe_dump(tree, sort_keys=False))

    def pillar_text(self, text: str) -> None:
        (self.folder / "pillar" / "top.sls").write_text("base: {'*': [site]}\n")
        (self.folder / "pillar" / "site.sls").write_text(text)

    def host(self, **texts: str) -> None:
        """Makes the sample's host consist of these files."""
        for file in self.files.iterdir():
            file.unlink()
        for name, text in texts.items():
            (self.files / name).write_text(text)

    @property
    def looks(self) -> dict[str, str]:
        """The sample's host as it is now."""
        return {file.name: file.read_text() for file in sorted(self.files.iterdir())}

    def run(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a function in this process, each time with fresh loaders and a fresh pillar."""
        return self.caller().cmd(function, *args, **kwargs)

    def caller(self) -> salt.client.Caller:
        return salt.client.Caller(mopts=salt.config.minion_config(str(self.config / "minion")))

    def call(self, *words: str, out: str = "json", cwd: Path | None = None) -> Result:
        """``salt-call`` as a person would run it; with ``out=""`` Salt chooses the outputter."""
        form = [f"--out={out}"] if out else []
        done = subprocess.run(
            [program("salt-call"), "-c", str(self.config), *form, *words],
            capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRONMENT,
        )  # fmt: skip
        value = json.loads(done.stdout)["local"] if out == "json" and done.stdout else None
        return Result(value, done.returncode, done.stdout, done.stderr)


ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "LC_ALL": "C.UTF-8"}


def program(name: str) -> str:
    """A program of the Salt that runs these tests."""
    return str(Path(sys.executable).parent / name)


def states(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The states of a run by their ids."""
    assert isinstance(result, dict), result
    return {state["__id__"]: state for state in result.values()}


@pytest.fixture(scope="session")
def salt_factories_default_root_dir() -> Iterator[Path]:
    """Where pytest-salt-factories puts its daemons: by default one folder for all runs there are,
    in which the scripts of one Salt line start the daemons of the other.

    The path is short because sockets below it may have no more than 107 characters.
    """
    with tempfile.TemporaryDirectory(prefix="salt-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def today() -> dt.date:
    """The date in UTC, which stays what it is while a test runs: before midnight, it waits."""
    while (now := dt.datetime.now(dt.timezone.utc)).date() != (now + A_TEST).date():
        time.sleep(1)
    return now.date()


@pytest.fixture
def minion(tmp_path: Path) -> Minion:
    return Minion(tmp_path)


@pytest.fixture(scope="module")
def shared_minion(tmp_path_factory: pytest.TempPathFactory) -> Minion:
    """One for tests that change nothing about it."""
    return Minion(tmp_path_factory.mktemp("minion"))


def clone(target: Path) -> Path:
    """A clone of the repository as it is in the working tree, with one commit on ``main``."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name, follow_symlinks=False)
    git("init", "--quiet", "--initial-branch=main", cwd=target)
    git("add", "--all", cwd=target)
    git("commit", "--quiet", "--message=Everything", cwd=target)
    return target


def git(*words: str, cwd: Path) -> str:
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@example.invalid"]
    command = ["git", *author, *words]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
