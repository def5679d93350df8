"""Minions that sign what they answer, and a master that takes nothing else: real ones, of both
kinds.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program
from rocksalt.access import survey
from rocksalt.host import Host

MODERN = {"signing_algorithm": "PKCS1v15-SHA224", "encryption_algorithm": "OAEP-SHA224"}
SIGNING = {"minion_sign_messages": True, **MODERN}
REQUIRED = {"require_minion_sign_messages": True, "drop_messages_signature_fail": True}
READY = {"signing_algorithm": MODERN["signing_algorithm"]}
OTHERWISE = survey.OTHERWISE.format(MODERN["signing_algorithm"])


@dataclass
class Fleet:
    """A master, a minion that signs all the time, and one that does what a test wants."""

    master: Any
    lags: Any
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, name: str, *words: str) -> Any:
        command = [program(name), "-c", str(self.master.config_dir), "--out=json", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
        )
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def asked(self, timeout: int = 15) -> Any:
        return self.run("salt-run", "access.signing", f"timeout={timeout}")

    def answers(self, *expected: str) -> set[str]:
        """The minions whose answers arrive, as soon as those expected have found their master."""
        deadline = time.monotonic() + 60
        while True:
            said = self.run("salt", "--static", "--timeout=5", "*", "test.ping")
            found = {name for name, value in said.items() if value is True}
            if found == {*expected} or time.monotonic() > deadline:
                return found

    def is_said(self, words: str, seconds: float = 10) -> bool:
        """Whether the master's log has these words, which it may have in a moment."""
        path = Path(self.master.config["log_file"])
        deadline = time.monotonic() + seconds
        while words not in path.read_text():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def become(self, daemon: Any, **options: Any) -> None:
        """Has a daemon run with these options of signing and no others: a start takes long."""
        if self.told.get(daemon.id) == options:
            return
        path = Path(daemon.config_file)
        others = {
            key: value
            for key, value in yaml.safe_load(path.read_text()).items()
            if key not in (*SIGNING, *REQUIRED)
        }
        daemon.terminate()
        path.write_text(yaml.safe_dump({**others, **options}))
        daemon.start()
        self.told[daemon.id] = options


@pytest.fixture(scope="module")
def fleet(salt_factories: FactoriesManager) -> Iterator[Fleet]:
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            **READY,
            "runner_dirs": [str(REPOSITORY / "_runners")],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "gather_job_timeout": 2,
        },
    )
    signs = master.salt_minion_daemon("signs", overrides=SIGNING)
    lags = master.salt_minion_daemon("lags", overrides={})
    with master.started(), signs.started(), lags.started():
        yield Fleet(master, lags, {master.id: READY, lags.id: {}})


def test_one_that_does_not_sign_lags(fleet: Fleet) -> None:
    fleet.become(fleet.lags)
    fleet.become(fleet.master, **READY)
    said = fleet.asked()
    assert said.get("signs") == ["signs"], said
    assert said["lagging"] == {"lags": survey.UNSIGNED}
    assert (said["algorithm"], said["retcode"]) == (MODERN["signing_algorithm"], 2)
    kept = survey.read(Host(), said["record"])
    assert kept is not None
    assert kept.lagging(["signs", "lags"]) == said["lagging"]


def test_one_that_signs_by_an_old_algorithm_lags(fleet: Fleet) -> None:
    fleet.become(fleet.lags, minion_sign_messages=True, signing_algorithm="PKCS1v15-SHA1")
    fleet.become(fleet.master, **READY)
    assert fleet.asked()["lagging"] == {"lags": OTHERWISE}
    fleet.become(fleet.master, **READY, **REQUIRED)
    assert fleet.answers("signs") == {"signs"}
    assert fleet.is_said("dropping message from lags")


def test_a_master_that_requires_signatures_drops_what_has_none(fleet: Fleet) -> None:
    fleet.become(fleet.lags)
    fleet.become(fleet.master, **READY, **REQUIRED)
    assert fleet.answers("signs") == {"signs"}
    assert fleet.is_said("there is no signature in this payload from lags")
    assert fleet.asked(5)["lagging"] == {"lags": survey.SILENT}

    fleet.become(fleet.lags, **SIGNING)
    assert fleet.answers("signs", "lags") == {"signs", "lags"}
    said = fleet.asked()
    assert (said["signs"], said["lagging"], said["retcode"]) == (["lags", "signs"], {}, 0)


def test_one_that_cannot_be_asked_lags(fleet: Fleet) -> None:
    fleet.lags.terminate()
    fleet.told.pop(fleet.lags.id)
    fleet.become(fleet.master, **READY, **REQUIRED)
    assert fleet.asked(3)["lagging"] == {"lags": survey.SILENT}


def test_a_master_without_the_algorithm_loses_what_is_signed(fleet: Fleet) -> None:
    """As it is without the baseline: why it comes before the minions."""
    fleet.become(fleet.master)
    lost, answered = "KeyError: 'signing_algorithm'", set[str]()
    for _ in range(12):
        if fleet.is_said(lost, 1):
            break
        answered |= fleet.answers()
    assert "signs" not in answered and fleet.is_said(lost)
    said = fleet.asked()
    assert said["retcode"] == 1 and "apply hardening.access on the master's" in said["reason"]
