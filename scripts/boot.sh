#!/usr/bin/env bash
# boot.sh FOLDER COMMAND [ARGUMENT...]: runs a command on Debian's own kernel (6.1 in Debian 12), under QEMU without
# KVM. The machine has a few of Debian's programs, and over them what the folder holds. Prints what the command
# prints, and ends with its status; with 124 when it has not ended within BOOT_TIMEOUT seconds.
#
# ARCH is Debian's name of the architecture. Debian's packages are unpacked below target/boot and not installed.
# Everything is in the initramfs: that takes neither root nor a kernel module.
set -euo pipefail
folder=$(realpath "${1:?boot.sh: expected the folder of files to bring along}")
shift
(($#)) || { echo 'boot.sh: expected a command to run' >&2; exit 2; }
cd "$(dirname "$0")/.."

arch=${ARCH:-$(dpkg --print-architecture)}
case $arch in
  amd64) qemu=(qemu-system-x86_64) console=ttyS0 ;;
  arm64) qemu=(qemu-system-aarch64 -M virt) console=ttyAMA0 ;;
  *) echo "boot.sh: cannot boot $arch; expected ARCH to be amd64 or arm64" >&2; exit 2 ;;
esac
kernel=linux-image-cloud-$arch
packages=(bash busybox-static coreutils dash libstdc++6 mount python3.11 util-linux)
cache=$PWD/target/boot/$arch

# apt-get with lists, an architecture and installed packages (none) of its own.
apt() {
  apt-get -qq -o Dir::State="$cache/apt" -o Dir::State::status="$cache/apt/status" -o Dir::Cache="$cache/apt" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User= "$@"
}

# archive FOLDER: what it holds, as the kernel reads it.
archive() { (cd "$1" && find . | cpio --quiet --create --format=newc --owner=0:0); }

# What is there was made by another edition of this script, or not to its end.
if ! cmp -s "$0" "$cache/.made-by"; then
  rm -rf "$cache"
  mkdir -p "$cache"/apt/{lists,archives}/partial "$cache"/{kernel,root}
  touch "$cache/apt/status"
  apt update
  apt install --yes --download-only --no-install-recommends "${packages[@]}"
  for package in "$cache"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$cache/root"; done
  image=$(apt install --simulate --no-install-recommends "$kernel" | sed -n 's/^Inst \(linux-image-[0-9][^ ]*\) .*/\1/p')
  (cd "$cache/kernel" && apt download "$image" && dpkg-deb --extract ./*.deb .)
  mv "$cache"/kernel/boot/vmlinuz-* "$cache/vmlinuz"

  # The cache of the compiler is worth seconds there; where this python3 is of another release, nobody reads it.
  python3 -m compileall -q "$cache/root/usr/lib/python3.11" >/dev/null || true
  rm -rf "$cache"/{apt,kernel} "$cache"/root/usr/share/{doc,locale,man}
  mkdir -p "$cache"/root/{dev,proc,sys,tmp}
  cat >"$cache/root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s python3.11 /usr/bin/python3
busybox ip link set lo up
status=0
bash /command || status=$?
echo "boot: status $status"
busybox poweroff -f
INIT
  chmod +x "$cache/root/init"
  archive "$cache/root" >"$cache/root.cpio"
  rm -rf "$cache/root"
  cp "$0" "$cache/.made-by"
fi

work=$(mktemp -d -p "$cache")
trap 'rm -rf "$work"' EXIT
mkdir "$work/command"
printf '%q ' "$@" >"$work/command/command"
# The kernel unpacks one archive after the other.
{ cat "$cache/root.cpio" && archive "$folder" && archive "$work/command"; } >"$work/initrd"
timeout "${BOOT_TIMEOUT:-600}" "${qemu[@]}" -cpu max -accel tcg,thread=multi -smp 2 -m 2G -nodefaults -display none \
  -serial stdio -no-reboot -kernel "$cache/vmlinuz" -initrd "$work/initrd" \
  -append "console=$console quiet panic=-1" </dev/null | tr -d '\r' | tee "$work/said" | sed "/^boot: status /,\$d" || true
exit "$(sed -n 's/^boot: status \([0-9]*\)$/\1/p' "$work/said" | grep . || echo 124)"
