"""The compiled form before Salt's own check: what was granted passes, and nothing beside it.

The check has the keys of minions that were never started; what a minion makes of a call's
arguments is asked of its own code, with the function that deploys.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import inspect
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import salt.auth
import salt.auth.ldap
import salt.config
import salt.exceptions
import salt.minion
import salt.utils.minions
import yaml

from rocksalt import catalogue, settings
from rocksalt.access import DOOR, asking, compiled, door
from rocksalt.access.door import names, sealing
from rocksalt.errors import Refused

REPO = Path(__file__).resolve().parents[2]
MINIONS = ("web1", "web2", "web10", "db1", "db2", "mail1")
TODAY = dt.date(2026, 11, 23)
NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.timezone.utc)
APPS = {
    "shop": {"states": ["shop"], "version": r"\d+\.\d+\.\d+", "minions": ["web*"]},
    "shop2": {"states": ["shop2"], "version": r"\d+", "minions": ["web*"]},
    "blog": {"states": ["blog"], "version": r"v\d+|main", "minions": ["*"]},
}
USERS = {
    "alice": [
        {"role": "deployer", "targets": ["web*"], "apps": ["shop"]},
        {"role": "deployer", "targets": ["db1"], "apps": ["blog"]},
    ],
    "jane.doe": [{"role": "deployer", "targets": ["web1", "web2"], "apps": ["blog"]}],
    "olga": [{"role": "operator", "targets": ["web1"], "apps": []}],
    "bob": [{"role": "auditor", "targets": ["*"], "everywhere": True}],
    "pat": [{"role": "platform", "targets": ["*"], "everywhere": True}],
    "late": [{"role": "break-glass", "targets": ["web1"], "until": "2026-11-22", "reason": "x"}],
}
GOOD = {"app": "shop", "version": "1.2.3"}


@pytest.fixture(scope="module")
def config():
    """The settings of the family."""
    folder = REPO / "salt/hardening/access"
    names = ("controls.yaml", "defaults.yaml")
    controls, defaults = (yaml.safe_load((folder / name).read_text()) for name in names)
    family = catalogue.family("access", {**controls, "after": []}, defaults)
    users = {name: {"grants": grants} for name, grants in USERS.items()}
    pillar = {"access": {"masters": ["salt"], "apps": APPS, "users": users}}
    return settings.resolve({"access": family}, pillar, {}, "salt").families["access"].settings


@pytest.fixture(scope="module")
def opts(config, tmp_path_factory):
    """The effective configuration of a master with the rendered file, and keys of its minions."""
    root = tmp_path_factory.mktemp("master")
    (root / "etc/master.d").mkdir(parents=True)
    keys = root / "pki/minions"
    keys.mkdir(parents=True)
    for minion in MINIONS:
        (keys / minion).write_text("-----BEGIN PUBLIC KEY-----\n")
    own = {"root_dir": str(root), "pki_dir": str(root / "pki"), "cachedir": str(root / "cache")}
    (root / "etc/master").write_text(yaml.safe_dump({**own, "user": "root"}))
    rendered = {
        **compiled.GROUNDS,
        **compiled.compile(config, TODAY),
        compiled.DATA: compiled.described(config),
        "netapi_enable_clients": compiled.clients(config, TODAY),
    }
    (root / "etc/master.d/zz.conf").write_text(yaml.safe_dump(rendered))
    return salt.config.master_config(str(root / "etc/master"))


@pytest.fixture(scope="module")
def check(opts):
    return salt.utils.minions.CkMinions(opts)


@pytest.fixture(scope="module")
def passes(opts, check):
    """Whether the master lets a call through, whatever the door says, with its own steps."""

    def call(user, fun, tgt, *arg, tgt_type="glob", groups=(), **kwarg):
        entries = asking.rights(opts, check, user, groups)
        minions = check.check_minions(tgt, tgt_type)["minions"]
        args = [*arg, *([{**kwarg, "__kwarg__": True}] if kwarg else [])]
        return bool(minions) and check.auth_check(
            entries, fun, [args] if isinstance(fun, list) else args, tgt, tgt_type, minions=minions,
            whitelist=["saltutil.find_job"],
        )  # fmt: skip

    return call


def test_the_keys_are_known(check):
    assert sorted(check.check_minions("*")["minions"]) == sorted(MINIONS)


def test_what_was_granted(passes):
    assert passes("alice", "deploy.run", "web1", **GOOD)
    assert passes("alice", "deploy.run", "web*", **GOOD)
    assert passes("alice", "deploy.run", ["web1", "web10"], tgt_type="list", **GOOD)
    assert passes("alice", "deploy.run", "db1", app="blog", version="main")
    assert passes("alice", "deploy.run", "web1", test=True, **GOOD)
    assert passes("alice", "deploy.status", "web1", app="shop")
    assert passes("jane.doe", "deploy.run", "web1,web2", tgt_type="list", app="blog", version="v7")
    assert passes("olga", "service.status", "web1", "nginx")
    assert passes("bob", "drift.report", "*")
    assert passes("pat", "state.highstate", "*")


@pytest.mark.parametrize(
    ("fun", "tgt", "kwarg"),
    [
        ("deploy.run", "web1", {"app": "shop2", "version": "1"}),
        ("deploy.run", "web1", {"app": "shop\n", "version": "1.2.3"}),
        ("deploy.run", "web1", {"app": "xshop", "version": "1.2.3"}),
        ("deploy.run", "web1", {"app": ["shop"], "version": "1.2.3"}),
        ("deploy.run", "web1", {"app": "blog", "version": "main"}),
        ("deploy.run", "web1", {"app": "shop", "version": "1.2.3-evil"}),
        ("deploy.run", "web1", {"app": "shop", "version": "1.2.3\n"}),
        ("deploy.run", "web1", {"app": "shop", "version": "x1.2.3"}),
        ("deploy.run", "web1", {"app": "shop", "version": 1.2}),
        ("deploy.run", "web1", {"app": "shop"}),
        ("deploy.run", "web1", {"version": "1.2.3"}),
        ("deploy.run", "web1", {}),
        ("deploy.run", "db1", GOOD),
        ("deploy.run", "db*", {"app": "blog", "version": "main"}),
        ("deploy.run", "*", GOOD),
        ("deploy.run2", "web1", GOOD),
        ("deploy.run.x", "web1", GOOD),
        ("deployXrun", "web1", GOOD),
        ("xdeploy.run", "web1", GOOD),
        ("deploy.run\n", "web1", GOOD),
        ("deploy.status_all", "web1", {}),
        ("test.ping_other", "web1", {}),
        ("test.pin", "web1", {}),
        ("state.apply", "web1", {"mods": "shop"}),
        ("state.highstate", "web1", {}),
        ("cmd.run", "web1", {"cmd": "id"}),
        ("sys.doc", "web1", {}),
        ("access.can", "web1", {}),
        ("", "web1", {}),
        ("test.ping", "", {}),
        ("test.ping", "web9", {}),
    ],
)
def test_what_was_not(passes, fun, tgt, kwarg):
    assert not passes("alice", fun, tgt, **kwarg)


@pytest.mark.parametrize(
    ("tgt", "tgt_type"),
    [
        (["web1", "db2"], "list"),
        (["web1", "db1"], "list"),  # each in another grant
        ("web1,db2", "list"),
        ("web1 or db2", "compound"),
        ("not web1", "compound"),
        ("L@web1,db2", "compound"),
        ("E@.*", "compound"),
        (".*", "pcre"),
        ("os:*", "grain"),
        ("os:.*", "grain_pcre"),
        ("role:web", "pillar"),
        ("role:.*", "pillar_pcre"),
        ("role:web", "pillar_exact"),
        ("10.0.0.0/8", "ipcidr"),
        ("%web", "range"),
        ("all", "nodegroup"),
        ("web1", "no_such_type"),
    ],
)
def test_targets_that_are_not_all_granted(passes, tgt, tgt_type):
    assert not passes("alice", "test.ping", tgt, tgt_type=tgt_type)


def test_lists_of_functions(opts, check):
    """Salt allows a list as soon as one of it passes, so the door has to refuse lists."""
    entries = asking.rights(opts, check, "alice")
    both = ["test.ping", "cmd.run"]
    assert check.auth_check(entries, both, [[], ["id"]], "web1", minions=["web1"])
    question = asking.Question("alice", both, "web1")
    assert asking.can(opts, check, question, NOW)["reason"].startswith("salt-api refuses it: fun ")


def test_nobody_has_rights_by_a_similar_name(passes):
    assert passes("jane.doe", "test.ping", "web1")
    for name in ("janexdoe", "jane-doe", "jane", "jane.doe2", "Alice", "alice\n", "alice2", "",
                 "alice%", "late", "mallory"):  # fmt: skip
        assert not passes(name, "test.ping", "web1")
        assert not passes(name, "test.ping", "web1", groups=("alice", "jane.doe"))


@pytest.mark.parametrize("name", ["*", "al*", "alice|bob", "a.ice", "[a-z]*", ".*", "al(ice"])
def test_names_that_are_patterns(opts, check, name):
    """Salt takes the name that somebody logs in with for a pattern of those who have rights: so
    neither the settings nor the door let two names meet.
    """
    people = opts["external_auth"]["rocksalt_file"]
    others = names.taken_for(name, people)
    assert check.fill_auth_list(people, name, []) == [e for one in others for e in people[one]]
    assert bool(others) is (name != "al(ice")
    question = asking.Question(name, "test.ping", "web1")
    if names.USER.fullmatch(name):
        assert not asking.can(opts, check, question, NOW)["allowed"]
    else:
        with pytest.raises(Refused, match=r"^user: "):
            asking.can(opts, check, question, NOW)


def test_runners(opts, check):
    def passes(user, fun, /, **kwarg):
        entries = asking.rights(opts, check, user)
        return check.runner_check(entries, fun, {"arg": [], "kwarg": kwarg}) is True

    assert passes("bob", "logbook.playback", user="alice")
    assert passes("pat", "manage.status")
    for fun in ("manage.status", "access.can2", "accessXcan", "runner.access", "salt.cmd",
                "wheel.key", "access.review", "saltutil.wheel"):  # fmt: skip
        assert not passes("bob", fun)
        assert not passes("alice", fun)
    for user in USERS:
        entries = asking.rights(opts, check, user)
        for fun in ("key.accept", "config.update_config", "file_roots.write", "access.can"):
            assert not check.wheel_check(entries, fun, {"kwarg": {}})


def test_the_cache_that_rights_rest_on(opts):
    """Salt 3006 takes each target of a right for all minions without it, later ones for none."""
    blind = salt.utils.minions.CkMinions({**opts, "minion_data_cache": False})
    found = set(blind.check_minions("L@web1 or web2", "compound")["minions"])
    assert found in (set(), set(MINIONS))
    assert asking.warnings({**opts, "minion_data_cache": False})
    assert asking.warnings(opts) == []


# What the minion makes of it ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """The function that deploys."""
    spec = importlib.util.spec_from_file_location("deploy", REPO / "_modules/deploy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run


PIECES = (
    "evil", "9.9.9", "app=evil", "version=9.9.9", "test=True", True,
    {"__kwarg__": True, "app": "e"}, {"__kwarg__": True, "version": "9"}, {"app": "evil"},
)  # fmt: skip


def test_arguments_beside_keywords_deploy_nothing_else(passes, run):
    """Whatever else is handed over, a call that the master lets through has the app and version
    that it looked at, or the minion cannot make it.
    """
    let, made = 0, []
    lists = itertools.chain.from_iterable(itertools.product(PIECES, repeat=n) for n in range(4))
    for arg in lists:
        copied = [dict(one) if isinstance(one, dict) else one for one in arg]
        assert passes("alice", "deploy.run", "web1", *copied, **GOOD), "Salt looks at keywords only"
        let += 1
        try:
            args, kwargs = salt.minion.load_args_and_kwargs(
                run, [*copied, {**GOOD, "__kwarg__": True}], {}
            )
            bound = inspect.signature(run).bind(*args, **kwargs)
        except (TypeError, salt.exceptions.SaltInvocationError):
            continue
        made.append((bound.arguments["app"], bound.arguments["version"]))
    assert let == 1 + 9 + 81 + 729
    assert len(made) > 10 and set(made) == {("shop", "1.2.3")}


def test_positions_instead_of_keywords(passes):
    assert not passes("alice", "deploy.run", "web1", "shop", "1.2.3")
    assert not passes("alice", "deploy.run", "web1", "app=shop", "version=1.2.3")
    assert not passes("alice", "deploy.run", "web1", "shop", version="1.2.3")
    assert not passes("alice", "deploy.run", "web1", {"__kwarg__": True, **GOOD}, "app=shop2")


def test_a_mark_of_keywords_that_is_none(opts, check, run):
    """Salt's master looks whether the mark is there, its minion whether it is true: so a mapping
    may pass as keywords, and arrive as a position. The door refuses it, and so does the function.
    """
    hidden = {**GOOD, "__kwarg__": False}
    arg = ["evil", "9.9.9", hidden]
    entries = asking.rights(opts, check, "alice")
    assert check.auth_check(entries, "deploy.run", arg, "web1", minions=["web1"])
    args, kwargs = salt.minion.load_args_and_kwargs(run, [*arg[:2], dict(hidden)], {})
    assert inspect.signature(run).bind(*args, **kwargs).arguments["app"] == "evil"
    question = asking.Question("alice", "deploy.run", "web1", arg=arg)
    assert asking.can(opts, check, question, NOW)["reason"].startswith("salt-api refuses it: ")


# Answers, as the runner gives them ----------------------------------------------------------------


@pytest.fixture
def runner(opts):
    spec = importlib.util.spec_from_file_location("access", REPO / "_runners/access.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = opts
    return module


def test_answers(runner):
    good = runner.can("alice", "deploy.run", "web1", kwarg=GOOD)
    assert good["allowed"] and list(good["rule"]) == ["web*"]
    assert runner.can("alice", "test.ping", ["web1", "db1"], tgt_type="list") == {
        "allowed": False,
        "rule": None,
        "reason": "alice may call test.ping on db1 and on web*; name hosts of one of these in one "
        "call",
    }
    for fun, tgt, why in (
        ("test.ping", "db*", "alice may call test.ping on db1 and on web*, and not on db2"),
        ("cmd.run", "web1", "alice has no right to call cmd.run"),
        ("test.ping", "web9", "no accepted minion is glob 'web9'"),
    ):
        assert runner.can("alice", fun, tgt)["reason"] == why
    assert runner.can("late", "cmd.run", "web1")["reason"] == "late has no rights"
    assert runner.can("bob", "logbook.playback")["allowed"]


def test_answers_are_what_salt_decides(runner, passes):
    functions = ("deploy.status", "test.ping", "test.version", "drift.report", "state.highstate",
                 "service.status", "cmd.run", "test.pingx")  # fmt: skip
    targets = (*MINIONS, "web*", "*", "db?")
    asked = list(itertools.product(USERS, functions, targets))
    told = [runner.can(*one)["allowed"] for one in asked]
    assert told == [passes(*one) for one in asked]
    assert 50 < sum(told) < len(told) - 50


def test_explanations(runner):
    found = runner.explain("alice")
    assert found["warnings"] == []
    first, second = found["may"]
    assert first.startswith("deployer on web* for shop: on web*: test.ping; deploy.status ")
    assert second.startswith("deployer on db1 for blog: on db1: ")
    assert runner.explain("late")["may"] == ["break-glass on web1 until 2026-11-22 (x): is over"]


def test_a_review(runner, tmp_path):
    line = '{"time": "2026-01-01T00:00:00+00:00", "event": "call", "user": "bob", "fun": "x.y"}\n'
    (tmp_path / "api.jsonl").write_text(line)
    where = {"folder": str(tmp_path), "log_file": str(tmp_path / "api.jsonl")}
    found = runner.review(**where)
    assert sorted(found["people"]) == sorted(USERS)
    assert "signed" not in found and not (tmp_path / "reviews").exists()
    assert found["people"]["olga"]["unused"][0] == "drift.report"
    assert found["changes"]["since"] == "there was no review yet"

    signed = runner.review(sign="ann", **where)["signed"]
    assert signed["reviewer"] == "ann" and len(signed["digest"]) == 64 and signed["previous"] == ""
    again = runner.review(**where)["changes"]
    assert again["since"].startswith("ann reviewed at 20")
    assert (again["more"], again["less"]) == ([], [])
    Path(f"{signed['path']}.sig").unlink()
    spoilt = runner.review(**where)
    assert (spoilt["retcode"], "has no signature" in spoilt["reason"]) == (1, True)


def test_mistakes_are_sentences(runner):
    assert runner.can("alice", "deploy.run", "web1", kwarg="app=shop") == {
        "reason": "kwarg: 'app=shop' is no mapping such as {app: shop, version: 1.2.3}",
        "retcode": 1,
    }
    runner.__opts__ = SimpleNamespace()
    assert runner.explain("alice")["retcode"] == 1


def test_salt_asks_ldap_for_what_came_through_the_door_alone(tmp_path, monkeypatch):
    """As its master does it, with a directory that is made of paper."""
    for path, text in door.files().items():
        target = tmp_path / Path(path).relative_to(DOOR)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    monkeypatch.setattr("sys.path", [*sys.path])
    config = {
        **salt.config.master_config("/nonexistent"), "cachedir": str(tmp_path), "rocksalt_api": {},
        "auth_dirs": [str(tmp_path / "auth")], "extension_modules": str(tmp_path / "none"),
        "external_auth": {"rocksalt_ldap": {"alice": []}}, "auth.ldap.server": "ldap1",
    }  # fmt: skip
    asked = []

    def bind(user, password, **_):
        asked.append((salt.auth.ldap._config("server"), user, password))
        return password == "right"

    monkeypatch.setattr(salt.auth.ldap, "HAS_LDAP", True)
    monkeypatch.setattr(salt.auth.ldap, "_bind", bind)
    monkeypatch.setattr(salt.auth.ldap, "__opts__", {}, raising=False)
    secret = sealing.renew(str(tmp_path / "rocksalt-api.seal"))
    master = salt.auth.LoadAuth(config)

    def enters(password):
        load = {"eauth": "rocksalt_ldap", "username": "alice", "password": password}
        return master.authenticate_eauth(load)

    assert enters(sealing.seal(secret, "alice", "right"))
    assert asked == [("ldap1", "alice", "right")]
    assert not enters("right") and len(asked) == 1
    assert not enters(sealing.seal(secret, "alice", "wrong")) and len(asked) == 2
