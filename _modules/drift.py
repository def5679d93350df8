"""How far this host is from the baseline, and the record of it that agents read.

.. code-block:: bash

    salt '*' drift.report
    salt-call drift.report families=sshd severity=high --out=json
"""

import dataclasses
import json
import logging
import os

from rocksalt import drift as library
from rocksalt import report as reports
from rocksalt import source
from rocksalt.findings import judge, unknown
from rocksalt.host import Host
from rocksalt.plainly import plainly

log = logging.getLogger(__name__)

__outputter__ = {"report": "drift"}


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "drift: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    with plainly():
        return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _look(family, entry, saltenv):
    """The findings of one family; one that cannot be looked at gives an error for each of its
    controls.
    """
    function = f"{family}.drift"
    if function not in __salt__:
        return unknown(
            entry, "error", f"the execution module {family} is not loaded: run saltutil.sync_all"
        )
    try:
        return __salt__[function](saltenv=saltenv)
    except Exception as error:  # one broken family must not hide the others
        log.exception("%s failed", function)
        return unknown(entry, "error", f"{type(error).__name__}: {error}")


def report(families=None, controls=None, severity=None, all=False, saltenv=None):
    """
    Compares this host with the baseline. Reads only.

    families, controls
        Names or ids, as a list or separated by commas; everything when left out.

    severity
        The least severity to report: ``critical``, ``high``, ``medium`` or ``low``.

    all
        Also list the controls that are ok.

    saltenv
        The file server environment; the minion's own when left out.

    Returns the report described by ``docs/drift-report.schema.json``. Return code: 0 no drift, 2
    drift, 3 some check could not run.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.report
        salt-call drift.report severity=high --out=json
    """
    baseline = _baseline(saltenv)
    with plainly():
        wanted = reports.chosen(baseline, families, controls, severity)
    findings = [
        finding
        for family, entry in baseline.families.items()
        if wanted & set(entry.controls)
        for finding in _look(family, entry, saltenv)
        if finding["id"] in wanted
    ]
    result = reports.build(baseline, __opts__["id"], findings, everything=all)
    __context__["retcode"] = reports.retcode(result)
    return result


def controls(saltenv=None):
    """
    The status of every control, shortly: ``{id: status}``.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.controls
    """
    return {
        finding["id"]: finding["status"]
        for finding in report(all=True, saltenv=saltenv)["findings"]
    }


def record(saltenv=None):
    """
    Writes the full report to ``last.json`` for the agents that only read it. Run by the timer
    ``rocksalt-drift``.

    Returns ``{"path": ..., "summary": ...}``; the return code is that of :func:`report`.

    CLI Example:

    .. code-block:: bash

        salt-call --local drift.record
    """
    __context__["rocksalt.changed"] = False
    __context__["rocksalt.recording"] = True
    try:
        result = report(all=True, saltenv=saltenv)
    finally:
        __context__["rocksalt.recording"] = False
    path = library.record(Host(), source.state_dir(__opts__), json.dumps(result))
    return {"path": path, "summary": result["summary"]}


def drift(saltenv=None):
    """
    Findings on the family ``drift`` itself: whether this host reports by itself and when it last
    did.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.drift
    """
    baseline = _baseline(saltenv)
    settings, texts = baseline.families["drift"].settings, _units(baseline)
    look = library.look(Host(), source.state_dir(__opts__))
    if __context__.get("rocksalt.recording"):
        look = dataclasses.replace(look, age=0)
    seen = library.actual(
        look, settings, texts, outdated=__context__.get("rocksalt.changed", False)
    )
    return judge(baseline, "drift", library.expected(settings, texts), seen)


def render(saltenv=None):
    """
    The systemd units that make this host report by itself: ``{path: text}``.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.render
    """
    return _units(_baseline(saltenv))


def _units(baseline):
    settings = baseline.families["drift"].settings
    folder = os.path.dirname(os.path.abspath(__opts__["conf_file"]))
    return library.units(settings, folder)


def enforce(ids, saltenv=None):
    """
    Makes this host report by itself, and report now. Meant for the state ``hardening.enforced``.

    ids
        The control ids, as a list.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.enforce '[DRIFT-001]'
    """
    if {"DRIFT-001", "DRIFT-002"} & set(ids):
        with plainly():
            library.enforce(Host(), render(saltenv))
    if "DRIFT-003" in ids:
        record(saltenv)


def clean(test=False):
    """
    Takes away the units that make this host report by itself.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.clean test=True
    """
    found = library.leftovers(Host())
    if found and not test:
        library.clean(Host())
    return found
