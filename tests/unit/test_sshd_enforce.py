"""rocksalt.sshd.enforce: one transaction, which ends in the new configuration or in the old one."""

from __future__ import annotations

import pytest

from rocksalt import sshd
from rocksalt.errors import Refused
from rocksalt.host import Ran
from rocksalt.sshd import checks, enforce

FOREIGN = f"{sshd.FOLDER}/50-foreign.conf"
DEFAULTS = "/etc/default/ssh"
RELOAD = ("systemctl", "reload", "ssh.service")
RESTART = ("systemctl", "restart", "ssh.service")
BACK = ("systemctl", "reload-or-restart", "ssh.service")


@pytest.fixture
def answering(ssh_host):
    """A host whose sshd takes every configuration and answers every connection."""
    ssh_host.answer("/usr/sbin/sshd -t")
    ssh_host.answer("systemctl")
    ssh_host.answer("ssh-keyscan", "127.0.0.1 ssh-ed25519 AAAA\n")
    ssh_host.put("/proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80 lo\n")
    plain = ssh_host.run

    def run(*command: str, **other) -> Ran:
        if command[:2] == ("ssh-keygen", "-q"):
            ssh_host.put(command[-1], f"new {command[3]} key", 0o600)
            ssh_host.put(f"{command[-1]}.pub", "new public key")
            return Ran(0, "", "")
        return plain(*command, **other)

    ssh_host.run = run
    return ssh_host


@pytest.fixture
def files(answering):
    """Everything below /etc as it is now: path -> (text, mode)."""

    def snapshot():
        root = answering.path("/etc")
        return {
            str(path.relative_to(root)): (path.read_text(), path.stat().st_mode)
            for path in root.rglob("*")
            if path.is_file()
        }

    return snapshot


# Pure parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers", "result"),
    [
        ("a\nb\nc\n", [2], "a\n{}b\nc\n"),
        ("a\nb", [1, 2], "{}a\n{}b\n"),
        ("  a\n", [1], "{}  a\n"),
    ],
)
def test_disabled(text, numbers, result):
    assert enforce._disabled(text, numbers) == result.replace("{}", enforce.DISABLED)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("UsePAM yes\n", "UsePAM yes\n"),
        ("# c\nUsePAM yes\nInclude /etc/ssh/sshd_config.d/*.conf\n", "# c\nUsePAM yes\n"),
        (" include  sshd_config.d/*.conf\nPort 1\n", "Port 1\n"),
        ('Include "/etc/ssh/sshd_config.d/*.conf"\nPort 1\n', "Port 1\n"),
        ("Include /etc/ssh/other.conf\n", "Include /etc/ssh/other.conf\n"),
    ],
)
def test_include_first(text, kept):
    assert enforce._include_first(text) == f"{sshd.INCLUDE}\n{kept}"
    assert enforce._include_first(enforce._include_first(text)) == f"{sshd.INCLUDE}\n{kept}"


# Transaction -------------------------------------------------------------------------------------


def test_a_transaction_can_be_undone(host):
    host.put("/etc/old", "old", 0o640)
    host.put("/etc/key", "key", 0o600)
    host.put("/etc/gone", "gone", 0o604)
    change = enforce.Transaction(host)
    change.write("/etc/old", "new")
    change.write("/etc/old", "newer")
    change.write("/etc/fresh", "fresh")
    change.rename("/etc/key", "/etc/key.retired")
    host.put("/etc/key", "another key")
    change.remove("/etc/gone")
    change.remove("/etc/never-there")
    assert host.read("/etc/old") == "newer"
    assert host.attributes("/etc/old").mode == "0640", "the mode stays unless one is given"
    assert host.attributes("/etc/fresh").mode == "0600"
    assert host.read("/etc/gone") is None
    change.undo()
    assert {path: host.read(path) for path in host.glob("/etc/*")} == {
        "/etc/old": "old",
        "/etc/key": "key",
        "/etc/gone": "gone",
    }
    assert host.attributes("/etc/old").mode == "0640"
    assert host.attributes("/etc/gone").mode == "0604"


def test_a_transaction_writes_through_links(host):
    host.put("/etc/real", "old")
    host.path("/etc/link").symlink_to("real")
    change = enforce.Transaction(host)
    change.write("/etc/link", "new", "0600")
    assert host.path("/etc/link").is_symlink()
    assert (host.read("/etc/real"), host.attributes("/etc/real").mode) == ("new", "0600")
    change.undo()
    assert (host.read("/etc/real"), host.attributes("/etc/real").mode) == ("old", "0644")


# The whole ---------------------------------------------------------------------------------------


def drifted(host, it) -> list[str]:
    want, seen = it.expected(), it.seen(host)
    return sorted(i for i in want if not seen[i].problem and seen[i].actual != want[i])


def heal(host, look, **pillar) -> list[str]:
    """Enforces what differs; the ids that still do."""
    it = look(host, **pillar)
    host.ran.clear()
    enforce.enforce(host, it, drifted(host, it))
    return drifted(host, look(host, **pillar))


def test_files_are_healed_and_the_rest_stays(answering, look):
    banner, drop_in = answering.read(sshd.BANNER), answering.read(sshd.DROP_IN)
    answering.put(sshd.DROP_IN, "PermitRootLogin yes\n", 0o644)
    answering.put(sshd.MAIN, "Banner none\nInclude sshd_config.d/*.conf\nUsePAM no\n", 0o666)
    answering.put(FOREIGN, "MaxAuthTries 9\nPrintMotd no\nmatch user git\n X11Forwarding yes\n")
    answering.put(sshd.BANNER, "Welcome\n")
    answering.put(sshd.MODULI, "2023 2 6 100 2047 2 A\n2023 2 6 100 4095 2 B\n")
    answering.path("/etc/ssh/ssh_host_rsa_key").chmod(0o644)
    answering.put("/etc/cloud/cloud.cfg")
    assert heal(answering, look) == []
    assert answering.read(sshd.DROP_IN) == drop_in
    assert answering.read(sshd.BANNER) == banner
    off = enforce.DISABLED
    assert answering.read(sshd.MAIN) == f"{sshd.INCLUDE}\n{off}Banner none\n{off}UsePAM no\n"
    assert answering.read(FOREIGN) == (
        f"{off}MaxAuthTries 9\nPrintMotd no\nmatch user git\n{off} X11Forwarding yes\n"
    )
    assert answering.read(sshd.MODULI) == "2023 2 6 100 4095 2 B\n"
    assert answering.read(sshd.CLOUD_INIT) == checks.cloud_init(look(answering))
    assert RELOAD in answering.ran
    assert RESTART not in answering.ran, "sessions and connections that are under way would end"


def test_the_stock_files_own_lines_stay(answering, look):
    answering.put(sshd.MAIN, "KbdInteractiveAuthentication no\nX11Forwarding yes\n")
    assert heal(answering, look) == []
    assert answering.read(sshd.MAIN).splitlines() == [
        sshd.INCLUDE,
        "KbdInteractiveAuthentication no",
        "X11Forwarding yes",
    ]


def test_only_what_cannot_lock_out_is_enforced_when_nothing_else_is_asked_for(answering, look):
    answering.put(sshd.DROP_IN, "", 0o600)
    answering.put(FOREIGN, "PermitRootLogin yes\nMaxSessions 99\n", 0o600)
    it = look(answering)
    enforce.enforce(answering, it, ["SSHD-004", "SSHD-132"])
    text = answering.read(sshd.DROP_IN)
    assert "MaxSessions 10" in text
    assert "AllowGroups" not in text
    assert answering.read(FOREIGN) == f"PermitRootLogin yes\n{enforce.DISABLED}MaxSessions 99\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/usr/sbin/sshd -t", "the new configuration is not valid: no good"),
        ("systemctl reload ssh.service", "ssh.service does not reload: no good"),
        ("ssh-keyscan -T 3 -p 22 ::1", "a new connection to ::1 port 22 gets no answer"),
        ("/usr/sbin/sshd -T", "sshd -T fails: no good"),
    ],
)
def test_what_fails_is_undone(answering, look, files, monkeypatch, command, words):
    monkeypatch.setattr(enforce, "_PATIENCE", 0)
    answering.put(sshd.DROP_IN, "MaxSessions 99\n", 0o600)
    answering.put(FOREIGN, "PermitRootLogin yes\n", 0o600)
    answering.put(sshd.BANNER, "Welcome\n")
    before = files()
    it = look(answering)
    answering.answer(command, status=1, err="no\n good")
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, it, ["SSHD-001", "SSHD-002", "SSHD-004", "SSHD-015"])
    assert str(caught.value) == f"{words}; the old configuration is back"
    assert files() == before
    assert answering.ran[-1] == BACK


def test_a_host_without_ipv6_answers_by_ipv4_alone(answering, look):
    answering.put(sshd.BANNER, "Welcome\n")
    answering.put("/proc/net/if_inet6", "")
    answering.answer("ssh-keyscan -T 3 -p 22 ::1", status=1)
    assert heal(answering, look) == []


def test_a_stopped_server_and_a_socket(answering, look):
    answering.units("ActiveState=active", "ActiveState=inactive")
    answering.answer("systemctl --quiet disable", status=1, err="Unit ssh.socket does not exist.")
    enforce.enforce(answering, look(answering), ["SSHD-012", "SSHD-013"])
    assert [command for command in answering.ran if command[0] == "systemctl"][-4:] == [
        ("systemctl", "--quiet", "disable", "--now", "ssh.socket"),
        ("systemctl", "--quiet", "enable", "ssh.service"),
        ("systemctl", "reset-failed", "ssh.service"),
        RESTART,
    ]


def test_options_and_strays(answering, look):
    answering.put(DEFAULTS, "# Debian\nSSHD_OPTS=-p 2222\n")
    answering.process(200, "sshd: /opt/sshd -p 2222 [listener] 0 of 10")
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert answering.read(DEFAULTS) == f"# Debian\n{enforce.DISABLED}SSHD_OPTS=-p 2222\n"
    assert ("kill", "200") in answering.ran
    assert ("kill", "100") not in answering.ran
    assert RESTART in answering.ran


def test_no_options_nothing_to_write(answering, look, files):
    answering.put(DEFAULTS, "SSHD_OPTS=\n")
    before = files()
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert files() == before


def test_missing_host_keys_are_made(answering, look):
    path = "/etc/ssh/ssh_host_ed25519_key"
    answering.remove(path)
    answering.put(f"{path}.rocksalt-new", "half a key of a killed run")
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert answering.read(path) == "new ed25519 key"
    assert answering.read(f"{path}.pub") == "new public key"
    assert answering.glob("/etc/ssh/*rocksalt-new*") == []
    assert answering.read("/etc/ssh/ssh_host_rsa_key") == "private", "good keys stay"


def test_weak_host_keys_are_retired_and_replaced(answering, look):
    answering.host_key("RSA", "rsa", 2048)
    answering.host_key("DSA", "dsa", 1024)
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert answering.read("/etc/ssh/ssh_host_rsa_key") == "new rsa key"
    assert answering.read("/etc/ssh/ssh_host_rsa_key.retired-by-rocksalt") == "private"
    assert answering.read("/etc/ssh/ssh_host_dsa_key") is None
    assert answering.read("/etc/ssh/ssh_host_dsa_key.retired-by-rocksalt") == "private"
    assert answering.ran.count(RELOAD) == 2, "served before the weak ones go, and after"


def test_weak_host_keys_come_back_when_it_fails(answering, look, files):
    answering.host_key("RSA", "rsa", 2048)
    before = files()
    it, plain, valid = look(answering), answering.run, iter([0, 1])

    def run(*command, **other):
        if command == ("/usr/sbin/sshd", "-t"):
            return Ran(next(valid), "", "no good")
        return plain(*command, **other)

    answering.run = run
    with pytest.raises(Refused, match="no good; the old configuration is back"):
        enforce.enforce(answering, it, ["SSHD-010"])
    assert files() == before


def test_a_host_key_that_cannot_be_made(ssh_host, look):
    ssh_host.remove("/etc/ssh/ssh_host_ed25519_key")
    ssh_host.answer("ssh-keygen -q", status=1, err="no space left\n")
    with pytest.raises(Refused, match="no host key /etc/ssh/ssh_host_ed25519_key: no space left"):
        enforce.enforce(ssh_host, look(ssh_host), ["SSHD-010"])


# Clean -------------------------------------------------------------------------------------------


def test_clean_gives_back_what_was_disabled(answering, look, files):
    elsewhere = "/etc/ssh/extra.conf"
    answering.put(sshd.MAIN, f"{sshd.INCLUDE}\nInclude {elsewhere}\nUsePAM no\n", 0o600)
    answering.put(FOREIGN, "PermitRootLogin yes\n", 0o600)
    answering.put(elsewhere, "MaxSessions 99\n", 0o600)
    answering.put(DEFAULTS, "SSHD_OPTS=-4\n", 0o644)
    before = files()
    enforce.enforce(answering, look(answering), ["SSHD-001", "SSHD-004", "SSHD-007"])
    assert set(enforce.leftovers(answering)) == {
        sshd.DROP_IN,
        sshd.BANNER,
        sshd.MAIN,
        FOREIGN,
        elsewhere,
        DEFAULTS,
    }
    enforce.clean(answering)
    for ours in (sshd.DROP_IN, sshd.BANNER):
        del before[ours.removeprefix("/etc/")]
    assert files() == before
    assert enforce.leftovers(answering) == []


def test_clean_is_undone_when_sshd_refuses(answering, files):
    before = files()
    answering.answer("/usr/sbin/sshd -t", status=255, err="no good")
    with pytest.raises(Refused):
        enforce.clean(answering)
    assert files() == before
