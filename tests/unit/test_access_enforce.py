"""rocksalt.access.enforce: one transaction, and who has to answer after it."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import time

import access_hosts
import pytest
from access_hosts import ADDRESS, CACHE, CERTIFICATE, CONFIG, FOLDER, KEY, MAIN, PKI

from rocksalt import access
from rocksalt.access import (
    answered,
    booked,
    door,
    enforce,
    guarded,
    knocking,
    master,
    minion,
    rendering,
    undoing,
)
from rocksalt.access.facts import API, MASTER
from rocksalt.errors import Refused
from rocksalt.nrpe import tls
from rocksalt.transaction import ASIDE

ALL = [f"ACL-{number:03}" for number in range(1, 24)]
"""Without those of the logbook, which test_access_booked.py is about."""
AUTH = f"{door.AUTH_DIR}/rocksalt_file.py"
NETAPI = f"{door.NETAPI_DIR}/rocksalt_api.py"
LEGACY = "/etc/salt/master.d/local.conf"


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def apply(shipped, host, net):
    def call(ids=ALL, **pillar):
        host.ran.clear()
        net.asked.clear()
        it = access_hosts.comparison(shipped, host, net, **pillar)
        enforce.enforce(host, it, ids)

    return call


@pytest.fixture
def wrong(shipped, host, net):
    def call(**pillar):
        return {*access_hosts.wrong(access_hosts.comparison(shipped, host, net, **pillar))}

    return call


def services(host):
    """What was done to units, in short."""
    words = [" ".join(command[1:]) for command in host.ran if command[0] == "systemctl"]
    unseen = ("show", "is-active", "reset-failed", "daemon-reload")
    return [it for it in words if not it.startswith(unseen)]


RESTARTED = [f"restart {MASTER}", f"enable --quiet {API}", f"restart {API}"]


def fresh(host):
    """A master as the distribution leaves it, with a certificate for salt-api."""
    for path in (CONFIG, access.USERS, *rendering.door_files()):
        host.path(path).unlink()
    for path in (door.NETAPI_DIR, door.AUTH_DIR, door.PACKAGE_DIR, access.DOOR):
        host.path(path).rmdir()
    host.path(KEY).chmod(0o600)
    host.groups[KEY] = "root"


def test_a_fresh_master(host, net, apply, wrong):
    fresh(host)
    assert wrong()
    apply()
    assert wrong() == set()
    assert services(host) == RESTARTED
    assert net.asked[:5] == [
        *(("127.0.0.1", 4505), ("127.0.0.1", 4506), (ADDRESS, 8000), (ADDRESS, 8000)),
        (ADDRESS, 8000),
    ]
    assert host.access(CONFIG) == host.access(access.USERS) == "root:salt 0640"
    assert host.access(KEY) == "root:salt 0640"


def test_a_second_run_changes_nothing(shipped, host, net, apply):
    before = {path: host.path(path).stat().st_mtime_ns for path in (CONFIG, AUTH, access.USERS)}
    apply(["ACL-003", "ACL-008", "ACL-014", "ACL-013"])
    assert services(host) == []
    assert before == {path: host.path(path).stat().st_mtime_ns for path in before}


def test_another_host_is_left_alone(shipped, host, net):
    fresh(host)
    it = access_hosts.comparison(shipped, host, net, "web1")
    enforce.enforce(host, it, ALL)
    assert host.read(CONFIG) is None and services(host) == []


# Who starts anew ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "path", "restarted"),
    [
        ("ACL-003", CONFIG, RESTARTED),
        ("ACL-008", AUTH, RESTARTED),
        ("ACL-008", f"{door.PACKAGE_DIR}/passwords.py", RESTARTED),
        ("ACL-008", NETAPI, RESTARTED[1:]),
        ("ACL-014", access.USERS, []),
    ],
)
def test_only_who_reads_a_file_starts_anew(host, net, apply, wrong, control, path, restarted):
    host.path(path).write_text("# tampered\n")
    assert control in wrong()
    apply([control])
    assert wrong() == set()
    assert services(host) == restarted


@pytest.mark.parametrize(
    ("control", "restarted"),
    [
        ("ACL-005", RESTARTED[:1]),
        ("ACL-009", RESTARTED[1:]),
        ("ACL-010", RESTARTED[1:]),
        ("ACL-011", RESTARTED[1:]),
    ],
)
def test_what_runs_on_something_else_starts_anew(host, net, apply, control, restarted):
    apply([control])
    assert services(host) == restarted


def test_systemd_reads_units_anew_before_it_starts_one(host, net, apply):
    apply(["ACL-009"])
    words = [" ".join(command[1:]) for command in host.ran if command[0] == "systemctl"]
    assert words.index("daemon-reload") < words.index(f"restart {API}")


def test_rights_of_a_file_count(host, net, apply, wrong):
    """A change of mode looks like one of the file, so what reads it starts anew at once."""
    host.path(CONFIG).chmod(0o644)
    apply(["ACL-003"])
    assert wrong() == set()
    assert services(host) == RESTARTED


def test_a_stopped_salt_api_is_not_started_by_the_way(host, net, apply):
    access_hosts.units(host, api={"ActiveState": "inactive"})
    host.answer(f"systemctl is-active --quiet {API}", status=3)
    host.path(CONFIG).write_text("")
    apply(["ACL-003"])
    assert services(host) == RESTARTED[:1]


def test_without_a_certificate_salt_api_waits(host, net, apply):
    host.path(CERTIFICATE).unlink()
    fresh(host)
    apply()
    assert services(host) == RESTARTED[:1]


def test_no_salt_api_is_wanted(host, net, apply, wrong):
    off = {"address": ""}
    apply(access=off)
    assert services(host) == [f"restart {MASTER}", f"disable --quiet --now {API}"]
    assert wrong(access=off) == {"ACL-010"}, "the fake one listens on"


def test_a_waived_control_is_left_as_found(shipped, host, net, apply, waiver):
    host.path(CONFIG).write_text("# by hand\n")
    apply(waivers={"ACL-003": waiver()})
    assert host.read(CONFIG) == "# by hand\n"


def test_ldap_takes_passwords_away(host, net, apply):
    apply(["ACL-014"], access={"backend": "ldap", "hashes": {}})
    assert host.read(access.USERS) is None


# What others put there ----------------------------------------------------------------------------


def test_files_beside_the_door_are_put_aside(host, net, apply, wrong):
    foreign = f"{door.AUTH_DIR}/easy.py"
    host.put(foreign, "def auth(*_): return True\n")
    host.put(f"{door.PACKAGE_DIR}/__pycache__/filter.cpython-311.pyc", "x")
    apply(["ACL-008"])
    assert wrong() == set()
    assert host.read(foreign + ASIDE) == "def auth(*_): return True\n"
    assert services(host) == RESTARTED


def test_what_comes_again_is_put_aside_again(host, net, apply, wrong):
    """Compiled modules come whenever root starts something there in the foreground."""
    cache = f"{door.AUTH_DIR}/__pycache__"
    for text in ("1", "2", "3"):
        host.put(f"{cache}/filter.cpython-311.pyc", text)
        apply(["ACL-008"])
        assert wrong() == set() and not host.path(cache).exists()
    kept = [f"{cache}{number}{ASIDE}" for number in ("", ".2", ".3")]
    assert [host.read(f"{path}/filter.cpython-311.pyc") for path in kept] == ["1", "2", "3"]


@pytest.mark.parametrize("path", [CONFIG, AUTH, access.USERS])
def test_links_become_files(host, net, apply, wrong, path):
    host.path(path).unlink()
    host.put("/srv/mine", "mine")
    host.path(path).symlink_to("/srv/mine")
    apply(["ACL-003", "ACL-008", "ACL-014"])
    assert wrong() == set()
    assert host.path(path + ASIDE).is_symlink()
    assert host.read("/srv/mine") == "mine"


def test_the_key_may_be_a_link(host, net, apply, wrong):
    """As those who get certificates by the month have it."""
    host.path(KEY).rename(host.path(f"{KEY}.1"))
    host.path(KEY).symlink_to("api.key.1")
    host.secure(f"{KEY}.1", "root", "root", "0644")
    assert wrong() == {"ACL-013"}
    apply(["ACL-013"])
    assert wrong() == set()
    assert host.access(f"{KEY}.1") == "root:salt 0640"
    assert host.path(KEY).is_symlink()
    assert services(host) == RESTARTED[1:]


def test_what_is_the_masters_own_is_closed(shipped, host, net, apply, wrong):
    """It opens its folder of tokens itself, whose files are named as the tokens are."""
    tokens, pem = f"{CACHE}/tokens", f"{PKI}/master.pem"
    host.secure(tokens, "salt", "salt", "0755")
    host.secure(pem, "salt", "salt", "0644")
    host.path("/srv/pillar").chmod(0o755)
    assert wrong() == {"ACL-018"}
    it = access_hosts.comparison(shipped, host, net)
    assert it.seen()["ACL-018"].remedy == "state"
    apply(["ACL-018"])
    assert (host.access(tokens), host.access(pem)) == ("salt:salt 0700", "salt:salt 0600")
    left = access_hosts.comparison(shipped, host, net).seen()["ACL-018"]
    assert left.actual == ["/srv/pillar (root:root 0755) is open to everybody"]
    assert left.remedy == "" and services(host) == []


# What is refused ----------------------------------------------------------------------------------


def test_weak_hashes_are_refused(host, net, apply):
    before = host.read(access.USERS)
    with pytest.raises(Refused, match="hashes:alice is no strong hash"):
        apply(access={"hashes": {"alice": "5f4dcc3b5aa765d61d8327deb882cf99"}})
    assert host.read(access.USERS) == before and services(host) == []


def test_hashes_that_are_not_known_are_not_written(shipped, host, net):
    it = access_hosts.comparison(shipped, host, net)
    it.setup.settings = it.settings = it.setup.family.public_settings
    host.path(access.USERS).write_text("# old\n")
    with pytest.raises(Refused, match="they have no hashes of passwords"):
        enforce.enforce(host, it, ["ACL-014"])
    assert host.read(access.USERS) == "# old\n"


def test_a_broken_file_of_others_is_named(host, net, apply):
    host.put(LEGACY, "a: [b\n")
    with pytest.raises(Refused, match=rf"{LEGACY} is no YAML"):
        apply(["ACL-003"])


def test_our_own_broken_file_is_healed(host, net, apply, wrong):
    host.path(CONFIG).write_text("a: [b\n")
    assert "ACL-003" in wrong()
    apply(["ACL-003"])
    assert wrong() == set()


def test_a_file_that_takes_our_rights_away(host, net, apply):
    host.put(MAIN, "user: salt\ninclude: [x.conf]\n", 0o640)
    host.put("/etc/salt/x.conf", "external_auth: {pam: {ann: [test.ping]}}\n", 0o640)
    host.path(CONFIG).write_text("# old\n")
    with pytest.raises(Refused, match=r"another file \(/etc/salt/x.conf\) replaces it; the old"):
        apply(["ACL-003"])
    assert host.read(CONFIG) == "# old\n"
    assert services(host) == []


@pytest.mark.parametrize(
    ("good", "outcome"), [(1, ""), (3, "; the old configuration is back")], ids=["tried", "written"]
)
def test_what_salt_does_not_take(host, net, apply, monkeypatch, good, outcome):
    def config(path):
        raise Refused("bad")

    host.path(CONFIG).write_text("# old\n")
    it_took = net.config
    seen: list[str] = []

    def once(path):
        seen.append(path)
        return it_took(path) if len(seen) <= good else config(path)

    monkeypatch.setattr(net, "config", once)
    with pytest.raises(Refused, match=rf"Salt does not take .*: bad{outcome}$"):
        apply(["ACL-003"])
    assert host.read(CONFIG) == "# old\n"
    assert services(host) == [] and host.glob("/run/*") == []


# What others wrote is not put into force ----------------------------------------------------------

WIDE = "/etc/salt/master.d/zzz.conf"


def newly(host, text, path=WIDE):
    """A file that no service has read, which started after all the others."""
    for name in ("/proc/700", "/proc/710"):
        assert host.attributes(name)
    access_hosts.units(host, started=0)
    time.sleep(0.05)  # a file has the time of the last tick
    host.put(path, text, 0o640)
    host.groups[path] = "salt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "external_auth: {rocksalt_file: {alice: ['.*', '@wheel']}}\n",
            r"alice of rocksalt_file may",
        ),
        ("open_mode: true\n", "open_mode is yes"),
        ("auto_accept: true\n", "auto_accept is yes"),
        ("token_expire: 604800\n", "token_expire is 168 h"),
        ("sign_pub_messages: false\n", "sign_pub_messages is no"),
    ],
)
@pytest.mark.parametrize("ids", [["ACL-005"], ["ACL-003", "ACL-005"], ["ACL-008"]])
def test_a_wide_file_is_not_put_into_force(host, net, apply, text, words, ids):
    host.path(AUTH).write_text("# tampered\n")
    host.path(CONFIG).write_text("# old\n" if "ACL-003" in ids else host.read(CONFIG))
    before = host.read(CONFIG)
    newly(host, text)
    with pytest.raises(Refused, match=rf"salt-master\.service would start on .*{words}.* {WIDE}"):
        apply(ids)
    assert services(host) == [] and host.read(CONFIG) == before
    assert host.read(AUTH) == "# tampered\n"


@pytest.mark.parametrize(
    "text", ["rest_cherrypy: {port: 8001}\n", "netapi_enable_clients: [wheel]\n"]
)
def test_another_door_is_not_opened(host, net, apply, text):
    """Rights that were taken away go nevertheless: only salt-api does not start."""
    host.path(CONFIG).write_text("# old\n")
    newly(host, text)
    with pytest.raises(Refused, match=r"salt-api\.service would start on what is not in force yet"):
        apply(["ACL-003", "ACL-005", "ACL-009"])
    assert services(host) == RESTARTED[:1] and host.read(CONFIG) != "# old\n"


def test_a_module_of_a_server_is_not_started(host, net, apply):
    newly(host, "", f"{CACHE}/extmods/netapi/mine.py")
    with pytest.raises(Refused, match=r"extmods/netapi/mine\.py"):
        apply(["ACL-009"])
    assert services(host) == []


def test_what_is_in_force_already_holds_nothing_back(host, net, apply):
    """Somebody's rights have to go although another file is too wide for long."""
    host.put(WIDE, "external_auth: {pam: {ann: ['.*']}}\nrest_cherrypy: {port: 8001}\n", 0o640)
    host.path(CONFIG).write_text("# old\n")
    access_hosts.units(host)
    apply(["ACL-003"])
    assert services(host) == RESTARTED and host.read(CONFIG) != "# old\n"


def test_a_master_that_does_not_run_has_nothing_in_force(host, net, apply):
    host.put(WIDE, "open_mode: true\n", 0o640)
    access_hosts.units(host, master={"ActiveState": "failed"})
    with pytest.raises(Refused, match="open_mode is yes"):
        apply(["ACL-005"])
    assert services(host) == []


def test_what_comes_meanwhile_is_seen_as_well(host, net, apply, monkeypatch):
    host.path(CONFIG).write_text("# old\n")
    monkeypatch.setattr(enforce, "_try_out", lambda it: newly(host, "open_mode: true\n"))
    with pytest.raises(Refused, match=r"open_mode is yes.*the old configuration is back"):
        apply(["ACL-003"])
    assert services(host) == [] and host.read(CONFIG) == "# old\n"


def test_what_is_waived_is_no_obstacle(host, net, apply, waiver):
    newly(host, "token_expire: 604800\n")
    apply(["ACL-005"], waivers={"ACL-017": waiver()})
    assert services(host) == RESTARTED[:1]


def test_a_new_file_that_widens_nothing_comes_into_force(host, net, apply):
    newly(host, "worker_threads: 9\n")
    apply(["ACL-005"])
    assert services(host) == RESTARTED[:1]


@pytest.mark.parametrize("user", ["root", "mallory"])
def test_nothing_is_given_to_another_user(host, net, apply, user):
    before = {path: host.access(path) for path in (CONFIG, KEY, access.USERS)}
    newly(host, f"user: {user}\n", MAIN)
    for ids in (["ACL-005"], ["ACL-013"], ["ACL-003", "ACL-014"]):
        with pytest.raises(Refused, match=rf"would start as {user} \({MAIN}\).* write user: salt"):
            apply(ids)
    assert services(host) == []
    assert before == {path: host.access(path) for path in before}


def test_a_master_that_is_roots_for_long_is_kept_up(host, net, apply):
    host.put(MAIN, "user: root\n", 0o640)
    host.owners.update({"/proc/700": "root", "/proc/710": "root"})
    access_hosts.units(host)
    apply(["ACL-003"])
    assert host.access(CONFIG) == "root:root 0600" and services(host) == RESTARTED


# What salt-api would not start with ---------------------------------------------------------------


def masked(host, net):
    access_hosts.units(host, api={"UnitFileState": "masked", "ActiveState": "inactive"})


def refusal(number):
    def change(host, net):
        net.refusal = number
        access_hosts.listening(host)

    return change


def ca(text):
    def change(host, net):
        if text:
            host.put("/etc/rocksalt/access/clients.pem", text)

    return change


@pytest.mark.parametrize(
    ("change", "client_ca", "words"),
    [
        (masked, "", "is masked: systemctl unmask salt-api.service"),
        (ca(""), "/etc/rocksalt/access/clients.pem", "clients.pem does not exist"),
        (
            ca("no certificate"),
            "/etc/rocksalt/access/clients.pem",
            "cannot start with .*clients.pem",
        ),
        (refusal(errno.EADDRNOTAVAIL), "", "on 10.79.0.2, which is no address of this host"),
        (refusal(errno.EADDRINUSE), "", "on 10.79.0.2 port 8000, which another process has"),
        (refusal(errno.EACCES), "", "Permission denied"),
    ],
)
def test_what_salt_api_lacks_is_seen_before(host, net, apply, change, client_ca, words):
    """And rights that were taken away go nevertheless."""
    host.path(CONFIG).write_text("# old\n")
    host.path(NETAPI).write_text("# old\n")
    change(host, net)
    with pytest.raises(Refused, match=words):
        apply(["ACL-003", "ACL-008", "ACL-009"], access={"client_ca": client_ca})
    assert services(host) == RESTARTED[:1]
    assert host.read(CONFIG) != "# old\n" == host.read(NETAPI)


def test_its_own_address_is_no_obstacle(host, net, apply):
    net.refusal = errno.EADDRINUSE
    apply(["ACL-009"])
    assert services(host) == RESTARTED[1:]


# What fails is taken back -------------------------------------------------------------------------


@pytest.fixture
def old(host):
    """Files of before, of the master's own user."""
    for path in (CONFIG, NETAPI, access.USERS):
        host.path(path).write_text("# old\n")
        host.secure(path, "salt", "salt", "0600")
    return {path: (host.read(path), host.access(path)) for path in (CONFIG, NETAPI, access.USERS)}


def as_before(host, old):
    return {path: (host.read(path), host.access(path)) for path in old} == old


def test_a_master_that_does_not_start(host, net, apply, old):
    host.answer(f"systemctl restart {MASTER}", status=1, err="Job failed")
    with pytest.raises(Refused, match=r"salt-master\.service does not start: Job failed"):
        apply()
    assert as_before(host, old)
    assert services(host) == [f"restart {MASTER}"] * 2


def test_a_master_that_does_not_listen(host, net, apply, old):
    net.listens = False
    words = r"does not listen on 127\.0\.0\.1 port 4505: .*and going back failed, too: .* port 4505"
    with pytest.raises(Refused, match=words):
        apply()
    assert as_before(host, old)
    assert services(host) == [f"restart {MASTER}"] * 2


def test_a_master_that_answers_with_the_old_files(host, net, apply, old):
    net.listens = lambda: host.read(CONFIG) == "# old\n"
    with pytest.raises(Refused, match="port 4505: it does not say why; the old configuration is"):
        apply()
    assert as_before(host, old)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"modern": "cannot be tried: x"}, "who shows no certificate is cannot be tried: x"),
        ({"status": "500"}, "answers GET / with 500"),
        ({"certificate": "ab" * 32}, "another certificate than /etc/rocksalt/access/api.pem"),
    ],
)
def test_a_salt_api_that_does_not_answer(shipped, host, net, apply, wrong, old, answers, words):
    """The master keeps its part, so that nobody keeps rights for as long as salt-api is ill."""
    net.answers = dataclasses.replace(net.answers, **answers)
    it = access_hosts.comparison(shipped, host, net)
    with pytest.raises(Refused, match=f"{words}.*what is salt-api's alone is as it was"):
        apply()
    assert (host.read(NETAPI), host.access(NETAPI)) == old[NETAPI]
    assert host.read(CONFIG) == it.config and host.read(access.USERS) != "# old\n"
    assert services(host) == [*RESTARTED, f"restart {API}"]
    with pytest.raises(Refused, match=words):
        apply([one for one in sorted(wrong()) if one != "ACL-011"])
    assert f"restart {MASTER}" not in services(host), "it has nothing to do with that"


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, ["disable --quiet", "stop"]),
        ({"ActiveState": "activating"}, ["restart"]),
        ({"ActiveState": "failed"}, ["stop"]),
        ({"ActiveState": "deactivating"}, ["stop"]),
        ({"ActiveState": "", "UnitFileState": ""}, []),
    ],
)
def test_salt_api_runs_on_as_it_did(host, net, apply, old, state, ended):
    """What nobody knows stays as it is."""
    access_hosts.units(host, api=state)
    net.answers = dataclasses.replace(net.answers, modern=tls.SILENT)
    with pytest.raises(Refused):
        apply()
    assert services(host) == [*RESTARTED, *(f"{word} {API}" for word in ended)]


def test_salt_api_that_cannot_be_stopped_is_told(host, net, apply, old):
    access_hosts.units(host, api={"ActiveState": "failed"})
    net.answers = dataclasses.replace(net.answers, modern=tls.SILENT)
    host.answer(f"systemctl stop {API}", "", 1, "Job canceled.\n")
    with pytest.raises(
        Refused, match=f"going back failed, too: systemctl stop {API}: Job canceled"
    ):
        apply()


@pytest.mark.parametrize("state", ["failed", "activating", "inactive", ""])
def test_the_master_is_never_left_stopped(host, net, apply, old, state):
    access_hosts.units(host, master={"ActiveState": state})
    net.listens = lambda: host.read(CONFIG) == "# old\n"
    with pytest.raises(Refused, match="the old configuration is back") as refused:
        apply()
    assert services(host) == [f"restart {MASTER}"] * 2, str(refused.value)


def test_who_interrupts_it_has_everything_back(host, net, apply, old, monkeypatch):
    def interrupt():
        if host.read(CONFIG) != "# old\n":
            raise KeyboardInterrupt
        return True

    net.listens = interrupt
    with pytest.raises(KeyboardInterrupt):
        apply()
    assert as_before(host, old)
    assert services(host) == [f"restart {MASTER}"] * 2


def test_going_back_that_cannot_write_is_told(shipped, host, net, apply, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    apply(["ACL-005"])
    more = {"token_hours": 4}
    host.path(CONFIG).write_text(access_hosts.comparison(shipped, host, net, access=more).config)
    net.listens = False
    monkeypatch.setattr(undoing, "_replace", full)
    with pytest.raises(Refused, match=r"going back failed, too: .* port 4505: .*; no space left"):
        apply(["ACL-005"], access=more)


@pytest.mark.parametrize("owner", ["4711", "salt"])
def test_an_odd_owner_is_put_back(host, net, apply, owner):
    host.path(CONFIG).write_text("# old\n")
    host.secure(CONFIG, owner, owner, "0600")
    host.secure(KEY, owner, owner, "0604")
    net.listens = lambda: host.read(CONFIG) == "# old\n"
    with pytest.raises(Refused, match="the old configuration is back"):
        apply()
    assert host.read(CONFIG) == "# old\n"
    assert (host.access(CONFIG), host.access(KEY)) == (
        f"{owner}:{owner} 0600",
        f"{owner}:{owner} 0604",
    )


def test_a_fresh_master_that_fails_is_fresh_again(host, net, apply):
    fresh(host)
    net.listens = False
    with pytest.raises(Refused):
        apply()
    assert host.read(CONFIG) is None and host.read(access.USERS) is None
    assert host.attributes(access.DOOR) is None
    assert host.access(KEY) == "root:root 0600"


def test_going_back_that_fails_is_told(host, net, apply, old):
    host.answer(f"systemctl restart {MASTER}", status=1, err="no")
    with pytest.raises(Refused, match=r"and going back failed, too: salt-master\.service does not"):
        apply()


def test_client_certificates_are_asked_for(host, net, apply):
    net.answers = dataclasses.replace(net.answers, modern=knocking.NEED_CERTIFICATE, status="")
    host.put("/etc/rocksalt/access/clients.pem", access_hosts.server()[0])
    apply(["ACL-009"], access={"client_ca": "/etc/rocksalt/access/clients.pem"})
    assert services(host) == RESTARTED[1:]
    with pytest.raises(Refused, match="refused without a certificate, expected served"):
        apply(["ACL-009"])


@pytest.mark.parametrize(
    ("interface", "asked"),
    [("::", "::1"), ("master1", "master1"), ("10.79.0.2", "10.79.0.2"), ("0.0.0.0", "127.0.0.1")],
)
def test_where_the_master_listens(host, net, apply, interface, asked):
    host.put(MAIN, f"user: salt\ninterface: '{interface}'\n", 0o640)
    apply(["ACL-005"])
    assert net.asked == [(asked, 4505), (asked, 4506)]


# What a killed run left ---------------------------------------------------------------------------


def test_what_the_master_answered_with_comes_back(shipped, host, net, apply):
    """A run that was killed left a new file, with which the master does not answer."""
    apply(["ACL-005"])
    good = host.read(CONFIG)
    assert host.read(answered.PATH) == good and host.access(answered.PATH) == "root:root 0600"
    net.listens = lambda: host.read(CONFIG) == good
    longer = {"token_hours": 4}
    host.path(CONFIG).write_text(access_hosts.comparison(shipped, host, net, access=longer).config)
    with pytest.raises(
        Refused, match="the configuration that the master answered with last is back"
    ):
        apply(["ACL-005"], access=longer)
    assert host.read(CONFIG) == good and host.access(CONFIG) == "root:salt 0640"
    assert services(host) == [f"restart {MASTER}"] * 3


def test_what_runs_is_remembered_before_it_is_replaced(host, net, apply, monkeypatch):
    good = host.read(CONFIG)
    monkeypatch.setattr(enforce, "_write", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        apply(["ACL-003"])
    assert host.read(answered.PATH) == good


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host.path(CONFIG).write_text("# by hand\n"),
        lambda host: access_hosts.units(host, master={"ActiveState": "failed"}),
        lambda host: access_hosts.units(host, started=-60),
    ],
    ids=["not ours", "does not run", "not read"],
)
def test_what_nobody_answered_with_is_not_remembered(host, net, apply, monkeypatch, change):
    change(host)
    monkeypatch.setattr(enforce, "_write", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        apply(["ACL-003"])
    assert host.read(answered.PATH) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host.secure(answered.PATH, "salt", "salt", "0600"),
        lambda host: host.path(answered.PATH).chmod(0o644),
        lambda host: host.path(answered.PATH).write_text("open_mode: true\n"),
    ],
    ids=["owner", "mode", "text"],
)
def test_what_somebody_else_may_have_written_does_not_come_back(host, net, apply, change):
    apply(["ACL-005"])
    change(host)
    net.listens = False
    with pytest.raises(Refused, match="going back failed"):
        apply(["ACL-005"])
    assert services(host) == [f"restart {MASTER}"] * 2


def test_what_does_not_help_is_not_left_in_its_place(shipped, host, net, apply):
    apply(["ACL-005"])
    more = {"token_hours": 4}
    new = access_hosts.comparison(shipped, host, net, access=more).config
    host.path(CONFIG).write_text(new)
    net.listens = False
    with pytest.raises(Refused, match="going back failed"):
        apply(["ACL-005"], access=more)
    assert host.read(CONFIG) == new and host.access(CONFIG) == "root:salt 0640"


# Links of others ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no key", "a folder of others", "open to a group"])
def test_what_a_link_leads_to_is_not_given_away(shipped, host, net, apply, how):
    host.put("/srv/other", "root:$6$x" if how == "no key" else host.read(KEY), 0o640)
    host.groups["/srv/other"] = "shadow"
    host.path(KEY).unlink()
    host.path(KEY).symlink_to(host.path("/srv/other"))
    folder = "/etc/rocksalt/access"
    if how == "a folder of others":
        host.owners[folder] = "salt"
    if how == "open to a group":
        host.path(folder).chmod(0o775)
    seen = access_hosts.comparison(shipped, host, net).seen()["ACL-013"]
    assert "root:shadow 0640, expected root:salt 0640" in seen.reason and seen.remedy == "manual"
    apply(["ACL-013"])
    assert host.access("/srv/other") == "root:shadow 0640" and services(host) == []


def test_a_link_among_links_counts(shipped, host, net, apply):
    host.put("/srv/mine/other", host.read(KEY), 0o604)
    host.owners["/srv/mine"] = "salt"
    host.path("/srv/mine/key").symlink_to("other")
    host.path(KEY).unlink()
    host.path(KEY).symlink_to("../../../srv/mine/key")
    seen = access_hosts.comparison(shipped, host, net).seen()["ACL-013"]
    assert "by a link in /srv/mine (salt:salt 0755), which is not root's" in seen.reason
    apply(["ACL-013"])
    assert host.access("/srv/mine/other") == "root:root 0604"


def test_links_without_end_are_left(shipped, host, net):
    host.path(KEY).unlink()
    host.path(KEY).symlink_to("api.key")
    assert access_hosts.comparison(shipped, host, net).seen()["ACL-013"].remedy == "manual"


def test_what_became_of_another_is_not_closed(host, net, apply, monkeypatch):
    """Between the look and the change its user puts a link in the way."""
    tokens = f"{CACHE}/tokens"
    host.put("/srv/other/abc", "secret", 0o644)
    host.secure(f"{tokens}/abc", "salt", "salt", "0644")
    real = guarded.closable

    def then(it):
        found = real(it)
        host.path(tokens).rename(host.path(f"{CACHE}/away"))
        host.path(tokens).symlink_to(host.path("/srv/other"))
        return found

    monkeypatch.setattr(guarded, "closable", then)
    apply(["ACL-018"])
    assert host.access("/srv/other/abc") == "root:root 0644"


# Dates to come ------------------------------------------------------------------------------------


def test_a_date_to_come_starts_nothing(shipped, host, net, wrong, monkeypatch):
    path = host.path(LEGACY)
    host.put(LEGACY, "worker_threads: 9\n", 0o640)
    host.groups[LEGACY] = "salt"
    access_hosts.units(host)
    later = time.time() + 30 * 86400
    os.utime(path, (later, later))
    assert wrong() == set(), "anybody can set that"
    real = master.changed
    monkeypatch.setattr(
        master, "changed", lambda host, path: later if path == LEGACY else real(host, path)
    )
    seen = access_hosts.comparison(shipped, host, net).seen()
    assert wrong() == {"ACL-005"} and seen["ACL-005"].remedy == "manual"
    assert f"{LEGACY} has a date to come" in seen["ACL-005"].reason
    access_hosts.units(host, started=-60)
    both = access_hosts.comparison(shipped, host, net).seen()["ACL-005"]
    assert both.remedy == "" and "was not started since" in both.reason


def test_what_changed_while_a_service_got_ready_counts(host, net, wrong):
    """It is active when it is ready, and has read its files by then."""
    begun = str(int((time.monotonic() - 60) * 1e6))
    access_hosts.units(host, master={"ExecMainStartTimestampMonotonic": begun})
    assert wrong() == {"ACL-005"}


# Taking it away -----------------------------------------------------------------------------------


def test_clean(host, net, wrong):
    access_hosts.surveyed(host, web1="does not sign its answers")
    host.put(f"{door.AUTH_DIR}/easy.py{ASIDE}", "x")
    found, book = enforce.leftovers(host, FOLDER), booked.installed(host)
    assert found == [CONFIG, access.USERS, *rendering.door_files(), minion.path(FOLDER), *book]
    host.ran.clear()
    enforce.clean(host, FOLDER)
    assert enforce.leftovers(host, FOLDER) == []
    assert host.read(f"{door.AUTH_DIR}/easy.py") == "x"
    assert host.attributes(door.PACKAGE_DIR) is None
    assert host.read(KEY) and host.read(MAIN) == "user: salt\n"
    assert services(host) == [
        *(f"disable --quiet --now {path.rpartition('/')[2]}" for path in book[3:]),
        f"disable --quiet --now {API}",
        f"restart {MASTER}",
    ]


def test_clean_leaves_what_is_not_ours(host):
    host.put(CONFIG, "# by hand\n")
    host.put(access.USERS, "ann:x\n")
    assert enforce.leftovers(host, FOLDER) == []


@pytest.mark.parametrize("moment", range(1, 8))
def test_clean_that_is_killed_goes_on(host, net, monkeypatch, moment):
    """Rights are in the master's memory until it starts anew."""
    for path in booked.installed(host):
        host.path(path).unlink()
    done, real_run, real_remove = [0], host.run, host.remove

    def counted(real):
        def call(*words, **how):
            done[0] += 1
            if done[0] == moment:
                raise KeyboardInterrupt
            return real(*words, **how)

        return call

    access_hosts.surveyed(host, web1="does not sign its answers")
    host.ran.clear()
    monkeypatch.setattr(host, "run", counted(real_run))
    monkeypatch.setattr(host, "remove", counted(real_remove))
    with pytest.raises(KeyboardInterrupt):
        enforce.clean(host, FOLDER)
    monkeypatch.undo()
    assert enforce.leftovers(host, FOLDER)
    enforce.clean(host, FOLDER)
    assert f"restart {MASTER}" in services(host)
    assert enforce.leftovers(host, FOLDER) == [] and host.read(answered.PATH) is None
