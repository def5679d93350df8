"""The families of the repository: their files load, and every promise is complete."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
import yaml

from rocksalt import catalogue, settings
from rocksalt.drift import expected as drift_expected
from rocksalt.sshd import checks

REPO = Path(__file__).resolve().parents[2]
FAMILIES = sorted(path.parent.name for path in REPO.glob("salt/hardening/*/controls.yaml"))
SYSTEMS = ["debian-12", "debian-13"]


def every(shipped):
    return [control for family in shipped.values() for control in family.controls.values()]


def test_there_are_families():
    assert {"sshd", "drift"} <= set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_complete(shipped, name):
    folder = REPO / "salt/hardening" / name
    for file in ("init.sls", "clean.sls", "defaults.yaml", *(f"os/{s}.yaml" for s in SYSTEMS)):
        assert (folder / file).is_file(), f"{folder / file} is missing"
    assert (REPO / f"_modules/{name}.py").is_file()
    assert shipped[name].controls
    prefixes = {identifier.split("-")[0] for identifier in shipped[name].controls}
    assert len(prefixes) == 1, "all ids of a family begin alike"


def test_ids_and_titles_are_unique(shipped):
    ids = [control.id for control in every(shipped)]
    titles = [control.title for control in every(shipped)]
    prefixes = [next(iter(family.controls)).split("-")[0] for family in shipped.values()]
    for names in (ids, titles, prefixes):
        assert len(names) == len(set(names))


def test_every_control_says_why_in_sentences(shipped):
    for control in every(shipped):
        assert control.rationale.endswith("."), control.id
        assert not control.title.endswith("."), control.id
        assert all(isinstance(reference, str) for reference in control.references), control.id


@pytest.mark.parametrize("name", FAMILIES)
def test_every_help_is_a_sentence(shipped, name):
    for setting, spec in shipped[name].schema.items():
        assert spec["help"].strip().endswith("."), setting


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_defaults_are_a_valid_baseline_above_every_floor(shipped, system):
    os_settings = {
        name: catalogue.parse_yaml(
            (REPO / f"salt/hardening/{name}/os/{system}.yaml").read_text(), name
        )
        for name in shipped
    }
    baseline = settings.resolve(shipped, {}, os_settings, "web1")
    for family in baseline.families.values():
        for control in family.controls.values():
            assert family.below_floor(control) == "", control.id


def test_drift_comes_last(shipped):
    assert catalogue.in_order(shipped)[-1] == "drift"


def test_some_control_cannot_be_waived(shipped):
    unwaivable = [control for control in every(shipped) if not control.waivable]
    assert [control.id for control in unwaivable] == [
        "FW-002",
        "FW-003",
        "FW-010",
        "OSS-012",
        "SSHD-003",
    ]


def test_the_example_pillar_is_valid(shipped):
    text = (REPO / "pillar/hardening.sls").read_text()
    pillar = yaml.safe_load(text)["hardening"]
    assert settings.resolve(shipped, pillar, {}, "web1").families


def test_every_control_of_sshd_has_a_check(shipped):
    with_directives = {i for i, c in shipped["sshd"].controls.items() if "directives" in c.data}
    assert with_directives | set(checks.CHECKS) == set(shipped["sshd"].controls)
    assert not with_directives & set(checks.CHECKS)


def test_every_directive_has_one_control_and_an_existing_setting(shipped):
    seen = []
    for control in shipped["sshd"].controls.values():
        for keyword, value in control.data.get("directives", {}).items():
            seen.append(keyword.lower())
            if isinstance(value, dict):
                assert value["setting"] in shipped["sshd"].schema, control.id
    assert len(seen) == len(set(seen))


def test_every_control_of_drift_has_a_check(shipped):
    assert set(drift_expected({"interval": 60, "jitter": 300}, {})) == set(
        shipped["drift"].controls
    )


@pytest.mark.parametrize(
    ("setting", "weak", "control"),
    [
        ("ciphers", ["aes128-cbc"], "SSHD-120"),
        ("macs", ["hmac-md5"], "SSHD-121"),
        ("key_exchanges", ["diffie-hellman-group14-sha1"], "SSHD-122"),
        ("host_key_algorithms", ["ssh-rsa"], "SSHD-123"),
        ("public_key_algorithms", ["ssh-dss"], "SSHD-124"),
        ("ca_signature_algorithms", ["ssh-rsa"], "SSHD-125"),
        ("required_rsa_size", 1024, "SSHD-126"),
        ("login_grace_time", 120, "SSHD-130"),
        ("max_auth_tries", 7, "SSHD-131"),
        ("client_alive_interval", 0, "SSHD-134"),
        ("client_alive_count_max", 0, "SSHD-134"),
        ("log_level", "DEBUG3", "SSHD-151"),
    ],
)
def test_weak_settings_are_below_the_floor(shipped, setting, weak, control):
    baseline = settings.resolve(shipped, {"sshd": {setting: weak}}, {}, "web1")
    family = baseline.families["sshd"]
    assert f"hardening:sshd:{setting} is " in family.below_floor(family.controls[control])


@pytest.mark.parametrize(
    ("pillar", "words"),
    [
        ({"ports": [70000]}, "hardening:sshd:ports:0: 70000 is more than 65535"),
        ({"ciphers": ["aes256-gmc@openssh.com"]}, "did you mean 'aes256-gcm@openssh.com'?"),
        ({"allow_group": ["sudo"]}, "hardening:sshd:allow_group: no such setting; did you mean"),
        ({"max_startups": "10"}, "does not match"),
    ],
)
def test_mistakes_an_administrator_makes(shipped, pillar, words):
    with pytest.raises(settings.InvalidSettings, match=re.escape(words)):
        settings.resolve(shipped, {"sshd": pillar}, {}, "web1")


def test_a_waiver_of_the_way_in_is_refused(shipped, waiver):
    with pytest.raises(settings.InvalidSettings, match="locking everybody out"):
        settings.resolve(shipped, {"waivers": {"SSHD-003": waiver()}}, {}, "web1")
    expires = str(dt.datetime.now(dt.timezone.utc).date())
    good = settings.resolve(shipped, {"waivers": {"SSHD-101": waiver(expires=expires)}}, {}, "w")
    assert list(good.waivers) == ["SSHD-101"]
