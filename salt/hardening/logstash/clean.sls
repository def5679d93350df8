this host no longer ships, receives or witnesses logs:
  hardening.absent:
    - family: logstash
