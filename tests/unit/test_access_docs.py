"""docs/access.md: its pillar is one that the family takes, and its roles are those that we ship."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
import yaml

from rocksalt import settings
from rocksalt.access import compiled, problems
from rocksalt.access.door.filter import KEYS, NEVER, Rules, refusal

DOCS = Path("docs/access.md").read_text()
DAY = dt.datetime(2026, 11, 23, 12, tzinfo=dt.timezone.utc)
EVERYBODY = {"networks": {"management": ["10.0.0.0/24"]}}


def block(beginning):
    """The part in YAML that begins so, without its indentation."""
    found = re.search(rf"```yaml\n(?P<text> *{beginning}.*?)```", DOCS, re.DOTALL)
    assert found, beginning
    return yaml.safe_load(found["text"])


@pytest.fixture
def apps():
    return block(r"hardening:\n +access:\n +apps")["hardening"]


@pytest.fixture
def master(apps):
    pillar = block(r"hardening:\n +firewall")["hardening"]
    return settings.merge(settings.merge(EVERYBODY, apps), pillar)


def test_the_pillar_of_the_master_has_no_problem(shipped, master):
    baseline = settings.resolve(shipped, master, {}, "salt1", now=DAY)
    assert problems.problems(baseline, "salt1") == []
    (people,) = compiled.compile(baseline.families["access"].settings, DAY)[
        "external_auth"
    ].values()
    assert set(people) == {"alice", "bob"}
    assert "deploy.run" in str(people["alice"]).replace("\\", "")


def test_the_pillar_of_other_hosts_has_no_problem(shipped, apps):
    baseline = settings.resolve(shipped, {**EVERYBODY, **apps}, {}, "web1", now=DAY)
    assert problems.problems(baseline, "web1") == []


def test_emergency_access_for_a_day_has_no_problem(shipped, master):
    carol = {"users": block("carol:"), "hashes": {"carol": "scrypt:32768:8:1:..."}}
    pillar = settings.merge(master, {"access": carol})
    baseline = settings.resolve(shipped, pillar, {}, "salt1", now=DAY)
    assert problems.problems(baseline, "salt1") == []


def test_roles_are_those_that_are_shipped(shipped):
    roles = shipped["access"].schema["roles"]["default"]
    rows = {
        cells[1].strip("` "): [re.findall(r"`([\w.]+)`", cell) for cell in cells[2:4]]
        for cells in (line.split("|") for line in DOCS.splitlines())
        if len(cells) == 6 and cells[1].strip("` ") in roles
    }
    assert {name: [set(cell) for cell in row] for name, row in rows.items()} == {
        name: [set(role["functions"]), set(role.get("runners", ()))] for name, role in roles.items()
    }
    assert all(role.get("deploys") for name, role in roles.items() if name != "auditor")


def test_what_the_page_calls_pass_the_door_and_what_it_calls_refused_does_not():
    calls = [
        yaml.safe_load(text.replace("\n", " "))
        for text in re.findall(r"'(\[\{\"client\".*?\}\])'", DOCS, re.DOTALL)
    ]
    assert len(calls) == 3
    rules = Rules(frozenset(KEYS))
    for call in [
        *calls,
        [yaml.safe_load(re.search(r"`(\{\"client\": \"runner\".*?\})`", DOCS)[1])],
    ]:
        assert refusal(call, rules) == ""
    row = next(line for line in DOCS.splitlines() if line.startswith("| `ret`"))
    named = re.findall(r"`(\w{3,})`", row.split("|")[1])
    assert len(named) > 6
    for key in named:
        assert refusal([{**calls[0][0], key: "x"}], rules), key
    assert {"ret", "module_executors", "metadata"} <= NEVER & set(named)
