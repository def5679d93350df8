"""rocksalt.access.enforce: one transaction, and who has to answer after it."""

from __future__ import annotations

import dataclasses

import access_hosts
import pytest
from access_hosts import ADDRESS, CACHE, CERTIFICATE, CONFIG, FOLDER, KEY, MAIN, PKI

from rocksalt import access
from rocksalt.access import booked, door, enforce, knocking, rendering
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


def test_what_salt_does_not_take(host, net, apply, monkeypatch):
    def config(path):
        raise Refused("bad")

    host.path(CONFIG).write_text("# old\n")
    it_took = net.config
    seen: list[str] = []

    def once(path):
        seen.append(path)
        return it_took(path) if len(seen) == 1 else config(path)

    monkeypatch.setattr(net, "config", once)
    with pytest.raises(Refused, match=r"Salt does not take .*: bad; the old configuration is back"):
        apply(["ACL-003"])
    assert host.read(CONFIG) == "# old\n"


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
    with pytest.raises(
        Refused, match=r"does not listen on 127\.0\.0\.1 port 4505: .*the old configuration is back"
    ):
        apply()
    assert as_before(host, old)
    assert services(host) == [f"restart {MASTER}"] * 2


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"modern": "cannot be tried: x"}, "who shows no certificate is cannot be tried: x"),
        ({"status": "500"}, "answers GET / with 500"),
        ({"certificate": "ab" * 32}, "another certificate than /etc/rocksalt/access/api.pem"),
    ],
)
def test_a_salt_api_that_does_not_answer(host, net, apply, old, answers, words):
    net.answers = dataclasses.replace(net.answers, **answers)
    with pytest.raises(Refused, match=f"{words}.*the old configuration is back"):
        apply()
    assert as_before(host, old)
    assert services(host)[-2:] == [f"restart {MASTER}", f"restart {API}"]


def test_services_that_did_not_run_do_not_run_after(host, net, apply, old):
    stopped = {"ActiveState": "inactive", "UnitFileState": "disabled"}
    access_hosts.units(host, api=stopped)
    net.answers = dataclasses.replace(net.answers, modern=tls.SILENT)
    with pytest.raises(Refused):
        apply()
    assert services(host)[-2:] == [f"disable --quiet {API}", f"stop {API}"]


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


# Taking it away -----------------------------------------------------------------------------------


def test_clean(host, net, wrong):
    host.put(f"{door.AUTH_DIR}/easy.py{ASIDE}", "x")
    found, book = enforce.leftovers(host, FOLDER), booked.installed(host)
    assert found == [CONFIG, access.USERS, *rendering.door_files(), *book]
    host.ran.clear()
    enforce.clean(host, FOLDER)
    assert enforce.leftovers(host, FOLDER) == []
    assert host.read(f"{door.AUTH_DIR}/easy.py") == "x"
    assert host.attributes(door.PACKAGE_DIR) is None
    assert host.read(KEY) and host.read(MAIN) == "user: salt\n"
    assert services(host) == [
        *(f"disable --quiet --now {path.rpartition('/')[2]}" for path in book[2:]),
        f"disable --quiet --now {API}",
        f"restart {MASTER}",
    ]


def test_clean_leaves_what_is_not_ours(host):
    host.put(CONFIG, "# by hand\n")
    host.put(access.USERS, "ann:x\n")
    assert enforce.leftovers(host, FOLDER) == []
