"""rocksalt.settings: what the pillar says becomes one baseline, or a list of everything wrong."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from rocksalt import settings
from rocksalt.errors import InvalidSettings

SECRET = "4711-canary"
LATEST = dt.timedelta(days=90)


@pytest.fixture
def problems(resolve):
    def call(pillar, roles=(), **os_settings) -> list[str]:
        with pytest.raises(InvalidSettings) as caught:
            resolve(pillar, roles, **os_settings)
        return caught.value.problems

    return call


def test_the_defaults_alone(resolve):
    baseline = resolve()
    lock = baseline.families["lock"]
    assert lock.settings == {
        "enabled": True,
        "size": 6,
        "kinds": ["disc"],
        "shop": {"mon": 8},
        "code": "",
    }
    assert list(baseline.families) == ["lock", "watch"]
    assert (baseline.roles, baseline.warnings, baseline.source) == ((), (), "live")
    assert (baseline.networks, baseline.waivers, lock.off) == ({}, {}, {})


def role(minions=("web*",), **values):
    return {"minions": list(minions), "settings": {"lock": values}}


@pytest.mark.parametrize(
    ("os_size", "role_size", "pillar_size", "wins"),
    [(None, None, None, 6), (5, None, None, 5), (5, 7, None, 7), (5, 7, 8, 8), (None, None, 8, 8)],
)
def test_the_later_layer_wins(resolve, os_size, role_size, pillar_size, wins):
    def layer(size):
        return {} if size is None else {"size": size}

    pillar = {"roles": {"web": role(**layer(role_size))}, "lock": layer(pillar_size)}
    baseline = resolve(pillar, lock=layer(os_size))
    assert baseline.families["lock"].settings["size"] == wins
    assert baseline.roles == ("web",)


def test_lists_replace_and_mappings_merge(resolve):
    pillar = {
        "roles": {"web": role(kinds=["pin"], shop={"tue": 9})},
        "lock": {"kinds": ["wafer"], "shop": {"mon": 7}},
    }
    lock = resolve(pillar, lock={"shop": {"sun": 1}}).families["lock"].settings
    assert lock["kinds"] == ["wafer"]
    assert lock["shop"] == {"sun": 1, "mon": 7, "tue": 9}
    assert resolve().families["lock"].settings["shop"] == {"mon": 8}, "the defaults were changed"


def test_roles_apply_by_minion_id_and_by_the_minions_own_configuration(resolve):
    pillar = {
        "roles": {
            "db": role(["db[0-9]"], size=2),
            "web": role(["WEB1", "web?"], size=3),
            "spare": {"settings": {"lock": {"size": 4}}},
            "empty": {"minions": ["web1"]},
        }
    }
    assert resolve(pillar).roles == ("web", "empty")
    assert resolve(pillar, minion="db7").families["lock"].settings["size"] == 2
    assert resolve(pillar, minion="DB7").roles == ()
    own = resolve(pillar, roles=["spare"])
    assert (own.roles, own.families["lock"].settings["size"]) == (("web", "spare", "empty"), 4)


@pytest.mark.parametrize(
    ("pillar", "problem"),
    [
        ("text", "hardening: 'text' is not a mapping of families and settings"),
        (
            {"lokc": {}},
            "hardening:lokc: no such family or key; did you mean 'lock'?",
        ),
        (
            {"zz": {}},
            "hardening:zz: no such family or key; known are lock, networks, roles, schema, "
            "waivers, watch",
        ),
        (
            {"schema": 2},
            "hardening:schema: 2 is not 1, the only schema this version reads",
        ),
        ({"lock": ["size"]}, "hardening:lock: ['size'] is not a mapping of settings"),
        (
            {"lock": {"sise": 4}},
            "hardening:lock:sise: no such setting; did you mean 'size'?",
        ),
        ({"lock": {"size": "4"}}, "hardening:lock:size: '4' is not a whole number"),
        ({"lock": {"size": 70000}}, "hardening:lock:size: 70000 is more than 9"),
        (
            {"lock": {"kinds": ["disk"]}},
            "hardening:lock:kinds:0: 'disk' is not known; did you mean 'disc'?",
        ),
        ({"lock": {"enabled": "no"}}, "hardening:lock:enabled: 'no' is not true or false"),
        (
            {"networks": {"management": ["10.0.0.1/8"]}},
            "hardening:networks:management:0: '10.0.0.1/8' is not a network such as 10.0.0.0/8; "
            "did you mean '10.0.0.0/8'?",
        ),
        ({"networks": ["10.0.0.0/8"]}, "hardening:networks: ['10.0.0.0/8'] is not a mapping"),
        ({"roles": ["web"]}, "hardening:roles: ['web'] is not a mapping of role names"),
        (
            {"roles": {"web": None}},
            "hardening:roles:web: needs minions (a list of ids or globs) and settings (a mapping "
            "of families)",
        ),
        (
            {"roles": {"web": {"minion": ["web1"]}}},
            "hardening:roles:web: needs minions (a list of ids or globs) and settings (a mapping "
            "of families)",
        ),
        (
            {"roles": {"web": {"minions": "web1"}}},
            "hardening:roles:web:minions: 'web1' is not a list; write ['web1']",
        ),
        (
            {"roles": {"web": {"settings": []}}},
            "hardening:roles:web:settings: [] is not a mapping of families",
        ),
        (
            {"roles": {"web": {"settings": {"lokc": {}}}}},
            "hardening:roles:web:settings:lokc: no such family; did you mean 'lock'?",
        ),
        (
            {"roles": {"web": {"settings": {"lock": None}}}},
            "hardening:roles:web:settings:lock: is empty: write settings below it, or leave it out",
        ),
        (
            {"roles": {"db": {"minions": ["db1"], "settings": {"lock": {"size": 0}}}}},
            "hardening:roles:db:settings:lock:size: 0 is less than 1",
        ),
        (
            {"lock": {"controls": ["LOCK-001"]}},
            "hardening:lock:controls: ['LOCK-001'] is not a mapping of control ids",
        ),
        (
            {"lock": {"controls": {"LOCK-1": {"off": "r"}}}},
            "hardening:lock:controls:LOCK-1: no such control; did you mean 'LOCK-001'?",
        ),
        (
            {"lock": {"controls": {"LOCK-001": {"off": True}}}},
            'hardening:lock:controls:LOCK-001: needs off, with the reason in words: {off: "why"}',
        ),
        (
            {"lock": {"controls": {"LOCK-001": {"off": " "}}}},
            'hardening:lock:controls:LOCK-001: needs off, with the reason in words: {off: "why"}',
        ),
        (
            {"lock": {"controls": {"LOCK-003": {"off": "nobody needs a key"}}}},
            "hardening:lock:controls:LOCK-003: this control guards against locking everybody out "
            "and cannot be excused",
        ),
    ],
)
def test_one_mistake_one_sentence(problems, pillar, problem):
    assert problems(pillar) == [problem]


def test_mistakes_in_the_settings_of_an_operating_system(problems):
    (problem,) = problems({}, lock={"sise": 4})
    assert problem == "hardening/lock/os of this system:sise: no such setting; did you mean 'size'?"


def test_a_role_that_only_the_minion_knows(problems):
    assert problems({"roles": {"web": {}}}, roles=["wbe"]) == [
        "the minion's configuration, hardening:roles: no role 'wbe'; did you mean 'web'?"
    ]


def test_all_mistakes_are_told_together(problems):
    pillar = {
        "schema": 0,
        "lock": {"size": 0, "kinds": ["a", "a"]},
        "watch": {"enabled": 1},
        "waivers": {"LOCK-009": {}},
    }
    found = problems(pillar)
    assert len(found) == 11
    text = str(InvalidSettings(found))
    assert text.startswith(
        "11 problems in the settings, nothing was changed:\n  - hardening:schema"
    )
    assert all(problem in text for problem in found)


def test_off_with_a_reason(resolve, today):
    pillar = {
        "roles": {"web": role(controls={"LOCK-001": {"off": "a role says so"}})},
        "lock": {"controls": {"LOCK-002": {"off": "a revolving door"}}},
    }
    baseline = resolve(pillar)
    lock = baseline.families["lock"]
    assert lock.off == {"LOCK-001": "a role says so", "LOCK-002": "a revolving door"}
    assert "controls" not in lock.settings
    assert baseline.excused(lock, today)["LOCK-002"] == (
        "skipped",
        "switched off: a revolving door",
    )


def test_renamed_settings_keep_working_with_a_warning(resolve):
    baseline = resolve({"lock": {"pin_code": SECRET}})
    assert baseline.families["lock"].settings["code"] == SECRET
    assert "pin_code" not in baseline.families["lock"].settings
    assert baseline.warnings == ("hardening:lock:pin_code is now called hardening:lock:code",)


@pytest.mark.parametrize("names", [("code", "pin_code"), ("pin_code", "code")])
def test_of_two_names_todays_wins(resolve, names):
    values = {"code": "today", "pin_code": "once"}
    baseline = resolve({"lock": {name: values[name] for name in names}})
    assert baseline.families["lock"].settings["code"] == "today"
    assert len(baseline.warnings) == 1


# Waivers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expires", ["2001-02-03", dt.date(2001, 2, 3), dt.datetime(2001, 2, 3), "20010203T00:00:00.0"]
)
def test_a_day_as_yaml_json_or_salt_write_it(resolve, waiver, expires):
    baseline = resolve({"waivers": {"LOCK-001": waiver(expires=expires)}})
    assert baseline.waivers["LOCK-001"].expires == dt.date(2001, 2, 3)


@pytest.mark.parametrize(("days", "active"), [(-1, False), (0, True), (90, True)])
def test_a_waiver_counts_through_its_last_day(resolve, waiver, today, days, active):
    expires = today + dt.timedelta(days=days)
    baseline = resolve({"waivers": {"LOCK-001": waiver(expires=str(expires))}})
    excused = baseline.excused(baseline.families["lock"], today)
    if active:
        reason = f"waived until {expires} for ann: the lock is on order"
        assert excused == {"LOCK-001": ("waived", reason)}
    else:
        assert excused == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires": None}, "expires: is missing"),
        ({"reason": ""}, "reason: is missing"),
        ({"owner": 7}, "owner: 7 is not a text"),
        ({"expires": "soon"}, "expires: 'soon' is not a date such as "),
        ({"expires": "2999-01-01"}, "expires: 2999-01-01 is more than 90 days away; the latest is"),
        ({"approver": "ann"}, "approver: 'ann' owns the waiver; somebody else approves it"),
        ({"expire": "2001-01-01"}, "expire: no such key; did you mean 'expires'?"),
    ],
)
def test_a_bad_waiver(problems, waiver, change, words):
    (problem,) = problems({"waivers": {"LOCK-001": waiver(**change)}})
    assert problem.startswith("hardening:waivers:LOCK-001:")
    assert words in problem


def test_a_waiver_of_91_days_is_too_long(problems, waiver, today):
    expires = today + LATEST + dt.timedelta(days=1)
    (problem,) = problems({"waivers": {"LOCK-001": waiver(expires=str(expires))}})
    assert problem.endswith(f"the latest is {today + LATEST}")


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("LOKC-001", "no such control; did you mean 'LOCK-001'?"),
        ("LOCK-003", "guards against locking everybody out and cannot be excused"),
    ],
)
def test_what_cannot_be_waived(problems, waiver, identifier, words):
    (problem,) = problems({"waivers": {identifier: waiver()}})
    assert words in problem


def test_waivers_are_a_mapping_of_mappings(problems):
    (problem,) = problems({"waivers": ["LOCK-001"]})
    assert problem == "hardening:waivers: ['LOCK-001'] is not a mapping of control ids"
    (problem,) = problems({"waivers": {"LOCK-001": "forever"}})
    assert problem.endswith("is not a mapping with reason, owner, approver, expires")


# Secrets -----------------------------------------------------------------------------------------


def test_secrets_are_masked(resolve):
    lock = resolve({"lock": {"code": SECRET}}).families["lock"]
    assert lock.settings["code"] == SECRET
    assert lock.public_settings == {**lock.settings, "code": "***"}
    assert resolve().families["lock"].public_settings["code"] == "", "there is nothing to mask"


@pytest.mark.parametrize("name", ["code", "pin_code"])
def test_secrets_in_roles_are_refused_without_printing_them(problems, name):
    (problem,) = problems({"roles": {"web": role(**{name: SECRET})}})
    assert problem.endswith("lock:code: a secret belongs into its minion's own pillar")
    assert SECRET not in problem


@pytest.mark.parametrize("value", [[SECRET], {SECRET: 1}, 4711])
def test_a_secret_of_the_wrong_type_is_in_no_error(problems, value):
    (problem,) = problems({"lock": {"code": value}})
    assert problem.startswith("hardening:lock:code: *** is not a string")
    assert "4711" not in problem


# Snapshot ----------------------------------------------------------------------------------------


def test_snapshot_round_trip_without_secrets(resolve, waiver):
    pillar = {
        "networks": {"management": ["10.0.0.0/8"]},
        "roles": {"web": role(size=3)},
        "waivers": {"LOCK-001": waiver()},
        "lock": {"code": SECRET, "controls": {"LOCK-002": {"off": "a revolving door"}}},
    }
    live = resolve(pillar)
    text = json.dumps(settings.to_snapshot(live))
    assert SECRET not in text
    cached = settings.from_snapshot(json.loads(text))
    assert cached.source == "cached"
    for part in ("networks", "roles", "waivers", "time"):
        assert getattr(cached, part) == getattr(live, part)
    assert list(cached.families) == list(live.families)
    for name, family in live.families.items():
        assert cached.families[name].controls == family.controls
        assert cached.families[name].settings == family.public_settings
        assert cached.families[name].off == family.off


# Floor -------------------------------------------------------------------------------------------


def test_a_setting_below_the_floor(resolve):
    lock = resolve({"lock": {"size": 3}}).families["lock"]
    weak = lock.below_floor(lock.controls["LOCK-002"])
    assert weak == "hardening:lock:size is 3: the least acceptable value is 4"
    assert lock.below_floor(lock.controls["LOCK-001"]) == ""


@pytest.mark.parametrize("value", ["2001-02-30", "03.02.2001", "", 5, None])
def test_no_day(value):
    assert settings.as_date(value) is None


def test_where_names_the_layer_that_decided(resolve):
    lock = resolve({"roles": {"web": role(shop={"tue": 7})}, "lock": {"size": 5}}).families["lock"]
    assert lock.where("shop", "tue") == "hardening:roles:web:settings:lock:shop:tue"
    assert lock.where("size") == "hardening:lock:size"
    assert lock.where("kinds") == "hardening:lock:kinds"
