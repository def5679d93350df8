"""rocksalt.sshd.keys: lines of authorized_keys, and which of them are good for a log-in."""

from __future__ import annotations

import datetime as dt

import pytest

from rocksalt.sshd import keys

# The key of RFC 8032's first test vector, as ssh-keygen prints it.
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
FINGERPRINT = "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8"
ALGORITHMS = ["ssh-ed25519", "rsa-sha2-256", "ecdsa-sha2-nistp256"]
MANAGEMENT = ["10.1.0.0/16", "2001:db8::/32"]


def one(line: str) -> keys.Key:
    (found,) = keys.parse(line)
    return found


@pytest.mark.parametrize(
    ("line", "comment", "options"),
    [
        (f"ssh-ed25519 {ED25519}", "", {}),
        (f"  ssh-ed25519   {ED25519}  ann at  desk ", "ann at  desk", {}),
        (f"ssh-ed25519\t{ED25519}\tann", "ann", {}),
        (f"no-pty ssh-ed25519 {ED25519} ann", "ann", {"no-pty": ""}),
        (
            f'FROM="10.0.0.0/8,!10.1.2.3",no-pty ssh-ed25519 {ED25519}',
            "",
            {"from": "10.0.0.0/8,!10.1.2.3", "no-pty": ""},
        ),
        (
            f'command="echo \\"a, b\\" c",restrict ssh-ed25519 {ED25519} ann',
            "ann",
            {"command": 'echo \\"a, b\\" c', "restrict": ""},
        ),
        (
            f'environment="A=b c" ssh-ed25519 {ED25519}',
            "",
            {"environment": "A=b c"},
        ),
    ],
)
def test_parse(line, comment, options):
    key = one(line)
    assert (key.kind, key.bits, key.comment) == ("ssh-ed25519", 0, comment)
    assert {name: value.strip('"') for name, value in key.options.items()} == options


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# ssh-ed25519 AAAA",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        f"ssh-ed25519 {ED25519[:-8]}",
        f"ssh-ed25519 {ED25519[:-1]}*",
        f"ssh-rsa {ED25519}",
        f"{ED25519}",
        'command="never ended ssh-ed25519 AAAA',
    ],
)
def test_what_is_no_key(line):
    assert keys.parse(line) == []


def test_several_lines_with_broken_ones_between(public_key):
    text = "\n".join(["# people", public_key(), "rubbish", "", public_key("ssh-rsa")])
    assert [key.kind for key in keys.parse(text)] == ["ssh-ed25519", "ssh-rsa"]


@pytest.mark.parametrize("bits", [1024, 2048, 3072, 4096])
def test_bits_of_rsa(public_key, bits):
    assert one(public_key("ssh-rsa", bits)).bits == bits


def test_fingerprint():
    assert one(f"ssh-ed25519 {ED25519}").fingerprint == FINGERPRINT


def refused(line: str, algorithms=ALGORITHMS, least_rsa=3072, management=MANAGEMENT) -> str:
    return keys.refused(one(line), algorithms, least_rsa, management)


@pytest.mark.parametrize(
    ("kind", "bits", "reason"),
    [
        ("ssh-ed25519", 0, ""),
        ("ecdsa-sha2-nistp256", 0, ""),
        ("ssh-rsa", 3072, ""),
        ("ssh-rsa", 2048, "its RSA key of 2048 bits is shorter than 3072"),
        ("ssh-dss", 0, "ssh-dss keys are no longer accepted"),
        (
            "sk-ssh-ed25519@openssh.com",
            0,
            "sk-ssh-ed25519@openssh.com keys are no longer accepted",
        ),
    ],
)
def test_algorithms(public_key, kind, bits, reason):
    assert refused(public_key(kind, bits)) == reason


@pytest.mark.parametrize(
    ("algorithms", "accepted"),
    [(None, True), (["rsa-sha2-512"], True), (["ssh-rsa"], True), (["ssh-ed25519"], False)],
)
def test_rsa_keys_sign_by_several_algorithms(public_key, algorithms, accepted):
    assert (refused(public_key("ssh-rsa"), algorithms) == "") == accepted


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("no-pty", ""),
        ("restrict,pty", ""),
        ('command="backup"', "its key is bound to one command"),
        ("cert-authority", "its key is a certificate authority, not a log-in key"),
        ('expiry-time="20010203"', "its key expired (20010203)"),
        ('expiry-time="200102030405"', "its key expired (200102030405)"),
        ('expiry-time="20010203040506Z"', "its key expired (20010203040506Z)"),
        ('expiry-time="29990203"', ""),
        ('expiry-time="299902030405"', ""),
        ('expiry-time="20261399"', "its key expired (20261399)"),
        ('expiry-time="tomorrow"', "its key expired (tomorrow)"),
        ('from="*"', ""),
        ('from="10.1.2.3"', ""),
        ('from="10.0.0.0/8"', ""),
        ('from="192.0.2.1, 2001:db8::7"', ""),
        ('from="192.0.2.0/24"', "its key is limited to 192.0.2.0/24, outside the management"),
        ('from="desk.example.org"', "its key is limited to desk.example.org, outside"),
        ('from="!10.1.0.0/16"', "its key is limited to !10.1.0.0/16, outside"),
        ('from="*,!10.1.0.0/16"', ""),
        ('from="*,!10.0.0.0/8,!2001:db8::/16"', "its key is limited to"),
        ('from="*,!*"', "its key is limited to *,!*, outside"),
        ('from=""', "its key is limited to , outside"),
    ],
)
def test_options(options, reason):
    found = refused(f"{options} ssh-ed25519 {ED25519}")
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_from_without_management_networks():
    line = f'from="10.1.2.3" ssh-ed25519 {ED25519}'
    assert refused(line, management=[]) == (
        "its key is limited to 10.1.2.3 and hardening:networks:management is not set"
    )
    assert refused(f"ssh-ed25519 {ED25519}", management=[]) == ""


@pytest.mark.parametrize(("hours", "expired"), [(-1, True), (1, False)])
@pytest.mark.parametrize("zone", [dt.timezone.utc, None])
def test_an_expiry_in_utc_or_local_time(hours, expired, zone, monkeypatch):
    when = dt.datetime.now(zone) + dt.timedelta(hours=hours)
    suffix = "Z" if zone else ""
    line = f'expiry-time="{when:%Y%m%d%H%M%S}{suffix}" ssh-ed25519 {ED25519}'
    assert bool(refused(line)) == expired


@pytest.mark.parametrize("name", ["ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"])
def test_an_rsa_key_by_the_name_of_a_signature(name, public_key):
    """sshd accepts such a line, so it must not be overlooked."""
    kind, blob, comment = public_key("ssh-rsa").split()
    assert one(f"{name} {blob} {comment}") == one(f"{kind} {blob} {comment}")
    assert keys.parse(f"{name} {ED25519}") == []


def test_a_line_ends_where_sshd_ends_it():
    line = f'command="a\x0cb\u2028" ssh-ed25519 {ED25519}'
    assert one(line).options == {"command": "a\x0cb\u2028"}
    assert keys.parse(f"# a remark\x0cssh-ed25519 {ED25519}") == []


def test_a_key_that_is_not_ascii_is_none():
    assert keys.parse("ssh-ed25519 ÄÄÄÄ") == []


VAGRANT = "AAAAC3NzaC1lZDI1NTE5AAAAIN1YdxBpNlzxDqfJyw/QKow1F+wvG9hXGoqiysfJOn5Y"


def test_a_key_with_a_public_private_half_lets_nobody_in():
    assert refused(f"ssh-ed25519 {VAGRANT}") == (
        "its private key is public: Vagrant's insecure Ed25519 key"
    )


@pytest.fixture(autouse=True)
def far_from_greenwich(monkeypatch):
    """So that a mix-up of local time and UTC shows."""
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
