#!/bin/sh
# Installs libxdma for C and C++ programs: the header, the static and the shared library, the pkg-config file and the manual page.
#
#     install.sh PREFIX [ARCHIVE]
#
# PREFIX is a directory such as /usr/local. ARCHIVE is a build of the library, libxdma_capi.a; without it, the release build is made first,
# which needs cargo. The shared library is linked with `cc`. DESTDIR is put before PREFIX, as in other packages.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 PREFIX [ARCHIVE]" >&2
    exit 2
fi
prefix=$1
here=$(cd "$(dirname "$0")" && pwd)
# In the workspace, the version and the build directory are those of the workspace.
workspace=$here/../..
[ -f "$workspace/crates/capi/install.sh" ] || workspace=$here
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$workspace/Cargo.toml" | head -n 1)
# What `rustc --print native-static-libs` lists for the archive.
libraries="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

if [ $# = 2 ]; then
    archive=$2
else
    cargo build --release --package xdma-capi --manifest-path "$workspace/Cargo.toml"
    archive=${CARGO_TARGET_DIR:-$workspace/target}/release/libxdma_capi.a
fi

root=${DESTDIR:-}$prefix
mkdir -p "$root/include" "$root/lib/pkgconfig" "$root/share/man/man3"
install -m 644 "$here/include/xdma.h" "$root/include/xdma.h"
install -m 644 "$archive" "$root/lib/libxdma.a"

# rustc cannot give symbols a version, so the shared library is linked here. It stays loaded after `dlclose`: a card that is still open has
# threads that run its code.
${CC:-cc} -shared -o "$root/lib/libxdma.so.$version" -Wl,-soname,libxdma.so.0 -Wl,--version-script="$here/xdma.map" \
    -Wl,--whole-archive "$root/lib/libxdma.a" -Wl,--no-whole-archive -Wl,--gc-sections -Wl,--no-undefined \
    -Wl,-z,relro,-z,now,-z,nodelete $libraries
ln -sf "libxdma.so.$version" "$root/lib/libxdma.so.0"
ln -sf libxdma.so.0 "$root/lib/libxdma.so"

sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" -e "s|@LIBRARIES@|$libraries|" \
    "$here/xdma.pc.in" >"$root/lib/pkgconfig/xdma.pc"

# `man xdma_submit` shows the same page.
install -m 644 "$here/man/libxdma.3" "$root/share/man/man3/libxdma.3"
for function in $(sed -n 's/^ *\(xdma_[a-z0-9_]*\);$/\1/p' "$here/xdma.map"); do
    ln -sf libxdma.3 "$root/share/man/man3/$function.3"
done
