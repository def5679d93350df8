"""Plugins for monitoring agents: programs of their own, which read what root wrote, nothing else.

Each module with ``main()`` becomes one file (``rocksalt.nrpe.shipped``), so they import the
standard library and each other alone.
"""
