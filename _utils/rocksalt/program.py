"""A part of this library as a program in one file, for hosts and moments without Salt.

The same library gives the same bytes, so that a changed program is seen.
"""

from __future__ import annotations

import io
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = "rocksalt"
_IMPORT = re.compile(
    rf"^\s*(?:import|from)\s+(?P<module>{_PACKAGE}[\w.]*)"
    r"(?:\s+import\s+(?P<names>\([^)]*\)|[^\n]*))?",
    re.MULTILINE,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def python() -> str:
    """The interpreter that runs this, which is the one of Salt where Salt runs it. By the name that
    all have: one and the same is called ``python`` here and ``python3.11`` there.
    """
    path = os.path.join(sys.prefix, "bin", "python3")
    return path if os.access(path, os.X_OK) else sys.executable


def build(interpreter: str, entry: str, library: Mapping[str, bytes]) -> bytes:
    """The program: a line that names the interpreter, and a zip of :func:`sources`. What runs is
    ``main()`` of the module ``entry``.
    """
    start = f"from {entry} import main\n\nraise SystemExit(main())\n"
    buffer = io.BytesIO()
    buffer.write(f"#!{interpreter} -sE\n".encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        contents = {"__main__.py": start.encode(), **library}
        for name, data in sorted(contents.items()):
            item = zipfile.ZipInfo(name, _EPOCH)
            item.external_attr = 0o100644 << 16
            archive.writestr(item, data)
    return buffer.getvalue()


def sources(entry: str) -> dict[str, bytes]:
    """What a program needs of the library: name in the zip -> content."""
    found: dict[str, bytes] = {}
    todo = [entry]
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is None or _name(path) in found:
            continue
        data = path.read_bytes()
        found[_name(path)] = data
        todo += module.rpartition(".")[:1]
        todo += _imported(data)
    return found


def _imported(source: bytes) -> list[str]:
    """The modules of ours that a module may import, wherever in it."""
    found = []
    for match in _IMPORT.finditer(source.decode()):
        module, names = match.group("module", "names")
        found += [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names or ""))]
    return found


def _file(module: str) -> Path | None:
    """Where a module is; None for what is none, such as a name in one."""
    path = _ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((it for it in candidates if module and it.is_file()), None)


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()
