"""tests/infra: keys of what ships logs."""

from __future__ import annotations

from typing import Any

import pytest
from infra import test_logstash as logstash
from infra.asking import Answer

SHIPS: dict[str, Any] = {"servers": [{"host": "log1"}], "receiver": {}, "witness": {}}
WITNESS = {**SHIPS, "servers": [], "witness": {"clients": {}}}


def look(mode: int | None) -> dict[str, Answer]:
    key = f"{mode:o} root root 1.5 {logstash.FOLDER}/host.key|regular file\n" if mode else ""
    return {"stat": Answer(key, 0)}


def test_keys_are_there_and_private() -> None:
    logstash.test_keys_are_private(look(0o600), SHIPS)
    logstash.test_keys_are_private(look(None), WITNESS)
    for mode in (0o644, None):
        with pytest.raises(AssertionError):
            logstash.test_keys_are_private(look(mode), SHIPS)
