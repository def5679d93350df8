"""The suite of tests/infra against hosts of the lab, in a process of its own, as its users run it.

``outside.yaml`` says which tamper cases make which of its tests fail: by family a list of rounds,
each of which has names of cases of ``tampers/<family>.yaml`` with the names of tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

import tampers
from rocksalt_lab import Host

REPO = tampers.FOLDER.parents[2]
SAID = yaml.safe_load(Path(__file__).with_name("outside.yaml").read_text())
BY_PILLAR, STRICTER = SAID.pop("by_pillar"), SAID.pop("by_a_stricter_pillar")
PLACE = r"^/\S+:\d+: "  # in which file a test was skipped
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # what the suite does not need takes a second


def judged(
    host: Host,
    families: Sequence[str] = (),
    words: Sequence[str] = (),
    way: str = "",
    before: Sequence[str] = (),
) -> dict[str, str]:
    """Test -> ``passed``, ``failed``, ``error`` or ``skipped`` with the reason, of all families or
    of some. ``way`` is how to reach the host, if not as one of the lab; ``before`` stands before
    the command.
    """
    files = [str(path) for it in families for path in REPO.glob(f"tests/infra/test_{it}*.py")]
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [*before, sys.executable, "-m", "pytest", *(files or ["tests/infra"])]
        command += [f"--hosts={way or f'lab://{host.name}@{host.lab.id}'}", *words]
        command += ["-q", f"--junitxml={report.name}"]
        command += ["-p", "testinfra.plugin", "-p", "no:cacheprovider"]
        env = {**os.environ, **ALONE}
        done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)
        assert done.returncode in (0, 1), f"{done.stdout}\n{done.stderr}"
        return outcomes(Path(report.name).read_text())


def outcomes(report: str) -> dict[str, str]:
    """Test -> outcome, from a report as JUnit has it."""
    return {_name(case): _outcome(case) for case in ET.fromstring(report).iter("testcase")}


def _name(case: ET.Element) -> str:
    """As outside.yaml has it: ``sshd test_directive[permitrootlogin]``."""
    family = case.attrib["classname"].rsplit(".", 1)[-1].removeprefix("test_")
    name = re.sub(r"(?<=\[)(\w+://[\w.]+|local)-?", "", case.attrib["name"]).replace("[]", "")
    return f"{family} {name}"


def _outcome(case: ET.Element) -> str:
    for kind, word in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        found = case.find(kind)
        if found is not None:
            text = (found.text or found.attrib.get("message", "")).strip()
            return f"{word}: {re.sub(PLACE, '', text)}"
    return "passed"


def failed(found: Mapping[str, str]) -> dict[str, str]:
    """Those tests that failed or could not be run."""
    return {name: it for name, it in found.items() if it.startswith(("failed", "error"))}


def conforms(host: Host, *families: str) -> None:
    """The suite finds nothing; at least something of each family was judged."""
    found = judged(host, families)
    assert not failed(found)
    assert any(it == "passed" for it in found.values())


class Round(NamedTuple):
    """Cases that break one host together, and the tests that fail then."""

    cases: list[tampers.Case]
    tests: set[str]


def rounds(family: str) -> list[Round]:
    """What is written down for a family."""
    known = {case.name: case for case in tampers.cases(family)}
    return [
        Round([known[name] for name in said], {test for tests in said.values() for test in tests})
        for said in SAID[family]
    ]


def sees(host: Host, family: str, **others: Host) -> None:
    """Breaks a host in all ways of each round, and those tests fail, and no others of the family.
    ``others`` are hosts that cases name.
    """
    for cases, tests in rounds(family):
        at = others.get(cases[0].host, host)
        with broken(at, cases):
            found = failed(judged(at, [family]))
        assert {*found} == tests, found


@contextmanager
def broken(host: Host, cases: Sequence[tampers.Case]) -> Iterator[None]:
    """The host, broken in all these ways; afterwards it is as it was."""
    steps = tampers.bring_look(host, cases)
    command = ["python", "-W", "ignore", tampers.LOOK, "--hold"]
    run = host.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    run.stdin.write(f"{steps}\n")
    run.stdin.flush()
    while (line := run.stdout.readline()) != "broken\n":
        assert line, "the host could not be broken: see what was said above"
    try:
        yield
    finally:
        run.communicate(timeout=120)
    assert run.returncode == 0, "the host was not put back"
