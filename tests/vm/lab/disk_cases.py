# SPDX-License-Identifier: MIT
"""Disks: a Debian root on one, its data beside it, and that images are left as they should be."""
import hashlib
import os
import shutil
import struct
import subprocess
import zlib

from harness import KVICK, Console, case, check, check_says, check_status, on_both, tail

MIB = 1 << 20


def place(lab):
    """A file system with O_DIRECT where there is one: the lab's scratch disk."""
    return "/scratch" if os.path.isdir("/scratch") else lab.scratch


def copy_of_debian(lab, name):
    path = os.path.join(place(lab), name)
    shutil.copyfile(lab.debian, path)
    return path


def check_clean(path):
    """No error, and no journal that the next mount would have to recover."""
    found = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True, check=False)
    check(found.returncode == 0, f"e2fsck: {tail(found.stdout)}")
    header = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True, check=True)
    check("needs_recovery" not in header.stdout, "the journal needs recovery")


def digest(path):
    hashed = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(MIB):
            hashed.update(piece)
    return hashed.digest()


def run_and_keep(lab, root, kernel, *options):
    """A command that writes, leaves a file open behind it, and ends; then one that reads. Each is a step, after which
    the image can be looked at."""
    result = lab.run("--rootfs", root, *options, kernel=kernel, command=[
        "bash", "-c", "cat /etc/debian_version; echo kept >/root/file; "
                      "sleep 1000 >/root/open & exit 7"])
    check_status(result, 7)
    check(result.out.startswith("12."), f"stdout is {tail(result.out)}")
    yield "written"
    again = lab.run("--rootfs", root, *options, kernel=kernel, command=["cat", "/root/file"])
    check_status(again, 0)
    check(again.out == "kept\n", f"stdout is {tail(again.out)}")
    yield "read"


def run_on_debian(lab, path, kernel, *options):
    for _ in run_and_keep(lab, path, kernel, *options):
        check_clean(path)
    os.unlink(path)


@case("disk-root-minimal")
def root_minimal(lab):
    run_on_debian(lab, copy_of_debian(lab, "root-minimal"), lab.minimal)


@case("disk-root-cloud")
def root_cloud(lab):
    """The stock kernel has virtio-blk in a module, which init loads."""
    run_on_debian(lab, copy_of_debian(lab, "root-cloud"), lab.cloud)


@case("disk-root-boot")
def root_boot(lab):
    """The kernel mounts the root by itself, without an initial RAM disk; its init ends at once."""
    with Console([KVICK, "boot", "--kernel", lab.minimal, "--name", "disk-root-boot",
                  "--disk", f"path={lab.debian},overlay=memory", "--append",
                  "root=/dev/vda rw init=/bin/cat -- /etc/debian_version"]) as console:
        console.expect(r"^12\.\d+\r?\n")
        console.ends(11)


@on_both("disk-overlay-full")
def overlay_full(lab, transport):
    """A host without room for more: the write fails, the rest goes on."""
    folder = os.path.join(lab.scratch, "full-" + transport)
    path = os.path.join(place(lab), "behind-" + transport)
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", folder], check=True)
    try:
        result = lab.run("--transport", transport, "--disk", f"path={path},overlay={folder}", command=[
            "sh", "-c", "dd if=/dev/zero of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null && "
                        "echo fits; dd if=/dev/zero of=/dev/vda bs=1M seek=8 count=32 conv=fsync "
                        "2>/dev/null || echo full; dd if=/dev/vda of=/dev/null bs=1M count=64 "
                        "2>/dev/null && echo alive"])
        check_status(result, 0)
        check(result.out == "fits\nfull\nalive\n", f"stdout is {tail(result.out)}")
        check(not os.listdir(folder), "something is left")
    finally:
        subprocess.run(["umount", folder], check=True)
    check(os.stat(path).st_blocks == 0, "the image was written to")
    os.unlink(path)


START = 2048


def mbr(*partitions):
    """A first sector; of each partition its type, first sector and length."""
    table = b"".join(struct.pack("<BxxxBxxxII", 0, *p) for p in partitions)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def gpt(sectors, first, last):
    """The first 34 sectors: a header, and entries of which the third is used."""
    entry = bytes.fromhex("af3dc60f838472478e793d69d8477de4") + b"\x01" * 16 + \
        struct.pack("<QQQ", first, last, 0)
    entries = (bytes(2 * 128) + entry).ljust(128 * 128, b"\0")
    fields = struct.pack("<QQQQ16sQIII", 1, sectors - 1, 34, sectors - 34, b"\x02" * 16, 2, 128,
                         128, zlib.crc32(entries))
    head = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    crc = zlib.crc32(head + bytes(8) + fields)
    header = head + struct.pack("<II", crc, 0) + fields
    return mbr((0xee, 1, sectors - 1)) + header.ljust(512, b"\0") + entries


def partitioned(lab, name, table):
    """The Debian root in a partition, behind a megabyte. Returns the path and the root's sectors."""
    path = os.path.join(place(lab), name)
    sectors = os.path.getsize(lab.debian) // 512
    with open(path, "wb") as f, open(lab.debian, "rb") as root:
        f.write(table(START + sectors + START, START, sectors))
        f.seek(START * 512)
        shutil.copyfileobj(root, f, MIB)
        f.truncate((START + sectors + START) * 512)
    return path


def check_root_partition(lab, path, number):
    """As the guest's kernel finds it, and as Kvick does; both see the same files."""
    write = ["sh", "-c", "echo kept >/root/file; "
                         "cat /proc/partitions"]
    result = lab.run("--rootfs", f"path={path},root={number}", command=write)
    check_status(result, 0)
    check(f"vda{number}\n" in result.out, f"stdout is {tail(result.out)}")
    result = lab.run("--rootfs", f"path={path},partition={number}",
                     command=["sh", "-c", "cat /root/file; cat /proc/partitions"])
    check_status(result, 0)
    check(result.out.startswith("kept\n") and f"vda{number}" not in result.out,
          f"stdout is {tail(result.out)}")
    refused = lab.run("--rootfs", f"path={path},root=7", command=["true"])
    check_status(refused, 125)
    check_says(refused, f"disk {path}: has no partition 7")
    os.unlink(path)


@case("disk-root-partition-mbr")
def root_mbr(lab):
    path = partitioned(lab, "mbr", lambda _, first, n: mbr((0x82, 1, 9), (0x83, first, n)))
    check_root_partition(lab, path, 2)


@case("disk-root-partition-gpt")
def root_gpt(lab):
    path = partitioned(lab, "gpt", lambda all, first, n: gpt(all, first, first + n - 1))
    check_root_partition(lab, path, 3)


@case("disk-root-partition-boot")
def root_partition_boot(lab):
    """The kernel is told of it, and mounts it by itself."""
    path = partitioned(lab, "boot", lambda _, first, n: mbr((0x83, first, n)))
    with Console([KVICK, "boot", "--kernel", lab.minimal, "--name", "disk-root-partition-boot",
                  "--disk", f"path={path},overlay={place(lab)},root=1", "--append",
                  "init=/bin/cat -- /etc/debian_version"]) as console:
        console.expect(r"^12\.\d+\r?\n")
        console.ends(11)
    os.unlink(path)


@on_both("disk-read-only")
def read_only(lab, transport):
    before = digest(lab.debian)
    result = lab.run("--transport", transport, "--rootfs", f"path={lab.debian},ro", command=[
        "bash", "-c", "touch /x || echo refused; echo scratch >/tmp/x && cat /tmp/x"])
    check_status(result, 0)
    check(result.out == "refused\nscratch\n", f"stdout is {tail(result.out)}")
    check(digest(lab.debian) == before, "the image has changed")


def check_overlay(lab, transport, keys):
    before = digest(lab.debian)
    result = lab.run("--transport", transport, "--rootfs", f"path={lab.debian},{keys}", command=[
        "bash", "-c", "head -c 20M /dev/urandom >/x && sync && sum=$(sha256sum /x) && "
                      "echo 3 >/proc/sys/vm/drop_caches && [ \"$sum\" = \"$(sha256sum /x)\" ] && "
                      "rm -rf /usr/share && echo wrote"])
    check_status(result, 0)
    check(result.out == "wrote\n", f"stdout is {tail(result.out)}")
    check(digest(lab.debian) == before, "the image has changed")


@on_both("disk-overlay-memory")
def overlay_memory(lab, transport):
    check_overlay(lab, transport, "overlay=memory")


@on_both("disk-overlay-file")
def overlay_file(lab, transport):
    """On the scratch disk, where it has O_DIRECT."""
    folder = os.path.join(place(lab), "overlay-" + transport)
    os.mkdir(folder)
    check_overlay(lab, transport, f"overlay={folder}" + (",cache=none" if place(lab) == "/scratch" else ""))
    os.rmdir(folder)


def check_data(lab, transport, keys, kernel):
    """Random data written to a file system on a second disk, read back past the guest's cache."""
    path = os.path.join(place(lab), f"data-{transport}-" + keys.replace(",", "-").replace("=", "-"))
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    script = ("mkdir /m && mount -t ext4 /dev/vda /m && dd if=/dev/urandom of=/m/f bs=1M count=24 "
              "2>/dev/null && a=$(sha256sum /m/f) && umount /m && mount -t ext4 /dev/vda /m && "
              "b=$(sha256sum /m/f) && [ \"$a\" = \"$b\" ] && umount /m && echo equal && "
              "cat /sys/block/vda/serial")
    result = lab.run("--transport", transport, "--disk", f"path={path},serial=abc-123,{keys}",
                     kernel=kernel, command=["sh", "-c", script])
    check_status(result, 0)
    check(result.out.split() == ["equal", "abc-123"], f"stdout is {tail(result.out)}")
    check_clean(path)
    os.unlink(path)


@on_both("disk-direct-2-queues")
def direct(lab, transport):
    check_data(lab, transport, "cache=none,queues=2", lab.cloud)


@on_both("disk-writethrough-limited")
def writethrough(lab, transport):
    check_data(lab, transport, "cache=writethrough,bw=40M,iops=2000", lab.minimal)


@case("disk-mounted")
def mounted(lab):
    """A command with its root in memory leaves a disk mounted: what it has written is there the next time."""
    path = os.path.join(place(lab), "mounted")
    with open(path, "wb") as f:
        f.truncate(32 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    for command in ("echo kept >/mnt/file", "cat /mnt/file"):
        result = lab.run("--disk", "path=" + path, kernel=lab.cloud,
                         command=["sh", "-c", "mount /dev/vda /mnt && " + command])
        check_status(result, 0)
    check(result.out == "kept\n", f"stdout is {tail(result.out)}")
    os.unlink(path)


@case("disk-two-users")
def two_users(lab):
    """Who comes second is refused and told of the first; readers share."""
    path = os.path.join(place(lab), "shared")
    with open(path, "wb") as f:
        f.truncate(MIB)
    args = lab.run_args("--disk", "path=" + path, command=["sh", "-c", "echo up; sleep 1000"])
    with subprocess.Popen(args, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as first:
        try:
            check(first.stdout.readline() == b"up\n", "the first does not start")
            second = lab.run("--disk", "path=" + path, command=["true"])
            check_status(second, 125)
            check_says(second, path)
            check_says(second, "kvick")
            qemu = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", path],
                                  capture_output=True, text=True, check=False)
            check(qemu.returncode == 1 and "lock" in qemu.stderr,
                  f"qemu-io: status {qemu.returncode}: {tail(qemu.stderr)}")
        finally:
            first.terminate()
    os.unlink(path)
