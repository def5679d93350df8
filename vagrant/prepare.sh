#!/usr/bin/env bash
# usage: prepare.sh KEY NAME MACHINE...
#
# Before Salt comes: Vagrant's own key for this desk, and on the master what the pillar has to know.
set -euo pipefail
key=$1 name=$2
shift 2

keys=/home/vagrant/.ssh/authorized_keys
grep -qsxF "$key" "$keys" || echo "$key" >>"$keys"
[[ $name == master ]] || exit 0

# The waivers end 30 days after the machine was made: provisioning it anew does not renew them.
facts=/srv/pillar/fleet.yaml
expires=$(sed -n 's/^expires: //p' "$facts" 2>/dev/null || true)
mkdir -p "${facts%/*}"
{
    echo "key: $key"
    echo "vagrant: ${SSH_CLIENT%% *}" # where log-ins of Vagrant come from
    echo "expires: ${expires:-$(date --utc --date='30 days' +%F)}"
    echo "ports:"
    port=2601
    for machine in "$@"; do echo "  $machine: $((port++))"; done
} >"$facts.new"
mv "$facts.new" "$facts"
