#!/bin/bash
# Creates the guest's file systems, as archives that the kernel unpacks in sequence:
#
#   image.sh small RIG OUT PROGRAM...     busybox, the modules, and programs with the host's libraries
#   image.sh debian RIG OUT PROGRAM...    the same, with Debian's kmod, udev and systemd, the host's dpkg, and the Debian package /xdma.deb
#   image.sh programs RIG OUT LIBXDMA MODULE
#                                         those of dd, fio, Python and numpy that the host has; the C programs of crates/preload; libxdma,
#                                         from a build of crates/capi, with its test programs; the Python module, whose native part is MODULE
#   image.sh job RIG OUT JOB SAVED        the script of one boot, and files that an earlier boot saved
set -euo pipefail

kind=$1 rig=$2 out=$3
shift 3
here=$(dirname "$(readlink -f "$0")")
tree=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

add_common() {
    mkdir -p "$tree"/{bin,dev,etc,modules,proc,run,sys,tmp}
    install "$here/init.sh" "$tree/init"
    cp "$rig/busybox" "$tree/bin"
    cp "$rig"/modules/*.ko "$tree/modules"
    cat >"$tree/etc/passwd" <<END
root:x:0:0::/:/bin/sh
tester:x:1000:1000::/:/bin/sh
stranger:x:1001:1001::/:/bin/sh
END
    cat >"$tree/etc/group" <<END
root:x:0:
tester:x:1000:
stranger:x:1001:
fpga:x:2000:tester
END
    # Without symbols they are a third of the size. The names of Cargo's test programs end in a hash.
    local program name
    for program in "$@"; do
        name=$(basename "$program" | sed -E 's/-[0-9a-f]{16}$//')
        strip -o "$tree/bin/$name" "$program"
    done
}

case $kind in
small)
    add_common "$@"
    ldd "$@" | grep -o '/[^ :]*\.so[^ :]*' | sort -u | xargs cp -L --parents -t "$tree"
    ;;
debian)
    cp -a "$rig/debian/." "$tree"
    rm -rf "$tree"/usr/share/{doc,man,locale}
    for dir in bin sbin lib lib64; do
        [ -e "$tree/$dir" ] || ln -s "usr/$dir" "$tree/$dir"
    done
    add_common "$@"
    # The host's release is older than that of the tree, so programs of the host run with the libraries of the tree.
    package=(/usr/bin/{dpkg,dpkg-deb,dpkg-query,getent,tar} /usr/sbin/{groupadd,ldconfig,start-stop-daemon} /usr/share/dpkg)
    (cd / && cp -an --parents "${package[@]#/}" "$tree")
    ldd "${package[@]:0:6}" | grep -o '/[^ :]*\.so[^ :]*' | sort -u | while read -r library; do
        [ -e "$tree/usr/lib/x86_64-linux-gnu/${library##*/}" ] || cp -L "$library" "$tree/usr/lib/x86_64-linux-gnu"
    done
    mkdir -p "$tree"/var/lib/dpkg/{info,updates} && : >"$tree/var/lib/dpkg/status"
    "$here/../../../packaging/deb.sh" "$tree" "$(dirname "$4")" >/dev/null
    mv "$tree"/xdma_*.deb "$tree/xdma.deb"
    ;;
programs)
    paths=(/usr/bin/dd /usr/bin/fio /usr/lib/python3/dist-packages/numpy)
    if python=$(readlink -e /usr/bin/python3); then
        paths+=(/usr/bin/python3 "$python" "/usr/lib/${python##*/}")
    fi
    for path in "${paths[@]}"; do
        [ ! -e "$path" ] || (cd / && cp -a --parents "${path#/}" "$tree")
    done
    crates=$here/../../../crates
    mkdir -p "$tree/usr/bin" "$tree/usr/lib"
    for name in calls packets stdio; do
        cc -O2 -pthread -o "$tree/usr/bin/$name" "$crates/preload/tests/programs/$name.c"
    done
    "$crates/capi/install.sh" "$tree/libxdma" "$1"
    for name in diagnosis ends memory msm random streams threads; do
        cc -D_DEFAULT_SOURCE -pthread -o "$tree/usr/bin/libxdma-$name" "$crates/capi/tests/programs/$name.c" \
            -I"$tree/libxdma/include" -L"$tree/libxdma/lib" -lxdma
    done
    strip -o "$tree/usr/lib/libxdma.so.0" "$tree/libxdma/lib/libxdma.so.0"
    rm -r "$tree/libxdma"
    module=$tree/usr/lib/python3/dist-packages/xdma
    mkdir -p "$module"
    cp "$crates"/python/python/xdma/*.py "$module"
    strip -o "$module/_xdma.abi3.so" "$2"
    rm -rf "$tree"/usr/lib/python3*/{config-*,ensurepip,lib2to3,pydoc_data,test}
    find "$tree" -type d -name tests -prune -exec rm -r {} +
    find "$tree" -type f \( -path '*/bin/*' -o -name '*.so' \) -exec ldd {} + |
        grep -o '/[^ :]*\.so[^ :]*' | grep -v "^$tree" | sort -u | xargs cp -L --parents -t "$tree"
    ;;
job)
    cp "$1" "$tree/job"
    [ ! -s "$2" ] || cp "$2" "$tree/saved"
    ;;
esac
cd "$tree"
find . | "$rig/busybox" cpio --quiet -o -H newc -R 0:0 >"$out"
