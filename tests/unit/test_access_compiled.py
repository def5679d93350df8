"""rocksalt.access.compiled and targets: one form of all rights, each pattern of one text only."""

from __future__ import annotations

import datetime as dt
import fnmatch
import itertools
import json
import re

import pytest
import yaml
from access_settings import ALICE, BOB, CAROL, NOON, TODAY, granted, pillar, resolved

from rocksalt.access import compiled, targets
from rocksalt.access.door import names
from rocksalt.access.door.grants import Grants


@pytest.fixture
def people(shipped):
    """The rights of people for a pillar."""

    def call(values=None, now=TODAY):
        found = compiled.compile(resolved(shipped, values), now)
        assert found["publisher_acl"] == {}
        ((backend, rights),) = found["external_auth"].items()
        assert backend == "rocksalt_file"
        return rights

    return call


def test_the_whole_form(people):
    shop = {"kwargs": {"app": r"^shop\Z", "version": r"^(?:\d+\.\d+\.\d+)\Z"}}
    blog = {"kwargs": {"app": r"^blog\Z", "version": r"^(?:v\d+|main)\Z"}}
    apps = [r"^blog\Z", r"^shop\Z"]
    assert people() == {
        "alice": [
            {
                "L@db1 or web*": [
                    r"^test\.ping\Z",
                    {r"^deploy\.status\Z": [{"kwargs": {"app": it}} for it in apps]},
                    {r"^deploy\.run\Z": [blog, shop]},
                ]
            }
        ],
        "bob": [
            {
                "*": [
                    r"^drift\.report\Z",
                    r"^hardening\.waivers\Z",
                    r"^test\.ping\Z",
                    r"^test\.version\Z",
                ]
            },
            {
                "@runner": [
                    r"^access\.can\Z",
                    r"^access\.explain\Z",
                    r"^logbook\.playback\Z",
                    r"^logbook\.status\Z",
                    r"^logbook\.verify\Z",
                ]
            },
        ],
        "carol": [
            {
                "L@web1": [
                    r"^cmd\.run\Z",
                    r"^service\.restart\Z",
                    r"^service\.status\Z",
                    r"^state\.highstate\Z",
                    r"^test\.ping\Z",
                ]
            }
        ],
    }


def test_it_is_the_same_each_time(people):
    first = people()
    turned = pillar()
    turned["users"] = dict(reversed(turned["users"].items()))
    turned["users"]["alice"] = {"grants": [{**ALICE, "targets": ["db1", "web*"]}]}
    assert yaml.safe_dump(people(turned)) == yaml.safe_dump(first)
    two = [ALICE, {**CAROL, "until": "2027-01-01"}]
    other = people(granted(*two)), people(granted(*reversed(two)))
    assert json.dumps(other[0]) == json.dumps(other[1])


def test_a_grant_ends_with_its_last_day_in_utc(people):
    assert "carol" in people(now=dt.date(2026, 11, 24))
    assert "carol" not in people(now=dt.date(2026, 11, 25))
    behind = dt.timezone(dt.timedelta(hours=-5))
    assert "carol" in people(now=dt.datetime(2026, 11, 24, 18, 59, tzinfo=behind))
    assert "carol" not in people(now=dt.datetime(2026, 11, 24, 19, 0, tzinfo=behind))
    assert people(granted({**CAROL, "until": "2026-02-31"})) == {}, "no day is no time without end"


@pytest.mark.parametrize(
    "grant",
    [
        {**BOB, "everywhere": False},
        {**ALICE, "targets": ["*"], "everywhere": True},
        {**ALICE, "targets": ["web*", "[a-z]*"], "everywhere": True},
        {**ALICE, "targets": ["G@role:web"]},
        {**ALICE, "targets": ["web1", "or"]},
        {**ALICE, "targets": []},
        {**ALICE, "role": "nobody"},
    ],
)
def test_what_contradicts_itself_gives_nothing(people, grant):
    assert people(granted(grant)) == {}


def test_apps(people):
    def deploys(**other):
        rights = people(granted({**ALICE, **other}))["alice"][0]["L@db1 or web*"]
        return [permission for permission in rights if isinstance(permission, dict)]

    shop = {"app": r"^shop\Z"}
    version = {"version": r"^(?:\d+\.\d+\.\d+)\Z"}
    status = {r"^deploy\.status\Z": [{"kwargs": shop}]}
    run = {r"^deploy\.run\Z": [{"kwargs": {**shop, **version}}]}
    assert deploys(apps=["shop"]) == [status, run]
    assert deploys(apps=[]) == deploys(apps=["unknown"]) == []
    without = granted({key: value for key, value in ALICE.items() if key != "apps"})
    assert not [p for p in people(without)["alice"][0]["L@db1 or web*"] if isinstance(p, dict)]


def test_a_role_that_does_not_deploy_sees_all_apps(people):
    values = granted({"role": "watcher", "targets": ["web1"]})
    values["roles"] = {"watcher": {"functions": ["deploy.status"]}}
    assert people(values)["alice"] == [{"L@web1": [r"^deploy\.status\Z"]}]


@pytest.mark.parametrize(
    ("until", "over"),
    [
        ("2026-11-22", True), ("2026-11-23", False), ("2026-11-24", False), ("soon", True),
        ("2026-02-30", True), ("", True), (dt.date(2026, 11, 22), True), (None, True),
        (dt.date(2026, 11, 23), False),
    ],
)  # fmt: skip
def test_the_door_ends_grants_on_the_same_day(until, over):
    grant = {"role": "deployer", "until": until}
    now = dt.datetime(2026, 11, 23, 23, 59, tzinfo=dt.timezone.utc)
    found = Grants({"users": {"alice": [grant]}}).all_over("alice", [], now.timestamp())
    assert compiled.is_over(grant, now) is found is over


def test_no_pattern_takes_more_than_its_text(people):
    def patterns(value):
        if isinstance(value, str):
            yield value
        for one in value if isinstance(value, list) else ():
            yield from patterns(one)
        for key, one in value.items() if isinstance(value, dict) else ():
            if key.startswith("^"):
                yield key
            yield from patterns(one)

    found = set(patterns(list(people().values())))
    assert len(found) > 10
    for pattern in found:
        assert pattern.startswith("^") and pattern.endswith(r"\Z")
    for wrong in ("deploy.status2", "deployXstatus", "xdeploy.status", "deploy.status\n"):
        assert not [pattern for pattern in found if re.match(pattern, wrong)]
    (version,) = [pattern for pattern in found if "main" in pattern]
    for wrong in ("main2", "v1x", "xv1", "main\n"):
        assert not re.match(version, wrong)


def test_log_in_names_that_salt_takes_for_others():
    people = ["alice", "jan.doe", "jan-doe", "bob", "ops%"]
    assert names.taken_for("alice", people) == names.taken_for("jan-doe", people) == []
    assert names.taken_for("jan.doe", people) == ["jan-doe"]
    assert names.taken_for("al*", people) == ["alice"]
    assert names.taken_for("alice|bob", people) == ["alice", "bob"]
    assert names.taken_for("al(ice", people) == []


def test_groups_are_of_ldap(shipped):
    values = pillar(backend="ldap", groups={"Deploy team": {"grants": [ALICE]}}, hashes={})
    found = compiled.compile(resolved(shipped, values), TODAY)["external_auth"]
    assert list(found) == ["rocksalt_ldap"]
    assert found["rocksalt_ldap"]["Deploy team%"] == found["rocksalt_ldap"]["alice"]
    values["backend"] = "file"
    found = compiled.compile(resolved(shipped, values), TODAY)["external_auth"]
    assert sorted(found["rocksalt_file"]) == ["alice", "bob", "carol"]


def test_clients(shipped):
    assert compiled.clients(resolved(shipped), NOON) == [
        "local", "local_async", "runner", "runner_async",
    ]  # fmt: skip
    assert compiled.clients(resolved(shipped, granted(ALICE)), NOON) == ["local", "local_async"]
    over = granted({**BOB, "until": "2026-11-22"})
    assert compiled.clients(resolved(shipped, over), NOON) == ["local", "local_async"]


def test_the_description(shipped):
    found = compiled.described(resolved(shipped))
    assert found["users"]["carol"] == [CAROL]
    assert sorted(found["roles"]) == ["auditor", "break-glass", "deployer"]
    assert found["apps"]["shop"] == {"version": r"\d+\.\d+\.\d+", "minions": ["web*"]}
    assert "scrypt" not in json.dumps(found) and "states" not in json.dumps(found)
    for name, grants in found["users"].items():
        assert [e for g in grants for e in compiled.rights(g, found)] == compiled.compile(
            resolved(shipped), TODAY
        )["external_auth"]["rocksalt_file"][name], "it has all that rights are made of"


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("G@os:Debian", "compound"), ("I@a:b", "compound"), ("L@a", "compound"),
        ("E@web.*", "compound"), ("R@%x", "compound"), ("not", "operator"), ("web1,web2", "list"),
        ("web* or db1", "list"), ("(web1)", "neither"), ("web[1", "neither"), ("web1\n", "neither"),
        ("", "neither"), ("wéb", "neither"), ("a" * 256, "neither"),
    ],
)  # fmt: skip
def test_no_targets(target, word):
    assert word in targets.problem(target)


def test_targets():
    for good in ("web1", "Web-1.example.org", "web*", "web?", "web[1-3].*", "*", "db[!0-9]"):
        assert targets.problem(good) == ""
    assert targets.compound(["b", "web*", "a", "a"]) == "L@a,b or web*"
    assert targets.split("L@a,b or web*") == ["a", "b", "web*"]
    assert targets.split("G@os:Debian or web*") is None
    assert targets.split("web* and db*") is None
    for everything in ("*", "**", "?*", "[a-z]*", "*-*", "[!x]*.*"):
        assert targets.is_everything(everything)
    for something in ("web1", "w*", "*.example.org", "[a-z]1*"):
        assert not targets.is_everything(something)


@pytest.mark.parametrize(
    ("one", "other", "meet", "within"),
    [
        ("web1", "web1", True, True),
        ("web1", "web2", False, False),
        ("web1", "web*", True, True),
        ("web*", "web1", True, False),
        ("web*", "*", True, True),
        ("web1*", "web*", True, True),
        ("web*", "web?", True, False),
        ("*1", "web*", True, False),
        ("*.a", "*.b", False, False),
        ("web[1-3]", "web2", True, False),
        ("web[1-3]", "web*", True, True),
        ("a?c", "abc", True, False),
    ],
)
def test_targets_that_meet(one, other, meet, within):
    assert targets.overlap([one], [other]) is targets.overlap([other], [one]) is meet
    assert targets.within([one], [other]) is within


def test_targets_are_judged_as_fnmatch_does():
    texts = ["".join(letters) for n in range(5) for letters in itertools.product("ab", repeat=n)]
    globs = ["".join(letters) for n in (1, 2, 3) for letters in itertools.product("ab*?", repeat=n)]
    meant = {glob: {t for t in texts if fnmatch.fnmatchcase(t, glob)} for glob in globs}
    for one, other in itertools.product(globs, repeat=2):
        if meant[one] & meant[other]:
            assert targets.overlap([one], [other])
        if targets.within([one], [other]):
            assert meant[one] <= meant[other]
        if len(one + other) < 5:  # what they share is no longer than the texts
            assert targets.overlap([one], [other]) == bool(meant[one] & meant[other])


def test_the_longest_targets():
    long = "*".join("ab" * 42) + "*" * 88
    assert len(long) == 255 and targets.problem(long) == ""
    assert targets.overlap([long], [long]) and targets.within([long], [long])
    assert not targets.overlap([f"{long[:-1]}c"], [f"{long[:-1]}d"])
