#!/bin/bash
# Runs on a virtual machine of the lab: how tests make, change and put back what is on its disks.
#
#   make NAME OPTION...     a header of LUKS that the operator's key opens, with options of luksFormat
#   open NAME               opens it under the same name
#   add-key NAME            another key, badly derived
#   token NAME COMMAND ...  what cryptsetup does with tokens
#   remap                   maps the disk lvm once more, from other sectors than its header says
#   wipe NAME               nothing is on it any more
#   save NAME..., put NAME  keeps the beginning of disks, and writes it again
#   keep, kept              keeps the files of the family, and puts them back
#   forget                  no copy of a header is known to be kept elsewhere
#   begin NAME              a journal says that the file system of a volume is being made
set -euo pipefail
disk=/dev/disk/by-id/virtio-${2:-} key=/root/operator.key
luks=/var/lib/rocksalt/luks kept=/run/disks
files=(/etc/rocksalt/luks /etc/systemd/system "$luks/headers")
case $1 in
    make) cryptsetup luksFormat -q --key-file $key "${@:3}" "$disk" ;;
    open) cryptsetup open --key-file $key "$disk" "$2" ;;
    add-key)
        echo another | cryptsetup luksAddKey -q --key-file $key --pbkdf pbkdf2 \
            --pbkdf-force-iterations 1000 "$disk" -
        ;;
    token) cryptsetup token "$3" "${@:4}" "$disk" ;;
    remap)
        number=$(lsblk --noheadings --nodeps --output MAJ:MIN "$(realpath "${disk}lvm")")
        uuid=$(dmsetup info --columns --noheadings --options uuid lvm)
        printf '0 2048 crypt aes-xts-plain64 %0128d 8 %s 65536 1 sector_size:4096\n' 1 "${number// /}" \
            | dmsetup create remapped --uuid "${uuid%-lvm}-remapped"
        ;;
    wipe) blkdiscard --force --zeroout "$disk" && udevadm settle ;;
    save)
        mkdir -p $kept
        for name in "${@:2}"; do
            dd if="/dev/disk/by-id/virtio-$name" of="$kept/$name" bs=1M count=16 status=none
        done
        ;;
    put) dd if="$kept/$2" of="$disk" bs=1M conv=fsync status=none && udevadm settle ;;
    keep) tar --format=posix -cPf $kept.tar "${files[@]}" ;;
    kept) find "${files[@]}" -mindepth 1 -delete && tar -xpPf $kept.tar --numeric-owner ;;
    forget)
        /opt/salt/bin/python -c 'import json, pathlib
for path in pathlib.Path("'$luks'/headers").glob("*.json"):
    path.write_text(json.dumps({**json.loads(path.read_text()), "kept": None}))'
        ;;
    begin)
        printf '{"format": 1, "what": "first opening", "uuid": "%s"}' "$(cryptsetup luksUUID "$disk")" \
            >"$luks/$3.journal"
        ;;
    *) exit 2 ;;
esac
