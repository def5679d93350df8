"""Deploys of the apps that the pillar allows on this host: the one function that people who deploy
need, instead of ``state.apply``.

.. code-block:: bash

    salt web1 deploy.run app=shop version=v1.4.2
    salt web1 deploy.status

There is no ``**kwargs``: Salt refuses ``pillar=``, ``saltenv=`` and every other keyword before a
function of this module begins.
"""

from rocksalt import source
from rocksalt.access import FAMILY, deploying, deploys
from rocksalt.access.deployed import Records
from rocksalt.host import Host
from rocksalt.logstash.shipping.mask import Masker
from rocksalt.plainly import plainly

_FAILED = 2


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "deploy: the baseline is for Linux hosts"
    return True


def _baseline():
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__)


def _records():
    return Records(Host(), f"{source.state_dir(__opts__)}/deploys")


def _masker(baseline):
    """Salt's errors quote command lines and templates, and the record is read by more people than
    the pillar.
    """
    shipping = baseline.families.get("logstash")
    patterns = shipping.settings["mask"] if shipping else ()
    return deploys.masker(dict(__pillar__), Masker(patterns).mask)


def run(app, version, test=False):
    """
    Deploys a version of an app: applies its states with the pillar ``deploy`` = ``{"app",
    "version"}``, one deploy at a time, and keeps a record.

    app
        One of ``hardening:access:apps`` that belongs on this host.
    version
        Text that matches the app's pattern as a whole.
    test
        True only tells what would change.

    Returns ``{"app", "version", "previous": version that was deployed before, "result": whether
    all went well, "seconds", "states": how many there are, "changed": how many of them changed
    something, "failed": {state: comment}, "jid": id of the job}``, and sets the return code to 2
    where ``result`` is False. Raises ``CommandExecutionError``, and has touched nothing, where the
    app is not known here, the version is not one of it, or another deploy or state run is active.

    CLI Example:

    .. code-block:: bash

        salt web1 deploy.run app=shop version=v1.4.2
        salt web1 deploy.run app=shop version='"1.10"' test=True
    """
    with plainly():
        baseline = _baseline()
        family = baseline.families.get(FAMILY)  # kept settings may be older than the family
        it = deploys.find(family.settings["apps"] if family else {}, app, __opts__["id"])
        deploys.check(it, version, test)
        deploy = deploying.Deploy(it, version, __salt__, __opts__, _masker(baseline))
        told = deploy.rehearse(_records()) if test else deploy.run(_records())
    __context__["retcode"] = 0 if told["result"] else _FAILED
    return told


def status(app=""):
    """
    The last deploy of every app on this host, or of one, as its record says: ``{app: {"app",
    "version", "status", "started", "ended", "seconds", "states", "changed", "failed", "previous",
    "user", "jid"}}``. Reads records only, also those of apps that the pillar has no more.

    ``status`` is ``ok``, ``failed``, ``running``, ``interrupted`` (it was ended from outside, and
    how far it came is not known) or ``unreadable``, the last two with a ``reason``.

    app
        The name of an app, or all of them.

    CLI Example:

    .. code-block:: bash

        salt web1 deploy.status
        salt web1 deploy.status app=shop
    """
    with plainly():
        return _records().status(app)
