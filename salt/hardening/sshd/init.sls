{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["sshd"] %}

openssh-server is installed:
  pkg.installed:
    - name: openssh-server

an administrator keeps a way in over ssh:
  hardening.safe:
    - family: sshd
    - require:
      - pkg: openssh-server is installed

sshd is hardened:
  hardening.enforced:
    - family: sshd
    - require:
      - hardening: an administrator keeps a way in over ssh

sshd is hardened where nobody can be locked out:
  hardening.enforced:
    - family: sshd
    - guarded: false
    - onfail:
      - hardening: an administrator keeps a way in over ssh
{%- else %}

sshd is left as found:
  test.nop:
    - comment: the family is disabled by hardening:sshd:enabled, which drift.report shows
{%- endif %}
