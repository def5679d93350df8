"""tests/infra: a Salt master, by its files and folders."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from infra import master, rights
from infra import test_access as access
from infra.asking import Answer

from rocksalt.access import compiled

CONF = """user: salt
gitfs_remotes:
  - https://git/x.git: [{user: a}, {password: secret1}]
vault: {url: x, auth: {method: token, token: secret2}}
ext_pillar:
  - git: master https://u:secret3@git/x.git
key: |
  -----BEGIN secret4
include: more/*.yml
rest_cherrypy: {port: 8001, webhook: secret5}
file_roots: {base: [/srv/salt], __env__: [/srv/other places/__env__]}
"""
GRANTS = [
    {"role": "operator", "targets": ["web1", "web2", "db*"], "apps": ["shop"]},
    {"role": "auditor", "targets": ["*"], "everywhere": True},
    {"role": "past", "targets": ["web1"], "until": "2020-01-31"},
]
SETTINGS: dict[str, Any] = {
    "backend": "file",
    "users": {"alice": {"grants": GRANTS}},
    "groups": {},
    "roles": {
        "operator": {"functions": ["deploy.status", "test.ping"], "deploys": True},
        "auditor": {"functions": ["drift.report"], "runners": ["access.can"], "everywhere": True},
        "past": {"functions": ["cmd.run"]},
    },
    "apps": {"shop": {"states": ["shop"], "version": r"1\.\d+", "minions": ["web*"]}},
}


def run(command: str) -> Answer:
    done = subprocess.run(["sh", "-c", f"({command}) 2>&1"], capture_output=True, text=True)
    return Answer(done.stdout, done.returncode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("master.d", "more"):
        (tmp_path / name).mkdir()
    (tmp_path / "master").write_text(CONF)
    (tmp_path / "master.d/a.conf").write_text("file_roots: {base: [/srv/new]}\n")
    (tmp_path / "more/x.yml").write_text("publisher_acl: {eve: ['.*']}\n")
    return tmp_path


def test_only_what_is_judged_leaves_the_master(folder: Path) -> None:
    answer = run(master.command(str(folder)))
    assert "secret" not in answer.text
    found = master.options(answer)
    assert (found["user"], found["rest_cherrypy"]) == ("salt", True)
    assert found["publisher_acl"] == {"eve": [".*"]}
    places = access.folders(found, "file_roots").split("/srv/")
    assert places == ["", "new ", "other' 'places/*"]


def test_a_file_that_is_no_yaml_is_named_and_not_shown(folder: Path) -> None:
    (folder / "master.d/b.conf").write_text("a: 1\npassword: [secret6\nb: }\n")
    answer = run(master.command(str(folder)))
    assert "secret" not in answer.text
    with pytest.raises(AssertionError, match=r"master\.d/b\.conf cannot be read"):
        master.files(answer)


def test_what_the_states_write_is_declared() -> None:
    text = json.loads(json.dumps(compiled.compile(SETTINGS, dt.date.today())))
    assert text["external_auth"]["rocksalt_file"]["alice"]
    assert rights.undeclared({master.OURS: text}, SETTINGS) == []


@pytest.mark.parametrize(
    "right",
    [
        ".*",
        "cmd.*",
        {"*": [".*"]},
        {"@wheel": ["key.*"]},
        {"@runner": [r"^access\.can\Z", r"^access\.revoke\Z"]},
        {"*": [r"^test\.ping\Z"]},
        {"L@web1,web2 or db*": [r"^drift\.report\Z"]},
        {"L@web1,web2 or db*": [r"^test.ping\Z"]},
        {"L@web1,web2 or db* or mail*": [r"^test\.ping\Z"]},
        {"L@web1": [r"^cmd\.run\Z"]},
        {"L@web1,web2 or db*": [{r"^deploy\.run\Z": [{"kwargs": {"app": r"^shop\Z"}}]}]},
        {"L@web1,web2 or db*": [{r"^deploy\.run\Z": []}]},
        {"L@web1,web2 or db*": [{r"^cmd\.run\Z": [{"kwargs": {"app": r"^shop\Z"}}]}]},
    ],
)
def test_a_wider_right_of_somebody_declared_is_seen(right: Any) -> None:
    tree = {"external_auth": {"rocksalt_file": {"alice": [right]}}}
    assert rights.undeclared({master.OURS: tree}, SETTINGS)


@pytest.mark.parametrize(
    "tree",
    [
        {"publisher_acl": {"alice": [".*"]}, "external_auth": {"x": {}}},
        {"external_auth": {"pam": {"eve": [{"L@web1,web2 or db*": [r"^test\.ping\Z"]}]}}},
        {"external_auth": {"pam": [".*"]}},
    ],
)
def test_rights_of_others_and_ways_round_are_seen(tree: dict[str, Any]) -> None:
    assert rights.undeclared({master.OURS: tree}, SETTINGS)


def test_another_file_grants_nothing() -> None:
    good = {"alice": [{"L@web1,web2 or db*": [r"^test\.ping\Z"]}]}
    tree = {"external_auth": {"rocksalt_file": good}}
    assert rights.undeclared({master.OURS: tree}, SETTINGS) == []
    assert rights.undeclared({"/etc/salt/master": tree}, SETTINGS)


def test_folders_that_are_missing_or_in_circles_are_no_strangers(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir(mode=0o700)
    (tmp_path / "a b/circle").symlink_to(tmp_path / "a b")
    roots = {"base": [f"{tmp_path}/a b", f"{tmp_path}/missing"]}
    asked = access.reading_roots({"file_roots": roots, "pillar_roots": roots}, tmp_path.owner())
    assert [run(it).text for it in asked.values()] == ["", ""]
    (tmp_path / "a b").chmod(0o777)
    assert [run(it).lines for it in asked.values()] == [
        [f"{tmp_path}/a b"] * 2,
        [f"{tmp_path}/a b"],
    ]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "-connect 127.0.0.1:8000 "),
        ("10.0.0.5", "-connect 10.0.0.5:8000 "),
        ("2001:db8::5", "-connect '[2001:db8::5]:8000' "),
    ],
)
def test_salt_api_is_asked_at_its_address_and_paths_are_quoted(address: str, words: str) -> None:
    own = {"address": address, "port": 8000, "renew_days": 30, "user": "salt"}
    own |= {"tls_key": "/etc/a $(b).key", "tls_certificate": "/etc/a $(b).pem"}
    families = {"access": SimpleNamespace(settings=own)}
    asked = access.look(SimpleNamespace(baseline=SimpleNamespace(families=families)))
    assert words in asked["tls"] and words in asked["old"]
    assert "'/etc/a $(b).pem'" in asked["ends"] and "'/etc/a $(b).pem'" in asked["issued"]
    assert "'/etc/a $(b).key'" in asked["stat"]
