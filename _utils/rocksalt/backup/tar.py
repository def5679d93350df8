"""Headers of tar archives: ustar, and pax where ustar is not enough."""

from __future__ import annotations
