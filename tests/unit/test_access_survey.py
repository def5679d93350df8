"""The runner access.signing, on a bus to which every minion can send."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from rocksalt.access import survey

RUNNER = Path(__file__).resolve().parents[2] / "_runners" / "access.py"
NAMES = ("db1", "web1")


@pytest.fixture(scope="module")
def keys() -> dict[str, rsa.RSAPrivateKey]:
    return {name: rsa.generate_private_key(65537, 2048) for name in NAMES}


def pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.fixture
def answer(keys):
    """What a minion sends, signed by its own key or that of another."""

    def call(name: str, by: str = "") -> dict[str, Any]:
        signature = keys[by or name].sign(b"it", padding.PKCS1v15(), hashes.SHA224())
        return {"id": name, "return": "3008.3", "sig": signature}

    return call


@pytest.fixture
def signing(keys, tmp_path, monkeypatch):
    """Asks, where the bus has these events."""
    pytest.importorskip("salt.client")
    spec = importlib.util.spec_from_file_location("access_runner", RUNNER)
    runner = importlib.util.module_from_spec(spec)
    runner.__opts__ = {"signing_algorithm": "PKCS1v15-SHA224", "cachedir": str(tmp_path)}
    spec.loader.exec_module(runner)
    accepted = mock.Mock()
    accepted.key_str_all.return_value = {"minions": {name: pem(key) for name, key in keys.items()}}
    client = mock.MagicMock()
    client.__enter__.return_value = client
    monkeypatch.setattr(runner.salt.key, "get_key", lambda opts: accepted)
    monkeypatch.setattr(runner.salt.client, "get_local_client", lambda **more: client)
    monkeypatch.setattr(runner.salt.utils.jid, "gen_jid", lambda opts: "1")
    monkeypatch.setattr(runner.salt.version, "__version__", "3008.3")
    monkeypatch.setattr(runner, "time", mock.Mock(monotonic=itertools.count().__next__))

    def call(*sent: Any) -> Any:
        client.event.get_event.side_effect = [*({"data": data} for data in sent), *[None] * 99]
        return runner.signing(10)

    return call


def test_all_that_sign(signing, answer, tmp_path):
    said = signing(answer("web1"), answer("db1"))
    assert (said["signs"], said["lagging"], said["retcode"]) == (["db1", "web1"], {}, 0)
    assert json.loads((tmp_path / survey.FILE).read_text())["minions"] == dict.fromkeys(
        NAMES, survey.SIGNS
    )


@pytest.mark.parametrize(
    "made_up",
    [
        {}, {"id": []}, {"id": "web1"}, {"id": "nobody", "return": "x"}, None, [],
        {"id": "web1", "return": "3008.3"}, {"id": "web1", "return": [], "sig": b"x"},
        {"id": "web1", "return": "3008.3", "sig": {}},
    ],
)  # fmt: skip
def test_what_is_made_up_hides_no_answer(signing, answer, made_up):
    said = signing(made_up, answer("web1", by="db1"), answer("web1"), made_up, answer("db1"))
    assert (said.get("signs"), said.get("lagging")) == (["db1", "web1"], {}), said


def test_what_lags_is_as_it_was_first_until_the_time_is_over(signing, answer):
    said = signing({"id": "web1", "return": "3008.3"}, answer("web1", by="db1"))
    assert said["lagging"] == {"db1": survey.SILENT, "web1": survey.UNSIGNED}
    assert (said["signs"], said["retcode"]) == ([], 2)
