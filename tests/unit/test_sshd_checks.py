"""rocksalt.sshd.reading and checks: one look at a host, and what each control makes of it."""

from __future__ import annotations

import os
import time

import pytest

from rocksalt import findings, sshd
from rocksalt.errors import Refused
from rocksalt.sshd import checks, config, reading

FOREIGN = f"{sshd.FOLDER}/50-cloud-init.conf"
OPTION = "sshd: /usr/sbin/sshd -D -o PermitRootLogin=yes [listener] 0 of 10-60 startups"
SECOND = "sshd: /usr/sbin/sshd -p 2222 [listener] 0 of 10-100 startups"
ELSEWHERE = "/srv/extra.conf"
DIRECTIVES = "SSHD-1"


def judged(host, it) -> dict[str, tuple[str, str]]:
    """Control id -> (status, reason) of all that are not ok; cloud-init is on no host here."""
    found = findings.judge(it.baseline, "sshd", it.expected(), it.seen(host))
    return {f["id"]: (f["status"], f["reason"]) for f in found if f["status"] != "ok"}


def test_a_hardened_host(ssh_host, look):
    it = look(ssh_host)
    assert judged(ssh_host, it) == {"SSHD-014": ("skipped", "cloud-init is not installed")}
    assert not ssh_host.path("/run/sshd").exists(), "it was made for the occasion"


def write(path, text, mode=0o600):
    return lambda host: host.put(path, text, mode)


def main_file(text):
    return write(sshd.MAIN, text)


def reown(path, mode, owner="root"):
    def change(host):
        host.path(path).chmod(mode)
        host.owners[path] = owner

    return change


def touch_later(path):
    def change(host):
        future = time.time() + 600
        os.utime(host.path(path), (future, future))

    return change


def both(*changes):
    def change(host):
        for one in changes:
            one(host)

    return change


def append(path, text):
    return lambda host: host.put(path, host.read(path) + text, 0o600)


def process(pid, title, **other):
    return lambda host: host.process(pid, title, **other)


def link(path, target):
    def change(host):
        host.remove(path)
        host.path(path).symlink_to(os.path.relpath(host.path(target), host.path(path).parent))

    return change


def effective(old, new):
    return lambda host: host.effective(old, new)


def matched(old, new):
    """What sshd -T says for some connection: the options come before -C."""

    def change(host):
        host.effective(old, new)
        host.answers[("/usr/sbin/sshd", "-T", "-C")] = host.answers[("/usr/sbin/sshd", "-T")]
        host.effective()

    return change


CASES = {
    "drop-in edited": (
        append(sshd.DROP_IN, "X11Forwarding yes\n"),
        {"SSHD-001": "00-rocksalt.conf was edited: 'X11Forwarding yes' was added"},
    ),
    "drop-in readable": (
        reown(sshd.DROP_IN, 0o644),
        {
            "SSHD-001": "access is root:root 0644, expected root:root 0600",
            "SSHD-008": "00-rocksalt.conf is root:root 0644",
        },
    ),
    "drop-in missing": (
        lambda host: host.remove(sshd.DROP_IN),
        {"SSHD-001": "00-rocksalt.conf does not exist"},
    ),
    "line above the Include": (
        both(
            main_file(f"PermitRootLogin yes\n{sshd.INCLUDE}\n"),
            effective("permitrootlogin no", "PermitRootLogin yes"),
        ),
        {
            "SSHD-002": "/etc/ssh/sshd_config line 1 is read before the Include of",
            "SSHD-101": "PermitRootLogin yes is set in /etc/ssh/sshd_config line 1",
        },
    ),
    "Include missing": (
        main_file("UsePAM yes\n"),
        # The drop-in is not read, but the recorded answer of sshd still is the good one.
        {"SSHD-002": "does not include /etc/ssh/sshd_config.d/*.conf, so our file is not read"},
    ),
    "Include of one file only": (
        main_file(f"Include {sshd.DROP_IN}\n"),
        {"SSHD-002": "does not include"},
    ),
    "a relative Include": (main_file("Include sshd_config.d/*.conf\n"), {}),
    "nobody can log in": (
        lambda host: host.remove("/home/ann/.ssh/authorized_keys"),
        {"SSHD-003": "no account but root has an authorised key"},
    ),
    "foreign line without effect": (
        write(FOREIGN, "# cloud\nPasswordAuthentication yes\n"),
        {"SSHD-004": f"PasswordAuthentication yes ({FOREIGN} line 2"},
    ),
    "foreign line that agrees": (write(FOREIGN, "PasswordAuthentication no\n"), {}),
    "foreign line that adds up": (
        both(
            write(FOREIGN, "AllowGroups everybody\n"),
            effective("allowgroups sudo", "allowgroups sudo\nallowgroups everybody"),
        ),
        {"SSHD-108": f"AllowGroups everybody is set in {FOREIGN} line 1"},
    ),
    "Match block that weakens": (
        both(
            append(sshd.MAIN, "Match User git\nPasswordAuthentication yes\n"),
            matched("passwordauthentication no", "passwordauthentication yes"),
        ),
        {"SSHD-005": "Match User git), weakening the baseline for the connections it matches"},
    ),
    "Match block without effect": (
        both(
            append(sshd.MAIN, "Match User git\nPasswordAuthentication yes\n"),
            matched("", ""),
        ),
        {"SSHD-004": "Match User git), without effect as long as our file is read first"},
    ),
    "Match block for which no connection can be made up": (
        append(sshd.MAIN, "Match Group empty\nPermitRootLogin yes\n"),
        {"SSHD-005": "PermitRootLogin yes"},
    ),
    "Match block that weakens with lines that nobody could read": (
        both(
            append(sshd.MAIN, "Match User git\n"),
            matched("x11forwarding no", "x11forwarding yes"),
        ),
        {"SSHD-005": "X11Forwarding yes (Match User git)"},
    ),
    "Match block that weakens in a line and beyond it": (
        both(
            append(sshd.MAIN, "Match User git\nPasswordAuthentication yes\n"),
            matched(
                "passwordauthentication no\nkbdinteractiveauthentication no",
                "passwordauthentication yes\nkbdinteractiveauthentication yes",
            ),
        ),
        {"SSHD-005": "it matches; KbdInteractiveAuthentication yes (Match User git)"},
    ),
    "Match block that strengthens": (
        both(
            append(sshd.MAIN, "Match User git\n"),
            matched("", ""),
            effective("x11forwarding no", "x11forwarding yes"),
        ),
        {"SSHD-142": "X11Forwarding yes"},
    ),
    "Match block about something else": (
        append(sshd.MAIN, "Match User git\nForceCommand /bin/git\n"),
        {},
    ),
    "file newer than the daemon": (
        touch_later(FOREIGN.replace("50-cloud-init", "00-rocksalt")),
        {"SSHD-006": "sshd last read its configuration before /etc/ssh/sshd_config.d/00-rocksalt"},
    ),
    "host key newer than the daemon": (
        touch_later("/etc/ssh/ssh_host_rsa_key"),
        {"SSHD-006": "before /etc/ssh/ssh_host_rsa_key changed"},
    ),
    "failed reload": (
        lambda host: host.units("ReloadResult=success", "ReloadResult=exit-code"),
        {"SSHD-006": "the last reload failed"},
    ),
    "stopped": (
        lambda host: host.units("ActiveState=active", "ActiveState=failed"),
        {"SSHD-006": "sshd is not running", "SSHD-013": "active is no, expected yes"},
    ),
    "not started at boot": (
        lambda host: host.units("UnitFileState=enabled", "UnitFileState=disabled"),
        {"SSHD-013": "enabled is no, expected yes"},
    ),
    "systemd does not answer": (
        lambda host: host.answer("systemctl show ssh.service", status=1),
        {
            "SSHD-006": "sshd is not running",
            "SSHD-007": "process 100, not started by systemd, listens with options none",
            "SSHD-013": "active is no",
        },
    ),
    "a second sshd": (
        process(200, SECOND),
        {"SSHD-007": "process 200, not started by systemd, listens with options -p 2222"},
    ),
    "a second sshd whose program is gone": (
        process(200, SECOND, program="/opt/sshd (deleted)"),
        {"SSHD-007": "process 200, not started by systemd"},
    ),
    "a second sshd of another unit": (
        process(200, SECOND, unit="rescue.service"),
        {"SSHD-007": "process 200, started by rescue.service, listens with options -p 2222"},
    ),
    "a second sshd that a unit's main process started": (
        both(
            process(200, SECOND, unit="cron.service"),
            lambda host: host.answer("systemctl show --property=MainPID --value", "150\n"),
            lambda host: host.answers.pop(
                ("systemctl", "show", "--property=MainPID", "--value", "cron.service")
            ),
        ),
        {"SSHD-007": "process 200, not started by systemd"},
    ),
    "sshd of a container": (process(200, SECOND, namespace="pid:[2]"), {}),
    "a forged title": (process(200, SECOND, owner="mallory"), {}),
    "another program with that title": (process(200, SECOND, program="/usr/bin/perl5"), {}),
    "a session and a program that is none": (
        both(process(200, "sshd: ann [priv]"), process(201, "grep sshd: x [listener]")),
        {},
    ),
    "upgraded and not yet restarted": (
        process(100, "sshd: /usr/sbin/sshd -D [listener]", program="/usr/sbin/sshd (deleted)"),
        {},
    ),
    "another program": (
        process(100, "sshd: /opt/bin/sshd -D [listener]", program="/opt/bin/sshd"),
        {"SSHD-007": "ssh.service runs /opt/bin/sshd"},
    ),
    "a command line that is too long for the title": (
        process(100, f"/usr/sbin/sshd -D -p 22 -o Banner=/{'x' * 5000}"),
        {"SSHD-007": "sshd was started with -p 22 -o Banner=/xxx"},
    ),
    "a command line with half a quote": (
        process(100, "/usr/sbin/sshd -D -o Banner='x"),
        {"SSHD-007": "sshd was started with -o Banner='x"},
    ),
    "configuration of somebody": (
        reown(sshd.MAIN, 0o600, "ann"),
        {"SSHD-008": "/etc/ssh/sshd_config is ann:ann 0600, expected root:root 0600"},
    ),
    "folder of drop-ins open to all": (
        reown(sshd.FOLDER, 0o777),
        {"SSHD-008": f"{sshd.FOLDER} is root:root 0777, expected root:root 0755"},
    ),
    "file that is included from elsewhere": (
        both(
            append(sshd.MAIN, f"Include {ELSEWHERE}\n"),
            write(ELSEWHERE, "PrintMotd no\n", 0o666),
        ),
        {"SSHD-008": f"{ELSEWHERE} is root:root 0666, expected root:root 0600"},
    ),
    "link out of /etc/ssh": (
        both(write(ELSEWHERE, "PrintMotd no\n"), link(FOREIGN, ELSEWHERE)),
        {"SSHD-008": f"{FOREIGN} is link to {ELSEWHERE}, expected root:root 0600"},
    ),
    "link within /etc/ssh": (
        both(write("/etc/ssh/extra", "PrintMotd no\n"), link(FOREIGN, "/etc/ssh/extra")),
        {},
    ),
    "drop-in that is a link to the right text": (
        both(
            lambda host: host.put(ELSEWHERE, host.read(sshd.DROP_IN), 0o600),
            link(sshd.DROP_IN, ELSEWHERE),
        ),
        {"SSHD-008": f"00-rocksalt.conf is link to {ELSEWHERE}"},
    ),
    "host key readable": (
        reown("/etc/ssh/ssh_host_rsa_key", 0o640),
        {"SSHD-009": "/etc/ssh/ssh_host_rsa_key is root:root 0640"},
    ),
    "short host key": (
        lambda host: host.host_key("RSA", "rsa", 2048),
        {"SSHD-010": "/etc/ssh/ssh_host_rsa_key (RSA 2048) is weak"},
    ),
    "DSA host key": (
        lambda host: host.host_key("DSA", "dsa", 1024),
        {"SSHD-010": "/etc/ssh/ssh_host_dsa_key (DSA 1024) is weak"},
    ),
    "host key missing": (
        lambda host: host.answer(
            f"ssh-keygen -l -f {host.path('/etc/ssh/ssh_host_ecdsa_key')}", status=255
        ),
        {"SSHD-010": "/etc/ssh/ssh_host_ecdsa_key is missing"},
    ),
    "host key elsewhere": (
        both(
            effective("hostkey /etc/ssh/ssh_host_rsa_key", "hostkey /srv/key"),
            lambda host: host.put("/srv/key", "private", 0o600),
            lambda host: host.answer(
                f"ssh-keygen -l -f {host.path('/srv/key')}", "256 SHA256:x no comment (ED25519)"
            ),
        ),
        {"SSHD-127": "HostKey is right in"},
    ),
    "small groups": (
        append(sshd.MODULI, "20230101000000 2 6 100 2047 2 ABC\n"),
        {"SSHD-011": "1 groups of /etc/ssh/moduli"},
    ),
    "no moduli at all": (lambda host: host.remove(sshd.MODULI), {}),
    "socket": (
        lambda host: host.units(
            "ActiveState=inactive\nUnitFileState=disabled", "ActiveState=active\nUnitFileState=x"
        ),
        {"SSHD-012": "ssh.socket starts sshd"},
    ),
    "socket at the next boot": (
        lambda host: host.units("UnitFileState=disabled", "UnitFileState=enabled"),
        {"SSHD-012": "ssh.socket starts sshd"},
    ),
    "cloud-init": (
        write("/etc/cloud/cloud.cfg", ""),
        {"SSHD-014": "/etc/cloud/cloud.cfg.d/zz-rocksalt-sshd.cfg does not exist"},
    ),
    "cloud-init reined in": (
        both(
            write("/etc/cloud/cloud.cfg", ""),
            write(
                "/etc/cloud/cloud.cfg.d/zz-rocksalt-sshd.cfg",
                "# Written by rocksalt; a change here is drift and state.apply hardening.sshd"
                " undoes it.\n"
                "allow_public_ssh_keys: false\ndisable_root: true\n"
                "ssh_genkeytypes: [ed25519, ecdsa, rsa]\nssh_pwauth: false\nusers: []\n",
            ),
        ),
        {"SSHD-014": None},
    ),
    "another banner": (
        write(sshd.BANNER, "Welcome to web1, Debian 12!\n"),
        {"SSHD-015": "/etc/ssh/rocksalt-banner was edited"},
    ),
    "no banner": (
        lambda host: host.remove(sshd.BANNER),
        {"SSHD-015": "/etc/ssh/rocksalt-banner does not exist"},
    ),
    "default in force": (
        both(
            lambda host: host.put(
                sshd.DROP_IN, host.read(sshd.DROP_IN).replace("MaxAuthTries 4\n", ""), 0o600
            ),
            effective("maxauthtries 4", "maxauthtries 6"),
        ),
        {
            "SSHD-001": "00-rocksalt.conf was edited: 'MaxAuthTries 4' is missing",
            "SSHD-131": "MaxAuthTries is set nowhere, so the default of OpenSSH applies",
        },
    ),
    "another port": (
        both(effective("port 22\n", "port 22\nport 2222\n"), write(FOREIGN, "Port 2222\n")),
        {"SSHD-160": f"Port 2222 is set in {FOREIGN} line 1"},
    ),
    "cipher added": (
        effective("ciphers chacha20", "ciphers 3des-cbc,chacha20"),
        {"SSHD-120": f"Ciphers is right in {sshd.DROP_IN} line"},
    ),
    "another file of groups": (
        effective("modulifile /etc/ssh/moduli", "modulifile /srv/moduli"),
        {"SSHD-122": f"ModuliFile is right in {sshd.DROP_IN} line"},
    ),
    "path in another case": (
        effective("authorizedkeysfile .ssh/", "authorizedkeysfile .SSH/"),
        {"SSHD-109": f"AuthorizedKeysFile is right in {sshd.DROP_IN} line"},
    ),
    "answer in another case": (effective("permitrootlogin no", "permitrootlogin No"), {}),
}


@pytest.mark.parametrize(("change", "drift"), CASES.values(), ids=CASES)
def test_must_change(ssh_host, look, change, drift):
    change(ssh_host)
    found = judged(ssh_host, look(ssh_host))
    expected = {"SSHD-014": "cloud-init is not installed", **drift}
    assert sorted(found) == sorted(i for i, words in expected.items() if words)
    for identifier, (status, reason) in found.items():
        assert expected[identifier] in reason
        assert status == ("skipped" if "not installed" in reason else "drift")


@pytest.mark.parametrize(
    ("change", "identifier", "remedy"),
    [
        (process(100, OPTION), "SSHD-007", "state"),
        (process(200, SECOND), "SSHD-007", "state"),
        (process(200, SECOND, unit="rescue.service"), "SSHD-007", "manual"),
        (process(100, "sshd: x -D [listener]", program="/opt/sshd"), "SSHD-007", "manual"),
        (
            both(process(200, SECOND, unit="rescue.service"), process(201, SECOND)),
            "SSHD-007",
            "state",
        ),
        (
            both(write(ELSEWHERE, "PrintMotd no\n"), link(FOREIGN, ELSEWHERE)),
            "SSHD-008",
            "manual",
        ),
        (
            both(
                write(ELSEWHERE, "PrintMotd no\n"),
                link(FOREIGN, ELSEWHERE),
                reown(sshd.FOLDER, 0o777),
            ),
            "SSHD-008",
            "state",
        ),
        (
            both(write(ELSEWHERE, "PrintMotd no\n"), link(sshd.DROP_IN, ELSEWHERE)),
            "SSHD-008",
            "state",
        ),
    ],
)
def test_who_can_help(ssh_host, look, change, identifier, remedy):
    change(ssh_host)
    it = look(ssh_host)
    found = findings.judge(it.baseline, "sshd", it.expected(), it.seen(ssh_host))
    (finding,) = [f for f in found if f["id"] == identifier]
    assert (finding["status"], finding["remedy"]) == ("drift", remedy)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("-o Banner=none -oUsePAM=no", "-o Banner=none -o UsePAM=no"),
        ("-p 22 -p2222 -4 -6", "-p 22 -p 2222 -4 -6"),
        ("-f /srv/conf -h /srv/key -c /srv/cert", "-f /srv/conf -h /srv/key -c /srv/cert"),
        ("-E /etc/passwd -e -d -R -i -t -G -C user=x -g 9 -p 22", "-p 22"),
        ("-D -q -o", ""),
    ],
)
def test_only_harmless_options_are_tried(ssh_host, options, asked):
    ssh_host.process(100, f"sshd: /usr/sbin/sshd {options} [listener] 0 of 10")
    ssh_host.ran.clear()
    reading.read(ssh_host)
    calls = [call for call in ssh_host.ran if call[0] == "/usr/sbin/sshd"]
    assert calls == [("/usr/sbin/sshd", "-T", *asked.split())]


@pytest.mark.parametrize("other", [{}, {"owner": "mallory"}, {"unit": "rescue.service"}])
def test_options_of_other_listeners_are_not_tried(ssh_host, other):
    """What counts is what the main daemon does."""
    ssh_host.process(100, OPTION)
    ssh_host.process(99, "sshd: /usr/sbin/sshd -o UsePAM=no [listener] 0 of 10", **other)
    ssh_host.ran.clear()
    reading.read(ssh_host)
    calls = [call for call in ssh_host.ran if call[0] == "/usr/sbin/sshd"]
    assert calls == [("/usr/sbin/sshd", "-T", "-o", "PermitRootLogin=yes")]


def test_options_on_the_command_line(ssh_host, look):
    ssh_host.process(100, OPTION)
    ssh_host.effective("permitrootlogin no", "PermitRootLogin yes")
    found = judged(ssh_host, look(ssh_host))
    assert found["SSHD-007"][1] == "sshd was started with -o PermitRootLogin=yes"
    assert found["SSHD-101"][1] == "the daemon was started with -o PermitRootLogin=yes"
    assert ("/usr/sbin/sshd", "-T", "-o", "PermitRootLogin=yes") in ssh_host.ran


def test_a_configuration_that_sshd_refuses_is_an_error_not_ok(ssh_host, look):
    ssh_host.answer("/usr/sbin/sshd -T", status=255, err="line 3: Bad\n configuration option\n")
    found = judged(ssh_host, look(ssh_host))
    directives = {i for i in found if i.startswith(DIRECTIVES)}
    assert len(directives) > 25
    assert {found[i] for i in directives} == {
        ("error", "sshd -T fails: line 3: Bad configuration option")
    }


def test_sshd_is_not_installed(host, look):
    found = judged(host, look(host))
    assert set(found.values()) == {("drift", "openssh-server is not installed")}
    assert len(found) == len(look(host).family.controls)


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        ("inactive\ninactive\n", False),
        ("failed\n", False),
        ("activating\ninactive\n", True),
        ("inactive\nactive\n", True),
    ],
)
def test_the_runtime_folder_of_a_server_that_starts_meanwhile_stays(ssh_host, answer, stays):
    ssh_host.answer("systemctl is-active ssh.service ssh.socket", answer)
    reading.test_mode(ssh_host)
    assert ssh_host.path(sshd.PRIVILEGE_SEPARATION).exists() == stays


def test_every_failure_of_a_control_gives_an_end(ssh_host, look):
    """Expected and seen speak of the same controls, all of them."""
    it = look(ssh_host)
    controls = set(it.family.controls)
    assert set(it.expected()) == set(it.seen(ssh_host)) == controls


# Rendered ----------------------------------------------------------------------------------------


def directives(text: str) -> list[tuple[str, str]]:
    lines = config.parse("p", lambda path: text, lambda pattern: [])
    return [(line.keyword, line.value) for line in lines]


def test_the_drop_in_says_what_sshd_then_does(ssh_host, look):
    effective = config.effective(ssh_host.run("/usr/sbin/sshd", "-T").out)
    found = directives(look(ssh_host).render())
    assert len(found) > 40
    for keyword, value in found:
        assert value in effective[keyword]


def test_the_drop_in_follows_the_settings(ssh_host, look):
    pillar = {
        "ports": [22, 2222],
        "listen_addresses": ["192.0.2.1", "2001:db8::1"],
        "allow_groups": ["ops", "admins"],
        "ciphers": ["aes256-ctr", "chacha20-poly1305@openssh.com", "aes192-ctr"],
    }
    found = directives(look(ssh_host, sshd=pillar).render())
    assert [value for keyword, value in found if keyword == "port"] == ["22", "2222"]
    assert [value for keyword, value in found if keyword == "listenaddress"] == [
        "192.0.2.1:22",
        "192.0.2.1:2222",
        "[2001:db8::1]:22",
        "[2001:db8::1]:2222",
    ]
    assert dict(found)["allowgroups"] == "admins ops"
    assert dict(found)["ciphers"] == "aes256-ctr,chacha20-poly1305@openssh.com", "none but offered"


def test_signatures_of_authorities_are_those_that_are_offered(ssh_host, look):
    names = ["ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"]
    found = dict(directives(look(ssh_host, sshd={"ca_signature_algorithms": names}).render()))
    assert found["casignaturealgorithms"] == "ssh-ed25519"


def test_no_cipher_is_left(ssh_host, look):
    with pytest.raises(Refused, match="offers none of the configured Ciphers: aes192-cbc"):
        look(ssh_host, sshd={"ciphers": ["aes192-cbc"]})


@pytest.mark.parametrize(
    ("family", "wildcards"),
    [
        ("any", ["0.0.0.0:22", "[::]:22"]),
        ("inet", ["0.0.0.0:22"]),
        ("inet6", ["[::]:22"]),
    ],
)
def test_an_address_family_that_is_off_is_not_listened_on(ssh_host, look, family, wildcards):
    ssh_host.effective("addressfamily any", f"addressfamily {family}")
    found = directives(look(ssh_host).render())
    assert [value for keyword, value in found if keyword == "listenaddress"] == wildcards


def test_waived_and_switched_off_controls_are_not_written(ssh_host, look, waiver):
    pillar = {
        "waivers": {"SSHD-102": waiver()},
        "sshd": {"controls": {"SSHD-140": {"off": "a jump host"}}},
    }
    it = look(ssh_host, **pillar)
    keywords = dict(directives(it.render()))
    assert not {"passwordauthentication", "allowtcpforwarding"} & set(keywords)
    assert {"permitrootlogin", "allowagentforwarding"} <= set(keywords)
    assert set(it.expected()) == set(it.family.controls)
    assert {"passwordauthentication", "allowtcpforwarding"} <= it.excused_keywords()
    assert "permitrootlogin" not in it.excused_keywords()


def test_what_may_not_be_enforced_yet_stays_as_it_is_on_disk(ssh_host, look):
    """Also where a keyword is there several times."""
    before = ssh_host.read(sshd.DROP_IN)
    pillar = {"ports": [2222], "allow_groups": ["ops"], "max_sessions": 5}
    it = look(ssh_host, sshd=pillar)
    guarded = {c.id for c in it.family.controls.values() if c.guarded}
    text = it.render(lambda identifier: identifier not in guarded)
    assert text == before.replace("MaxSessions 10", "MaxSessions 5")
    assert it.render().count("ListenAddress") == 2


def test_on_a_fresh_host_what_may_not_be_enforced_yet_is_left_out(ssh_host, look):
    ssh_host.remove(sshd.DROP_IN)
    it = look(ssh_host)
    text = it.render(lambda identifier: identifier != "SSHD-101")
    assert "PermitRootLogin" not in text
    assert "PasswordAuthentication no" in text


# Ways in -----------------------------------------------------------------------------------------


def test_the_door_is_the_one_that_we_want(ssh_host, look):
    ssh_host.effective("allowgroups sudo", "allowgroups everybody\nallowusers bob\ndenyusers eve")
    pillar = {"networks": {"management": ["10.0.0.0/8"]}, "sshd": {"required_rsa_size": 4096}}
    door = look(ssh_host, **pillar).door()
    assert (door.allow_groups, door.allow_users, door.deny_users) == (["sudo"], ["bob"], ["eve"])
    assert door.key_files == [".ssh/authorized_keys"]
    assert (door.least_rsa, door.management) == (4096, ["10.0.0.0/8"])
    assert "ssh-ed25519" in door.algorithms
    assert "ssh-rsa" not in door.algorithms


def test_the_door_of_waived_controls_is_the_one_on_the_host(ssh_host, look, waiver):
    ids = ("SSHD-108", "SSHD-109", "SSHD-124", "SSHD-126")
    ssh_host.answer(
        "/usr/sbin/sshd -T",
        "allowgroups ops\nallowgroups wheel\nauthorizedkeysfile .ssh/a .ssh/b\n"
        "pubkeyacceptedalgorithms ssh-rsa,ssh-dss\nrequiredrsasize 1024\n",
    )
    door = look(ssh_host, waivers={identifier: waiver() for identifier in ids}).door()
    assert door.allow_groups == ["ops", "wheel"]
    assert door.key_files == [".ssh/a", ".ssh/b"]
    assert (door.algorithms, door.least_rsa) == (["ssh-rsa", "ssh-dss"], 1024)


def test_the_door_of_a_host_that_says_nothing(ssh_host, look, waiver):
    ids = ("SSHD-108", "SSHD-109", "SSHD-124", "SSHD-126")
    ssh_host.answer("/usr/sbin/sshd -T", "port 22\n")
    door = look(ssh_host, waivers={identifier: waiver() for identifier in ids}).door()
    assert (door.algorithms, door.least_rsa) == (None, 1024)
    assert door.key_files == [".ssh/authorized_keys"]


@pytest.mark.parametrize(
    ("ports", "change", "refused"),
    [
        ([22], lambda host: None, ""),
        ([2222, 22], lambda host: None, ""),
        ([2222], lambda host: None, "sshd listens on port 22 alone, which hardening:sshd:ports"),
        (
            [2222],
            effective("port 22\n", "port 23\nport 22\n"),
            "sshd listens on port 22, 23 alone",
        ),
        ([2222], lambda host: host.units("ActiveState=active", "ActiveState=failed"), ""),
        (
            [22],
            lambda host: host.remove("/home/ann/.ssh/authorized_keys"),
            "no account but root has an authorised key",
        ),
    ],
)
def test_safe(ssh_host, look, ports, change, refused):
    change(ssh_host)
    seen = look(ssh_host, sshd={"ports": ports}).safe(ssh_host)
    assert seen.actual == (not refused)
    assert refused in seen.reason


def test_a_port_that_is_not_ours_to_set_is_no_obstacle(ssh_host, look, waiver):
    it = look(ssh_host, sshd={"ports": [2222]}, waivers={"SSHD-160": waiver()})
    assert it.safe(ssh_host).actual


# Small parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "ports", "family", "expected"),
    [
        ([], [22], "any", ["0.0.0.0:22", "[::]:22"]),
        ([], [22, 23], "inet", ["0.0.0.0:22", "0.0.0.0:23"]),
        ([], [22], "inet6", ["[::]:22"]),
        (["192.0.2.1"], [22, 23], "any", ["192.0.2.1:22", "192.0.2.1:23"]),
        (["::1"], [22], "inet", ["[::1]:22"]),
    ],
)
def test_listen_addresses(addresses, ports, family, expected):
    declared = {"listen_addresses": addresses, "ports": ports}
    assert checks.listen_addresses(declared, family) == expected


def test_moduli():
    strong, weak = "2023 2 6 100 3071 2 ABC", "2023 2 6 100 3070 2 ABC"
    assert checks.moduli_strong(f"# c\n{weak}\n{strong}\nrubbish\n") == f"# c\n{strong}\n"


@pytest.mark.parametrize(
    ("group", "passwd", "answer"),
    [
        ("ops:x:50:bob,eve", "", "bob"),
        ("ops:x:50:", "bad:x:1:50\nann:x:1:50::/home/ann:/bin/sh\n", "ann"),
    ],
)
def test_a_match_of_a_group_is_tried_with_a_member(ssh_host, group, passwd, answer):
    ssh_host.answer("getent group ops", f"{group}\n")
    ssh_host.put("/etc/passwd", passwd)
    ssh_host.put(sshd.MAIN, f"{sshd.INCLUDE}\nMatch Group ops\nPermitTTY no\n")
    assert list(reading.read(ssh_host).matched) == ["Group ops"]
    (spec,) = [command[-1] for command in ssh_host.ran if "-C" in command]
    assert spec.startswith(f"user={answer},")


def test_a_process_that_ends_meanwhile(ssh_host):
    ssh_host.path("/proc/300").mkdir()
    assert reading.daemon(ssh_host).strays == ()


def test_since_is_the_last_change_of_state(ssh_host):
    ssh_host.units(started_in=-3600)
    assert reading.daemon(ssh_host).since == pytest.approx(time.time() - 3600, abs=5)
