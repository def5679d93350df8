"""Certificates of hosts: an authority on the master signs them, and each host keeps its own key."""
