#!/bin/sh
# Builds a Debian package of the tools: xdma, vfio-setup, the preload library of `xdma run`, manual pages, completions, udev rules, JSON
# schemas, and an example of a systemd unit.
#
#     packaging/deb.sh OUT [BUILD]
#
# OUT is the directory for the package. BUILD is the directory of the built programs; without it, a release build is made first, which
# needs cargo. DEBEMAIL is the maintainer's address, as for Debian's own tools. Needs dpkg-deb, objdump and strip.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 OUT [BUILD]" >&2
    exit 2
fi
workspace=$(cd "$(dirname "$0")/.." && pwd)
out=$1
if [ $# = 2 ]; then
    build=$2
else
    cargo build --release --manifest-path "$workspace/Cargo.toml" --package xdma-cli --package vfio-setup --package xdma-preload
    build=${CARGO_TARGET_DIR:-$workspace/target}/release
fi
# Tests build the library as a dependency.
library=$build/libxdma_preload.so
[ -f "$library" ] || library=$build/deps/libxdma_preload.so
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$workspace/Cargo.toml" | head -n 1)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
doc=$tree/usr/share/doc/xdma
umask 022
mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$tree/usr/lib/xdma" "$tree/usr/lib/udev/rules.d" "$doc/examples" \
    "$tree/usr/share/man/man1" "$tree/usr/share/xdma" "$tree/usr/share/bash-completion/completions" \
    "$tree/usr/share/zsh/vendor-completions" "$tree/usr/share/fish/vendor_completions.d"

strip -o "$tree/usr/bin/xdma" "$build/xdma"
strip -o "$tree/usr/bin/vfio-setup" "$build/vfio-setup"
chmod 755 "$tree"/usr/bin/*
strip --strip-unneeded -o "$tree/usr/lib/xdma/libxdma_preload.so" "$library"
chmod 644 "$tree/usr/lib/xdma/libxdma_preload.so"

for tool in xdma vfio-setup; do
    "$tree/usr/bin/$tool" man --dir "$tree/usr/share/man/man1" >/dev/null
    "$tree/usr/bin/$tool" completions bash >"$tree/usr/share/bash-completion/completions/$tool"
    "$tree/usr/bin/$tool" completions zsh >"$tree/usr/share/zsh/vendor-completions/_$tool"
    "$tree/usr/bin/$tool" completions fish >"$tree/usr/share/fish/vendor_completions.d/$tool.fish"
done
gzip -9n "$tree"/usr/share/man/man1/*.1
install -m 644 "$workspace/udev/60-xdma.rules" "$tree/usr/lib/udev/rules.d/60-xdma.rules"
install -m 644 "$workspace/packaging/xdma-bind@.service" "$doc/examples/xdma-bind@.service"
cp -r "$workspace/docs/schemas" "$tree/usr/share/xdma/schemas"
rm -f "$tree"/usr/share/xdma/schemas/example-*.json
gzip -9nc "$workspace/CHANGELOG.md" >"$doc/CHANGELOG.md.gz"
maintainer="The xdma authors <${DEBEMAIL:-root@localhost}>"
gzip -9nc >"$doc/changelog.gz" <<END
xdma ($version) unstable; urgency=medium

  * CHANGELOG.md.gz lists the changes.

 -- $maintainer  $(date -R -r "$workspace/CHANGELOG.md")
END
{
    echo "Licensed under either of the Apache License, Version 2.0"
    echo "(/usr/share/common-licenses/Apache-2.0) or the MIT license, at your option."
    echo
    cat "$workspace/LICENSE-MIT"
} >"$doc/copyright"

libc=$(objdump -T "$tree"/usr/bin/* "$tree/usr/lib/xdma/libxdma_preload.so" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f 1)
cat >"$tree/DEBIAN/control" <<END
Package: xdma
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: $maintainer
Installed-Size: $size
Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1, passwd
Recommends: udev
Section: utils
Priority: optional
Homepage: $(sed -n 's/^repository = "\(.*\)"/\1/p' "$workspace/Cargo.toml")
Description: tools for XDMA FPGA cards, without the kernel module
 The program xdma inspects, benchmarks, monitors and emulates cards with
 the Xilinx XDMA core, moves data to and from them, and runs programs that
 were written for the device files of the kernel module. The program
 vfio-setup binds cards to vfio-pci, and finds out why a card cannot be
 opened.
END
cat >"$tree/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
# The udev rules give the cards to this group.
if [ "$1" = configure ] && ! getent group fpga >/dev/null; then
    groupadd --system fpga
fi
if [ "$1" = configure ] && [ -e /run/udev/control ]; then
    udevadm control --reload || true
fi
END
chmod 755 "$tree/DEBIAN/postinst"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

mkdir -p "$out"
dpkg-deb --root-owner-group --build "$tree" "$out/xdma_${version}_$(dpkg --print-architecture).deb"
