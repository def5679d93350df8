"""rocksalt.sshd.config: sshd_config and ``sshd -T`` as data."""

from __future__ import annotations

import fnmatch

import pytest

from rocksalt.sshd import config

MAIN = "/etc/ssh/sshd_config"


def parsed(**files: str) -> list[tuple[str, str, str]]:
    """(keyword, value, match) of every line. ``main`` is sshd_config, the others are drop-ins."""
    tree = {f"/etc/ssh/sshd_config.d/{name}.conf": text for name, text in files.items()}
    tree[MAIN] = tree.pop("/etc/ssh/sshd_config.d/main.conf")
    found = config.parse(
        MAIN, tree.get, lambda pattern: sorted(p for p in tree if fnmatch.fnmatch(p, pattern))
    )
    return [(line.keyword, line.value, line.match) for line in found]


@pytest.mark.parametrize(
    ("text", "keyword", "value"),
    [
        ("", "", ""),
        ("   # PermitRootLogin yes", "", ""),
        ("PermitRootLogin no", "permitrootlogin", "no"),
        ("\tPERMITROOTLOGIN\t no  ", "permitrootlogin", "no"),
        ("PermitRootLogin=no", "permitrootlogin", "no"),
        ("PermitRootLogin = no", "permitrootlogin", "no"),
        ('PermitRootLogin "no"', "permitrootlogin", "no"),
        ("PermitRootLogin no # for now", "permitrootlogin", "no"),
        ("AuthorizedKeysFile .ssh/a#b", "authorizedkeysfile", ".ssh/a#b"),
        ('AllowGroups "sudo" "wheel"', "allowgroups", "sudo wheel"),
        ('Banner "/etc/my banner"', "banner", '"/etc/my banner"'),
        ("Banner /etc/my\\ banner", "banner", '"/etc/my banner"'),
        ("Banner 'it''s'", "banner", "its"),
        ('Banner "it\'s"', "banner", '"it\'s"'),
        (r'Banner "a\"b\\c"', "banner", r'"a\"b\\c"'),
        ('Banner "#1"', "banner", '"#1"'),
        ('Banner ""', "banner", '""'),
        ("PermitRootLogin 'yes' 'now", "permitrootlogin", "yes now"),
        ('"PermitRootLogin" yes', "permitrootlogin", "yes"),
        ('"PermitRootLogin"yes', "permitrootlogin", "yes"),
        ('Permit"RootLogin" yes', "permitrootlogin", "yes"),
        ('"Match" User git', "match", "User git"),
        ("=PermitRootLogin yes", "permitrootlogin", "yes"),
        (" = PermitRootLogin = yes", "permitrootlogin", "yes"),
        ("PermitRootLogin\ryes", "permitrootlogin", "yes"),
        ("PermitRootLogin yes\f\r", "permitrootlogin", "yes"),
        ("\fPermitRootLogin yes", "\fpermitrootlogin", "yes"),
        ('"PermitRootLogin yes', "", ""),
        ('"#PermitRootLogin" yes', "", ""),
        ("ChallengeResponseAuthentication no", "kbdinteractiveauthentication", "no"),
        ("PubkeyAcceptedKeyTypes ssh-rsa", "pubkeyacceptedalgorithms", "ssh-rsa"),
        ("UsePAM", "usepam", ""),
        ("*rubbish", "*rubbish", ""),
    ],
)
def test_split(text, keyword, value):
    assert config.split(text) == (keyword, value)


def test_lines_know_their_place():
    (line,) = config.parse(MAIN, {MAIN: "# one\n\nPort 22\n"}.get, lambda pattern: [])
    assert (line.path, line.number, line.place) == (MAIN, 3, f"{MAIN} line 3")


def test_lines_end_where_sshd_ends_them():
    text = "# a\fMatch all\n# b\x85Match all\r# c\u2028Match all\nPort 1\r\nPort 2"
    found = config.parse(MAIN, {MAIN: text}.get, lambda pattern: [])
    assert [(line.number, line.keyword, line.value) for line in found] == [
        (3, "port", "1"),
        (4, "port", "2"),
    ]
    assert config.effective("banner /a\fb\n") == {"banner": ["/a\fb"]}


def test_includes_stand_where_they_are_read():
    found = parsed(
        main="Port 1\nInclude sshd_config.d/b.conf /etc/ssh/sshd_config.d/a.conf\nPort 4\n",
        a="Port 3\n",
        b="Port 2\n",
    )
    assert [value for keyword, value, _ in found if keyword == "port"] == ["1", "2", "3", "4"]
    assert found[1][0] == "include"


@pytest.mark.parametrize(
    "quoted",
    [
        '"/etc/ssh/sshd_config.d/*.conf"',
        "'sshd_config.d/*.conf'",
        "sshd_config.d/[a-b].conf",
        '/none "sshd_config.d/[a-b].conf" # all',
    ],
)
def test_includes_by_pattern(quoted):
    found = parsed(main=f"Include {quoted}\n", b="Port 2\n", a="Port 1\n")
    assert [value for keyword, value, _ in found if keyword == "port"] == ["1", "2"]


def test_an_include_of_a_path_with_a_blank():
    (line,) = config.parse(MAIN, {MAIN: 'Include "my files/*" b\n'}.get, lambda pattern: [])
    assert config.included(line.value, lambda pattern: [pattern]) == [
        "/etc/ssh/my files/*",
        "/etc/ssh/b",
    ]


FOLDER = "/etc/ssh/sshd_config.d"


@pytest.mark.parametrize(
    ("value", "includes", "rest"),
    [
        (f"{FOLDER}/*.conf", True, ""),
        ("sshd_config.d/*.conf", True, ""),
        ("sshd_config.d/*", True, ""),
        (f'"{FOLDER}/*.conf"', True, ""),
        (f"/etc/a.conf 'sshd_config.d/*.conf' {FOLDER}/*.conf b", True, "/etc/a.conf b"),
        ('"/my files/*" sshd_config.d/*', True, '"/my files/*"'),
        (f"{FOLDER}/a*.conf", False, f"{FOLDER}/a*.conf"),
        ("/sshd_config.d/*.conf", False, "/sshd_config.d/*.conf"),
        ("", False, ""),
    ],
)
def test_an_include_of_a_folder(value, includes, rest):
    assert config.includes_folder(value, FOLDER) is includes
    assert config.without_folder(value, FOLDER) == rest


def test_an_include_of_itself_ends():
    found = parsed(main="Include sshd_config.d/a.conf", a="Include sshd_config.d/a.conf\nPort 1")
    assert 1 < len(found) < 50


def test_a_missing_file_is_empty():
    assert config.parse("/none", lambda path: None, lambda pattern: []) == []


def test_match_lasts_to_the_next_match_or_the_end_of_the_file():
    found = parsed(
        main="Port 1\nInclude sshd_config.d/a.conf\nPort 2\n"
        "Match User git\nPermitTTY no\nInclude sshd_config.d/b.conf\nX11Forwarding no\n"
        "Match all\nPort 3\n",
        a="Port 4\nMatch Group ops\nPort 5\n",
        b="Banner none\nMatch Address 10.0.0.0/8\nBanner /a\n",
    )
    scopes = {(keyword, value): match for keyword, value, match in found}
    assert scopes["port", "1"] == scopes["port", "2"] == scopes["port", "4"] == ""
    assert scopes["port", "5"] == "Group ops"
    assert scopes["permittty", "no"] == scopes["banner", "none"] == "User git"
    assert scopes["banner", "/a"] == "Address 10.0.0.0/8"
    assert scopes["x11forwarding", "no"] == "User git"
    assert scopes["port", "3"] == "all"


def test_effective():
    text = (
        "port 22\nlistenaddress 0.0.0.0:22\nlistenaddress [::]:22\nversionaddendum none\nbanner\n"
    )
    assert config.effective(text) == {
        "port": ["22"],
        "listenaddress": ["0.0.0.0:22", "[::]:22"],
        "versionaddendum": ["none"],
        "banner": [""],
    }


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("PermitRootLogin", False, ["no"]),
        ("UsePAM", True, ["yes"]),
        ("MaxAuthTries", 4, ["4"]),
        ("Ciphers", ["b", "a"], ["b,a"]),
        ("ciphers", "b,a", ["b,a"]),
        ("AllowGroups", ["sudo", "ops"], ["ops", "sudo"]),
        ("allowgroups", ["sudo ops", "wheel"], ["ops", "sudo", "wheel"]),
        ("Port", [2222, 22], ["22", "2222"]),
        ("AuthorizedKeysFile", [".ssh/b", ".ssh/a"], [".ssh/b .ssh/a"]),
        ("AuthenticationMethods", ["publickey,password"], ["publickey,password"]),
        ("AllowUsers", [], []),
    ],
)
def test_canonical(keyword, value, words):
    assert config.canonical(keyword, value) == words


def test_lines():
    directives = {
        "Port": [22, 2222],
        "AllowGroups": ["sudo", "ops"],
        "Ciphers": ["b", "a"],
        "PermitRootLogin": False,
        "AuthorizedKeysFile": [".ssh/b", ".ssh/a"],
    }
    assert list(config.lines(directives)) == [
        "Port 22",
        "Port 2222",
        "AllowGroups ops sudo",
        "Ciphers b,a",
        "PermitRootLogin no",
        "AuthorizedKeysFile .ssh/b .ssh/a",
    ]


@pytest.mark.parametrize(
    ("keyword", "value", "wanted", "same"),
    [
        ("permitrootlogin", "no", ["no"], True),
        ("permitrootlogin", "No", ["no"], True),
        ("permitrootlogin", "false", ["no"], True),
        ("permitrootlogin", "prohibit-password", ["no"], False),
        ("logingracetime", "30", ["30"], True),
        ("logingracetime", "1m", ["60"], True),
        ("logingracetime", "1M30s", ["90"], True),
        ("logingracetime", "2m", ["60"], False),
        ("maxauthtries", "1m", ["60"], False),
        ("port", "22", ["22", "2222"], True),
        ("port", "2022", ["22", "2222"], False),
        ("allowgroups", "ops sudo", ["ops", "sudo"], True),
        ("allowgroups", "ops root", ["ops", "sudo"], False),
        ("ciphers", "a,b", ["a,b"], True),
        ("ciphers", "b,a", ["a,b"], False),
        ("ciphers", "+a", ["a"], False),
        ("authorizedkeysfile", ".ssh/a  .ssh/b", [".ssh/a .ssh/b"], False),
        ("authorizedkeysfile", ".SSH/a", [".ssh/a"], False),
        ("authorizedkeysfile", '".ssh/a .ssh/b"', [".ssh/a .ssh/b"], False),
        ("allowgroups", "Sudo", ["sudo"], False),
        ("listenaddress", "[FD00::1]:22", ["0.0.0.0:22", "[fd00::1]:22"], True),
        ("loglevel", "verbose", ["VERBOSE"], True),
    ],
)
def test_same(keyword, value, wanted, same):
    assert config.same(keyword, value, wanted) is same


@pytest.mark.parametrize(
    ("keyword", "running", "wanted", "equal"),
    [
        ("PermitUserEnvironment", ["NO"], ["no"], True),
        ("AuthorizedKeysCommand", ["NONE"], ["none"], True),
        ("LogLevel", ["VERBOSE"], ["verbose"], True),
        ("AllowTcpForwarding", ["local"], ["Local"], True),
        ("ListenAddress", ["[fd00::1]:22"], ["[FD00::1]:22"], True),
        ("AuthorizedKeysFile", [".ssh/authorized_keys"], [".SSH/authorized_keys"], False),
        ("AuthorizedKeysCommand", ["/usr/bin/Keys"], ["/usr/bin/keys"], False),
        ("HostKey", ["/etc/ssh/A"], ["/etc/ssh/a"], False),
        ("AllowGroups", ["No"], ["no"], False),
        ("AllowGroups", ["ops"], ["ops", "sudo"], False),
        ("Ciphers", ["AES256-ctr"], ["aes256-ctr"], False),
        ("Banner", [], ["none"], False),
    ],
)
def test_equal(keyword, running, wanted, equal):
    assert config.equal(keyword, running, wanted) is equal
    assert config.equal(keyword.lower(), wanted, running) is equal


@pytest.mark.parametrize(
    ("match", "changed"),
    [
        ("all", {}),
        ("ALL", {}),
        ("User git", {"user": "git"}),
        ("user !root,dev*,ann", {"user": "devx"}),
        ("Group ops", {"user": "ann"}),
        ("Address 10.0.0.0/8", {"addr": "10.0.0.0"}),
        ("Address 10.0.0.?", {"addr": "10.0.0.1"}),
        ("Host *.example.org", {"host": "1.example.org"}),
        ("LocalPort 2222 LocalAddress 192.0.2.9", {"lport": "2222", "laddr": "192.0.2.9"}),
        ("User git Address 2001:db8::/32", {"user": "git", "addr": "2001:db8::"}),
    ],
)
def test_a_connection_that_matches(match, changed):
    usual = {
        "user": "nobody",
        "host": "client.invalid",
        "addr": "192.0.2.1",
        "laddr": "192.0.2.2",
        "lport": "22",
    }
    spec = config.connection(match, {"ops": "ann"}.get)
    assert dict(part.split("=") for part in spec.split(",")) == {**usual, **changed}


@pytest.mark.parametrize(
    "match", ["Group empty", "User !root", "RDomain vrf1", "invalid-user", "user=git", "User"]
)
def test_no_connection_can_be_made_up(match):
    assert config.connection(match, {"ops": "ann"}.get) is None
