"""
Who did what on this master, when, from where, on which hosts and with which result.

.. code-block:: bash

    salt-run logbook.playback user=alice since=2h
    salt-run logbook.verify
    salt-run logbook.status

The service ``rocksalt-logbook`` keeps the book, see docs/logbook.md. What minions do by ``salt-call
--local`` and what people do in shells of their own is not in it.
"""

import sys
from pathlib import Path

from rocksalt import logbook
from rocksalt.logbook import telling


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "logbook: the baseline is for Linux hosts"
    return True


def playback(user="", since="1d", until="", tgt="", fun="", limit=1000):
    """
    Tells the story in the order of its times.

    user
        Who did it, with ``*`` and ``?``.
    since, until
        ``2h`` (that long ago; s, m, h, d, w), ``2026-11-23`` or ``2026-11-23T08:00`` (UTC).
        Empty for all.
    tgt
        A minion it was about, or the target as it was written, with ``*`` and ``?``.
    fun
        The function, with ``*`` and ``?``; ``saltutil.find_job``, which Salt calls by itself, is
        told only where it is asked for.
    limit
        How many records; the last ones.

    Returns ``{"story": [a sentence a record], "records": [{"time", "kind", ...}], "earlier": how
    many more fit}``, or ``{"reason", "retcode": 1}``. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run logbook.playback user=alice since=2h fun='deploy.*'
    """
    asked = {"user": user, "since": since, "until": until, "tgt": tgt, "fun": fun}
    return telling.plainly(lambda: telling.played(_config(), limit, **asked))


def verify():
    """
    Recomputes the chain of the book, and compares it with what the witness saw.

    Returns ``{"ok", "hosts": {host: {"lines", "first", "last", "problems", "notes",
    "unwitnessed_since"}}, "witness", "problems", "notes", "time", "text"}`` with ``retcode`` 2
    where anything is wrong, or ``{"reason", "retcode": 1}``. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run logbook.verify
    """
    return telling.plainly(lambda: telling.verified(_config(), _state()))


def status():
    """
    How the service goes.

    Returns ``{"running", "connected", "age": seconds, "kept": records since it started, "hosts":
    {host: {"n", "received", ...}}, "witness": {...}, ...}`` with ``retcode`` 2 where it does not
    run or hears no master, or ``{"reason", "retcode": 1}``. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run logbook.status
    """
    return telling.plainly(lambda: telling.status(_state()))


def _config():
    return str(__opts__.get("rocksalt_logbook") or logbook.CONFIG)


def _state():
    return Path(__opts__.get("rocksalt_logbook_state") or logbook.STATE)
