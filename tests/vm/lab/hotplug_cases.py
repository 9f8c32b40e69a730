# SPDX-License-Identifier: MIT
"""Disks that come and go under a stock kernel, and more of them than the bus has slots."""
import os
import subprocess

from harness import LONG, Console, case, check, check_status, check_verb, tail
from disk_cases import MIB, check_clean, place

CYCLES = 100 if LONG else 20
DISKS = 31

# For each line of input: waits for the disk, uses it as a file system, then reads all of it again
# and again until it is gone.
SCRIPT = """
there() { [ -b /dev/vdb ]; }
mkdir /m
(while :; do dd if=/dev/zero of=/dev/vda bs=64k conv=notrunc 2>/dev/null; done) &
echo up
while read -r n; do
	until there; do usleep 20000; done
	mount -t ext4 /dev/vdb /m && echo "$n" >>/m/cycles && umount /m || echo failed
	(while there; do cat /dev/vdb >/dev/null 2>&1; done) &
	reader=$!
	echo "used $n"
	while there; do usleep 20000; done
	wait $reader
	echo "gone $n"
done
"""


def image(lab, name, size):
    path = os.path.join(place(lab), name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@case("hotplug-under-load")
def under_load(lab):
    steady, data = image(lab, "steady", 8 * MIB), image(lab, "hotplug", 16 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", data], check=True)
    args = lab.run_args("--name", "hotplug", "--transport", "pci", "--cpus", "2",
                        "--disk", "path=" + steady, kernel=lab.cloud,
                        command=["sh", "-c", SCRIPT])
    with Console(args) as console:
        console.expect("^up$")
        before = open_files(console.process.pid)
        for n in range(CYCLES):
            console.send(str(n))
            check_verb("attach-disk", "hotplug", f"path={data},id=data")
            console.expect(f"^used {n}$")
            check_verb("detach", "hotplug", "data")
            console.expect(f"^gone {n}$")
        check(open_files(console.process.pid) == before, "descriptors are left")
        check("failed" not in console.text, f"the guest: {tail(console.text)}")
        console.process.stdin.close()
        console.ends(0)
    check_clean(data)
    found = subprocess.run(["debugfs", "-R", "cat /cycles", data], capture_output=True, text=True,
                           check=True)
    check(found.stdout.split() == [str(n) for n in range(CYCLES)], f"cycles {tail(found.stdout)}")
    os.unlink(data)
    os.unlink(steady)


@case("hotplug-first-disk")
def first_disk(lab):
    """Into a guest that had none, which finds it by itself; its init is told to reset nothing."""
    data = image(lab, "first-disk", MIB)
    args = lab.run_args("--name", "first-disk", "--transport", "pci", kernel=lab.cloud, command=[
        "sh", "-c", "echo up; until [ -b /dev/vda ]; do usleep 20000; done; "
                    "echo hello >/dev/vda && sync && cat /sys/block/vda/serial"])
    with Console(args) as console:
        console.expect("^up$")
        check_verb("attach-disk", "first-disk", f"path={data},format=raw,serial=abc,addr=10")
        console.expect("^abc")
        console.ends(0)
    with open(data, "rb") as f:
        check(f.read(6) == b"hello\n", "the guest's write is not in the image")
    os.unlink(data)


@case("hotplug-31-disks")
def many(lab):
    """Each is seen, those behind root ports too, in the order in which they were given."""
    options = []
    for n in range(DISKS):
        path = image(lab, f"many-{n}", MIB)
        options += ["--disk", f"path={path},format=raw,serial=disk{n}"]
    result = lab.run("--transport", "pci", *options, kernel=lab.cloud, command=[
        "sh", "-c", "for d in a b c d e f g h i j k l m n o p q r s t u v w x y z aa ab ac ad ae; do "
                    "cat /sys/block/vd$d/serial; echo; cat /sys/block/vd$d/serial >/dev/vd$d; done; sync"])
    check_status(result, 0)
    check(result.out.split() == [f"disk{n}" for n in range(DISKS)], f"serials {tail(result.out)}")
    for n in range(DISKS):
        path = os.path.join(place(lab), f"many-{n}")
        with open(path, "rb") as f:
            check(f.read(16).startswith(b"disk%d" % n), f"{path} has not been written")
        os.unlink(path)
