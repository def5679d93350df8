"""Which copies of headers a master keeps of a minion that may claim anything: _runners/luks.py."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

RUNNER = Path(__file__).resolve().parents[2] / "_runners" / "luks.py"
UUID = "2f1d3c4b-0000-4000-8000-00000000000"
Collect = Callable[..., dict[str, Any]]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("runner_luks", RUNNER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "__opts__", {"rocksalt_luks_headers": str(tmp_path)}, raising=False)
    return module


class Client:
    """The minion web1 with copies by UUID; web2 never answers."""

    def __init__(self, contents: dict[str, bytes], kept: Any):
        self.contents, self._kept = contents, kept

    def cmd(self, _: Any, function: str, arguments: list[Any], **options: Any) -> dict[str, Any]:
        assert options["full_return"]
        return {"web1": {"ret": getattr(self, function[5:])(*arguments)}, "web2": False}

    def copies(self) -> dict[str, Any]:
        texts = dict.fromkeys(("device", "digest", "time", "volume", "customer"), "")
        return {
            uuid: {**texts, "uuid": uuid, "sha256": hashlib.sha256(data).hexdigest()}
            for uuid, data in self.contents.items()
        }

    def copy(self, uuid: str) -> str:
        return base64.b64encode(self.contents[uuid]).decode()

    def kept(self, *_: str) -> Any:
        return self._kept


@pytest.fixture
def collect(runner: ModuleType) -> Collect:
    def collected(kept: Any = True, **contents: str) -> dict[str, Any]:
        """``contents`` by the last letter of the UUID, after an underscore."""
        sealed = {UUID + name[1:]: runner.BEGIN + text.encode() for name, text in contents.items()}
        found: dict[str, Any] = runner._collect(
            runner._Minions(Client(sealed, kept), 1), "*", "glob"
        )
        return found

    return collected


def texts(runner: ModuleType, folder: Path) -> dict[str, str]:
    """What is kept: ``1.age`` -> its text."""
    found = sorted((folder / "web1").glob("*.age"))
    return {it.name[len(UUID) :]: it.read_bytes()[len(runner.BEGIN) :].decode() for it in found}


def test_what_was_here_for_a_week_stays_as_the_previous_one(collect, runner, tmp_path):
    collect(_1="good")
    for text in ("worse", "worst"):
        assert collect(_1=text)["fetched"] == {"web1": [f"{UUID}1"]}
        assert texts(runner, tmp_path) == {"1.1.age": "good", "1.age": text}
    assert (tmp_path / f"web1/{UUID}1.1.json").exists()
    past = time.time() - 8 * 24 * 3600
    os.utime(tmp_path / f"web1/{UUID}1.age", (past, past))
    collect(_1="newest")
    assert texts(runner, tmp_path) == {"1.1.age": "worst", "1.age": "newest"}


@pytest.mark.parametrize(("limit", "value"), [("MOST", 2), ("ROOM", 800)])
def test_a_minion_fills_no_disk(collect, runner, tmp_path, monkeypatch, limit, value):
    assert "problems" in collect(_1="a", _2="b")
    monkeypatch.setattr(runner, limit, value)
    found = collect(_3="c" * 300)
    [words] = found["problems"]["web1"]
    assert f"{tmp_path}/web1 is full" in words
    assert found["retcode"] == 1
    assert texts(runner, tmp_path) == {"1.age": "a", "2.age": "b"}
    assert collect(_1="a", _2="b")["problems"] == {}, "what is here is no more than it was"


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (True, ""),
        (False, "was made anew meanwhile"),
        ("'luks.kept' is not available.", "luks.kept did not answer as expected"),
    ],
)
def test_what_the_minion_says_to_that(collect, kept, words):
    problems = collect(kept, _1="a")["problems"]
    assert bool(words) == bool(problems)
    assert words in str(problems)


def test_who_does_not_answer_is_not_taken_at_its_word(runner):
    assert runner._Minions(Client({}, False), 1).ask("*", "glob", "luks.kept") == {"web1": False}
