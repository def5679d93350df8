"""Public keys whose private halves anybody can download.

Fingerprints were computed from the published public halves: Vagrant's from its repository (keys/),
baseimage-docker's from its own, those of appliances from the advisories that disclosed them.
"""

from __future__ import annotations

PUBLISHED = {
    "SHA256:1M4RzhMyWuFS/86uPY/ce2prh/dVTHW7iD2RhpquOZA": "Vagrant's insecure RSA key",
    "SHA256:WkvqjnyPAeC0cbPErYiGP9vqHdgL1MqqvPdIe3lvHgI": "Vagrant's insecure Ed25519 key",
    "SHA256:mNz9adiNUt9xnouQa1sVz3M2zmUV/nTEjUOucMNM9l4": "the insecure key of baseimage-docker",
    "SHA256:/JLp6z6uGE3BPcs70RQob6QOdEWQ6nDC0xY7ejPOCc0": "the key of Array Networks vAPV and vxAG",
    "SHA256:whDP3xjKBEettbDuecxtGsfWBST+78gb6McdB9P7jCU": (
        "the key of Barracuda's load balancer (CVE-2014-8428)"
    ),
    "SHA256:Z+q4XhSwWY7q0BIDVPR1v/S306FjGBsid7tLq/8kIxM": (
        "the key of Ceragon FibeAir IP-10 (CVE-2015-0936)"
    ),
    "SHA256:uy5wXyEgbRCGsk23+J6f85om7G55Cu3UIPwC7oMZhNQ": "the key of ExaGrid (CVE-2016-1561)",
    "SHA256:9prMbqhS4QteoFQ1ZRJDqSBLWoHXPyKB0iWR05Ghro4": "the key of F5 BIG-IP (CVE-2012-1493)",
    "SHA256:MEc4HfsOlMqJ3/9QMTmrKn5Xj/yfnMITMW8EwfUfTww": "the key of Loadbalancer.org",
    "SHA256:aPoYT2nPIfhqv6BIlbCCpbDjirBxaDFOtPfZ2K20uWw": (
        "the key of Monroe DASDEC (CVE-2013-0137)"
    ),
    "SHA256:VtjqZ5fiaeoZ3mXOYi49Lk9aO31iT4pahKFP9JPiQPc": "the key of Quantum DXi V1000",
}
"""Fingerprint -> whose key it is."""
