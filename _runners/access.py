"""
Who may do what through salt-api, and the review of it.

.. code-block:: bash

    salt-run access.explain alice
    salt-run access.can alice deploy.run web1 kwarg='{app: shop, version: 1.2.3}'
    salt-run access.review
    salt-run access.review sign=ann
    salt-run access.signing

All of it is read from the configuration that this master has: what Salt enforces is what is told.
"""

import datetime as dt
import logging
import os
import pwd
import sys
import time

import salt.client
import salt.key
import salt.utils.jid
import salt.utils.minions
import salt.version

from rocksalt.access import asking, survey, uses, versions
from rocksalt.access import review as reviews
from rocksalt.access import signing as signatures
from rocksalt.backup import names
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host

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
        return asking.can(__opts__, salt.utils.minions.CkMinions(__opts__), question, _now())

    return _plainly("can", work)


def review(days=90, sign=None, key=None, log_file=None, folder=None):
    """
    Everybody who has rights: their roles and rights in words, what they used last, what changed
    since the last review, and who is root by other ways than roles.

    days
        For how long a right may be unused.
    sign
        The name of the reviewer. A signed record of the review is written.
    key
        The private key of OpenSSH that signs: that of the reviewer, or where none is named one that
        this master makes for itself. Public keys of reviewers are lines in
        ``/etc/rocksalt/access/reviewers``.
    log_file
        Where salt-api writes what is used; by default where this master's configuration says.
    folder
        Where the folder ``reviews`` of records is, and the keys; ``/etc/rocksalt/access``.

    Returns ``{"time", "people": {name: {"may": [sentences], "last_login": time or None,
    "last_calls": {function: time}, "unused": [functions] or None where nobody can tell}},
    "unused": sentence, "root": {"roles": [sentences], "files": {person: [what they can write]},
    "elsewhere": [who], "unseen": [what could not be looked at]}, "strangers": [who used salt-api
    without rights of their own], "changes": {"since", "more", "less"}, "warnings"}``, and where it
    was signed ``"signed": {"path", "reviewer", "time", "digest", "previous"}``. It never raises;
    what went wrong is
    ``{"reason", "retcode": 1}``.

    CLI Example:

    .. code-block:: bash

        salt-run access.review
        salt-run access.review days=30 sign=ann
    """
    where = str(folder or signatures.BASE)
    door = __opts__.get("rocksalt_api") or {}

    def work():
        last = signatures.last_review(where)
        seen, now = reviews.reviewed(__opts__), _now()
        used = uses.read(str(log_file or door.get("log") or uses.LOG))
        told = reviews.review(__opts__, seen, used, now, int(days), last)
        if sign is None:
            return told
        signed = signatures.sign(str(sign), seen, now, key and str(key), where)
        shown = ("path", "reviewer", "digest", "previous")
        return {
            **told,
            "signed": {**{it: getattr(signed, it) for it in shown}, "time": names.utc(signed.time)},
        }

    return _plainly("review", work)


def signing(timeout=15):
    """
    Asks every accepted minion, and tells which of them sign what they answer, so that the master
    can verify it: by the signature of that very answer. A record of it is kept in the master's
    cache, ``rocksalt-signing.json``, from which the family ``access`` knows whether the master may
    require signatures.

    timeout
        Seconds in which minions may answer; it waits for all of them while one lags.

    Returns ``{"time", "algorithm": that the master verifies by, "signs": [minions], "lagging":
    {minion: why}, "record": path, "retcode": 2 while one lags}``; what went wrong is ``{"reason",
    "retcode": 1}``. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run access.signing
    """
    return _plainly("signing", lambda: _survey(float(timeout)))


def _survey(timeout):
    algorithm = __opts__.get("signing_algorithm")
    if algorithm not in survey.HASHES:
        known = f"is {algorithm!r}" if algorithm else "has no signing_algorithm"
        raise Refused(
            f"this master's configuration {known}, without which every answer that is signed is "
            "lost: apply hardening.access on the master's host first"
        )
    if why := versions.unverifiable(salt.version.__version__):
        raise Refused(f"this master {why}")
    publics = salt.key.get_key(__opts__).key_str_all().get("minions", {})
    found = dict.fromkeys(publics, survey.SILENT)
    for load in _answers(list(publics), timeout) if publics else ():
        name = load["id"]
        how = survey.judged(load["return"], load.get("sig"), publics[name], algorithm)
        # Anybody can answer in the name of another, but not with its signature.
        if how == survey.SIGNS or found[name] == survey.SILENT:
            found[name] = how
        if all(it == survey.SIGNS for it in found.values()):
            break
    seen = survey.Survey(_now(), algorithm, found)
    path = os.path.join(__opts__["cachedir"], survey.FILE)
    Host().write(path, survey.text(seen), "0640")
    lagging = seen.lagging()
    return {
        "time": names.utc(seen.time),
        "algorithm": algorithm,
        "signs": sorted(set(found) - set(lagging)),
        "lagging": lagging,
        "record": path,
        "retcode": 2 if lagging else 0,
    }


def _answers(minions, timeout):
    """What minions answer when they are asked for their release, as the master got it: all that
    comes in time, for what comes first may be made up.
    """
    jid = salt.utils.jid.gen_jid(__opts__)
    with salt.client.get_local_client(mopts=__opts__) as client:
        asked = client.run_job(minions, "test.version", tgt_type="list", jid=jid, listen=True)
        if not asked:
            raise Refused("the master publishes no job: does it run?")
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            event = client.event.get_event(wait=left, tag=f"salt/job/{jid}/ret", full=True)
            data = event["data"] if event else None
            if isinstance(data, dict) and data.get("id") in minions and "return" in data:
                yield data


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
    except PermissionError as error:
        user = pwd.getpwuid(os.geteuid()).pw_name
        return {"reason": f"{error.filename} is not for {user}, whom runners run as", "retcode": 1}
    except Exception as error:
        log.exception("access.%s", function)
        return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}
