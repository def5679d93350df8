"""Snapshots on their way: the local chain of manifests, the outbox, and what each vault has.

::

    lock                            held by the run that is at work
    vaults.json                     the newest sequence that each vault confirmed
    chain/STEM.json, .json.sig      manifests of this master, the newest few hundred
    index/STEM/                     what the last full looked like, part by part
    STEM.partial/                   a snapshot that is being built; left by a run that was killed
    outbox/STEM/                    a signed snapshot that some vault does not have yet
"""
