"""``/etc/crypttab``, as cryptsetup's scripts of Debian and systemd read it."""

from __future__ import annotations

import difflib
import fnmatch
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.host import Host

PATH = "/etc/crypttab"
HOOK = "/etc/cryptsetup-initramfs/conf-hook"
_TAGS = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
    "ID": "by-id",
}
_RANDOM = ("/dev/urandom", "/dev/random", "/dev/hwrng", "/dev/hw_random")
_TOKENS = ("tpm2-device", "fido2-device", "pkcs11-uri")
_KINDS = ("luks", "plain", "tcrypt", "bitlk", "fvault2")
_OPTIONS = {
    *_KINDS,
    *("cipher", "size", "sector-size", "hash", "offset", "skip", "keyslot", "key-slot", "header"),
    *("keyfile-offset", "keyfile-size", "keyfile-erase", "keyfile-timeout", "link-volume-key"),
    *("verify", "readonly", "read-only", "tries", "timeout", "discard", "allow-discards"),
    *("veracrypt", "tcrypthidden", "same-cpu-crypt", "submit-from-crypt-cpus", "swap", "tmp"),
    *("no-read-workqueue", "no-write-workqueue", "check", "checkargs", "initramfs", "noearly"),
    *("noauto", "auto", "nofail", "loud", "quiet", "keyscript", "_netdev", "password-echo"),
    *("password-cache", "try-empty-password", "headless", "token-timeout", "same-cpu-crypt"),
    *("fixate-volume-key", "luksheader", "precheck", "noprecheck", "integrity", "none", "defaults"),
}
_FAMILIES = ("x-", "tpm2-", "fido2-", "pkcs11-", "tcrypt-", "integrity-")
"""Beginnings of options of which systemd has many."""
_OCTAL = re.compile(r"\\0?([0-7]{3})")
_LONGEST = 127
"""Bytes of a name in device-mapper."""


@dataclass(frozen=True)
class Entry:
    """A line: ``name`` of the mapping, ``source`` as written (``UUID=...``, ``/dev/...``),
    ``key`` the third field, ``options`` with their values (empty for flags).
    """

    line: int
    name: str
    source: str
    key: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The path that the source leads to: ``/dev/disk/by-uuid/...`` for ``UUID=...``."""
        tag, _, value = self.source.partition("=")
        folder = _TAGS.get(tag)
        if not folder:
            return self.source
        value = value.strip('"')
        if "UUID" in tag:
            return f"/dev/disk/{folder}/{value.lower()}"
        # As udev writes names into links.
        return f"/dev/disk/{folder}/" + re.sub(
            r"[^\w#+\-.:=@]", lambda it: "".join(f"\\x{byte:02x}" for byte in it[0].encode()), value
        )

    @property
    def key_kind(self) -> str:
        """``ask`` (or found out elsewhere), ``random``, ``device``, ``file``, ``elsewhere`` (a file
        on another device), ``script`` (argument of a keyscript), ``token`` (TPM, FIDO2, PKCS#11).
        """
        if "keyscript" in self.options:
            return "script"
        if self.key in _RANDOM:
            return "random"
        if self.key in ("", "-", "none"):
            return "token" if any(it in self.options for it in _TOKENS) else "ask"
        if re.search(r":[A-Z]+=|:/dev/", self.key):
            return "elsewhere"
        return "device" if self.key.startswith("/dev/") else "file"

    @property
    def key_files(self) -> tuple[str, ...]:
        """Files that are read as key if they exist: the one named, or those that systemd looks for
        where none is. A keyscript's argument is one if it is a path.
        """
        kind = self.key_kind
        if kind == "file" or (kind == "script" and re.match(r"/(?!dev/)", self.key)):
            return (self.key,)
        if kind in ("ask", "token"):
            return tuple(f"/{top}/cryptsetup-keys.d/{self.name}.key" for top in ("etc", "run"))
        return ()

    @property
    def header(self) -> str:
        """The file or device with the detached header, empty for none."""
        return self.options.get("header", "")

    @property
    def plain(self) -> bool:
        """Whether it is opened as plain dm-crypt."""
        others = any(it in self.options for it in _KINDS if it != "plain")
        return "plain" in self.options or (self.key_kind == "random" and not others)

    @property
    def discard(self) -> bool:
        return "discard" in self.options or "allow-discards" in self.options


def entries(text: str) -> list[Entry]:
    """The lines that are well-formed enough to mean something: those with a name and a source."""
    return [_entry(number, fields) for number, fields in _lines(text) if len(fields) > 1]


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.split()


def _entry(number: int, fields: Sequence[str]) -> Entry:
    name, source, key, options, *_ = (*map(_decoded, fields[:3]), *fields[3:], "", "")
    pairs = (option.partition("=") for option in options.split(",") if option)
    return Entry(number, name, source, key, {it: _decoded(value) for it, _, value in pairs})


def _decoded(text: str) -> str:
    return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), text)


def problems(text: str) -> list[str]:
    """What is wrong with the lines by themselves, a sentence each with the number of the line."""
    found, names = [], dict[str, int]()
    for number, fields in _lines(text):
        where = f"{PATH} line {number}"
        if len(fields) < 3:
            found.append(
                f"{where} has {len(fields)} of the fields name, device, key file and options; a"
                " key that is asked for is written none"
            )
        if len(fields) > 4:
            found.append(f"{where}: {' '.join(fields[4:])} after the options is not read")
        if len(fields) > 1:
            entry = _entry(number, fields)
            found += [f"{where}: {problem}" for problem in _problems(entry)]
            first = names.setdefault(entry.name, number)
            if first != number:
                found.append(f"{where}: {entry.name} is also the name in line {first}")
    return found


def _problems(entry: Entry) -> Iterator[str]:
    options, kind = entry.options, entry.key_kind
    if "/" in entry.name or len(entry.name.encode()) > _LONGEST:
        yield f"{entry.name!r} cannot be the name of a device in /dev/mapper"
    if not entry.device.startswith("/"):
        yield f"{entry.source!r} is neither a path nor {', '.join(_TAGS)} with ="
    if kind == "file" and not entry.key.startswith("/"):
        yield f"{entry.key!r} is no path of a key file, and is not read; none asks for the key"
    said = [it for it in _KINDS if it in options]
    if len(said) > 1:
        yield f"{' and '.join(said)} exclude each other"
    if kind == "random" and "luks" in options:
        yield f"a key from {entry.key} is another one at each boot, which opens no LUKS"
    if entry.plain and not {"cipher", "size"} <= set(options):
        yield "plain dm-crypt needs cipher= and size=, for the defaults change with versions"
    for option in options:
        if option not in _OPTIONS and not option.startswith(_FAMILIES):
            near = difflib.get_close_matches(option, sorted(_OPTIONS), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"there is no option {option!r}{hint}"


def copied_to_initramfs(host: Host, names: Sequence[str]) -> list[str]:
    """Those of the key files (paths) that ``KEYFILE_PATTERN`` has copied into the initial RAM
    disk, which lies in ``/boot``.
    """
    patterns: list[str] = []
    for line in (host.read(HOOK) or "").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.removeprefix("export ").strip() == "KEYFILE_PATTERN":
            patterns = _words(value)
    return [it for it in names if any(fnmatch.fnmatchcase(it, pattern) for pattern in patterns)]


def _words(value: str) -> list[str]:
    """What a shell makes of the right side of an assignment, split at spaces."""
    try:
        return " ".join(shlex.split(value, comments=True)).split()
    except ValueError:
        return value.strip("\"'").split()
