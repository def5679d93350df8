"""rocksalt.source: live from the file server, else from the snapshot, else no judgement at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocksalt import settings, source
from rocksalt.errors import InvalidSettings, RocksaltError

REPO = Path(__file__).resolve().parents[2]
GRAINS = {"os": "Debian", "osmajorrelease": 12}


class Minion:
    """What Salt hands to a module; its file server is the folder ``root``."""

    def __init__(self, root: Path | None, state_dir: Path):
        self.root = root
        self.fetched: list[str] = []
        self.opts = {"id": "web1", "hardening": {"state_dir": str(state_dir)}}
        self.pillar: dict = {}
        self.grains = dict(GRAINS)
        self.context: dict = {}
        self.salt = {"cp.list_master": self._list, "cp.cache_file": self._fetch}

    def _list(self, saltenv):
        if self.root is None or saltenv != "base":
            return []
        files = (path for path in self.root.rglob("*") if path.is_file())
        return ["top.sls", *(str(path.relative_to(self.root)) for path in files)]

    def _fetch(self, url, saltenv):
        self.fetched.append(url)
        path = self.root / url.removeprefix("salt://")
        return str(path) if path.is_file() else ""

    def load(self, saltenv=None) -> settings.Baseline:
        return source.load(self.salt, self.opts, self.pillar, self.grains, self.context, saltenv)


@pytest.fixture
def minion(tmp_path) -> Minion:
    return Minion(REPO / "salt", tmp_path / "state")


@pytest.fixture
def root(tmp_path, minion) -> Path:
    """A file root with one family, which may be broken."""
    folder = tmp_path / "root/hardening/lock"
    (folder / "os").mkdir(parents=True)
    (folder / "os/debian-12.yaml").write_text("# nothing differs\n")
    (folder / "defaults.yaml").write_text("size: {type: integer, default: 6, help: Teeth.}\n")
    (folder / "controls.yaml").write_text(
        "title: Lock\ncontrols:\n  LOCK-001:\n    {title: t, severity: low, rationale: r.,"
        " references: [r]}\n"
    )
    minion.root = tmp_path / "root"
    return folder


def test_live(minion):
    minion.pillar = {"hardening": {"sshd": {"ports": [2222]}}}
    baseline = minion.load()
    assert baseline.source == "live"
    assert {"sshd", "drift"} <= set(baseline.families)
    assert baseline.families["sshd"].settings["ports"] == [2222]


def test_the_settings_of_the_operating_system_and_the_minions_own_role(minion, root):
    (root / "os/debian-12.yaml").write_text("size: 5\n")
    assert minion.load().families["lock"].settings["size"] == 5
    minion.opts["hardening"]["roles"] = ["vault"]
    minion.pillar = {"hardening": {"roles": {"vault": {"settings": {"lock": {"size": 9}}}}}}
    baseline = minion.load()
    assert (baseline.roles, baseline.families["lock"].settings["size"]) == (("vault",), 9)


def test_parsed_once_per_job_and_again_for_another_pillar(minion, root):
    first = minion.load()
    count = len(minion.fetched)
    assert minion.load() is first
    assert len(minion.fetched) == count
    minion.pillar = {"hardening": {"lock": {"size": 4}}}
    assert minion.load().families["lock"].settings["size"] == 4


def test_an_unknown_operating_system(minion, root):
    minion.grains["osmajorrelease"] = 11
    with pytest.raises(InvalidSettings, match=r"does not support debian-11; it supports debian-1"):
        minion.load()


def test_a_broken_pillar_is_no_empty_pillar(minion, root):
    minion.pillar = {"_errors": ["Rendering SLS 'hardening' failed"]}
    with pytest.raises(InvalidSettings, match=r"the pillar did not render: Rendering SLS"):
        minion.load()


def test_a_file_that_cannot_be_fetched(minion, root):
    (root / "defaults.yaml").unlink()
    with pytest.raises(
        RocksaltError, match=r"lock/defaults.yaml could not be fetched from saltenv"
    ):
        minion.load()


def test_a_file_that_is_no_yaml_is_named(minion, root):
    (root / "controls.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(InvalidSettings, match=r"salt://hardening/lock/controls.yaml: not valid"):
        minion.load()


def test_without_master_the_snapshot_counts(minion, root):
    minion.pillar = {"hardening": {"lock": {"size": 4}}}
    live = minion.load()
    source.store(live, minion.opts, "base")
    path = Path(source.snapshot_path(minion.opts, "base"))
    assert path.stat().st_mode & 0o777 == 0o600
    minion.root, minion.pillar, minion.context = None, {}, {}
    cached = minion.load()
    assert (cached.source, cached.time) == ("cached", live.time)
    assert cached.families["lock"].settings["size"] == 4


def test_without_master_and_snapshot_there_is_no_judgement(minion):
    minion.root = None
    with pytest.raises(RocksaltError, match=r"no settings cached in .*/settings-base.json: run"):
        minion.load()
    with pytest.raises(RocksaltError, match=r"saltenv dev .*settings-dev.json"):
        minion.load("dev")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"families": {"lock": {}}})])
def test_a_damaged_snapshot(minion, text):
    minion.root = None
    path = Path(source.snapshot_path(minion.opts, "base"))
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RocksaltError, match=r"is damaged: run state.apply hardening once"):
        minion.load()


def test_where_the_state_is():
    assert source.state_dir({}) == "/var/lib/rocksalt"
    assert source.state_dir({"hardening": {"state_dir": "/srv"}}) == "/srv"


def test_with_a_master_the_shipped_families_come_in_one_file(minion):
    minion.opts["file_client"] = "remote"
    bundled = minion.load()
    assert minion.fetched == ["salt://hardening/catalogue.json"]
    minion.context.clear()
    minion.opts["file_client"] = "local"
    assert minion.load().families == bundled.families


def test_with_a_master_a_family_of_the_site_comes_beside_it(minion, root):
    (minion.root / "hardening/catalogue.json").write_text("{}")
    minion.opts["file_client"] = "remote"
    assert set(minion.load().families) == {"lock"}
