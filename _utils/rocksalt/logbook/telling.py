"""What a runner says of the logbook: mappings, whatever goes wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rocksalt.errors import Refused, RocksaltError
from rocksalt.logbook import checking, config, playback
from rocksalt.logstash.receiving import verify
from rocksalt.logstash.receiving.store import now

STATUS, HEADS, VERIFIED = "status.json", "heads.json", "verified.json"
"""In the state folder: of the service, of the witness, of the daily check."""
QUIET = 60.0
"""Seconds after which a service that gave no sign of life does not run."""


def plainly(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` gives; ``retcode`` 1 and the ``reason`` where it raised anything."""
    try:
        return work()
    except (RocksaltError, OSError) as error:
        return {"reason": str(error), "retcode": 1}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}


def played(path: str, limit: object, **asked: object) -> dict[str, Any]:
    """The story; ``asked`` as in :class:`playback.Filter`, times as a person says them."""
    settings = config.load(path)
    try:
        most = int(str(limit))
    except ValueError:
        most = 0
    if not 1 <= most <= playback.MOST:
        raise Refused(f"limit: {limit!r} is no number of records from 1 to {playback.MOST}")
    words = {key: str(value or "") for key, value in asked.items()}
    moments = {key: playback.moment(words.get(key), now()) for key in ("since", "until")}
    fit = playback.Filter(**{**words, **moments})
    folder = Path(settings["folder"], settings["name"])
    if not folder.is_dir():
        raise RocksaltError(f"{folder} is not there: the logbook never ran")
    return playback.play(folder, fit, most)


def verified(path: str, state: Path) -> dict[str, Any]:
    """What is wrong with the book, with ``text`` for people; ``retcode`` 2 where anything is."""
    settings = config.load(path)
    # The public half: who may look need not be able to sign.
    public = (state / "signing.pub").read_text("ascii").strip()
    there = partial(checking.connect, settings, str(state / "transport"))
    found = checking.check(settings, public, checking.seen(settings, public, there))
    outcome = {**found, "text": verify.text(found)}
    return outcome if found["ok"] else {**outcome, "retcode": 2}


def status(state: Path) -> dict[str, Any]:
    """What the service says, with ``running``, and ``age``, the seconds since it said so; and
    ``witness``, what the last attempt to have the book witnessed said.
    """
    found = _read(state / STATUS)
    age = time.time() - (state / STATUS).stat().st_mtime
    # One of a time to come is of a clock that was wrong, and tells nothing.
    running = -QUIET < age < QUIET
    whole = {**found, "age": round(age, 1), "running": running}
    if (state / HEADS).exists():
        whole["witness"] = _read(state / HEADS)
    well = running and found.get("connected") and not found.get("problem")
    return whole if well else {**whole, "retcode": 2}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        sentence = f"{path} cannot be read, the logbook may never have run: {error}"
        raise RocksaltError(sentence) from None
