"""Signed answers: what the minion is to do, what was found out of all of them, and when the master
may require it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import access_hosts
import pytest
from access_hosts import CACHE, CONFIG, FOLDER, NOW, PKI
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from rocksalt.access import controls, enforce, minion, problems, survey, versions
from rocksalt.access.facts import MASTER
from rocksalt.errors import Refused

OURS = minion.path(FOLDER)
RECORD = f"{CACHE}/{survey.FILE}"
SHA224, SHA1 = "PKCS1v15-SHA224", "PKCS1v15-SHA1"
OFF = {"minions_sign": False, "require_signed": False}


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def look(shipped, host, net):
    """The comparison; arguments are settings of the family."""

    def call(who=access_hosts.MINION, **access):
        return access_hosts.comparison(shipped, host, net, who, access=access)

    return call


@pytest.fixture
def wrong(look):
    """The controls that differ, and why; of web1, those of its minion, for it has a master as well
    that nobody declared.
    """

    def call(who=access_hosts.MINION, **access):
        found = access_hosts.wrong(look(who, **access))
        ours = found if who == access_hosts.MINION else minion.IDS
        return {i: why for i, why in found.items() if i in ours}

    return call


def skipped(it):
    return {i: seen.reason for i, seen in it.seen().items() if seen.problem == "skipped"}


def commands(host, program):
    return [command for command in host.ran if command[0] == program]


# The minion ---------------------------------------------------------------------------------------


def test_any_minion_signs_and_not_that_of_a_master_alone(wrong, look):
    assert wrong() == {}
    assert wrong("web1") == {}
    assert not {*minion.IDS} & {*skipped(look("web1"))}
    assert look("web1").render() == {OURS: minion.config(look().settings)}


@pytest.mark.parametrize(
    ("text", "differ", "words"),
    [
        (None, {"ACL-026"}, f"{OURS} does not exist"),
        ("minion_sign_messages: false\n", {"ACL-026"}, f"{OURS} was edited"),
    ],
)
def test_a_minion_that_is_not_to_sign(host, wrong, text, differ, words):
    host.path(OURS).unlink()
    if text:
        host.put(OURS, text)
    found = wrong("web1")
    assert {*found} == differ and found["ACL-026"].startswith(words)


def test_the_last_file_wins(host, wrong):
    host.put("/etc/salt/minion", "signing_algorithm: PKCS1v15-SHA1\n")
    host.put("/etc/salt/minion.d/a.conf", "minion_sign_messages: false\n")
    assert wrong("web1") == {}
    host.put("/etc/salt/minion.d/zzz.conf", "signing_algorithm: PKCS1v15-SHA1\n")
    assert wrong("web1") == {
        "ACL-026": "signing_algorithm is PKCS1v15-SHA1, expected PKCS1v15-SHA224 "
        "(/etc/salt/minion, /etc/salt/minion.d/zzz.conf)"
    }


def test_a_minion_that_started_before(host, wrong):
    access_hosts.units(host, minion_started=-60)
    found = wrong("web1")
    assert {*found} == {"ACL-027"}
    assert found["ACL-027"] == f"{minion.UNIT} was not started since {OURS} changed"


def test_a_minion_that_is_about_to_start_anew_needs_nobody_else(host, look):
    access_hosts.units(host, minion_started=-60)
    host.answer(f"systemctl show -P ActiveState {minion.RESTART}", "active\n")
    seen = look("web1").seen()["ACL-027"]
    assert seen.remedy == "manual" and "it will be after this run" in seen.reason


def test_where_no_minion_is_to_sign_or_none_runs(host, look, wrong):
    host.path(OURS).unlink()
    found = skipped(look("web1", **OFF))
    assert {found[i] for i in minion.IDS} == {"hardening:access:minions_sign is false"}
    host.answer(f"systemctl show -P ActiveState {minion.UNIT}", "inactive\n")
    found = skipped(look("web1"))
    assert {found[i] for i in minion.IDS} == {f"{minion.UNIT} does not run here"}
    host.answer(f"systemctl show -P ActiveState {minion.UNIT}", "", 1, "no bus")
    assert {*wrong("web1")} == {*minion.IDS}


def test_the_file_goes_where_minions_are_not_to_sign_any_more(host, look, wrong):
    assert {*wrong("web1", **OFF)} == {"ACL-026"}
    enforce.enforce(host, look("web1", **OFF), ["ACL-026"])
    assert host.read(OURS) is None
    assert wrong("web1", **OFF) == {}


def test_it_is_written_and_the_minion_starts_anew_after_the_run(host, look, wrong):
    host.path(OURS).unlink()
    host.answer("systemd-run")
    enforce.enforce(host, look("web1"), ["ACL-026", "ACL-027"])
    assert wrong("web1") == {} and host.access(OURS) == minion.RIGHTS
    (started,) = commands(host, "systemd-run")
    assert f"--unit={minion.RESTART}" in started
    assert started[-4:] == (OURS, FOLDER, minion._ASIDE, str(os.getpid()))
    assert not [words for words in commands(host, "systemctl") if "restart" in words]


@pytest.mark.parametrize(
    ("starts", "finds", "stays", "restarts"),
    [
        ("true", "true", True, 1),
        ("false", "true", False, 2),
        ("true", '[ ! -e "$ours" ]', False, 2),  # its master knows no such algorithm
        ("true", "false", True, 2),  # its master is away, or it has none
    ],
)
def test_a_minion_that_does_not_find_its_master_is_as_it_was(
    tmp_path, starts, finds, stays, restarts
):
    programs, ours, ran = tmp_path / "bin", tmp_path / "ours.conf", tmp_path / "ran"
    ours.write_text("minion_sign_messages: true\n")
    said = {
        "systemctl": f'echo "$@" >> {ran}\n[ "$1" != try-restart ] || {starts}',
        "salt-call": f'ours={ours}\n[ "$1" = --config-dir=/folder ] && {finds}',
    }
    programs.mkdir()
    for name, text in said.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    ended = subprocess.Popen(["true"])
    ended.wait()
    words = [str(ours), "/folder", str(tmp_path / "aside"), str(ended.pid)]
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh", "-c", minion._SCRIPT, "sh", *words], env={"PATH": path}, check=True, timeout=20
    )
    assert ours.exists() is stays and not (tmp_path / "aside").exists()
    assert sum("restart" in line for line in ran.read_text().splitlines()) == restarts


def test_no_job_waits_for_its_own_end(host, look):
    host.path(OURS).unlink()
    host.answer(f"systemctl show -P MainPID {minion.UNIT}", f"{os.getpid()}\n")
    with pytest.raises(Refused, match="multiprocessing: False"):
        enforce.enforce(host, look("web1"), ["ACL-026"])
    assert host.read(OURS) is None


def test_what_another_file_replaces_is_not_left_there(host, look):
    host.path(OURS).unlink()
    host.put("/etc/salt/minion.d/zzz.conf", "minion_sign_messages: false\n")
    with pytest.raises(Refused, match=r"another file replaces .*zzz\.conf.*; the old"):
        enforce.enforce(host, look("web1"), ["ACL-026"])
    assert host.read(OURS) is None and not commands(host, "systemd-run")


def test_a_release_whose_signatures_no_master_takes(host, net, look, wrong):
    net.release = "3006.20"
    assert {*wrong("web1")} == {"ACL-026"}
    assert look("web1").seen()["ACL-026"].remedy == "manual"
    host.path(OURS).unlink()
    assert re.search(r"does not exist; .*3006\.20.*install 3006\.26", wrong("web1")["ACL-026"])
    with pytest.raises(Refused, match=r"3006\.20.*: install 3006\.26"):
        enforce.enforce(host, look("web1"), ["ACL-026"])
    assert host.read(OURS) is None
    assert wrong("web1", **OFF) == {}


def test_neither_minion_nor_master_stops_the_other(host, look):
    host.path(OURS).unlink()
    host.put("/etc/salt/minion.d/zzz.conf", "minion_sign_messages: false\n")
    with pytest.raises(Refused, match=r"^another file replaces"):
        enforce.enforce(host, look(token_hours=4), ["ACL-003", "ACL-026"])
    assert "token_expire: 14400" in host.read(CONFIG) and host.read(OURS) is None
    host.path("/etc/salt/minion.d/zzz.conf").unlink()
    weak = {"hashes": {"alice": "5f4dcc3b5aa765d61d8327deb882cf99"}}
    with pytest.raises(Refused, match=r"^hardening:access:hashes:alice is no strong hash"):
        enforce.enforce(host, look(**weak), [controls.PASSWORDS, "ACL-026"])
    assert host.read(OURS) == minion.config(look().settings)


def test_where_no_restart_can_be_had_the_file_of_before_is_back(host, look):
    host.path(OURS).unlink()
    host.answer("systemd-run", "", 1, "no bus")
    with pytest.raises(Refused, match="no bus; the old configuration is back"):
        enforce.enforce(host, look("web1"), ["ACL-026"])
    assert host.read(OURS) is None


# What was found out -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys():
    return [rsa.generate_private_key(65537, 2048) for _ in range(2)]


def pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_who_signs(keys):
    own, other = keys
    signed = own.sign(b"an answer", padding.PKCS1v15(), hashes.SHA224())
    assert survey.judged("3008.3", signed, pem(own), SHA224) == survey.SIGNS
    assert survey.judged("3006.28", signed, pem(own), SHA224) == survey.SIGNS
    otherwise = survey.OTHERWISE.format(SHA224)
    assert survey.judged("3008.3", signed, pem(other), SHA224) == otherwise
    assert survey.judged("3008.3", signed, "no key", SHA224) == otherwise
    assert survey.judged("3008.3", signed, pem(own), SHA1) == survey.OTHERWISE.format(SHA1)
    old = own.sign(b"an answer", padding.PKCS1v15(), hashes.SHA1())
    assert survey.judged("3008.3", old, pem(own), SHA224) == otherwise
    assert survey.judged("3008.3", None, pem(own), SHA224) == survey.UNSIGNED
    assert survey.judged("3008.3", b"", pem(own), SHA224) == survey.UNSIGNED
    assert survey.judged("3008.3", "text", pem(own), SHA224) == survey.UNSIGNED


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("3006.25", "is of Salt 3006.25, which .* install 3006.26"),
        ("3008.2", "install 3008.3"),
        ("3007.17", "install 3008.3"),
        ("", "is of a release that nobody knows"),
    ],
)
def test_what_no_master_verifies(keys, release, words):
    signed = keys[0].sign(b"an answer", padding.PKCS1v15(), hashes.SHA224())
    found = survey.judged(release, signed, pem(keys[0]), SHA224)
    assert found == versions.unverifiable(release)
    assert re.search(words, found)


def test_lines_to_come_sign_as_these_do():
    assert versions.unverifiable("3009.0") == ""


def test_a_record_says_what_was_found(host):
    assert survey.read(host, RECORD) is None
    found = survey.Survey(NOW, SHA224, {"web1": survey.SIGNS, "db1": survey.SILENT})
    host.put(RECORD, survey.text(found))
    again = survey.read(host, RECORD)
    assert again == found
    assert again.lagging() == {"db1": survey.SILENT}
    assert again.lagging(["web1"]) == {}, "the key of db1 is gone"
    assert again.lagging(["web1", "db2"]) == {"db2": survey.UNASKED}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"schema": 1}'),
        json.dumps({"schema": 2, "time": "x", "algorithm": "x", "minions": {}}),
        json.dumps({"schema": 1, "time": "soon", "algorithm": "x", "minions": {}}),
        json.dumps({"schema": 1, "time": "2026-11-23T12:00:00Z", "algorithm": "x", "minions": []}),
        "[" * 100000,
    ],
)
def test_what_is_no_record(host, text):
    host.put(RECORD, text)
    with pytest.raises(Refused, match=f"^{RECORD} is no"):
        survey.read(host, RECORD)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_record_that_is_no_file_keeps_nobody_waiting(host, before, require, wrong, make):
    """It is in a folder of the master's user, and stops neither the report nor what asks for it."""
    host.path(RECORD).unlink()
    make(host.path(RECORD))
    assert wrong()["ACL-028"].startswith(RECORD)
    with pytest.raises(Refused, match=RECORD):
        require()
    with pytest.raises(Refused, match=RECORD):
        enforce.clean(host, FOLDER)


# The master ---------------------------------------------------------------------------------------


@pytest.fixture
def before(host, look):
    """The master's configuration does not require signatures yet, and the pillar does."""
    host.path(CONFIG).write_text(look(require_signed=False).config)


@pytest.fixture
def require(host, look):
    def call(**access):
        host.ran.clear()
        enforce.enforce(host, look(**access), ["ACL-003"])

    return call


def restarts(host):
    return [words for words in commands(host, "systemctl") if "restart" in words]


def test_it_is_required_once_all_sign(host, before, require, wrong):
    assert {"ACL-003", "ACL-028"} <= {*wrong()}
    require()
    assert wrong() == {}
    assert restarts(host)[0] == ("systemctl", "restart", MASTER)


REFUSED = [
    (lambda host: access_hosts.surveyed(host, web1=survey.UNSIGNED), "web1 does not sign its"),
    (lambda host: access_hosts.surveyed(host, web1=survey.SILENT), "web1 does not answer"),
    (lambda host: host.put(f"{PKI}/minions/db1", "key"), "db1 was not asked"),
    (lambda host: access_hosts.surveyed(host, ago=3700), "not in the last hour"),
    (lambda host: access_hosts.surveyed(host, ago=-3700), "not in the last hour"),
    (lambda host: host.path(RECORD).unlink(), "nobody has asked yet"),
    (lambda host: host.put(RECORD, "{}"), "is no record of"),
    (
        lambda host: host.put(RECORD, host.read(RECORD).replace(SHA224, SHA1)),
        "verified by PKCS1v15-SHA1, and not by PKCS1v15-SHA224",
    ),
    (
        lambda host: host.put("/etc/salt/master.d/a.conf", "order_masters: true\n"),
        "what a syndic passes on",
    ),
    (
        lambda host: host.put("/etc/salt/master.d/a.conf", "keys.cache_driver: mmap_key\n"),
        "keys are where keys.cache_driver mmap_key has them",
    ),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_it_is_refused_while_one_lags(host, before, require, change, words):
    change(host)
    old = host.read(CONFIG)
    with pytest.raises(Refused, match=words):
        require()
    assert host.read(CONFIG) == old
    assert "require_minion_sign_messages" not in old
    assert restarts(host) == []


def test_what_lags_without_a_key_is_nobody(host, before, require, wrong):
    access_hosts.surveyed(host, db1=survey.SILENT)
    require()
    assert wrong() == {}


def test_who_lags_later_is_drift_and_stops_no_other_change(host, require, wrong):
    access_hosts.surveyed(host, web1=survey.SILENT)
    found = wrong()
    assert found == {"ACL-028": "web1 does not answer"}
    require(token_hours=4)
    assert "token_expire: 14400" in host.read(CONFIG)


def test_a_record_holds_for_days(host, wrong):
    access_hosts.surveyed(host, ago=6 * 86400)
    assert wrong() == {}
    access_hosts.surveyed(host, ago=8 * 86400)
    found = wrong()
    assert {*found} == {"ACL-028"} and found["ACL-028"].endswith(survey.HOW)
    host.path(RECORD).unlink()
    assert "last asked whether they sign: never" in wrong()["ACL-028"]


def test_another_algorithm_is_as_new(host, require, wrong):
    """The master would verify by one that no minion signs with yet."""
    old = host.read(CONFIG)
    with pytest.raises(Refused, match="verified by PKCS1v15-SHA224, and not by PKCS1v15-SHA1"):
        require(signing_algorithm=SHA1)
    assert host.read(CONFIG) == old


def test_another_file_has_the_master_take_everything(host, wrong):
    host.put("/etc/salt/master.d/zzz.conf", "drop_messages_signature_fail: false\n", 0o640)
    host.groups["/etc/salt/master.d/zzz.conf"] = "salt"
    found = wrong()
    assert {*found} == {"ACL-028"}
    assert "drop_messages_signature_fail is no, expected yes (/etc/salt/master.d/zzz" in str(found)


def test_where_it_is_not_required(host, look):
    it = look(require_signed=False)
    assert skipped(it) == {"ACL-028": "hardening:access:require_signed is false"}
    assert "require_minion_sign_messages" not in it.config
    assert "signing_algorithm: PKCS1v15-SHA224" in it.config, "or it loses what is signed"


def test_to_require_what_no_minion_does_is_a_contradiction(shipped):
    own = {"minions_sign": False}
    found = problems.problems(access_hosts.baseline(shipped, access=own), access_hosts.MINION)
    assert found == [
        "hardening:access:require_signed: is true, and hardening:access:minions_sign is false: no "
        "minion could answer; have them all sign first"
    ]


# Away ---------------------------------------------------------------------------------------------


def test_a_master_that_would_lose_answers_keeps_its_configuration(host, net):
    with pytest.raises(Refused, match=f"web1 sign what they answer, .*; or remove {RECORD}"):
        enforce.clean(host, FOLDER)
    assert host.read(CONFIG) and host.read(OURS)
    host.put("/etc/salt/master.d/a.conf", f"cachedir: {CACHE}/elsewhere\n")
    host.put(f"{CACHE}/elsewhere/{survey.FILE}", "{}")
    with pytest.raises(Refused, match="is no record"):
        enforce.clean(host, FOLDER)


def test_it_can_be_taken_away(host, net):
    access_hosts.surveyed(host, web1=survey.UNSIGNED)
    assert OURS in enforce.leftovers(host, FOLDER)
    enforce.clean(host, FOLDER)
    assert host.read(OURS) is None
    assert len(commands(host, "systemd-run")) == 1
