"""The agent's configuration as text and as data, and what is wrong with it that none of the daemons
says when it tests a file.

OSSEC's reader is no parser of XML: it knows no declaration and no entities, keeps spaces around a
value, and takes an empty ``ignore`` for the beginning of every path. What is written here it reads
as it is meant.
"""

from __future__ import annotations

import ipaddress
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rocksalt.errors import Refused

FORBIDDEN = "&<>"
"""What no value may have: entities stay as they are written, and tags are tags everywhere."""
LONGEST = 2047
_LARGEST = 256
_CIPHERS = ("aes", "blowfish")
_NUMBER, _YES_NO, _TEXT, _ADDRESS, _PORT = "a number", "yes or no", "text", "an address", "a port"
_KNOWN: Mapping[str, Mapping[str, str]] = {
    "client": {
        **dict.fromkeys(("server-ip", "local_ip"), _ADDRESS),
        **dict.fromkeys(("notify_time", "time-reconnect"), _NUMBER),
        **dict.fromkeys(("server-hostname", "config-profile"), _TEXT),
        **{"port": _PORT, "disable-active-response": _YES_NO, "crypto_method": "a cipher"},
    },
    "syscheck": {
        **dict.fromkeys(("directories", "ignore", "nodiff", "scan_time", "scan_day"), _TEXT),
        **dict.fromkeys(("scan_on_start", "disabled", "skip_nfs"), _YES_NO),
        **dict.fromkeys(("auto_ignore", "alert_new_files"), _YES_NO),
        **{"frequency": _NUMBER, "prefilter_cmd": _TEXT},
    },
    "rootcheck": {
        **dict.fromkeys(("disabled", "scanall", "readall", "skip_nfs"), _YES_NO),
        **{
            f"check_{what}": _YES_NO
            for what in ("dev", "files", "if", "pids", "ports", "sys", "trojans", "unixaudit")
        },
        **dict.fromkeys(("rootkit_files", "rootkit_trojans", "base_directory"), _TEXT),
        **dict.fromkeys(("system_audit", "ignore"), _TEXT),
        "frequency": _NUMBER,
    },
    "localfile": {
        **dict.fromkeys(("location", "command", "log_format", "alias", "query"), _TEXT),
        **{"frequency": _TEXT, "only-future-events": _YES_NO},
    },
    "active-response": {"disabled": _YES_NO, "repeated_offenders": _TEXT},
}
_COMMENT = re.compile(r"<!--(?![->])(?:(?!--|!>)[\s\S])*-->")
"""A comment that ends at the same place for OSSEC, which also ends it at ``!>``."""
_AMBIGUOUS = re.compile(r"<!\S*|<\?\w*|&\S*|\bxmlns\b")
_REALTIME, _DIFFERENCES = "realtime", "report_changes"


@dataclass(frozen=True)
class Entry:
    """An element of a section that has a value."""

    tag: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.attributes.items())
        return f"{self.text} ({said})" if said else self.text


@dataclass(frozen=True)
class Section:
    """A part of the configuration: each of its own daemon, and several of one name add up."""

    name: str
    entries: tuple[Entry, ...]

    def all(self, tag: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.tag == tag]

    def value(self, tag: str) -> str:
        """The value that counts of an element that is there once; empty without it."""
        return next((entry.text for entry in reversed(self.entries) if entry.tag == tag), "")


def render(sections: Iterable[Section]) -> str:
    """The file. Values stand between their tags without a space; no value has what would have to be
    written as an entity.
    """
    root = ET.Element("ossec_config")
    for section in sections:
        parent = ET.SubElement(root, section.name)
        for entry in section.entries:
            said = [entry.text, *entry.attributes.values()]
            if fault := next((fault for text in said for fault in value_faults(text)), ""):
                raise Refused(f"{section.name}: {entry.tag}: {entry.text!r} {fault}")
            ET.SubElement(parent, entry.tag, dict(entry.attributes)).text = entry.text
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def value_faults(text: str) -> Iterator[str]:
    """Why a value cannot be written so that OSSEC reads it."""
    if not text:
        yield "is empty, which OSSEC takes for the beginning of everything"
    if text != text.strip():
        yield "begins or ends with a space, which OSSEC keeps"
    if any(char in text for char in FORBIDDEN):
        yield f"has one of {' '.join(FORBIDDEN)}, which OSSEC cannot read"
    if not text.isprintable():
        yield "has a line end or another character that cannot be printed"
    if len(text.encode(errors="surrogateescape")) > LONGEST:
        yield f"is longer than {LONGEST} bytes"


def parse(text: str) -> list[Section]:
    """What a file says; raises :class:`Refused` where it cannot be read, or OSSEC would read it
    otherwise. The file may have several roots, each of which counts.
    """
    return [section for _, sections in blocks(text) for section in sections]


def blocks(text: str) -> list[tuple[Mapping[str, str], list[Section]]]:
    """The same root by root, each with its attributes."""
    plain = _COMMENT.sub("", text)
    if "\\<" in text or (found := _AMBIGUOUS.search(plain)):
        what = "\\<" if "\\<" in text else found and found[0]
        raise Refused(f"it has {what}, which OSSEC does not read as XML")
    try:
        top = ET.fromstring(f"<all>{plain}</all>")
    except (ET.ParseError, UnicodeError) as error:
        raise Refused(f"it is no XML: {error}") from None
    return [(dict(root.attrib), [_read(section) for section in root]) for root in top]


def _read(section: ET.Element) -> Section:
    leaves = (Entry(leaf.tag, leaf.text or "", dict(leaf.attrib)) for leaf in section)
    return Section(section.tag, tuple(leaves))


def flat(sections: Iterable[Section]) -> dict[str, list[str]]:
    """The same as a mapping that one compares: ``syscheck directories`` -> its values in order; a
    log is one value with what says how it is read.
    """
    found: dict[str, list[str]] = {}
    for section in sections:
        if section.name == "localfile":
            words = ", ".join(f"{entry.tag} {entry}" for entry in section.entries)
            found.setdefault(section.name, []).append(words)
            continue
        for entry in section.entries:
            found.setdefault(f"{section.name} {entry.tag}", []).append(str(entry))
    return found


def differences(found: Mapping[str, list[str]], wanted: Mapping[str, list[str]]) -> list[str]:
    """In words, what one file says and the other does not."""
    words = []
    for key in dict.fromkeys((*wanted, *found)):
        have, want = found.get(key, []), wanted.get(key, [])
        words += [f"{key} {value} is missing" for value in want if value not in have]
        words += [f"{key} {value} is not declared" for value in have if value not in want]
        if have != want and sorted(have) == sorted(want):
            words.append(f"{key} is in another order")
    return words


# What no daemon says -----------------------------------------------------------------------------


def faults(text: str) -> list[str]:
    """What is wrong with a configuration, a sentence each: what OSSEC misreads, what it passes over
    and what stops a daemon only when it starts.
    """
    found = [
        f"it has {what}, which {why}"
        for what, why in (
            ("<?xml", "breaks OSSEC before version 4.3"),
            ("<![CDATA[", "OSSEC takes for a comment"),
        )
        if what in text
    ]
    if re.search(r"&\w+;|&#", text):
        found.append("it has an entity, which OSSEC does not decode")
    try:
        sections = parse(text)
    except Refused as error:
        return [*found, str(error)]
    if not any(section.name == "client" for section in sections):
        found.append("it has no section client")
    return found + [fault for section in sections for fault in _section(section)]


def _section(section: Section) -> Iterator[str]:
    known = _KNOWN.get(section.name)
    if known is None:
        yield f"{section.name} is no section of an agent"
        return
    if not section.entries:
        yield f"{section.name} is empty, which stops its daemon"
    for entry in section.entries:
        where = f"{section.name}: {entry.tag}"
        if entry.tag not in known:
            yield f"{where} is not known there, which stops its daemon"
            continue
        yield from (f"{where} {entry.text!r} {fault}" for fault in value_faults(entry.text))
        if entry.text and not _fits(entry.text, known[entry.tag]):
            yield f"{where} is {entry.text!r}, expected {known[entry.tag]}"
    if section.name == "client":
        yield from _client(section)
    if section.name == "syscheck":
        yield from _syscheck(section)


def _fits(text: str, kind: str) -> bool:
    if kind == _ADDRESS:
        try:
            return bool(ipaddress.ip_address(text))
        except ValueError:
            return False
    if kind == _YES_NO:
        return text in ("yes", "no")
    if kind == "a cipher":
        return text in _CIPHERS
    digits = re.fullmatch(r"[0-9]{1,9}", text) is not None
    return kind == _TEXT or (digits and (kind == _NUMBER or 1 <= int(text) <= 65535))


def _client(section: Section) -> Iterator[str]:
    if not section.all("server-ip") and not section.all("server-hostname"):
        yield "client: it names no server"
    notify, lost = section.value("notify_time"), section.value("time-reconnect")
    if notify.isdigit() and lost.isdigit() and int(lost) <= int(notify):
        yield "client: time-reconnect is not more than notify_time, and OSSEC takes another one"


def _syscheck(section: Section) -> Iterator[str]:
    for tag in ("scan_time", "scan_day"):
        if section.all(tag):
            yield f"syscheck: {tag} makes OSSEC scan once a week, whatever frequency says"
    known: list[str] = []
    for entry in section.all("directories"):
        folders = [folder.strip().rstrip("/") or "/" for folder in entry.text.split(",")]
        for folder in folders:
            if folder in known:
                yield f"syscheck: {folder} is named twice, and OSSEC drops the rest of that line"
            known.append(folder)
        if {entry.attributes.get(key) for key in (_REALTIME, _DIFFERENCES)} == {"yes"}:
            yield f"syscheck: {entry.text} has realtime and report_changes, which loses alerts"
        if not entry.attributes:
            yield f"syscheck: {entry.text} has no attribute, which stops the daemon"
    if len(known) > _LARGEST:
        yield f"syscheck: more than {_LARGEST} folders are watched"
