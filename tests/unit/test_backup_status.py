"""The file that agents read."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rocksalt.backup import status
from rocksalt.backup.errors import BackupError

NOW = "2026-11-22T13:00:00Z"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep/backup-status.json")


def test_nothing_was_written_yet(path):
    assert status.read(path) == {}
    assert status.section("snapshot", "m1", path) == {}
    assert status.sequence("m1", path) == 0


def test_sections_do_not_touch_each_other(path):
    status.update("snapshot", {"code": 0, "sequence": 3}, "m1", NOW, path)
    written = status.update("drill", {"code": 7}, "m1", "2026-11-22T14:00:00Z", path)
    assert written == status.read(path)
    assert written == {
        "schema": 1, "instance": "m1", "time": "2026-11-22T14:00:00Z",
        "snapshot": {"code": 0, "sequence": 3}, "drill": {"code": 7},
    }  # fmt: skip
    assert status.sequence("m1", path) == 3


def test_another_instance_begins_anew(path):
    status.update("drill", {"code": 0}, "m1", "2026-11-22T14:00:00Z", path)
    status.update("snapshot", {"sequence": 1}, "m2", "2026-11-22T14:00:00Z", path)
    assert status.section("drill", "m2", path) == {}
    assert status.section("snapshot", "m2", path) == {"sequence": 1}


def test_another_instance_has_no_past_here(path):
    status.update("snapshot", {"sequence": 3}, "m1", NOW, path)
    assert status.section("snapshot", "m2", path) == {}
    assert status.sequence("m2", path) == 0


def test_writers_at_the_same_time(path):
    def write(number: int) -> None:
        status.update(f"section{number}", {"n": number}, "m1", NOW, path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    found = status.read(path)
    assert all(found[f"section{n}"] == {"n": n} for n in range(40))
    assert sorted(os.listdir(os.path.dirname(path))) == [
        "backup-status.json", "backup-status.json.lock",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', "\xff"])
def test_a_file_that_is_no_status(path, text):
    os.makedirs(os.path.dirname(path))
    Path(path).write_bytes(text.encode("latin-1"))
    with pytest.raises(BackupError, match="backup-status"):
        status.read(path)
    status.update("snapshot", {}, "m1", NOW, path)
    assert status.read(path)["instance"] == "m1"


def test_only_root_and_the_agents_read_it(path):
    status.update("snapshot", {}, "m1", NOW, path)
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert json.loads(Path(path).read_text())["schema"] == status.SCHEMA
