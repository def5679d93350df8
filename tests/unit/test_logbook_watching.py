"""rocksalt.logbook.watching: trees that are made to stop who looks at them."""

from __future__ import annotations

import os

import pytest

from rocksalt.logbook import watching

LEVELS = 1500


@pytest.fixture
def deep(tmp_path):
    """A folder with a file below so many others; they are removed one by one, as what removes all
    at once recurses as well.
    """
    top, before = tmp_path / "deep", os.getcwd()
    top.mkdir()
    try:
        os.chdir(top)
        for _ in range(LEVELS):
            os.mkdir("a")
            os.chdir("a")
        open("f.sls", "w").close()
        yield top
        os.unlink("f.sls")
        for _ in range(LEVELS):
            os.chdir("..")
            os.rmdir("a")
    finally:
        os.chdir(before)


def test_a_folder_however_deep_is_looked_at(deep, monkeypatch):
    asked = []
    monkeypatch.setattr(watching.os.path, "realpath", lambda path: asked.append(path) or path)
    [path] = watching.files_of(str(deep), {})
    assert path.endswith("/a/f.sls") and path.count("/a") == LEVELS
    assert not asked


def test_links_in_a_ring_are_looked_at_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/ring").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a/x.sls").write_text("x")
    found = watching.files_of(str(tmp_path), {})
    assert [*found] == [str(tmp_path / it) for it in ("a/ring", "a/x.sls", "b")]


def test_a_tree_that_cannot_be_looked_at_hides_no_other(tmp_path, monkeypatch):
    folders = {name: [str(tmp_path / name)] for name in ("one", "two")}
    for [path] in folders.values():
        os.mkdir(path)
        (tmp_path / path / "a.sls").write_text("a")
    it = watching.Watcher(folders, tmp_path / "trees.json")
    assert [found["tree"] for found in it.look()] == ["one", "two"] and it.problem() == ""
    it.keep()
    real = watching.files_of

    def files_of(top, before):
        if top.endswith("one"):
            raise RecursionError("too deep")
        return real(top, before)

    monkeypatch.setattr(watching, "files_of", files_of)
    for name in folders:
        (tmp_path / name / "a.sls").write_text("b")
    assert [found["tree"] for found in it.look()] == ["two"]
    assert it.problem() == "one cannot be looked at: RecursionError: too deep"
    it.keep()
    monkeypatch.setattr(watching, "files_of", real)
    assert [found["changed"] for found in it.look()] == [[str(tmp_path / "one/a.sls")]]
    assert it.problem() == ""
