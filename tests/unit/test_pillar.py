"""pillar/hardening.sls: what a site starts from is valid, and so is every example in it."""

import datetime as dt
import re
from pathlib import Path

import yaml

from rocksalt import settings
from rocksalt.access import problems
from rocksalt.advice import advice

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILLSU+svfvtVleVVviymVZnxscO18BM7Yct5w88/ZAKf ann"
PILLAR = Path(__file__).resolve().parents[2] / "pillar/hardening.sls"


def hardening(text):
    return yaml.safe_load(text)["hardening"]


def test_the_shipped_pillar_is_valid_and_asks_for_nothing(shipped):
    assert hardening(PILLAR.read_text()) == {"schema": 1}


def test_every_example_works_when_its_comment_signs_go(shipped):
    in_a_month = (dt.date.today() + dt.timedelta(days=30)).isoformat()
    text = PILLAR.read_text().replace("YYYY-MM-DD", in_a_month)
    examples = re.sub(r"(?m)^  # (?=[a-z]+:$| )", "  ", text)
    pillar = hardening(examples)
    families = {"access", "accounts", "sshd"}
    assert set(pillar) == {"schema", "networks", "roles", "waivers", *families}
    baseline = settings.resolve(shipped, pillar, {}, "jump1")
    assert baseline.roles == ("jump-host",)
    assert set(baseline.waivers) == {"SSHD-131"}
    assert set(baseline.families["sshd"].off) == {"SSHD-142"}
    master = settings.resolve(shipped, pillar, {}, "salt")
    (unknown,) = problems.problems(master, "salt")
    assert unknown.startswith("hardening:access:hashes: ann of ") and "has none" in unknown


def test_yaml_reads_a_bare_off_as_false_and_means_off(shipped):
    pillar = hardening("hardening: {sshd: {controls: {SSHD-142: {off: workstations}}}}")
    baseline = settings.resolve(shipped, pillar, {}, "web1")
    assert baseline.families["sshd"].off == {"SSHD-142": "workstations"}


def test_advice(shipped):
    pillar = {
        "networks": {"management": ["10.0.0.0/24"]},
        "accounts": {"administrators": {"ann": {"keys": [KEY], "nopasswd": True}}},
        "sshd": {"max_auth_tries": 8},
        "waivers": {
            "SSHD-140": {"reason": "r", "owner": "a", "approver": "b", "expires": "2020-01-01"}
        },
    }
    found = advice(settings.resolve(shipped, pillar, {}, "web1"), pillar)
    assert found == [
        "hardening:sshd:max_auth_tries is 8: the greatest acceptable value is 6; SSHD-131 is drift"
        " until it is corrected or waived",
        "hardening:waivers:SSHD-140 ended on 2020-01-01 and excuses nothing",
    ]
    nothing, *undeclared = advice(settings.resolve(shipped, {}, {}, "web1"), {})
    assert nothing.startswith("this minion has no pillar 'hardening'")
    assert [sentence.split()[0] for sentence in undeclared] == [
        "hardening:networks:management",
        "hardening:accounts:administrators",
    ]


def test_nothing_is_asked_for_a_family_that_is_switched_off(shipped):
    pillar = {family: {"enabled": False} for family in ("firewall", "accounts")}
    found = advice(settings.resolve(shipped, pillar, {}, "web1"), pillar)
    assert not [it for it in found if "management" in it or "administrators" in it]
