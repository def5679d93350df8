"""Marks by which an OSSEC server tells a run of Salt from tampering."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    if "ossec.mark" not in __salt__:
        return False, "ossec: the execution module ossec is not loaded: run saltutil.sync_all"
    return True


def marked(name, moment):
    """
    The OSSEC server has been told that this run begins or ends, with the id of its job. That
    changes nothing on the host; in test mode nothing is told, for nothing will change.

    moment
        ``begins`` or ``ends``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Nothing will change."}
    if __opts__["test"]:
        return ret
    try:
        return {**ret, "comment": __salt__["ossec.mark"](moment)}
    except CommandExecutionError as error:
        return {**ret, "result": False, "comment": str(error)}
