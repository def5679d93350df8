"""Backup: signed, encrypted snapshots of the Salt master in vaults that the master cannot rewrite.

::

    the master's options -> sources -> pack (walk, tar, compress, age) -> spool -> vaults
                                        manifest (signed, chained)  --^             |
    restore, drill  <-  verify (pinned keys, no decryption)  <----------------------+

A snapshot exists once its manifest is in a vault: archives go first, the manifest last. ``names``
and ``manifest`` say what lies in a vault, ``config`` what an administrator decides.
"""
