"""salt-run monitoring: an authority, and certificates for minions that may claim anything."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
from pathlib import Path

import pytest

from rocksalt.pki import certificates

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.any_salt


class Minions:
    """What answers: minion -> function -> its answer, or a function of its arguments."""

    def __init__(self) -> None:
        self.answers: dict[str, dict] = {}
        self.asked: list[tuple] = []

    def cmd(self, tgt, function, arguments, tgt_type="glob", timeout=5):
        self.asked.append((tgt, function, *arguments))
        chosen = tgt if tgt_type == "list" else fnmatch.filter(self.answers, tgt)
        found = {}
        for minion in chosen:
            if function in self.answers.get(minion, {}):
                answer = self.answers[minion][function]
                found[minion] = answer(*arguments) if callable(answer) else answer
        return found


class Minion(dict):
    """A minion that behaves."""

    def __init__(self, name: str, address: str, **status):
        self.key = certificates.new_key()
        self.installed: list[tuple[str, str]] = []
        super().__init__(
            {
                "nrpe.certificate": {"watched": True, "given": False, "renew": True, **status},
                "nrpe.request": lambda: certificates.request(self.key, name, address),
                "nrpe.install": self.install,
            }
        )

    def install(self, certificate: str, above: str) -> str:
        self.installed.append((certificate, above))
        return "installed, and NRPE runs with it"


@pytest.fixture
def minions():
    return Minions()


@pytest.fixture
def runner(tmp_path, monkeypatch, minions):
    spec = importlib.util.spec_from_file_location("monitoring", REPO / "_runners/monitoring.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"rocksalt_monitoring_ca": str(tmp_path / "ca")}

    @contextlib.contextmanager
    def client(mopts):
        yield minions

    monkeypatch.setattr(module.salt.client, "get_local_client", client)
    return module


@pytest.fixture
def made(runner):
    return runner.authority()


def test_an_authority(runner, tmp_path):
    first = runner.authority(days=100)
    assert first["made"] is True
    assert runner.authority() == {**first, "made": False}
    assert "PRIVATE" not in json.dumps(first)
    assert (tmp_path / "ca/ca.key").stat().st_mode & 0o777 == 0o600


def test_without_an_authority(runner):
    for call in (runner.issued, lambda: runner.enrol("*"), lambda: runner.client("x")):
        found = call()
        assert (found["retcode"], "salt-run monitoring.authority" in found["reason"]) == (1, True)


def test_enrolment(runner, made, minions):
    web1 = minions.answers["web1"] = Minion("web1", "10.0.0.7")
    kept = {"renew": False, "authority": made["sha256"], "days_left": 200}
    minions.answers["web2"] = Minion("web2", "10.0.0.8", **kept)
    minions.answers["db1"] = Minion("db1", "10.0.0.9", watched=False)

    found = runner.enrol("*")

    assert list(found["enrolled"]) == ["web1"]
    assert found["enrolled"]["web1"].startswith("installed, and NRPE runs with it; until 20")
    assert (found["kept"], found["unwatched"], found["problems"]) == ({"web2": 200}, ["db1"], {})
    assert "retcode" not in found
    ((certificate, above),) = web1.installed
    assert above == made["certificate"]
    loaded = certificates.load_one(certificate, "it")
    assert certificates.fits(loaded, web1.key)
    (entry,) = runner.issued()["certificates"]
    assert (entry["name"], entry["address"], entry["role"]) == ("web1", "10.0.0.7", "server")

    forced = runner.enrol("web2", force=True)
    assert list(forced["enrolled"]) == ["web2"]


def test_minions_are_asked_by_the_pillar_of_now(runner, made, minions):
    runner.enrol("web*")
    assert minions.asked == [
        ("web*", "saltutil.refresh_pillar", True),
        ("web*", "nrpe.certificate"),
    ]


def test_a_certificate_of_an_older_authority_is_replaced(runner, made, minions):
    minions.answers["web1"] = Minion("web1", "10.0.0.7", renew=False, authority="00", days_left=9)
    assert list(runner.enrol("*")["enrolled"]) == ["web1"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"nrpe.certificate": "'nrpe.certificate' is not available."}, "is not available"),
        ({"nrpe.certificate": {"watched": True, "given": True}}, "the pillar brings"),
        ({"nrpe.request": "The minion function caused an exception"}, "caused an exception"),
        ({"nrpe.request": lambda: certificates.request(certificates.new_key(), "web2", "10.0.0.7")},
         "the request of web1 is for 'web2', not for the minion"),
        ({"nrpe.request": lambda: certificates.request(certificates.new_key(), "web1", "0.0.0.0")},
         "no address of a host"),
        ({"nrpe.install": lambda *_: "ERROR: NRPE does not listen"}, "NRPE does not listen"),
        ({"nrpe.install": lambda *_: "x" * 999}, "..."),
    ],
)  # fmt: skip
def test_what_does_not_work_is_told_by_minion(runner, made, minions, other, words):
    minions.answers["web1"] = Minion("web1", "10.0.0.7") | other
    minions.answers["web3"] = Minion("web3", "10.0.0.10")
    found = runner.enrol("*")
    assert (list(found["enrolled"]), list(found["problems"])) == (["web3"], ["web1"])
    assert words in found["problems"]["web1"] and len(found["problems"]["web1"]) < 400
    assert found["retcode"] == 1


def test_nobody_and_an_answer_that_stops(runner, made, minions):
    assert runner.enrol("web*")["problems"] == {"*": "no minion answered that is glob 'web*'"}
    minions.answers["web1"] = Minion("web1", "10.0.0.7")
    del minions.answers["web1"]["nrpe.install"]
    assert runner.enrol("*")["problems"] == {"web1": "nrpe.install was not answered"}


def test_a_minion_cannot_take_the_address_of_another(runner, made, minions):
    minions.answers["web1"] = Minion("web1", "10.0.0.7")
    runner.enrol("*")
    minions.answers = {"web2": Minion("web2", "10.0.0.7")}
    assert "for which web1 has a certificate" in runner.enrol("*")["problems"]["web2"]
    assert len(runner.forget("web1")["forgotten"]) == 1
    assert list(runner.enrol("*")["enrolled"]) == ["web2"]


def test_a_monitoring_host(runner, made):
    found = runner.client("icinga1", days=30)
    key, certificate = Path(found["key"]), Path(found["certificate"])
    assert key.stat().st_mode & 0o777 == 0o600
    loaded = certificates.load_one(certificate.read_text(), "it")
    assert certificates.fits(loaded, certificates.load_key(key.read_text(), "it"))
    assert certificates.usages(loaded) == ["client"]
    assert "PRIVATE" not in json.dumps(found)


def test_a_monitoring_host_that_keeps_its_key(runner, made, tmp_path):
    key = certificates.new_key()
    (tmp_path / "it.csr").write_text(certificates.request(key, "anything", "10.0.0.1"))
    found = runner.client("icinga1", request=str(tmp_path / "it.csr"))
    assert "key" not in found
    loaded = certificates.load_one(Path(found["certificate"]).read_text(), "it")
    assert certificates.fits(loaded, key)
    assert certificates.names(loaded) == ["icinga1"], "its name is ours, not the request's"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("../x",), "'../x' is no name of a host"),
        (("icinga1", "/nowhere"), "/nowhere does not exist"),
        (("icinga1", None, 9999), "days: 9999 is less than 1 or ends after the authority"),
        (("icinga1", None, "many"), "invalid literal"),
    ],
)
def test_mistakes(runner, made, arguments, words):
    found = runner.client(*arguments)
    assert (found["retcode"], words in found["reason"]) == (1, True), found


def test_an_authority_that_is_damaged(runner, made, tmp_path):
    (tmp_path / "ca/ca.pem").write_text("x")
    assert "is no certificate in PEM" in runner.issued()["reason"]


def test_a_mistake_is_no_fault_of_ours(runner, made):
    assert runner.client("../x") == {"reason": "'../x' is no name of a host", "retcode": 1}


def test_the_last_year_of_an_authority(runner, minions):
    runner.authority(days=30)
    minions.answers["web1"] = Minion("web1", "10.0.0.7")
    assert list(runner.enrol("*")["enrolled"]) == ["web1"]
    assert "expires" in runner.client("icinga1")


def test_a_folder_of_another_user(runner, monkeypatch):
    def read(host, path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("rocksalt.host.Host.read", read)
    folder = runner.__opts__["rocksalt_monitoring_ca"]
    found = runner.issued()
    assert found["reason"].startswith(f"{folder}/ca.pem is not for ")
    assert found["reason"].endswith(f"-m 0700 {folder}")


def test_a_request_of_another_user(runner, made, monkeypatch):
    def forbidden(text, what):
        raise PermissionError(13, "Permission denied", what)

    monkeypatch.setattr(certificates, "load_request", forbidden)
    found = runner.client("icinga1", request=str(Path(__file__)))
    assert found["reason"].startswith(f"{__file__} is not for ")
    assert found["reason"].endswith(", whom runners run as")


def test_a_minion_that_says_too_much(runner, made, minions):
    web1 = minions.answers["web1"] = Minion("web1", "10.0.0.7")
    web1["nrpe.install"] = "installed " + "x" * 5000
    assert len(runner.enrol("*")["enrolled"]["web1"]) < 400
