"""Prints a drift report for people; ``--out=json`` gives the document itself."""

import salt.output.nested

from rocksalt.report import text


def output(data, **kwargs):
    """
    The reports of one or many hosts as text. Anything that is not a report is printed as Salt would
    print it.

    CLI Example:

    .. code-block:: bash

        salt '*' drift.report
    """
    parts = []
    for host, value in data.items():
        if isinstance(value, dict) and "summary" in value and "findings" in value:
            parts.append(text(value, colour=bool(__opts__.get("color"))))
        else:
            salt.output.nested.__opts__ = __opts__
            parts.append(salt.output.nested.output({host: value}))
    return "\n\n".join(parts)
