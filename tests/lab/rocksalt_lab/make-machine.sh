#!/bin/bash
# usage: make-machine.sh IMAGE WORK TARGET PACKAGE...
#
# Make TARGET/{root.img,kernel,initrd} for virtual machines out of the lab image IMAGE and PACKAGES
# of its own repository. IMAGE itself is not changed. The caller runs this in a mount namespace of
# its own: no mount survives it.
set -euo pipefail
image=$1 work=$2 target=$3
shift 3
here=$(dirname "$(realpath "$0")")

mkdir -p "$work"/{upper,layer,view} "$target"
view=$work/view
mount -t overlay overlay \
    -o "lowerdir=$image,upperdir=$work/upper,workdir=$work/layer" "$view"
mount --bind /dev "$view/dev"
mount -t proc proc "$view/proc"
printf '#!/bin/sh\nexit 101\n' | install /dev/stdin "$view/usr/sbin/policy-rc.d"
chroot "$view" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io "$@"
rm "$view/usr/sbin/policy-rc.d"

install -D "$here/channel.py" "$view/usr/local/lib/rocksalt-lab/channel.py"
cp -rT "$here/machine-rootfs" "$view"
touch "$view/etc/cloud/cloud-init.disabled"
chroot "$view" systemctl --quiet enable rocksalt-lab-channel
# What takes long in emulation, or starts on its own in the middle of a test.
chroot "$view" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer logrotate.timer systemd-timesyncd.service

version=$(ls "$view/lib/modules")
cp "$view/boot/vmlinuz-$version" "$target/kernel"
mkdir -p "$work"/initrd/{bin,modules,dev,proc,sys,root}
cp "$view/bin/busybox" "$work/initrd/bin"
for name in sh mount insmod cat tar sed ip switch_root; do
    ln -s busybox "$work/initrd/bin/$name"
done
install "$here/machine-init.sh" "$work/initrd/init"
number=100
for module in virtio_pci virtio_blk virtio_net virtio_console qemu_fw_cfg; do
    while read -r insmod path; do
        [[ $insmod == insmod ]] || continue
        [[ -z $(find "$work/initrd/modules" -name "*-${path##*/}") ]] || continue
        cp "$view$path" "$work/initrd/modules/$((number++))-${path##*/}"
    done < <(chroot "$view" modprobe --set-version "$version" --show-depends "$module")
done
mkdir "$view/initrd"
mount --bind "$work/initrd" "$view/initrd"
chroot "$view" sh -c 'cd /initrd && find . | cpio --quiet -o -H newc' >"$target/initrd"
umount "$view/initrd" "$view/dev" "$view/proc"
rmdir "$view/initrd"

truncate -s 4G "$work/root.img"
mkfs.ext4 -q -F -L root -E lazy_itable_init=0 -d "$view" "$work/root.img"
mv "$work/root.img" "$target"
