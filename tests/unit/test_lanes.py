"""scripts/lanes: one after the other or together, stop at a failure, always the times."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the real scripts/lanes, a lint that works and tests that fail."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv-3008/bin").mkdir(parents=True)
    shutil.copy(REPO / "scripts/lanes", tmp_path / "scripts")
    for name, script in {
        "scripts/setup": "exit 0",
        "scripts/lint": "echo linted",
        "scripts/lab": 'echo "lab $*"',
        ".venv-3008/bin/pytest": 'echo "pytest $*"; exit 5',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def lanes(clone: Path, *names: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [clone / "scripts/lanes", *names]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}
    )
    done.stdout = re.sub(r" \d s$", " 0 s", done.stdout, flags=re.M)  # a busy machine takes longer
    return done


def test_stops_at_the_first_failure_and_shows_the_times(clone):
    done = lanes(clone, "lint", "unit", "functional")
    assert done.returncode == 5
    assert done.stdout.splitlines() == [
        "== lint ...",
        "linted",
        "== lint ok in 0 s",
        "== unit ...",
        "pytest tests/unit",
        "== unit FAILED in 0 s",
        "",
        "== times",
        "   lint             ok         0 s",
        "   unit             FAILED     0 s",
        "   all                         0 s",
    ]


def test_lanes_at_the_same_time_speak_one_after_the_other(clone):
    done = lanes(clone, "functional+lint", "unit")
    assert done.returncode == 5
    assert done.stdout.splitlines()[:6] == [
        "== lint ...",
        "linted",
        "== lint ok in 0 s",
        "== functional ...",
        "pytest tests/functional",
        "== functional FAILED in 0 s",
    ]
    assert "== unit" not in done.stdout


def test_lanes_after_each_other_while_another_runs(clone):
    done = lanes(clone, "lint,unit,functional+lint")
    assert done.returncode == 5
    said = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert [line.split()[1] for line in said] == ["lint"] * 4 + ["unit"] * 2 + ["times"]


def test_a_failed_setup_fails_the_lane(clone):
    (clone / "scripts/setup").write_text("#!/bin/sh\nexit 1\n")
    done = lanes(clone, "unit")
    assert done.returncode == 1
    assert "pytest" not in done.stdout


def test_a_caller_of_several_runs_shows_one_table(clone, tmp_path):
    times = str(tmp_path / "times")
    assert "== times" not in lanes(clone, "lint", LANE_TIMES=times).stdout
    assert "== times" not in lanes(clone, "unit", LANE_TIMES=times).stdout
    shown = lanes(clone, "--times", LANE_TIMES=times).stdout
    assert [line.split()[:2] for line in shown.splitlines()[2:4]] == [
        ["lint", "ok"],
        ["unit", "FAILED"],
    ]


def test_unknown_lane(clone):
    done = lanes(clone, "nonsense")
    assert done.returncode == 2
    assert done.stderr == (
        "rocksalt: there is no lane 'nonsense'; there are lint unit functional functional-3006 lab"
        " lab-1 lab-2 lab-debian-13 vm vm-luks demo vagrant smoke-debian-13 bench.\n"
    )


def test_a_lab_lane_makes_the_image_before_the_tests_need_it(clone):
    (clone / ".venv-3008/bin/pytest").write_text('#!/bin/sh\necho "pytest $*"\n')
    assert lanes(clone, "smoke-debian-13").stdout.splitlines()[1:3] == [
        "lab image --release debian-13 --salt 3008",
        "pytest tests/lab --lab-release debian-13 --lab-salt 3008 -m smoke",
    ]


def test_what_takes_a_kernel_of_its_own_is_a_lane_of_its_own(clone):
    (clone / ".venv-3008/bin/pytest").write_text('#!/bin/sh\necho "pytest $*"\n')
    said = lanes(clone, "lab", "vm", "vm-luks", "vagrant").stdout
    options = "tests/lab --lab-release debian-12 --lab-salt 3008"
    assert f"pytest {options} -m not vm and not vagrant\n" in said
    assert f"pytest {options} -m vagrant -rP\n" in said
    assert f"pytest {options} -m vm -k not test_luks\n" in said
    assert f"pytest {options} -m vm -k test_luks\n" in said


def test_the_two_halves_of_the_lab_are_the_lab(clone):
    (clone / ".venv-3008/bin/pytest").write_text('#!/bin/sh\necho "pytest $*"\n')
    said = lanes(clone, "lab-1", "lab-2").stdout
    options = "tests/lab --lab-release debian-12 --lab-salt 3008 -m not vm and not vagrant"
    one, other = (line.partition(" -k ")[2] for line in said.splitlines() if options in line)
    assert one and other == f"not ({one})"
    names = {path.stem for path in (REPO / "tests/lab").glob("test_*.py")}
    assert set(one.split(" or ")) < names


@pytest.mark.parametrize(
    ("last", "code", "verdict"),
    [
        ("docs/install.md is about hosts of yours.", 0, "ok"),
        ("docs/install.md is about hosts of yours.", 1, "FAILED"),
        ("  web1 drifts", 0, "FAILED"),
    ],
)
def test_the_demo_has_to_come_to_its_end(clone, last, code, verdict):
    (clone / "Makefile").write_text(f"demo:\n\t@echo begin; echo '{last}'; exit {code}\n")
    done = lanes(clone, "demo")
    assert f"== demo {verdict} in 0 s" in done.stdout.splitlines()
    assert (done.returncode == 0) == (verdict == "ok")
    assert last in done.stdout.splitlines()
