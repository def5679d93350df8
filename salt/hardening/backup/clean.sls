this host no longer backs up, keeps or restores snapshots:
  hardening.absent:
    - family: backup
