# SPDX-License-Identifier: MIT
"""Disks that change under stock guests: larger while in use, without room, with errors."""
import contextlib
import json
import os
import subprocess
import time

from harness import LIMIT, Console, Failed, case, check, check_verb, on_both, tail, verb
from disk_cases import MIB, check_clean, place


def new_image(path, size, filesystem=True):
    with open(path, "wb") as f:
        f.truncate(size)
    if filesystem:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    return path


def with_disk(lab, name, keys, script, *options):
    """A command under the stock kernel, with that disk."""
    return Console(lab.run_args("--name", name, "--no-stdin", "--disk", keys, *options,
                                command=["sh", "-c", script], kernel=lab.cloud))


def status(name):
    return json.loads(verb("status", name).stdout)


def data_disk(name):
    return status(name)["disks"][0]


# Two writers that look at what they have written, on the disk's file system, until /tmp/enough is there.
LOAD = """
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
"""

GROW = LOAD + """
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


@on_both("disk-resize-under-load")
def resize(lab, transport):
    """Five times, under a file system in use; each new end can be written and read."""
    name = "grows-" + transport
    path = new_image(os.path.join(place(lab), name), 32 * MIB)
    with with_disk(lab, name, f"path={path},id=data,queues=2", GROW,
                   "--transport", transport) as guest:
        guest.expect("^up$")
        for size in range(48, 128, 16):
            check_verb("resize-disk", name, "data", f"{size}M")
            guest.expect(f"^sectors {size * MIB // 512}$")
            check(data_disk(name)["size"] == size * MIB, "status has another size")
        guest.expect("^right$")
        guest.ends(0)
    check(os.path.getsize(path) == 112 * MIB, "the file has another size")
    check_clean(path)
    os.unlink(path)


JOBS = LOAD + """
echo up
read -r word
touch /tmp/enough
wait
if dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'; then echo errors; fi
sha256sum /mnt/a /mnt/b | cut -c 1-64
[ ! -e /tmp/differs ] && umount /mnt && echo right
"""


@case("disk-jobs-under-load")
def jobs_under_load(lab):
    """Moves, snapshots and commits under a file system in use; in the end all is in the one file."""
    folder = place(lab)
    first, moved, over = (os.path.join(folder, n) for n in ("jobs-1", "jobs-2.qcow2", "jobs-3.qcow2"))
    new_image(first, 64 * MIB)
    guest = Console(lab.run_args("--name", "jobs", "--disk", f"path={first},id=data",
                                 command=["sh", "-c", JOBS], kernel=lab.cloud))
    with guest:
        guest.expect("^up$")
        check_verb("mirror-disk", "--switch", "jobs", "data", f"path={moved},format=qcow2")
        os.unlink(first)
        for _ in range(3):
            check_verb("snapshot-disk", "jobs", "data", over)
            check(data_disk("jobs")["path"] == over, "status has another path")
            check_verb("commit-disk", "jobs", "data")
            check(data_disk("jobs")["path"] == moved, "status has another path")
            os.unlink(over)
        guest.send("enough")
        guest.expect("^right$")
        guest.ends(0)
    check("errors" not in guest.text, f"the guest says {tail(guest.text)}")
    subprocess.run(["qemu-img", "check", "-q", moved], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", moved, first], check=True)
    check_clean(first)
    os.unlink(first)
    os.unlink(moved)


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


def dmsetup(*words, table=None):
    subprocess.run(["dmsetup", *words], input=table, text=True, check=True)


@contextlib.contextmanager
def mapped(path, table):
    """A block device: the parts of the file that table(loop, sectors) says. Its name."""
    subprocess.run(["modprobe", "-a", "loop", "dm-mod"], check=True)
    loop = subprocess.run(["losetup", "--show", "-f", path], capture_output=True, text=True,
                          check=True).stdout.strip()
    name = "kvick-" + os.path.basename(path)
    dmsetup("create", "--noudevsync", name, table=table(loop, os.path.getsize(path) // 512))
    dmsetup("mknodes")
    try:
        yield name
    finally:
        dmsetup("remove", "--noudevsync", name)
        subprocess.run(["losetup", "-d", loop], check=True)


def all_of_it(loop, sectors):
    return f"0 {sectors} linear {loop} 0\n"


def all_but_a_block(loop, sectors):
    return f"0 4096 linear {loop} 0\n4096 8 error\n4104 {sectors - 4104} linear {loop} 4104\n"


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
    path = new_image(os.path.join(place(lab), "broken"), 16 * MIB, filesystem=False)
    with mapped(path, all_but_a_block) as name:
        keys = f"path=/dev/mapper/{name},id=data,cache=none"
        with with_disk(lab, "broken", keys, BROKEN) as guest:
            err = guest.ends(0)
    want = ["read 511: 0", "read 512: 1", "read 513: 0", "write 511: 0", "write 512: 1",
            "write 513: 0", "and goes on"]
    check(guest.text.splitlines() == want, f"the guest says {tail(guest.text)}")
    check("disk data: read of 4096 bytes at 2097152: " in err, f"stderr is {tail(err)}")
    os.unlink(path)


GONE = """
mkdir -p /mnt && mount -t ext4 /dev/vda /mnt
echo up
for n in 1 2 3 4 5 6; do
    dd if=/dev/urandom of=/mnt/f$n bs=1M count=4 conv=fsync 2>/dev/null && sha256sum </mnt/f$n >>/sums
done
echo 3 >/proc/sys/vm/drop_caches
for n in 1 2 3 4 5 6; do sha256sum </mnt/f$n >>/again; done
umount /mnt && cmp /sums /again && [ "$(wc -l </sums)" = 6 ] && echo right
"""


@case("disk-stop-device-gone")
def stop_device_gone(lab):
    """All of a block device fails in the middle of its use, and is there again later."""
    path = new_image(os.path.join(place(lab), "gone"), 64 * MIB)
    with mapped(path, all_of_it) as name:
        keys = f"path=/dev/mapper/{name},id=data,cache=none,on-error=stop,queues=2"
        with with_disk(lab, "gone", keys, GONE) as guest:
            guest.expect("^up$")
            table = subprocess.run(["dmsetup", "table", name], capture_output=True, text=True,
                                   check=True).stdout
            dmsetup("wipe_table", "--noudevsync", name)
            said = wait_until_stopped(guest, "gone")
            check("disk data: " in said["why"], said["why"])
            check(data_disk("gone")["held"] > 0, "nothing is held")
            dmsetup("load", name, table=table)
            dmsetup("resume", "--noudevsync", name)
            check_verb("resume", "gone")
            guest.expect("^right$")
            guest.ends(0)
    check_clean(path)
    os.unlink(path)
