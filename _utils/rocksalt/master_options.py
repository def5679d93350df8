"""The configuration of the Salt master of this host, as root can read it."""

from __future__ import annotations

import os
from typing import Any

import salt.config
from salt.exceptions import SaltConfigurationError

from rocksalt.errors import Refused

_NOWHERE = "\0"
"""A name that no folder can have."""


def read(path: str, minion: str) -> dict[str, Any]:
    """The configuration in the master's file as Salt takes it, without what Salt runs for that of
    the folders that the master's user can write: values at ``sdb://`` stay as they are, the id is
    known (``minion``, of the same host), and Python looks for nothing in ``utils_dirs``. Raises
    :class:`Refused` for what Salt does not take.
    """
    defaults = salt.config.DEFAULT_MASTER_OPTS.copy()
    try:
        told = salt.config.load_config(path, "", path)
        default = told.get("default_include", defaults["default_include"])
        more = told.get("include", [])
        told.update(salt.config.include_config(default, path, verbose=False))
        told.update(salt.config.include_config(more, path, verbose=True))
        utils = told.get("utils_dirs")
        told.update(id=minion, utils_dirs=[_NOWHERE])
        found = dict(salt.config.apply_master_config(told, defaults))
    except (SaltConfigurationError, SystemExit) as error:
        raise Refused(f"Salt does not take the configuration in {path}: {error}") from None
    found["utils_dirs"] = utils or [os.path.join(found["extension_modules"], "utils")]
    return found
