"""Backup: signed, encrypted snapshots of the Salt master in vaults that the master cannot rewrite.

::

    the master's options -> snapshots: sources -> packing -> the spool -> delivery -> vaults
                              crypto: age, SSHSIG       a signed manifest --^           |
    restoring: files, drills  <-  proof: the chain, by pinned keys, without decryption <+

A snapshot exists once its manifest is in a vault: archives go first, the manifest last. ``names``
and ``manifest`` say what lies in a vault, ``config`` what an administrator decides, ``commands``
what people and timers ask for, ``family`` what is expected of a host and what is there.
"""
