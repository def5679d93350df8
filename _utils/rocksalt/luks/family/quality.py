"""How well headers of LUKS and what is mapped encrypt, and what encrypts without LUKS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rocksalt.luks import config, crypttab, tables
from rocksalt.luks.family.reading import Reading, customers, luks
from rocksalt.luks.headers import Header, Slot
from rocksalt.luks.volumes import wrapping

Look = Callable[[Header], Iterator[str]]
_BY_MACHINES = {"clevis", "systemd-fido2", "systemd-pkcs11", "systemd-recovery", "systemd-tpm2"}
"""Tokens whose slots have random keys, which nobody guesses."""
_INTEGRITY_TAGS = ("", "none")


class Quality:
    """What of it is not as decided, as sentences that begin with the device."""

    def __init__(self, reading: Reading, settings: config.Settings):
        self.reading = reading
        self.settings = settings

    def of_headers(self, look: Look) -> list[str]:
        """What a look at each header finds."""
        known = self.reading.headers.known.values()
        return [f"{it.device}: {words}" for it in known for words in look(it)]

    def versions(self, header: Header) -> Iterator[str]:
        if header.version not in self.settings["versions"]:
            yield f"has a header of LUKS{header.version}"

    def ciphers(self, header: Header) -> Iterator[str]:
        """Of the data as of the key slots."""
        accepted, least = self.settings["ciphers"], self.settings["key_size"]
        for cipher in sorted({it.cipher for it in header.data if it.kind != "linear"}):
            if cipher not in accepted:
                yield f"encrypts data with {cipher}"
        if any(it.kind == "linear" for it in header.data):
            yield "leaves a part of its data unencrypted"
        if any(it.kind.startswith("hw-opal") for it in header.data):
            yield "leaves encryption to the disk (OPAL)"
        if 0 < header.key_size < least:
            yield f"has a volume key of {header.key_size} bits, not {least}"
        for number, slot in _slots(header):
            if slot.cipher not in accepted:
                yield f"encrypts key slot {number} with {slot.cipher}"
            if slot.area_key_size < least:
                yield f"encrypts key slot {number} with {slot.area_key_size} bits, not {least}"

    def costs(self, header: Header) -> Iterator[str]:
        """Of deriving the key of a slot from a passphrase."""
        by_machines = _BY_MACHINES & {*self.settings["tokens"]}
        cheap = {
            str(number)
            for token in header.tokens.values()
            if token.get("type") in by_machines
            for number in token.get("keyslots", ())
        }
        for number, slot in _slots(header):
            if str(number) not in cheap:
                yield from self._cost(f"key slot {number}", slot)

    def _cost(self, what: str, slot: Slot) -> Iterator[str]:
        wanted = self.settings
        if slot.kdf not in wanted["pbkdfs"]:
            yield f"derives {what} with {slot.kdf}, not {' or '.join(wanted['pbkdfs'])}"
        elif slot.kdf == "pbkdf2":
            if slot.iterations < wanted["pbkdf2_iterations"]:
                least = wanted["pbkdf2_iterations"]
                yield f"iterates {slot.iterations} times for {what}, not {least}"
        else:
            if slot.memory < wanted["argon2_memory"]:
                least = wanted["argon2_memory"]
                yield f"takes {slot.memory} KiB of memory for {what}, not {least}"
            if slot.time < wanted["argon2_time"]:
                yield f"makes {slot.time} passes for {what}, not {wanted['argon2_time']}"

    def sectors(self, header: Header) -> Iterator[str]:
        least = self.settings["sector_size"]
        for size in sorted({it.sector_size for it in header.data if it.sector_size < least}):
            yield f"encrypts sectors of {size} bytes, not {least}"
        tags = {it.integrity for it in header.data}
        if self.settings["integrity"] and tags & {*_INTEGRITY_TAGS}:
            yield "does not authenticate its sectors"

    def slots(self, header: Header) -> Iterator[str]:
        """Of headers of the operator; those of customers have a control of their own."""
        if customers(header):
            return
        declared = self.settings["key_slots"]
        names = (header.uuid, self.reading.open_as(header))
        wanted = next((declared[it] for it in names if it in declared), 1)
        used = [str(number) for number, _ in _slots(header)]
        if len(used) != wanted:
            numbers = f" ({', '.join(used)})" if used else ""
            plural = "s" * (len(used) != 1)
            yield f"has {len(used)} key slot{plural} in use{numbers}, not {wanted}"

    def tokens(self, header: Header) -> Iterator[str]:
        known = [wrapping.TYPE] if customers(header) else self.settings["tokens"]
        for number, token in sorted(header.tokens.items()):
            if token.get("type") not in known:
                yield f"has token {number} of type {token.get('type')!r}"

    def mapped(self) -> list[str]:
        """Open devices that are not as their header says."""
        found = []
        for table in filter(luks, self.reading.mapped):
            header = self.reading.header_of(table)
            if header:
                found += tables.differences(header, table, self.reading.devices)
            elif not self.reading.headers.unreadable:
                found.append(
                    f"{table.name} cannot be opened again: no header has its UUID"
                    f" {table.header_uuid}"
                )
        return found

    def without_header(self) -> list[str]:
        """What encrypts without LUKS, and headers that lie elsewhere although nobody said so."""
        reading = self.reading
        random = {it.name for it in reading.crypttab if it.key_kind == "random"}
        found = [
            f"{it.name} is open as {_format(it.kind)}"
            for it in reading.mapped
            if not luks(it) and it.name not in random
        ]
        found += [
            f"{crypttab.PATH} line {it.line}: opens {it.name} as plain dm-crypt"
            for it in reading.crypttab
            if it.plain and it.key_kind != "random"
        ]
        return [*found, *self._undeclared()]

    def _undeclared(self) -> Iterator[str]:
        declared = {
            device.number: file
            for path, file in self.settings["detached_headers"].items()
            if (device := self.reading.devices.find(path))
        }
        for number, header in self.reading.headers.known.items():
            if header.detached and declared.get(number) != header.file:
                yield f"{header.device} has its header in {header.file}, which nobody declared"
        for table in filter(luks, self.reading.mapped):
            if not (self.reading.header_of(table) or self.reading.headers.unreadable):
                yield f"{table.name} was opened with a header that is on none of the disks"


def _slots(header: Header) -> list[tuple[int, Slot]]:
    """The key slots in use, but for those that reencryption needs meanwhile."""
    return [(n, it) for n, it in sorted(header.slots.items()) if it.kind != "reencrypt"]


def _format(kind: str) -> str:
    if kind in ("", "PLAIN"):
        return "plain dm-crypt, without a header"
    return f"{kind}, not LUKS"
