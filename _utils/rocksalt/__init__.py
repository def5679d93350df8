"""The Rocksalt library: what a hardened host looks like, and how far one is from it.

Pure Python without Salt's dunders. The modules, states and grains beside it are thin: they hand
this library what Salt knows (pillar, options, files) and hand its answers back.
"""

__version__ = "0.1.0"
