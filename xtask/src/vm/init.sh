#!/bin/busybox sh
# The first process of a virtual machine: mounts what a host has mounted, loads modules, runs /job.sh, powers off.
# The host reads the console; lines that start with @@ are for it.

/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
# /usr/sbin: what came from the host. Programs find it before what busybox has; the shell runs its own.
export PATH=/usr/sbin:/bin HOME=/root TERM=dumb RUST_BACKTRACE=1

mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
ulimit -n 65536

# section NAME COMMAND…: runs a command; the host finds its output and exit status under the name.
section() {
    name=$1
    shift
    echo "@@ begin $name"
    "$@"
    status=$?
    printf '\n@@ end %s %s\n' "$name" "$status"
}

load_modules() {
    failed=0
    for module in $(cat /modules/order); do
        insmod "/modules/$module.ko" || failed=1
    done
    return $failed
}

echo "@@ booted"
section modules load_modules
(. /job.sh) </dev/null
# Complaints of the kernel about itself, such as a warning with a stack trace.
section kernel-warnings sh -c "dmesg | grep -E -A 30 'WARNING:|BUG:|Oops|rcu.*stall' | head -60"
poweroff -f
