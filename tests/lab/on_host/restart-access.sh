#!/bin/bash
# Runs on the lab's master: starts the master, salt-api and the logbook anew where one of their files
# changed since this ran last, and waits until all answer.
set -euo pipefail
last=/run/access-started
units=()
changed() {
    ! test -e $last || test -n "$(find "$@" -cnewer $last -print -quit)"
}
door=/usr/local/lib/rocksalt-api access=/etc/rocksalt/access
if changed /etc/salt/master /etc/salt/master.d $door/auth $door/rocksalt_door; then
    units+=(salt-master)
fi
if ! systemctl is-active -q salt-api || changed /etc/salt/master /etc/salt/master.d $door $access/api.*; then
    units+=(salt-api)
fi
if changed /usr/local/bin/rocksalt-logbook $access/logbook.json /etc/systemd/system/rocksalt-logbook.service; then
    units+=(rocksalt-logbook)
fi
touch $last
if test ${#units[@]} != 0; then
    systemctl restart "${units[@]}"
fi
for port in 4505 4506 8000; do
    for _ in $(seq 300); do
        ss -Hltn "sport = :$port" | grep -q . && break
        sleep 0.1
    done
done
