"""The door with a real master and a minion that does not come to an end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from access_doors import Api, serving
from saltfactories.manager import FactoriesManager


@pytest.fixture(scope="module")
def api(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    with serving(salt_factories, tmp_path_factory.mktemp("waiting")) as it:
        yield it


def test_a_call_ends_when_its_time_is_over_and_its_thread_is_free(api: Api) -> None:
    bob = api.users["bob"]
    assert bob.call(fun="cmd.run", kwarg={"cmd": "true"}).status == 200
    began = time.monotonic()
    answer = bob.call(fun="cmd.run", kwarg={"cmd": "sleep 40"}, timeout=8, full_return=True)
    assert 7 < time.monotonic() - began < 25
    [said] = answer.said
    assert said["web1"]["ret"].startswith("no answer yet; see job 2")
    line = api.last("call")
    assert line["jid"] in said["web1"]["ret"]
    assert line["outcome"] == "failed on web1; no answer from web1"
    again = bob.call(fun="cmd.run", kwarg={"cmd": "echo here"})
    assert again.said == [{"web1": "here"}]
