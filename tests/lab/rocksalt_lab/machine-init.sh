#!/bin/sh
# /init of a lab machine's initial RAM disk: what a container gets from outside before its systemd
# starts (who it is, its network) is here before systemd starts, too.
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done

for serial in /sys/block/vd*/serial; do
    [ "$(cat "$serial")" = root ] && disk=${serial%/serial}
done
mount -t ext4 "/dev/${disk##*/}" /root
identity=/sys/firmware/qemu_fw_cfg/by_name/opt/rocksalt-lab/identity/raw
[ -s /root/etc/machine-id ] || tar -C /root -xf "$identity"
ip address add "$(sed 's/.*lab.address=\([^ ]*\).*/\1/' /proc/cmdline)" dev eth0
ip link set eth0 up

for folder in dev proc sys; do mount --move "/$folder" "/root/$folder"; done
exec switch_root /root /sbin/init
