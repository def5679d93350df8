#!/bin/bash
# usage: install-salt.sh ROOT WORK REQUIREMENTS [PATH...]
#
# Make the virtual environment /opt/salt in ROOT by running pip inside that system. What this needs
# for a while (PATHs of this machine: pip's configuration, certificates, local indexes; a compiler)
# is laid over ROOT in a layer that is thrown away, so none of it can stay in the image. The caller
# runs this in a mount namespace of its own: no mount survives it.
set -euo pipefail
root=$1 work=$2 requirements=$3
shift 3

mkdir -p "$root/opt/salt" "$work"/{upper,layer,view}
view=$work/view
mount -t overlay overlay \
    -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/layer" "$view"
mount --bind "$root/opt/salt" "$view/opt/salt"
mount --bind /dev "$view/dev"
mount -t proc proc "$view/proc"
for path in /etc/resolv.conf "$@"; do
    mkdir -p "$view$(dirname "$path")"
    if [[ -d $path ]]; then mkdir -p "$view$path"; else touch "$view$path"; fi
    mount --bind "$path" "$view$path"
done
chroot "$view" apt-get update -qq
chroot "$view" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io gcc libc6-dev python3-dev
cp "$requirements" "$view/tmp/requirements.txt"
chroot "$view" python3 -m venv /opt/salt
chroot "$view" /opt/salt/bin/pip install --quiet --no-cache-dir -r /tmp/requirements.txt
chroot "$view" /opt/salt/bin/pip check
for command in "$root"/opt/salt/bin/salt*; do
    ln -s "/opt/salt/bin/${command##*/}" "$root/usr/local/bin/"
done
