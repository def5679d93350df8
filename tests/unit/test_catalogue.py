"""rocksalt.catalogue: controls.yaml and defaults.yaml of a family."""

from __future__ import annotations

import copy

import pytest

from rocksalt import catalogue
from rocksalt.errors import InvalidSettings

ENTRY = {"title": "t", "severity": "low", "rationale": "r", "references": ["man(1)"]}
DEFAULTS = {"size": {"type": "integer", "default": 6, "help": "Teeth."}}


def described(after=(), **controls):
    entries = controls or {"LOCK-001": ENTRY}
    entries = {identifier.replace("_", "-"): entry for identifier, entry in entries.items()}
    return {"title": "Door lock", "after": list(after), "controls": entries}


def problems(controls, defaults=None) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        catalogue.family("lock", controls, defaults)
    return caught.value.problems


def test_a_family(families):
    lock = families["lock"]
    assert (lock.name, lock.title, lock.after) == ("lock", "Door lock", ())
    assert list(lock.controls) == ["LOCK-001", "LOCK-002", "LOCK-003"]
    assert list(lock.schema) == ["enabled", "size", "kinds", "shop", "code"]
    first, second, third = lock.controls.values()
    assert first.rationale == "An open door lets everybody in."
    assert (first.remedy, first.guarded, first.waivable, first.floor) == ("state", False, True, {})
    assert (second.guarded, second.floor) == (True, {"size": {"min": 4}})
    assert (third.remedy, third.waivable) == ("manual", False)
    assert third.references == ("lock(1)", "key(5)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "the key 'a' is written twice (line 2)"),
        ("x:\n  a: 1\n  b: 2\n  a: 1\n", "the key 'a' is written twice (line 4)"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    ],
)
def test_strict_yaml(text, words):
    with pytest.raises(InvalidSettings) as caught:
        catalogue.parse_yaml(text, "hardening/lock/controls.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith("hardening/lock/controls.yaml: not valid YAML")
    assert words in problem
    assert "\n" not in problem


def test_yaml_with_anchors_and_nothing():
    assert catalogue.parse_yaml("a: &x {b: [1]}\nc: *x\n", "p") == {
        "a": {"b": [1]},
        "c": {"b": [1]},
    }
    assert catalogue.parse_yaml("# nothing\n", "p") is None


@pytest.mark.parametrize("defaults", [None, {}, DEFAULTS])
def test_no_defaults_is_no_mistake(defaults):
    assert "enabled" in catalogue.family("lock", described(), defaults).schema


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (None, "needs the keys title and controls"),
        ({"title": "Lock", "controls": ["LOCK-001"]}, "needs the keys title and controls"),
        ({"controls": {"LOCK-001": ENTRY}}, "title is missing"),
        ({**described(), "atfer": ["ssh"]}, "unknown key 'atfer'; did you mean 'after'?"),
        ({**described(), "after": "watch"}, "after is a list of families"),
        (described(lock_1=ENTRY), "lock-1: a control's id looks like SSHD-001"),
        (described(LOCK_0001=ENTRY), "a control's id looks like"),
        (described(LOCK_001=None), "LOCK-001: is a mapping with title"),
        (described(LOCK_001={**ENTRY, "rationale": ""}), "LOCK-001: rationale is missing"),
        (described(LOCK_001={**ENTRY, "references": []}), "references is missing"),
        (described(LOCK_001={**ENTRY, "references": "man(1)"}), "references is a list"),
        (described(LOCK_001={**ENTRY, "severity": "grave"}), "severity is one of critical, high"),
        (described(LOCK_001={**ENTRY, "remedy": "hope"}), "remedy is one of state, manual, reboot"),
        (described(LOCK_001={**ENTRY, "gaurded": True}), "'gaurded'; did you mean 'guarded'?"),
        (
            described(LOCK_001={**ENTRY, "floor": {"sise": {"min": 1}}}),
            "floor names an unknown setting; did you mean 'size'?",
        ),
        (described(LOCK_001={**ENTRY, "floor": {"size": {"least": 1}}}), "floor of size is"),
        (described(LOCK_001={**ENTRY, "floor": {"size": {}}}), "floor of size is a mapping with"),
        (described(LOCK_001={**ENTRY, "floor": {"size": 4}}), "floor of size is a mapping with"),
    ],
)
def test_mistakes_in_controls(controls, words):
    (problem,) = problems(controls, DEFAULTS)
    assert problem.startswith("hardening/lock/controls.yaml: ")
    assert words in problem


def test_mistakes_in_defaults():
    assert problems(described(), ["size"]) == [
        "hardening/lock/defaults.yaml: is a mapping of settings"
    ]
    broken = copy.deepcopy(DEFAULTS)
    broken["size"]["type"] = "number"
    (problem,) = problems(described(), broken)
    assert problem.startswith("hardening/lock/defaults.yaml: size: needs a type")


def test_every_mistake_is_told_at_once():
    entry = {**ENTRY, "title": "", "severity": "grave"}
    assert len(problems(described(LOCK_001=entry, LOCK_002=None))) == 3


@pytest.mark.parametrize(
    ("rule", "acceptable", "weak"),
    [
        ({"equals": False}, False, True),
        ({"min": 4}, 4, 3),
        ({"max": 4}, 4, 5),
        ({"min": 1, "max": 4}, 1, 0),
        ({"min": 1, "max": 4}, 4, 5),
        ({"one_of": ["INFO", "VERBOSE"]}, "INFO", "DEBUG"),
        ({"subset_of": ["a", "b"]}, ["b"], ["a", "md5"]),
        ({"all_of": ["a", "b"]}, ["b", "a"], ["b", "c"]),
    ],
)
def test_floor(rule, acceptable, weak):
    assert catalogue.below_floor(acceptable, rule) == ""
    assert catalogue.below_floor(weak, rule)


def test_floor_names_what_is_weak():
    weak = catalogue.below_floor(["a", "md5", "des"], {"subset_of": ["a"]})
    assert weak == "md5, des is weaker than what is acceptable"
    missing = catalogue.below_floor(["b"], {"all_of": ["a", "b", "c"]})
    assert missing == "a, c has to be among them"


def ordered(**after) -> list[str]:
    return catalogue.in_order(
        {
            name: catalogue.family(name, described(after=names), None)
            for name, names in after.items()
        }
    )


@pytest.mark.parametrize(
    ("after", "order"),
    [
        ({"b": [], "a": []}, ["a", "b"]),
        ({"a": ["c"], "b": [], "c": []}, ["c", "a", "b"]),
        ({"a": ["*"], "b": [], "c": []}, ["b", "c", "a"]),
        ({"a": ["*"], "b": ["*", "a"], "c": []}, ["c", "a", "b"]),
        ({"b": ["*"], "a": ["*", "b"], "c": []}, ["c", "b", "a"]),
        ({"a": ["d"], "b": ["a"], "c": ["a", "b"], "d": []}, ["d", "a", "b", "c"]),
    ],
)
def test_order(after, order):
    assert ordered(**after) == order


def test_order_in_a_circle():
    with pytest.raises(InvalidSettings, match="in a circle: a -> b -> a"):
        ordered(a=["b"], b=["a"])


def test_order_after_an_unknown_family():
    with pytest.raises(InvalidSettings, match="after: no family 'wacth'; did you mean 'watch'"):
        ordered(lock=["wacth"], watch=[])
