"""rocksalt.logstash.shipping.mask: secrets do not leave the host, the rest of a line does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from rocksalt.errors import Refused
from rocksalt.logstash.shipping.mask import Masker, problems

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
        ("PASSWORD: 'a b'", "PASSWORD: '*** b'"),
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
        "",
    ],
)
def test_what_is_no_secret_stays(masker, text):
    assert masker.mask(text) == text


@pytest.mark.parametrize(
    "text",
    ["a" * 49_152, "password" + " " * 49_152, "eyJ-" * 12_000, "a.://" * 9_000, "xoxb-" * 9_000],
)
def test_nobody_stops_the_shipper_by_a_line(masker, text):
    before = time.process_time()
    masker.mask(text)
    assert time.process_time() - before < 1


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
