"""salt-api's module rocksalt_api: the only way into this master over HTTP."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).resolve().parent.parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)

from rocksalt_door import (  # type: ignore[import-not-found]  # noqa: E402
    application,
    calling,
    conf,
    grants,
    records,
    sealing,
    server,
    tls,
)

log = logging.getLogger("rocksalt.api")
__virtualname__ = "rocksalt_api"
__opts__: dict[str, Any]
_PAUSE = 30
"""Seconds."""


def __virtual__() -> Any:
    """Where the master's options have the section, right or wrong: ``start`` says what is wrong."""
    if conf.SECTION in __opts__:
        return __virtualname__
    return False, f"the master's options have no section {conf.SECTION}"


def start() -> None:
    """Serve until the process is told to end. What is wrong is logged, and nothing is served."""
    try:
        made = _ready()
    except (ValueError, OSError) as error:
        log.error("salt-api does not serve: %s", error)
        # The process is started again as soon as it ends.
        time.sleep(_PAUSE)
        return
    log.info("salt-api serves on %s port %s", *made.bind_addr[:2])
    try:
        made.serve()
    finally:
        made.stop()


def _ready() -> Any:
    """The server with its socket open."""
    options = conf.read(__opts__)
    context = tls.context(options.ssl_crt, options.ssl_key, options.client_ca)
    door = application.Door(
        options,
        conf.clients(__opts__),
        calling.Salt(__opts__, options),
        records.Records(options.log, time.time),
        time.time,
        grants.Grants(__opts__.get(grants.DATA) or {}),
    )
    address = (options.host, options.port)
    made = server.server(address, door, context, options.thread_pool, options.max_body)
    made.prepare()
    # Now, for a second salt-api gets no further than that.
    sealing.renew(conf.seal_file(__opts__))
    return made
