"""salt-run logs: an authority for minions that ship, and log servers among them."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import pytest
from test_monitoring_runner import Minions

from rocksalt.pki import certificates

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.any_salt


class Minion(dict):
    """A minion that behaves; ``names`` are those of the log server on it."""

    def __init__(self, name: str, *names: str, **status):
        self.keys = {"host": certificates.new_key(), "server": certificates.new_key()}
        self.installed: list[tuple[dict[str, str], str]] = []
        asked = {"host": certificates.request(self.keys["host"], name), "server": ""}
        if names:
            asked["server"] = certificates.request(self.keys["server"], name, *names)
        super().__init__(
            {
                "logstash.certificate": {"needed": True, "given": False, "renew": True, **status},
                "logstash.request": asked,
                "logstash.install": self.install,
            }
        )

    def install(self, signed: dict[str, str], above: str) -> str:
        self.installed.append((signed, above))
        return "installed; the shipper has it at its next connection"


@pytest.fixture
def minions():
    return Minions()


@pytest.fixture
def runner(tmp_path, monkeypatch, minions):
    spec = importlib.util.spec_from_file_location("logs", REPO / "_runners/logs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"rocksalt_logs_ca": str(tmp_path / "ca")}

    @contextlib.contextmanager
    def client(mopts):
        yield minions

    monkeypatch.setattr(module.salt.client, "get_local_client", client)
    return module


@pytest.fixture
def made(runner):
    return runner.authority()


def loaded(text: str) -> certificates.Certificate:
    return certificates.load_one(text, "it")


def test_without_an_authority(runner):
    for call in (runner.issued, lambda: runner.enrol("*"), lambda: runner.server("x")):
        found = call()
        assert (found["retcode"], "salt-run logs.authority" in found["reason"]) == (1, True)


def test_enrolment(runner, made, minions):
    web1 = minions.answers["web1"] = Minion("web1")
    logs1 = minions.answers["logs1"] = Minion("logs1", "logs.example.org", "10.0.0.9")
    minions.answers["db1"] = Minion("db1", needed=False)
    minions.answers["web2"] = Minion("web2", renew=False, authority=made["sha256"], days_left=9)

    found = runner.enrol("*")

    assert list(found["enrolled"]) == ["logs1", "web1"]
    assert found["enrolled"]["web1"].startswith(
        "installed; the shipper has it at its next connection; until 20"
    )
    assert (found["kept"], found["unshipped"], found["problems"]) == ({"web2": 9}, ["db1"], {})
    ((signed, above),) = web1.installed
    assert (list(signed), above) == (["host"], made["certificate"])
    own = loaded(signed["host"])
    assert (certificates.names(own), certificates.usages(own)) == (["web1"], ["client"])
    assert certificates.fits(own, web1.keys["host"])
    ((signed, _),) = logs1.installed
    serving = loaded(signed["server"])
    assert certificates.names(serving) == ["logs1", "logs.example.org", "10.0.0.9"]
    assert certificates.usages(serving) == ["server"]
    assert certificates.fits(serving, logs1.keys["server"])
    assert certificates.usages(loaded(signed["host"])) == ["client"]
    assert [(it["name"], it["role"]) for it in runner.issued()["certificates"]] == [
        ("logs1", "client"),
        ("logs1", "server"),
        ("web1", "client"),
    ]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"logstash.request": "The minion function caused an exception"}, "caused an exception"),
        ({"logstash.request": {"server": ""}}, "logstash.request: {'server': ''}"),
        ({"logstash.request": {"host": "x", "server": 1}}, "logstash.request: {'host': 'x'"),
        ({"logstash.request": Minion("web2")["logstash.request"]},
         "the request of web1 is for 'web2', not for the minion"),
        ({"logstash.request": Minion("web1", "logs1")["logstash.request"]},
         "the request of web1 is for logs1, for which logs1 has a certificate until"),
        ({"logstash.certificate": {"needed": True, "given": True}}, "the pillar brings"),
        ({"logstash.install": lambda *_: "ERROR: no"}, "logstash.install: ERROR: no"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_told_by_minion(runner, made, minions, other, words):
    minions.answers["logs1"] = Minion("logs1", "10.0.0.9")
    minions.answers["web1"] = Minion("web1") | other
    found = runner.enrol("*")
    assert (list(found["enrolled"]), list(found["problems"])) == (["logs1"], ["web1"])
    assert words in found["problems"]["web1"]
    assert found["retcode"] == 1


def test_a_log_server_that_is_no_minion(runner, made, minions, tmp_path):
    key = certificates.new_key()
    (tmp_path / "it.csr").write_text(certificates.request(key, "anything"))
    found = runner.server("elastic1.example.org", request=str(tmp_path / "it.csr"), days=30)
    signed = loaded(Path(found["certificate"]).read_text())
    assert found["certificate"] == str(tmp_path / "ca/servers/elastic1.example.org.pem")
    assert certificates.names(signed) == ["elastic1.example.org"]
    assert certificates.usages(signed) == ["server"]
    assert certificates.fits(signed, key)
    minions.answers["logs1"] = Minion("logs1", "elastic1.example.org")
    assert "for which elastic1.example.org has" in runner.enrol("*")["problems"]["logs1"]


def test_one_that_is_gone(runner, made, minions):
    minions.answers["logs1"] = Minion("logs1", "10.0.0.9")
    runner.enrol("*")
    assert len(runner.forget("logs1")["forgotten"]) == 2
    minions.answers = {"logs2": Minion("logs2", "10.0.0.9")}
    assert list(runner.enrol("*")["enrolled"]) == ["logs2"]
