"""What we have cryptsetup do with a LUKS2 header, on a device or in a file, and with the mapping.

Every function raises :class:`Refused` with the words of cryptsetup where it could not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.host import Ran
from rocksalt.luks.keys import SIZE, Key, WrongKey
from rocksalt.luks.programs import must, run

PROGRAM = "cryptsetup"
_WRONG_KEY = 2
_NO_SLOT = "No usable keyslot is available"
"""What cryptsetup says, with another status, of a wrong key for several slots."""
_TORN = "Run repair first"
"""What it says where it was killed while it wrote to the data."""
_OVER = "reencryption not in progress"
"""What it says where to recover these was all that was left to do."""
_LEAST_PASSES = 4
_FROM_STDIN = ("--key-file=-", f"--keyfile-size={SIZE}")


@dataclass(frozen=True)
class Strength:
    """How a volume is encrypted: ``key_size`` in bits, ``memory`` in KiB, ``time`` in passes."""

    cipher: str = "aes-xts-plain64"
    key_size: int = 512
    pbkdf: str = "argon2id"
    memory: int = 65536
    time: int = 4
    iterations: int = 600000

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Strength:
        """The best that the settings of the family allow, at the cost that they ask for."""
        default = cls()
        ciphers, pbkdfs = settings["ciphers"], settings["pbkdfs"]
        return cls(
            cipher=default.cipher if default.cipher in ciphers else ciphers[0],
            key_size=settings["key_size"],
            pbkdf=default.pbkdf if default.pbkdf in pbkdfs else pbkdfs[0],
            memory=settings["argon2_memory"],
            time=max(settings["argon2_time"], _LEAST_PASSES),
            iterations=settings["pbkdf2_iterations"],
        )

    @property
    def cost(self) -> list[str]:
        """The arguments that say how a slot's key is derived, the same on every machine."""
        if self.pbkdf == "pbkdf2":
            return ["--pbkdf=pbkdf2", f"--pbkdf-force-iterations={self.iterations}"]
        return [
            f"--pbkdf={self.pbkdf}", f"--pbkdf-memory={self.memory}", "--pbkdf-parallel=1",
            f"--pbkdf-force-iterations={self.time}",
        ]  # fmt: skip


def make_header(
    path: str, key: Key, strength: Strength, sector_size: int, label: str, subsystem: str
) -> None:
    """Writes a new header, with ``key`` in slot 0, over whatever is in ``path``: a file of ours."""
    ran = run(
        PROGRAM, "luksFormat", "--batch-mode", "--type=luks2", *_FROM_STDIN, *strength.cost,
        f"--cipher={strength.cipher}", f"--key-size={strength.key_size}", "--hash=sha256",
        f"--sector-size={sector_size}", "--key-slot=0", f"--label={label}",
        f"--subsystem={subsystem}", path, given=key,
    )  # fmt: skip
    must(f"{path}: no header could be made", ran)


def opens(path: str, key: Key, slot: int | None) -> bool:
    """Whether the key is that of the slot, which exists; None where the volume is being encrypted
    anew, for then it takes several slots, all of the same key.
    """
    ran = run(
        PROGRAM, "open", "--test-passphrase", *_unlocking(slot), *_FROM_STDIN, path, given=key
    )
    if _wrong(ran, slot):
        return False
    must(f"{path}: the key could not be tried", ran)
    return True


def add_key(path: str, key: Key, new: Key, slot: int, strength: Strength) -> None:
    """Puts a new key into a free slot."""
    ran = run(
        PROGRAM, "luksAddKey", "--batch-mode", *_FROM_STDIN, f"--new-keyfile-size={SIZE}",
        *strength.cost, f"--key-slot={slot}", path, given=key, new=new,
    )  # fmt: skip
    if ran.status == _WRONG_KEY:
        raise WrongKey(f"{path}: the key does not open it")
    must(f"{path}: no key could be added", ran)


def kill_slot(path: str, slot: int) -> None:
    """Destroys a slot; whoever had its key can open nothing with it any more."""
    ran = run(PROGRAM, "luksKillSlot", "--batch-mode", path, str(slot))
    must(f"{path}: slot {slot} could not be removed", ran)


def import_token(path: str, number: int, token: Mapping[str, Any], replace: bool = False) -> None:
    """Writes a token of this number, which is free or, with ``replace``, taken."""
    ran = run(
        PROGRAM, "token", "import", f"--token-id={number}", "--json-file=-",
        *(["--token-replace"] if replace else []), path, given=json.dumps(token).encode(),
    )  # fmt: skip
    must(f"{path}: the token {number} could not be written", ran)


def remove_token(path: str, number: int) -> None:
    """Removes a token; the slots that it names stay."""
    ran = run(PROGRAM, "token", "remove", f"--token-id={number}", path)
    must(f"{path}: the token {number} could not be removed", ran)


def restore_header(path: str, backup: str) -> None:
    """Writes a whole header from a file over the one that is there."""
    ran = run(PROGRAM, "luksHeaderRestore", "--batch-mode", f"--header-backup-file={backup}", path)
    must(f"{path}: the header could not be written", ran)


def mend(path: str) -> None:
    """Writes the copy of a header anew that is damaged or older than the other one. Whether that
    went well, the header shows: afterwards, cryptsetup might ask for the key, to recover data.
    """
    run(PROGRAM, "repair", "--batch-mode", "--type=luks2", path)


def describe(path: str, label: str, subsystem: str) -> None:
    """Writes label and subsystem."""
    ran = run(PROGRAM, "config", f"--label={label}", f"--subsystem={subsystem}", path)
    must(f"{path}: the header could not be changed", ran)


def open_mapping(path: str, name: str, key: Key, slot: int | None, discard: bool) -> None:
    """Makes ``/dev/mapper/<name>``; slot as with :func:`opens`, :class:`WrongKey` if it is not
    that of the slot.
    """
    ran = run(
        PROGRAM, "open", *_unlocking(slot), *(["--allow-discards"] if discard else []),
        *_FROM_STDIN, path, name, given=key,
    )  # fmt: skip
    if _wrong(ran, slot):
        raise WrongKey(f"{path}: the key does not open it")
    must(f"{path}: could not be opened", ran)


def _wrong(ran: Ran, slot: int | None) -> bool:
    """Whether cryptsetup failed because of the key."""
    return ran.status == _WRONG_KEY or (slot is None and _NO_SLOT in ran.err)


def _unlocking(slot: int | None) -> list[str]:
    """Nothing but the key that is handed over may open a volume: no token, and no other slot."""
    only = [] if slot is None else [f"--key-slot={slot}"]
    return ["--type=luks2", "--disable-external-tokens", *only]


def close_mapping(name: str) -> Ran:
    """Takes ``/dev/mapper/<name>`` away, and says how that went."""
    return run(PROGRAM, "close", name)


def reencrypt(
    path: str, key: Key, slot: int | None, strength: Strength, options: Sequence[str] = ()
) -> None:
    """Encrypts everything anew with another volume key, which takes hours; without a slot, goes on
    with what was begun.
    """
    how = ["--resume-only"] if slot is None else [f"--key-slot={slot}", *strength.cost]
    command = (PROGRAM, "reencrypt", "--batch-mode", "--disable-external-tokens", *_FROM_STDIN)
    ran = run(*command, *how, *options, path, given=key, timeout=None)
    if ran.status and _TORN in ran.err:
        again = run(PROGRAM, "repair", "--batch-mode", *_FROM_STDIN, path, given=key)
        must(f"{path}: what was being encrypted anew could not be recovered", again)
        ran = run(*command, *how, *options, path, given=key, timeout=None)
        if _OVER in ran.err:
            return
    if _wrong(ran, slot):
        raise WrongKey(f"{path}: the key does not open it")
    must(f"{path}: could not be encrypted anew", ran)


DEFAULT = Strength()
"""What the settings are where nobody set anything."""
