"""
Who may do what through salt-api, and the review of it.

.. code-block:: bash

    salt-run access.explain alice
    salt-run access.can alice deploy.run web1 kwarg='{app: shop, version: 1.2.3}'
    salt-run access.review
    salt-run access.review sign=ann

All of it is read from the configuration that this master has: what Salt enforces is what is told.
"""

import datetime as dt
import logging
import sys

import salt.utils.minions

from rocksalt.access import asking
from rocksalt.errors import Refused, RocksaltError

log = logging.getLogger(__name__)


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "access: the baseline is for Linux hosts"
    return True


def explain(user, groups=None):
    """
    What somebody may do, in words.

    user
        The log-in name.
    groups
        Groups of LDAP that they are in, as a list or with commas between.

    Returns ``{"user", "may": [a sentence for each grant], "warnings": [options of the master with
    which rights are not what they look like]}``. It never raises; what went wrong is ``{"reason",
    "retcode": 1}``.

    CLI Example:

    .. code-block:: bash

        salt-run access.explain alice
    """

    def work():
        check = salt.utils.minions.CkMinions(__opts__)
        return asking.explain(__opts__, check, str(user), _words(groups), _now())

    return _plainly("explain", work)


def can(user, fun, tgt=None, tgt_type="glob", arg=None, kwarg=None, groups=None):
    """
    Whether somebody may make a call, as the door and the master would decide now.

    user
        The log-in name.
    fun
        The function, or the runner where there is no target.
    tgt
        The minions: an id, a glob, or with ``tgt_type=list`` a list.
    tgt_type
        ``glob`` or ``list``.
    arg
        A list of arguments without names.
    kwarg
        A mapping of those with names.
    groups
        Groups of LDAP that the person is in, as a list or with commas between.

    Returns ``{"allowed": bool, "rule": the rule of Salt's external_auth that allows it, "reason":
    sentence}``; what went wrong is ``{"reason", "retcode": 1}``. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run access.can alice deploy.run web1 kwarg='{app: shop, version: 1.2.3}'
        salt-run access.can bob logbook.playback
    """

    def work():
        if kwarg is not None and not isinstance(kwarg, dict):
            raise Refused(f"kwarg: {kwarg!r} is no mapping such as {{app: shop, version: 1.2.3}}")
        given = arg if isinstance(arg, list) else [] if arg is None else [arg]
        question = asking.Question(
            str(user), str(fun), tgt, str(tgt_type), given, kwarg or {}, _words(groups)
        )
        return asking.can(__opts__, salt.utils.minions.CkMinions(__opts__), question)

    return _plainly("can", work)


def _words(value):
    """A list, also of one word or of several with commas between."""
    found = value if isinstance(value, list) else str(value or "").split(",")
    return tuple(str(word).strip() for word in found if str(word).strip())


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _plainly(function, work):
    """What a function returns; an error as a sentence, for Salt would print a trace, or take a
    TypeError for wrong arguments and end with 0.
    """
    try:
        return work()
    except RocksaltError as error:
        return {"reason": str(error), "retcode": 1}
    except Exception as error:
        log.exception("access.%s", function)
        return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}
