"""rocksalt.access.asking and wording: answers, and reasons that say what would be right.

Whether Salt decides as it is told here is for tests/functional/test_access_rules.py, with Salt's
own check; the one of these tests knows as much of it as sentences need.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re

import pytest
from access_settings import ALICE, CAROL, NOON, TODAY, granted, pillar, resolved

from rocksalt.access import asking, compiled, wording
from rocksalt.errors import Refused

MINIONS = ("web1", "web2", "db1", "db2")
GOOD = {"app": "shop", "version": "1.2.3"}


class Check:
    """Salt's check, in short."""

    def fill_auth_list(self, people, name, groups):
        keys = [name, *(f"{group}%" for group in groups)]
        return [entry for key in keys for entry in people.get(key, ())]

    def check_minions(self, expr, tgt_type="glob"):
        parts = expr if isinstance(expr, list) else re.split(r" or |,", expr)
        named = [part.removeprefix("L@") for part in parts]
        return {"minions": [m for m in MINIONS if any(fnmatch.fnmatch(m, n) for n in named)]}

    def validate_tgt(self, valid, tgt, tgt_type, minions):
        return set(minions) <= set(self.check_minions(valid, "compound")["minions"])

    def auth_check(self, entries, fun, args, tgt, tgt_type, minions, whitelist):
        kwargs = args[-1] if args and isinstance(args[-1], dict) else None
        return any(
            self.validate_tgt(where, tgt, tgt_type, minions) and self._fits(found, fun, kwargs)
            for entry in entries
            for where, found in entry.items()
        )

    def runner_check(self, entries, fun, args):
        return any(
            self._fits(entry[key], fun, args["kwarg"])
            for entry in entries
            for key in entry
            if key == "@runner"
        )

    def _fits(self, permissions, fun, kwargs):
        for permission in permissions:
            if isinstance(permission, str) and re.match(permission, fun):
                return True
            if isinstance(permission, dict):
                ((name, conditions),) = permission.items()
                for condition in conditions if re.match(name, fun) and kwargs else ():
                    wanted = condition["kwargs"].items()
                    if all(k in kwargs and re.match(v, str(kwargs[k])) for k, v in wanted):
                        return True
        return False


@pytest.fixture
def opts(shipped):
    """The configuration of a master for a pillar."""

    def call(values=None, now=TODAY, **other):
        settings = resolved(shipped, pillar() if values is None else values)
        return {
            **compiled.GROUNDS,
            **compiled.compile(settings, now),
            compiled.DATA: compiled.described(settings),
            "netapi_enable_clients": compiled.clients(settings, now),
            **other,
        }

    return call


@pytest.fixture
def can(opts):
    def call(user, fun, tgt=None, values=None, now=NOON, **more):
        question = asking.Question(user, fun, tgt, **more)
        return asking.can(opts(values), Check(), question, now)

    return call


def test_a_deploy(can):
    found = can("alice", "deploy.run", "web1", kwarg=GOOD)
    shop = {"kwargs": {"app": r"^shop\Z", "version": r"^(?:\d+\.\d+\.\d+)\Z"}}
    blog = {"kwargs": {"app": r"^blog\Z", "version": r"^(?:v\d+|main)\Z"}}
    assert found == {
        "allowed": True,
        "rule": {"L@db1 or web*": [{r"^deploy\.run\Z": [blog, shop]}]},
        "reason": r"alice may, on db1 and web*: deploy.run with app blog and version like "
        r"v\d+|main, or app shop and version like \d+\.\d+\.\d+",
    }


@pytest.mark.parametrize(
    ("user", "fun", "tgt", "more", "words"),
    [
        ("mallory", "test.ping", "web1", {}, "mallory has no rights"),
        ("alice", "cmd.run", "web1", {}, "alice has no right to call cmd.run"),
        ("alice", "deploy.statuses", "web1", {}, "alice has no right to call deploy.statuses"),
        ("alice", "test.ping", "mail1", {}, "no accepted minion is glob 'mail1'"),
        ("alice", "test.ping", "db*", {}, "test.ping on db1 and web*, and not on db2"),
        ("alice", "test.ping", ["web1", "db2"], {"tgt_type": "list"}, "and not on db2"),
        ("alice", "test.ping", "G@a:b", {"tgt_type": "compound"}, "salt-api refuses it: "),
        ("alice", "access.can", None, {}, "alice has no right to call access.can as a runner"),
        ("bob", "access.review", None, {}, "bob has no right to call access.review as a runner"),
        ("alice", "deploy.run", "web1", {"kwarg": {**GOOD, "app": "shop2"}},
         r"alice may call deploy.run with app blog and version like v\d+|main, or app shop and "
         r"version like \d+\.\d+\.\d+, each as a keyword"),
        ("alice", "deploy.run", "web1", {"arg": ["shop", "1.2.3"]}, "by its name"),
        ("alice", "deploy.run", "web1", {"kwarg": {**GOOD, "saltenv": "x"}}, "salt-api refuses it"),
        ("alice", "saltutil.find_job", "db2", {}, "salt-api refuses it"),
        ("alice", "test.ping,cmd.run", "web1", {}, "salt-api refuses it"),
    ],
)  # fmt: skip
def test_what_is_not_allowed(can, user, fun, tgt, more, words):
    found = can(user, fun, tgt, **more)
    assert (found["allowed"], found["rule"]) == (False, None)
    assert words in found["reason"]


def test_a_name_that_salt_takes_for_others(opts, monkeypatch):
    """Salt gives a.ice the rights of alice, as the functional tests show."""
    monkeypatch.setattr(Check, "fill_auth_list", lambda self, people, *_: people["alice"])
    found = asking.can(opts(), Check(), asking.Question("a.ice", "test.ping", "web1"), NOON)
    assert found["reason"] == (
        "Salt takes 'a.ice' for alice as well; nobody may log in by such a name"
    )


def test_hosts_of_two_grants_in_one_call(can):
    values = granted(
        {**ALICE, "targets": ["web*"], "apps": ["shop"]},
        {**ALICE, "targets": ["db1"], "apps": ["blog"]},
    )
    found = can("alice", "test.ping", ["web1", "db1"], values, tgt_type="list")
    assert found["reason"] == (
        "alice may call test.ping on db1 and on web*; name hosts of one of these in one call"
    )
    assert can("alice", "test.ping", "db1", values)["allowed"]


def test_runners(can):
    assert can("bob", "logbook.playback", kwarg={"user": "alice"}) == {
        "allowed": True,
        "rule": {"@runner": [r"^logbook\.playback\Z"]},
        "reason": "bob may, on the master, by runner: logbook.playback",
    }


def test_a_client_that_is_not_enabled(opts):
    closed = opts(netapi_enable_clients=["local"])
    found = asking.can(closed, Check(), asking.Question("bob", "access.can"), NOON)
    assert found["reason"].startswith("salt-api refuses it: client 'runner' is not served here")


@pytest.mark.parametrize(
    ("days", "user", "fun", "more", "reason"),
    [
        (1, "carol", "cmd.run", {}, "carol may, on web1: cmd.run"),
        (2, "carol", "cmd.run", {}, "lets carol not log in: all that carol was granted has ended"),
        (2, "bob", "test.ping", {}, "bob may, "),
    ],
)
def test_what_has_ended_since_the_master_started(can, days, user, fun, more, reason):
    """As the door has it: the rights in the master are those of the day when it started."""
    found = can(user, fun, "web1", now=NOON + dt.timedelta(days), **more)
    assert reason in found["reason"] and found["allowed"] is (" may, " in reason)


def test_a_grant_that_has_ended_beside_one_that_lasts(can):
    values = granted({**CAROL, "apps": []}, {**ALICE, "targets": ["web1"]})
    after = NOON + dt.timedelta(2)
    assert can("alice", "cmd.run", "web1", values)["allowed"]
    assert can("alice", "cmd.run", "web1", values, after)["reason"] == (
        "salt-api refuses it: the grant that gave alice cmd.run has ended"
    )
    assert can("alice", "test.ping", "web1", values, after)["allowed"]


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        (".*" * 2000 + "!", ()), ("*", ()), ("al*", ()), ("a|b", ()), ("(a+)+", ()), ("", ()),
        ("a" * 65, ()), ("alice\n", ()), (7, ()), (["alice"], ()),
        ("alice", (".*" * 2000 + "!",)), ("alice", ("",)), ("alice", ("ops", "a*")),
    ],
)  # fmt: skip
def test_what_is_no_name_is_matched_with_nothing(opts, monkeypatch, user, groups):
    monkeypatch.setattr(Check, "fill_auth_list", None)
    question = asking.Question(user, "test.ping", "web1", groups=groups)
    with pytest.raises(Refused, match=r"^(user|groups): "):
        asking.can(opts(), Check(), question, NOON)
    with pytest.raises(Refused, match=r"^(user|groups): "):
        asking.explain(opts(), Check(), user, groups, TODAY)


def explained(opts, user, groups=(), now=TODAY):
    return asking.explain(opts, Check(), user, groups, now)


def test_explanations(opts):
    assert explained(opts(), "alice") == {
        "user": "alice",
        "may": [
            "deployer on web* and db1 for shop and blog: on db1 and web*: test.ping; "
            "deploy.status with app blog, or app shop; deploy.run with app blog and version like "
            r"v\d+|main, or app shop and version like \d+\.\d+\.\d+"
        ],
        "warnings": [],
    }
    (carol,) = explained(opts(), "carol")["may"]
    assert carol.startswith(
        "break-glass on web1 until 2026-11-24 (the shop is down, ticket 7): on web1: cmd.run; "
    )
    (bob,) = explained(opts(), "bob")["may"]
    assert "on all hosts: drift.report; " in bob
    assert bob.endswith(
        "on the master, by runner: access.can; access.explain; logbook.playback; logbook.status; "
        "logbook.verify"
    )
    assert explained(opts(), "mallory")["may"] == ["mallory may do nothing; no grant names mallory"]


def test_a_grant_that_is_over(opts):
    values = granted({**CAROL, "until": "2026-11-22"})
    begin = "break-glass on web1 until 2026-11-22 (the shop is down, ticket 7): is over"
    assert explained(opts(values), "alice")["may"] == [begin]
    old = opts(values, now=dt.date(2026, 11, 22))
    assert explained(old, "alice")["may"] == [
        f"{begin}; its rights go with the next highstate of the master"
    ]


def test_what_is_in_force_is_told_whatever_was_granted(opts):
    foreign = opts()
    foreign["external_auth"]["rocksalt_file"]["alice"] = [".*", "@wheel", {"G@os:Debian": "test.*"}]
    assert explained(foreign, "alice")["may"] == [
        "deployer on web* and db1 for shop and blog: is not in force, the master's configuration "
        "does not have it",
        "without a grant of the baseline, everywhere: all that begins like '.*'",
        "without a grant of the baseline, everywhere: all of @wheel",
        "without a grant of the baseline, on the hosts that match 'G@os:Debian': all that begins "
        "like 'test.*'",
    ]
    bare = {"external_auth": {"pam": {"root": [".*"]}}}
    (said,) = explained(bare, "root")["may"]
    assert said == "without a grant of the baseline, everywhere: all that begins like '.*'"


def test_groups(opts):
    values = pillar(backend="ldap", users={}, groups={"ops": {"grants": [ALICE]}}, hashes={})
    assert explained(opts(values), "dave")["may"] == ["dave may do nothing; no grant names dave"]
    (said,) = explained(opts(values), "dave", ["ops"])["may"]
    assert said.startswith("deployer on web* and db1")


def test_options_that_undo_rights(opts):
    assert explained(opts(minion_data_cache=False, order_masters=True), "alice")["warnings"] == [
        "minion_data_cache is False in the master's configuration; rights rest on it being True",
        "order_masters is True in the master's configuration; rights rest on it being False",
    ]


def test_words():
    assert wording.named(compiled.exactly("a.b-c d")) == "a.b-c d"
    for wider in ("test.ping", r"^test.ping\Z", r"^test\.ping", r"^test\.(?:a|b)\Z"):
        assert wording.named(wider) == ""
    both = {"^x\\.y\\Z": {"args": [None, "^1\\Z"], "kwargs": {"a": "b.*"}}}
    assert wording.permission(both) == (
        "x.y with argument 1 anything, argument 2 1 and a that begins like 'b.*'"
    )
    assert wording.permission({r"^x\.y\Z": {}}) == "x.y with any arguments"
    assert wording.entry({"web*": "^a\\.b\\Z"}) == "on web*: a.b"
    assert wording.entry({"a": [], "b": []}).startswith("everywhere: what Salt makes of")
    assert wording.listed([]) == ""
