"""rocksalt.backup.program: the library in one file."""

from __future__ import annotations

import ast
import io
import sys
import zipfile

from rocksalt.backup import program

ALLOWED = {*sys.stdlib_module_names, "rocksalt", "cryptography"}


def test_the_same_library_gives_the_same_program():
    first, second = (program.build("/usr/bin/python3", program.sources()) for _ in range(2))
    assert first == second


def test_it_names_its_interpreter_and_holds_the_library():
    data = program.build("/opt/salt/bin/python3", program.sources())
    assert data.startswith(b"#!/opt/salt/bin/python3 -sE\n")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names)
        assert {"__main__.py", "rocksalt/__init__.py", "rocksalt/backup/__main__.py"} < {*names}
        assert b"rocksalt.backup.__main__" in archive.read("__main__.py")
        assert archive.read("rocksalt/errors.py") == program.sources()["rocksalt/errors.py"]


def test_it_has_what_runs_on_a_vault_and_a_drill_host_and_leaves_out_the_families():
    found = set(program.sources())
    for name in ("check", "config", "proof/verify", "restoring/drill", "vaults/receiver"):
        assert f"rocksalt/backup/{name}.py" in found
    for other in (
        "catalogue",
        "settings",
        "firewall/policy",
        "backup/family/checks",
        "backup/family/enforce",
    ):
        assert f"rocksalt/{other}.py" not in found


def test_every_package_in_it_has_its_init():
    found = set(program.sources())
    for name in found:
        folder = name.rpartition("/")[0]
        assert f"{folder}/__init__.py" in found


def test_it_needs_nothing_but_python_and_cryptography():
    for name, source in program.sources().items():
        for node in ast.parse(source).body:
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            strange = {it.split(".")[0] for it in imported} - ALLOWED
            assert not strange, f"{name} imports {strange} wherever it runs"


def test_the_plugin_runs_the_check():
    assert program.plugin().endswith('exec /usr/local/sbin/rocksalt-backup check "$@"\n')
