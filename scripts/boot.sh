#!/usr/bin/env bash
# boot.sh FOLDER COMMAND [ARGUMENT...]: runs a command on Debian's own kernel (6.1 in Debian 12), under QEMU without
# KVM. The machine has a few of Debian's programs, overlaid with the files in FOLDER. Prints what the command prints,
# and exits with its status; with 124 if the machine ended first, at the latest after BOOT_TIMEOUT seconds; with 77,
# after one line that says why, if there is nothing to boot.
#
# ARCH is Debian's name of the architecture. Debian's packages are unpacked below target/boot, not installed.
# Everything is in the initramfs, which needs neither root nor a kernel module.
set -euo pipefail
folder=$(realpath "${1:?boot.sh: expected the folder of files to bring along}")
shift
(($#)) || { echo 'boot.sh: expected a command to run' >&2; exit 2; }
cd "$(dirname "$0")/.."

skip() {
  echo "SKIPPED: Debian's kernel: $1"
  exit 77
}

command -v dpkg >/dev/null || skip 'not a Debian'
arch=${ARCH:-$(dpkg --print-architecture)}
case $arch in
  amd64) qemu=(qemu-system-x86_64) package=qemu-system-x86 console=ttyS0 ;;
  arm64) qemu=(qemu-system-aarch64 -M virt) package=qemu-system-arm console=ttyAMA0 ;;
  *) skip "ARCH is $arch, and only amd64 and arm64 can be booted" ;;
esac
scripts/install-packages.sh cpio "$package" || skip 'QEMU cannot be installed'
kernel=linux-image-cloud-$arch
programs=(bash busybox-static coreutils dash libstdc++6 mount python3.11 util-linux)
cache=$PWD/target/boot/$arch

# apt-get with separate lists, architecture and installed packages (none).
apt() {
  apt-get -qq -o Dir::State="$cache/apt" -o Dir::State::status="$cache/apt/status" -o Dir::Cache="$cache/apt" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User= "$@"
}

# The packages of the programs with their dependencies, and the package of the kernel without.
download() {
  local image
  apt update && apt install --yes --download-only --no-install-recommends "${programs[@]}" &&
    image=$(apt install --simulate --no-install-recommends "$kernel" | sed -n 's/^Inst \(linux-image-[0-9][^ ]*\) .*/\1/p') &&
    cd "$cache/kernel" && apt download "$image" && cd - >/dev/null
}

# archive FOLDER: packs the folder in the format that the kernel reads.
archive() { (cd "$1" && find . | cpio --quiet --create --format=newc --owner=0:0); }

# Start afresh: the folder may be from another version of this script, or incomplete.
if ! cmp -s scripts/boot.sh "$cache/.made-by"; then
  rm -rf "$cache"
  mkdir -p "$cache"/apt/{lists,archives}/partial "$cache"/{kernel,root}
  touch "$cache/apt/status"
  download >"$cache/log" 2>&1 || skip "it cannot be downloaded: $(grep -m 1 '^E:' "$cache/log" || tail -n 1 "$cache/log")"
  for file in "$cache"/apt/archives/*.deb; do dpkg-deb --extract "$file" "$cache/root"; done
  dpkg-deb --extract "$cache"/kernel/*.deb "$cache/kernel"
  mv "$cache"/kernel/boot/vmlinuz-* "$cache/vmlinuz"

  # Compiled files save seconds there. Python ignores them if this python3 is another release.
  python3 -m compileall -q "$cache/root/usr/lib/python3.11" >/dev/null || true
  rm -rf "$cache"/{apt,kernel} "$cache"/root/usr/share/{doc,locale,man}
  mkdir -p "$cache"/root/{dev,freezer,proc,sys,tmp}
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
echo +pids >/sys/fs/cgroup/cgroup.subtree_control
mount -t cgroup -o freezer freezer /freezer
ln -s /proc/self/fd /dev/fd
ln -s python3.11 /usr/bin/python3
busybox ip link set lo up
# Not directly to the console, which is a terminal.
{ bash /command </dev/null 2>&1 || echo "$?" >/status; } | cat
echo "boot: status $(cat /status 2>/dev/null || echo 0)"
busybox poweroff -f
INIT
  chmod +x "$cache/root/init"
  archive "$cache/root" >"$cache/root.cpio"
  rm -rf "$cache/root"
  cp scripts/boot.sh "$cache/.made-by"
fi

work=$(mktemp -d -p "$cache")
trap 'rm -rf "$work"' EXIT
mkdir "$work/command"
printf '%q ' "$@" >"$work/command/command"
# The kernel unpacks one archive after another.
{ cat "$cache/root.cpio" && archive "$folder" && archive "$work/command"; } >"$work/initrd"
limit=${BOOT_TIMEOUT:-600}
# --foreground: Ctrl-C ends the machine too.
timeout --foreground "$limit" "${qemu[@]}" -cpu max -accel tcg,thread=multi -smp 2 -m 3G -nodefaults -display none -serial stdio \
  -no-reboot -kernel "$cache/vmlinuz" -initrd "$work/initrd" -append "console=$console quiet panic=-1" </dev/null |
  sed -u 's/\r*$//' | tee "$work/said" | sed -u '/^boot: status /,$d' || true
status=$(sed -n 's/^boot: status \([0-9]*\)$/\1/p' "$work/said")
[[ $status ]] || { echo "boot.sh: the machine ended before the command did; it may take BOOT_TIMEOUT, $limit s" >&2; exit 124; }
exit "$status"
