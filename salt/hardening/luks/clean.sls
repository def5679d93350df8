this host no longer receives keys of customers' volumes:
  hardening.absent:
    - family: luks
