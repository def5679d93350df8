"""Disk encryption: what is encrypted and how well, and volumes whose keys only a customer has."""
