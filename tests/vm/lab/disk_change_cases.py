# SPDX-License-Identifier: MIT
"""Disks that change under stock guests: larger while in use, without room, with errors."""
import json
import os
import subprocess
import time

from harness import LIMIT, Console, Failed, case, check, check_verb, tail, verb
from disk_cases import MIB, check_clean, place


def new_image(path, size, filesystem=True):
    with open(path, "wb") as f:
        f.truncate(size)
    if filesystem:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    return path


def with_disk(lab, name, keys, script):
    """A command under the stock kernel, with that disk."""
    return Console(lab.run_args("--name", name, "--no-stdin", "--disk", keys,
                                command=["sh", "-c", script], kernel=lab.cloud))


def status(name):
    return json.loads(verb("status", name).stdout)


def data_disk(name):
    return status(name)["disks"][0]


GROW = """
mkdir -p /mnt && mount -t ext4 /dev/vda /mnt
load() {
    while [ ! -e /tmp/enough ]; do
        dd if=/dev/urandom of=/mnt/$1 bs=64k count=48 conv=fsync 2>/dev/null
        sha256sum <"/mnt/$1" >/tmp/sum-$1
        echo 1 >/proc/sys/vm/drop_caches
        [ "$(sha256sum <"/mnt/$1")" = "$(cat /tmp/sum-$1)" ] || touch /tmp/differs
    done
}
mkdir -p /tmp
load a & load b &
size=$(cat /sys/block/vda/size)
echo up
for round in 1 2 3 4 5; do
    while [ "$(cat /sys/block/vda/size)" = "$size" ]; do sleep 0.05; done
    size=$(cat /sys/block/vda/size)
    dd if=/dev/urandom of=/tmp/new bs=512 count=64 2>/dev/null
    dd if=/tmp/new of=/dev/vda bs=512 seek=$((size - 64)) conv=fsync,notrunc 2>/dev/null
    echo 1 >/proc/sys/vm/drop_caches
    dd if=/dev/vda bs=512 skip=$((size - 64)) 2>/dev/null | cmp - /tmp/new && echo "sectors $size"
done
touch /tmp/enough
wait
[ ! -e /tmp/differs ] && umount /mnt && echo right
"""


@case("disk-resize-under-load")
def resize(lab):
    """Five times, under a file system in use; each new end can be written and read."""
    path = new_image(os.path.join(place(lab), "grows"), 32 * MIB)
    with with_disk(lab, "grows", f"path={path},id=data,queues=2", GROW) as guest:
        guest.expect("^up$")
        for size in range(48, 128, 16):
            check_verb("resize-disk", "grows", "data", f"{size}M")
            guest.expect(f"^sectors {size * MIB // 512}$")
            check(data_disk("grows")["size"] == size * MIB, "status has another size")
        guest.expect("^right$")
        guest.ends(0)
    check(os.path.getsize(path) == 112 * MIB, "the file has another size")
    check_clean(path)
    os.unlink(path)


def wait_until_stopped(guest, name):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and guest.process.poll() is None:
        said = verb("status", name)  # which it answers once it is there
        if said.returncode == 0 and "why" in json.loads(said.stdout):
            return json.loads(said.stdout)
        time.sleep(0.2)
    raise Failed(f"it is not stopped: {tail(guest.text)} {tail(guest.errors.decode())}")


NO_ROOM = """
mkdir -p /mnt && mount -t ext4 /dev/vda /mnt
dd if=/dev/urandom of=/mnt/f bs=1M count=30 2>/dev/null
sha256sum </mnt/f >/sum
umount /mnt && mount -t ext4 /dev/vda /mnt &&
    [ "$(sha256sum </mnt/f)" = "$(cat /sum)" ] && umount /mnt && echo right
if dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'; then echo errors; fi
"""


@case("disk-stop-without-room")
def stop_without_room(lab):
    """The image's file system is full: the VM waits until there is room, and notices nothing."""
    folder = os.path.join(lab.scratch, "little")
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "little", folder], check=True)
    path = new_image(os.path.join(folder, "disk"), 64 * MIB)
    try:
        with with_disk(lab, "full", f"path={path},id=data,on-error=stop", NO_ROOM) as guest:
            said = wait_until_stopped(guest, "full")
            check(said["state"] == "paused", f"state {said['state']}")
            check("No space left on device" in said["why"], said["why"])
            check(data_disk("full")["held"] > 0, "nothing is held")
            check("disk-error" in verb("ps").stdout, "ps does not say it")
            check_verb("resume", "full")  # there is no room yet
            wait_until_stopped(guest, "full")
            subprocess.run(["mount", "-o", "remount,size=100M", folder], check=True)
            check_verb("resume", "full")
            err = guest.ends(0)
        check(guest.text == "right\n", f"the guest says {tail(guest.text)}")
        check("the VM is paused until kvick resume full" in err, f"stderr is {tail(err)}")
        check_clean(path)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    os.rmdir(folder)


def mapped(name, path):
    """Two megabytes of the file, an error, and the rest: a block device. Its path."""
    sectors = os.path.getsize(path) // 512
    loop = subprocess.run(["losetup", "--show", "-f", path], capture_output=True, text=True,
                          check=True).stdout.strip()
    table = (f"0 4096 linear {loop} 0\n4096 8 error\n"
             f"4104 {sectors - 4104} linear {loop} 4104\n")
    subprocess.run(["dmsetup", "create", "--noudevsync", name], input=table, text=True, check=True)
    subprocess.run(["dmsetup", "mknodes"], check=True)
    return loop, f"/dev/mapper/{name}"


BROKEN = """
try() { dd if=/dev/vda of=/x bs=4096 iflag=direct count=1 skip=$1 2>/dev/null; echo "read $1: $?"; }
put() { dd if=/dev/zero of=/dev/vda bs=4096 oflag=direct count=1 seek=$1 2>/dev/null; echo "write $1: $?"; }
try 511; try 512; try 513
put 511; put 512; put 513
echo 'and goes on'
"""


@case("disk-report-errors")
def report_errors(lab):
    """A block device with a bad sector: its reader is told, its neighbours are none the wiser."""
    subprocess.run(["modprobe", "-a", "loop", "dm-mod"], check=True)
    path = new_image(os.path.join(place(lab), "broken"), 16 * MIB, filesystem=False)
    loop, device = mapped("kvick-broken", path)
    try:
        with with_disk(lab, "broken", f"path={device},id=data,cache=none", BROKEN) as guest:
            err = guest.ends(0)
    finally:
        subprocess.run(["dmsetup", "remove", "--noudevsync", "kvick-broken"], check=True)
        subprocess.run(["losetup", "-d", loop], check=True)
    want = ["read 511: 0", "read 512: 1", "read 513: 0", "write 511: 0", "write 512: 1",
            "write 513: 0", "and goes on"]
    check(guest.text.splitlines() == want, f"the guest says {tail(guest.text)}")
    check("disk data: read of 4096 bytes at 2097152: " in err, f"stderr is {tail(err)}")
    os.unlink(path)
