"""The configuration of the rsyslog that receives lines (rsyslog 8.2302 and later).

Every host has a port of its own, because imrelp checks the certificate of a client but does not
tell whose it was; the name of the input is the host's. Each line goes to the writer as one JSON
object that rsyslog makes, so that nothing in a line can pass for another line or another host. The
writer confirms each: RELP acknowledges a line to its host after that, not before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.errors import Refused
from rocksalt.logstash.receiving import HOST

LARGEST = 256 * 1024
"""Bytes that a line may have; what is longer is cut there, and flagged."""
WRITER = f"{logstash.LOGS} write --config {logstash.RECEIVER_CONFIG}"
_WHERE = f"{logstash.TOP}:ports"

_HEAD = """\
# Written by rocksalt; state.apply hardening.logstash undoes a change here.
global(
    workDirectory={work}
    maxMessageSize="{largest}"
    parser.escapeControlCharactersOnReceive="off"
    net.enableDNS="off"
)
module(load="imrelp" tls.tlslib="openssl")
module(load="omprog")
template(name="line" type="list" option.jsonf="on") {{
    property(outname="from" name="inputname" format="jsonf")
    property(outname="raw" name="rawmsg" format="jsonf")
}}
ruleset(name="received" queue.type="Direct") {{
    action(
        type="omprog"
        template="line"
        binary={binary}
        confirmMessages="on"
        confirmTimeout="60000"
        signalOnClose="off"
        killUnresponsive="on"
        closeTimeout="10000"
        queue.type="Direct"
        action.resumeRetryCount="-1"
        action.resumeInterval="1"
        action.resumeIntervalMax="1"
    )
}}
"""
_INPUT = """\
input(
    type="imrelp"
    name={host}
    port="{port}"
    {address}ruleset="received"
    maxDataSize="{largest}"
    keepAlive="on"
    keepAlive.time="60"
    keepAlive.interval="20"
    keepAlive.probes="3"
    tls="on"
    tls.caCert={ca}
    tls.myCert={certificate}
    tls.myPrivKey={key}
    tls.authMode="name"
    tls.permittedPeer=[{host}]
    tls.tlsCfgCmd="MinProtocol=TLSv1.2"
)
"""


def render(settings: Mapping[str, Any], writer: str = WRITER) -> str:
    """The whole file; ``settings`` are those in receiver.json, ``writer`` the command that keeps
    lines. :class:`Refused` for a host whose name can be no folder, or a port of two hosts.
    """
    hosts: dict[str, int] = dict(sorted(settings["hosts"].items()))
    _refuse(hosts)
    address = settings.get("address") or ""
    values = {
        "largest": LARGEST,
        "address": f"address={_quoted(address)}\n    " if address else "",
        "ca": _quoted(logstash.AUTHORITY),
        "certificate": _quoted(logstash.SERVER_CERTIFICATE),
        "key": _quoted(logstash.SERVER_KEY),
    }
    work = _quoted(f"{logstash.RECEIVING}/rsyslog")
    head = _HEAD.format(work=work, largest=LARGEST, binary=_quoted(writer))
    inputs = (
        _INPUT.format(host=_quoted(host), port=port, **values) for host, port in hosts.items()
    )
    return head + "".join(inputs)


def _refuse(hosts: Mapping[str, int]) -> None:
    taken: dict[int, str] = {}
    for host, port in hosts.items():
        if not HOST.fullmatch(host):
            raise Refused(f"{_WHERE} has {host!r}: a name has letters, digits, '.', '_' and '-'")
        if port in taken:
            raise Refused(
                f"{_WHERE} gives {port} to {taken[port]} and to {host}: give each its own"
            )
        taken[port] = host


def _quoted(text: str) -> str:
    """As a string of rsyslog's language, in which a $ may mean a variable."""
    return json.dumps(text).replace("$", "\\$")
