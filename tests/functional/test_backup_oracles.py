"""Archives and signatures against the programs whose formats they have: age and ssh-keygen."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from rocksalt.backup.crypto import age, recipients, sshsig
from rocksalt.backup.errors import BackupError, Unverified

pytestmark = pytest.mark.any_salt

CHUNK = 64 << 10
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3_000_000]


def run(*command: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)


def good(*command: str | Path, data: bytes = b"") -> bytes:
    ran = run(*command, data=data)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def encrypted(plain: bytes, *to: str) -> bytes:
    target = io.BytesIO()
    writer = age.Writer(target, to)
    writer.write(plain)
    writer.close()
    return target.getvalue()


def decrypted(data: bytes, identities: str) -> bytes:
    return age.Reader(io.BytesIO(data), age.identities(identities)).readall()


@pytest.fixture
def identity(tmp_path) -> Path:
    """An identity of age-keygen."""
    path = tmp_path / "identity"
    good("age-keygen", "-o", path)
    return path


@pytest.fixture
def recipient(identity) -> str:
    return good("age-keygen", "-y", identity).decode().strip()


@pytest.mark.parametrize("size", SIZES)
def test_age_reads_what_was_written_here(tmp_path, identity, recipient, size):
    plain = os.urandom(size)
    path = tmp_path / "archive"
    path.write_bytes(encrypted(plain, age.generate()[1], recipient))
    assert good("age", "-d", "-i", identity, path) == plain


@pytest.mark.parametrize("size", SIZES)
def test_what_age_wrote_is_read_here(identity, recipient, size):
    plain = os.urandom(size)
    data = good("age", "-r", age.generate()[1], "-r", recipient, data=plain)
    assert decrypted(data, identity.read_text()) == plain


def test_both_have_the_same_keys(tmp_path, identity, recipient):
    (key,) = age.identities(identity.read_text())
    assert age.public(key) == recipient
    made, public = age.generate()
    (tmp_path / "made").write_text(f"{made}\n")
    assert good("age-keygen", "-y", tmp_path / "made").decode().strip() == public
    assert good("sha256sum", data=public.encode()).split()[0].decode() == age.fingerprint(public)


def test_both_refuse_the_same_files(tmp_path, identity, recipient):
    """Cut off, added to, changed, in another order: at and around every boundary of a chunk."""
    plain = os.urandom(2 * CHUNK + 100)
    data = encrypted(plain, recipient)
    begin = len(data) - len(plain) - 3 * 16
    first, second = (data[begin + i * (CHUNK + 16) :][: CHUNK + 16] for i in range(2))
    broken = [data + b"x", data + first, data[:begin] + second + first + data[-116:], data[:10]]
    for boundary in (begin, begin + CHUNK + 16, begin + 2 * (CHUNK + 16)):
        broken += [data[:boundary], data[: boundary + 1]]
        changed = bytearray(data)
        changed[boundary] ^= 1
        broken.append(bytes(changed))
    path = tmp_path / "archive"
    for wrong in broken:
        with pytest.raises(Unverified):
            decrypted(wrong, identity.read_text())
        path.write_bytes(wrong)
        assert run("age", "-d", "-i", identity, path).returncode == 1


def test_for_somebody_else_neither_reads_it(tmp_path, identity):
    data = encrypted(b"secret", age.generate()[1])
    with pytest.raises(BackupError, match="none of the identities"):
        decrypted(data, identity.read_text())
    (tmp_path / "archive").write_bytes(data)
    assert b"no identity matched" in run("age", "-d", "-i", identity, tmp_path / "archive").stderr


# Signatures --------------------------------------------------------------------------------------


def verified(folder: Path, public: str, message: bytes, signature: bytes, namespace: str) -> bool:
    """What ssh-keygen says."""
    (folder / "signers").write_text(f'salt1 namespaces="{namespace}" {public}\n')
    (folder / "signature").write_bytes(signature)
    options = ["-f", folder / "signers", "-I", "salt1", "-n", namespace]
    ran = run("ssh-keygen", "-Y", "verify", *options, "-s", folder / "signature", data=message)
    return ran.returncode == 0


@pytest.mark.parametrize("message", [b"", b"message\n", os.urandom(100_000)])
def test_ssh_keygen_believes_what_was_signed_here(tmp_path, message):
    public = sshsig.generate(tmp_path / "key")
    signature = sshsig.Signer.load(tmp_path / "key").sign(message, "rocksalt-backup")
    assert verified(tmp_path, public, message, signature, "rocksalt-backup")
    assert not verified(tmp_path, public, message + b"x", signature, "rocksalt-backup")
    assert not verified(tmp_path, public, message, signature, "file")


@pytest.mark.parametrize("message", [b"", b"message\n", os.urandom(100_000)])
def test_what_ssh_keygen_signed_is_believed_here(tmp_path, message):
    key, path = tmp_path / "key", tmp_path / "message"
    good("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann's key", "-f", key)
    path.write_bytes(message)
    good("ssh-keygen", "-Y", "sign", "-f", key, "-n", "rocksalt-backup", path)
    signature = (tmp_path / "message.sig").read_bytes()
    public = (tmp_path / "key.pub").read_text().strip()
    assert sshsig.verify(message, signature, "rocksalt-backup", [public]) == public
    assert sshsig.Signer.load(key).sign(message, "rocksalt-backup") == signature
    assert sshsig.bare((tmp_path / "key.pub").read_text()) == sshsig.Signer.load(key).public


def test_ssh_keygen_uses_a_key_made_here(tmp_path):
    public = sshsig.generate(tmp_path / "key")
    assert good("ssh-keygen", "-y", "-f", tmp_path / "key").decode().strip() == public
    (tmp_path / "message").write_bytes(b"message")
    good("ssh-keygen", "-Y", "sign", "-f", tmp_path / "key", "-n", "x", tmp_path / "message")
    assert sshsig.verify(b"message", (tmp_path / "message.sig").read_bytes(), "x", [public])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-t", "rsa", "-N", ""], "is not of the type ssh-ed25519"),
        (["-t", "ecdsa", "-N", ""], "is not of the type ssh-ed25519"),
        (["-t", "ed25519", "-N", "secret", "-a", "1"], "has a passphrase"),
    ],
)
def test_keys_that_are_not_used(tmp_path, options, why):
    good("ssh-keygen", "-q", *options, "-f", tmp_path / "key")
    with pytest.raises(BackupError, match=why):
        sshsig.Signer.load(tmp_path / "key")


def test_a_signature_by_another_type_of_key(tmp_path):
    key = tmp_path / "key"
    good("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key)
    (tmp_path / "message").write_bytes(b"message")
    good("ssh-keygen", "-Y", "sign", "-f", key, "-n", "x", tmp_path / "message")
    signature = (tmp_path / "message.sig").read_bytes()
    with pytest.raises(Unverified, match="with a key that is not of the type ssh-ed25519"):
        sshsig.verify(b"message", signature, "x", [sshsig.generate(tmp_path / "other")])


def test_recipients_are_authorised_with_the_commands_that_an_error_tells(tmp_path, recipient):
    authority = tmp_path / "authority"
    good("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority)
    settings = {
        "instance": "salt1",
        "revision": 1,
        "recipients": [recipient, age.generate()[1]],
        "escrow": recipient,
        "customers": {},
        "authority": (tmp_path / "authority.pub").read_text().strip(),
        "authorisation": "",
    }
    with pytest.raises(Unverified) as caught:
        recipients.authorised(settings)
    (tmp_path / "record.json").write_bytes(recipients.record_bytes(settings))
    command = "ssh-keygen -Y sign -f authority -n rocksalt-recipients record.json"
    assert command in str(caught.value)
    good("sh", "-c", f"cd {tmp_path} && {command}")
    settings["authorisation"] = (tmp_path / "record.json.sig").read_text()
    assert recipients.authorised(settings) == recipients.record(settings)
