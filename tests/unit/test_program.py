"""rocksalt.program: a part of the library in one file."""

from __future__ import annotations

import sys
from pathlib import Path

from rocksalt import program


def test_the_interpreter_is_the_one_that_runs_under_its_common_name():
    found = Path(program.python())
    assert found.parent == Path(sys.prefix) / "bin"
    assert found.resolve() == Path(sys.executable).resolve()


def test_it_runs_the_entry_that_it_is_built_for(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(program.build("/usr/bin/python3", "rocksalt.backup.names", {}))
    assert path.read_bytes().startswith(b"#!/usr/bin/python3 -sE\n")
    assert b"from rocksalt.backup.names import main\n" in path.read_bytes()
