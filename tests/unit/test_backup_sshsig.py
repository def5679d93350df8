"""rocksalt.backup.crypto.sshsig: signatures of one key, for one purpose, on one message."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest
from backup_chain import signer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.crypto.sshsig import Signer, verify
from rocksalt.backup.errors import BackupError, Unverified

# Made by OpenSSH 9.2 with a key that was thrown away.
MADE_BY_OPENSSH = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFP7Vv8b72tTN9FbSK/RIloYBTWbeUxST/joi96e7mND",
    """\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgU/tW/xvva1M30VtIr9EiWhgFNZ
t5TFJP+OiL3p7uY0MAAAAGYmFja3VwAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1
NTE5AAAAQJ8d0GiU8h7CDQPqFxq3gLXVeXRibpw3KglF94XCdBL75jgsXkJWWGve6N5wcM
5X0En6YLCkqZ86A5ccUvt5HgE=
-----END SSH SIGNATURE-----
""",
)


@pytest.fixture(scope="module")
def key():
    return signer()


@pytest.fixture(scope="module")
def signature(key):
    return key.sign(b"message", "backup")


def test_a_signature_and_who_made_it(key, signature):
    line = f"{key.public} ann@desk"
    assert verify(b"message", signature, "backup", [signer().public, line]) == line


def test_the_same_message_has_one_signature(key, signature):
    assert key.sign(b"message", "backup") == signature


def test_what_openssh_made():
    public, made = MADE_BY_OPENSSH
    assert verify(b"message\n", made.encode(), "backup", [public]) == public


def test_armour(signature):
    lines = signature.decode().split("\n")
    assert lines[0] == "-----BEGIN SSH SIGNATURE-----"
    assert lines[-2:] == ["-----END SSH SIGNATURE-----", ""]
    assert {len(line) for line in lines[1:-3]} == {70}
    assert 0 < len(lines[-3]) <= 70


@pytest.mark.parametrize("message", [b"", b"messag", b"message\n", b"Message", b"message\0"])
def test_another_message(key, signature, message):
    with pytest.raises(Unverified, match="was changed after ssh-ed25519"):
        verify(message, signature, "backup", [key.public])


@pytest.mark.parametrize("namespace", ["", "file", "backup2", "Backup"])
def test_another_purpose(key, signature, namespace):
    with pytest.raises(Unverified, match=f"is signed as 'backup', not as '{namespace}'"):
        verify(b"message", signature, namespace, [key.public])


def test_another_signer(key, signature):
    other = signer()
    with pytest.raises(Unverified, match="who is not trusted; trusted is") as caught:
        verify(b"message", signature, "backup", [other.public])
    assert key.public in str(caught.value)
    assert other.public in str(caught.value)
    with pytest.raises(Unverified, match="trusted is none"):
        verify(b"message", signature, "backup", [])


def test_the_signature_of_one_under_the_name_of_another(key, signature):
    other = signer()
    blob = base64.b64decode(b"".join(signature.split(b"\n")[1:-2]))
    mine, theirs = (base64.b64decode(k.public.split()[1]) for k in (key, other))
    forged = armoured(blob.replace(mine, theirs))
    with pytest.raises(Unverified, match="was changed after"):
        verify(b"message", forged, "backup", [other.public])


def armoured(blob: bytes) -> bytes:
    text = base64.b64encode(blob)
    return b"-----BEGIN SSH SIGNATURE-----\n" + text + b"\n-----END SSH SIGNATURE-----\n"


def test_a_bit_flipped_anywhere(key, signature):
    blob = base64.b64decode(b"".join(signature.split(b"\n")[1:-2]))
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Unverified):
            verify(b"message", armoured(bytes(changed)), "backup", [key.public])


def test_cut_off_anywhere(key, signature):
    blob = base64.b64decode(b"".join(signature.split(b"\n")[1:-2]))
    for size in range(len(blob)):
        with pytest.raises(Unverified):
            verify(b"message", armoured(blob[:size]), "backup", [key.public])
    for more in (b"\0", b"\0\0\0\0", b"\0\0\0\1x"):
        with pytest.raises(Unverified):
            verify(b"message", armoured(blob + more), "backup", [key.public])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: b"",
        lambda s: s[:-1],
        lambda s: s + b"\n",
        lambda s: b"\n" + s,
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s.replace(b"SSH", b"PGP"),
        lambda s: s.replace(b"-----END", b"x-----END"),
        lambda s: s + s,
        lambda s: s[:60] + b"*" + s[60:],
        lambda s: b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
    ],
)
def test_what_is_no_signature(key, signature, change):
    with pytest.raises(Unverified, match="signature"):
        verify(b"message", change(signature), "backup", [key.public])


def fields(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


@pytest.mark.parametrize(
    ("reserved", "algorithm", "version"),
    [(b"x", b"sha512", 1), (b"", b"sha256", 1), (b"", b"sha512", 2), (b"", b"sha512", 0)],
)
def test_other_ways_to_sign(key, reserved, algorithm, version):
    blob = base64.b64decode(key.public.split()[1])
    inner = fields(b"ssh-ed25519", bytes(64))
    packed = fields(blob, b"backup", reserved, algorithm, inner)
    made = armoured(b"SSHSIG" + struct.pack(">I", version) + packed)
    with pytest.raises(Unverified, match=r"not used here|unknown version"):
        verify(b"message", made, "backup", [key.public])


def test_a_signature_of_another_type(key):
    blob = base64.b64decode(key.public.split()[1])
    packed = fields(blob, b"backup", b"", b"sha512", fields(b"rsa-sha2-512", bytes(64)))
    with pytest.raises(Unverified, match="not of the type ssh-ed25519"):
        verify(b"m", armoured(b"SSHSIG\0\0\0\1" + packed), "backup", [key.public])


# Keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 *",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQ==",
        "me@desk",
        "ssh-rsa " + base64.b64encode(fields(b"ssh-ed25519", bytes(32))).decode(),
        "ssh-ed25519 " + base64.b64encode(fields(b"ssh-rsa", bytes(32))).decode(),
        "ssh-ed25519 " + base64.b64encode(fields(b"ssh-ed25519", bytes(31))).decode(),
        "ssh-ed25519 " + base64.b64encode(fields(b"ssh-ed25519", bytes(32)) + b"x").decode(),
    ],
)
def test_trusted_keys_that_are_none(signature, line):
    with pytest.raises(BackupError, match="is no public key of the type ssh-ed25519") as caught:
        verify(b"message", signature, "backup", [line])
    assert not isinstance(caught.value, Unverified)


def test_a_key_without_its_comment(key):
    assert sshsig.bare(f" {key.public} ann at her desk\n") == key.public


def test_a_new_key(tmp_path):
    path = tmp_path / "signing"
    public = sshsig.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sshsig.bare(Path(f"{path}.pub").read_text()) == public == Signer.load(path).public
    made = Signer.load(str(path)).sign(b"m", "n")
    assert verify(b"m", made, "n", [public]) == public


@pytest.mark.parametrize("there", ["signing", "signing.pub"])
def test_a_key_is_never_replaced(tmp_path, there):
    (tmp_path / there).write_text("old")
    with pytest.raises(BackupError, match=f"{there} exists already"):
        sshsig.generate(tmp_path / "signing")
    assert (tmp_path / there).read_text() == "old"


def written(path, key, form=PrivateFormat.OpenSSH, mode=0o600):
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    path.chmod(mode)
    return path


def test_a_key_with_a_passphrase(tmp_path):
    path = tmp_path / "key"
    blob = b"openssh-key-v1\0" + fields(b"aes256-ctr", b"bcrypt", bytes(24), b"\0\0\0\1", bytes(48))
    text = base64.b64encode(blob).decode()
    path.write_text(
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    with pytest.raises(BackupError, match="has a passphrase"):
        Signer.load(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP256R1()),
    ],
)
def test_keys_of_other_types(tmp_path, make):
    with pytest.raises(BackupError, match="is not of the type ssh-ed25519"):
        Signer.load(written(tmp_path / "key", make()))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read(tmp_path, mode):
    path = written(tmp_path / "key", ed25519.Ed25519PrivateKey.generate(), mode=mode)
    with pytest.raises(BackupError, match=f"can be read by others: chmod 600 {path}"):
        Signer.load(path)


def test_a_key_in_another_form(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    path = written(tmp_path / "key", key, form=PrivateFormat.PKCS8)
    with pytest.raises(BackupError, match="is no private key of OpenSSH"):
        Signer.load(path)


@pytest.mark.parametrize("data", [b"", b"x", b"ssh-ed25519 AAAA", b"\xff" * 99])
def test_a_file_that_is_no_key(tmp_path, data):
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(BackupError, match="is no private key of OpenSSH"):
        Signer.load(path)


def test_no_key(tmp_path):
    with pytest.raises(BackupError, match="cannot be read: No such file or directory"):
        Signer.load(tmp_path / "key")
