"""What is secret in what people call, by its name or by the option before it.

A secret in a text reaches to the end of the text: it may have blanks, and nobody can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MASKED = "***"
_SECRET = re.compile(
    r"(?i)pass(?!ive|enger|ed)|pwd|secret|token|credential|private|hash|auth(?!ors?\b)|cookie|psk|^key$"
    r"|(?:^|[_-])pin$|[-_]key$|(?:api|access|account|encryption|signing|master|shared)[-_]?key"
)
_WORD = re.compile(r"(?<![^\s=:\"'])([^\s=:\"']+)(?:=(?!=)|[\"']?\s*:\s*(?=[^\s:/]))")
"""A name and its value: ``a=b``, ``"a": "b"``."""
_OPTION = re.compile(
    r"(?i)\bhtpasswd\s+(?:-\w+\s+){0,8}-\w{0,8}b\w{0,8}\s+(?:-\w+\s+){0,8}[^\s-]\S*\s+\S+\s+"
    r"|(?<!\S)(?:-{1,2}[\w-]{0,40}(?:pass|pwd|secret|token|credential|key)[\w-]{0,40}"
    r"|[\w-]{0,40}(?:password|passwd|passphrase|secret|token)|\S{0,8}(?:bearer|basic))\s+"
    r"|(?<!\S)(?:-p(?=\S)|(?:-u|--(?:proxy-)?user)[\s=]?[^\s:]{1,64}:|-U\s*[^\s%]{1,64}%)"
    r"|\b(?:sshpass|useradd|usermod|login)\b[^|;&]{0,200}?\s-p\s+"
    r"|\bredis-cli\b[^|;&]{0,200}?\s-a\s+"
    r"|\bldap[a-z]{3,8}\b[^|;&]{0,200}?\s-w\s+"
    r"|\bidentified\s+by\s+|\bpassword\s*\(\s*"
)
"""What stands before a secret on a command line."""
_LIKELY = re.compile(
    r"(?i)pass|pwd|secret|token|credential|key|bearer|basic|user|login|redis|ldap|ident|-[pu]"
)
"""What is in all of these."""
_ACCOUNT = re.compile(r"[^\s:]:")
"""What ``chpasswd`` reads."""
_SAID = re.compile(r"\b(?:echo|printf)\s+(?:-\w+\s+)*")
_HEARD = re.compile(r"\|\s*(?:sudo\s+)?(?:passwd\b|cryptsetup\b|sudo\s+-S\b|\S.{0,200}-stdin\b)")
"""Programs that read a secret which somebody says to them."""
_IN_URL = re.compile(r"(://[^/\s:@]{0,200}:)[^/\s@]{1,200}@")
NEAR, _SHORT = 8, 200
"""Words before one that say what it is, and how much of each is looked at."""


def is_secret(name: str) -> bool:
    """Whether a name is that of a secret."""
    return _SECRET.search(name) is not None


def text(value: str) -> str:
    """A text without what is secret in it."""
    return _cut(value, min(_begins(value), default=len(value)))


def word(words: Sequence[object], index: int, longest: int) -> str:
    """The same of one of the words of a command line, and of its first letters."""
    value = str(words[index])[:longest]
    near = words[max(index - NEAR, 0) : index]
    prefix = "".join(f"{it[-_SHORT:]} " for it in near if isinstance(it, str))
    begins = (it - len(prefix) for it in _begins(prefix + value))
    alone = min(_begins(value), default=len(value))
    return _cut(value, min((it for it in begins if it >= 0), default=alone))


def _cut(value: str, begin: int) -> str:
    value = value[:begin] + MASKED if begin < len(value) else value
    return _IN_URL.sub(rf"\1{MASKED}@", value)


def _begins(value: str) -> Iterator[int]:
    """Where what is secret in a text begins."""
    if "=" in value or ":" in value:
        yield from (it.end() for it in _WORD.finditer(value) if is_secret(it[1]))
    if _LIKELY.search(value):
        yield from (it.end() for it in _OPTION.finditer(value))
    said = _ACCOUNT if "chpasswd" in value else _SAID if _HEARD.search(value) else None
    if said and (found := said.search(value)):
        yield found.end()
