"""rocksalt.sshd.enforce: one transaction, which ends in the new configuration or in the old one."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from rocksalt import sshd, transaction
from rocksalt.errors import Refused
from rocksalt.host import Ran
from rocksalt.sshd import checks, enforce

FOREIGN = f"{sshd.FOLDER}/50-foreign.conf"
DEFAULTS = "/etc/default/ssh"
RELOAD = ("systemctl", "reload", "ssh.service")
RESTART = ("systemctl", "restart", "ssh.service")
BACK = ("systemctl", "reload-or-restart", "ssh.service")
RSA, DSA = "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_dsa_key"
ASIDE = ".retired-by-rocksalt."
STRAY = "sshd: /usr/sbin/sshd -p 2222 [listener] 0 of 10"
OLD_IS_BACK = "; the old configuration is back"


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
        if command[0] == "kill":
            ssh_host.ran.append(command)
            shutil.rmtree(ssh_host.path(f"/proc/{command[1]}"))
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


@pytest.fixture
def fail(answering, monkeypatch):
    """Has the commands that begin so fail from now on: ``fail("kill", after=1, times=2)`` is the
    second and the third.
    """
    monkeypatch.setattr(enforce, "_PATIENCE", -1)

    def call(beginning: str, after: int = 0, times: int = 1, error: OSError | None = None) -> None:
        words, plain, count = tuple(beginning.split()), answering.run, iter(range(9999))

        def run(*command: str, **other) -> Ran:
            if command[: len(words)] == words and after <= next(count) < after + times:
                answering.ran.append(command)
                if error:
                    raise error
                return Ran(1, "", "no\n good")
            return plain(*command, **other)

        answering.run = run

    return call


# Pure parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers", "result"),
    [
        ("a\nb\nc\n", [2], "a\n{}b\nc\n"),
        ("a\nb", [1, 2], "{}a\n{}b"),
        ("a\r\nb\x0c\n", [1], "{}a\r\nb\x0c\n"),
        ("  a\n", [1], "{}  a\n"),
    ],
)
def test_disabled(text, numbers, result):
    assert enforce._disabled(text, numbers) == result.replace("{}", transaction.DISABLED)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("UsePAM yes\n", "UsePAM yes\n"),
        ("# c\nUsePAM yes\nInclude /etc/ssh/sshd_config.d/*.conf\n", "# c\nUsePAM yes\n"),
        (" include  sshd_config.d/*.conf\nPort 1\n", "Port 1\n"),
        ('Include "/etc/ssh/sshd_config.d/*.conf"\nPort 1\n', "Port 1\n"),
        ("Include /etc/ssh/other.conf\n", "Include /etc/ssh/other.conf\n"),
        ("Include other.conf sshd_config.d/*.conf\n", "Include other.conf\n"),
        ("Port 1", "Port 1"),
    ],
)
def test_include_first(text, kept):
    assert enforce._include_first(text) == f"{sshd.INCLUDE}\n{kept}"
    assert enforce._include_first(enforce._include_first(text)) == f"{sshd.INCLUDE}\n{kept}"


def test_enabled_is_the_way_back():
    text = "a 1\n  b 2\r\n# c"
    off = enforce._disabled(text, [1, 2])
    assert enforce._enabled(off) == text
    assert enforce._enabled(off, lambda keyword: keyword == "b") == (
        f"{transaction.DISABLED}a 1\n  b 2\r\n# c"
    )


# Transaction -------------------------------------------------------------------------------------


def test_a_transaction_can_be_undone(host):
    host.put("/etc/old", "old", 0o640)
    host.put("/etc/key", "key", 0o600)
    host.put("/etc/gone", "gone", 0o604)
    change = transaction.Transaction(host)
    change.write("/etc/old", "new")
    change.write("/etc/old", "newer")
    change.write("/etc/fresh", "fresh")
    change.remember("/etc/key")
    host.put("/etc/key", "another key")
    host.answer("there")
    change.do("there", undo=["back"])
    change.remove("/etc/gone")
    change.remove("/etc/never-there")
    assert host.read("/etc/old") == "newer"
    assert host.attributes("/etc/old").mode == "0640", "the mode stays unless one is given"
    assert host.attributes("/etc/fresh").mode == "0600"
    assert host.read("/etc/gone") is None
    assert change.undo() == []
    assert host.ran == [("there",), ("back",)]
    assert {path: host.read(path) for path in host.glob("/etc/*")} == {
        "/etc/old": "old",
        "/etc/key": "key",
        "/etc/gone": "gone",
    }
    assert host.attributes("/etc/old").mode == "0640"
    assert host.attributes("/etc/gone").mode == "0604"


def test_a_transaction_writes_through_links_of_others(host):
    host.put("/etc/real", "old", 0o640)
    host.path("/etc/link").symlink_to("real")
    change = transaction.Transaction(host)
    change.write("/etc/link", "new")
    assert host.path("/etc/link").is_symlink()
    assert (host.read("/etc/real"), host.attributes("/etc/real").mode) == ("new", "0640")
    assert change.undo() == []
    assert (host.read("/etc/real"), host.attributes("/etc/real").mode) == ("old", "0640")


def test_a_transaction_replaces_links_in_place_of_our_own_files(host):
    host.put("/etc/real", "old")
    host.path("/etc/ours").symlink_to("real")
    transaction.Transaction(host).write("/etc/ours", "new", "0600")
    assert not host.path("/etc/ours").is_symlink()
    assert (host.read("/etc/ours"), host.read("/etc/real")) == ("new", "old")


def test_undo_goes_on_after_a_failure(host):
    for path in ("/etc/a", "/etc/b/file", "/etc/c"):
        host.put(path, "old")
    change = transaction.Transaction(host)
    for path in ("/etc/a", "/etc/b/file", "/etc/c"):
        change.write(path, "new")
    shutil.rmtree(host.path("/etc/b"))
    host.put("/etc/b")
    (failure,) = change.undo()
    assert "/etc/b" in failure
    assert (host.read("/etc/a"), host.read("/etc/c")) == ("old", "old")
    assert change.undo() == [], "nothing is undone twice"


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
    off = transaction.DISABLED
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
    assert answering.read(FOREIGN) == f"PermitRootLogin yes\n{transaction.DISABLED}MaxSessions 99\n"


# Refused before anything was touched


@pytest.fixture
def refused(answering, files):
    """Enforcement refuses, says why, and leaves everything alone."""

    def call(it, ids, words: str) -> None:
        before = files()
        answering.ran.clear()
        with pytest.raises(Refused) as caught:
            enforce.enforce(answering, it, ids)
        assert words in str(caught.value)
        assert "back" not in str(caught.value)
        assert files() == before
        changing = ("reload", "restart", "enable", "disable", "reload-or-restart", "kill")
        assert not [c for c in answering.ran if set(c) & set(changing)]
        assert answering.glob("/run/*") == ["/run/lock"]

    return call


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["SSHD-132"], "files of sshd changed since it last read them, and nobody has a way in"),
        (["SSHD-132", "SSHD-101"], ""),
    ],
)
def test_what_sshd_has_not_read_is_not_put_into_force_without_a_way_in(
    answering, look, refused, ids, words
):
    answering.put(FOREIGN, "MaxSessions 99\n", 0o600)
    answering.units(started_in=-60)
    if words:
        refused(look(answering), ids, words)
    else:
        enforce.enforce(answering, look(answering), ids)
        assert RELOAD in answering.ran


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_is_not_of_this_host(answering, look, refused, address):
    it = look(answering, sshd={"listen_addresses": ["127.0.0.1", address]})
    words = f"hardening:sshd:listen_addresses: {address} is no address of this host: "
    refused(it, ["SSHD-160"], words)


def test_an_address_of_a_family_that_the_kernel_has_not(answering, look, refused, monkeypatch):
    def none(*_):
        raise OSError("Address family not supported")

    it = look(answering, sshd={"listen_addresses": ["2001:db8::1"]})
    monkeypatch.setattr(socket, "socket", none)
    refused(it, ["SSHD-160"], "2001:db8::1 is no address of this host: Address family not supp")


def test_an_address_of_this_host(answering, look):
    it = look(answering, sshd={"listen_addresses": ["127.0.0.1"]})
    enforce.enforce(answering, it, ["SSHD-160"])
    assert "ListenAddress 127.0.0.1:22\n" in answering.read(sshd.DROP_IN)


def test_a_candidate_that_sshd_does_not_accept(answering, look, refused):
    answering.answer("/usr/sbin/sshd -t -f", status=255, err="line 3: Bad\n option")
    it = look(answering, sshd={"max_sessions": 5})
    refused(
        it, ["SSHD-132"], "sshd does not accept what the baseline would write: line 3: Bad option"
    )


def test_the_candidate_is_what_will_be_written(answering, look):
    plain, tried = answering.run, []

    def run(*command: str, **other) -> Ran:
        if command[:3] == ("/usr/sbin/sshd", "-t", "-f"):
            tried.append(Path(command[3]).read_text())
        return plain(*command, **other)

    answering.run = run
    enforce.enforce(answering, look(answering, sshd={"max_sessions": 5}), ["SSHD-132"])
    assert tried == [answering.read(sshd.DROP_IN)]
    assert "MaxSessions 5\n" in tried[0]


def test_a_host_without_host_keys_gets_them_all_the_same(answering, look):
    """Sshd accepts no configuration then, whatever is in it."""
    for path in answering.glob("/etc/ssh/ssh_host_*"):
        answering.remove(path)
        answering.answer(f"ssh-keygen -l -f {answering.path(path)}", status=255)
    answering.answer("/usr/sbin/sshd -t -f", status=1, err="no hostkeys available")
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert answering.read(RSA) == "new rsa key"


# Undone


def spoil(host) -> None:
    host.put(sshd.DROP_IN, "MaxSessions 99\n", 0o600)
    host.put(FOREIGN, "PermitRootLogin yes\n", 0o600)
    host.put(sshd.BANNER, "Welcome\n")


SPOILT = ["SSHD-001", "SSHD-002", "SSHD-004", "SSHD-015"]


@pytest.mark.parametrize(
    ("command", "after", "words"),
    [
        ("/usr/sbin/sshd -t", 1, "the new configuration is not valid: no good"),
        ("systemctl reload ssh.service", 0, "ssh.service does not reload: no good"),
        ("ssh-keyscan -T 3 -p 22 ::1", 0, "a new connection to ::1 port 22 gets no answer"),
        ("/usr/sbin/sshd -T", 0, "sshd -T fails: no good"),
    ],
)
def test_what_fails_is_undone(answering, look, files, fail, command, after, words):
    spoil(answering)
    before, it = files(), look(answering)
    fail(command, after)
    answering.ran.clear()
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, it, SPOILT)
    assert str(caught.value) == words + OLD_IS_BACK
    assert files() == before
    back = answering.ran.index(BACK)
    assert [c[0] for c in answering.ran[back + 1 :]].count("ssh-keyscan") == 2, "it was tried"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ssh-keyscan", "a new connection to 127.0.0.1 port 22 gets no answer"),
        ("/usr/sbin/sshd -T", "sshd -T fails: no good"),
    ],
)
def test_a_way_back_that_fails_too_is_told(answering, look, files, fail, command, words):
    spoil(answering)
    before, it = files(), look(answering)
    fail(command, times=99)
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, it, SPOILT)
    assert str(caught.value) == (
        f"{words}; and going back to the old configuration failed, too: {words}"
    )
    assert files() == before


def test_an_error_of_the_way_back_is_told(answering, look, files, fail):
    spoil(answering)
    before, it = files(), look(answering)
    fail("ssh-keyscan", times=99, error=PermissionError("not allowed"))
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, it, SPOILT)
    assert str(caught.value).endswith("configuration failed, too: not allowed")
    assert files() == before


@pytest.mark.parametrize("path", [sshd.BANNER, sshd.DROP_IN, FOREIGN, sshd.MAIN])
def test_a_file_that_cannot_be_written(answering, look, files, monkeypatch, path):
    spoil(answering)
    answering.put(sshd.MAIN, "UsePAM no\nInclude sshd_config.d/*.conf\n", 0o600)
    before, it, write, once = files(), look(answering), answering.write, [path]

    def full(target: str, *rest: str) -> None:
        if target in once:
            once.remove(target)
            raise OSError(28, "No space left on device")
        write(target, *rest)

    monkeypatch.setattr(answering, "write", full)
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, it, SPOILT)
    assert str(caught.value) == f"[Errno 28] No space left on device{OLD_IS_BACK}"
    assert files() == before
    assert BACK in answering.ran


def test_access_that_cannot_be_set(answering, look, monkeypatch):
    answering.path(sshd.MAIN).chmod(0o644)

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(answering, "secure", refuse)
    with pytest.raises(Refused, match=f"^read-only{OLD_IS_BACK}$"):
        enforce.enforce(answering, look(answering), ["SSHD-008"])


# Single controls


@pytest.mark.parametrize(
    "pillar",
    [
        {"waivers": {"SSHD-132": None}},
        {"sshd": {"controls": {"SSHD-132": {"off": "a jump host"}}}},
    ],
)
def test_lines_of_excused_controls_come_back(answering, look, waiver, pillar):
    off = transaction.DISABLED
    answering.put(FOREIGN, "PermitRootLogin yes\n  maxsessions 99\n", 0o600)
    enforce.enforce(answering, look(answering), ["SSHD-001", "SSHD-004"])
    assert answering.read(FOREIGN) == f"{off}PermitRootLogin yes\n{off}  maxsessions 99\n"
    pillar = {"waivers": {"SSHD-132": waiver()}} if "waivers" in pillar else pillar
    enforce.enforce(answering, look(answering, **pillar), ["SSHD-001"])
    assert answering.read(FOREIGN) == f"{off}PermitRootLogin yes\n  maxsessions 99\n"
    assert "MaxSessions" not in answering.read(sshd.DROP_IN)


@pytest.mark.parametrize("text", ["PermitRootLogin yes\n", None])
@pytest.mark.parametrize("ids", [["SSHD-001"], ["SSHD-008"]])
def test_a_link_in_place_of_our_drop_in_is_replaced(answering, look, ids, text):
    """Whether it leads to the right text (None) or to another one."""
    right = answering.read(sshd.DROP_IN)
    answering.put("/srv/file", right if text is None else text, 0o600)
    answering.remove(sshd.DROP_IN)
    answering.path(sshd.DROP_IN).symlink_to("../../../srv/file")
    if text and ids == ["SSHD-008"]:
        ids = ["SSHD-008", "SSHD-101"]
    enforce.enforce(answering, look(answering), ids)
    assert not answering.path(sshd.DROP_IN).is_symlink()
    assert answering.read(sshd.DROP_IN) == right
    assert answering.read("/srv/file") == (right if text is None else text)
    assert drifted(answering, look(answering)) == []


def test_links_out_of_the_folder_keep_their_access(answering, look):
    answering.put("/srv/file", "PrintMotd no\n", 0o644, owner="ann")
    answering.path(FOREIGN).symlink_to("../../../srv/file")
    answering.put("/srv/extra.conf", "PrintMotd no\n", 0o666, owner="ann")
    answering.put(sshd.MAIN, f"{sshd.INCLUDE}\nInclude /srv/extra.conf\n", 0o600)
    answering.path(sshd.FOLDER).chmod(0o777)
    enforce.enforce(answering, look(answering), ["SSHD-008"])
    assert answering.path(FOREIGN).is_symlink()
    found = {
        path: answering.attributes(path).access
        for path in (sshd.FOLDER, "/srv/extra.conf", "/srv/file")
    }
    assert found == {
        sshd.FOLDER: "root:root 0755",
        "/srv/extra.conf": "root:root 0600",
        "/srv/file": "ann:ann 0644",
    }
    assert drifted(answering, look(answering)) == ["SSHD-008"], "the link is for a person"


def test_a_host_without_ipv6_answers_by_ipv4_alone(answering, look):
    answering.put(sshd.BANNER, "Welcome\n")
    answering.put("/proc/net/if_inet6", "")
    answering.answer("ssh-keyscan -T 3 -p 22 ::1", status=1)
    assert heal(answering, look) == []


def systemd(host) -> list[str]:
    """What systemd was told, without the questions."""
    told = [" ".join(c) for c in host.ran if c[0] in ("systemctl", "systemd-run")]
    return [c for c in told if not c.startswith(("systemctl show", "systemctl is-active"))]


DISABLE = "systemctl --quiet disable ssh.socket"
SWITCH = (
    "systemd-run --quiet --wait --collect sh -c "
    "systemctl stop ssh.socket; systemctl restart ssh.service"
)


def test_a_stopped_server_is_started_now_and_at_boot(answering, look):
    answering.units(
        "ActiveState=active\nUnitFileState=enabled", "ActiveState=inactive\nUnitFileState=disabled"
    )
    enforce.enforce(answering, look(answering), ["SSHD-013"])
    assert systemd(answering) == [
        "systemctl -q enable ssh.service",
        "systemctl reset-failed ssh.service",
        " ".join(RESTART),
    ]


def with_socket(host) -> None:
    host.units(
        "ActiveState=inactive\nUnitFileState=disabled", "ActiveState=active\nUnitFileState=enabled"
    )
    host.answer("systemd-run")


def test_leaving_the_socket(answering, look):
    with_socket(answering)
    enforce.enforce(answering, look(answering), ["SSHD-012"])
    assert systemd(answering) == ["systemctl reset-failed ssh.service", DISABLE, SWITCH]


def test_the_socket_stays_when_nobody_asks(answering, look):
    with_socket(answering)
    enforce.enforce(answering, look(answering), ["SSHD-015"])
    assert systemd(answering) == ["systemctl reset-failed ssh.service", " ".join(RELOAD)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (DISABLE, "systemctl --quiet disable ssh.socket failed: no good"),
        ("systemd-run", "ssh.service does not take over from ssh.socket: no good"),
        ("ssh-keyscan", "a new connection to 127.0.0.1 port 22 gets no answer"),
    ],
)
def test_the_socket_comes_back_when_it_fails(answering, look, fail, command, words):
    with_socket(answering)
    fail(command)
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, look(answering), ["SSHD-012"])
    assert str(caught.value) == words + OLD_IS_BACK
    assert systemd(answering)[-3:] == [
        "systemctl --quiet enable --now ssh.socket",
        "systemctl reset-failed ssh.service",
        " ".join(BACK),
    ]


def test_options_and_strays(answering, look):
    answering.put(DEFAULTS, "# Debian\nSSHD_OPTS=-p 2222\n")
    answering.process(200, STRAY)
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert answering.read(DEFAULTS) == f"# Debian\n{transaction.DISABLED}SSHD_OPTS=-p 2222\n"
    assert [c for c in answering.ran if c[0] == "kill"] == [("kill", "200")]
    assert answering.ran.index(("kill", "200")) < answering.ran.index(RESTART)


@pytest.mark.parametrize(
    ("title", "other"),
    [
        (STRAY, {"owner": "mallory"}),
        (STRAY, {"program": "/usr/bin/perl"}),
        (STRAY, {"namespace": "pid:[2]"}),
        (STRAY, {"unit": "rescue.service"}),
        ("sshd: ann [priv]", {}),
    ],
)
def test_processes_that_are_not_ours_to_end(answering, look, title, other):
    answering.process(200, title, **other)
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert not [c for c in answering.ran if c[0] == "kill"]
    assert RELOAD in answering.ran
    assert RESTART not in answering.ran


def test_a_stray_is_left_alone_when_nobody_asks(answering, look):
    answering.process(200, STRAY)
    enforce.enforce(answering, look(answering), ["SSHD-015"])
    assert ("kill", "200") not in answering.ran
    assert RESTART not in answering.ran


def test_a_stray_that_does_not_end_is_not_waited_for_for_ever(answering, look, fail):
    answering.process(200, STRAY)
    fail("kill")
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert RESTART in answering.ran


def test_no_options_nothing_to_write(answering, look, files):
    answering.put(DEFAULTS, "SSHD_OPTS=\n")
    before = files()
    enforce.enforce(answering, look(answering), ["SSHD-007"])
    assert files() == before


def test_missing_host_keys_are_made(answering, look):
    path = "/etc/ssh/ssh_host_ed25519_key"
    answering.answer(f"ssh-keygen -l -f {answering.path(path)}", status=255)
    answering.remove(path)
    answering.put(f"{path}.rocksalt-new", "half a key of a killed run")
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert answering.read(path) == "new ed25519 key"
    assert answering.read(f"{path}.pub") == "new public key"
    assert answering.glob("/etc/ssh/*rocksalt*") == [sshd.BANNER]
    assert answering.read(RSA) == "private", "good keys stay"


def test_a_corrupt_host_key_is_replaced_and_kept_aside(answering, look):
    answering.answer(f"ssh-keygen -l -f {answering.path(RSA)}", status=255)
    for text in ("rubbish", "rubbish again"):
        answering.put(RSA, text, 0o600)
        enforce.enforce(answering, look(answering), ["SSHD-010"])
        assert answering.read(RSA) == "new rsa key"
    kept = {path: answering.read(path) for path in answering.glob(f"{RSA}{ASIDE}*")}
    assert kept == {f"{RSA}{ASIDE}1": "rubbish", f"{RSA}{ASIDE}2": "rubbish again"}
    assert answering.attributes(f"{RSA}{ASIDE}1").mode == "0600"


def test_weak_host_keys_are_retired_and_replaced(answering, look):
    answering.host_key("RSA", "rsa", 2048)
    answering.host_key("DSA", "dsa", 1024)
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert answering.read(RSA) == "new rsa key"
    assert answering.read(f"{RSA}.pub") == "new public key"
    assert answering.read(f"{RSA}{ASIDE}1") == "private"
    assert answering.read(DSA) is None
    assert answering.read(f"{DSA}.pub") is None
    assert answering.read(f"{DSA}{ASIDE}1") == "private"
    assert answering.ran.count(RELOAD) == 2, "served before the weak ones go, and after"


def test_the_name_of_a_host_key_is_never_empty(answering, look, monkeypatch):
    """The old one gets a second name before the new one takes the first."""
    answering.host_key("RSA", "rsa", 2048)
    plain, seen = answering.rename, []

    def rename(path: str, new: str) -> None:
        seen.append((answering.read(RSA), answering.read(f"{RSA}{ASIDE}1")))
        plain(path, new)

    monkeypatch.setattr(answering, "rename", rename)
    enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert seen == [("private", "private")] * 2


def test_weak_host_keys_come_back_when_it_fails(answering, look, files, fail):
    answering.host_key("RSA", "rsa", 2048)
    answering.host_key("DSA", "dsa", 1024)
    before, it = files(), look(answering)
    fail("systemctl reload ssh.service", after=1)
    with pytest.raises(Refused, match=f"no good{OLD_IS_BACK}"):
        enforce.enforce(answering, it, ["SSHD-010"])
    kept = {f"{path.removeprefix('/etc/')}{ASIDE}1" for path in (RSA, DSA)}
    after = files()
    assert {path: after[path] for path in set(after) - kept} == before
    assert kept <= set(after)


def test_a_host_key_that_cannot_be_made(answering, look, files):
    path = "/etc/ssh/ssh_host_ed25519_key"
    answering.answer(f"ssh-keygen -l -f {answering.path(path)}", status=255)
    answering.put(path, "rubbish", 0o600)
    before, plain = files(), answering.run

    def run(*command: str, **other) -> Ran:
        if command[:2] == ("ssh-keygen", "-q"):
            return Ran(1, "", "no space left\n")
        return plain(*command, **other)

    answering.run = run
    with pytest.raises(Refused) as caught:
        enforce.enforce(answering, look(answering), ["SSHD-010"])
    assert str(caught.value) == f"no host key {path}: no space left{OLD_IS_BACK}"
    assert files() == before


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


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("/usr/sbin/sshd -t", None, "the new configuration is not valid: no good"),
        ("systemctl reload ssh.service", None, "ssh.service does not reload: no good"),
        ("systemctl reload ssh.service", OSError("disk on fire"), "disk on fire"),
    ],
)
def test_clean_is_undone_when_it_fails(answering, files, fail, command, error, words):
    answering.put(FOREIGN, f"{transaction.DISABLED}PermitRootLogin yes\n", 0o600)
    before = files()
    fail(command, error=error)
    with pytest.raises(Refused) as caught:
        enforce.clean(answering)
    assert str(caught.value) == words + OLD_IS_BACK
    assert files() == before
