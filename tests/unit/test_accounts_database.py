"""rocksalt.accounts.database: the account files as they are written."""

from __future__ import annotations

import pytest

from rocksalt.accounts import database
from rocksalt.accounts.database import GROUP, GSHADOW, PASSWD, SHADOW, Account, Group, Secret

HASH = "$y$j9T$salt$hash"


@pytest.fixture
def people(host):
    host.put(
        PASSWD,
        "root:x:0:0:root:/root:/bin/bash\n"
        "sync:x:4:65534:sync:/bin:/bin/sync\n"
        "ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\n"
        "bob:x:1001:1000::/home/bob:\n"
        "ann:x:1002:1002::/srv:/bin/sh\n",
    )
    host.put(GROUP, "root:x:0:\nsudo:x:27:ann,,gone\nann:x:1000:\n")
    host.put(SHADOW, f"ann:{HASH}:20000:1:365:7:30:1:\nbob::::::::\nann:!:::::::\n")
    host.put(GSHADOW, "sudo:*::ann\n")
    return database.read(host)


def test_reads_the_files(people):
    assert people.accounts[2] == Account("ann", 1000, 1000, "/home/ann", "/bin/bash")
    assert people.groups[1] == Group("sudo", 27, ("ann", "gone"))
    assert people.secrets["ann"] == Secret(HASH, 20000, 1, 365, 30, 1)
    assert people.secrets["bob"] == Secret("")
    assert (people.legacy, people.broken, people.human) == ([], [], (1000, 60000))


def test_the_first_line_of_a_name_or_number_is_the_one_that_counts(people):
    assert people.by_name["ann"].uid == 1000
    assert people.by_uid[1000].home == "/home/ann"
    assert people.group_by_name["sudo"].gid == 27
    assert people.secrets["ann"].usable


def test_members_are_also_those_whose_own_group_it_is(people):
    assert people.members["ann"] == {"ann", "bob"}
    assert people.groups_of["ann"] == {"ann", "sudo"}
    assert people.groups_of["gone"] == {"sudo"}


def test_what_a_shell_and_a_human_are(people):
    assert [a.name for a in people.accounts if a.has_shell] == ["root", "ann", "bob", "ann"]
    assert [a.name for a in people.accounts if people.is_human(a)] == ["ann", "bob", "ann"]


@pytest.mark.parametrize(
    ("shell", "takes_commands"),
    [("/usr/sbin/nologin", False), ("/bin/false", False), ("", True), ("/tmp/nologin", True)],
)
def test_only_the_systems_own_programs_are_no_shells(shell, takes_commands):
    assert Account("eve", 5, 5, "/", shell).has_shell == takes_commands


def test_login_defs_gives_the_range(host):
    host.put("/etc/login.defs", "# UID_MIN 1\nUID_MIN\t\t  500\nUID_MAX 29999\nSYS_UID_MIN 100\n")
    assert database.read(host).human == (500, 29999)


@pytest.mark.parametrize(
    ("password", "usable", "strong"),
    [
        (HASH, True, True),
        ("$6$salt$hash", True, True),
        ("$1$salt$hash", True, False),
        ("abcdefghijklm", True, False),
        ("_J9..saltabcdefghijk", True, False),
        ("!", False, False),
        ("*", False, False),
        ("", False, False),
        (f"!{HASH}", False, False),
    ],
)
def test_passwords(password, usable, strong):
    secret = Secret(password)
    assert (secret.usable, secret.strong) == (usable, strong)
    assert secret.empty == (password == "")


@pytest.mark.parametrize(("expires", "expired"), [(None, False), (0, True), (99999, False)])
def test_expiry(expires, expired):
    assert Secret("!", expires=expires).expired == expired


@pytest.mark.parametrize("path", [PASSWD, GROUP, SHADOW, GSHADOW])
@pytest.mark.parametrize("line", ["+::::::", "+", "-bob::", "+@staff:::"])
def test_lines_for_nis(host, path, line):
    host.put(path, f"{line}\n")
    found = database.read(host)
    assert (found.legacy, found.broken) == ([(path, line)], [])


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (PASSWD, "eve:x:0"),
        (PASSWD, "eve:x::0::/root:/bin/bash"),
        (PASSWD, "eve:x:-5:0::/root:/bin/bash"),
        (PASSWD, "eve:x:²:0::/root:/bin/bash"),
        (PASSWD, "eve:x:٣:0::/root:/bin/bash"),
        (GROUP, "eve:x:nine:"),
        (SHADOW, "eve:!:20000"),
        (GSHADOW, "eve"),
    ],
)
def test_broken_lines(host, path, line):
    host.put(path, f"{line}\n")
    found = database.read(host)
    assert found.broken == [(path, "eve")]
    assert not (found.accounts or found.groups or found.secrets or found.legacy)


# As getent of glibc 2.36 has them.
@pytest.mark.parametrize(
    ("line", "account"),
    [
        ("eve:x:0:0", Account("eve", 0, 0, "", "")),
        ("eve:x:0:0:gecos", Account("eve", 0, 0, "", "")),
        (" eve:x:0:0::/root:/bin/sh", Account("eve", 0, 0, "/root", "/bin/sh")),
        ("eve:x:+0: 0::/root:/bin/sh", Account("eve", 0, 0, "/root", "/bin/sh")),
        ("eve:x:-0:0::/root:/bin/sh", Account("eve", 0, 0, "/root", "/bin/sh")),
        ("eve:x:0:0::/root:/bin/sh:foo", Account("eve", 0, 0, "/root", "/bin/sh:foo")),
    ],
)
def test_broken_lines_that_count(host, line, account):
    host.put(PASSWD, f"{line}\n")
    found = database.read(host)
    assert (found.accounts, found.broken) == ([account], [(PASSWD, "eve")])


def test_other_broken_lines_that_count(host):
    host.put(GROUP, "eve:x:0\n")
    host.put(SHADOW, "eve::1:0:99999\n")
    found = database.read(host)
    assert found.groups == [Group("eve", 0)]
    assert found.secrets == {"eve": Secret("", 1, 0, 99999)}
    assert found.broken == [(GROUP, "eve"), (SHADOW, "eve")]


def test_comments_and_blank_lines(host):
    host.put(PASSWD, "#eve:x:0:0::/root:/bin/sh\n  # eve\n   \n")
    found = database.read(host)
    assert not (found.accounts or found.broken or found.legacy)


def test_a_line_without_a_name_is_broken(host):
    host.put(PASSWD, ":x:0:0::/root:/bin/bash\n")
    assert database.read(host).broken == [(PASSWD, "")]


def test_only_a_line_feed_ends_a_line(host):
    host.put(PASSWD, "ann:x:1000:1000:a\u2028eve:/home/ann:/bin/bash\n\nbob:x:1:1::/:/bin/sh")
    assert [a.name for a in database.read(host).accounts] == ["ann", "bob"]


def test_odd_ages_are_none(host):
    host.put(SHADOW, "ann:!:²:-1:x::::\n")
    assert database.read(host).secrets == {"ann": Secret("!")}


def test_bytes_of_no_encoding_are_kept(host):
    host.put(PASSWD)
    host.path(PASSWD).write_bytes(b"ann:x:1000:1000:\xff:/home/\xff:/bin/sh\n")
    assert database.read(host).accounts[0].home == "/home/\udcff"


def test_a_host_without_the_files(host):
    assert database.read(host) == database.Database(accounts=[], groups=[], legacy=[], broken=[])
