"""tests/infra: what is asked of a host with OSSEC, and what stays there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from infra import test_ossec as ossec
from infra.asking import Answer

PLACE = "https://{}apt.example.com/debian bookworm main"
OWN: dict[str, Any] = {
    "repository": f"deb {PLACE.format('ann:first@')}",
    "repository_key": "a key",
    "servers": ["10.0.0.9"],
    "port": 1514,
    "package": "ossec-hids-agent",
    "directories": {"/etc": {}},
}


def asked(line: str, folder: Path) -> dict[str, Answer]:
    """The answer of a host whose sources are one line."""
    families = {"ossec": SimpleNamespace(settings=OWN)}
    wanted: Any = SimpleNamespace(baseline=SimpleNamespace(families=families))
    (folder / "ours.list").write_text(f"# no source\n{line}\n")
    command = ossec.look(wanted)["sources"].replace("/etc/apt/sources.list.d", str(folder))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    return {"sources": Answer(done.stdout, done.returncode)}


def test_passwords_of_repositories_stay_on_the_host(tmp_path: Path) -> None:
    good = f"deb [signed-by=/etc/apt/keyrings/o.asc] {PLACE}"
    seen = asked(good.format("ann:s@cret@"), tmp_path)
    assert "cret" not in seen["sources"].text and "apt.example.com" in seen["sources"].text
    ossec.test_its_repository_is_pinned_to_a_key(seen, OWN)
    for line in (f"deb {PLACE.format('ann:secret@')}", "deb https://b.example.com/ bookworm main"):
        with pytest.raises(AssertionError):
            ossec.test_its_repository_is_pinned_to_a_key(asked(line, tmp_path), OWN)


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ("logcollector.remote_commands=0\nlogcollector.remote_commands=1\n", True),
        ("logcollector.remote_commands=1\nlogcollector.remote_commands=0\n", False),
        ("agent.debug=0\n", False),
    ],
)
def test_of_several_values_the_first_is_in_force(options: str, right: bool) -> None:
    seen: Any = {"options": Answer(options, 0)}
    if right:
        ossec.test_the_server_runs_no_commands(seen)
    else:
        with pytest.raises(AssertionError):
            ossec.test_the_server_runs_no_commands(seen)
