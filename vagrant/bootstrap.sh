#!/usr/bin/env bash
# Salt from the versions in requirements/, with the options of Salt's bootstrap script that Vagrant gives:
#
#   bootstrap.sh [-M] [-F] [-C] [-c FOLDER] [-k FOLDER] LINE
#
# -M: a master as well; -c: where configuration and keys were put; -k: keys of minions that the master
# accepts. -F and -C change nothing here. Ours is -I: install, and leave the rest for later.
set -euo pipefail
clone=/srv/rocksalt
units=$clone/tests/lab/rocksalt_lab/rootfs/etc/systemd/system
config='' seeds='' services=(salt-minion) install_only=
while getopts MFCIc:k: option; do
    case $option in
    M) services=(salt-master salt-minion) ;;
    I) install_only=yes ;;
    c) config=$OPTARG ;;
    k) seeds=$OPTARG ;;
    F | C) ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
requirements=$clone/requirements/salt-$1.txt

install_salt() {
    local wanted
    wanted=$(sed -n 's/^salt==//p' "$requirements")
    [[ $(/opt/salt/bin/salt --version 2>/dev/null) == "salt $wanted"* ]] && return
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --no-install-recommends python3-venv python3-dev gcc libc6-dev
    rm -rf /opt/salt
    python3 -m venv /opt/salt
    /opt/salt/bin/pip install --quiet --no-cache-dir -r "$requirements"
    for command in /opt/salt/bin/salt*; do ln -sf "$command" /usr/local/bin/; done
}

# put FOLDER MODE FILE...: those of the uploaded files that are there, and not a second time
put() {
    local folder=$1 mode=$2 file
    shift 2
    install -d -m 0755 "$folder"
    for file; do
        [[ ! -e $config/$file ]] || { install -m "$mode" "$config/$file" "$folder/" && rm "$config/$file"; }
    done
}

configure() {
    put /etc/salt 0644 minion master
    put /etc/salt/pki/minion 0400 minion.pem
    put /etc/salt/pki/minion 0644 minion.pub
    hostname --short >/etc/salt/minion_id
    [[ -z $seeds ]] || install -D -m 0644 -t /etc/salt/pki/master/minions "$seeds"/*
}

start() {
    local service
    for service in "${services[@]}"; do install -m 0644 "$units/$service.service" /etc/systemd/system/; done
    systemctl daemon-reload
    systemctl enable --quiet "${services[@]}"
    systemctl restart "${services[@]}"
}

install_salt
[[ -z $install_only ]] || exit 0
configure
start
