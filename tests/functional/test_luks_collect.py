"""``luks.collect`` on a real master: it keeps what is encrypted, and believes no minion."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program
from rocksalt.backup.crypto import age

UUID = "2f1d3c4b-0000-4000-8000-00000000000"
SAYS = """
import json

def _say(name):
    with open({said!r}) as file:
        return json.load(file)[name]

def copies():
    return _say("copies")

def copy(uuid):
    return _say("copy").get(uuid)

def kept(uuid, sha256, where):
    with open({kept!r}, "a") as file:
        file.write(json.dumps([uuid, sha256, where]) + "\\n")
    return True
"""


class Cluster:
    """A master, and the minion web1, whose module luks says what a test wants."""

    def __init__(self, master: Any, folder: Path):
        self.master, self.folder = master, folder
        self.store = folder / "store"

    def says(self, records: Any, contents: Any = None) -> None:
        (self.folder / "said").write_text(json.dumps({"copies": records, "copy": contents or {}}))
        (self.folder / "kept").write_text("")

    def kept(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "kept").read_text().splitlines()]

    def collect(self, *words: str) -> tuple[int, dict[str, Any]]:
        command = [program("salt-run"), "-c", str(self.master.config_dir), "--out=json"]
        done = subprocess.run(
            [*command, "luks.collect", *words, "timeout=10"],
            capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout[done.stdout.index("{") :])

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.store.rglob("*") if path.is_file())
        return {str(path.relative_to(self.store)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def cluster(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("collect")
    (folder / "modules").mkdir()
    said = SAYS.format(said=str(folder / "said"), kept=str(folder / "kept"))
    (folder / "modules/luks.py").write_text(said)
    master = salt_factories.salt_master_daemon(
        random_string("collect-"),
        overrides={
            "runner_dirs": [str(REPOSITORY / "_runners")],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "rocksalt_luks_headers": str(folder / "store"),
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    minion = master.salt_minion_daemon(
        "web1",
        overrides={
            "module_dirs": [str(folder / "modules")],
            "pytest-minion": {"log": {"level": "warning"}},
        },
    )
    with master.started(), minion.started():
        yield Cluster(master, folder)


def sealed(size: int) -> bytes:
    buffer = io.BytesIO()
    writer = age.Writer(buffer, [age.generate()[1]])
    writer.write(bytes(size))
    writer.close()
    return buffer.getvalue()


def record(uuid: str, data: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid, "device": "/dev/vdb", "digest": "d", "time": "2026-11-22T12:00:00Z",
        "recipients": ["f"], "sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
        "volume": "data", "customer": "acme", "kept": None, **changes,
    }  # fmt: skip


def test_a_copy_is_fetched_once_and_its_minion_is_told(cluster: Cluster) -> None:
    uuid, data = UUID + "1", sealed(300_000)
    cluster.says({uuid: record(uuid, data)}, {uuid: base64.b64encode(data).decode()})
    assert cluster.collect() == (
        0,
        {"fetched": {"web1": [uuid]}, "kept": {"web1": 1}, "problems": {}},
    )
    assert cluster.files()[f"web1/{uuid}.age"] == data
    assert json.loads(cluster.files()[f"web1/{uuid}.json"])["customer"] == "acme"
    for path in (cluster.store, cluster.store / "web1", cluster.store / f"web1/{uuid}.age"):
        assert path.stat().st_mode & 0o077 == 0
    [(told, sha256, where)] = cluster.kept()
    assert (told, sha256) == (uuid, hashlib.sha256(data).hexdigest())
    assert where.endswith(f":{cluster.store}")

    cluster.says({uuid: record(uuid, data)})
    code, found = cluster.collect()
    assert (code, found["fetched"], found["kept"]) == (0, {}, {"web1": 1})
    assert len(cluster.kept()) == 1


def test_a_newer_copy_takes_the_place_of_an_older_one(cluster: Cluster) -> None:
    uuid = UUID + "2"
    for data in (sealed(10), sealed(10)):
        cluster.says({uuid: record(uuid, data)}, {uuid: base64.b64encode(data).decode()})
        assert cluster.collect()[0] == 0
        assert cluster.files()[f"web1/{uuid}.age"] == data


def test_what_a_minion_claims(cluster: Cluster) -> None:
    """Nothing but what is encrypted, under the name of a header, below the minion's own folder."""
    before, data = cluster.files(), sealed(10)
    names = [f"{UUID}{letter}" for letter in "abcdef"]
    claims: dict[str, tuple[Any, Any, str]] = {
        "../../evil": (record("../../evil", data), data, "is no UUID"),
        names[0]: (record("../evil", data), data, "has no record"),
        names[1]: (record(names[1], b"other"), data, "has another hash"),
        names[2]: (record(names[2], data, sha256="x"), data, "has no hash"),
        names[3]: (record(names[3], b"plain"), b"plain", "is not encrypted"),
        names[4]: (record(names[4], data), None, "did not answer with a copy"),
        names[5]: ("record", data, "is no UUID"),
    }
    cluster.says(
        {name: claim[0] for name, claim in claims.items()},
        {name: base64.b64encode(it[1]).decode() for name, it in claims.items() if it[1]},
    )
    code, found = cluster.collect()
    said = dict(it.split(": ", 1) for it in found["problems"]["web1"])
    assert code == 1
    assert all(claims[name.strip("'")][2] in words for name, words in said.items()), said
    assert (len(said), cluster.kept(), cluster.files()) == (len(claims), [], before)

    cluster.says("no records")
    code, found = cluster.collect()
    assert (code, cluster.files()) == (1, before)
    assert "did not answer as expected" in found["problems"]["web1"][0]


def test_nobody_answers(cluster: Cluster) -> None:
    code, found = cluster.collect("nobody*")
    assert (code, found["problems"]) == (1, {"*": ["no minion answered that is glob 'nobody*'"]})
