"""The commands that the README, the pages and the docstrings show to people."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
GENERATED = ("controls.md", "settings.md")
PAGES = [
    *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(it for it in sorted((REPO / "docs").glob("*.md")) if it.name not in GENERATED),
]
SHELL, SESSION = ("", "bash", "sh", "shell"), ("console", "shell-session")
NO_SHELL = ("yaml", "xml")
ITEM = r"(?:(?:[-*+]|\d+[.)]) +)?"
FENCED = re.compile(
    rf"^ *{ITEM}(`{{3,}}|~{{3,}})([^`\n]*)\n(.*?)^ *\1[`~]* *$", re.MULTILINE | re.DOTALL
)
FENCE = re.compile(rf"^[ >]*{ITEM}(?:```|~~~).*", re.MULTILINE)
PROMPT = re.compile(r"[$#] ")
INDENTED = re.compile(r"(?<=\n\n)((?: {4,}\S.*\n)+)")
INLINE = re.compile(r"(?<![`\w])`([^`]+)`(?!`)")
COMMENT = re.compile(r"(^| +)#( .*)?$", re.MULTILINE)
EXAMPLE = re.compile(r"CLI Examples?:\n\n\.\. code-block:: bash\n\n((?: +\S.*\n|\n)+)")
TAKES_ONE = ("-c", "-b", "-t")
DATA: dict[str, Any] = {}
for part in ("commands", "commands-typed"):
    DATA |= yaml.safe_load((REPO / f"tests/unit/data/{part}.yaml").read_text())
SALT = ("salt", "salt-call", "salt-run")


@dataclass(frozen=True, order=True)
class Command:
    """A command as a page shows it; its first line stands where people see it."""

    page: str
    line: int
    text: str

    @property
    def name(self) -> str:
        """The command on one line, without a comment."""
        if self.text.startswith("set -e"):
            return self.text.splitlines()[0]
        return " ".join(COMMENT.sub("", self.text).replace("\\\n", " ").split())

    @property
    def program(self) -> str:
        """The program that it begins with."""
        return self.name.removeprefix("sudo ").split()[0]


def fenced(text: str) -> Iterator[tuple[int, str]]:
    """Where each fenced block of shell starts, with its text; ``ValueError`` names a language that
    nobody said of whether it is one, and a fence that has no end.
    """
    for found in FENCED.finditer(text):
        language = found[2].strip()
        if language in SHELL or language in SESSION:
            yield found.start(3), typed(found[3]) if language in SESSION else found[3]
        elif language not in NO_SHELL:
            known = ", ".join(it or "none" for it in (*SHELL, *SESSION, *NO_SHELL))
            line = text.count("\n", 0, found.start()) + 1
            raise ValueError(f"line {line}: a block of {language!r}; documents.py knows {known}")
    if left := FENCE.search(FENCED.sub(lambda it: re.sub(r"[^\n]", "-", it[0]), text)):
        line = text.count("\n", 0, left.start()) + 1
        raise ValueError(f"line {line}: the block that {left[0].strip()!r} begins has no end")


def typed(session: str) -> str:
    """What a session shows that somebody types, each on its line: all where there is no prompt."""
    lines = session.splitlines()
    if not any(PROMPT.match(line.lstrip()) for line in lines):
        return session
    found, inside = "", False
    for line in map(str.lstrip, lines):
        inside = bool(PROMPT.match(line)) or (inside and line.startswith("> "))
        found += (line.replace("> ", "  ", 1) if line[0] == ">" else line[2:]) if inside else ""
        found += "\n"
    return found


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each piece of code that may be typed, without its indentation."""
    hidden = FENCED.sub(lambda found: re.sub(r"[^\n]", "-", found[0]), text)
    found = [(it.start(1), it[1]) for it in INDENTED.finditer(hidden)]
    found += fenced(text)
    for start, code in sorted(found):
        lines = code.rstrip().split("\n")
        indented = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
        yield text.count("\n", 0, start) + 1, "\n".join(line[indented:] for line in lines) + "\n"


def is_code(block: str) -> bool:
    """Whether a block is commands, not a picture, what a program prints, or configuration."""
    return not any(re.search(mark, block, re.MULTILINE) for mark in DATA["no commands"])


def split(block: str, line: int = 1) -> Iterator[tuple[int, str]]:
    """The commands of a block: a script is one, and what is indented belongs to the line before."""
    if re.match(r"#!|set -e", block):
        yield line, block
        return
    command, first = "", line
    for number, text in enumerate(block.splitlines(), line):
        if command and (text[:1] in (" ", "}") or command.endswith("\\\n")):
            command += text + "\n"
            continue
        if COMMENT.sub("", command).strip():
            yield first, command
        command, first = text + "\n", number
    if COMMENT.sub("", command).strip():
        yield first, command


def commands_of(page: Path) -> list[Command]:
    """What a page shows in blocks, in order."""
    return [
        Command(str(page.relative_to(REPO)), number, text)
        for line, block in blocks(page.read_text())
        if is_code(block)
        for number, text in split(block, line)
    ]


def mentioned_in(page: Path, programs: set[str]) -> list[Command]:
    """What a page shows within sentences: a known program with an argument."""
    text = FENCED.sub(lambda found: re.sub(r"[^\n]", "-", found[0]), page.read_text())
    text = INDENTED.sub(lambda found: re.sub(r"[^\n]", "-", found[0]), text)
    return [
        Command(str(page.relative_to(REPO)), text.count("\n", 0, it.start()) + 1, it[1])
        for it in INLINE.finditer(text)
        if len(it[1].split()) > 1 and it[1].split()[0] in programs
    ]


def examples(source: Path) -> list[Command]:
    """What the docstrings of the public functions of a module show."""
    found = []
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            for example in EXAMPLE.finditer((ast.get_docstring(node) or "") + "\n"):
                for line in example[1].strip().splitlines():
                    name = str(source.relative_to(REPO))
                    found.append(Command(name, node.lineno, line.strip()))
    return found


def shown() -> list[Command]:
    """Every command of every page."""
    in_blocks = [command for page in PAGES for command in commands_of(page)]
    programs = {command.program for command in in_blocks} | set(DATA["programs"])
    return sorted(in_blocks + [it for page in PAGES for it in mentioned_in(page, programs)])


def call(command: str) -> tuple[str, list[str], dict[str, str]] | None:
    """The function of Salt that a command calls, with its arguments, if it calls one."""
    program, *_ = command.removeprefix("sudo ").split()
    if program not in SALT:
        return None
    words = iter(shlex.split(re.split(r" [|<>] ", command.removeprefix("sudo "))[0])[1:])
    rest = [it for it in words if not (it.startswith("-") and (it not in TAKES_ONE or next(words)))]
    name, *given = rest[program == "salt" :] or [""]
    named = [re.fullmatch(r"(\w+)=(.*)", word, re.DOTALL) for word in given]
    plain = [word for word, it in zip(given, named, strict=True) if not it]
    return (name, plain, {it[1]: it[2] for it in named if it}) if name else None


def session(name: str) -> dict[str, Any]:
    """What a test types: commands as the pages have them, each with what comes of it."""
    return {command: how or {} for command, how in DATA["sessions"][name].items()}
