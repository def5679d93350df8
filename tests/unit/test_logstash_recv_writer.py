"""rocksalt.logstash.receiving: what the writer knows of before, and a host it cannot write for."""

import datetime as dt
import json

import pytest
from logstash_received import Server, event

from rocksalt.logstash.receiving import writer


@pytest.fixture
def server(tmp_path, monkeypatch):
    return Server(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "no JSON",
        '{"hosts": []}',
        '{"hosts": {"web1": null}}',
        '{"time": 7, "hosts": {"web1": {"n": "4", "synced": null, "bytes_today": null}}}',
        '{"time": 7, "hosts": {"web1": {"flags": [1]}}}',
        '{"hosts": {"web1": {"flags": {"host": "x", "json": null}, "duplicates": true}}}',
    ],
)
def test_a_status_of_another_shape_is_none(server, said):
    status = server.folder / "status.json"
    status.write_text(said)
    kept = server.store(**writer._before(status))
    kept.take("web1", event(1, "web2"))
    found = kept.status()["hosts"]["web1"]
    assert (found["n"], found["flags"]["host"], found["duplicates"]) == (1, 1, 0)


def test_a_status_is_gone_on_from(server):
    status = server.folder / "status.json"
    kept = server.store()
    kept.take("web1", event(1, "web2"))
    kept.take("web1", event(1, "web2"))
    status.write_text(json.dumps(kept.status()))
    again = server.store(**writer._before(status)).status()
    assert again["hosts"] == {**kept.status()["hosts"], "web1": again["hosts"]["web1"]}
    assert again["hosts"]["web1"]["flags"] == kept.status()["hosts"]["web1"]["flags"]
    assert again["hosts"]["web1"]["duplicates"] == 1
    assert again["hosts"]["web1"]["bytes_today"] == kept.status()["hosts"]["web1"]["bytes_today"]


def test_a_chain_whose_files_are_gone_goes_on(server):
    """Else it would begin anew, and what was removed be no gap."""
    kept = server.store()
    for number in range(3):
        kept.take("web1", event(number))
    kept.sync()
    for path in (server.path / "web1").glob("*.jsonl"):
        path.unlink()
    server.store(**kept.status()).take("web1", event(4))
    assert [json.loads(line)["n"] for line in server.lines()] == [4]


def test_it_is_told_whose_lines_are_not_taken(server):
    kept = server.store()
    kept.take("web1", event(1))
    kept.sync()
    folder = server.path / "web1"
    folder.rename(server.path / "aside")
    folder.write_text("")
    server.time += dt.timedelta(days=1)
    said: list[str] = []
    line = json.dumps({"from": "web1", "raw": event(2)}).encode()
    assert writer.answer(kept, line, said.append).startswith(b"Error: ")
    assert list(kept.status()["failed"]) == ["web1"]
    assert "web1" in said[0]
    folder.unlink()
    (server.path / "aside").rename(folder)
    assert writer.answer(kept, line, said.append) == b"OK\n"
    assert kept.status()["failed"] == {}
