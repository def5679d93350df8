"""Files that are written all the time: consistent copies are archived in their place."""

from __future__ import annotations
