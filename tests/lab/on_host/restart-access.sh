#!/bin/bash
# Runs on the lab's master: starts the master and salt-api anew where one of their files changed
# since this ran last, and waits until both answer.
set -euo pipefail
last=/run/access-started
changed() {
    ! test -e $last || find "$@" -cnewer $last | grep -q .
}
door=/usr/local/lib/rocksalt-api
if changed /etc/salt/master /etc/salt/master.d $door/auth $door/rocksalt_door; then
    systemctl restart salt-master
fi
if ! systemctl is-active -q salt-api || changed /etc/salt/master /etc/salt/master.d $door /etc/rocksalt/access; then
    systemctl restart salt-api
fi
for port in 4505 4506 8000; do
    for _ in $(seq 300); do
        ss -Hltn "sport = :$port" | grep -q . && break
        sleep 0.1
    done
done
touch $last
