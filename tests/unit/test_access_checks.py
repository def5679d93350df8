"""rocksalt.access.checks: what a look at the host of a master gives."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import shutil
import time

import access_hosts
import nrpe_hosts
import pytest
from access_hosts import CACHE, CERTIFICATE, CONFIG, KEY, MAIN, PKI

from rocksalt import access
from rocksalt.access import checks, controls, door, facts, knocking, minion, signing
from rocksalt.access import guarded as guarding
from rocksalt.findings import judge
from rocksalt.nrpe import tls
from rocksalt.pki import certificates
from rocksalt.transaction import ASIDE

LATER = "/etc/salt/master.d/zzz.conf"
EARLIER = "/etc/salt/master.d/local.conf"
AUTH = f"{door.AUTH_DIR}/rocksalt_file.py"
FILTER = f"{door.PACKAGE_DIR}/filter.py"


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def wrong(shipped, host, net):
    """The controls that differ, and why, for a pillar laid on the good one."""

    def call(**pillar):
        return access_hosts.wrong(access_hosts.comparison(shipped, host, net, **pillar))

    return call


def put(path, text, mode=0o640, owner="root", group="salt"):
    """A change of a host: a file."""

    def change(host, net):
        host.put(path, text, mode, owner)
        host.groups[path] = group

    return change


def chmod(path, mode, **whose):
    def change(host, net):
        host.path(path).chmod(mode)
        host.owners.update({path: whose["owner"]} if "owner" in whose else {})
        host.groups.update({path: whose["group"]} if "group" in whose else {})

    return change


def link(path, target):
    def change(host, net):
        host.path(path).unlink(missing_ok=True)
        host.path(path).symlink_to(target)

    return change


def units(**other):
    def change(host, net):
        access_hosts.units(host, **other)

    return change


def answers(**other):
    def change(host, net):
        net.answers = dataclasses.replace(net.answers, **other)

    return change


def certificate(**how):
    def change(host, net):
        made, key = nrpe_hosts.signed(access_hosts.MINION, **how)
        shown = certificates.fingerprint(made)
        host.put(CERTIFICATE, certificates.pem(made))
        host.path(KEY).write_text(certificates.key_pem(key))
        net.answers = dataclasses.replace(net.answers, certificate=shown)

    return change


def waits(state, days):
    def change(host, net):
        host.put(f"{PKI}/{state}/web9", "key")
        access_hosts.age(host, f"{PKI}/{state}/web9", days)

    return change


def removed(path):
    return lambda host, net: host.path(path).unlink()


REACTION = "accept:\n  wheel.key.accept:\n    - args: [{match: '*'}]\n"
WITHOUT_OURS = {"ACL-003", "ACL-004", "ACL-006", "ACL-007", "ACL-016", "ACL-017", "ACL-028"}
TAMPERS = [
    # As whom it runs
    (
        put(MAIN, "user: root\n"),
        {f"ACL-{n:03}" for n in (2, 3, 13, 14, 18, 19, 24)},
        "option user is root .*: give /etc/salt/master, .* to salt, and write user: salt",
    ),
    (lambda host, net: host.owners.update({"/proc/710": "root"}), {"ACL-002"}, "runs as root"),
    # Our file
    (removed(CONFIG), WITHOUT_OURS, "does not exist"),
    (chmod(CONFIG, 0o644), {"ACL-003", "ACL-018"}, "root:salt 0644, expected root:salt 0640"),
    (
        link(CONFIG, "local.conf"),
        WITHOUT_OURS,
        "zz-rocksalt-access.conf is a link",
    ),
    # Rights of others
    (
        put(EARLIER, "external_auth: {pam: {mallory: ['.*', '@wheel']}}\n"),
        {"ACL-004"},
        rf'mallory of pam may ".\*" \({EARLIER}\)',
    ),
    (put(EARLIER, "publisher_acl: {bob: ['.*']}\n"), {"ACL-004"}, "bob of publisher_acl may"),
    (
        put(LATER, "external_auth: {rocksalt_file: {alice: ['@runner']}}\n"),
        {"ACL-004"},
        f'alice of rocksalt_file may "@runner" .{LATER}',
    ),
    (put(LATER, "permissive_acl: true\n"), {"ACL-004"}, f"permissive_acl is yes.*{LATER}"),
    (put(LATER, "eauth_acl_module: django\n"), {"ACL-004"}, "eauth_acl_module is django"),
    (put(LATER, "minion_data_cache: false\n"), {"ACL-004"}, "minion_data_cache is no"),
    (put(LATER, "order_masters: true\n"), {"ACL-004"}, f"order_masters is yes.*{LATER}"),
    # What is not in force
    (units(started=-60), {"ACL-005", "ACL-009"}, "salt-master.service was not started since"),
    (units(master={"ActiveState": "failed"}), {"ACL-005"}, "salt-master.service is failed"),
    (put(LATER, "publisher_acl: ['.*']\n"), {"ACL-004"}, "everybody of publisher_acl may"),
    # Clients and servers of HTTP
    (put(EARLIER, "netapi_enable_clients: [wheel, ssh]\n"), {"ACL-006"}, f"wheel.*{EARLIER}"),
    (put(LATER, "netapi_allow_raw_shell: true\n"), {"ACL-006"}, "netapi_allow_raw_shell is yes"),
    (put(LATER, "enable_ssh_minions: true\n"), {"ACL-004", "ACL-006"}, "enable_ssh_minions is yes"),
    (put(EARLIER, "rest_cherrypy: {port: 8001}\n"), {"ACL-007"}, f"rest_cherrypy .{EARLIER}"),
    (put(f"{CACHE}/extmods/netapi/mine.py", "", 0o644), {"ACL-007"}, "netapi/mine.py as well"),
    (
        put(LATER, "rocksalt_api: {login_failures: 9999}\n"),
        {"ACL-007"},
        f"rocksalt_api:login_failures is 9999, expected 5 .{LATER}",
    ),
    (
        lambda host, net: (
            put(MAIN, "user: salt\ninclude: [x.conf]\n")(host, net),
            put("/etc/salt/x.conf", "auth_dirs: [/opt/auth]\n")(host, net),
        ),
        {"ACL-007"},
        "auth_dirs does not have /usr/local/lib/rocksalt-api/auth ./etc/salt/x.conf",
    ),
    # The door
    (put(FILTER, "def refusal(*_): return ''\n", 0o644, group="root"), {"ACL-008"}, "was edited"),
    (removed(AUTH), {"ACL-008"}, "rocksalt_file.py does not exist"),
    (chmod(FILTER, 0o664), {"ACL-008"}, "as rendered, root:root 0664"),
    (chmod(door.AUTH_DIR, 0o777), {"ACL-008", "ACL-019"}, "root:root 0777"),
    (link(FILTER, "/tmp/filter.py"), {"ACL-008"}, "is a link"),
    (put(f"{door.AUTH_DIR}/easy.py", "", 0o644), {"ACL-008"}, "easy.py is not of the door"),
    (
        put(f"{CACHE}/extmods/auth/rocksalt_file.py", "", 0o644),
        {"ACL-008"},
        "Salt loads /var/cache/salt/master/extmods/auth/rocksalt_file.py in place of the door's",
    ),
    (
        put(f"{CACHE}/extmods/auth/rocksalt_ldap.py", "", 0o644),
        {"ACL-008"},
        "Salt loads /var/cache/salt/master/extmods/auth/rocksalt_ldap.py in place of the door's",
    ),
    (
        lambda host, net: (
            put(EARLIER, "auth_dirs: [/opt/auth]\n")(host, net),
            host.put("/opt/auth/rocksalt_file.py"),
        ),
        {"ACL-008"},
        "Salt loads /opt/auth/rocksalt_file.py",
    ),
    (
        put(f"{door.PACKAGE_DIR}/__pycache__/filter.cpython-311.pyc", "", 0o644),
        {"ACL-008"},
        "__pycache__ is not of the door",
    ),
    # salt-api
    (units(api={"ActiveState": "inactive"}), {"ACL-009"}, "is inactive, enabled"),
    (units(api={"UnitFileState": "disabled"}), {"ACL-009"}, "is active, disabled"),
    (units(api={"NeedDaemonReload": "yes"}), {"ACL-009"}, "active, enabled, not as on disk"),
    (units(api={"FragmentPath": "", "ActiveState": "inactive"}), {"ACL-009"}, "apt-get install"),
    (
        lambda host, net: access_hosts.listening(host, "0.0.0.0:8000"),
        {"ACL-010"},
        "listens on 0.0.0.0 8000; salt-api does not listen on 10.79.0.2 8000",
    ),
    (lambda host, net: access_hosts.listening(host), {"ACL-010"}, "does not listen"),
    (
        lambda host, net: access_hosts.listening(host, "10.79.0.2:8000", "[::]:8001"),
        {"ACL-010"},
        "listens on :: 8001",
    ),
    (lambda host, net: host.answer("ss -Hltnp", "", 1, "no"), {"ACL-010"}, "ss -Hltnp, .* fails"),
    # TLS
    (answers(old_tls=f"{tls.SERVED} with TLSv1"), {"ACL-011"}, "older: served with TLSv1"),
    (answers(unsafe_ciphers=f"{tls.SERVED} with NULL"), {"ACL-011"}, "unsafe ciphers: served"),
    (answers(plain=f"{tls.SERVED} (200)"), {"ACL-011"}, "without TLS: served"),
    (answers(certificate="ab" * 32), {"ACL-011"}, "another one .abab"),
    (answers(modern=tls.SILENT), {"ACL-011"}, "does not answer on 10.79.0.2 port 8000"),
    (answers(old_tls=f"{tls.UNTOLD}: x"), {"ACL-011"}, "cannot be tried: x"),
    (certificate(issuer=None), {"ACL-012"}, "signed itself"),
    (
        certificate(issuer=nrpe_hosts.ca(), end=dt.timedelta(days=9)),
        {"ACL-012"},
        "ends in 8 days|ends in 9 days",
    ),
    (certificate(issuer=nrpe_hosts.ca(), end=dt.timedelta(minutes=-5)), {"ACL-012"}, "expired"),
    (certificate(issuer=nrpe_hosts.ca(), usage=True), {"ACL-012"}, "is not for a server"),
    (certificate(issuer=nrpe_hosts.ca(), names=False), {"ACL-012"}, "is for no name"),
    (removed(CERTIFICATE), {"ACL-012"}, "api.pem does not exist"),
    (
        lambda host, net: host.put(
            CERTIFICATE,
            access_hosts.server()[0] + certificates.pem(nrpe_hosts.ca("others").certificate),
        ),
        {"ACL-012"},
        "was not signed by",
    ),
    (
        lambda host, net: host.path(KEY).write_text(
            certificates.key_pem(certificates.new_key())
        ),
        {"ACL-012"},
        "api.key is not the key of /etc/rocksalt/access/api.pem",
    ),
    (
        lambda host, net: host.path(KEY).write_text("no key"),
        {"ACL-012"},
        "api.key: is no private key in PEM",
    ),
    (chmod(KEY, 0o644), {"ACL-013"}, "api.key is root:salt 0644"),
    (chmod(KEY, 0o640, group="www-data"), {"ACL-013"}, "root:www-data 0640, expected"),
    (
        put("/etc/group", "root:x:0:\nsalt:x:120:mallory\n", 0o644),
        {"ACL-013", "ACL-014"},
        "mallory can read /etc/rocksalt/access/api.key, by the group salt",
    ),
    # Passwords
    (put(access.USERS, "eve:scrypt\n"), {"ACL-014"}, "was edited"),
    (link(access.USERS, "master"), {"ACL-014"}, "is a link"),
    (chmod(access.USERS, 0o644), {"ACL-014"}, "0644, expected"),
    (removed(access.USERS), {"ACL-014"}, "does not exist"),
    # Trust
    (put(LATER, "auto_accept: true\n"), {"ACL-015"}, f"auto_accept is yes .{LATER}"),
    (put(LATER, "open_mode: true\n"), {"ACL-015"}, "open_mode is yes"),
    (put(LATER, "file_recv: true\n"), {"ACL-015"}, "file_recv is yes"),
    (put(LATER, "permissive_pki_access: true\n"), {"ACL-015"}, "permissive_pki_access"),
    (put(EARLIER, "peer: {'.*': [test.ping]}\n"), {"ACL-015"}, f"peer is .*{EARLIER}"),
    (put(EARLIER, "peer_run: {'.*': ['.*']}\n"), {"ACL-015"}, "peer_run is"),
    (put(f"{PKI}/minions_autosign/web1", ""), {"ACL-015"}, "minions_autosign/web1"),
    # Algorithms and tokens
    (
        put(LATER, "publish_signing_algorithm: PKCS1v15-SHA1\n"),
        {"ACL-016"},
        f"PKCS1v15-SHA1, expected PKCS1v15-SHA224 .{LATER}",
    ),
    (put(LATER, "sign_pub_messages: false\n"), {"ACL-016"}, "sign_pub_messages is no"),
    (put(LATER, "minimum_auth_version: 0\n"), {"ACL-016"}, "is 0, expected 3 or later"),
    (put(LATER, "token_expire: 86400\n"), {"ACL-017"}, "24 h, expected 8 h or less"),
    (put(LATER, "token_expire: 0\n"), {"ACL-017"}, "0 h, expected"),
    (put(LATER, "token_expire_user_override: true\n"), {"ACL-017"}, "user_override is yes"),
    # Secrets
    (chmod(f"{PKI}/master.pem", 0o644), {"ACL-018"}, "salt:salt 0644. is open to everybody"),
    (chmod(f"{PKI}/master.pem", 0o640, group="staff"), {"ACL-018"}, "open to the group staff"),
    (chmod(f"{CACHE}/.root_key", 0o604), {"ACL-018"}, ".root_key .* open to everybody"),
    (put(f"{CACHE}/.ann_key", "", 0o600, "bob"), {"ACL-018"}, "belongs to bob"),
    (chmod(f"{CACHE}/tokens", 0o755), {"ACL-018"}, "tokens .root:root 0755. is open"),
    (chmod(MAIN, 0o644), {"ACL-018"}, "/etc/salt/master .* is open to everybody"),
    (chmod("/srv/pillar", 0o755), {"ACL-018"}, "/srv/pillar .* is open to everybody"),
    (put(f"{CACHE}/rocksalt-api.seal", "", 0o644), {"ACL-018"}, "rocksalt-api.seal"),
    # Trees
    (put("/srv/salt/web/init.sls", "", 0o666), {"ACL-019"}, "written by everybody"),
    (chmod("/srv/salt/top.sls", 0o664, group="users"), {"ACL-019"}, "written by the group users"),
    (chmod("/srv/salt", 0o755, owner="alice"), {"ACL-019"}, "/srv/salt .* belongs to alice"),
    (chmod("/srv", 0o777), {"ACL-019"}, "/srv .root:root 0777"),
    (put(f"{CACHE}/extmods/modules/x.py", "", 0o646), {"ACL-019"}, "modules/x.py"),
    # Keys that wait
    (waits("minions_pre", 3), {"ACL-020"}, "web9 waits since 3 days"),
    (waits("minions_denied", 2), {"ACL-020"}, "web9 was denied"),
    # Releases
    (
        lambda host, net: host.answer(access_hosts.VERSION, "salt-master 3006.11 (Sulfur)\n"),
        {"ACL-021"},
        "install 3006.17 or later: CVE-2025-62349.*CVE-2024-38824",
    ),
    (
        lambda host, net: host.answer(access_hosts.VERSION, "", 1, "Traceback"),
        {"ACL-021"},
        "version of /usr/bin/salt-master: Traceback",
    ),
    # What cannot be looked at is no good news
    (
        put(LATER, "a: [b\n"),
        {f"ACL-{n:03}" for n in range(2, 21)} - {"ACL-005", "ACL-011", "ACL-012", "ACL-009"}
        - {"ACL-010"} | {"ACL-024", "ACL-028"},
        f"{LATER} is no YAML",
    ),
]  # fmt: skip


def test_a_good_host(shipped, host, net):
    it = access_hosts.comparison(shipped, host, net)
    assert access_hosts.wrong(it) == {}
    assert [i for i, look in it.seen().items() if look.problem] == []
    assert list(it.expected()) == list(it.seen())
    assert {*it.seen()} == {*shipped["access"].controls}


@pytest.mark.parametrize(("change", "differ", "words"), TAMPERS)
def test_tampered(host, net, wrong, change, differ, words):
    change(host, net)
    found = wrong()
    assert {*found} == differ
    assert re.search(words, "; ".join(found.values())), found


def statuses(shipped, host, net, minion=access_hosts.MINION, **pillar):
    """The status of each control as it is reported, and why."""
    it = access_hosts.comparison(shipped, host, net, minion, **pillar)
    found = judge(it.setup.baseline, "access", it.expected(), it.seen())
    return {finding["id"]: (finding["status"], finding["reason"]) for finding in found}


def only(found, status):
    return {i for i, (what, _) in found.items() if what == status}


def test_another_host_has_no_master(shipped, host):
    net = access_hosts.Net(host)
    host.answer("systemctl show", "Id=salt-master.service\nActiveState=inactive\nFragmentPath=\n")
    host.put("/proc/1/cmdline", "/sbin/init\0")
    found = statuses(shipped, host, net, "web1")
    assert only(found, "skipped") == {*found}
    assert found["ACL-001"][1] == found["ACL-019"][1] == "this host has no Salt master"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda host: None, "salt-master.service runs, and .* does not name web1"),
        (
            lambda host: access_hosts.units(
                host, master={"ActiveState": "inactive", "UnitFileState": "enabled"}
            ),
            "starts at boot",
        ),
        (
            lambda host: access_hosts.units(
                host, master={"ActiveState": "inactive", "UnitFileState": "disabled"}
            ),
            "is installed and /etc/salt/master is there",
        ),
        (
            lambda host: (
                access_hosts.units(host, master={"ActiveState": "inactive", "FragmentPath": "",
                                                 "UnitFileState": ""}),
                host.put("/proc/88/cmdline", "/venv/bin/python3\0/venv/bin/salt-master\0-d\0"),
                host.put("/proc/88/cgroup", "0::/user.slice\n"),
            ),
            "process 88 is a master",
        ),
    ],
)  # fmt: skip
def test_a_master_that_nobody_declared(shipped, host, net, change, words):
    change(host)
    found = statuses(shipped, host, net, "web1")
    assert only(found, "drift") == {controls.DECLARED}
    assert re.search(words, found[controls.DECLARED][1])
    assert found["ACL-004"] == ("skipped", "its master is not declared (ACL-001)")


def test_a_master_of_a_container_is_not_of_this_host(shipped, host, net):
    access_hosts.units(host, master={"ActiveState": "inactive", "FragmentPath": "",
                                     "UnitFileState": ""})  # fmt: skip
    host.put("/proc/88/cmdline", "/usr/bin/salt-master\0")
    host.path("/proc/700/cmdline").unlink()
    for pid, namespace in (("self", "pid:[1]"), ("88", "pid:[2]")):
        host.path(f"/proc/{pid}/ns").mkdir(parents=True)
        host.path(f"/proc/{pid}/ns/pid").symlink_to(namespace)
    assert only(statuses(shipped, host, net, "web1"), "skipped") == of_masters(shipped)


def of_masters(shipped):
    """The controls that are not about any host's minion."""
    return {*shipped["access"].controls} - {*minion.IDS}


@pytest.mark.parametrize("words", ["vim\0salt-master\0", "man\0salt-master\0", "", "bash\0"])
def test_other_processes_are_no_masters(shipped, host, net, words):
    host.put("/proc/88/cmdline", words)
    assert access_hosts.wrong(access_hosts.comparison(shipped, host, net)) == {}


def test_a_second_master_beside_the_declared_one(shipped, host, net):
    host.put("/proc/88/cmdline", "/usr/bin/python3.11\0/usr/bin/salt-master\0")
    found = access_hosts.wrong(access_hosts.comparison(shipped, host, net))
    assert found == {"ACL-001": "process 88 is a master as well, which systemd did not start"}


def test_a_masked_master_is_none(shipped, host, net):
    host.path("/proc/700/cmdline").unlink()
    access_hosts.units(host, master={"ActiveState": "inactive", "UnitFileState": "masked",
                                     "FragmentPath": "/dev/null"})  # fmt: skip
    assert only(statuses(shipped, host, net, "web1"), "skipped") == of_masters(shipped)


def test_a_declared_master_that_is_not_installed(shipped, host, net):
    access_hosts.units(host, master={"FragmentPath": ""})
    found = statuses(shipped, host, net)
    assert only(found, "drift") == {controls.DECLARED}
    assert "apt-get install salt-master" in found[controls.DECLARED][1]


def test_without_salt_api(shipped, host, net):
    """What is about salt-api is skipped, but for one that listens all the same."""
    access_hosts.put_files(
        host, access_hosts.comparison(shipped, host, net, access={"address": ""})
    )
    found = statuses(shipped, host, net, access={"address": ""})
    assert only(found, "skipped") == {"ACL-009", "ACL-011", "ACL-012", "ACL-013"}
    assert only(found, "drift") == {"ACL-010"}
    assert found["ACL-010"][1] == (
        "salt-api listens on 10.79.0.2 8000; hardening:access:address is empty, which is no "
        "salt-api"
    )
    access_hosts.listening(host)
    assert only(statuses(shipped, host, net, access={"address": ""}), "drift") == set()


def test_without_a_certificate_salt_api_does_not_start(shipped, host, net):
    host.path(KEY).unlink()
    access_hosts.listening(host)
    found = statuses(shipped, host, net)
    assert only(found, "drift") == {"ACL-012", "ACL-013"}
    assert only(found, "skipped") == {"ACL-009", "ACL-010", "ACL-011"}
    access_hosts.listening(host, "0.0.0.0:8000")
    assert "ACL-010" in only(statuses(shipped, host, net), "drift")


def test_ldap_has_no_passwords_here(shipped, host, net):
    ldap = {"backend": "ldap", "hashes": {}}
    it = access_hosts.comparison(shipped, host, net, access=ldap)
    host.put(CONFIG, it.config, 0o640)
    host.groups[CONFIG] = "salt"
    assert {*access_hosts.wrong(it)} == {"ACL-014", "ACL-023"}
    assert "not reviewed is: ldap says who somebody is: salt-run" in it.seen()["ACL-023"].reason
    host.path(access.USERS).unlink()
    access_hosts.review(host, it)
    assert access_hosts.wrong(access_hosts.comparison(shipped, host, net, access=ldap)) == {}


def test_hashes_are_strong(shipped, host, net):
    weak = {"hashes": {"alice": "5f4dcc3b5aa765d61d8327deb882cf99"}}
    it = access_hosts.comparison(shipped, host, net, access=weak)
    access_hosts.put_files(host, it)
    seen = it.seen()["ACL-014"]
    assert "hashes:alice is no strong hash" in seen.reason
    assert seen.remedy == "manual" and "5f4dcc3b" not in seen.reason


def test_settings_that_were_kept_have_no_hashes(shipped, host, net):
    it = access_hosts.comparison(shipped, host, net)
    family = it.setup.family
    kept = dataclasses.replace(family, settings=family.public_settings)
    it.setup.family, it.setup.settings, it.settings = kept, kept.settings, kept.settings
    assert {*access_hosts.wrong(it)} == {"ACL-014"}
    assert it.seen()["ACL-014"].problem == "error"


def test_client_certificates(shipped, host, net, wrong):
    ca = {"client_ca": "/etc/rocksalt/access/clients.pem"}
    host.put(ca["client_ca"], "in PEM")
    access_hosts.put_files(host, access_hosts.comparison(shipped, host, net, access=ca))
    assert wrong(access=ca) == {"ACL-011": "without a certificate: served"}
    net.answers = dataclasses.replace(net.answers, modern=knocking.NEED_CERTIFICATE)
    assert wrong(access=ca) == {}


@pytest.mark.parametrize(
    ("address", "listens", "asked"),
    [("0.0.0.0", "0.0.0.0:8000", "127.0.0.1"), ("::", "*:8000", "::1")],
)
def test_every_address_is_less_than_the_baseline_wants(shipped, host, net, address, listens, asked):
    wide = {"address": address, "any_address": True}
    access_hosts.put_files(host, access_hosts.comparison(shipped, host, net, access=wide))
    access_hosts.listening(host, listens)
    found = statuses(shipped, host, net, access=wide)
    assert only(found, "drift") == {"ACL-010"}
    assert "any_address is True" in found["ACL-010"][1]
    assert net.asked[-1] == (asked, 8000)


def test_root_is_never_who_runs_it(shipped, host, net):
    host.put(MAIN, "user: root\n", 0o640)
    host.owners.update({"/proc/700": "root", "/proc/710": "root"})
    found = statuses(shipped, host, net, access={"user": "root"})
    assert found["ACL-002"][0] == "drift"
    assert "hardening:access:user is root" in found["ACL-002"][1]


def test_what_root_compiles_is_not_foreign(shipped, host, net):
    host.put(MAIN, "user: root\n", 0o640)
    host.put(f"{door.PACKAGE_DIR}/__pycache__/filter.cpython-311.pyc")
    assert "ACL-008" not in access_hosts.wrong(access_hosts.comparison(shipped, host, net))


def test_what_was_put_aside_is_no_part_of_the_door(host, net, wrong):
    host.put(f"{door.AUTH_DIR}/easy.py{ASIDE}")
    assert wrong() == {}


def test_a_newer_program_needs_a_start(host, net, wrong):
    host.put("/usr/bin/salt-master")
    assert wrong() == {}
    access_hosts.units(host, started=0)
    time.sleep(0.05)  # a file has the time of the last tick
    host.put("/usr/bin/salt-master")
    assert wrong() == {
        "ACL-005": "salt-master.service was not started since /usr/bin/salt-master changed"
    }


# Who is trusted -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "files", "words"),
    [
        ("autosign_file: /etc/salt/auto\n", {"/etc/salt/auto": "# none\nweb*\n"}, "autosign_file"),
        ("autosign_file: /etc/salt/auto\n", {"/etc/salt/auto": "# none\n\n"}, ""),
        ("autosign_file: /etc/salt/auto\n", {}, ""),
        ("autosign_grains_dir: /etc/salt/g\n", {"/etc/salt/g/uuid": "1"}, "/etc/salt/g/uuid"),
        (
            "reactor: [{'salt/auth': [/srv/salt/new.sls]}]\n",
            {"/srv/salt/new.sls": REACTION},
            "reactor salt/auth: /srv/salt/new.sls",
        ),
        (
            "reactor: [{'salt/auth': 'salt://new.sls?saltenv=base'}]\n",
            {"/srv/salt/new.sls": REACTION},
            "reactor salt/auth: /srv/salt/new.sls",
        ),
        ("reactor: [{'a/*': [salt://gone.sls]}]\n", {}, "salt://gone.sls cannot be read here"),
        ("reactor: [{'a/*': [/x.sls]}]\n", {"/x.sls": "x: {}\n"}, "does not name: reactor a/*"),
    ],
)
def test_keys_that_are_accepted_unseen(host, net, wrong, config, files, words):
    put(LATER, config)(host, net)
    for path, text in files.items():
        host.put(path, text)
    found = wrong()
    assert {*found} == ({"ACL-015"} if words else set())
    assert words in found.get("ACL-015", "")


def test_a_file_of_include_replaces_ours(host, net, wrong):
    """Salt takes it last, and whole keys of it."""
    put(MAIN, "user: salt\ninclude: [more/x.conf]\n")(host, net)
    put("/etc/salt/more/x.conf", "external_auth: {pam: {ann: ['.*']}}\n")(host, net)
    found = wrong()
    assert {*found} == {"ACL-004"}
    assert 'ann of pam may ".*" (/etc/salt/more/x.conf)' in found["ACL-004"]
    assert "alice of rocksalt_file has not all the rights that are declared" in found["ACL-004"]


def test_what_the_main_file_says_has_no_effect(host, net, wrong):
    put(MAIN, "user: salt\nauto_accept: true\nexternal_auth: {pam: {ann: ['.*']}}\n")(host, net)
    assert wrong() == {}


def test_emergency(shipped, host, net, wrong):
    today = dt.datetime.now(dt.timezone.utc).date()

    def granted(days):
        grant = {
            "role": "break-glass", "targets": ["db1"], "reason": "the disk is full",
            "until": str(today + dt.timedelta(days=days)),
        }  # fmt: skip
        people = {
            "users": {"eve": {"grants": [grant]}},
            "hashes": {"eve": access_hosts.hashed("x")},
        }
        access_hosts.put_files(host, access_hosts.comparison(shipped, host, net, access=people))
        return wrong(access=people)

    assert granted(-1) == {}
    assert granted(0) == {"ACL-022": f"eve has break-glass until {today}: the disk is full"}


# The review ---------------------------------------------------------------------------------------


def reviewed(days):
    """A change of a host: its settings were reviewed so many days ago."""
    return lambda shipped, host, it: access_hosts.review(host, it, days)


def edited(shipped, host, it):
    (path,) = host.glob(f"{signing.BASE}/reviews/*.json")
    host.path(path).write_text(host.read(path).replace("ann", "bob"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (reviewed(89), ""),
        (reviewed(91), r"^ann reviewed at [-0-9]+T[:0-9]+Z: salt-run access.review sign=NAME$"),
        (reviewed(-1), "^ann reviewed at "),
        (
            lambda shipped, host, it: shutil.rmtree(host.path(f"{signing.BASE}/reviews")),
            "^nobody has reviewed the rights yet: salt-run access.review sign=NAME$",
        ),
        (edited, "reviews/.*json "),
        (
            lambda shipped, host, it: host.path(f"{signing.BASE}/review.key.pub").unlink(),
            "reviews/.*json ",
        ),
    ],
)
def test_reviews(shipped, host, net, change, words):
    it = access_hosts.comparison(shipped, host, net)
    change(shipped, host, it)
    found = access_hosts.wrong(access_hosts.comparison(shipped, host, net))
    assert {*found} == ({"ACL-023"} if words else set())
    assert re.search(words, found.get("ACL-023", "")), found


def grants(*given):
    return {"users": {"alice": {"grants": list(given)}}}


ALICE = {"role": "deployer", "targets": ["web*"], "apps": ["shop"]}


@pytest.mark.parametrize(
    ("pillar", "new"),
    [
        (grants(ALICE, {**ALICE, "targets": ["db1"]}), ["alice is deployer on db1 for shop"]),
        (
            grants({**ALICE, "until": "2099-01-01"}),
            ["alice is deployer on web* for shop until 2099-01-01"],
        ),
        (grants(ALICE, {**ALICE, "targets": ["db1"], "until": "2026-01-01"}), []),
        (grants(), []),
        ({"groups": {"ops": {"grants": [ALICE]}}}, ["group ops is deployer on web* for shop"]),
        ({"roles": {"auditor": {"functions": ["cmd.run"]}}}, ["role auditor is another"]),
        ({"roles": {"idle": {"functions": ["cmd.run"]}}}, []),
        ({"apps": {"shop": {"version": ".+"}}}, ["app shop is another"]),
        ({"backend": "ldap"}, ["ldap says who somebody is"]),
        ({"token_hours": 3}, []),
        ({"apps": {"shop": {"timeout": 900}}}, []),
    ],
)
def test_rights_that_are_new_since_the_review(shipped, host, net, pillar, new):
    seen = access_hosts.comparison(shipped, host, net, access=pillar).seen()["ACL-023"]
    assert seen.actual == {"last review": "within 90 days", "not reviewed": new}
    assert not new or f"not reviewed is: {', '.join(new)}: salt-run" in seen.reason


def test_a_record_that_holds_no_rights_cannot_be_judged(shipped, host, net):
    base = str(host.path(signing.BASE))
    signing.sign("ann", {"described": []}, access_hosts.NOW, base=base)
    seen = access_hosts.comparison(shipped, host, net).seen()["ACL-023"]
    assert seen.problem == "error" and "cannot be looked at" in seen.reason


# Trees --------------------------------------------------------------------------------------------


def test_links_lead_to_other_trees(host, net, wrong):
    host.put("/srv/modules/mine.py", "", 0o666)
    host.path("/srv/salt/_modules").symlink_to("../modules")
    host.path("/srv/salt/gone").symlink_to("../nowhere")
    assert {*wrong()} == {"ACL-019"}
    host.path("/srv/modules/mine.py").chmod(0o644)
    assert wrong() == {}


def test_many_paths_are_cut_short(shipped, host, net):
    for number in range(30):
        host.put(f"/srv/salt/{number:02}.sls", "", 0o666)
    seen = access_hosts.comparison(shipped, host, net).seen()["ACL-019"]
    assert len(seen.actual) == 21 and seen.actual[-1] == "and 10 more"
    assert seen.reason.endswith("and 26 more")


def test_too_many_to_look_at(shipped, host, net, monkeypatch):
    monkeypatch.setattr(guarding, "MOST", 5)
    seen = access_hosts.comparison(shipped, host, net).seen()["ACL-019"]
    assert seen.problem == "error" and "more than 5 files" in seen.reason


def test_lists_of_more_people(shipped, host, net, monkeypatch):
    """An ACL of the file system counts, whatever the mode says."""
    listed = ("/srv/salt/top.sls", f"{PKI}/master.pem", KEY, access.USERS)
    names = {str(host.path(path)) for path in listed}
    real = guarding.permissions.os.listxattr

    def listxattr(path, follow_symlinks=True):
        if str(path) in names:
            return ["system.posix_acl_access"]
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(guarding.permissions.os, "listxattr", listxattr)
    found = access_hosts.wrong(access_hosts.comparison(shipped, host, net))
    assert {*found} == {"ACL-013", "ACL-014", "ACL-018", "ACL-019"}


def test_what_fails_hides_no_other_control(shipped, host, net, monkeypatch):
    def fails(it):
        raise TypeError("odd")

    monkeypatch.setitem(checks.CHECKS, "ACL-017", (lambda it: 1, fails))
    found = access_hosts.wrong(access_hosts.comparison(shipped, host, net))
    assert found == {"ACL-017": "this cannot be looked at: TypeError: odd"}


def test_whose_group():
    assert (facts.group_of("root"), facts.group_of("nobody-of-that-name")) == (
        "root",
        "nobody-of-that-name",
    )


# Algorithms ---------------------------------------------------------------------------------------


def test_old_algorithms_are_less_than_the_baseline_wants(shipped, host, net):
    old = {"signing_algorithm": "PKCS1v15-SHA1"}
    access_hosts.put_files(host, access_hosts.comparison(shipped, host, net, access=old))
    found = statuses(shipped, host, net, access=old)
    assert only(found, "drift") == {"ACL-016"}


def test_a_cluster_keeps_its_keys_elsewhere(host, net, wrong):
    put(LATER, "cluster_id: one\ncluster_pki_dir: /shared/pki\n")(host, net)
    host.put("/shared/pki/minions_pre/web9", "key")
    access_hosts.age(host, "/shared/pki/minions_pre/web9", 3)
    assert {*wrong()} == {"ACL-020"}
