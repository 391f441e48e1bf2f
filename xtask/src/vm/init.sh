#!/bin/busybox sh
# The guest's first process: makes a system of it, does what /job says, and says that it is done.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/sbin:/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
# A line of the kernel's in the middle of one of ours could not be judged.
dmesg -n 1
# Orders to the card's process go through the second serial line; held open, so that it stays as it is set.
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
chmod 666 /dev/ttyS1
# What an earlier boot of this machine left.
[ -e /carried ] && base64 -d </carried | tar -x -C /

for function in /sys/bus/pci/devices/*; do
    case $(cat "$function/vendor"):$(cat "$function/device") in
        0x1d0f:0xf001 | 0x10ee:0x903f) XDMA_CARD=${function##*/} ;;
    esac
done
export XDMA_CARD XDMA_TEST_CONTROL=/dev/ttyS1

# load_modules: all of them, in the order of their numbers.
load_modules() {
    for module in /modules/*.ko; do insmod "$module" || echo "vm: no module $module"; done
}

# install_modules: to where modprobe looks.
install_modules() {
    folder=/lib/modules/$(uname -r)
    mkdir -p "$folder"
    for module in /modules/*.ko; do cp "$module" "$folder/${module##*/[0-9]-}"; done
    # By its path: busybox would take its own.
    /usr/sbin/depmod
}

# start_like_debian: what systemd starts of what it has for modules, devices and files.
start_like_debian() {
    install_modules
    /usr/lib/systemd/systemd-modules-load
    /usr/lib/systemd/systemd-udevd --daemon
    udevadm trigger --action=add
    udevadm settle
    systemd-tmpfiles --create --prefix=/sys
}

# carry PATH...: leaves files for the next boot of this machine.
carry() {
    echo "vm: carry"
    tar -c -C / "$@" | base64
    echo "vm: carried"
}

# check NAME COMMAND...: a test that is a command.
check() {
    echo "vm: begin root check $1"
    name=$1
    shift
    "$@" 2>&1 && echo "test result: ok. 1 passed;"
    echo "vm: end root check $name $?"
}

# run MODE SECONDS PROGRAM TEST: one test, in a process of its own, in a VFIO mode.
run() {
    echo "vm: begin $1 $3 $4"
    XDMA_VFIO=$1 timeout -s KILL "$2" "/bin/$3" --exact "$4" --nocapture --test-threads=1 2>&1
    echo "vm: end $1 $3 $4 $?"
}

# as_tester COMMAND: as a user without privileges, in the group fpga, who may lock 64 MiB.
as_tester() {
    (
        ulimit -l 65536
        su tester -s /bin/sh -c "$*"
    )
}

# run_as_tester: the same as run, as that user.
run_as_tester() {
    echo "vm: begin $1 $3 $4"
    export XDMA_VFIO=$1
    as_tester timeout -s KILL "$2" "/bin/$3" --exact "$4" --nocapture --test-threads=1 2>&1
    echo "vm: end $1 $3 $4 $?"
    unset XDMA_VFIO
}

echo "vm: card $XDMA_CARD, up after $(cut -d' ' -f1 /proc/uptime) s"
. /job
echo "vm: done after $(cut -d' ' -f1 /proc/uptime) s"
poweroff -f
