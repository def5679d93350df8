"""Ask a host many things in one go: a command over the network costs more than what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from testinfra.host import Host

MARK, END = "rocksalt-infra-answer", "rocksalt-infra-errors-end"
SUDO = 'if [ "$(id -u)" = 0 ]; then exec sh -c "$0"; else exec sudo -n sh -c "$0"; fi'
BEFORE = "export LC_ALL=C PATH=/opt/salt/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH; cd /"


class Unreachable(Exception):
    """A host that did not answer, in a sentence."""


@dataclass(frozen=True)
class Answer:
    """What one command said, what it complained about on its other stream, and its exit code."""

    text: str
    code: int
    errors: str = ""

    @property
    def said(self) -> str:
        """All of it: for what tells on both streams what it saw, and for people."""
        return self.text + self.errors

    @property
    def found(self) -> list[str]:
        """All lines, for a question to which the right answer is nothing: a command that could not
        look has found something.
        """
        return Answer(self.said, self.code).lines

    @property
    def lines(self) -> list[str]:
        """Its lines without those that are empty."""
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def pairs(self) -> dict[str, str]:
        """Lines such as ``Id=ssh.service``; of a repeated name the last."""
        return dict(line.split("=", 1) for line in self.lines if "=" in line)

    @property
    def blocks(self) -> dict[str, dict[str, str]]:
        """What ``systemctl show`` says of several units, by their ids."""
        found = (Answer(text, 0).pairs for text in re.split(r"\n\s*\n", self.text))
        return {block["Id"]: block for block in found if "Id" in block}


Look = Mapping[str, Answer]


def ask(host: Host, commands: Mapping[str, str]) -> dict[str, Answer]:
    """The answers to shell commands that root runs on the host, by the names of the commands."""
    parts = [
        f"{{ errors=$( (\n{command}\n) </dev/null 2>&1 >&3 3>&-); code=$?; }} 3>&1\n"
        f"printf '\\n{MARK} %s %s\\n%s\\n{END}\\n' {name} $code \"$errors\""
        for name, command in commands.items()
    ]
    name = host.backend.get_pytest_id()
    try:
        done = host.run("sh -c %s %s", SUDO, "\n".join([BEFORE, *parts]))
    except Exception as error:  # each back end has its own, Salt's client a dozen
        raise Unreachable(f"{name} cannot be reached: {_last_words(error)}") from None
    answers, start = {}, 0
    for end in re.finditer(rf"\n{MARK} (\S+) (\d+)\n(.*?)\n?{END}(?:\n|\Z)", done.stdout, re.S):
        answers[end[1]] = Answer(done.stdout[start : end.start()], int(end[2]), end[3])
        start = end.end()
    if missing := commands.keys() - answers.keys():
        said = " ".join((done.stderr or done.stdout[start:]).split())[-300:]
        why = "log in as root, or let the account use sudo without a password"
        hint = f" ({why})" if said.startswith("sudo:") else ""
        raise Unreachable(
            f"{name} did not answer ({', '.join(sorted(missing))}): {said or 'nothing'}{hint}"
        )
    return answers


def _last_words(error: Exception) -> str:
    """What a back end complains about; testinfra wraps it into the finished command."""
    finished = error.args[0] if error.args else ""
    said = getattr(finished, "stderr", "") or str(error)
    return " ".join(said.split())[-300:] or type(error).__name__
