"""Access to the Salt master against the baseline: who may do what through salt-api, and what stands
in front of it.

.. code-block:: bash

    salt master1 access.drift
    salt-call --local access.password
"""

import datetime as dt
import os

import salt.config
import salt.loader

from rocksalt import master_options, source
from rocksalt.access import FAMILY, checks
from rocksalt.access import enforce as enforcement
from rocksalt.access import problems as contradictions
from rocksalt.access.door import passwords
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly

_KNOWN = "rocksalt.access.known"


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "access: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _folder():
    """Where the configuration of the minion is, and of the master."""
    return os.path.dirname(__opts__["conf_file"])


def _effective(path):
    """The master's configuration as Salt takes it."""
    return master_options.read(path, __opts__["id"])


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        baseline = _baseline(saltenv)
        return host, checks.Access(baseline, __opts__["id"], host, _now(), _folder(), _effective)


def _known():
    """The functions that are loaded here, and Salt's own runners. Those of the master's own folders
    are left out, for its user can write them, and to load them runs them as root.
    """
    if _KNOWN not in __context__:
        opts = {**salt.config.DEFAULT_MASTER_OPTS, "id": __opts__["id"], "extension_modules": ""}
        __context__[_KNOWN] = {
            "functions": frozenset(__salt__),
            "runners": frozenset(salt.loader.runner(opts)),
        }
    return __context__[_KNOWN]


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: a grant of a role
    that does not exist, a version that everything matches. Reads the pillar only, and on a declared
    master the names of functions and runners as well, which takes a second.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt master1 access.problems
    """
    with plainly():
        baseline = _baseline(saltenv)
        known = _known() if __opts__["id"] in baseline.families[FAMILY].settings["masters"] else {}
        return contradictions.problems(baseline, __opts__["id"], **known)


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Changes nothing; it connects to
    salt-api a few times as a stranger would.

    CLI Example:

    .. code-block:: bash

        salt master1 access.drift
    """
    _, it = _look(saltenv)
    with plainly():
        return judge(it.setup.baseline, "access", it.expected(), it.seen())


def render(saltenv=None):
    """
    The master's configuration and the door's files: ``{path: text}``, empty where no master is
    declared. Passwords are not in it, nor are their hashes.

    CLI Example:

    .. code-block:: bash

        salt master1 access.render
    """
    _, it = _look(saltenv)
    with plainly():
        return it.render()


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family as one transaction. Meant for the state ``hardening.enforced``,
    which looks again afterwards. The master is started anew where it reads what changed.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt master1 access.enforce '[ACL-003]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def password():
    """
    A new password and its hash for ``hardening:access:hashes``. Call it with ``salt-call --local``
    on a host of your own: what a master calls is kept in its job cache.

    Returns ``{"password": ..., "hash": ...}``.

    CLI Example:

    .. code-block:: bash

        salt-call --local access.password
    """
    made, hashed = passwords.make()
    return {"password": made, "hash": hashed}


def clean(test=False):
    """
    Takes away what the baseline put on this host for access to its master, which starts anew
    without; salt-api is stopped. Its certificate and key stay, and so does what was deployed.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt master1 access.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host, _folder())
    if found and not test:
        with plainly():
            enforcement.clean(host, _folder())
    return found
