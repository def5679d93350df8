"""salt-run logs: an authority for minions that ship, and log servers among them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path

import pytest
import salt.config
import salt.loader
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


RECEIVER = {"address": "10.0.0.9"}
LOGSTASH = {
    "servers": [
        {"host": "10.0.0.9", "name": "logs.example.org"},
        {"host": "10.0.0.9", "name": "elastic1.example.org"},
    ]
}
ROLE = {"minions": ["logs*"], "settings": {"logstash": {"receiver": RECEIVER}}}
PILLAR = {"hardening": {"logstash": LOGSTASH, "roles": {"log-server": ROLE}}}
"""As the master renders it."""


@pytest.fixture
def runner(tmp_path, monkeypatch, minions):
    spec = importlib.util.spec_from_file_location("logs", REPO / "_runners/logs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"rocksalt_logs_ca": str(tmp_path / "ca")}
    module.__salt__ = {"pillar.show_pillar": lambda minion: PILLAR}

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


@pytest.mark.parametrize(
    ("name", "asks", "words"),
    [
        ("web1", ("logs.example.org", "10.0.0.9"),
         "web1 asks for the certificate of a log server, and its pillar, as the master renders it, "
         "makes it none: hardening:logstash:receiver is missing"),
        ("logs2", ("other.example.org",),
         "the request of logs2 is for other.example.org; its pillar, as the master renders it, has "
         "logs2, logs.example.org, elastic1.example.org, 10.0.0.9"),
        ("logs2", ("LOGS.example.org",),
         "the request of logs2 is for LOGS.example.org, for which logs1 has a certificate until"),
    ],
)  # fmt: skip
def test_a_log_server_by_its_own_word(runner, made, minions, name, asks, words):
    """It gets what it needs to ship, and no more."""
    minions.answers["logs1"] = Minion("logs1", "logs.example.org", "10.0.0.9")
    runner.enrol("logs1")
    it = minions.answers[name] = Minion(name, *asks)
    found = runner.enrol(name)["problems"][name]
    assert found.startswith(words)
    assert "; its certificate for shipping is installed; the shipper has it" in found
    ((signed, _),) = it.installed
    assert list(signed) == ["host"]
    own = [at["role"] for at in runner.issued()["certificates"] if at["name"] == name]
    assert own == ["client"]


def test_a_pillar_that_cannot_be_rendered(runner, made, minions):
    runner.__salt__ = {"pillar.show_pillar": lambda minion: {"_errors": ["no SLS 'x'"]}}
    minions.answers["logs1"] = Minion("logs1", "10.0.0.9")
    found = runner.enrol("*")["problems"]["logs1"]
    assert found.startswith("the pillar of logs1 cannot be rendered: no SLS 'x'; its certificate")


def test_the_pillar_is_that_of_salt(runner, made, minions, tmp_path):
    """Whatever the minion claims, the master's own files decide."""
    for name, text in (("top.sls", {"base": {"*": ["it"]}}), ("it.sls", PILLAR)):
        (tmp_path / "pillar").mkdir(exist_ok=True)
        (tmp_path / "pillar" / name).write_text(json.dumps(text))
    folders = {key: str(tmp_path / key) for key in ("root_dir", "cachedir", "pki_dir", "sock_dir")}
    roots = {"base": [str(tmp_path / "pillar")]}
    opts = salt.config.apply_master_config({**folders, "pillar_roots": roots})
    runner.__salt__ = salt.loader.runner(opts)
    minions.answers["web1"] = Minion("web1", "10.0.0.8")
    minions.answers["logs1"] = Minion("logs1", "logs.example.org", "10.0.0.9")
    found = runner.enrol("*")
    assert (list(found["enrolled"]), list(found["problems"])) == (["logs1"], ["web1"])
    assert "makes it none" in found["problems"]["web1"]


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
