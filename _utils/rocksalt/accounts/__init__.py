"""Accounts, what they may do, and how they prove who they are.

``database`` reads the account files; ``administrators``, ``sudo``, ``strangers``, ``consistency``
and ``passwords`` are the parts of the family. Each has a table ``CHECKS`` (control id -> what it
expects, what it sees) and a function ``fix(host, it, ids)``; ``checks.Accounts`` puts them
together, and ``ways`` says who keeps a way in meanwhile.
"""
