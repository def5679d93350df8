{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["accounts"] %}

what accounts need is installed:
  pkg.installed:
    - pkgs: [sudo, libpam-pwquality, cracklib-runtime, logrotate]

administrators have their accounts:
  hardening.enforced:
    - family: accounts
    - guarded: false
    - require:
      - pkg: what accounts need is installed

an administrator keeps a way in:
  hardening.safe:
    - family: accounts
    - require:
      - pkg: what accounts need is installed

root and strangers are locked out:
  hardening.enforced:
    - family: accounts
    - guarded: true
    - require:
      - hardening: an administrator keeps a way in
{%- else %}

accounts are left as found:
  test.nop:
    - comment: the family is disabled by hardening:accounts:enabled, which drift.report shows
{%- endif %}
