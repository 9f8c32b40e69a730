# SPDX-License-Identifier: MIT
"""Disks: a Debian root on one, its data beside it, and that images are left as they should be."""
import hashlib
import os
import shutil
import subprocess

from harness import KVICK, Console, case, check, check_says, check_status, tail

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


def run_on_debian(lab, path, kernel):
    """A command that writes, leaves a file open behind it, and ends."""
    result = lab.run("--rootfs", path, kernel=kernel, command=[
        "bash", "-c", "cat /etc/debian_version; echo kept >/root/file; "
                      "sleep 1000 >/root/open & exit 7"])
    check_status(result, 7)
    check(result.out.startswith("12."), f"stdout is {tail(result.out)}")
    check_clean(path)
    again = lab.run("--rootfs", path, kernel=kernel, command=["cat", "/root/file"])
    check_status(again, 0)
    check(again.out == "kept\n", f"stdout is {tail(again.out)}")
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


@case("disk-read-only")
def read_only(lab):
    before = digest(lab.debian)
    result = lab.run("--rootfs", f"path={lab.debian},ro", command=[
        "bash", "-c", "touch /x || echo refused; echo scratch >/tmp/x && cat /tmp/x"])
    check_status(result, 0)
    check(result.out == "refused\nscratch\n", f"stdout is {tail(result.out)}")
    check(digest(lab.debian) == before, "the image has changed")


def check_overlay(lab, keys):
    before = digest(lab.debian)
    result = lab.run("--rootfs", f"path={lab.debian},{keys}", command=[
        "bash", "-c", "head -c 20M /dev/urandom >/x && sync && sum=$(sha256sum /x) && "
                      "echo 3 >/proc/sys/vm/drop_caches && [ \"$sum\" = \"$(sha256sum /x)\" ] && "
                      "rm -rf /usr/share && echo wrote"])
    check_status(result, 0)
    check(result.out == "wrote\n", f"stdout is {tail(result.out)}")
    check(digest(lab.debian) == before, "the image has changed")


@case("disk-overlay-memory")
def overlay_memory(lab):
    check_overlay(lab, "overlay=memory")


@case("disk-overlay-file")
def overlay_file(lab):
    """On the scratch disk, where it has O_DIRECT."""
    folder = os.path.join(place(lab), "overlay")
    os.mkdir(folder)
    check_overlay(lab, f"overlay={folder}/file,cache=none" if place(lab) == "/scratch" else
                  f"overlay={folder}")
    os.rmdir(folder)


def check_data(lab, keys, kernel):
    """Random data written to a file system on a second disk, read back past the guest's cache."""
    path = os.path.join(place(lab), "data-" + keys.replace(",", "-").replace("=", "-"))
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    script = ("mkdir /m && mount -t ext4 /dev/vda /m && dd if=/dev/urandom of=/m/f bs=1M count=24 "
              "2>/dev/null && a=$(sha256sum /m/f) && umount /m && mount -t ext4 /dev/vda /m && "
              "b=$(sha256sum /m/f) && [ \"$a\" = \"$b\" ] && umount /m && echo equal && "
              "cat /sys/block/vda/serial")
    result = lab.run("--disk", f"path={path},serial=abc-123,{keys}", kernel=kernel,
                     command=["sh", "-c", script])
    check_status(result, 0)
    check(result.out.split() == ["equal", "abc-123"], f"stdout is {tail(result.out)}")
    check_clean(path)
    os.unlink(path)


@case("disk-direct-2-queues")
def direct(lab):
    check_data(lab, "cache=none,queues=2", lab.cloud)


@case("disk-writethrough-limited")
def writethrough(lab):
    check_data(lab, "cache=writethrough,bw=40M,iops=2000", lab.minimal)


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
