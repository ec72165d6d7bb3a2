#!/usr/bin/env bash
# build.sh FOLDER [TARGET]: builds the files that `make install` installs, in FOLDER: the shared library, the sealed
# archive, the program, and the files for pkg-config and CMake. For this machine, or for TARGET, a Rust target for Linux
# (see cross.sh).
set -euo pipefail
# The library that zig links for -lunwind: LLVM's unwinder, which it compiles into its cache.
unwinder() {
  local cache=$PWD/target/cross/unwinder-$arch
  mkdir -p "$cache"
  echo 'int main(void) { return 0; }' >"$cache/main.c"
  scripts/cross.sh env env ZIG_GLOBAL_CACHE_DIR="$cache" ZIG_LOCAL_CACHE_DIR="$cache" \
    python-zig cc -O2 -target "$arch-linux-musl" "$cache/main.c" -lunwind -o "$cache/main"
  find "$cache" -name libunwind.a
}

folder=${1:?build.sh: expected a folder}
target=${2:-}
cd "$(dirname "$0")/.."
capi=crates/parentwatch-capi
name=liblocalai_parentwatch
flags=${RUSTFLAGS:-}
more=()

# Package by package: otherwise features of other workspace members would leak into the shipped files.
library=(rustc --quiet --locked -p parentwatch-capi --profile release-library --crate-type "cdylib,staticlib")
program=(build --quiet --locked -p parentwatch-cli --profile release-program)

if [[ -z $target ]]; then
  scripts/require-toolchains.sh rust
  # Panic messages would contain the paths of the dependencies on this machine: replace them.
  flags+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  pointer_bytes=$(($(rustc --print cfg | sed -n 's/^target_pointer_width="\(.*\)"/\1/p') / 8))
  libraries=$(scripts/native-static-libs.sh)
  built=target
  built_program=target/$host
  RUSTFLAGS=$flags cargo "${library[@]}"
  # Static, so that it runs in an empty folder.
  RUSTFLAGS="$flags -C target-feature=+crt-static" cargo "${program[@]}" --target "$host"
else
  arch=${target%%-*}
  export BINUTILS=$arch-linux-gnu- CXX="scripts/cross.sh env python-zig c++ -target ${target/-unknown}"
  scripts/install-packages.sh "binutils-${arch/_/-}-linux-gnu"
  if [[ $arch != "$(uname -m)" ]]; then
    scripts/install-packages.sh qemu-user-static "libc6-$(dpkg-architecture -t "$arch-linux-gnu" -q DEB_HOST_ARCH)-cross"
    export EMULATOR="qemu-$arch-static -L /usr/$arch-linux-gnu"
  fi
  # So that neither library contains a libc.
  [[ $target != *-musl ]] || flags+=' -C target-feature=-crt-static'
  pointer_bytes=8
  # A glibc target may end in the oldest glibc release.
  built=target/cross/${target%%.*}
  built_program=target/cross/$arch-unknown-linux-musl
  said=$(RUSTFLAGS=$flags scripts/cross.sh rustc "$target" "${library[@]:1}" -- --print native-static-libs 2>&1) ||
    { echo "$said" >&2 && exit 1; }
  libraries=$(sed -n 's/^note: native-static-libs: //p' <<<"$said")
  if [[ $target == *-musl ]]; then
    # The archive contains the unwinder: libgcc_s is never static, and Debian's libgcc_eh needs glibc.
    libraries=${libraries/-lgcc_s /}
    mapfile -t more < <(unwinder)
  fi
  # Rust's own start-up files come only with the prebuilt standard library. zig has its own.
  RUSTFLAGS="${RUSTFLAGS:-} -C link-self-contained=no" \
    scripts/cross.sh build "$arch-unknown-linux-musl" "${program[@]:1}"
fi

mkdir -p "$folder"
install -m 755 "$built/release-library/$name.so" "$folder/$name.so"
install -m 755 "$built_program/release-program/localai-parentwatch" "$folder/localai-parentwatch"
scripts/seal-archive.sh "$built/release-library/$name.a" "$folder/$name.so" "$folder/$name.a" "$libraries" \
  "${more[@]}"

[[ $libraries ]] || { echo 'build: rustc did not tell the system libraries' >&2 && exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The number in the SONAME: see crates/parentwatch-capi/build.rs.
abi=$(readelf -dW "$folder/$name.so" | sed -nE 's/.*\(SONAME\).*\.so\.([0-9]+)\]/\1/p')
fill() {
  sed -e "s|@VERSION@|$version|" -e "s|@MAJOR_MINOR@|${version%.*}|" -e "s|@ABI@|$abi|" \
    -e "s|@NATIVE_STATIC_LIBS@|$2|" -e "s|@POINTER_BYTES@|$pointer_bytes|" "$1"
}
fill $capi/localai_parentwatch.pc.in "$libraries" >"$folder/localai_parentwatch.pc"
for file in config config-version; do
  fill "$capi/cmake/localai_parentwatch-$file.cmake.in" "${libraries// /;}" >"$folder/localai_parentwatch-$file.cmake"
done
