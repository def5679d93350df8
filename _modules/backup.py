"""The backup of a Salt master against the baseline: what is set up here, and when it last worked.

.. code-block:: bash

    salt '*' backup.drift
"""

import os

from rocksalt import source
from rocksalt.backup import checks, reading
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "backup: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    with plainly():
        return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only, and asks no other
    host.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.drift
    """
    baseline = _baseline(saltenv)
    folder = os.path.dirname(os.path.abspath(__opts__["conf_file"]))
    it = checks.Backup(baseline, reading.master_signs(Host(), folder))
    return judge(baseline, "backup", it.expected(), it.seen())


def clean(test=False):
    """
    Takes away what the baseline put on this host for backups. Snapshots stay.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.clean test=True
    """
    return []
