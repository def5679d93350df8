"""The logbook of a master as the family access installs it, looks at it, and takes it away."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import access_hosts
import pytest
from access_hosts import FOLDER, MINION, stamp

from rocksalt import logbook
from rocksalt.access import booked, booking, enforce, problems
from rocksalt.access.facts import MASTER
from rocksalt.errors import Refused
from rocksalt.findings import judge
from rocksalt.logbook import config
from rocksalt.transaction import ASIDE

BOOKED, WHOLE = "ACL-024", "ACL-025"
HEADS, VERIFY = f"{logbook.HEADS_UNIT}.timer", f"{logbook.VERIFY_UNIT}.timer"
HEADS_PATH = f"/etc/systemd/system/{HEADS}"
DROP_IN = f"{booked.UNIT_PATH}.d/x.conf"
STATUS = f"{logbook.STATE}/status.json"
BOOK = f"{logbook.FOLDER}/{MINION}/2026-11-23.jsonl"
ALONE = {"logbook_witness": {}}


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def look(shipped, host, net):
    def call(**pillar):
        # Mappings merge, so that an empty one in the pillar takes nothing away.
        it = access_hosts.comparison(shipped, host, net, access=pillar)
        if pillar.get("logbook_witness") == {}:
            it.settings = it.setup.settings = {**it.settings, **ALONE}
        return it

    return call


@pytest.fixture
def wrong(look):
    return lambda **pillar: access_hosts.wrong(look(**pillar))


@pytest.fixture
def apply(host, look):
    def call(**pillar):
        host.ran.clear()
        enforce.enforce(host, look(**pillar), [BOOKED])

    return call


def services(host):
    """What was done to units, in short."""
    words = [" ".join(command[1:]) for command in host.ran if command[0] == "systemctl"]
    unseen = ("show", "is-active", "reset-failed", "daemon-reload")
    return [it for it in words if not it.startswith(unseen)]


def edit(path, more="# tampered\n"):
    def change(host):
        with open(host.path(path), "ab") as file:
            file.write(more.encode())

    return change


def secure(path, owner, mode):
    return lambda host: host.secure(path, owner, owner, mode)


def says(name, **other):
    return lambda host: access_hosts.tell(host, name, **other)


def units(**other):
    return lambda host: access_hosts.book_units(host, **other)


def link(path):
    def change(host):
        host.path(path).rename(host.path("/srv/elsewhere"))
        host.path(path).symlink_to(host.path("/srv/elsewhere"))

    return change


def removed(path):
    return lambda host: host.path(path).unlink()


def fresh(host):
    """Nothing of the logbook."""
    for path in [*booked.installed(host), *booked.KEYS, BOOK]:
        host.path(path).unlink()
    for name in ("status", "verified", "heads"):
        host.path(f"{logbook.STATE}/{name}.json").unlink()
    host.path(f"{logbook.FOLDER}/{MINION}").rmdir()
    for path in booked.FOLDERS:
        host.path(path).rmdir()
    host.answer(f"systemctl show {logbook.UNIT}", "Id=x\n")


# What is installed --------------------------------------------------------------------------------


def test_the_service_takes_what_is_written(host, net):
    """With the master's own file, days and masks of the settings, and the witness as it asks."""
    found = config.load(host.path(logbook.CONFIG))
    assert (found["name"], found["config"], found["days"]) == (MINION, "/etc/salt/master", 400)
    assert found["mask"] and found["folder"] == logbook.FOLDER
    assert found["watch"] == {
        "master configuration": ["/etc/salt/master", "/etc/salt/master.d"],
    }
    assert {key: found["witness"][key] for key in ("host", "port", "user")} == {
        "host": "10.79.0.9", "port": 22, "user": "rocksalt-witness",
    }  # fmt: skip
    assert found["client"] == f"{MINION}-logbook"


def test_masks_and_days_are_those_of_the_settings(shipped, host, net):
    pillar = {"access": {"logbook_days": 30}, "logstash": {"mask": ["(?P<secret>hunter2)"]}}
    it = access_hosts.comparison(shipped, host, net, **pillar)
    found = booked.settings(it)
    assert (found["days"], found["mask"]) == (30, ["(?P<secret>hunter2)"])
    assert BOOKED in access_hosts.wrong(it)


def test_what_is_shown_is_text(look):
    shown = look().render()
    assert {logbook.CONFIG, booked.UNIT_PATH, HEADS_PATH} <= {*shown}
    assert logbook.PROGRAM not in shown
    assert logbook.CONFIG not in look(logbook=False).render()


# What is seen -------------------------------------------------------------------------------------

OLD = {"ActiveEnterTimestampMonotonic": "1000000"}
TAMPERS = [
    (edit(logbook.PROGRAM), {BOOKED}, "rocksalt-logbook was edited"),
    (edit(logbook.CONFIG, " "), {BOOKED}, "logbook.json was edited"),
    (edit(booked.UNIT_PATH), {BOOKED}, "rocksalt-logbook.service was edited"),
    (removed(HEADS_PATH), {BOOKED}, f"{HEADS_PATH} does not exist"),
    (link(logbook.PROGRAM), {BOOKED}, "rocksalt-logbook is a link"),
    (secure(logbook.CONFIG, "root", "0644"), {BOOKED}, "as rendered, root:root 0644"),
    (secure(logbook.PROGRAM, "salt", "0755"), {BOOKED}, "salt:salt 0755"),
    (secure(logbook.FOLDER, "salt", "0755"), {BOOKED}, "/var/log/rocksalt-logbook salt:salt 0755"),
    (secure(logbook.STATE, "root", "0700"), {BOOKED}, "/var/lib/rocksalt-logbook root:root 0700"),
    (secure(BOOK, "root", "0640"), {BOOKED}, "2026-11-23.jsonl is not salt's"),
    (secure(logbook.SIGNING_KEY, "salt", "0644"), {BOOKED}, "signing .*salt:salt 0644"),
    (lambda host: host.path(logbook.SIGNING_KEY).write_text("x"), {BOOKED}, "signing .*salt 0600"),
    (removed(logbook.TRANSPORT_KEY), {BOOKED}, "transport does not exist"),
    (lambda host: host.put(DROP_IN), {BOOKED}, f"{DROP_IN} changes what runs"),
    (units(service={"DropInPaths": "/run/systemd/system/rocksalt-logbook.service.d/y.conf"}),
     {BOOKED}, "y.conf changes what runs"),
    (units(service={"ActiveState": "failed"}), {BOOKED}, "logbook.service is failed, enabled"),
    (units(service={"UnitFileState": "disabled"}), {BOOKED}, "service is active, disabled"),
    (units(service={"NeedDaemonReload": "yes"}), {BOOKED}, "enabled, not as on disk"),
    (units(verify={"ActiveState": "inactive"}), {BOOKED}, "verify.timer is inactive"),
    (units(heads={"UnitFileState": "masked"}), {BOOKED}, "heads.timer is active, masked"),
    (units(started=-3600), {BOOKED},
     "was not started since /usr/local/bin/rocksalt-logbook; /etc/rocksalt/access/logbook.json; "),
    # Whether it hears anything
    (says("status", heard=stamp(61), connected=True), {BOOKED}, "heard the master last at 20"),
    (says("status", heard=stamp(-400)), {BOOKED}, "heard the master last at 20"),
    (says("status", heard=""), {BOOKED}, "heard the master last at no time"),
    (removed(STATUS), {BOOKED}, "heard the master last at no time"),
    (says("status", problem="the log of the API cannot be read: x"), {BOOKED}, "of the API cannot"),
    (says("status", heard=5), {BOOKED}, "status.json is not what the logbook writes"),
    (link(STATUS), {BOOKED}, "status.json cannot be read"),
    (says("status", heard=stamp(59), connected=False), set(), ""),
    # Whether it is whole
    (says("verified", time=stamp(2 * 86400 + 1)), {WHOLE}, "was last checked at 20"),
    (says("verified", time=stamp(-86400)), {WHOLE}, "was last checked at 20"),
    (says("verified", time=stamp(2 * 86400 - 1)), set(), ""),
    (removed(f"{logbook.STATE}/verified.json"), {WHOLE},
     "was never checked: systemctl start rocksalt-logbook-verify"),
    (says("verified", ok=False, hosts={MINION: {"problems": ["line 3 was changed"]}}), {WHOLE},
     "^line 3 was changed$"),
    (says("verified", ok=False, problems=["the witness is away"]), {WHOLE}, "^the witness is away"),
    (says("verified", ok=False), {WHOLE}, "^the last check failed$"),
    (says("verified", hosts={"other": {"problems": []}}), {WHOLE}, f"found no book of {MINION}"),
    (says("verified", hosts=[]), {WHOLE}, "verified.json is not what the logbook writes"),
    # Whether somebody else has seen it
    (says("heads", witnessed_until=stamp(301), unwitnessed_since=stamp(301), error="no route"),
     {WHOLE}, "^unwitnessed since 20.*: no route$"),
    (says("heads", witnessed_until=stamp(299)), set(), ""),
    (says("heads", witnessed_until=None), {WHOLE}, "^unwitnessed since the beginning$"),
    (says("heads", failed={MINION: "it is a link"}), {WHOLE}, f"{MINION} is not witnessed: it is"),
    (removed(f"{logbook.STATE}/heads.json"), {WHOLE}, "unwitnessed since the beginning"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "differ", "words"), TAMPERS)
def test_tampered(host, net, wrong, change, differ, words):
    host.put("/srv/x")
    change(host)
    found = wrong()
    assert {*found} == differ
    assert re.search(words, "; ".join(found.values())), found


def test_a_pipe_keeps_nobody_waiting(host, net, wrong):
    host.path(STATUS).unlink()
    os.mkfifo(host.path(STATUS))
    assert {*wrong()} == {BOOKED}


def test_an_acl_counts(host, net, wrong, monkeypatch):
    real, state = booked.permissions.acl, host.path(logbook.STATE)
    monkeypatch.setattr(
        booked.permissions, "acl",
        lambda its, path: ["x"] if its.path(path) == state else real(its, path),
    )  # fmt: skip
    found = wrong()
    assert {*found} == {BOOKED} and "0700, and others by an ACL" in found[BOOKED]


def test_a_newer_salt_needs_a_start(host, net, look, monkeypatch):
    """What it has not loaded yet is of another release by then."""
    monkeypatch.setattr(booked.program, "python", lambda: "/opt/new/bin/python3")
    access_hosts.book_units(host, started=0)
    time.sleep(0.02)
    host.put("/opt/new/bin/python3")
    assert look().seen()[BOOKED].actual["started"] == "before /opt/new/bin/python3"


def test_a_master_that_does_not_run_is_not_to_be_heard(host, net, wrong):
    says("status", heard=stamp(600))(host)
    access_hosts.units(host, master={"ActiveState": "inactive"})
    assert {*wrong()} == {"ACL-005"}


def test_without_a_witness(host, net, look):
    it = look(**ALONE)
    access_hosts.put_book(host, it)
    host.path(f"{logbook.STATE}/heads.json").unlink()
    host.path(f"{HEADS_PATH}").unlink()
    host.path(HEADS_PATH.replace(".timer", ".service")).unlink()
    found = access_hosts.wrong(look(**ALONE))
    assert {*found} == {WHOLE}
    assert "hardening:access:logbook_witness: is empty, so whoever becomes root" in found[WHOLE]
    assert look(**ALONE).seen()[WHOLE].actual["witnessed"] == "no witness"


def test_a_witness_can_be_waived(shipped, host, net, waiver):
    says("heads", witnessed_until=None)(host)
    it = access_hosts.comparison(shipped, host, net, waivers={WHOLE: waiver()})
    found = judge(it.setup.baseline, "access", it.expected(), it.seen())
    assert {finding["status"] for finding in found if finding["id"] == WHOLE} == {"waived"}


def test_units_of_a_former_witness_are_beside(net, wrong):
    found = wrong(**ALONE)
    assert {*found} == {BOOKED, WHOLE}
    assert f"{HEADS_PATH} changes what runs" in found[BOOKED]


def test_no_logbook_is_less_than_the_baseline_wants(host, net, look, apply):
    def statuses():
        it = look(logbook=False)
        found = judge(it.setup.baseline, "access", it.expected(), it.seen())
        return {it["id"]: (it["status"], it["remedy"], it["reason"]) for it in found}

    before = statuses()
    assert before[BOOKED][:2] == ("drift", "state") and "is there" in before[BOOKED][2]
    assert before[WHOLE][0] == "skipped"
    apply(logbook=False)
    assert statuses()[BOOKED][:2] == ("drift", "manual")
    assert booked.installed(host) == [] and host.read(BOOK) is not None


# What is done -------------------------------------------------------------------------------------

STARTED = [
    f"enable --quiet {logbook.UNIT}",
    f"enable --quiet {VERIFY}",
    f"enable --quiet {HEADS}",
    f"restart {logbook.UNIT}",
    f"start {VERIFY}",
    f"start {HEADS}",
    f"start {logbook.HEADS_UNIT}.service",
]
KEYS = ("runuser", "-u", "salt", "--", logbook.PROGRAM, "keys")
CHECKED = f"start {logbook.VERIFY_UNIT}.service"


@pytest.fixture
def makes_keys(host, monkeypatch):
    """Has the program make the keys that are missing; what it found then."""
    found, real = [], host.run

    def run(*command, **how):
        if command[0] == "runuser":
            found.append((command, host.access(logbook.STATE), host.read(logbook.CONFIG)))
            for path in booked.KEYS:
                if host.attributes(path) is None:
                    host.put(path, access_hosts.signing_key(), 0o600, owner="salt")
        return real(*command, **how)

    monkeypatch.setattr(host, "run", run)
    return found


def test_a_fresh_master(host, net, apply, wrong, makes_keys):
    fresh(host)
    apply()
    ((command, state, told),) = makes_keys
    assert command == KEYS and state == "salt:salt 0700"
    assert json.loads(told)["name"] == MINION
    assert services(host) == [*STARTED, CHECKED]
    access_hosts.book_units(host)
    assert {*wrong()} == {WHOLE}, "nothing checked it here"
    assert net.slept


def test_its_user_gets_to_its_settings(host, net, apply):
    shutil.rmtree(host.path("/etc/rocksalt"))
    before = os.umask(0o077)
    try:
        apply()
    finally:
        os.umask(before)
    assert {host.access(path) for path in ("/etc/rocksalt", "/etc/rocksalt/access")} == {
        "root:root 0755"
    }
    assert host.access(logbook.CONFIG) == "root:salt 0640"


def test_a_second_run_changes_nothing(shipped, host, net):
    """The state enforces what drifts, which is nothing."""
    paths = [*booked.files(access_hosts.comparison(shipped, host, net)), *booked.KEYS]
    before = {path: host.path(path).stat().st_mtime_ns for path in paths}
    enforce.enforce(host, access_hosts.comparison(shipped, host, net), [BOOKED])
    assert before == {path: host.path(path).stat().st_mtime_ns for path in paths}
    assert not [command for command in host.ran if command[0] == "runuser"]
    assert services(host) == STARTED, "one that was found whole is not checked again"
    assert net.slept == 0


@pytest.mark.parametrize("number", [*range(11), 12, 13])
def test_healed(host, net, apply, wrong, makes_keys, number):
    """All but a broken key, which the witness knows: somebody has to look."""
    host.put("/srv/x")
    TAMPERS[number][0](host)
    assert {*wrong()} == {BOOKED}
    apply()
    assert wrong() == {}
    assert services(host) == STARTED
    assert [told[0] for told in makes_keys] == ([KEYS] if number == 12 else [])


def test_what_was_put_aside_comes_back(host, net, apply):
    host.put(DROP_IN, "[Service]\n")
    apply()
    assert host.read(DROP_IN + ASIDE) == "[Service]\n"
    access_hosts.surveyed(host, web1="does not sign its answers")
    enforce.clean(host, FOLDER)
    assert host.read(DROP_IN) == "[Service]\n"


def test_the_master_starts_before_its_logbook(shipped, host, net):
    edit("/etc/salt/master.d/zz-rocksalt-access.conf")(host)
    edit(logbook.CONFIG)(host)
    it = access_hosts.comparison(shipped, host, net)
    host.ran.clear()
    enforce.enforce(host, it, ["ACL-003", BOOKED])
    done = services(host)
    assert done.index(f"restart {MASTER}") < done.index(f"restart {logbook.UNIT}")


def test_a_witness_that_is_gone(host, net, apply, wrong):
    apply(**ALONE)
    assert f"disable --quiet --now {HEADS}" in services(host)
    assert not [path for path in booked.installed(host) if "heads" in path]
    assert {*wrong(**ALONE)} == {WHOLE}


def test_a_check_that_found_something_is_done_again(host, net, apply):
    says("verified", ok=False, problems=["x"])(host)
    apply()
    assert services(host) == [*STARTED, CHECKED]


def test_a_check_without_the_witness_of_now_is_done_again(host, net, apply, look, wrong):
    says("verified", witness=None)(host)
    sentence = "the book was last checked without its witness: systemctl start "
    assert wrong() == {WHOLE: f"{sentence}{logbook.VERIFY_UNIT}"}
    assert {*wrong(**ALONE)} == {BOOKED, WHOLE}, "without one there is no other"
    assert look(**ALONE).seen()[WHOLE].actual["checked"] == "within 2 days"
    apply()
    assert services(host) == [*STARTED, CHECKED]


def test_one_that_hears_nothing_is_not_waited_for_forever(host, net, apply, monkeypatch):
    says("status", heard=stamp(600))(host)
    monkeypatch.setattr(access_hosts, "tell", lambda *_: None)
    apply()
    assert net.slept == 30


# What fails is taken back -------------------------------------------------------------------------


def test_one_that_does_not_start(host, net, apply):
    edit(logbook.CONFIG, " ")(host)
    edit("/etc/salt/rocksalt-users")(host)
    before = host.read(logbook.CONFIG)
    host.answer(f"systemctl restart {logbook.UNIT}", status=1, err="Job failed")
    with pytest.raises(Refused, match=r"logbook.service does not start: Job failed.*the old conf"):
        apply()
    assert host.read(logbook.CONFIG) == before
    assert services(host)[-1] == f"try-restart {logbook.UNIT}"


def test_a_fresh_one_that_does_not_start_leaves_no_unit(host, net, apply):
    fresh(host)
    host.answer("runuser", status=1, err="no such user")
    with pytest.raises(Refused, match="makes no keys: no such user; the old configuration is back"):
        apply()
    assert booked.installed(host) == []
    host.answer("runuser")
    host.answer(f"systemctl restart {logbook.UNIT}", status=1, err="no")
    with pytest.raises(Refused):
        apply()
    assert booked.installed(host) == []
    assert services(host)[-3:] == [
        f"disable --quiet --now {unit}" for unit in (HEADS, VERIFY, logbook.UNIT)
    ]


def test_one_that_was_stopped_stays_so(host, net, apply):
    access_hosts.book_units(host, service={"ActiveState": "inactive"})
    host.answer(f"systemctl restart {logbook.UNIT}", status=1, err="no")
    with pytest.raises(Refused):
        apply()
    assert services(host)[-2:] == [f"stop {logbook.UNIT}", f"try-restart {logbook.UNIT}"]


def test_a_folder_that_is_a_link_is_refused(host, net, apply):
    link(logbook.FOLDER)(host)
    with pytest.raises(Refused, match="/var/log/rocksalt-logbook is no folder: remove it"):
        apply()


def test_clean_keeps_the_book_and_its_keys(host, net):
    booking.remove(host)
    assert booked.installed(host) == []
    assert host.read(BOOK) and all(host.read(path) for path in booked.KEYS)
    host.ran.clear()
    booking.remove(host)
    assert services(host) == []


# What cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, []),
        ({"logbook": False}, ["logbook_witness: means nothing, as hardening:access:logbook is"]),
        ({"logbook_witness": {"host": "w"}}, ["host_key: is missing", "witness:key: is missing"]),
        (
            {"logbook_witness": {"host": "w", "host_key": "RSA", "key": "ED"}},
            ["host_key: .* is no public key of the type ssh-ed25519"],
        ),
    ],
)
def test_problems(shipped, public_key, given, words):
    kinds = {"RSA": public_key("ssh-rsa"), "ED": public_key()}
    pillar = access_hosts.pillar()
    own = {key: kinds.get(text, text) for key, text in given.get("logbook_witness", {}).items()}
    if own:
        pillar["access"]["logbook_witness"] = own
    pillar["access"] |= {key: value for key, value in given.items() if key == "logbook"}
    it = access_hosts.settings.resolve(shipped, pillar, {}, MINION)
    found = problems.problems(it, MINION)
    assert len(found) == len(words)
    for text, word in zip(found, words, strict=True):
        assert re.search(word, text), found
