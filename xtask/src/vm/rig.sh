#!/bin/bash
# Builds the components of the virtual machines in the directory DIR, without root:
#
#   rig.sh fetch DIR    downloads and unpacks QEMU, a Debian kernel and its sources, and removes older or incomplete rigs next to DIR
#   rig.sh build DIR    builds the kernel's VFIO modules with options that Debian disables: no-IOMMU, and cdev with iommufd
#
# The result: `qemu-system-x86_64` and `udevadm` (programs for the host), `debian/` (kmod, systemd and udev for the guest), `vmlinuz`,
# `busybox` and `modules/`.
set -euo pipefail

# The host's compiler builds the modules from this release's sources, so the host must run the same release.
release=bookworm
series=6.12
# The cloud flavour is smaller and boots as fast, but does not support AMD's IOMMU.
flavour=amd64
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

mkdir -p "$2"
dir=$(readlink -f "$2")
root=$dir/work/root
source=$dir/work/source/linux-source-$series

# Prints the mirror that the host's apt uses for the suite $1.
mirror() {
    apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk -v suite="$1" '$2 == suite && !n++ { print $1 }'
}

# use_apt NAME SOURCE...: configures an apt with private lists, packages and lock. Only the access to mirrors (proxies, credentials) is
# taken from the host's configuration.
use_apt() {
    local apt=$dir/work/apt-$1
    shift
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,etc/{apt.conf.d,preferences.d},log}
    : >"$apt/status"
    printf "deb [signed-by=$keyring] %s main\n" "$@" >"$apt/etc/sources.list"
    unset APT_CONFIG
    apt-config dump --format '%f "%v";%n' Acquire::http Acquire::https >"$apt/apt.conf"
    cat >>"$apt/apt.conf" <<END
Dir::State "$apt/state"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache";
Dir::Etc "$apt/etc"; Dir::Log "$apt/log"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Install-Recommends "false"; APT::Architecture "amd64"; APT::Sandbox::User "root"; APT::Update::Error-Mode "any";
Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "30";
END
    export APT_CONFIG=$apt/apt.conf
}

# unpack FOLDER DEB...: unpacks packages without running their scripts.
unpack() {
    local folder=$1 package
    shift
    for package in "$@"; do dpkg-deb -x "$package" "$folder"; done
}

# unpack_with_dependencies FOLDER PACKAGE...
unpack_with_dependencies() {
    local folder=$1 archives=${APT_CONFIG%/*}/cache/archives
    shift
    apt-get -qq install --yes --download-only "$@" >/dev/null
    unpack "$folder" "$archives"/*.deb
    rm "$archives"/*.deb
}

# program NAME FOLDER OPTION...: creates a script NAME that runs Debian's program of that name from FOLDER, with its own loader and
# libraries.
program() {
    local name=$1 folder=$2
    shift 2
    cat >"$dir/$name" <<END
#!/bin/sh
D=\$(dirname "\$(readlink -f "\$0")")/$folder
L=\$D/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR=\$L/qemu
exec \$L/ld-linux-x86-64.so.2 --argv0 $name --library-path \$L:\$L/systemd \$D/usr/bin/$name $* "\$@"
END
    chmod +x "$dir/$name"
}

fetch_programs() {
    # QEMU supports vfio-user since 10.1.
    use_apt programs "$main trixie" "$main trixie-backports"
    printf 'Package: qemu-* seabios ipxe-qemu\nPin: release n=trixie-backports\nPin-Priority: 990\n' \
        >"${APT_CONFIG%/*}/etc/preferences"
    apt-get -qq update
    unpack_with_dependencies "$dir/qemu" qemu-system-x86
    unpack_with_dependencies "$dir/debian" kmod systemd udev
    program qemu-system-x86_64 qemu -L '$D/usr/share/qemu' -L '$D/usr/share/seabios'
    program udevadm debian
}

fetch_kernel() {
    use_apt kernel "$main $release" "${security:-$main-security} $release-security"
    apt-get -qq update
    local image version common debs=$dir/work/debs
    image=$(apt-cache depends "linux-image-$series-$flavour" | awk '/Depends: linux-image-/ && !n++ { print $2 }')
    version=${image#linux-image-}
    common=${version%-$flavour}
    mkdir -p "$debs" "$dir/work/source"
    (cd "$debs" && apt-get -qq download "$image" "linux-headers-$version" "linux-headers-$common-common" \
        "linux-kbuild-$common" busybox-static "linux-source-$series")
    # Unpack only the sources that are rebuilt: all of them would be 1.6 GB.
    dpkg-deb --fsys-tarfile "$debs"/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" | xz -T0 -dc |
        tar -x -C "$dir/work/source" "linux-source-$series"/{drivers/vfio,drivers/iommu,lib/interval_tree.c}
    rm "$debs"/linux-source-*.deb
    unpack "$root" "$debs"/*.deb
    cp "$root/boot/vmlinuz-$version" "$dir/vmlinuz"
    cp "$root/bin/busybox" "$dir/busybox"
    echo "$version" >"$dir/work/version"
}

fetch() {
    rm -rf "${dir%/*}"/vm-*
    mkdir -p "$dir"
    . /etc/os-release
    if [ "${VERSION_CODENAME:-}" != "$release" ]; then
        echo "the modules are built from the sources of Debian $release with its compiler, but this is $PRETTY_NAME" >&2
        exit 1
    fi
    main=$(mirror "$release")
    security=$(mirror "$release-security")
    [ -n "$main" ] || { echo "apt has no mirror of Debian $release configured" >&2; exit 1; }
    fetch_programs
    fetch_kernel
}

# Prints the part of the interval tree that iommufd needs and that Debian's kernel lacks.
span_iterator() {
    printf '#include <linux/interval_tree.h>\n#include <linux/compiler.h>\n'
    sed -n '/^#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER/,/^#endif/p' "$source/lib/interval_tree.c" | sed '1d; $d; /^EXPORT_SYMBOL/d'
}

build() {
    local version headers build=$root/build
    version=$(cat "$dir/work/version")
    headers=$root/usr/src/linux-headers-$version
    mkdir -p "$build" "$dir/modules"
    cp -r "$source"/drivers/{vfio,iommu/iommufd,iommu/iommu-priv.h} "$build"
    span_iterator >"$build/iommufd/span_iter.c"
    sed -i 's/^\tvfio_compat.o/\tvfio_compat.o span_iter.o/' "$build/iommufd/Makefile"
    echo 'obj-m += iommufd/ vfio/' >"$build/Kbuild"
    # The headers' makefile includes another one by its absolute path.
    sed -i "s#^include /usr/src#include $root/usr/src#" "$headers/Makefile"
    # Options that Debian's headers do not set must also be passed to the compiler.
    make -s -j"$(nproc)" -C "$headers" M="$build" \
        CONFIG_VFIO=m CONFIG_VFIO_GROUP=y CONFIG_VFIO_CONTAINER=y CONFIG_VFIO_VIRQFD=y CONFIG_VFIO_PCI=m \
        CONFIG_VFIO_PCI_CORE=m CONFIG_VFIO_IOMMU_TYPE1=m CONFIG_VFIO_NOIOMMU=y CONFIG_VFIO_DEVICE_CDEV=y CONFIG_IOMMUFD=m \
        CONFIG_INTERVAL_TREE_SPAN_ITER=y CONFIG_{DEBUG_INFO_BTF_MODULES,VFIO_MDEV,VFIO_PLATFORM_BASE,VFIO_DEBUGFS}= \
        CONFIG_{MLX5,PDS,VIRTIO,QAT,HISI_ACC,NVGRACE_GPU}_VFIO_PCI= \
        KCFLAGS="-DCONFIG_VFIO_NOIOMMU=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1" \
        modules
    # The numbers are the load order.
    xz -dc "$root/lib/modules/$version/kernel/virt/lib/irqbypass.ko.xz" >"$dir/modules/0-irqbypass.ko"
    local number=0 module
    for module in iommufd/iommufd vfio/vfio vfio/vfio_iommu_type1 vfio/pci/vfio-pci-core vfio/pci/vfio-pci; do
        number=$((number + 1))
        strip --strip-debug -o "$dir/modules/$number-${module##*/}.ko" "$build/$module.ko"
    done
    rm -r "$dir/work"
}

"$1"
