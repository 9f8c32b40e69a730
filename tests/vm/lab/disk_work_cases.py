# SPDX-License-Identifier: MIT
"""Disks on both transports: roots, what a guest sees of a disk, a driver that comes and goes."""
import os
import select
import signal
import subprocess

from disk_cases import copy_of_debian, place, run_on_debian
from harness import LONG, Skipped, case, check, check_says, check_status, tail

MIB = 1 << 20


def image(lab, name, mib, fill=False):
    path = os.path.join(place(lab), name)
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
        for _ in range(mib if fill else 0):
            f.write(b"\xa5" * MIB)
    return path


def run_on_backport(lab, transport):
    if not lab.backport:
        raise Skipped("host: the package archive has no newer cloud kernel")
    path = copy_of_debian(lab, "root-backport-" + transport)
    run_on_debian(lab, path, lab.backport, "--transport", transport)


@case("disk-root-cloud-pci")
def root_cloud_pci(lab):
    path = copy_of_debian(lab, "root-cloud-pci")
    run_on_debian(lab, path, lab.cloud, "--transport", "pci")


@case("disk-root-backport")
def root_backport(lab):
    run_on_backport(lab, "mmio")


@case("disk-root-backport-pci")
def root_backport_pci(lab):
    run_on_backport(lab, "pci")


# ---- what a guest sees ----

SEES = """
cd /sys/block
for d in vda vdb; do
    for f in size ro serial queue/logical_block_size queue/physical_block_size \
             queue/minimum_io_size queue/discard_granularity queue/write_cache \
             queue/max_segments; do
        echo $d $f $(cat $d/$f)
    done
    echo $d queues $(ls $d/mq | wc -l)
done
[ $(cat vda/queue/discard_max_bytes) -gt 0 ] && [ $(cat vda/queue/write_zeroes_max_bytes) -gt 0 ] &&
    echo both cut
dd if=/dev/zero of=/dev/vdb bs=512 count=1 oflag=direct 2>/dev/null || echo refused
blkdiscard /dev/vda && cmp -n %d /dev/vda /dev/zero && echo zeroes
""" % (8 * MIB)


def seen(out):
    """Of a disk: what each file says."""
    lines = [line.split(None, 2) for line in out.splitlines()]
    return {d: {words[1]: (words[2:] or [""])[0] for words in lines if words[0] == d}
            for d in ("vda", "vdb")}


def check_seen(lab, transport, cache):
    """Four queues for two processors, the file's blocks, its serial; a discard makes holes."""
    name = "seen-" + transport
    data, fixed = image(lab, name, 8, fill=True), image(lab, name + "-ro", 4)
    block = os.stat(data).st_blksize
    result = lab.run("--transport", transport, "--cpus", "2", "--disk",
                     f"path={data},format=raw,serial=x-1,queues=4,cache={cache}", "--disk",
                     f"path={fixed},ro", command=["sh", "-c", SEES])
    check_status(result, 0)
    for text in ("both cut\n", "refused\n", "zeroes\n"):
        check(text in result.out, f"no \"{text.strip()}\": {tail(result.out)}")
    found = seen(result.out)
    for disk, values in (
            ("vda", {"size": 8 * MIB // 512, "ro": 0, "serial": "x-1", "queues": 2,
                     "queue/logical_block_size": 512, "queue/physical_block_size": block,
                     "queue/minimum_io_size": block, "queue/discard_granularity": block,
                     "queue/write_cache": {"writeback": "write back"}.get(cache, "write through"),
                     "queue/max_segments": 254}),
            ("vdb", {"size": 4 * MIB // 512, "ro": 1, "serial": "", "queues": 1})):
        for key, value in values.items():
            got = found[disk].get(key)
            check(got == str(value), f"{disk} {key}: \"{got}\", not \"{value}\"")
    blocks = os.stat(data).st_blocks
    check(blocks * 512 < MIB, f"{blocks * 512} bytes are left of what was discarded")
    os.unlink(data)
    os.unlink(fixed)


@case("disk-seen")
def seen_mmio(lab):
    check_seen(lab, "mmio", "writeback")


@case("disk-seen-pci")
def seen_pci(lab):
    check_seen(lab, "pci", "writethrough")


# ---- a driver that comes and goes ----

# Its number may change while an old one is still open. A node of our own has that number or is not
# there; of a name in /dev that has just gone dd would make a file.
REBIND = """
cd /sys/bus/virtio/drivers/virtio_blk
dev=$(basename $(readlink -f /sys/block/vda/device))
bound() { [ -e /sys/bus/virtio/devices/$dev/block ]; }
node() {
    rm -f /run/$1
    mknod /run/$1 b $(cat /sys/bus/virtio/devices/$dev/block/*/dev | tr : ' ')
}
victim() {
    while [ -e /run/on ]; do
        node victim && dd if=/dev/zero of=/run/victim bs=64k count=64 oflag=direct &&
            dd if=/run/victim of=/dev/null bs=4k count=64 iflag=direct && echo 1 >>/run/whole
    done 2>/dev/null
}
other() {
    while [ -e /run/on ]; do
        dd if=/dev/vdb of=/dev/null bs=64k iflag=direct 2>/dev/null || echo a read failed
        dd if=/dev/zero of=/dev/vdb bs=64k count=16 oflag=direct 2>/dev/null || echo a write failed
    done
}
touch /run/on
victim & other &
until [ -s /run/whole ]; do usleep 20000; done
n=0
while [ $n -lt $1 ]; do
    usleep 50000
    echo $dev >unbind || echo unbind failed
    ! bound || echo still there
    echo $dev >bind || echo bind failed
    bound || echo not there
    n=$((n + 1))
done
rm /run/on
wait
head -c 4194304 /dev/urandom >/run/data
node last && dd if=/run/data of=/run/last bs=64k oflag=direct 2>/dev/null
dd if=/run/last of=/run/back bs=64k count=64 iflag=direct 2>/dev/null
cmp /run/data /run/back && echo $n times
"""


def rebind(lab, transport):
    times = 100 if LONG else 20
    first, second = image(lab, "rebind-" + transport, 16), image(lab, "other-" + transport, 4)
    result = lab.run("--transport", transport, "--cpus", "2", "--disk",
                     f"path={first},format=raw,cache=none", "--disk", f"path={second},format=raw",
                     command=["sh", "-c", REBIND, "sh", str(times)])
    check_status(result, 0)
    check(result.out == f"{times} times\n", f"stdout is {tail(result.out)}")
    os.unlink(first)
    os.unlink(second)


@case("disk-rebind")
def rebind_mmio(lab):
    rebind(lab, "mmio")


@case("disk-rebind-pci")
def rebind_pci(lab):
    rebind(lab, "pci")


# ---- who else uses it ----

@case("disk-held-by-qemu")
def held_by_qemu(lab):
    """QEMU has the image: ours is refused and names it, and comes in when QEMU has gone."""
    path, pidfile = image(lab, "held", 1), lab.file(".pid")
    subprocess.run(["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-S", "-nodefaults",
                    "-display", "none", "-daemonize", "-pidfile", pidfile, "-drive",
                    f"file={path},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d"],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with open(pidfile, encoding="ascii") as f:
        pid = int(f.read())
    ended = os.pidfd_open(pid)
    try:
        refused = lab.run("--disk", f"path={path},format=raw", command=["true"])
        check_status(refused, 125)
        check_says(refused, path)
        check_says(refused, f"qemu-system-x86 (pid {pid})")
    finally:
        signal.pidfd_send_signal(ended, signal.SIGTERM)
        select.select([ended], [], [])
        os.close(ended)
    check_status(lab.run("--disk", f"path={path},format=raw", command=["true"]), 0)
    os.unlink(path)
