"""The program ``rocksalt-ship``: what this host logs, to a log server.

The journal and the log files are the queue: nothing is copied into another one. ``journal`` and
``tail`` read them, ``events`` makes a document of each line, ``mask`` takes secrets out, ``link``
brings it to one of the servers in the protocol of ``relp``, and ``positions`` remembers how far
they have it. ``ship`` ties these together.
"""

STATE_MODE = 0o640
"""Of the files that tell how it goes."""
WRONG = 78
"""The exit code for a configuration that is wrong, as sysexits.h has it."""
