"""Minions that sign what they answer, and a master that takes nothing else: real ones, of both
kinds.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program
from rocksalt.access import survey

MODERN = {"signing_algorithm": "PKCS1v15-SHA224", "encryption_algorithm": "OAEP-SHA224"}
SIGNING = {"minion_sign_messages": True, **MODERN}
REQUIRED = {"require_minion_sign_messages": True, "drop_messages_signature_fail": True}
OTHERWISE = survey.OTHERWISE.format(MODERN["signing_algorithm"])


@dataclass
class Fleet:
    """A master, a minion that signs from the beginning, and one that does what a test wants."""

    master: Any
    signs: Any
    lags: Any

    def run(self, name: str, *words: str) -> Any:
        command = [program(name), "-c", str(self.master.config_dir), "--out=json", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
        )
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def asked(self, timeout: int = 15) -> Any:
        return self.run("salt-run", "access.signing", f"timeout={timeout}")

    def answers(self) -> set[str]:
        """The minions whose answers arrive."""
        said = self.run("salt", "--static", "--timeout=4", "*", "test.ping")
        return {name for name, value in said.items() if value is True}

    def is_said(self, words: str) -> bool:
        """Whether the master's log has these words, which it may have in a moment."""
        path = Path(self.master.config["log_file"])
        deadline = time.monotonic() + 10
        while words not in path.read_text():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


def restarted(daemon: Any, **options: Any) -> None:
    """Starts a daemon anew with other options; None takes one away."""
    path = Path(daemon.config_file)
    told = {**yaml.safe_load(path.read_text()), **options}
    told = {key: value for key, value in told.items() if value is not None}
    daemon.terminate()
    path.write_text(yaml.safe_dump(told))
    daemon.start()


@pytest.fixture(scope="module")
def fleet(salt_factories: FactoriesManager) -> Iterator[Fleet]:
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            "signing_algorithm": MODERN["signing_algorithm"],
            "runner_dirs": [str(REPOSITORY / "_runners")],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "gather_job_timeout": 2,
        },
    )
    signs = master.salt_minion_daemon("signs", overrides=SIGNING)
    lags = master.salt_minion_daemon("lags", overrides={})
    with master.started(), signs.started(), lags.started():
        yield Fleet(master, signs, lags)


def test_one_that_does_not_sign_lags(fleet: Fleet) -> None:
    said = fleet.asked()
    assert said.get("signs") == ["signs"], said
    assert said["lagging"] == {"lags": survey.UNSIGNED}
    assert (said["algorithm"], said["retcode"]) == (MODERN["signing_algorithm"], 2)
    kept = survey.parsed(Path(said["record"]).read_text(), said["record"])
    assert kept.lagging(["signs", "lags"]) == said["lagging"]


def test_a_master_that_requires_signatures_drops_what_has_none(fleet: Fleet) -> None:
    restarted(fleet.master, **REQUIRED)
    try:
        assert fleet.answers() == {"signs"}
        assert fleet.is_said("there is no signature in this payload from lags")
        assert fleet.asked(5)["lagging"] == {"lags": survey.SILENT}

        restarted(fleet.lags, **SIGNING)
        assert fleet.answers() == {"signs", "lags"}
        said = fleet.asked()
        assert (said["lagging"], said["retcode"]) == ({}, 0)
        assert said["signs"] == ["lags", "signs"]
    finally:
        restarted(fleet.lags, minion_sign_messages=None)
        restarted(fleet.master, **dict.fromkeys(REQUIRED))


def test_one_that_signs_by_an_old_algorithm_lags(fleet: Fleet) -> None:
    restarted(fleet.lags, minion_sign_messages=True, signing_algorithm="PKCS1v15-SHA1")
    try:
        assert fleet.asked()["lagging"] == {"lags": OTHERWISE}
        restarted(fleet.master, **REQUIRED)
        assert fleet.answers() == {"signs"}
        assert fleet.is_said("dropping message from lags")
    finally:
        restarted(fleet.master, **dict.fromkeys(REQUIRED))
        restarted(fleet.lags, minion_sign_messages=None)


def test_one_that_cannot_be_asked_lags(fleet: Fleet) -> None:
    fleet.lags.terminate()
    try:
        assert fleet.asked(3)["lagging"] == {"lags": survey.SILENT}
    finally:
        fleet.lags.start()


def test_a_master_without_the_algorithm_loses_what_is_signed(fleet: Fleet) -> None:
    """As it is without the baseline: why it comes before the minions."""
    restarted(fleet.master, signing_algorithm=None)
    try:
        assert fleet.answers() == {"lags"}
        said = fleet.asked()
        assert said["retcode"] == 1 and "apply hardening.access on the master's" in said["reason"]
    finally:
        restarted(fleet.master, signing_algorithm=MODERN["signing_algorithm"])
