"""rocksalt.logbook: the check of the book, on its host and elsewhere, with a witness."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import pytest
from logstash_received import DAY, NOW, Server

from rocksalt.backup import names
from rocksalt.logbook import __main__, checking, config, witnessing
from rocksalt.logstash.receiving import keep, store, walk

MINUTE = dt.timedelta(minutes=1)


class Site(Server):
    """The book is that of web1, which the witness calls logs1."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        self.book = config.complete(
            {"name": "web1", "mask": [], "client": "logs1", "folder": str(self.path),
             "witness": self.settings["witness"]}
        )  # fmt: skip

    def go(self, minutes, witnessed=True):
        """So long, and a line each minute."""
        for _ in range(minutes):
            self.time += MINUTE
            self.witness_time += MINUTE
            self.receive(1)
            if witnessed:
                assert self.heads() == ""

    def check(self):
        evidence = checking.seen(self.book, self.public, self.connect)
        found = checking.check(self.book, self.public, evidence, lambda: self.time)
        wrong = [*found["problems"], *found["hosts"]["web1"]["problems"]]
        assert found["ok"] is (not wrong)
        return found


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "MOMENT", 0)
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None)
    return Site(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("minutes", "notes", "ok"), [(1, 0, True), (4, 1, True), (9, 1, False), (3 * 60, 1, False)]
)
def test_a_time_without_a_witness_is_told_at_once(site, minutes, notes, ok):
    site.go(3)
    site.go(minutes, witnessed=False)
    site.go(1)
    found = site.check()
    assert (len(found["notes"]), found["ok"]) == (notes, ok)
    assert all("saw nothing from" in it for it in found["problems"])
    site.time += checking.RECENT
    site.witness_time += checking.RECENT
    assert site.heads() == ""
    later = [it for it in site.check()["problems"] if names.utc(NOW)[:10] in it.split(" to ")[1]]
    assert later == []


def test_lines_that_are_not_witnessed_after_minutes(site):
    site.go(2)
    site.go(4, witnessed=False)
    found = site.check()
    assert "are not witnessed" in found["hosts"]["web1"]["problems"][0]


def test_the_book_says_when_its_witness_does_not_see_it(tmp_path):
    status, clock = tmp_path / "heads.json", [NOW]
    watch = witnessing.Watch(status, lambda: clock[0])

    def looked(until, minutes, error=""):
        status.write_text(json.dumps({"witnessed_until": until, "error": error}))
        clock[0] = NOW + minutes * MINUTE
        return [(it["kind"], it["since"], it.get("why")) for it in watch.look()]

    seen = names.utc(NOW)
    assert looked(seen, 2) == []
    [(kind, since, why)] = looked(seen, 3, "no route")
    assert (kind, since[:19], why) == ("unwitnessed", seen[:19], "no route")
    assert looked(seen, 9, "no route") == []
    [(kind, since, _)] = looked(names.utc(NOW + 9 * MINUTE), 10)
    assert (kind, since[:19]) == ("witnessed", seen[:19])
    status.write_text("[]")
    [(kind, since, why)] = [(it["kind"], it["since"], it["why"]) for it in watch.look()]
    assert (kind, since) == ("unwitnessed", "the beginning") and "cannot be read" in why


@pytest.fixture
def elsewhere(tmp_path, site, capsys):
    """The check of copies, as docs/logbook.md says it."""

    def run(*more):
        copy, entries = tmp_path / "copy", tmp_path / "entries"
        for source, target in ((site.path, copy), (site.witnessed, entries)):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        code = __main__.main(
            ["verify", "--signer", site.public, "--witness-key", site.witness_public,
             "--folder", str(copy), "--name", "web1", "--client", "logs1",
             "--witness-entries", str(entries), *more]
        )  # fmt: skip
        said = capsys.readouterr()
        return code, said.out + said.err

    site.time = site.witness_time = store.now() - 5 * MINUTE
    return run


def test_the_check_on_another_host_takes_no_private_key(site, elsewhere, tmp_path):
    site.go(5)
    code, said = elsewhere()
    assert (code, "web1: ok, 5 lines" in said) == (0, True), said
    public = tmp_path / "signing.pub"
    assert elsewhere("--signer", str(public))[0] == 0
    assert elsewhere("--witness-key", site.public)[0] == 1
    path = next((site.path / "web1").glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"id-0", b"id-9", 1))
    code, said = elsewhere()
    assert (code, "is not as it arrived" in said) == (1, True), said


def test_the_days_are_not_those_of_the_host_that_is_checked(site, elsewhere):
    """Root there removes five days before their time, and signs that."""
    site.time = site.witness_time = store.now() - 6 * DAY
    for _ in range(6):
        site.receive(1)
        assert site.heads() == ""
        site.time += DAY
        site.witness_time += DAY
    site.settings["days"] = 1
    folder = site.path / "web1"
    keep.tidy(folder, 1, site.signer, site.time.date(), lambda _: True)
    site.receive(1)
    assert site.heads() == ""
    code, said = elsewhere()
    assert (code, "and lines are kept for 400 days" in said) == (1, True), said
    code, said = elsewhere("--days", "2")
    assert "removed before" not in said


def test_entries_of_a_witness_that_removed_old_ones(site, elsewhere):
    site.time = site.witness_time = store.now() - 500 * DAY
    for _ in range(17):
        site.receive(1)
        assert site.heads() == ""
        site.time += 30 * DAY
        site.witness_time += 30 * DAY
    site.time = site.witness_time = store.now()
    assert site.heads() == ""
    assert (site.witnessed / "oldest.json").exists()
    said = elsewhere()[1]
    assert "some were removed" not in said and "is not as" not in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--signer", "x"], "needs --witness-key, --folder, --name, --witness-entries as well"),
        (["--days", "3", "--name", "x"], "--name, --days: means nothing without --signer"),
    ],
)
def test_options_that_do_not_fit(options, words, capsys):
    assert __main__.main(["verify", *options]) == 1
    assert words in capsys.readouterr().err
