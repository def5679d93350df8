"""Every function of execution modules, runners and wheel, asked for by each role over HTTP.

Who may is told by the status alone: the minions have keys and do not run, so that nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import salt.config
import salt.loader
from access_doors import DEPLOYS, GRANTS, Api, Caller, serving, settings
from saltfactories.manager import FactoriesManager

from conftest import REPOSITORY

ROLES = settings()["roles"]
TOGETHER = 8
"""Calls of one request, as many as the door takes."""
OURS = {"deploy.run", "deploy.status", "drift.report", "hardening.waivers"}


@pytest.fixture(scope="module")
def api(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    with serving(salt_factories, tmp_path_factory.mktemp("matrix"), runs=False) as it:
        yield it


@pytest.fixture(scope="module")
def loaded(api: Api) -> dict[str, set[str]]:
    """The functions that there are, by kind."""
    master = dict(api.master.config)
    synced = {
        "module_dirs": [str(REPOSITORY / "_modules")], "runner_dirs": [str(REPOSITORY / "_runners")]
    }  # fmt: skip
    opts = {**salt.config.DEFAULT_MINION_OPTS, **master, **synced}
    opts["grains"] = salt.loader.grains(opts)
    found = {
        "modules": set(salt.loader.minion_mods(opts)),
        "runners": set(salt.loader.runner(opts)),
        "wheel": set(salt.loader.wheels(opts)),
    }
    assert len(found["modules"]) > 800 and found["modules"] > {*OURS, "cmd.run"}
    assert len(found["runners"]) > 100 and found["runners"] > {"access.can", "salt.cmd"}
    assert len(found["wheel"]) > 20 and "key.accept" in found["wheel"]
    return found


def let_through(caller: Caller, calls: list[dict[str, Any]]) -> set[str]:
    """Functions among the calls that the master took."""
    found = set()
    for start in range(0, len(calls), TOGETHER):
        some = calls[start : start + TOGETHER]
        answer = caller.call(*some)
        if answer.status == 400 and len(some) > 1:
            # One that the door itself refuses is the end of all of one request.
            found |= {fun for one in some for fun in let_through(caller, [one])}
            continue
        said = answer.said if answer.status == 200 else [json.loads(answer.text)]
        for call, one in zip(some, said, strict=True):
            status = one.get("status", 200)
            assert status in (200, 400, 403), (call, one)
            assert status != 200 or one["jid"], (call, one)
            found |= {call["fun"]} if status == 200 else set()
    return found


def declared(user: str) -> dict[str, set[str]]:
    role = ROLES[GRANTS[user]["role"]]
    deploys = {"deploy.run"} if role.get("deploys") else set()
    return {
        "modules": {*role.get("functions", ()), *deploys},
        "runners": {*role.get("runners", ())},
        "wheel": set(),
    }


def every(loaded: dict[str, set[str]], kind: str) -> list[str]:
    """What there is, beside names of the other kinds, and of none."""
    return sorted(loaded[kind] | {"x.y", "key.accept", "cmd.run", "salt.cmd"})


@pytest.mark.parametrize("user", GRANTS)
def test_of_all_there_is_a_role_has_what_is_declared(
    api: Api, loaded: dict[str, set[str]], user: str
) -> None:
    local = {"client": "local_async", "tgt": "web1", "kwarg": DEPLOYS}
    made = {
        "modules": [{**local, "fun": fun} for fun in every(loaded, "modules")],
        "runners": [{"client": "runner_async", "fun": fun} for fun in every(loaded, "runners")],
        "wheel": [
            {"client": client, "fun": fun}
            for fun in every(loaded, "wheel")
            for client in ("wheel", "wheel_async", "runner_async")
        ],
    }
    callers = [api.caller(user), api.caller(user)]

    def tried(calls: list[dict[str, Any]]) -> set[str]:
        with ThreadPoolExecutor(len(callers)) as pool:
            halves = (calls[number :: len(callers)] for number in range(len(callers)))
            return set().union(*pool.map(let_through, callers, halves))

    found = {kind: tried(calls) for kind, calls in made.items()}
    assert declared(user)["modules"] <= loaded["modules"], "the shipped roles name what there is"
    assert declared(user)["runners"] <= loaded["runners"]
    assert found == declared(user)


def test_a_role_has_nothing_on_other_hosts(api: Api) -> None:
    for user in GRANTS:
        caller = api.caller(user)
        calls = [
            {"client": "local_async", "tgt": "db1", "fun": fun, "kwarg": DEPLOYS}
            for fun in sorted(declared(user)["modules"])
        ]
        everywhere = GRANTS[user].get("everywhere", False)
        assert let_through(caller, calls) == (declared(user)["modules"] if everywhere else set())
