#!/bin/busybox sh
# The guest's init process: sets up the system, runs /job, and reports when it is done.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/sbin:/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
# Kernel messages must not interrupt test output.
dmesg -n 1
# The second serial line controls the card's process. It is held open to keep its settings.
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
chmod 666 /dev/ttyS1
# Files that an earlier boot of this machine saved.
[ -e /saved ] && base64 -d </saved | tar -x -C /

for function in /sys/bus/pci/devices/*; do
    case $(cat "$function/vendor"):$(cat "$function/device") in
        0x1d0f:0xf001 | 0x10ee:0x90*) XDMA_CARD=${function##*/} ;;
    esac
done
export XDMA_CARD XDMA_TEST_CONTROL=/dev/ttyS1

# load_modules: loads all modules, in the order of their numbers.
load_modules() {
    for module in /modules/*.ko; do insmod "$module" || echo "vm: cannot load $module"; done
}

# install_modules: installs the modules for modprobe.
install_modules() {
    dir=/lib/modules/$(uname -r)
    mkdir -p "$dir"
    for module in /modules/*.ko; do cp "$module" "$dir/${module##*/[0-9]-}"; done
    # The full path, since busybox would run its own applet.
    /usr/sbin/depmod
}

# start_like_debian: starts the parts of systemd that load modules, manage devices and create files.
start_like_debian() {
    install_modules
    /usr/lib/systemd/systemd-modules-load
    /usr/lib/systemd/systemd-udevd --daemon
    udevadm trigger --action=add
    udevadm settle
    systemd-tmpfiles --create --prefix=/sys
}

# save PATH...: saves files for the next boot of this machine.
save() {
    echo "vm: save"
    tar -c -C / "$@" | base64
    echo "vm: saved"
}

# check NAME COMMAND...: runs a command as a test.
check() {
    echo "vm: begin root check $1"
    name=$1
    shift
    "$@" 2>&1 && echo "test result: ok. 1 passed;"
    echo "vm: end root check $name $?"
}

# ended STATUS TEST: reports the end of a test. The processes of a test that was killed would keep the card.
ended() {
    [ "$1" != 137 ] || kill -KILL -1
    echo "vm: end $2 $1"
}

# run MODE SECONDS PROGRAM TEST: runs one test in its own process, in a VFIO mode.
run() {
    echo "vm: begin $1 $3 $4"
    XDMA_VFIO=$1 timeout -s KILL "$2" "/bin/$3" --exact "$4" --nocapture --test-threads=1 2>&1
    ended $? "$1 $3 $4"
}

# as USER COMMAND: runs a command as an unprivileged user who may lock 64 MiB. The user tester is in the group fpga, stranger is not.
as() {
    (
        ulimit -l 65536
        user=$1
        shift
        su "$user" -s /bin/sh -c "$*"
    )
}

# run_as USER ...: like run, as that user.
run_as() {
    echo "vm: begin $2 $4 $5"
    export XDMA_VFIO=$2
    as "$1" timeout -s KILL "$3" "/bin/$4" --exact "$5" --nocapture --test-threads=1 2>&1
    ended $? "$2 $4 $5"
    unset XDMA_VFIO
}

echo "vm: card $XDMA_CARD, up after $(cut -d' ' -f1 /proc/uptime) s"
. /job
echo "vm: done after $(cut -d' ' -f1 /proc/uptime) s"
poweroff -f
