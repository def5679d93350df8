"""tests/infra: how hosts are asked, and what is said when they do not answer."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from infra import conftest
from infra.asking import Answer, Unreachable, ask


@dataclass
class FakeHost:
    """Runs commands here, as a host would, or fails as testinfra does."""

    fault: Exception | None = None
    instead: str = ""

    @property
    def backend(self) -> Any:
        return SimpleNamespace(get_pytest_id=lambda: "ssh://web1")

    def run(self, command: str, *arguments: str) -> Any:
        if self.fault:
            raise self.fault
        words = ["sh", "-c", self.instead or arguments[1]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, rc=done.returncode)


def test_many_questions_are_one_command() -> None:
    answers = ask(FakeHost(), {"a": "echo 1; echo 2 >&2; exit 3", "b": "printf x", "c": "true"})
    assert answers == {"a": Answer("1\n", 3, "2"), "b": Answer("x", 0), "c": Answer("", 0)}


def test_complaints_are_no_answers() -> None:
    commands = {"a": "printf 'one\\n\\nwhy\\n' >&2; echo two", "b": "ls /nonexistent; echo x 3>&2"}
    answers = ask(FakeHost(), commands)
    assert (answers["a"].lines, answers["a"].found) == (["two"], ["two", "one", "why"])
    assert answers["b"].text == "x\n" and "No such file" in answers["b"].errors
    assert answers["b"].said == answers["b"].text + answers["b"].errors


def test_a_command_reads_no_other_commands() -> None:
    assert ask(FakeHost(), {"a": "cat", "b": "echo here"})["b"].text == "here\n"


def test_who_cannot_become_root_is_told_so() -> None:
    host = FakeHost(instead="echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(Unreachable) as caught:
        ask(host, {"a": "true"})
    assert str(caught.value) == (
        "ssh://web1 did not answer (a): sudo: a password is required (log in as root, or let the "
        "account use sudo without a password)"
    )


def test_a_broken_connection_is_one_sentence() -> None:
    said = SimpleNamespace(stderr="ssh: connect to host web1 port 22: Connection refused\n")
    with pytest.raises(
        Unreachable, match=r"^ssh://web1 cannot be reached: ssh: connect .* refused"
    ):
        ask(FakeHost(RuntimeError(said)), {"a": "true"})

    class SaltClientError(Exception):
        pass

    with pytest.raises(Unreachable, match="cannot be reached: SaltClientError"):
        ask(FakeHost(SaltClientError()), {"a": "true"})
    with pytest.raises(Unreachable, match="No such file"):
        ask(FakeHost(FileNotFoundError(2, "No such file or directory", "ssh")), {"a": "true"})


def test_systemctl_show_of_several_units() -> None:
    text = "Id=a.service\nActiveState=active\nExecStart={ argv[]=/a -b=c }\n\nId=b.timer\n"
    blocks = Answer(text, 0).blocks
    assert blocks["a.service"]["ExecStart"] == "{ argv[]=/a -b=c }"
    assert blocks["b.timer"] == {"Id": "b.timer"}


def item(*fixtures: str) -> Any:
    return SimpleNamespace(fixturenames=fixtures)


def config(hosts: str | None) -> Any:
    deselected: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    option = SimpleNamespace(collectonly=False)
    return SimpleNamespace(getoption=lambda name: hosts, option=option, hook=hook)


def test_without_hosts_it_says_what_is_missing() -> None:
    with pytest.raises(pytest.UsageError, match="--hosts=ssh://web1"):
        conftest.pytest_collection_modifyitems(config(None), [item("_testinfra_host")])
    conftest.pytest_collection_modifyitems(config("ssh://web1"), [item("_testinfra_host")])


def test_without_hosts_other_tests_run() -> None:
    other = item()
    items = [item("_testinfra_host"), other]
    conftest.pytest_collection_modifyitems(config(None), items)
    assert items == [other]
