"""Every command of Salt that the documents show, typed on real hosts as it stands there. Names and
addresses of other hosts than these, and what else comes of a command than the code 0, stand in
tests/unit/data/commands-typed.yaml.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
from documents import Command

import runs
import tampers
from rocksalt_lab import Host, Lab
from rocksalt_lab.host import Finished
from rocksalt_lab.system import ensure_tools, sh

DATA = documents.DATA["lab"]
WARM = tampers.FOLDER.parent / "on_host/warm.py"
BIN, CLONE, STAGING = "/run/docs", "/srv/rocksalt", "/etc/salt/master.d/staging.conf"
NON_ZERO = "ERROR: Minions returned with non-zero exit code"
WRONG = re.compile(
    r"is not available|Passed invalid arguments|arguments are not valid|Traceback|ERROR"
    r"|Error running|exception|\nFailed: +[1-9]|No minions matched|did not return|sage:"
    r"|returned False|Invalid outputter|Data failed to compile|not found"
    r"|CLI Example"  # what salt-run prints where arguments do not fit
)


class Site:
    """A master, which is a minion as well, and web1. Both are hardened in the course of things."""

    def __init__(self, lab: Lab) -> None:
        self.master, self.web1 = lab.salt_cluster(["web1"]).values()
        staging = {"file_roots": {"staging": [f"{CLONE}/salt"]}}
        self.master.write(STAGING, json.dumps(staging))
        self.master.run("systemctl restart salt-master")
        lab.salt_minion(self.master, self.master)
        fleet = [f"{it.ip}/32" for it in (self.master, self.web1)]
        networks = {**lab.pillar["networks"], "fleet": fleet}
        firewall = {"allow": {"salt-master": ["fleet"]}}
        runs.set_pillar(self.master, {"networks": networks, "firewall": firewall})
        self.web1.copy_repo(CLONE)
        self.web1.write(f"{CLONE}/pillar/hardening.sls", self.master.read(runs.PILLAR))
        tools = self._tools(lab.state / "tools")
        for host in (self.master, self.web1):
            host.copy_tree(tools, BIN)
            host.start([runs.PYTHON, "-W", "ignore", f"{BIN}/{WARM.name}"])
        for host in (self.master, self.web1):
            host.wait_for("test -S /run/warm.socket", 60)
        # By the master, which confirms it: a host by itself would wait for somebody to log in.
        self.type("salt '*' saltutil.sync_all; salt web1 state.apply hardening.firewall", {})

    def _tools(self, folder: Path) -> Path:
        """Salt that starts at once, and jq, by which pages read JSON."""
        ensure_tools(tools={"jq": "jq"})
        folder.mkdir()
        libraries = re.findall(r"=> (/\S+lib(?:jq|onig)\S+)", sh("ldd", "/usr/bin/jq").stdout)
        for path in libraries:
            shutil.copy(path, folder)
        shutil.copy("/usr/bin/jq", folder / "jq.real")
        (folder / "jq").write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={BIN} exec {BIN}/jq.real "$@"\n')
        shutil.copy(WARM, folder)
        for name in documents.SALT:
            (folder / name).write_text(f"#!/usr/bin/python3 -IS\n{WARM.read_text()}")
        for path in folder.iterdir():
            path.chmod(0o755)
        return folder

    def type(self, name: str, how: dict[str, Any]) -> Finished:
        """What comes of a command, typed where its page means it."""
        for pattern, here in {**DATA["here"], **how.get("here", {})}.items():
            name = re.sub(pattern, here, name)
        if how.get("at") == "machine":
            line = re.sub(r"sudo (scripts/lab \w+)", rf"\1 --id={self.master.lab.id}", name)
            words = {"cwd": documents.REPO, "input": how.get("input"), "capture_output": True}
            return subprocess.run(["bash", "-c", line], text=True, **words)
        local = name.startswith("salt-call")
        host: Host = getattr(self, how.get("at", "web1" if local else "master"))
        folder = CLONE if " -c config " in name else "/root"
        if how.get("before"):
            host.run(f"cd {folder}; {how['before']}")
        line = f"cd {folder}; PATH={BIN}:$PATH; {name}"
        return host.run(line, check=False, timeout=200, input=how.get("input"))


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    option = request.config.getoption
    with Lab.start(release=option("--lab-release"), salt=option("--lab-salt")) as lab:
        yield Site(lab)


def typed() -> dict[str, list[Command]]:
    """Page -> what is typed there and was on no page before."""
    pages: dict[str, dict[str, Command]] = {page: {} for page in DATA["order"]}
    before: set[str] = set()
    for page, commands in pages.items():
        for it in documents.shown():
            ours = documents.call(it.name) or it.name in DATA["commands"]
            if it.page == page and ours and it.name not in before:
                commands[it.name] = it
                before.add(it.name)
    return {page: list(commands.values()) for page, commands in pages.items()}


TYPED = typed()


@pytest.mark.parametrize("page", TYPED)
def test_what_a_page_shows_works(site: Site, page: str) -> None:
    wrong = [said for said in (problem(site, command) for command in TYPED[page]) if said]
    assert not wrong, "\n\n".join(wrong)


def problem(site: Site, command: Command) -> str:
    """What a command said if that is not what it should, with its place."""
    how = DATA["commands"].get(command.name) or {}
    done = site.type(command.name, how)
    said = f"{done.stdout}\n{done.stderr}"
    codes = [how["code"]] if "code" in how else DATA["codes"].get(function(command), [0])
    right = re.search(how["says"], said, re.M) if "says" in how else is_fine(done)
    if done.returncode in codes and right:
        return ""
    return f"{command.page}:{command.line}: {command.name}: {done.returncode}\n{said[-2000:]}"


def is_fine(done: Finished) -> bool:
    """Whether nothing went wrong; a code other than 0 is judged by itself."""
    return not WRONG.search(f"{done.stdout}\n{done.stderr}".replace(NON_ZERO, ""))


def function(command: Command) -> str:
    """The function of Salt that it calls."""
    called = documents.call(command.name)
    return called[0] if called else ""


def test_a_wrong_command_does_not_work(site: Site) -> None:
    """What is judged above tells right from wrong."""
    for name in DATA["wrong"]:
        done = site.type(name, {})
        assert done.returncode > 2 or not is_fine(done), name
