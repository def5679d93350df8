"""Restore: what comes out is what went in, and nothing can write anywhere else."""

from __future__ import annotations

import fcntl
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError, Locked, Unverified
from rocksalt.backup.packing import compress, index
from rocksalt.backup.packing.pack import pack
from rocksalt.backup.packing.walk import Part
from rocksalt.backup.restoring import extract, placing, restore
from rocksalt.backup.restoring.extract import Workspace
from rocksalt.backup.vaults import Reader, Stored

STARTED = "2026-11-22T13:00:00Z"
STEM = names.stem(1, names.parsed(STARTED))
IDENTITY, RECIPIENT = age.generate()
ACME_IDENTITY, ACME = age.generate()
KEYS = age.identities(IDENTITY)
EVERYBODY = [*KEYS, *age.identities(ACME_IDENTITY)]


class Memory(Reader):
    """A vault of a few bytes."""

    name = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    def names(self) -> Mapping[str, Stored]:
        return {name: Stored(len(data)) for name, data in self.objects.items()}

    def open(self, name: str) -> BinaryIO:
        self.asked.append(name)
        if name not in self.objects:
            raise FileNotFoundError(name)
        return io.BytesIO(self.objects[name])


@pytest.fixture
def vault() -> Memory:
    return Memory()


def snapshot(vault: Memory, **archives: tuple[bytes, str]) -> manifest.Manifest:
    """The manifest of a full with these encrypted archives (content, recipient), all put."""
    found = {}
    for key, (data, recipient) in archives.items():
        part = key.replace("_", "-")
        name = names.archive(STEM, part, "gzip")
        vault.objects[name] = data
        found[part] = manifest.Archive(
            name, manifest.digest(data), len(data), [age.fingerprint(recipient)], 1, 1, 1
        )
    return manifest.Manifest(
        instance="salt", sequence=1, previous="", kind="full", same_as=0, started=STARTED,
        finished=STARTED, next=STARTED, archives=found, recipients={}, authorisation="",
        warnings={}, versions={},
    )  # fmt: skip


def sealed(data: bytes, recipient: str = RECIPIENT) -> bytes:
    target = io.BytesIO()
    locked = age.Writer(target, [recipient])
    packed = compress.Writer(locked, "gzip")  # type: ignore[arg-type]
    packed.write(data)
    packed.close()
    locked.close()
    return target.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    info.uid, info.gid = os.geteuid(), os.getegid()
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info, content


def folder(name: str) -> Any:
    return member(name, tarfile.DIRTYPE)


def crafted(*members: Any, lines: bytes | None = b"") -> bytes:
    """An archive as somebody else may write it; without an index where ``lines`` is None."""
    target = io.BytesIO()
    if lines is not None:
        members = (*members, member(index.INDEX, content=lines))
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


Packs = Callable[..., manifest.Manifest]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "host"
    (root / "etc/salt/pki").mkdir(parents=True)
    (root / "etc/salt/master").write_text("id: salt\n")
    (root / "etc/salt/pki/key").write_text("secret")
    (root / "etc/salt/pki/key").chmod(0o400)
    os.link(root / "etc/salt/pki/key", root / "etc/salt/pki/second")
    os.symlink("/etc/shadow", root / "etc/salt/link")
    (root / "srv/acme").mkdir(parents=True)
    (root / "srv/own.sls").write_text("own: 1\n")
    (root / "srv/acme/their.sls").write_text("their: 1\n")
    return root


@pytest.fixture
def packed(vault: Memory, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real snapshot of the tree: two roots for the operator, one below for a customer."""
    monkeypatch.setattr(compress, "best", lambda: "gzip")
    acme = str(tree / "srv/acme")
    parts = {
        "operator": (Part("operator", (str(tree / "etc"), str(tree / "srv")), (acme,)), RECIPIENT),
        "customer_acme": (Part("customer-acme", (acme,)), ACME),
    }
    archives = {}
    (tmp_path / "spool").mkdir()
    for key, (part, recipient) in parts.items():
        pack(part, [recipient], tmp_path / "spool" / key)
        archives[key] = ((tmp_path / "spool" / key).read_bytes(), recipient)
    return snapshot(vault, **archives)


def listed(root: Path) -> dict[str, str]:
    """What is below a folder, with the content of files and the text of links."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def below(staging: Path, tree: Path) -> Path:
    return Path(f"{staging}{tree}")


# What comes out ----------------------------------------------------------------------------------


def test_all_parts_come_back(vault: Memory, packed: Any, tree: Path, tmp_path: Path) -> None:
    done = restore.restore(vault, packed, EVERYBODY, tmp_path / "out")
    assert listed(below(tmp_path / "out", tree)) == listed(tree)
    assert (done.problems, done.missing, done.moved) == ([], [], {})
    assert done.tops == [str(tree / "etc"), str(tree / "srv")]
    assert (done.files, done.bytes) == (4, len("id: salt\nsecretown: 1\ntheir: 1\n"))
    key = below(tmp_path / "out", tree) / "etc/salt/pki/key"
    assert key.stat().st_mode & 0o7777 == 0o400
    assert key.stat().st_mtime_ns == (tree / "etc/salt/pki/key").stat().st_mtime_ns
    assert key.samefile(key.parent / "second")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert sorted(it.name for it in tmp_path.iterdir()) == ["host", "out", "spool"]


def test_a_part_that_no_identity_opens_is_missing_and_no_error(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path
) -> None:
    done = restore.restore(vault, packed, KEYS, tmp_path / "out")
    assert done.missing == ["customer-acme"]
    assert "srv/acme/their.sls" not in listed(below(tmp_path / "out", tree))
    assert [name for name in vault.asked if "acme" in name] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": ["operator", "customer-acme"]}, "none of the identities opens customer-acme"),
        ({"parts": ["customer-emca"]}, "no part 'customer-emca'; it has customer-acme, operator"),
        ({"paths": ["/etc/shadow"]}, "/etc/shadow is not in operator of the snapshot"),
        ({"paths": ["etc"]}, "'etc' is no absolute path"),
    ],
)
def test_what_is_asked_for_and_is_not_there_is_an_error(
    vault: Memory, packed: Any, tmp_path: Path, options: Any, words: str
) -> None:
    with pytest.raises(BackupError, match=words):
        restore.restore(vault, packed, KEYS, tmp_path / "out", **options)
    assert sorted(it.name for it in tmp_path.iterdir()) == ["host", "spool"]


def test_a_heartbeat_has_nothing_to_restore(vault: Memory, packed: Any, tmp_path: Path) -> None:
    same = manifest.dataclasses.replace(packed, kind="same", same_as=1, archives={}, sequence=2)
    with pytest.raises(BackupError, match="has no archives: it is the same as #1"):
        restore.restore(vault, same, KEYS, tmp_path / "out")


def test_only_some_paths(vault: Memory, packed: Any, tree: Path, tmp_path: Path) -> None:
    paths = [str(tree / "etc/salt/master"), str(tree / "srv") + "/"]
    done = restore.restore(vault, packed, KEYS, tmp_path / "out", paths=paths)
    assert sorted(listed(below(tmp_path / "out", tree))) == ["etc/salt/master", "srv/own.sls"]
    assert done.tops == [str(tree / "etc/salt/master"), str(tree / "srv")]


def test_a_hard_link_alone_brings_its_content(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path
) -> None:
    second = tree / "etc/salt/pki/second"
    done = restore.restore(vault, packed, KEYS, tmp_path / "out", paths=[str(second)])
    assert listed(below(tmp_path / "out", tree)) == {"etc/salt/pki/second": "secret"}
    assert (done.files, done.problems) == (1, [])


def test_of_two_members_with_one_name_the_second_is_right(vault: Memory, tmp_path: Path) -> None:
    first, second = member("etc/a", content=b"while it was written"), member("etc/a", content=b"a")
    lines = {"path": "/etc/a", "type": "file", "mode": 0o644, "uid": os.geteuid(),
             "gid": os.getegid(), "mtime_ns": 0, "size": 1,
             "sha256": manifest.digest(b"a")}  # fmt: skip
    data = crafted(folder("etc"), first, member("etc/b", tarfile.LNKTYPE, "etc/a"), second,
                   lines=json.dumps(lines).encode() + b"\n")  # fmt: skip
    it = snapshot(vault, operator=(sealed(data), RECIPIENT))
    done = restore.restore(vault, it, KEYS, tmp_path / "out")
    assert listed(tmp_path / "out") == {"etc/a": "a", "etc/b": "a"}
    assert done.problems == ["is in the archive, and not in its index: /etc and 1 more"]


def test_what_the_index_calls_incomplete_is_left_out(vault: Memory, tmp_path: Path) -> None:
    lines = b'{"path": "/etc/a", "type": "unreadable", "why": "Input/output error"}\n'
    data = crafted(member("etc/a", content=b"hal"), member("etc/b", content=b"b"), lines=lines)
    it = snapshot(vault, operator=(sealed(data), RECIPIENT))
    done = restore.restore(vault, it, KEYS, tmp_path / "out")
    assert listed(tmp_path / "out") == {"etc/b": "b"}
    [unreadable, _] = done.problems
    assert unreadable == (
        "could not be read when the snapshot was taken (Input/output error): /etc/a"
    )


def test_what_differs_from_the_index_is_told(vault: Memory, tmp_path: Path) -> None:
    line = {"path": "/a", "type": "file", "mode": 0o600, "uid": os.geteuid(), "gid": os.getegid(),
            "mtime_ns": 5, "size": 2, "sha256": "00"}  # fmt: skip
    gone = {**line, "path": "/gone"}
    lines = b"".join(json.dumps(it).encode() + b"\n" for it in (line, gone))
    data = crafted(member("a", content=b"a"), lines=lines)
    it = snapshot(vault, operator=(sealed(data), RECIPIENT))
    done = restore.restore(vault, it, KEYS, tmp_path / "out")
    assert sorted(done.problems) == [
        "has a size of 1 instead of 2: /a",
        "has the SHA-256 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
        " instead of 00: /a",
        "has the mode 0644 instead of 0600: /a",
        "is in the index, and not in the archive: /gone",
        "was changed last 0 instead of 5: /a",
    ]


# What must not happen ----------------------------------------------------------------------------

HOSTILE = {
    "absolute": ([member("/etc/a")], "would leave the target"),
    "above": ([member("../a")], "would leave the target"),
    "above inside": ([folder("etc"), member("etc/../../a")], "would leave the target"),
    "here": ([member("etc/./a")], "would leave the target"),
    "below a link": (
        [member("out", tarfile.SYMTYPE, "/"), member("out/a")],
        "/out/a is below /out, which is a link in the archive",
    ),
    "below a later link": (
        [member("out/a"), member("out", tarfile.SYMTYPE, "/")],
        "/out/a is below /out, which is a link in the archive",
    ),
    "far below a link": (
        [folder("d"), member("d/out", tarfile.SYMTYPE, ".."), member("d/out/b/c")],
        "/d/out/b/c is below /d/out, which is a link in the archive",
    ),
    "below a file": ([member("a"), member("a/b")], "which is a file in the archive"),
    "below a hard link": (
        [member("a"), member("b", tarfile.LNKTYPE, "a"), member("b/c")],
        "which is a hard link in the archive",
    ),
    "hard link outside": (
        [member("a", tarfile.LNKTYPE, "/etc/shadow")],
        "hard link to '/etc/shadow', which is no file of the archive",
    ),
    "hard link above": (
        [member("a", tarfile.LNKTYPE, "../../etc/shadow")],
        "which is no file of the archive",
    ),
    "hard link to itself": ([member("a", tarfile.LNKTYPE, "a")], "no file of the archive"),
    "unknown kind": ([member("a", b"V")], "is of the kind b'V', which no backup has"),
    "our own folder": ([member(".rocksalt/x")], "which no backup has"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_members_that_would_leave_the_target_are_refused(
    vault: Memory, tmp_path: Path, case: str
) -> None:
    members, words = HOSTILE[case]
    good = member("good", content=b"good")
    it = snapshot(vault, operator=(sealed(crafted(good, *members)), RECIPIENT))
    with pytest.raises(Unverified, match=words.replace("/", "/")):
        restore.restore(vault, it, KEYS, tmp_path / "out" / "deep")
    assert listed(tmp_path) == {}


def test_links_are_kept_as_they_are_and_never_followed(vault: Memory, tmp_path: Path) -> None:
    (tmp_path / "live").write_text("live")
    links = [
        member("absolute", tarfile.SYMTYPE, str(tmp_path / "live")),
        member("relative", tarfile.SYMTYPE, "../live"),
    ]
    it = snapshot(vault, operator=(sealed(crafted(*links)), RECIPIENT))
    restore.restore(vault, it, KEYS, tmp_path / "out")
    assert os.readlink(tmp_path / "out/absolute") == str(tmp_path / "live")
    assert os.readlink(tmp_path / "out/relative") == "../live"
    assert (tmp_path / "live").read_text() == "live"


def test_a_folder_that_becomes_a_link_while_we_write_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    space = Workspace(str(tmp_path / "space"))
    os.symlink(tmp_path / "away", tmp_path / "space/etc")
    writing = extract.Tree(space.fd, extract.Notes())
    with pytest.raises(BackupError, match="could not be restored"):
        writing.write(b"etc/a", extract.Member(member("etc/a")[0], 0), io.BytesIO())
    space.close()
    assert list((tmp_path / "away").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "is not what was signed"),
        (lambda data: data + b"\0", "is not what was signed"),
        (lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:], "is not what was signed"),
        (lambda data: sealed(crafted(member("etc/evil"))), "is not what was signed"),
    ],
    ids=["cut", "longer", "flipped", "another one for the same recipient"],
)
def test_an_archive_that_is_not_the_signed_one_is_refused(
    vault: Memory, packed: Any, tmp_path: Path, change: Any, words: str
) -> None:
    name = packed.archives["operator"].name
    vault.objects[name] = change(vault.objects[name])
    with pytest.raises(Unverified, match=words):
        restore.restore(vault, packed, KEYS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x" * 2000, "the archive is damaged"),
        (crafted(member("a"), lines=None), "was not written to its end"),
        (crafted(member("a"))[:700], "was not written to its end|the archive is damaged"),
        (crafted(lines=b"[]\n"), "a line of .rocksalt/index.jsonl is none"),
        (crafted(lines=b'{"path": "/a'), "a line of .rocksalt/index.jsonl is none"),
    ],
)
def test_an_archive_that_is_none_is_refused(
    vault: Memory, tmp_path: Path, data: bytes, words: str
) -> None:
    it = snapshot(vault, operator=(sealed(data), RECIPIENT))
    with pytest.raises(Unverified, match=words):
        restore.restore(vault, it, KEYS, tmp_path / "out")
    assert listed(tmp_path) == {}


def test_a_pruned_archive_is_named(vault: Memory, packed: Any, tmp_path: Path) -> None:
    vault.objects.clear()
    with pytest.raises(BackupError, match="is not in the vault memory: take another vault"):
        restore.restore(vault, packed, KEYS, tmp_path / "out")


def test_one_name_in_two_parts_is_refused(vault: Memory, tmp_path: Path) -> None:
    mine, theirs = sealed(crafted(member("etc/a"))), sealed(crafted(member("etc/a")), ACME)
    it = snapshot(vault, operator=(mine, RECIPIENT), customer_acme=(theirs, ACME))
    with pytest.raises(Unverified, match="/etc/a is in operator and in customer-acme"):
        restore.restore(vault, it, EVERYBODY, tmp_path / "out")


def test_a_link_of_one_part_is_not_followed_by_another(vault: Memory, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    mine = sealed(crafted(member("srv", tarfile.SYMTYPE, str(tmp_path / "live"))))
    theirs = sealed(crafted(member("srv/a", content=b"evil")), ACME)
    it = snapshot(vault, operator=(mine, RECIPIENT), customer_acme=(theirs, ACME))
    with pytest.raises(BackupError, match="/srv/a could not be restored"):
        restore.restore(vault, it, EVERYBODY, tmp_path / "out")
    assert listed(tmp_path) == {}


# The target --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link", "full"])
def test_an_existing_target_is_refused(
    vault: Memory, packed: Any, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        os.symlink(tmp_path / "elsewhere", out)
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(BackupError, match=r"is no folder|is not empty"):
        restore.restore(vault, packed, KEYS, out)
    assert vault.asked == []


def test_an_empty_folder_is_taken(vault: Memory, packed: Any, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    restore.restore(vault, packed, KEYS, tmp_path / "out")
    assert "etc/salt/master" in listed(below(tmp_path / "out", tree))


@pytest.mark.parametrize(("room", "asked"), [(10, 0), (5000, 1)])
def test_no_room_is_said_before_anything_is_written(
    vault: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, asked: int
) -> None:
    it = snapshot(vault, operator=(sealed(crafted(member("a", content=b"a"))), RECIPIENT))
    monkeypatch.setattr(Workspace, "room", room)
    with pytest.raises(BackupError, match=f"has {room} bytes left, and needs [0-9]+: make room"):
        restore.restore(vault, it, KEYS, tmp_path / "out")
    assert len(vault.asked) == asked
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_restore_left_goes_first(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path
) -> None:
    left = tmp_path / ".out.restoring"
    (left / "etc/locked").mkdir(parents=True)
    (left / "etc/locked").chmod(0)
    left.chmod(0o700)
    restore.restore(vault, packed, KEYS, tmp_path / "out")
    assert "etc/salt/master" in listed(below(tmp_path / "out", tree))
    assert not (tmp_path / "out/etc").exists()
    assert not left.exists()


def test_two_restores_to_one_target(vault: Memory, packed: Any, tmp_path: Path) -> None:
    other = Workspace(str(tmp_path / ".out.restoring"))
    with pytest.raises(Locked, match="another restore is at work"):
        restore.restore(vault, packed, KEYS, tmp_path / "out")
    other.close()
    restore.restore(vault, packed, KEYS, tmp_path / "out")


def test_a_hidden_folder_of_somebody_else_is_not_used(
    vault: Memory, packed: Any, tmp_path: Path
) -> None:
    (tmp_path / ".out.restoring").mkdir()
    (tmp_path / ".out.restoring").chmod(0o777)
    with pytest.raises(BackupError, match="is somebody else's"):
        restore.restore(vault, packed, KEYS, tmp_path / "out")
    os.rmdir(tmp_path / ".out.restoring")
    os.symlink(tmp_path, tmp_path / ".out.restoring")
    with pytest.raises(BackupError, match="is no folder of a restore"):
        restore.restore(vault, packed, KEYS, tmp_path / "out")


# In place ----------------------------------------------------------------------------------------


def in_place(vault: Memory, it: Any, tmp_path: Path, **options: Any) -> restore.Restored:
    return restore.restore(
        vault, it, EVERYBODY, tmp_path / "hold", in_place=True, root=tmp_path / "new", **options
    )


def test_in_place_puts_everything_where_it_was(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path
) -> None:
    new = Path(f"{tmp_path / 'new'}{tree}")
    (new / "etc/salt").mkdir(parents=True)
    (new / "etc/salt/master").write_text("id: old\n")
    done = in_place(vault, packed, tmp_path)
    [(path, aside)] = done.moved.items()
    assert path == str(new / "etc")
    assert Path(aside, "salt/master").read_text() == "id: old\n"
    assert Path(aside).name.startswith("etc.before-restore-2")
    assert listed(new / "etc") == listed(tree / "etc")
    assert listed(new / "srv") == listed(tree / "srv")
    assert sorted(it.name for it in new.iterdir()) == sorted(["etc", Path(aside).name, "srv"])
    assert not (tmp_path / "hold").exists()


def test_in_place_a_single_file(vault: Memory, packed: Any, tree: Path, tmp_path: Path) -> None:
    new = Path(f"{tmp_path / 'new'}{tree}") / "etc/salt"
    new.mkdir(parents=True)
    (new / "master").write_text("id: old\n")
    (new / "other").write_text("stays")
    done = in_place(vault, packed, tmp_path, paths=[str(tree / "etc/salt/master")])
    assert (new / "master").read_text() == "id: salt\n"
    assert (new / "other").read_text() == "stays"
    assert list(done.moved) == [str(new / "master")]


def test_in_place_swaps_nothing_that_differs_from_the_index(vault: Memory, tmp_path: Path) -> None:
    line = {"path": "/a", "type": "file", "mode": 0o644, "uid": os.geteuid(), "gid": os.getegid(),
            "mtime_ns": 0, "size": 1, "sha256": "00"}  # fmt: skip
    data = crafted(member("a", content=b"a"), lines=json.dumps(line).encode() + b"\n")
    it = snapshot(vault, operator=(sealed(data), RECIPIENT))
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a").write_text("old")
    with pytest.raises(BackupError, match="nothing was put in place, for 1 entries are not as"):
        in_place(vault, it, tmp_path)
    assert listed(tmp_path) == {"new/a": "old"}


def test_in_place_an_interrupted_run_heals(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Path(f"{tmp_path / 'new'}{tree}")
    for top in ("etc", "srv"):
        (new / top).mkdir(parents=True)
        (new / top / "old").write_text(top)
    real = extract.swap
    swapped = []

    def killed(*words: str) -> str:
        if swapped:
            raise KeyboardInterrupt
        swapped.append(words)
        return real(*words)

    monkeypatch.setattr(extract, "swap", killed)
    with pytest.raises(KeyboardInterrupt):
        in_place(vault, packed, tmp_path)
    assert listed(new / "etc") == listed(tree / "etc")
    assert listed(new / "srv") == {"old": "srv"}
    monkeypatch.setattr(extract, "swap", lambda new, path, stamp: real(new, path, f"{stamp}-2"))
    in_place(vault, packed, tmp_path)
    assert listed(new / "srv") == listed(tree / "srv")
    assert {Path(it).name for it in new.glob("*.before-restore-*/old")} == {"old"}


def test_where_the_second_rename_fails_the_old_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(BackupError, match="could not be put in place: No such file"):
        extract.swap(str(tmp_path / "missing"), str(tmp_path / "a"), "STAMP")
    assert listed(tmp_path) == {"a": "old"}


def test_in_place_does_not_follow_links_out_of_the_root(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    os.symlink("/", tmp_path / "new" / tree.parts[1])
    with pytest.raises(BackupError, match="leads out of"):
        in_place(vault, packed, tmp_path)


def test_in_place_refuses_a_mount_point(
    vault: Memory, packed: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing.os.path, "ismount", lambda path: str(path).endswith("/srv"))
    with pytest.raises(BackupError, match="is a mount point, which cannot be moved aside"):
        in_place(vault, packed, tmp_path)


# Not as root -------------------------------------------------------------------------------------


def test_who_is_not_root_restores_what_can_be_and_is_told_the_rest(
    vault: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: Any, **options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    for call in ("chown", "mknod", "setxattr"):
        monkeypatch.setattr(extract.os, call, refused)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(Workspace, "__init__", _any_owner)
    program, _ = member("program", content=b"x")
    program.mode, program.uid, program.gid = 0o4755, 0, 0
    program.pax_headers = {"SCHILY.xattr.user.note": "x"}
    device, _ = member("device", tarfile.CHRTYPE)
    it = snapshot(vault, operator=(sealed(crafted((program, b"x"), (device, b""))), RECIPIENT))
    done = restore.restore(vault, it, KEYS, tmp_path / "out")
    assert (tmp_path / "out/program").stat().st_mode & 0o7777 == 0o755
    assert not (tmp_path / "out/device").exists()
    assert done.problems[:4] == [
        "has no setuid or setgid bit, as it has another owner: /program",
        "only root restores owners; belongs to this account: /program",
        "could not be given the attribute user.note: Operation not permitted: /program",
        "devices can only be made by root, and are missing: /device",
    ]


def _any_owner(self: Workspace, path: str) -> None:
    os.mkdir(path, 0o700)
    self.path, self.fd = path, os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(self.fd, fcntl.LOCK_EX)
