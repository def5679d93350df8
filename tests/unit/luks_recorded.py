"""Headers as cryptsetup 2.6.1 told them of what it had formatted, below ``data/luks``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rocksalt.luks import headers
from rocksalt.luks.headers import Header

DATA = Path(__file__).parent / "data/luks"
DEVICE = "/dev/sdb1"


def recorded(name: str, change: Callable[[Any], None] = lambda metadata: None) -> Header:
    """One of luks1, luks1-weak, luks2-good, -weak, -slots, -integrity, -detached, -reencrypting;
    ``change`` gets the metadata of version 2.
    """
    text, path = (DATA / f"{name}.txt").read_text(), DATA / f"{name}.json"
    if not path.exists():
        return headers.parsed(DEVICE, DEVICE, text)
    metadata = json.loads(path.read_text())
    change(metadata)
    return headers.parsed(DEVICE, DEVICE, text, json.dumps(metadata))
