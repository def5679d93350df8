"""crypto.age and crypto.bech32: nothing but what was written, to nobody but the recipients."""

from __future__ import annotations

import base64
import hashlib
import io
import tracemalloc

import pytest
from backup_chain import Trickle

from rocksalt.backup.crypto import age, bech32
from rocksalt.backup.errors import BackupError, Unverified

CHUNK = age.CHUNK
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1]
IDENTITY, RECIPIENT = age.generate()
# BIP 173 and the specification of age: low-order points are the ones a peer must refuse.
LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def encrypted(plain: bytes, *recipients: str, piece: int = 1 << 30) -> bytes:
    target = io.BytesIO()
    writer = age.Writer(target, recipients or [RECIPIENT])
    for start in range(0, len(plain), piece):
        assert writer.write(plain[start : start + piece]) == len(plain[start : start + piece])
    writer.close()
    return target.getvalue()


def decrypted(data: bytes, identity: str = IDENTITY, piece: int = 1 << 30) -> bytes:
    with io.BufferedReader(age.Reader(Trickle(data, piece), age.identities(identity))) as reader:
        return reader.read()


def text(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def header_size(data: bytes) -> int:
    """Bytes before the first chunk: the header and the nonce."""
    return data.index(b"\n", data.index(b"\n---") + 1) + 1 + 16


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [CHUNK // 3, CHUNK, 1 << 30])
def test_there_and_back(size, piece):
    assert decrypted(encrypted(text(size), piece=piece)) == text(size)


@pytest.mark.parametrize("piece", [1, 3])
def test_there_and_back_in_tiny_pieces(piece):
    data = encrypted(text(100), piece=piece)
    assert decrypted(data, piece=piece) == text(100)


def test_the_size_of_what_is_written():
    for size in SIZES:
        data = encrypted(text(size))
        chunks = max(1, -(-size // CHUNK))
        assert len(data) == header_size(data) + size + 16 * chunks


def test_views_of_other_items_are_written_as_bytes():
    target = io.BytesIO()
    writer = age.Writer(target, [RECIPIENT])
    writer.write(memoryview(bytearray(8)).cast("Q"))
    writer.write(bytearray(b"x"))
    writer.close()
    assert decrypted(target.getvalue()) == bytes(8) + b"x"


def test_a_reader_reads_like_any_file():
    reader = age.Reader(io.BytesIO(encrypted(text(CHUNK + 5))), age.identities(IDENTITY))
    assert reader.readable()
    assert reader.read(0) == b""
    assert reader.read(3) == text(3)
    assert reader.readall() == text(CHUNK + 5)[3:]
    assert reader.read(1) == b""
    assert reader.readinto(bytearray(1)) == 0


def test_every_recipient_reads_it_and_nobody_else():
    pairs = [age.generate() for _ in range(3)]
    data = encrypted(b"secret", *(recipient for _, recipient in pairs[:2]))
    assert decrypted(data, pairs[0][0]) == decrypted(data, pairs[1][0]) == b"secret"
    assert decrypted(data, "\n".join(identity for identity, _ in pairs[1:])) == b"secret"
    with pytest.raises(BackupError, match="none of the identities can read the archive") as caught:
        decrypted(data, pairs[2][0])
    assert not isinstance(caught.value, Unverified)


def test_no_two_files_are_alike():
    one, other = (encrypted(b"x") for _ in range(2))
    assert one[header_size(one) :] != other[header_size(other) :]


def test_a_writer_needs_recipients():
    with pytest.raises(ValueError, match="needs a recipient"):
        age.Writer(io.BytesIO(), [])
    with pytest.raises(ValueError, match="does not begin with age1"):
        age.Writer(io.BytesIO(), ["ann"])


def test_what_was_not_closed_is_not_whole():
    target = io.BytesIO()
    writer = age.Writer(target, [RECIPIENT])
    writer.write(text(2 * CHUNK))
    with pytest.raises(Unverified, match="changed or cut off at byte"):
        decrypted(target.getvalue())


class Counting(io.RawIOBase):
    """Takes everything and keeps nothing."""

    size = 0

    def write(self, data) -> int:
        self.size += len(data)
        return len(data)


def test_memory_does_not_grow_with_what_is_written():
    target, data = Counting(), bytes(1 << 20)
    tracemalloc.start()
    writer = age.Writer(target, [RECIPIENT])
    for _ in range(48):
        writer.write(data)
    writer.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert target.size > 48 << 20
    assert peak < 1 << 20


# Changes ------------------------------------------------------------------------------------------


def test_a_bit_flipped_anywhere_in_a_small_file():
    data = encrypted(b"x" * 40)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(BackupError):
            decrypted(bytes(changed))


def test_a_bit_flipped_at_every_boundary_of_a_chunk():
    data = encrypted(text(4 * CHUNK + 9))
    begin = header_size(data)
    for boundary in range(begin, len(data), CHUNK + 16):
        for place in (boundary - 1, boundary, boundary + CHUNK - 1, boundary + CHUNK):
            if begin <= place < len(data):
                changed = bytearray(data)
                changed[place] ^= 1
                with pytest.raises(Unverified, match="was changed or cut off at byte"):
                    decrypted(bytes(changed))


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 1])
def test_cut_off_at_every_boundary_of_a_chunk(size):
    data = encrypted(text(size))
    begin = header_size(data)
    for boundary in [*range(begin, len(data), CHUNK + 16), len(data)]:
        for place in (boundary - 17, boundary - 1, boundary, boundary + 1, boundary + 15):
            if 0 <= place < len(data):
                with pytest.raises(Unverified):
                    decrypted(data[:place])


def test_what_comes_before_a_change_is_right():
    data = bytearray(encrypted(text(3 * CHUNK)))
    data[-1] ^= 1
    reader = age.Reader(io.BytesIO(data), age.identities(IDENTITY))
    seen = b""
    with pytest.raises(Unverified):
        while more := reader.read(CHUNK):
            seen += more
    assert seen == text(2 * CHUNK)
    with pytest.raises(Unverified):
        reader.read(1)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("more", [b"x", bytes(16), bytes(CHUNK + 16)])
def test_something_behind_the_end(size, more):
    with pytest.raises(Unverified):
        decrypted(encrypted(text(size)) + more)


def test_two_files_are_not_one():
    data = encrypted(text(CHUNK))
    with pytest.raises(Unverified, match="added behind the end"):
        decrypted(data + data)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2), (1, 2), (0, 0, 1, 2), (0, 1, 1, 2), (0, 1)])
def test_chunks_in_another_order(order):
    data = encrypted(text(2 * CHUNK + 5))
    begin = header_size(data)
    chunks = [data[i : i + CHUNK + 16] for i in range(begin, len(data), CHUNK + 16)]
    with pytest.raises(Unverified):
        decrypted(data[:begin] + b"".join(chunks[i] for i in order))


def test_a_chunk_of_another_file():
    one, other = (encrypted(text(2 * CHUNK)) for _ in range(2))
    with pytest.raises(Unverified):
        decrypted(one[: -CHUNK - 16] + other[-CHUNK - 16 :])


class Loose(age.Writer):
    """Writes chunks as told."""

    def chunk(self, data: bytes, last: bool) -> None:
        self._seal(memoryview(data), last)


def loose(*chunks: tuple[bytes, bool]) -> bytes:
    target = io.BytesIO()
    writer = Loose(target, [RECIPIENT])
    for data, last in chunks:
        writer.chunk(data, last)
    return target.getvalue()


@pytest.mark.parametrize(
    "chunks",
    [
        [(text(CHUNK), False), (b"", True)],
        [(b"short", False), (b"last", True)],
        [(b"short", False), (text(CHUNK), True)],
        [(b"", False), (b"last", True)],
        [(text(CHUNK), False)],
        [(b"last", True), (b"last", True)],
        [(text(CHUNK), True), (text(CHUNK), True)],
        [(text(CHUNK + 1), True)],
        [],
    ],
)
def test_chunks_as_nobody_writes_them(chunks):
    """By somebody who has the key: even so there is one way only."""
    with pytest.raises(Unverified):
        decrypted(loose(*chunks))


def test_an_empty_file_is_one_empty_chunk():
    assert decrypted(loose((b"", True))) == b""


# Headers -----------------------------------------------------------------------------------------


def relined(change) -> bytes:
    """A file with other lines in its header."""
    data = encrypted(b"x")
    begin = header_size(data) - 16
    lines = data[:begin].splitlines()
    return b"\n".join([*change(lines), data[begin:]])


SHARE = base64.b64encode(bytes(range(32))).rstrip(b"=")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: [b"age-encryption.org/v2", *h[1:]],
        lambda h: [h[0] + b"\r", *h[1:]],
        lambda h: [h[0], b"", *h[1:]],
        lambda h: [h[0] + b" ", *h[1:]],
        lambda h: [h[0], h[3]],
        lambda h: [*h[:1], b"->", *h[2:]],
        lambda h: [*h[:1], b"-> ", *h[2:]],
        lambda h: [*h[:1], h[1] + b" ", *h[2:]],
        lambda h: [*h[:1], h[1].replace(b" ", b"  ", 1), *h[2:]],
        lambda h: [*h[:1], h[1] + b" more", *h[2:]],
        lambda h: [*h[:1], h[1] + "ä".encode(), *h[2:]],
        lambda h: [*h[:1], h[1] + b"=", *h[2:]],
        lambda h: [*h[:1], b"-> X25519", *h[2:]],
        lambda h: [*h[:1], h[1][:-1], *h[2:]],
        lambda h: [*h[:1], h[1][:-1] + b"*", *h[2:]],
        lambda h: [*h[:2], h[2] + b"=", *h[3:]],
        lambda h: [*h[:2], h[2] + b" ", *h[3:]],
        lambda h: [*h[:2], h[2][:-1], *h[3:]],
        lambda h: [*h[:2], h[2] + b"A" * 30, *h[3:]],
        lambda h: [*h[:2], b"", *h[3:]],
        lambda h: [*h[:2], *h[3:]],
        lambda h: [*h[:3], b"A" * 64, *h[3:]],
        lambda h: [*h[:3], b""],
        lambda h: [*h[:3], b"---"],
        lambda h: [*h[:3], b"--- "],
        lambda h: [*h[:3], h[3] + b"="],
        lambda h: [*h[:3], h[3] + b" "],
        lambda h: [*h[:3], h[3][:-1]],
        lambda h: [*h[:3], b"--- " + SHARE],
        lambda h: [*h[:3], b"-> joint a b", b"", h[3]],
        lambda h: [b"", *h],
        lambda h: [],
    ],
)
def test_headers_as_nobody_writes_them(change):
    with pytest.raises(Unverified):
        decrypted(relined(change))


def test_a_header_without_end():
    with pytest.raises(Unverified, match="ends within its header"):
        decrypted(b"age-encryption.org/v1\n" + b"-> a b\n\n" * 50_000)


def test_only_one_text_stands_for_the_same_bits():
    """The last character of a share has four bits that count for nothing; they must be 0."""
    data = encrypted(b"x")
    place = data.index(b"\n", data.index(b"-> X25519")) - 1
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose_bits = bytes([alphabet[alphabet.index(data[place]) | 1]])
    with pytest.raises(Unverified, match="none of age"):
        decrypted(data[:place] + loose_bits + data[place + 1 :])


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order(point):
    share = base64.b64encode(point).rstrip(b"=")
    with pytest.raises(Unverified, match="key of low order"):
        decrypted(relined(lambda h: [h[0], b"-> X25519 " + share, *h[2:]]))
    with pytest.raises(ValueError, match="key of low order"):
        age.recipient(bech32.encode("age", point))


def test_the_readers_of_a_file_can_be_counted_without_a_key():
    data = encrypted(b"x", *(age.generate()[1] for _ in range(3)))
    assert [arguments[0] for arguments, _ in age.Header(io.BytesIO(data)).stanzas] == 3 * ["X25519"]


# Keys --------------------------------------------------------------------------------------------


def test_a_key_pair():
    identity, recipient = age.generate()
    assert identity.startswith("AGE-SECRET-KEY-1")
    assert identity == identity.upper()
    (key,) = age.identities(identity)
    assert age.public(key) == recipient
    assert age.generate() != (identity, recipient)


def test_a_fingerprint_is_one_that_stock_tools_show():
    assert age.fingerprint(RECIPIENT) == hashlib.sha256(RECIPIENT.encode()).hexdigest()
    with pytest.raises(ValueError, match="checksum"):
        age.fingerprint(RECIPIENT[:-1])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: "", "does not begin with age1"),
        (lambda r: r.upper(), "does not begin with age1"),
        (lambda r: "bge" + r[3:], "does not begin with age1"),
        (lambda r: r[:20] + r[20:].upper(), "character"),
        (lambda r: r + " ", "character"),
        (lambda r: r[:10] + "b" + r[11:], "character"),
        (lambda r: r[:-1], "checksum"),
        (lambda r: r + "q", "checksum"),
        (lambda r: r[:10] + ("q" if r[10] != "q" else "p") + r[11:], "checksum"),
        (lambda r: "age1", "checksum"),
        (lambda r: bech32.encode("age", bytes(31)), "is not a key of 32 bytes"),
        (lambda r: bech32.encode("age", bytes(33)), "is not a key of 32 bytes"),
        (lambda r: IDENTITY, "does not begin with age1"),
    ],
)
def test_recipients_that_are_none(change, why):
    with pytest.raises(ValueError, match=why):
        age.recipient(change(RECIPIENT))


def test_every_mistyped_character_is_noticed():
    for place in range(4, len(RECIPIENT)):
        for other in "qz5":
            if RECIPIENT[place] != other:
                with pytest.raises(ValueError, match="checksum"):
                    bech32.decode(RECIPIENT[:place] + other + RECIPIENT[place + 1 :], "age")


def test_bits_beyond_the_key_must_be_zero():
    """A text with the right checksum, and one of the four spare bits set."""
    values = bech32._regrouped(bytes(32), 8, 5, pad=True)
    values[-1] |= 1
    checksum = bech32._polymod("age", [*values, *[0] * 6]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    with pytest.raises(ValueError, match="is not a key of 32 bytes"):
        bech32.decode("age1" + "".join(bech32._CHARSET[v] for v in values), "age")


def test_an_identity_file():
    other, other_recipient = age.generate()
    found = age.identities(f"# created: today\n# public key: x\n{IDENTITY}\n\n  {other}  \r\n")
    assert [age.public(key) for key in found] == [RECIPIENT, other_recipient]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("", "holds no identity"),
        ("# nothing", "holds no identity"),
        (f"#\n{IDENTITY.lower()}", "line 2 of the identity file does not begin"),
        (f"{IDENTITY}\n{RECIPIENT}", "line 2 of the identity file does not begin"),
        (IDENTITY[:-1], "line 1 of the identity file has a wrong checksum"),
        (IDENTITY[:30] + IDENTITY[30:].lower(), "line 1 of the identity file holds a character"),
        ("AGE-PLUGIN-YUBIKEY-1QQ", "line 1 of the identity file does not begin"),
        ("age-encryption.org/v1\n-> scrypt x", "encrypted with a passphrase"),
        ("-----BEGIN AGE ENCRYPTED FILE-----", "encrypted with a passphrase"),
    ],
)
def test_identity_files_that_are_none(lines, why):
    with pytest.raises(BackupError, match=why) as caught:
        age.identities(lines)
    assert IDENTITY[20:40] not in str(caught.value)
