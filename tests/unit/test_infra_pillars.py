"""tests/infra: where the expected settings come from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from infra import pillars
from infra.asking import Answer

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILLSU+svfvtVleVVviymVZnxscO18BM7Yct5w88/ZAKf ann"
PILLAR = {"sshd": {"max_auth_tries": 3}, "networks": {"management": ["10.0.0.0/24"]}}
HASH = "$y$j9T$" + "s" * 22 + "$" + "h" * 43
HOST: Any = SimpleNamespace(backend=SimpleNamespace(get_pytest_id=lambda: "ssh://web1"))


@pytest.fixture
def told(monkeypatch):
    """The host answers this; the command is kept."""
    commands: list[str] = []

    def call(text: str, code: int = 0):
        def ask(host, questions):
            commands.extend(questions.values())
            return {"salt": Answer(text, code)}

        monkeypatch.setattr(pillars, "ask", ask)
        return commands

    return call


def facts(**own: Any) -> str:
    it = {"id": "web1", "os": ["Debian", 12], "roles": [], "digests": {}, "errors": [], **own}
    return json.dumps({"local": yaml.safe_dump(it)})


def test_a_host_is_asked_for_its_own(told) -> None:
    commands = told("[WARNING ] something\n" + facts(pillar=PILLAR))
    found = pillars.expected(HOST, None)
    assert found.minion == "web1"
    assert found.baseline.families["sshd"].settings["max_auth_tries"] == 3
    assert "--no-return-event" in commands[0] and '["accounts", "password_hashes"]' in commands[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (facts(pillar=None), "has no key hardening"),
        (facts(pillar={"sshd": {"max_auth_trys": 3}}), "max_auth_tries"),
        (facts(pillar={}, os=["Plan9", 4]), "does not know plan9-4; it knows debian-12"),
        (facts(pillar={}, errors=["Rendering SLS failed"]), "does not render: Rendering SLS"),
        ("salt-call is not there", "did not give its pillar; it said: salt-call is not there"),
        ('{"local": "broken: [', "did not give its pillar"),
    ],
)
def test_what_cannot_be_had_is_said(told, answer: str, words: str) -> None:
    told(answer)
    with pytest.raises(pillars.NoPillar, match="(?s)" + words.replace("(", r"\(")):
        pillars.expected(HOST, None)


@pytest.mark.parametrize(
    "tree",
    [
        {"hardening": PILLAR},
        PILLAR,
        {"local": {"hardening": PILLAR, "other": 1}},
        {"web1": {"hardening": PILLAR}, "web2": {"hardening": {}}},
    ],
)
def test_a_file_in_all_forms(tmp_path, tree) -> None:
    path = tmp_path / "pillar.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert pillars.from_text(path, "web1") == PILLAR


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% if x %}\na: 1", "is not YAML.*has to be rendered first"),
        ("web2: {hardening: {}}", "has no key hardening for the minion web1, only web2"),
        ("hardening: {sshd: {banner: '**********'}}", "masked.*unmask=True"),
        ("- 1", "has no key hardening"),
    ],
)
def test_a_file_that_is_none(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "pillar.yaml"
    path.write_text(text)
    with pytest.raises(pillars.NoPillar, match=f"(?s){words}"):
        pillars.from_text(path, "web1")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(pillars.NoPillar, match="No such file"):
        pillars.from_text(tmp_path / "none.yaml", "web1")


def test_with_a_file_the_host_needs_no_salt_and_passwords_stay_digests(told, tmp_path) -> None:
    told('{"id": "web1", "os": ["debian", "12"]}')
    person = {"keys": [KEY]}
    accounts = {"administrators": {"ann": person}, "password_hashes": {"ann": HASH}}
    path = tmp_path / "pillar.yaml"
    path.write_text(yaml.safe_dump({"hardening": {**PILLAR, "accounts": accounts}}))
    found = pillars.expected(HOST, str(path))
    assert len(found.digests["ann"]) == 64 and HASH not in repr(found.digests)


def test_a_host_without_salt_says_who_it_is(tmp_path: Path) -> None:
    """The command as the host's shell has it, where there is no salt-call."""

    def run(command: str, *arguments: str) -> Any:
        script = arguments[1].replace("PATH=", f"PATH={tmp_path} NO=")
        words = ["/bin/sh", "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, env={"PATH": ""}, check=False)
        return SimpleNamespace(stdout=done.stdout, stderr=done.stderr)

    (tmp_path / "hostname").write_text("#!/bin/sh\necho web7\n")
    (tmp_path / "hostname").chmod(0o755)
    host: Any = SimpleNamespace(backend=HOST.backend, run=run)
    file = tmp_path / "pillar.yaml"
    file.write_text(yaml.safe_dump({"hardening": PILLAR}))
    assert pillars.expected(host, str(file)).minion == "web7"
    with pytest.raises(pillars.NoPillar, match="salt-call is not there"):
        pillars.expected(host, None)
