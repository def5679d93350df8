"""rocksalt.fail2ban: files, the server's answers and the packet filter against the settings."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import pickle
import re
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from rocksalt import fail2ban, settings
from rocksalt.errors import Refused, RocksaltError
from rocksalt.fail2ban import checks, config, enforce, jails, reading, rules
from rocksalt.fail2ban.server import Server, Silent

DUMP = (Path(__file__).parent / "data/fail2ban-d-hardened.txt").read_text()
MANAGEMENT = {"networks": {"management": ["10.79.0.1/32"]}}
END = b"<F2B_END_COMMAND>"
ASK = ("systemctl", "show", "fail2ban.service", "-p", "ActiveState,UnitFileState")
UP = "ActiveState=active\nUnitFileState=enabled\n"
TABLE = """\
*filter
:INPUT ACCEPT [0:0]
:f2b-sshd - [0:0]
:rocksalt-bans - [0:0]
-A INPUT -j rocksalt-bans
-A rocksalt-bans -p tcp -m multiport --dports 22 -j f2b-sshd
-A f2b-sshd -s {source} -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
COMMIT
"""
V4, V6 = TABLE.format(source="198.51.100.7/32"), TABLE.format(source="2001:db8::7/128")
STOCK = "[DEFAULT]\nusedns = warn\n[sshd]\nport = ssh\n"
JAIL_FILE, LATER = fail2ban.JAILS, "/etc/fail2ban/jail.d/zzz.local"


class Boom(Exception):
    """An error of the server's own kind."""


class FakeServer:
    """What the running server knows, answered over its socket."""

    def __init__(self, path: Path):
        commands = config.commands(DUMP)
        self.jails = copy.deepcopy(config.jails(commands))
        for jail in self.jails.values():
            jail |= {key: config.seconds(jail[key]) for key in ("findtime", "bantime")}
            jail["bantime.maxtime"] = config.seconds(jail["bantime.maxtime"])
        self.server = {
            **{"dbfile": fail2ban.DATABASE, "dbpurgeage": 604800},
            **{"loglevel": "INFO", "logtarget": "/var/log/fail2ban.log"},
        }
        self.bans = {"sshd": ["198.51.100.7", "2001:db8::7"]}
        self.hangs_up = False
        path.parent.mkdir(parents=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while True:
                asked = b""
                while not asked.endswith(END):
                    chunk = connection.recv(4096)
                    if not chunk:
                        return
                    asked += chunk
                if self.hangs_up:
                    return
                try:
                    answer = (0, self.value(*pickle.loads(asked)))
                except Exception:
                    answer = (1, Boom("no such thing"))
                data = pickle.dumps(answer) + END
                for start in range(0, len(data), 1000):
                    connection.sendall(data[start : start + 1000])

    def value(self, word, *words):
        if word == "status":
            return [("Number of jail", len(self.jails)), ("Jail list", ", ".join(self.jails))]
        if len(words) == 1:
            return self.server[words[0]]
        jail, key, *rest = words
        if key == "banip":
            return self.bans[jail]
        if key == "actions":
            return list(self.jails[jail]["actions"])
        if key == "actionproperties":
            return [*self.jails[jail]["actions"][rest[0]], "banEpoch"]
        if key == "action":
            return self.jails[jail]["actions"][rest[0]][rest[1]]
        return self.jails[jail].get(key)


@pytest.fixture
def banning(shipped, host):
    """A host on which every control of fail2ban is ok. Its folder has a short name: that of a
    socket has at most 108 characters.
    """
    root = Path(tempfile.mkdtemp(prefix="f2b"))
    host.root = str(root)
    host.put(fail2ban.CLIENT)
    host.put("/usr/sbin/iptables-save")
    host.put("/etc/fail2ban/jail.conf", STOCK)
    host.put("/etc/fail2ban/jail.d/defaults-debian.conf", "[sshd]\nenabled = true\n")
    host.put("/etc/fail2ban/fail2ban.conf", "[Definition]\nloglevel = INFO\ndbpurgeage = 1d\n")
    host.put("/etc/fail2ban/filter.d/sshd.conf", "filter")
    host.put("/etc/fail2ban/action.d/iptables.conf", "action")
    host.put(
        "/var/lib/dpkg/status",
        "Package: a\nConffiles:\n /etc/a 0\n\nPackage: fail2ban\nStatus: install ok installed\n"
        "Conffiles:\n /etc/fail2ban/filter.d/sshd.conf b2c97ae425dd751b0e48a3acae79cf4a\n"
        " /etc/fail2ban/action.d/iptables.conf 418c5509e2171d55b0aee5c2ea4442b5\n"
        f" /etc/fail2ban/jail.conf {hashlib.md5(STOCK.encode()).hexdigest()}\n"
        " /etc/fail2ban/jail.d/defaults-debian.conf 0\n\nPackage: z\n",
    )
    host.answer(" ".join(ASK), UP)
    host.answer(f"{fail2ban.CLIENT} -d", DUMP)
    host.answer(f"{fail2ban.CLIENT} -t", "OK: configuration test is successful\n")
    host.answer("iptables-save -t filter", V4)
    host.answer("ip6tables-save -t filter", V6)
    host.answer("systemctl")
    host.server = FakeServer(root / fail2ban.SOCKET[1:])
    for path, text in look(shipped, host).render().items():
        host.put(path, text, 0o600)
    yield host
    host.server.socket.close()
    shutil.rmtree(root)


def look(shipped, host, **pillar) -> checks.Fail2ban:
    baseline = settings.resolve(shipped, {**MANAGEMENT, **pillar}, {}, "web1")
    return checks.Fail2ban(baseline, reading.read(host), host)


@pytest.fixture
def differing(shipped):
    """Control id -> reason, of those that are not as expected."""

    def call(host, **pillar) -> dict[str, str]:
        it = look(shipped, host, **pillar)
        want, seen = it.expected(), it.seen()
        assert want.keys() == seen.keys() == it.family.controls.keys()
        return {i: seen[i].reason for i in want if seen[i].problem or want[i] != seen[i].actual}

    return call


def test_as_expected(banning, differing):
    assert differing(banning) == {}


def test_what_a_look_costs(banning, shipped):
    banning.ran.clear()
    look(shipped, banning)
    assert [command[0] for command in banning.ran] == [
        *("systemctl", "iptables-save", "ip6tables-save", fail2ban.CLIENT)
    ]


def jail(host):
    return host.server.jails["sshd"]


def act(host):
    return jail(host)["actions"]["iptables-multiport"]


RUNTIME = {
    "failures": (lambda h: jail(h).update(maxretry=50), {"F2B-007": "maxretry of sshd is 50, "}),
    "the window": (lambda h: jail(h).update(findtime=1), {"F2B-007": "findtime of sshd is 1, "}),
    "the ban": (lambda h: jail(h).update(bantime=1), {"F2B-008": "bantime of sshd is 1, "}),
    "a formula": (
        lambda h: jail(h).update({"bantime.formula": "1"}),
        {"F2B-008": "bantime.formula of sshd is 1, "},
    ),
    "growth": (
        lambda h: jail(h).update({"bantime.increment": False}),
        {"F2B-008": "bantime.increment of sshd is no, "},
    ),
    "an exception": (
        lambda h: jail(h).update(ignoreip=[*jail(h)["ignoreip"], "0.0.0.0/0", "office.example"]),
        {"F2B-009": "ignoreip of sshd: too much 0.0.0.0/0, office.example, "},
    ),
    "management": (
        lambda h: jail(h).update(ignoreip=["::1", "127.0.0.0/8"]),
        {"F2B-009": "ignoreip of sshd: missing 10.79.0.1/32, "},
    ),
    "a command": (
        lambda h: jail(h).update(ignorecommand="/bin/true"),
        {"F2B-009": "ignorecommand of sshd is /bin/true, "},
    ),
    "the log": (
        lambda h: jail(h).update(journalmatch=[["_SYSTEMD_UNIT=cron.service"]]),
        {
            "F2B-006": "journalmatch of sshd: too much _SYSTEMD_UNIT=cron.service, missing "
            "_SYSTEMD_UNIT=ssh.service, "
        },
    ),
    "the filter": (
        lambda h: jail(h)["failregex"].pop(),
        {"F2B-004": "the running server has not what its files say: failregex of sshd"},
    ),
    "the action": (
        lambda h: act(h).update(actionban="true"),
        {"F2B-004": "the running server has not what its files say: actionban of the action "},
    ),
    "the chain": (
        lambda h: act(h).update(chain="FORWARD"),
        {
            "F2B-004": "the running server has not what its files say: chain of the action ",
            "F2B-010": "action of sshd is iptables-multiport of tcp 22 in FORWARD, unlike in "
            "its files",
        },
    ),
    "the database": (
        lambda h: h.server.server.update(dbfile=None),
        {"F2B-012": "dbfile is empty, expected /var/lib/fail2ban/fail2ban.sqlite3"},
    ),
    "the log level": (
        lambda h: h.server.server.update(loglevel="CRITICAL"),
        {"F2B-013": "loglevel is CRITICAL, expected INFO"},
    ),
    "another jail": (
        lambda h: (h.server.jails.update(mine=jail(h)), h.server.bans.update(mine=[])),
        {"F2B-005": "the jail mine runs and is not declared"},
    ),
}


@pytest.mark.parametrize("name", RUNTIME)
def test_changed_in_the_running_server(banning, differing, name):
    change, reasons = RUNTIME[name]
    change(banning)
    found = differing(banning)
    assert found.keys() == reasons.keys()
    assert all(found[i].startswith(reason) for i, reason in reasons.items()), found


def test_a_stopped_jail(banning, differing):
    banning.server.jails.clear()
    found = differing(banning)
    assert sorted(found) == ["F2B-005", *(f"F2B-{n:03}" for n in range(6, 11))]
    assert set(found.values()) == {"the jail sshd does not run"}


def test_a_stopped_server(banning, differing):
    banning.path(fail2ban.SOCKET).unlink()
    banning.answer(" ".join(ASK), UP.replace("=active", "=inactive"))
    found = differing(banning)
    assert {i: r for i, r in found.items() if r != "fail2ban does not run"} == {"F2B-001": ""}
    assert "F2B-002" not in found and "F2B-003" not in found and "F2B-011" in found


def test_a_server_that_does_not_answer(banning, differing):
    banning.path(fail2ban.SOCKET).unlink()
    assert differing(banning)["F2B-001"] == (
        f"fail2ban does not answer: {fail2ban.SOCKET}: No such file or directory"
    )


def test_not_installed(host, differing):
    assert set(differing(host).values()) == {"fail2ban is not installed"}
    host.put(fail2ban.CLIENT)
    assert set(differing(host).values()) == {"iptables is not installed"}


FILES = {
    "our file is gone": (
        {JAIL_FILE: None},
        {"F2B-002": f"{JAIL_FILE} does not exist"},
    ),
    "our file is edited": (
        {fail2ban.SERVER: f"{config.HEADER}\n[Definition]\ndbfile = None\n"},
        {"F2B-002": f"{fail2ban.SERVER} was edited: 'allowipv6 = auto' is missing, "},
    ),
    "a later file": (
        {LATER: "[DEFAULT]\nmaxretry = 99\n\n[sshd]\nbantime = 1h\nmaxretry=50\n"},
        {"F2B-003": f"maxretry = 50 ({LATER} line 6, [sshd]) beats the baseline"},
    ),
    "an earlier file": ({"/etc/fail2ban/jail.local": "[sshd]\nmaxretry = 50\n"}, {}),
    "an option of the filter, in any file": (
        {"/etc/fail2ban/jail.local": "[DEFAULT]\nignoreregex = .*\n"},
        {
            "F2B-003": "ignoreregex = .* (/etc/fail2ban/jail.local line 2, [DEFAULT]) beats the "
            "baseline"
        },
    ),
    "a jail that nobody declared": (
        {"/etc/fail2ban/jail.d/a.conf": "[a]\nenabled = yes\n[b]\nenabled = false\n"},
        {"F2B-003": "enabled = yes (/etc/fail2ban/jail.d/a.conf line 2, [a]) beats the baseline"},
    ),
    "the server's options": (
        {"/etc/fail2ban/fail2ban.d/zzz.local": "[Definition]\nloglevel: ERROR\n"},
        {
            "F2B-003": "loglevel = ERROR (/etc/fail2ban/fail2ban.d/zzz.local line 2, [Definition]) "
            "beats the baseline"
        },
    ),
    "an edited action": (
        {"/etc/fail2ban/action.d/iptables.conf": "x"},
        {"F2B-015": "not as the package ships it: /etc/fail2ban/action.d/iptables.conf"},
    ),
    "a filter overlaid": (
        {"/etc/fail2ban/filter.d/sshd.local": "x"},
        {"F2B-015": "not as the package ships it: /etc/fail2ban/filter.d/sshd.local"},
    ),
    "the main file of jails": (
        {"/etc/fail2ban/jail.conf": f"{STOCK}ignoreregex = <HOST>\n"},
        {"F2B-015": "not as the package ships it: /etc/fail2ban/jail.conf"},
    ),
    "what is laid over paths": (
        {"/etc/fail2ban/paths-overrides.local": "[sshd]\nignoreregex = <HOST>\n"},
        {"F2B-015": "not as the package ships it: /etc/fail2ban/paths-overrides.local"},
    ),
    "IPv6 is switched off": (
        {"/etc/fail2ban/fail2ban.d/zzz.local": "[Definition]\nallowipv6 = no\n"},
        {
            "F2B-003": "allowipv6 = no (/etc/fail2ban/fail2ban.d/zzz.local line 2, [Definition]) "
            "beats the baseline"
        },
    ),
    "a filter of the site's own": ({"/etc/fail2ban/filter.d/mine.conf": "x"}, {}),
}


@pytest.mark.parametrize("name", FILES)
def test_changed_in_files(banning, differing, name):
    files, reasons = FILES[name]
    for path, text in files.items():
        if text is None:
            banning.remove(path)
        else:
            banning.put(path, text, 0o600)
    found = differing(banning)
    assert found.keys() == reasons.keys()
    assert all(found[i].startswith(reason) for i, reason in reasons.items()), found


def test_what_will_beat_us_is_told_before_our_file_is_there(banning, differing):
    banning.remove(JAIL_FILE)
    banning.put(LATER, "[sshd]\nmaxretry = 50\n")
    assert differing(banning).keys() == {"F2B-002", "F2B-003"}


def test_a_jail_that_is_switched_off_may_have_any_filter(banning, shipped):
    banning.put(LATER, "[sshd]\nfailregex = x\nenabled = no\n")
    it = look(shipped, banning, fail2ban={"jails": {"sshd": {"enabled": False}}})
    assert it.overruling() == []


def test_an_include_is_seen_by_what_it_does(banning, differing):
    banning.answer(f"{fail2ban.CLIENT} -d", DUMP.replace("'maxretry', 5", "'maxretry', 7"))
    banning.put("/etc/fail2ban/jail.d/a.conf", "[INCLUDES]\nafter = /srv/jails.conf\n")
    assert differing(banning) == {
        "F2B-003": "maxretry of sshd is 7 by an include of /etc/fail2ban/jail.d/a.conf"
    }


def test_files_that_fail2ban_does_not_read(banning, differing):
    logged = "2026-11-22 06:00:00,000 fail2ban [1]:"
    error = (
        f"{logged} WARNING No x\n{logged} ERROR   Failed: no headers.\nfile: 'a.local', line: 1\n"
        f"{logged} ERROR   Init of command line failed\n"
    )
    banning.answer(f"{fail2ban.CLIENT} -d", status=255, err=error)
    found = differing(banning)
    assert found.keys() == {"F2B-003", "F2B-004"}
    assert found["F2B-003"] == (
        "fail2ban does not read its files: Failed: no headers. file: 'a.local', line: 1"
    )


@pytest.mark.parametrize("path", ["/etc/fail2ban/action.d/iptables.conf", "/etc/fail2ban"])
def test_others_can_write(banning, differing, path):
    banning.path(path).chmod(0o775)
    assert differing(banning) == {"F2B-014": f"others than root can write {path} root:root 0775"}


def test_links_are_left_to_a_person(banning, shipped):
    banning.put("/srv/site.conf", "x", 0o666)
    for path, target in (("a.local", "/srv/site.conf"), ("b.local", None)):
        link = banning.path(f"/etc/fail2ban/filter.d/{path}")
        link.symlink_to(banning.path(target) if target else "/dev/null")
    it = look(shipped, banning)
    seen = it.seen()["F2B-014"]
    assert seen.actual == ["/etc/fail2ban/filter.d/a.local (a link) root:root 0666"]
    assert (seen.remedy, it.wrong_access()) == ("manual", {})


def test_many_bans_are_looked_up_quickly(banning, differing):
    addresses = [f"10.{n // 250}.{n % 250}.1" for n in range(10000)]
    banning.server.bans["sshd"] = addresses
    ban = "-A f2b-sshd -s {}/32 -j REJECT --reject-with icmp-port-unreachable\n"
    head, _, tail = V4.partition("-A f2b-sshd -s")
    rules_text = "".join(map(ban.format, addresses))
    banning.answer("iptables-save -t filter", f"{head}{rules_text}-A f2b-sshd -s{tail}")
    start = time.process_time()
    assert differing(banning) == {}
    assert time.process_time() - start < 2


SAVED = {4: "iptables-save -t filter", 6: "ip6tables-save -t filter"}
JUMP = "-p tcp -m multiport --dports 22 -j f2b-sshd"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-A f2b-sshd -s", "-A other -s", "198.51.100.7 (sshd): banned, yet no rule keeps it out"),
        ("-j REJECT", "-j ACCEPT", "198.51.100.7 (sshd): banned, yet no rule keeps it out; IPv4: "),
        ("-A rocksalt-bans -p", "-A FORWARD -p", "IPv4: rocksalt-bans does not lead to it by "),
        ("-A rocksalt-bans", "-A rocksalt-bans -j ACCEPT\n-A rocksalt-bans", "IPv4: rocksalt-ban"),
        (
            "COMMIT",
            "-A INPUT -p tcp -j f2b-sshd\nCOMMIT",
            "IPv4: INPUT leads to it by `-p tcp -j f2b-sshd`",
        ),
    ],
)
def test_a_ban_that_is_not_in_force(banning, differing, monkeypatch, old, new, reason):
    monkeypatch.setattr(reading, "_A_MOMENT", 0)
    banning.answer(SAVED[4], V4.replace(old, new))
    found = differing(banning)
    assert found.keys() == {"F2B-011"}
    assert found["F2B-011"].startswith(reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        *(
            (
                "-A f2b-sshd",
                f"-A f2b-sshd {rule}\n-A f2b-sshd",
                f"f2b-sshd has `{rule}`, which is no ban",
            )
            for rule in ("-p tcp -j RETURN", "-j ACCEPT", "-s 192.0.2.1/32 -j ACCEPT", "-j LOG")
        ),
        ("-A f2b-sshd -j RETURN\n", "", "f2b-sshd does not end with `-j RETURN`"),
        (
            f"-A rocksalt-bans {JUMP}\n",
            "",
            f"rocksalt-bans does not lead to it by `{JUMP}`",
        ),
        (
            "--dports 22",
            "--dports 2222",
            f"rocksalt-bans does not lead to it by `{JUMP}`; IPv6: rocksalt-bans leads to it by "
            "`-p tcp -m multiport --dports 2222 -j f2b-sshd`",
        ),
    ],
)
def test_what_leads_past_bans_is_seen_while_nobody_is_banned(banning, differing, old, new, reason):
    banning.server.bans["sshd"] = []
    empty = re.sub("-A f2b-sshd -s.*\n", "", V6)
    banning.answer(SAVED[4], V4)
    banning.answer(SAVED[6], empty)
    assert differing(banning) == {}
    banning.answer(SAVED[6], empty.replace(old, new, 1))
    assert differing(banning) == {"F2B-011": f"IPv6: {reason}"}


def test_a_jail_has_no_chain_before_its_first_ban(banning, differing):
    banning.server.bans["sshd"] = []
    for command in SAVED.values():
        banning.answer(command, "*filter\n:INPUT ACCEPT [0:0]\n:rocksalt-bans - [0:0]\nCOMMIT\n")
    assert differing(banning) == {}


@pytest.mark.parametrize("version", SAVED)
def test_bans_go_to_input_until_the_firewall_has_its_chain(banning, shipped, differing, version):
    """It may have been refused, and a jump from a chain that does not exist bans nobody."""
    banning.answer(SAVED[version], "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    it = look(shipped, banning)
    assert 'chain="INPUT"]' in it.render()[JAIL_FILE]
    assert differing(banning).keys() == {"F2B-002", "F2B-010", "F2B-011"}


def test_a_packet_filter_that_cannot_be_read_is_an_error(banning, shipped):
    banning.answer(SAVED[6], status=4, err="Permission denied\n")
    with pytest.raises(Refused, match="ip6tables-save failed: Permission denied"):
        look(shipped, banning)


def test_without_management_it_says_so(banning, shipped):
    it = look(shipped, banning, networks={})
    assert "hardening:networks:management is not set" in it.seen()["F2B-016"].reason
    assert it.family.controls["F2B-016"].remedy == "manual"


# What is written ----------------------------------------------------------------------------------


def test_a_jail_of_a_role(banning, shipped):
    nginx = {"filter": "nginx-http-auth", "ports": [80, 443], "logs": ["/var/log/nginx/*.log"]}
    pillar = {"jails": {"nginx": {**nginx, "max_retry": 3}, "sshd": {"enabled": False}}}
    text = look(shipped, banning, fail2ban=pillar).render()[JAIL_FILE]
    assert "[sshd]\nenabled = false\n" in text
    assert "filter = nginx-http-auth\nbackend = auto\njournalmatch =\n" in text
    assert "logpath = /var/log/nginx/*.log\nmaxretry = 3\n" in text
    assert (
        'action = iptables-multiport[port="80,443", protocol="tcp", chain="rocksalt-bans"]' in text
    )


def test_sshd_follows_its_ports_and_others_take_all(banning, shipped):
    pillar = {"sshd": {"ports": [22, 2222]}, "fail2ban": {"jails": {"vsftpd": {}}}}
    text = look(shipped, banning, **pillar).render()[JAIL_FILE]
    assert 'iptables-multiport[port="22,2222", ' in text
    assert 'iptables-allports[protocol="tcp", ' in text
    pillar["firewall"] = {"services": {"ssh": {"tcp": [22, 2222, 8022]}}}
    assert '[port="22,2222,8022", ' in look(shipped, banning, **pillar).render()[JAIL_FILE]
    assert "journalmatch = _SYSTEMD_UNIT=vsftpd.service" in text


def test_without_our_firewall_bans_go_to_input(banning, shipped):
    text = look(shipped, banning, firewall={"enabled": False}).render()[JAIL_FILE]
    assert 'protocol="tcp", chain="INPUT"]' in text


def test_no_ban_is_cut_short(banning, shipped):
    pillar = {"fail2ban": {"jails": {"sshd": {"ban_time": 2000000}}}}
    texts = look(shipped, banning, **pillar).render()
    assert "bantime.maxtime = 2000000" in texts[JAIL_FILE]
    assert "dbpurgeage = 2000000" in texts[fail2ban.SERVER]


def test_what_is_waived_is_left_out(banning, shipped, waiver):
    it = look(shipped, banning, waivers={"F2B-007": waiver(), "F2B-012": waiver()})
    texts = it.render()
    assert "maxretry" not in texts[JAIL_FILE] and "bantime = 3600" in texts[JAIL_FILE]
    assert "dbfile" not in texts[fail2ban.SERVER]
    jail(banning)["maxretry"] = 50
    assert it.overruling() == []


def test_a_jail_below_the_floor_is_drift_for_a_person(banning, shipped):
    it = look(shipped, banning, fail2ban={"jails": {"sshd": {"max_retry": 50}}})
    jail(banning)["maxretry"] = 50
    it = look(shipped, banning, fail2ban={"jails": {"sshd": {"max_retry": 50}}})
    seen = it.seen()["F2B-007"]
    assert seen.reason == (
        "hardening:fail2ban:jails:sshd:max_retry is 50: the greatest acceptable value is 10"
    )
    assert (seen.actual == it.expected()["F2B-007"], seen.remedy) == (False, "manual")


def test_settings_that_no_jail_can_have(banning, shipped):
    jails_ = {"My jail": {}, "sshd": {}, "web": {"ports": [80]}}
    pillar = {"fail2ban": {"jails": jails_}, "sshd": {"ports": [*range(2200, 2216)]}}
    baseline = settings.resolve(shipped, {**MANAGEMENT, **pillar}, {}, "web1")
    found = jails.problems(baseline)
    assert found == [
        "hardening:fail2ban:jails:sshd: closes more than 15 ports; list at most as many here",
        "hardening:fail2ban:jails:My jail: 'My jail' is no name of a jail: use up to 24 lower-case "
        "letters, digits and hyphens, a letter first",
    ]
    with pytest.raises(Refused, match="'My jail' is no name"):
        look(shipped, banning, **pillar)


@pytest.mark.parametrize("name", [5, True, None])
def test_a_name_that_is_no_string_is_told(shipped, name):
    with pytest.raises(RocksaltError, match=f"hardening:fail2ban:jails:{name}: "):
        pillar = {**MANAGEMENT, "fail2ban": {"jails": {name: {}}}}
        jails.declared(settings.resolve(shipped, pillar, {}, "web1"))


def test_an_unknown_filter_is_named(banning, shipped, differing):
    pillar = {"fail2ban": {"jails": {"web": {"filter": "shd[mode=normal]"}}}}
    words = "hardening:fail2ban:jails:web: the host has no filter 'shd'; did you mean 'sshd'?"
    assert differing(banning, **pillar)["F2B-005"] == f"the jail web does not run; {words}"
    with pytest.raises(Refused) as caught:
        enforce.enforce(banning, look(shipped, banning, **pillar), ["F2B-005"])
    assert str(caught.value) == words


# Parsers ------------------------------------------------------------------------------------------


def test_parsing_files():
    text = "# c\n[sshd]\nfilter = a\n  b\n; c\n c = d\n[x]\nK: v ; why\nlogpath =\n  /a\n  /b\n"
    assert [
        (li.section, li.key, li.value, li.number, li.last) for li in config.parse("f", text)
    ] == [
        ("sshd", "filter", "a\nb\nc = d", 3, 6),
        ("x", "k", "v", 8, 8),
        ("x", "logpath", "/a\n/b", 9, 11),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("600", 600), (600, 600), ("10m", 600), ("1d 12h", 129600), ("-1", "-1"), ("1x", "1x")],
)
def test_times(text, value):
    assert config.seconds(text) == value


def test_rules_that_nobody_gets_to():
    assert rules.effective(["-s 10.0.0.1/32 -j DROP", "-j ACCEPT", "-p tcp -j f2b-a"]) == [
        "-s 10.0.0.1/32 -j DROP"
    ]


def test_strangers_in_an_answer_run_no_code(banning):
    with Server(banning) as server:
        assert server.ask("get", "nosuchjail", "bantime") is None
        banning.server.bans["sshd"] = [Path("/x")]
        assert "Stranger" in server.bans("sshd")[0]


def test_a_server_that_hangs_up(banning):
    banning.server.hangs_up = True
    with Server(banning) as server, pytest.raises(Silent, match="the connection was closed"):
        server.ask("status")


# Enforcement --------------------------------------------------------------------------------------

RELOAD, TEST = (fail2ban.CLIENT, "reload"), (fail2ban.CLIENT, "-t")
STOP, RESET, START = (
    f"systemctl {word} fail2ban.service" for word in ("stop", "reset-failed", "start")
)
AGAIN = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", "sh", "-c")
BACK = ("systemctl", "restart", fail2ban.UNIT)


@pytest.fixture
def obeying(banning, monkeypatch):
    """A host whose server does what its files say once it is told, or only once it is restarted."""
    monkeypatch.setattr(enforce, "_PATIENCE", 0.2)
    monkeypatch.setattr(reading, "_A_MOMENT", 0)
    pristine, plain = copy.deepcopy(banning.server.jails), banning.run
    banning.told_by = [RELOAD, AGAIN]

    def run(*command, **other):
        if command in banning.told_by or command[:-1] in banning.told_by:
            banning.server.jails = copy.deepcopy(pristine)
            banning.answer("iptables-save -t filter", V4)
        return plain(*command, **other)

    banning.run = run
    banning.answer(" ".join(RELOAD))
    banning.answer(" ".join(AGAIN))
    return banning


def changes(host) -> list[tuple[str, ...]]:
    """The commands that do something, without those that look."""
    looks = ("iptables-save", "ip6tables-save")
    return [c for c in host.ran if c[0] not in looks and c[1] not in ("-d", "show")]


def enforced(shipped, host, *ids, **pillar) -> list[tuple[str, ...]]:
    it = look(shipped, host, **pillar)
    host.ran.clear()
    enforce.enforce(host, it, ids)
    return changes(host)


def test_a_reload_is_enough_where_only_numbers_changed(obeying, shipped, differing):
    jail(obeying)["maxretry"] = 50
    assert enforced(shipped, obeying, "F2B-007") == [TEST, RELOAD]
    assert differing(obeying) == {}


def test_a_reload_that_is_not_enough_becomes_a_restart(obeying, shipped):
    obeying.told_by = [AGAIN]
    jail(obeying)["bantime.formula"] = "1"
    done = enforced(shipped, obeying, "F2B-008")
    assert done[:2] == [TEST, RELOAD] and done[2][:-1] == AGAIN


def test_a_reload_that_fails_becomes_a_restart(obeying, shipped):
    obeying.answer(" ".join(RELOAD), status=255)
    assert enforced(shipped, obeying, "F2B-007")[-1][:-1] == AGAIN


def test_rules_are_taken_away_in_between_and_bans_come_back(obeying, shipped, differing):
    table = V4.replace("COMMIT", "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\nCOMMIT")
    obeying.answer("iptables-save -t filter", table.replace("-j REJECT", "-j ACCEPT"))
    jump = "-p tcp -m multiport --dports 22 -j f2b-sshd"
    tested, (*command, script) = enforced(shipped, obeying, "F2B-011")
    assert (tested, tuple(command)) == (TEST, AGAIN)
    assert script.replace(" 2>/dev/null", "").split("\n") == [
        STOP,
        f"iptables -w -D INPUT {jump}",
        f"iptables -w -D rocksalt-bans {jump}",
        "iptables -w -F f2b-sshd",
        "iptables -w -X f2b-sshd",
        f"ip6tables -w -D rocksalt-bans {jump}",
        "ip6tables -w -F f2b-sshd",
        "ip6tables -w -X f2b-sshd",
        RESET,
        START,
    ]
    assert differing(obeying) == {}


def test_chains_of_somebody_elses_jails_stay(obeying, shipped):
    other = ":f2b-other - [0:0]\n-A INPUT -p tcp -j f2b-other\nCOMMIT"
    obeying.answer("ip6tables-save -t filter", V6.replace("COMMIT", other))
    done = enforced(shipped, obeying, "F2B-010")
    assert "f2b-sshd" in done[-1][-1] and "f2b-other" not in done[-1][-1]


def test_lines_that_beat_us_are_disabled_and_nothing_else(obeying, shipped, differing):
    obeying.put(LATER, "# ours\n[sshd]\nignoreip = 192.0.2.0/24\n  192.0.3.0/24\nport = 1\n", 0o640)
    enforced(shipped, obeying, "F2B-003")
    assert obeying.read(LATER) == (
        "# ours\n[sshd]\n# disabled by rocksalt: ignoreip = 192.0.2.0/24\n"
        "# disabled by rocksalt:   192.0.3.0/24\nport = 1\n"
    )
    assert obeying.attributes(LATER).mode == "0640"
    assert differing(obeying) == {}


def test_what_fail2ban_refuses_is_undone_and_the_server_runs_on(obeying, shipped):
    text = f"{config.HEADER}edited"
    obeying.put(JAIL_FILE, text, 0o600)
    obeying.put(LATER, "[sshd]\nmaxretry = 50\n")
    obeying.remove(fail2ban.SERVER)
    obeying.answer(" ".join(TEST), status=255, err="2026-11-22 1 f: ERROR  No section: 'x'\n")
    with pytest.raises(Refused) as caught:
        enforced(shipped, obeying, "F2B-002")
    assert str(caught.value) == (
        "fail2ban does not accept its configuration: No section: 'x'; "
        "the old configuration is back"
    )
    assert (obeying.read(JAIL_FILE), obeying.read(fail2ban.SERVER)) == (text, None)
    assert obeying.read(LATER) == "[sshd]\nmaxretry = 50\n"
    assert changes(obeying) == [TEST]


def test_a_jail_that_does_not_come_up_is_undone(obeying, shipped):
    obeying.put(JAIL_FILE, "[old]\n", 0o600)
    obeying.told_by = []
    obeying.server.jails.clear()
    with pytest.raises(Refused, match="does not run the declared jails; the old configuration is"):
        enforced(shipped, obeying, "F2B-005")
    assert obeying.read(JAIL_FILE) == "[old]\n"
    assert changes(obeying)[-1] == BACK


def test_going_back_can_fail_too(obeying, shipped):
    obeying.answer(" ".join(AGAIN), status=1, err="Job failed.")
    obeying.answer(" ".join(BACK), status=1, err="Job failed.")
    with pytest.raises(Refused, match="going back to the old configuration failed, too: Job fail"):
        enforced(shipped, obeying, "F2B-001")


def test_it_starts_at_boot(obeying, shipped):
    obeying.answer(" ".join(ASK), UP.replace("enabled", "disabled"))
    enable = ("systemctl", "--quiet", "enable", fail2ban.UNIT)
    assert enforced(shipped, obeying, "F2B-001")[:2] == [TEST, enable]


def test_a_server_that_may_be_down_is_left_so(obeying, shipped, waiver):
    obeying.answer(" ".join(ASK), UP.replace("=active", "=inactive"))
    obeying.path(fail2ban.SOCKET).unlink()
    obeying.remove(JAIL_FILE)
    assert enforced(shipped, obeying, "F2B-002", waivers={"F2B-001": waiver()}) == [TEST]
    assert "[sshd]" in obeying.read(JAIL_FILE)


def test_what_is_waived_is_left_as_found(obeying, shipped, waiver):
    obeying.remove(JAIL_FILE)
    obeying.put(LATER, "[sshd]\nmaxretry = 50\n")
    pillar = {"waivers": {"F2B-002": waiver(), "F2B-003": waiver()}}
    enforced(shipped, obeying, "F2B-007", **pillar)
    assert (obeying.read(JAIL_FILE), obeying.read(LATER)) == (None, "[sshd]\nmaxretry = 50\n")


def test_write_access_goes_and_the_rest_of_a_mode_stays(obeying, shipped, differing):
    path = "/etc/fail2ban/action.d/iptables.conf"
    obeying.path(path).chmod(0o664)
    obeying.owners[path] = "ann"
    enforced(shipped, obeying, "F2B-014")
    assert obeying.attributes(path).access == "root:root 0644"
    assert differing(obeying) == {}


def test_clean_gives_back_what_was_disabled(obeying, shipped):
    text = "[sshd]\nignoreip = 192.0.2.0/24\n  192.0.3.0/24\n"
    obeying.put(LATER, text)
    enforced(shipped, obeying, "F2B-003")
    assert enforce.leftovers(obeying) == [JAIL_FILE, fail2ban.SERVER, LATER]
    obeying.ran.clear()
    enforce.clean(obeying)
    assert enforce.leftovers(obeying) == []
    assert obeying.read(LATER) == text
    assert changes(obeying)[0] == TEST and changes(obeying)[-1][-1].endswith(START)


def test_clean_of_a_host_without_fail2ban(host):
    host.put(JAIL_FILE, "x")
    enforce.clean(host)
    assert enforce.leftovers(host) == []
    assert changes(host) == []
