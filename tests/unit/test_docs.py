"""scripts/docs.py: the generated pages are what the YAML files say."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def docs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPO / "scripts/docs.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_pages_are_up_to_date():
    done = docs("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def pages(tmp_path):
    assert docs("--folder", str(tmp_path)).returncode == 0
    return {path.name: path.read_text() for path in tmp_path.iterdir()}


def test_check_finds_a_stale_page_and_leaves_it(tmp_path, pages):
    (tmp_path / "settings.md").write_text("old")
    done = docs("--check", "--folder", str(tmp_path))
    assert done.returncode == 1
    assert "settings.md" in done.stdout
    assert "controls.md" not in done.stdout
    assert (tmp_path / "settings.md").read_text() == "old"


def test_every_control_and_every_setting_is_there(pages, shipped):
    for family in shipped.values():
        for control in family.controls.values():
            assert f"### {control.id}: {control.title}\n" in pages["controls.md"]
        for setting in family.schema:
            assert f"### `hardening:{family.name}:{setting}`\n" in pages["settings.md"]


def test_what_a_control_and_a_setting_look_like(pages):
    assert (
        "- Severity: high\n"
        "- Remedy: `state.apply hardening.sshd`\n"
        "- Floor: `required_rsa_size` is at least `2048`\n"
        "- Guarded: yes\n"
    ) in pages["controls.md"]
    assert "- Remedy: by hand\n- Waivable: no, it guards against a lock-out" in pages["controls.md"]
    assert (
        "- Type: list of integers (at least 1, at most 65535)\n"
        "- Default: `[22]`\n"
        "- Limits: at least 1 entry\n"
    ) in pages["settings.md"]


def test_the_keys_of_a_mapping_in_words():
    ports = {"type": "list", "items": {"type": "integer", "min": 1}, "max": 8}
    fields = {"tcp": ports, "from": {"type": "string", "required": True}}
    in_words = runpy.run_path(str(REPO / "scripts/docs.py"))["type_in_words"]
    assert in_words({"type": "mapping", "values": {"type": "mapping", "fields": fields}}) == (
        "mapping of mappings with `tcp` (list of integers (at least 1), at most 8 entries), "
        "`from` (string, required)"
    )
