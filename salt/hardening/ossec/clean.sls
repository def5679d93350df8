what the baseline added to the OSSEC agent is gone:
  hardening.absent:
    - family: ossec
