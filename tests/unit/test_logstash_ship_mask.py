"""rocksalt.logstash.shipping.mask: secrets do not leave the host, the rest of a line does."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from rocksalt.errors import Refused
from rocksalt.logstash.shipping.mask import KEY_RECORDS, PIECE, Masker, problems

DEFAULTS = Path(__file__).resolve().parents[2] / "salt/hardening/logstash/defaults.yaml"
PATTERNS = yaml.safe_load(DEFAULTS.read_text())["mask"]["default"]


@pytest.fixture(scope="module")
def masker():
    return Masker(PATTERNS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mysql --password=hunter2 -u x", "mysql --password=*** -u x"),
        ("tool --api-key abc --token def", "tool --api-key *** --token ***"),
        ("PASSWORD: 'a b'", "PASSWORD: '***'"),
        ('{"password": "abc", "token":"y"}', '{"password": "***", "token":"***"}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("https://u:p:w@host/x", "https://u:***@host/x"),
        ("amqp://:pw@host", "amqp://:***@host"),
        ("x eyJhbGciOiJI.eyJzdWIiOiIx.abc-1 y", "x *** y"),
        ("AGE-SECRET-KEY-1QQQQ!", "***!"),
        (
            "key\n-----BEGIN RSA PRIVATE KEY-----\nab\ncd\n-----END RSA PRIVATE KEY-----\nz",
            "key\n***\nz",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMII", "***"),
        ("id AKIAABCDEFGHIJKLMNOP.", "id ***."),
        ("push with ghp_" + "a" * 36, "push with ***"),
        ("pwd=é&x=1", "pwd=***&x=1"),
        ("DB_PASSWORD=a,b; PGPASSWORD=c psql", "DB_PASSWORD=***; PGPASSWORD=*** psql"),
        ("MYSQL_PWD=x SMTP_PASS=y", "MYSQL_PWD=*** SMTP_PASS=***"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c VAULT_TOKEN=x", "AWS_SECRET_ACCESS_KEY=*** VAULT_TOKEN=***"),
        ("client_secret=x,user=y", "client_secret=***,user=y"),
        ('{"access_token":"x\\"y","a":1}', '{"access_token":"***","a":1}'),
        (r'"{\"password\": \"x y\", \"b\": 1}"', r'"{\"password\": \"***\", \"b\": 1}"'),
        (r'"\\\"pass\\\": \\\"x\\\", 1"', r'"\\\"pass\\\": \\\"***\\\", 1"'),
        ("userPassword:: eA==", "userPassword:: ***"),
        ('"password"=>"x"', '"password"=>"***"'),
        ("--password 'a b' c", "--password '***' c"),
        ('["--password", "a b"]', '["--password", "***"]'),
        ("password is hunter2", "password is ***"),
        ("Authorization: Token x", "Authorization: Token ***"),
        ('Authorization: Digest a="b", c="d" e', "Authorization: Digest *** e"),
        ("Authorization: Digest a=b, c=d", "Authorization: Digest ***"),
        ("Authorization: Basic dTpw==", "Authorization: Basic ***"),
        ("rootpw: x", "rootpw: ***"),
        ("X-Token: Bearer abc", "X-Token: Bearer ***"),
        ("https://ghx@github.com/a", "https://***@github.com/a"),
        ("redis://:p@x@h", "redis://:***@h"),
        ("curl -s -u me:x https://h", "curl -s -u me:*** https://h"),
        ('curl --user "me:a b" h', 'curl --user "me:***" h'),
        ("mysql -u root -px db", "mysql -u root -p*** db"),
        ("sshpass -p x ssh h", "sshpass -p *** ssh h"),
        ("mysqldump -u root -px db", "mysqldump -u root -p*** db"),
        ("mariadb-dump -px db", "mariadb-dump -p*** db"),
        ("ALTER ROLE a PASSWORD 'x y' VALID", "ALTER ROLE a PASSWORD '***' VALID"),
        ("ALTER ROLE a PASSWORD 'it''s' VALID", "ALTER ROLE a PASSWORD '***' VALID"),
        ("CREATE USER a WITH PASSWORD 'x'", "CREATE USER a WITH PASSWORD '***'"),
        ("create user a identified by 'x';", "create user a identified by '***';"),
        ('IDENTIFIED WITH p BY "it\'s" x', 'IDENTIFIED WITH p BY "***" x'),
        ("SET PASSWORD FOR 'a'@'h' = 'x'", "SET PASSWORD FOR 'a'@'h' = '***'"),
        ("SET PASSWORD FOR a=PASSWORD('x')", "SET PASSWORD FOR a=PASSWORD('***')"),
        ("SET PASSWORD = PASSWORD('x')", "SET PASSWORD = ***'***')"),
        ("Password for ann: hunter2 x", "Password for ann: *** x"),
        ("password for user ann is hunter2", "password for user ann is ***"),
        ("Cookie: a=x; b=y z", "Cookie: *** z"),
        ("Set-Cookie: a=x; Path=/", "Set-Cookie: ***"),
        ('{"Cookie":"a=x; b=y","c":1}', '{"Cookie":"***","c":1}'),
        ("curl --cookie a=x h", "curl --cookie *** h"),
        ("GET /a?b=c&sig=x1y2z3w4%2B&d", "GET /a?b=c&sig=***&d"),
        ("GET /a?key=x1y2z3w4 HTTP", "GET /a?key=*** HTTP"),
        ("useradd -m -p x bob", "useradd -m -p *** bob"),
        ("docker login -u a -p x reg", "docker login -u a -p *** reg"),
        ("helm registry login -u a -p x", "helm registry login -u a -p ***"),
        ('mongo -u a -p "x y" db', 'mongo -u a -p "***" db'),
        ("ldapmodify -x -w x -D cn=a", "ldapmodify -x -w *** -D cn=a"),
        ("redis-cli -h h -a x ping", "redis-cli -h h -a *** ping"),
        ("ipmitool -U a -P x sel", "ipmitool -U a -P *** sel"),
        ("curl --oauth2-bearer=x h", "curl --oauth2-bearer=*** h"),
        ("smbclient -U D\\\\a%x //h/s", "smbclient -U D\\\\a%*** //h/s"),
        ("snmpwalk -v2c -c x h", "snmpwalk -v2c -c *** h"),
        ("snmpget -A x -x AES -X y h", "snmpget -A *** h"),
        (
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nx\n-----END PGP PRIVATE KEY BLOCK-----\nz",
            "***\nz",
        ),
    ],
)
def test_secrets_are_masked(masker, text, expected):
    assert masker.mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Accepted password for root from 192.0.2.1 port 22 ssh2",
        "Failed password for invalid user x from 192.0.2.1 port 3 ssh2",
        "pam_unix(sudo:auth): password check failed for user (ops)",
        "Accepted publickey for ops from 10.79.0.1 port 51234 ssh2: ED25519 SHA256:abcdef",
        "GET https://host:8080/a@b",
        "pam_unix(passwd:chauthtok): password changed for root",
        "unix_chkpwd: password check failed for user (root)",
        "ops : TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/usr/bin/passwd deploy2",
        "systemd-ask-password-wall.service: Deactivated successfully.",
        "ERROR 1045: Access denied for user 'a'@'b' (using password: YES)",
        "cp: /etc/passwd: Permission denied",
        "ssh://git@github.com/x",
        "mysql -u root -p db",
        "the password for root, a token ring",
        "[sudo] password for ops: Sorry, try again.",
        "ops : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
        "Failed password for root: 10.0.0.100",
        "Password for user bob is expired",
        "the user's password's too short; it's bad",
        "an intruder identified as 'bob'",
        "cookie: none, Set-Cookie: ignored, syncookies=1",
        "GET /a?key=name&sig=none&value=2",
        "useradd -m -s /bin/bash bob; usermod -aG docker ops",
        "useradd[7]: new user: name=bob, UID=1001, GID=1001, home=/home/bob, shell=/bin/sh",
        "docker run --name login -p 80:80 image; docker login -u a --password-stdin",
        "redis-cli -h h -p 6379 ping",
        "mongo -u a -p --host h; mongod[7]: it listens on -p 27017",
        "ldapsearch -x -W -D cn=a; ldapsearch -x -y /etc/secret",
        "ipmitool -H h power status; ipmitool -P",
        "smbclient -U ann //h/s; net ads join -U admin; 50% of -U a",
        "/usr/sbin/snmpd -c /etc/snmp/snmpd.conf -A",
        "mysqladmin: connect to server failed; mysqld is up",
        "",
    ],
)
def test_what_is_no_secret_stays(masker, text):
    assert masker.mask(text) == text


@pytest.mark.parametrize(
    "before", ["", "Authorization: ", 'password="', "curl ", "https://a:", "-----BEGIN "]
)
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            " ",
            "\\",
            '"',
            "-",
            "--a",
            "eyJ-",
            "a.://",
            "://a@",
            "xoxb-",
            "password",
            "passw\\",
        ),
        *('password="', "password=a,", "secret=\\", "token ", "-a-token ", "Authorization: "),
        *(
            'Authorization: a="b" ',
            "a=b",
            "a=b,",
            "pw=",
            "curl -u ",
            "mysql -",
            "mysql -p",
            "sshpass ",
            "PRIVATE KEY ",
        ),
        *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "pwd", "https://a:b"),
    ],
)
def test_nobody_stops_the_shipper_by_a_line(masker, before, unit):
    text = (before + unit * 49_152)[:49_152]
    start = time.process_time()
    masker.mask(text)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("before", ["", "password '", "Cookie: a=b; ", "snmpps -A x "])
@pytest.mark.parametrize(
    "unit",
    [
        *("password ", "password '", "password for a ", "password for a:", "password for a = "),
        *("identified by ", "identified by '", "identified with a ", "''", "\\'", "\\"),
        *("cookie", "cookie: ", "cookie: a=b; ", 'cookie:a="', "a=b; ", "; a", "?key=", "&sig=a"),
        *("useradd ", "mongo ", "docker login ", "docker registry ", "ldapadd ", "redis-cli "),
        *("ipmitool ", "smba ", "net ", "net -U a", "snmpps ", "snmpps -A x ", " -A x -X"),
        *("curl ", "mysql", "mysql-", "mysql ", "mysql -", "mariadb-"),
    ],
)
def test_the_time_grows_with_the_length_alone(masker, before, unit):
    text = (before + unit * 204_800)[:204_800]
    start = time.process_time()
    masker.mask(text)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----" + "a" * 2**20,
        'password="' + "\\a" * 2**19,
        "identified by '" + "a" * 2**20,
        "Cookie: " + "a=b;" * 2**18,
    ],
)
def test_a_long_line_needs_little_memory(masker, text):
    tracemalloc.start()
    masker.mask(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


@pytest.mark.parametrize("fill", ["x", "x ", "x\n", "MIIEabcd\n"])
@pytest.mark.parametrize("shift", [0, 5, 11, 20])
def test_a_secret_on_the_border_of_two_pieces_is_masked(masker, fill, shift):
    secret = " --password hunter2hunter2 "
    before = (fill * PIECE)[: PIECE - shift]
    assert masker.mask(before + secret + "end") == f"{before} --password *** end"
    key = f"{before}\n-----BEGIN PRIVATE KEY-----\n" + "MIIE/+==\n" * PIECE
    assert "MIIE/" not in masker.mask(key)


def test_a_key_in_several_records_is_masked_to_its_end(masker):
    lines = ["-----BEGIN PRIVATE KEY-----", "a" * 64, f"2026 app[1]: {'B' * 64}", "who was it?"]
    lines += ["ab==", "-----END PRIVATE KEY----- abcd", "abcd"]
    left, found = 0, []
    for line in lines:
        text, left = masker.follow(line, left)
        found.append(text)
    assert found[:5] == ["***", "***", "2026 app[1]: ***", "who was it?", "***"]
    assert found[5:] == ["-----END PRIVATE KEY----- abcd", "abcd"]
    assert left == 0


def test_a_key_without_an_end_is_given_up(masker):
    left, texts = masker.follow("-----BEGIN PRIVATE KEY-----", 0)[1], []
    for _ in range(KEY_RECORDS + 1):
        text, left = masker.follow("abcd", left)
        texts.append(text)
    assert texts == ["***"] * KEY_RECORDS + ["abcd"]
    assert Masker([]).follow("-----BEGIN PRIVATE KEY-----", 0)[1] == 0


def test_a_match_without_a_secret_stays():
    assert Masker(["a(?P<secret>b)?"]).mask("ab a") == "a*** a"


def test_wrong_patterns_are_named():
    wrong = ["(", "password=(.*)", "(?P<secret>x)"]
    assert list(problems(wrong)) == [
        "'(' is no regular expression: missing ), unterminated subpattern at position 0",
        "'password=(.*)' has no group (?P<secret>...) around what is secret",
    ]
    with pytest.raises(Refused, match="no regular expression"):
        Masker(wrong)
