base:
  '*':
    - hardening
