"""rocksalt.access.door.collecting: Salt's own client, where one minion does as it likes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("salt.client", reason="only what asks Salt is tested here")
calling = pytest.importorskip("rocksalt.access.door.calling")
collecting = pytest.importorskip("rocksalt.access.door.collecting")

JID = "20261123081530123456"
WHAT = {"tgt": "*", "tgt_type": "glob", "fun": "test.ping", "arg": [], "token": "t"}
Event = dict[str, Any]


def ret(minion: str, value: Any, jid: str = JID, **more: Any) -> Event:
    load = {"id": minion, "jid": jid, "return": value, "retcode": 0, "success": True}
    return {"tag": f"salt/job/{jid}/ret/{minion}", "data": {**load, **more}}


class Bus:
    """Answers to the job, and to each question whether it still runs."""

    def __init__(self, answers: list[Event], asked: Callable[[str], list[Event]]):
        self.events, self._asked, self.questions = list(answers), asked, 0

    def gather(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.questions += 1
        jid = f"find{self.questions}"
        self.events += self._asked(jid)
        return {"jid": jid, "minions": ["evil"]}

    def get_event(self, tag: str, **_: Any) -> Event | None:
        found = next((it for it in self.events if it["tag"].startswith(tag)), None)
        if found is not None:
            self.events.remove(found)
        else:
            time.sleep(0.001)
        return found


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Any]:
    """Salt's client without a master: only its bus is ours."""
    minions = collecting.salt.client.salt.utils.minions.CkMinions
    monkeypatch.setattr(minions, "_pki_minions", lambda _: {"web1", "web2", "evil"})
    monkeypatch.setattr(minions, "connected_ids", lambda *_, **__: set())
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("salt.client"), "propagate", False)
    it = object.__new__(collecting.Client)
    it.opts = {
        **collecting.salt.config.DEFAULT_MASTER_OPTS, "__role": "master",
        "timeout": 0.02, "gather_job_timeout": 0, "order_masters": False, "syndic_wait": 0,
        "minion_data_cache": False, "syndic_dir": str(tmp_path), "cachedir": str(tmp_path),
    }  # fmt: skip
    it.auto_reconnect = False
    it.returns_for_job = lambda _: True
    it.run_job = lambda **_: {"jid": JID, "minions": ["web1", "web2", "evil"]}
    yield it
    it.event = None


def collect(
    client: Any, answers: list[Event], asked: Callable[[str], list[Event]], seconds: float = 0.2
) -> Any:
    bus = Bus(answers, asked)
    client.event = SimpleNamespace(
        get_event=bus.get_event, unsubscribe=lambda *_: None, cpub=True, subscribe=lambda *_: None
    )
    client.gather_job_info = bus.gather
    return client.collect(seconds, WHAT)


def nobody(_: str) -> list[Event]:
    return []


def test_a_minion_that_says_for_ever_that_it_is_at_work_is_not_waited_for(client: Any) -> None:
    began = time.monotonic()
    found = collect(
        client, [ret("web1", True), ret("web2", True)],
        lambda jid: [ret("evil", {"jid": JID, "pid": 7}, jid)],
    )  # fmt: skip
    assert time.monotonic() - began < 2
    assert (found.jid, sorted(found.told), found.late) == (JID, ["web1", "web2"], ["evil"])


def test_one_that_never_stops_answering_is_not_listened_to_for_ever(client: Any) -> None:
    bus = SimpleNamespace(
        get_event=lambda **_: ret("evil", 1), unsubscribe=lambda *_: None, cpub=True
    )
    client.event = bus
    began = time.monotonic()
    assert client.collect(0.2, WHAT).late == ["web1", "web2"]
    assert time.monotonic() - began < 2


def test_one_that_is_away_is_given_up_long_before(client: Any) -> None:
    began = time.monotonic()
    found = collect(client, [ret("web1", True), ret("web2", True)], nobody, 60)
    assert time.monotonic() - began < 5
    assert {name: it.get("retcode") for name, it in found.told.items() if name != "evil"} == {
        "web1": 0, "web2": 0,
    }  # fmt: skip
    assert found.late == ["evil"] or found.told["evil"]["retcode"]


@pytest.mark.parametrize(
    "odd",
    [
        ret("evil", True, minions=[["x"]]),
        ret("evil", True, minions=["web3"], missing=[["x"]]),
        ret("evil", True, error="no"),
        ret("evil", True, retcode="1"),
        ret("evil", True, retcode=[1]),
        {"tag": f"salt/job/{JID}/ret/evil", "data": ["x"]},
        {"tag": f"salt/job/{JID}/new", "data": {"minions": [["x"]]}},
        {"tag": f"salt/job/{JID}/ret/web3", "data": {"id": "web3", "return": 1}},
    ],
)
def test_an_odd_answer_costs_nobody_else_s(client: Any, odd: Event) -> None:
    found = collect(client, [odd, ret("web1", 1), ret("web2", 2)], nobody)
    assert found.jid == JID and {"web1", "web2"} <= set(found.told) <= {"web1", "web2", "evil"}
    assert (found.told["web1"]["ret"], found.told["web2"]["ret"]) == (1, 2)


@pytest.mark.parametrize("said", [5, ["return"], "return", [], None, {"return": 1}])
def test_an_odd_word_on_whether_it_is_at_work_does_no_harm(client: Any, said: Any) -> None:
    asked = [ret("evil", said, "find1"), ret("evil", {}, "find1", retcode="x")]
    found = collect(client, [ret("web1", 1)], lambda jid: asked if jid == "find1" else [])
    assert found.jid == JID and found.told["web1"]["ret"] == 1


def test_no_minion_speaks_for_another_by_a_word_in_its_answer(client: Any) -> None:
    forged = ret("evil", "forged", resource_id="web2")
    found = collect(client, [forged, ret("web1", 1), ret("web2", 2)], nobody)
    assert found.told["web2"]["ret"] == 2 and found.told["evil"]["ret"] == "forged"


def test_where_no_minion_matched_there_is_no_job(client: Any) -> None:
    client.run_job = lambda **_: {}
    assert client.collect(1, WHAT) == collecting.Answers()
