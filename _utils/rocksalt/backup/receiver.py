"""What runs on a vault host for a client that logs in by ssh: takes new objects, countersigns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

Clock = Callable[[], dt.datetime]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def serve(
    settings: Mapping[str, Any], client: str, stdin: BinaryIO, stdout: BinaryIO, now: Clock = _now
) -> None:
    """Serves one session of a client named in ``settings["receiver"]["clients"]`` until it ends.

    ``stdin`` and ``stdout`` need file descriptors, and nothing may have been read of them.
    ``settings`` are the whole settings of this host. :class:`BackupError` where they do not allow
    to serve this client; whatever goes wrong later is told to the client.
    """
    raise NotImplementedError
