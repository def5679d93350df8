"""The errors of this library as Salt shows them: one sentence instead of a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from salt.exceptions import CommandExecutionError

from rocksalt.errors import RocksaltError


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Turns an error of ours into the one that execution modules raise."""
    try:
        yield
    except RocksaltError as error:
        raise CommandExecutionError(str(error)) from None
