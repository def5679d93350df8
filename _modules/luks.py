"""Disk encryption against the baseline, and volumes of which only a customer has the key.

.. code-block:: bash

    salt '*' luks.status
    salt '*' luks.drift
"""

from rocksalt import source
from rocksalt.findings import judge
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "luks: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.drift
    """
    with plainly():
        return judge(_baseline(saltenv), "luks", {}, {})
