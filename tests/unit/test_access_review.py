"""rocksalt.access.review and what it is made of: uses, writers, rooted, signing."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from access_settings import ALICE, BOB, CAROL, NOON, TODAY, granted, pillar, resolved

from rocksalt.access import compiled, review, rooted, signing, uses, writers
from rocksalt.access.asking import single
from rocksalt.access.door import records
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.errors import Refused

NOBODY = {"files": {}, "elsewhere": [], "unseen": []}


@pytest.fixture
def seen(shipped):
    """What a review is about, for a pillar."""

    def call(values=None, **root):
        settings = resolved(shipped, values)
        return {
            "external_auth": compiled.compile(settings, TODAY)["external_auth"],
            "described": compiled.described(settings),
            "root": {**NOBODY, **root},
        }

    return call


@pytest.fixture
def log(tmp_path):
    """A log with lines as the door writes them: (days ago, event, user, function)."""

    def call(*lines, name="api.jsonl"):
        text = "".join(
            records.line(
                (NOON - dt.timedelta(days=days)).timestamp(), event, "ok", user, "10.0.0.9",
                {"client": "local", "fun": fun, "tgt": "web1"} if fun else None,
            )
            + "\n"
            for days, event, user, fun in lines
        )  # fmt: skip
        (tmp_path / name).write_text(text)
        return str(tmp_path / "api.jsonl")

    return call


def told(seen, used=None, last=None, days=90, opts=None):
    grounds = dict(compiled.GROUNDS) if opts is None else opts
    return review.review(grounds, seen, used or uses.Uses(why="no log"), NOON, days, last)


# Uses ---------------------------------------------------------------------------------------------


def test_the_log(log, tmp_path):
    log((40, "call", "alice", "deploy.run"), (60, "login", "bob", ""), name="api.jsonl.1")
    rotated = (tmp_path / "api.jsonl.1").read_bytes()
    (tmp_path / "api.jsonl.2.gz").write_bytes(gzip.compress(rotated.replace(b"bob", b"carol")))
    path = log(
        (3, "login", "alice", ""), (2, "call", "alice", "test.ping"),
        (5, "call", "alice", "test.ping"), (1, "refused", "alice", "x.y"),
        (1, "login-refused", "mallory", ""),
    )  # fmt: skip
    found = uses.read(path)
    assert found.begins == NOON - dt.timedelta(days=60)
    assert sorted(found.calls["alice"]) == ["deploy.run", "test.ping"]
    assert found.last("alice") == NOON - dt.timedelta(days=2)
    assert found.last("carol") == NOON - dt.timedelta(days=60)
    assert found.last("mallory") is None
    assert (found.why, found.damaged) == ("", 0)


def test_a_log_that_is_damaged(log, tmp_path):
    path = log((3, "login", "alice", ""))
    with open(path, "ab") as file:
        file.write(b'torn {"ti\n[]\n{"time": "2026"}\n{"time": "2026-01-01T00:00:00"}\n\xff\n')
    found = uses.read(path)
    assert (found.damaged, list(found.logins)) == (5, ["alice"])
    assert "5 lines of the log could not be read" in review._unused(found, NOON, 90)


def test_no_log(tmp_path):
    path = f"{tmp_path}/api.jsonl"
    assert uses.read(path).why == f"there is no {path}"
    (tmp_path / "api.jsonl").write_text("")
    assert uses.read(path).why == f"{path} has no line"
    (tmp_path / "api.jsonl.1.gz").write_bytes(b"no gzip")
    assert "api.jsonl.1.gz cannot be read" in uses.read(path).why
    (tmp_path / "api.jsonl.1.gz").write_bytes(gzip.compress(b"x" * 99)[:-9])
    assert "api.jsonl.1.gz cannot be read" in uses.read(path).why


# The review ---------------------------------------------------------------------------------------


def test_people(seen, log):
    used = uses.read(log((91, "login", "alice", ""), (91, "call", "alice", "deploy.run"),
                         (3, "login", "alice", ""), (2, "call", "alice", "test.ping"),
                         (1, "call", "dave", "test.ping")))  # fmt: skip
    found = told(seen(), used)
    assert found["time"] == "2026-11-23T12:00:00Z"
    assert list(found["people"]) == ["alice", "bob", "carol"]
    alice = found["people"]["alice"]
    assert alice["may"][0].startswith("deployer on web* and db1 for shop and blog: on db1 and")
    assert alice["last_login"] == "2026-11-20T12:00:00Z"
    assert alice["last_calls"] == {
        "deploy.run": "2026-08-24T12:00:00Z",
        "test.ping": "2026-11-21T12:00:00Z",
    }
    assert alice["unused"] == ["deploy.run", "deploy.status"]
    bob = found["people"]["bob"]
    assert (bob["last_login"], bob["last_calls"]) == (None, {})
    assert {"drift.report", "logbook.playback"} <= set(bob["unused"])
    assert found["unused"].startswith("unused is what was not called for 90 days, since 2026-08-25")
    assert found["strangers"] == ["dave"]
    assert (found["warnings"], json.loads(json.dumps(found))) == ([], found)


def test_nothing_is_unused_where_nobody_can_tell(seen, log):
    for used, words in (
        (uses.Uses(why="there is no /x"), "nobody can tell what was used: there is no /x"),
        (uses.read(log((89, "login", "alice", ""))), "nobody can tell yet what was not used for 90 "
         "days: the log begins 2026-08-26T12:00:00Z"),
    ):  # fmt: skip
        found = told(seen(), used)
        assert found["unused"] == words
        assert [person["unused"] for person in found["people"].values()] == [None] * 3


def test_people_without_rights_and_rights_without_people(seen):
    about = seen(granted({**CAROL, "until": "2026-11-22"}))
    about["external_auth"]["pam"] = {"root": [".*", "@wheel"], "^file": "/x"}
    found = told(about)
    assert found["people"]["alice"]["may"][0].endswith(": is over")
    assert found["people"]["root"]["may"] == [
        "without a grant of the baseline, everywhere: all that begins like '.*'",
        "without a grant of the baseline, everywhere: all of @wheel",
    ]
    assert "root is root on all hosts by all that begins like '.*'" in found["root"]["roles"][0]


def test_groups(seen):
    values = pillar(backend="ldap", groups={"ops": {"grants": [ALICE]}}, hashes={})
    found = told(seen(values))["people"]
    assert list(found) == ["alice", "bob", "carol", "group ops"]
    assert list(found["group ops"]) == ["may"], "who of them used it, LDAP would have to say"


def test_root_by_roles(seen):
    everywhere = {"role": "platform", "targets": ["*"], "everywhere": True}
    people = {
        "pat": {"grants": [everywhere]},
        "carol": {"grants": [CAROL]},
        "bob": {"grants": [BOB]},
    }
    found = told(seen(pillar(users=people)))["root"]["roles"]
    assert found == [
        "carol is root on web1 by cmd.run and state.highstate",
        "pat is root on all hosts by state.highstate",
    ]
    for entry, words in (
        ("@wheel", "on all hosts by all of @wheel"),
        ({"@runner": [r"^salt\.cmd\Z"]}, "on all hosts by salt.cmd"),
        ({"@runners": ["manage.*"]}, "on all hosts by all that begins like 'manage.*'"),
        ({"@wheel": [r"^key\.list\Z"]}, "on all hosts by key.list"),
        ({"web*": ["test.ping"]}, "on web* by all that begins like 'test.ping'"),
    ):
        assert list(rooted.by_rights(single([entry]))) == [words]
    assert list(rooted.by_rights([{"@runner": [r"^manage\.status\Z"]}])) == []


def record(about, reviewer="ann", time=NOON - dt.timedelta(days=9)):
    return signing.Review("x", reviewer, time, "", "", "", about)


def test_changes(seen):
    before = seen(granted(ALICE), files={"bob": ["file_roots /srv: owns /srv"]})
    after = seen(
        granted({**ALICE, "apps": ["shop"], "reason": "moved"}, BOB),
        elsewhere=["whoever may push to https://x (gitfs_remotes)"],
    )
    found = told(after, last=record(before))["changes"]
    assert found["since"] == "ann reviewed at 2026-11-14T12:00:00Z"
    version = r"version like \d+\.\d+\.\d+"
    deploy = "alice may, by rocksalt_file, on db1 and web*: deploy.run with app"
    assert f"{deploy} shop and {version}" in found["more"]
    assert "alice is deployer on web* and db1 for shop (moved)" in found["more"]
    assert "alice may, by rocksalt_file, on all hosts: test.version" in found["more"]
    assert "whoever may push to https://x (gitfs_remotes) is root" in found["more"]
    assert found["less"] == [
        "alice is deployer on web* and db1 for shop and blog",
        rf"{deploy} blog and version like v\d+|main, or app shop and {version}",
        "alice may, by rocksalt_file, on db1 and web*: deploy.status with app blog, or app shop",
        "bob can write file_roots /srv: owns /srv",
    ]
    same = told(before, last=record(before))["changes"]
    assert (same["more"], same["less"]) == ([], [])
    assert told(before)["changes"]["since"] == "there was no review yet"


# Who can write what the master obeys --------------------------------------------------------------


@pytest.fixture
def people(monkeypatch):
    """Users and groups: ann and bob, ops with bob in it, staff as the first group of ann."""
    users = {0: "root", 1001: "ann", 1002: "bob", 1003: "cat"}
    groups = {0: ("root", []), 2001: ("ops", ["bob"]), 2002: ("staff", [])}
    first = {0: 0, 1001: 2002, 1002: 1, 1003: 1}
    entries = [
        SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=first[uid]) for uid, name in users.items()
    ]
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {e.pw_uid: e for e in entries}[uid])
    monkeypatch.setattr("pwd.getpwall", lambda: entries)
    named = {gid: SimpleNamespace(gr_name=n, gr_mem=m) for gid, (n, m) in groups.items()}
    monkeypatch.setattr("grp.getgrgid", lambda gid: named[gid])


@pytest.fixture
def tree(tmp_path, monkeypatch, people):
    """A master's folders, all root's; ``owned`` gives some of them to others."""
    for name in ("etc/master.d", "srv/salt/web", "srv/pillar", "home/ann"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("etc/master", "srv/salt/top.sls", "srv/salt/web/init.sls", "srv/pillar/top.sls"):
        (tmp_path / name).write_text("x")
    owned: dict[str, tuple[int, int, int]] = {}
    real = os.lstat

    def lstat(path, **more):
        found = real(path, **more)
        uid, gid, mode = owned.get(os.path.relpath(path, tmp_path), (0, 0, 0o755))
        fields = {"st_uid": uid, "st_gid": gid, "st_mode": (found.st_mode & ~0o7777) | mode}
        return SimpleNamespace(**{**{k: getattr(found, k) for k in ("st_dev", "st_ino")}, **fields})

    opts = {
        "conf_file": str(tmp_path / "etc/master"),
        "file_roots": {"base": [str(tmp_path / "srv/salt")]},
        "pillar_roots": {"base": [str(tmp_path / "srv/pillar"), str(tmp_path / "nowhere")]},
    }

    def look(**given):
        owned.update({name.replace("__", "/"): value for name, value in given.items()})
        with monkeypatch.context() as patch:
            patch.setattr(writers, "lstat", lstat)
            return writers.writers(opts)

    look.opts, look.path, look.owned = opts, tmp_path, owned
    return look


def test_nobody_but_root(tree):
    assert tree() == ({}, [])


@pytest.mark.parametrize(
    ("path", "access", "who", "how"),
    [
        ("srv/salt/web/init.sls", (1001, 0, 0o644), "ann", "owns"),
        ("srv/salt/web", (0, 2001, 0o775), "bob", "as of the group ops may write"),
        ("srv/salt", (0, 2002, 0o775), "ann", "as of the group staff may write"),
        ("srv/salt/top.sls", (0, 0, 0o646), "everybody", "may write"),
        ("srv/salt/top.sls", (4711, 0, 0o644), "user 4711", "owns"),
        ("srv/salt/top.sls", (0, 4711, 0o664), "group 4711", "may write"),
    ],
)
def test_who_can_write_states(tree, path, access, who, how):
    tree.owned[path] = access
    found, problems = tree()
    top = tree.path / "srv/salt"
    assert (found, problems) == ({who: [f"file_roots {top}: {how} {tree.path / path}"]}, [])


def test_the_example_is_the_topmost_and_first_each_time(tree):
    """Reviews compare these sentences: another order would be another right."""
    deep = [f"n{'/n' * depth}" for depth in range(7)]
    (tree.path / deep[-1]).mkdir(parents=True)
    for name in ("z.sls", "m.sls", "a.sls"):
        (tree.path / "srv/salt/web" / name).write_text("x")
        tree.owned[f"srv/salt/web/{name}"] = (1002, 0, 0o644)
    tree.owned.update(dict.fromkeys(deep, (1001, 0, 0o755)))
    tree.opts["file_roots"]["base"].append(str(tree.path / deep[-1]))
    found, _ = tree()
    assert found["ann"] == [f"file_roots {tree.path / deep[-1]}: owns {tree.path / 'n'}"]
    assert found["bob"][0].endswith(f"owns {tree.path}/srv/salt/web/a.sls")


def test_groups_that_may_only_read(tree):
    for path in ("srv/salt/top.sls", "srv/pillar", "etc"):
        tree.owned[path] = (0, 2001, 0o750)
    assert tree() == ({}, [])


def test_who_can_replace_the_folder_itself(tree):
    found, _ = tree(srv=(1002, 0, 0o755))
    assert [place.split(" ")[0] for place in found["bob"]] == ["file_roots", "pillar_roots"]
    assert found["bob"][0].endswith(f"owns {tree.path / 'srv'}")
    tree.owned["srv"] = (0, 0, 0o1777)
    assert tree()[0] == {}, "as in /tmp, what is root's stays there"
    tree.owned["srv"] = (0, 0, 0o777)
    assert list(tree()[0]) == ["everybody"]


def test_the_configuration_and_links(tree):
    (tree.path / "srv/salt/apps").symlink_to(tree.path / "home/ann")
    (tree.path / "home/ann/init.sls").write_text("x")
    (tree.path / "srv/salt/one.sls").symlink_to(tree.path / "home/bob.sls")
    (tree.path / "home/bob.sls").write_text("x")
    tree.owned["home/bob.sls"] = (1002, 0, 0o644)
    tree.owned["home/ann/init.sls"] = (1001, 0, 0o644)
    tree.owned["etc/master.d"] = (0, 2001, 0o775)
    found, problems = tree()
    assert problems == []
    assert found == {
        "ann": [f"file_roots {tree.path}/srv/salt: owns {tree.path}/home/ann/init.sls"],
        "bob": [
            f"configuration {tree.path}/etc: as of the group ops may write "
            f"{tree.path}/etc/master.d",
            f"file_roots {tree.path}/srv/salt: owns {tree.path}/home/bob.sls",
        ],
    }


def test_what_cannot_be_looked_at_is_said(tree, monkeypatch):
    def forbidden(path, **_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(writers.os, "scandir", forbidden)
    assert f"{tree.path}/srv/salt: Permission denied" in tree()[1]


def test_access_lists_are_said(tree, monkeypatch):
    listed = str(tree.path / "srv/salt/top.sls")
    names = {listed: ["system.posix_acl_access"]}
    monkeypatch.setattr(writers.os, "listxattr", lambda path, **_: names.get(path, []))
    assert tree()[1] == [f"{listed} has an access list, which getfacl shows"]


def test_repositories():
    opts = {
        "gitfs_remotes": ["https://git/a", {"https://git/b": [{"root": "salt"}]}],
        "ext_pillar": [{"git": ["main https://git/p", {"https://git/q": []}]}, {"vault": "x"}],
        "fileserver_backend": ["roots", "gitfs", "s3fs"],
    }
    assert writers.remotes(opts) == [
        "whoever may push to https://git/a (gitfs_remotes)",
        "whoever may push to https://git/b (gitfs_remotes)",
        "whoever may push to https://git/p (ext_pillar git)",
        "whoever may push to https://git/q (ext_pillar git)",
        "whoever may change what ext_pillar vault reads",
        "whoever may change what fileserver_backend s3fs reads",
    ]
    assert writers.remotes({"fileserver_backend": ["roots"]}) == []


# Records ------------------------------------------------------------------------------------------


@pytest.fixture
def sign(tmp_path):
    """Signs a review so many days after the first one."""

    def call(about, days=0, reviewer="Ann B.", own=None):
        time = NOON + dt.timedelta(days=days)
        return signing.sign(reviewer, about, time, own, str(tmp_path))

    return call


@pytest.fixture
def last(tmp_path):
    return lambda: signing.last_review(str(tmp_path))


def test_records(sign, last, seen, tmp_path):
    assert last() is None
    first = sign(seen())
    assert (first.reviewer, first.time, first.previous) == ("Ann B.", NOON, "")
    assert first.path == f"{tmp_path}/reviews/20261123T120000Z.json"
    assert first.digest == signing.digest_of(seen())
    assert last() == first
    second = sign(seen(granted(ALICE)), 1)
    assert second.previous == first.own and second.digest != first.digest
    assert last() == second
    assert os.stat(tmp_path / "review.key").st_mode & 0o777 == 0o600


def test_ssh_keygen_agrees(sign, seen, tmp_path):
    path = sign(seen()).path
    public = (tmp_path / "review.key.pub").read_text()
    (tmp_path / "signers").write_text(f"ann {public}")
    words = ["-Y", "verify", "-f", "signers", "-I", "ann", "-n", signing.NAMESPACE, "-s"]
    with open(path, "rb") as file:
        done = subprocess.run(
            ["ssh-keygen", *words, f"{path}.sig"], stdin=file, cwd=tmp_path, check=False
        )
    assert done.returncode == 0


def test_reviewers_with_keys_of_their_own(sign, last, seen, tmp_path):
    own = str(tmp_path / "ann")
    public = sshsig.generate(own)
    with pytest.raises(Refused, match=f"is of no reviewer: add {re.escape(public)} to {tmp_path}/"):
        sign(seen(), own=own)
    (tmp_path / "reviewers").write_text(f"# reviewers\n\n{public} ann@desk\n")
    first = sign(seen(), own=own)
    assert not (tmp_path / "review.key").exists()
    assert last() == first
    assert sign(seen(), 1).previous == first.own
    (tmp_path / "reviewers").unlink()
    with pytest.raises(Unverified, match="who is not trusted"):
        last()


def test_records_that_were_changed(sign, last, seen, tmp_path):
    paths = [sign(seen(), day).path for day in range(3)]
    text = [Path(path).read_text() for path in paths]
    with open(paths[1], "w") as file:
        file.write(text[1].replace("Ann B.", "Ann C."))
    with pytest.raises(Unverified, match=rf"{paths[1]} was changed after"):
        last()
    with open(paths[1], "w") as file:
        file.write(text[1])
    assert last().path == paths[2]

    os.rename(paths[1], f"{tmp_path}/away")
    with pytest.raises(Unverified, match="does not follow that of"):
        last()
    os.rename(f"{tmp_path}/away", paths[1])
    os.remove(f"{paths[2]}.sig")
    with pytest.raises(Unverified, match="has no signature beside it"):
        last()


def test_a_record_by_another_name(sign, last, seen, tmp_path):
    path = sign(seen()).path
    for end in ("", ".sig"):
        os.rename(f"{path}{end}", f"{tmp_path}/reviews/20270101T000000Z.json{end}")
    with pytest.raises(Unverified, match="is the record of 2026-11-23T12:00:00Z by another name"):
        last()


def test_a_record_that_contradicts_itself(sign, last, seen, tmp_path):
    """The key of this host signs anything that its root likes."""
    path = Path(sign(seen()).path)
    signer = sshsig.Signer.load(tmp_path / "review.key")
    record = json.loads(path.read_text())
    for change in ({"digest": "0" * 64}, {"schema": 2}, {"more": 1}, {"time": "now"}):
        data = json.dumps({**record, **change}).encode()
        path.write_bytes(data)
        Path(f"{path}.sig").write_bytes(signer.sign(data, signing.NAMESPACE))
        with pytest.raises(Unverified, match=f"{path} is no record of a review"):
            last()


def test_what_is_not_signed(sign, seen):
    for name in ("", "  ", "a\nb", "../x"):
        with pytest.raises(Refused, match="is no name of a reviewer"):
            sign(seen(), reviewer=name)
    sign(seen())
    for days in (0, -1):
        with pytest.raises(Refused, match="which is not before now"):
            sign(seen(), days)
