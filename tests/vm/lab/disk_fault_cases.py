# SPDX-License-Identifier: MIT
"""Disks that fail under a running guest: it gets an I/O error, goes on, and its other disk too."""
import contextlib
import os
import subprocess

from disk_cases import place
from disk_work_cases import image
from harness import Console, Skipped, case, check, check_verb

MIB = 1 << 20
SECTORS = 32 * MIB // 512

# What it is told on its standard input, line by line, each with its status.
AGENT = """
get() { dd if=/dev/$1 of=/dev/null bs=4096 skip=$2 count=$3 iflag=direct; }
put() { dd if=/dev/zero of=/dev/$1 bs=4096 seek=$2 count=$3 oflag=direct conv=notrunc; }
echo up
while read -r line; do
    eval "$line" >/run/out 2>&1
    echo "done $?"
done
"""


class Guest(Console):
    """A guest whose /dev/vda is what is to fail; /dev/vdb is sound."""

    def __init__(self, lab, name, disk, *options):
        self.other = image(lab, name + "-other", 4, fill=True)
        super().__init__(lab.run_args(
            "--name", name, "--disk", f"path={disk}", "--disk", f"path={self.other},format=raw",
            *options, command=["sh", "-c", AGENT]))
        self.name = name
        self.expect("^up\n")

    def status_of(self, line):
        self.send(line)
        return int(self.expect(r"^done (\d+)\n")[1])

    def does(self, line):
        status = self.status_of(line)
        check(status == 0, f"in the guest, status {status}: {line}")

    def fails(self, line):
        check(self.status_of(line) != 0, f"in the guest, no error: {line}")

    def goes_on(self):
        """The other disk is read and written, and the control socket answers."""
        self.does("get vdb 0 1024 && put vdb 512 16")
        check('"running"' in check_verb("status", self.name), "it is not running")

    def leave(self):
        self.process.stdin.close()
        self.ends(0)
        with open(self.other, "rb") as f:
            f.seek(2 * MIB)
            check(f.read(65536) == bytes(65536), "what was written to the other disk is not there")
        os.unlink(self.other)


def command(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Mapped:
    """A device of the device mapper over a file, whose table may change while it is in use."""

    def __init__(self, lab, name):
        if subprocess.run(["modprobe", "-a", "dm-mod", "dm-flakey", "loop"], check=False,
                          stderr=subprocess.DEVNULL).returncode:
            raise Skipped("host: the kernel has no device mapper")
        self.name, self.file = "kvick-" + name, image(lab, name, 32)
        self.loop = subprocess.check_output(["losetup", "-f", "--show", self.file],
                                            text=True).strip()
        self.sound = f"0 {SECTORS} linear {self.loop} 0"
        command("dmsetup", "create", self.name, "--table", self.sound)
        number = subprocess.check_output(["dmsetup", "info", "-c", "--noheadings", "-o", "minor",
                                          self.name], text=True).strip()
        self.path = "/dev/dm-" + number  # its name in /dev/mapper is udev's to make

    def load(self, *table):
        self.suspend()
        subprocess.run(["dmsetup", "load", self.name], input="\n".join(table), text=True,
                       check=True)
        self.resume()

    def suspend(self):
        command("dmsetup", "suspend", "--nolockfs", self.name)

    def resume(self):
        command("dmsetup", "resume", self.name)

    def remove(self):
        """With force: an error takes the table's place at once, whoever has it open."""
        subprocess.run(["dmsetup", "remove", "--force", self.name], check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
        command("losetup", "-d", self.loop)
        os.unlink(self.file)


def device_errors(lab, transport):
    """Blocks that are bad, then a device that fails as a whole, and is well again."""
    with Mapped(lab, "eio-" + transport) as device:
        with Guest(lab, device.name, device.path + ",cache=none,format=raw",
                   "--transport", transport) as guest:
            guest.does("head -c 1048576 /dev/urandom >/run/data && "
                       "dd if=/run/data of=/dev/vda bs=65536 oflag=direct")
            device.load(f"0 8192 linear {device.loop} 0", "8192 8 error",
                        f"8200 {SECTORS - 8200} linear {device.loop} 8200")
            guest.fails("get vda 1024 1")
            guest.fails("put vda 1024 1")
            guest.fails("get vda 1020 8")
            guest.does("get vda 0 1024 && get vda 1025 512 && put vda 1025 16")
            device.load(f"0 {SECTORS} flakey {device.loop} 0 0 1")
            guest.fails("get vda 0 1")
            guest.fails("put vda 4096 1")
            guest.goes_on()
            device.load(device.sound)
            guest.does("dd if=/dev/vda of=/run/back bs=65536 count=16 iflag=direct && "
                       "cmp /run/data /run/back && put vda 1024 1")
            guest.leave()


@case("disk-eio")
def eio(lab):
    device_errors(lab, "mmio")


@case("disk-eio-pci")
def eio_pci(lab):
    device_errors(lab, "pci")


@case("disk-eio-flush")
def eio_flush(lab):
    """The host's page cache takes what the device does not: the flush is what fails."""
    with Mapped(lab, "eio-flush") as device:
        with Guest(lab, device.name, device.path + ",format=raw") as guest:
            device.load(f"0 {SECTORS} flakey {device.loop} 0 0 1")
            guest.fails("dd if=/dev/zero of=/dev/vda bs=4096 count=4 conv=notrunc,fsync")
            guest.goes_on()
            device.load(device.sound)
            guest.does("dd if=/dev/zero of=/dev/vda bs=4096 count=4 conv=notrunc,fsync")
            guest.leave()


@case("disk-suspended")
def suspended(lab):
    """A device that does not answer: who waits for it waits, all else goes on, then he does."""
    with Mapped(lab, "suspended") as device:
        with Guest(lab, device.name, device.path + ",cache=none,format=raw") as guest:
            device.suspend()
            guest.does("put vda 0 16 && touch /run/put &")
            guest.goes_on()
            guest.does("[ ! -e /run/put ]")
            device.resume()
            guest.does("wait && [ -e /run/put ]")
            guest.leave()


@case("disk-removed")
def removed(lab):
    """The device goes away for good, in the middle of writes."""
    with Mapped(lab, "removed") as device:
        with Guest(lab, device.name, device.path + ",cache=none,format=raw") as guest:
            guest.does("{ while put vda 0 64; do :; done; touch /run/failed; } &")
            device.remove()
            guest.does("wait && [ -e /run/failed ]")
            guest.fails("get vda 0 1")
            guest.goes_on()
            guest.leave()


@case("disk-disconnected")
def disconnected(lab):
    """The same of a network block device, whose server goes away."""
    if subprocess.run(["modprobe", "nbd"], check=False, stderr=subprocess.DEVNULL).returncode:
        raise Skipped("host: the kernel has no network block device")
    path, device = image(lab, "nbd", 16), "/dev/nbd0"
    command("qemu-nbd", "-f", "raw", "-c", device, path)
    try:
        with Guest(lab, "disk-disconnected", device + ",cache=none,format=raw") as guest:
            guest.does("{ while put vda 0 64; do :; done; touch /run/failed; } &")
            command("qemu-nbd", "-d", device)
            guest.does("wait && [ -e /run/failed ]")
            guest.goes_on()
            guest.leave()
    finally:
        subprocess.run(["qemu-nbd", "-d", device], check=False, stdout=subprocess.DEVNULL)
        os.unlink(path)


def truncated(lab, name, cache):
    path = image(lab, name, 16, fill=True)
    with Guest(lab, name, f"{path},format=raw,cache={cache}") as guest:
        guest.does("get vda 0 4096")
        os.truncate(path, 8 * MIB)
        guest.fails("get vda 2048 1")
        guest.fails("get vda 2040 16")
        guest.does("get vda 0 2048 && put vda 2047 1")
        guest.goes_on()
        os.truncate(path, 16 * MIB)
        guest.does("get vda 0 4096 && put vda 4095 1")
        guest.leave()
    os.unlink(path)


@case("disk-truncated")
def truncated_direct(lab):
    truncated(lab, "disk-truncated", "none")


@case("disk-truncated-cached")
def truncated_cached(lab):
    truncated(lab, "disk-truncated-cached", "writeback")


@contextlib.contextmanager
def small_file_system(lab, name):
    """ext4 on a loop device."""
    path, folder = image(lab, name, 24), os.path.join(place(lab), name + ".d")
    command("mke2fs", "-q", "-t", "ext4", "-m", "0", path)
    os.mkdir(folder)
    command("mount", "-o", "loop", path, folder)
    try:
        yield folder
    finally:
        command("umount", folder)
        os.rmdir(folder)
        os.unlink(path)


def no_space(lab, name, cache):
    """A sparse image larger than what it lies on; room comes back while the guest runs."""
    with small_file_system(lab, name) as folder:
        path, ballast = os.path.join(folder, "image"), os.path.join(folder, "ballast")
        with open(path, "wb") as f:
            f.truncate(12 * MIB)
        with open(ballast, "wb") as f:
            f.write(bytes(12 * MIB))
        with Guest(lab, name, f"{path},format=raw,cache={cache}") as guest:
            guest.does("put vda 0 64")
            guest.fails("put vda 0 3072")
            guest.does("get vda 0 3072 && put vda 0 64")
            guest.goes_on()
            os.unlink(ballast)
            guest.does("put vda 0 3072")
            guest.leave()
        os.unlink(path)


@case("disk-no-space")
def no_space_direct(lab):
    no_space(lab, "disk-no-space", "none")


@case("disk-no-space-cached")
def no_space_cached(lab):
    no_space(lab, "disk-no-space-cached", "writeback")
