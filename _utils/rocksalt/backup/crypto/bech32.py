"""Keys of 32 bytes as text: Bech32 (BIP 173), in which a mistyped character is noticed."""

from __future__ import annotations

from collections.abc import Sequence

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def encode(prefix: str, data: bytes) -> str:
    """The text for a key, all in the case of the prefix."""
    values = _regrouped(data, 8, 5, pad=True)
    checksum = _polymod(prefix, [*values, *[0] * 6]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    text = "".join(_CHARSET[value] for value in values)
    return f"{prefix}1{text if prefix.islower() else text.upper()}"


def decode(text: str, prefix: str) -> bytes:
    """The key in a text that :func:`encode` made with this prefix; ValueError says, as the end of a
    sentence and without showing the text, why it is none.
    """
    head, _, tail = text.rpartition("1")
    if head != prefix:
        raise ValueError(f"does not begin with {prefix}1")
    lower = tail if prefix.islower() else tail.swapcase()
    if set(lower) - set(_CHARSET):
        raise ValueError("holds a character that no such key has")
    values = [_CHARSET.index(character) for character in lower]
    if len(values) < 6 or _polymod(prefix, values) != 1:
        raise ValueError("has a wrong checksum: it was mistyped or cut off")
    data = bytes(_regrouped(values[:-6], 5, 8, pad=False))
    if len(data) != 32 or encode(prefix, data) != text:
        raise ValueError("is not a key of 32 bytes")
    return data


def _regrouped(values: Sequence[int], old: int, new: int, pad: bool) -> list[int]:
    """The same bits in groups of another size."""
    bits = "".join(f"{value:0{old}b}" for value in values)
    if pad:
        bits += "0" * (-len(bits) % new)
    return [int(bits[i : i + new], 2) for i in range(0, len(bits) - new + 1, new)]


def _polymod(prefix: str, values: Sequence[int]) -> int:
    """The checksum, which is 1 for a text as it should be."""
    codes = [ord(character) for character in prefix.lower()]
    checksum = 1
    for value in [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes), *values]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum
