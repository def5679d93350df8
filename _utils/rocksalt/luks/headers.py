"""Headers of LUKS as cryptsetup tells them: JSON of version 2, text of version 1."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import intact

_ENABLED = re.compile(r"^Key Slot (\d+): ENABLED\n\s+Iterations:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Segment:
    """A part of the data: ``kind`` is crypt, linear (not encrypted), hw-opal or hw-opal-crypt;
    ``offset`` and ``size`` in bytes (None: to the end of the device); ``integrity`` as cryptsetup
    names it, empty for none; ``flags`` such as backup-previous while it is being reencrypted;
    ``slots`` the key slots that open it, none for version 1, where all do.
    """

    kind: str
    cipher: str
    offset: int
    size: int | None = None
    sector_size: int = 512
    iv: int = 0
    integrity: str = ""
    flags: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A key slot in use: ``key_size`` in bits is that of the key in it, ``cipher`` and
    ``area_key_size`` (bits) encrypt it, ``memory`` is in KiB, ``iterations`` of pbkdf2.
    ``kind`` is luks1, luks2 or reencrypt; ``bound`` tells whether its key opens the data.
    ``digest`` is :func:`slot_digest`, empty for version 1.
    """

    kind: str
    key_size: int
    cipher: str
    area_key_size: int
    kdf: str
    memory: int = 0
    time: int = 0
    cpus: int = 0
    iterations: int = 0
    hash: str = ""
    bound: bool = True
    priority: int = 1
    digest: str = ""


@dataclass(frozen=True)
class Header:
    """``device`` is where the data are, ``file`` where the header is (the same unless detached).
    ``key_size`` is the volume key's in bits, 0 where no slot tells it. ``flags`` are those kept for
    opening (allow-discards, ...), ``requirements`` what a program has to know (online-reencrypt,
    ...). ``digest`` changes with anything above, but not with the epoch that counts writes.
    """

    device: str
    file: str
    version: int
    uuid: str
    label: str = ""
    subsystem: str = ""
    segments: tuple[Segment, ...] = ()
    slots: Mapping[int, Slot] = field(default_factory=dict)
    tokens: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    key_size: int = 0
    flags: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    digest: str = ""

    @property
    def detached(self) -> bool:
        return self.file != self.device

    @property
    def data(self) -> tuple[Segment, ...]:
        """The segments that are data now, without those kept for reencryption."""
        return tuple(
            it for it in self.segments if not any(f.startswith("backup") for f in it.flags)
        )

    @property
    def reencrypting(self) -> bool:
        return any("reencrypt" in it for it in self.requirements)


def read(host: Host, device: str, header: str | None = None) -> Header | None:
    """The header of a device, or the one in the file ``header`` that belongs to it. Nothing is
    written, not even by cryptsetup to mend a damaged copy.

    None: the device can be read and has no LUKS header. :class:`~rocksalt.errors.Refused` in all
    other cases, a sentence: cryptsetup missing, device missing or unreadable, header damaged.
    """
    file = header or device
    if intact.look(host.path(file)) is False:
        return None
    text = _dumped(host, file)
    if text is None:
        return None
    if _fields(text).get("Version") != "2":
        return parsed(device, file, text)
    metadata = _dumped(host, file, "--dump-json-metadata")
    if metadata is None:
        raise Refused(f"{file} changed while its header was read: look again")
    return parsed(device, file, text, metadata)


def _dumped(host: Host, file: str, *options: str) -> str | None:
    """What ``cryptsetup luksDump`` prints; None if there is no LUKS."""
    ran = host.run("cryptsetup", "luksDump", *options, str(host.path(file)))
    if ran.status == 127:
        raise Refused(f"cryptsetup is not installed, so that {file} cannot be looked at")
    if ran.status and "is not a valid LUKS device" in ran.err:
        return None
    if ran.status:
        why = " ".join(ran.err.split()) or f"status {ran.status}"
        raise Refused(f"cryptsetup cannot read the header in {file}: {why}")
    return ran.out


def parsed(device: str, file: str, text: str, metadata: str = "") -> Header:
    """The header in what ``cryptsetup luksDump`` printed, and with ``--dump-json-metadata``.
    Refused where that is not understood.
    """
    try:
        fields = _fields(text)
        if fields["Version"] == "1":
            return _version_1(device, file, text, fields)
        return _version_2(device, file, fields, json.loads(metadata))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__} {error}"
        raise Refused(f"what cryptsetup says of {file} is not understood: {what}") from None


def _fields(text: str) -> dict[str, str]:
    """The lines at the left margin with a value; the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(name, value.strip())
    return found


def _version_2(
    device: str, file: str, fields: Mapping[str, str], metadata: Mapping[str, Any]
) -> Header:
    digests = metadata["digests"].values()
    opening = {int(number): it["keyslots"] for it in digests for number in it["segments"]}
    segments = [_segment(it, opening.get(n, ())) for n, it in _numbered(metadata["segments"])]
    bound = {slot for it in segments for slot in it.slots}
    slots = {n: _slot(it, bound=n in bound) for n, it in _numbered(metadata["keyslots"])}
    config = metadata["config"]
    names = {key: _named(fields.get(key.title(), "")) for key in ("label", "subsystem")}
    return Header(
        device=device,
        file=file,
        version=2,
        uuid=fields["UUID"],
        **names,
        segments=tuple(segments),
        slots=slots,
        tokens=dict(_numbered(metadata["tokens"])),
        key_size=max((it.key_size for it in slots.values() if it.bound), default=0),
        flags=tuple(config.get("flags", ())),
        requirements=tuple(config.get("requirements", {}).get("mandatory", ())),
        digest=slot_digest({"uuid": fields["UUID"], **names, "metadata": metadata}),
    )


def _numbered(entries: Mapping[str, Any]) -> list[tuple[int, Any]]:
    return sorted((int(number), entry) for number, entry in entries.items())


def _named(text: str) -> str:
    return "" if text in ("(no label)", "(no subsystem)") else text


def _segment(entry: Mapping[str, Any], slots: Iterable[str]) -> Segment:
    size = entry["size"]
    return Segment(
        kind=entry["type"],
        cipher=entry.get("encryption", ""),
        offset=int(entry["offset"]),
        size=None if size == "dynamic" else int(size),
        sector_size=entry.get("sector_size", 512),
        iv=int(entry.get("iv_tweak", 0)),
        integrity=entry.get("integrity", {}).get("type", ""),
        flags=tuple(entry.get("flags", ())),
        slots=tuple(sorted(map(int, slots))),
    )


def _slot(entry: Mapping[str, Any], bound: bool) -> Slot:
    area, kdf = entry["area"], entry.get("kdf", {})
    return Slot(
        kind=entry["type"],
        key_size=entry["key_size"] * 8,
        cipher=area.get("encryption", ""),
        area_key_size=area.get("key_size", 0) * 8,
        kdf=kdf.get("type", ""),
        memory=kdf.get("memory", 0),
        time=kdf.get("time", 0),
        cpus=kdf.get("cpus", 0),
        iterations=kdf.get("iterations", 0),
        hash=kdf.get("hash", ""),
        bound=bound,
        priority=entry.get("priority", 1),
        digest=slot_digest(entry),
    )


def _version_1(device: str, file: str, text: str, fields: Mapping[str, str]) -> Header:
    cipher, size = f"{fields['Cipher name']}-{fields['Cipher mode']}", int(fields["MK bits"])
    slots = {
        int(number): Slot(
            kind="luks1",
            key_size=size,
            cipher=cipher,
            area_key_size=size,
            kdf="pbkdf2",
            iterations=int(iterations),
            hash=fields["Hash spec"],
        )
        for number, iterations in _ENABLED.findall(text)
    }
    # The first line names the file.
    digest = hashlib.sha256("\n".join(text.split("\n")[1:]).encode()).hexdigest()
    return Header(
        device=device,
        file=file,
        version=1,
        uuid=fields["UUID"],
        segments=(Segment("crypt", cipher, int(fields["Payload offset"]) * 512),),
        slots=slots,
        key_size=size,
        digest=digest,
    )


def slot_digest(slot: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a key slot of the JSON metadata, whatever the order of its keys."""
    text = json.dumps(slot, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
