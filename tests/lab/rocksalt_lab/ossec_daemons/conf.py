"""Reads ossec.conf with the habits of OSSEC's reader: no entities, no declaration, spaces stay."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .common import Refused

SECTIONS = {
    *("global", "rules", "syscheck", "rootcheck", "alerts", "email_alerts", "database_output"),
    *("syslog_output", "agentless", "localfile", "remote", "client", "command", "reports"),
    "active-response",
}
_TAG = re.compile(r'<(/?)([A-Za-z_-]+)((?:\s+[a-z_]+="[^"]*")*)\s*(/?)>|<!--.*?-->', re.DOTALL)
_ATTRIBUTE = re.compile(r'([a-z_]+)="([^"]*)"')


@dataclass
class Element:
    """One element: its attributes, the elements in it, and the text, as it stands there."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""
    line: int = 0


def read(path: Path, general: tuple[tuple[int, str], ...] = ()) -> list[Element]:
    """The sections of a file; raises :class:`Refused`, with ``general`` complaints at the end."""
    try:
        roots = _parsed(path.read_text(errors="surrogateescape"))
    except OSError:
        raise Refused(_unreadable(path, f"File '{path}' not found. (line 0)"), *general) from None
    except ValueError as error:
        raise Refused(_unreadable(path, str(error)), *general) from None
    for root in roots:
        if root.name != "ossec_config":
            raise Refused(invalid(root.name), wrong(path), *general)
        for section in root.children:
            if section.name not in SECTIONS or not section.children:
                raise Refused(invalid(section.name), wrong(path), *general)
    return [section for root in roots for section in root.children]


def _unreadable(path: Path, why: str) -> tuple[int, str]:
    return 1226, f"Error reading XML file '{path}': XMLERR: {why}"


def invalid(name: str) -> tuple[int, str]:
    """An element that is not known."""
    return 1230, f"Invalid element in the configuration: '{name}'."


def value(element: Element) -> tuple[int, str]:
    """A value that an element must not have."""
    return 1235, f"Invalid value for element '{element.name}': {element.text}."


def wrong(path: Path) -> tuple[int, str]:
    """What comes after the reason."""
    return 1202, f"Configuration error at '{path}'. Exiting."


def _parsed(text: str) -> list[Element]:
    top = Element("")
    stack, place = [top], 0
    for match in _TAG.finditer(text):
        if match[2] is None:
            continue
        _complain_of_tags(text[place : match.start()], text)
        line = text.count("\n", 0, match.start()) + 1
        closing, name, attributes, empty = match.groups()
        if closing:
            if stack[-1].name != name or len(stack) == 1:
                raise ValueError(f"Element '{stack[-1].name}' not closed. (line {line})")
            if not stack[-1].children:
                stack[-1].text = text[place : match.start()]
            stack.pop()
        else:
            new = Element(name, dict(_ATTRIBUTE.findall(attributes)), line=line)
            stack[-1].children.append(new)
            if not empty:
                stack.append(new)
        place = match.end()
    if len(stack) > 1:
        raise ValueError(f"Element '{stack[-1].name}' not closed. (line {stack[-1].line})")
    return top.children


def _complain_of_tags(between: str, text: str) -> None:
    if "<" in between:
        line = text[: text.index(between)].count("\n") + 1
        raise ValueError(f"Bad attribute or element in '{between.strip()[:40]}'. (line {line})")


def yes_or_no(element: Element) -> bool:
    """What it says; raises :class:`Refused` for anything else."""
    if element.text not in ("yes", "no"):
        raise Refused(value(element))
    return element.text == "yes"


def number(element: Element) -> int:
    """What it says; raises :class:`Refused` for anything but digits."""
    if not re.fullmatch("[0-9]+", element.text):
        raise Refused(value(element))
    return int(element.text)


def address(element: Element) -> str:
    """What it says; raises :class:`Refused` where that is no address."""
    try:
        return str(ipaddress.ip_address(element.text))
    except ValueError:
        raise Refused((1237, f"Invalid ip address: '{element.text}'.")) from None


def within(sections: list[Element], name: str) -> Iterator[Element]:
    """The elements of all sections of a name, in their order."""
    for section in sections:
        if section.name == name:
            yield from section.children
