"""The programs of a stand-in for OSSEC 4.3: an agent's daemons, agent-auth, and a server for them.

This is not OSSEC, and watches nothing. It behaves as OSSEC does where the baseline looks: files and
owners, what is tested and what is said of it, lines of the log, enrolment, responses. Agent and
server speak a small protocol of our own (``wire``), signed and not encrypted. It runs on lab hosts
with the standard library alone, as one file made by ``rocksalt_lab.ossec_standin``.
"""
