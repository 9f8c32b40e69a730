# SPDX-License-Identifier: MIT
"""Images of a format: a Debian root on each, fio on each, and what QEMU's tools find in them."""
import hashlib
import json
import os
import shutil
import subprocess

from disk_cases import check_clean, place, run_and_keep
from fio_cases import TOGETHER, Jobs, judge, lay_out, script_of
from harness import LONG, case, check, check_says, check_status, tail
from pairs import pairwise

KIB, MIB = 1 << 10, 1 << 20


def img(*args):
    found = subprocess.run(["qemu-img", *args], capture_output=True, text=True, check=False)
    check(found.returncode == 0, f"qemu-img {' '.join(args)}: status {found.returncode}: "
                                 f"{tail(found.stdout)} {tail(found.stderr)}")
    return found.stdout


def check_image(path, form):
    """Nothing is wrong with it, not even clusters that nobody uses."""
    img("check", "-q", "-f", form, path)


def as_raw(path, form):
    img("convert", "-f", form, "-O", "raw", path, path + ".raw")
    return path + ".raw"


def copied(lab, name, made):
    path = os.path.join(place(lab), name)
    shutil.copyfile(os.path.join(os.path.dirname(lab.debian), made), path)
    return path


def run_on_image(lab, kernel, path, form, keys, *options):
    """A root that is written to, left in order, and goes on. Its file system is looked at as QEMU sees it."""
    for _ in run_and_keep(lab, f"path={path},{keys}", kernel, *options):
        check_image(path, form)
    raw = as_raw(path, form)
    check_clean(raw)
    os.unlink(raw)
    os.unlink(path)


@case("image-root-qcow2")
def root_qcow2(lab):
    run_on_image(lab, lab.cloud, copied(lab, "root-qcow2", "debian.qcow2"), "qcow2", "cache=none"
                 if place(lab) == "/scratch" else "cache=writeback")


@case("image-root-vmdk")
def root_vmdk(lab):
    run_on_image(lab, lab.minimal, copied(lab, "root-vmdk", "debian.vmdk"), "vmdk", "format=vmdk", "--transport", "pci")


@case("image-root-chain")
def root_chain(lab):
    """Over one that is compressed and read through another process; without trust it is refused."""
    below = os.path.join(os.path.abspath(os.path.dirname(lab.debian)), "debian-packed.qcow2")
    middle, path = (os.path.join(place(lab), name) for name in ("root-middle", "root-chain"))
    img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", middle)
    img("create", "-q", "-f", "qcow2", "-b", middle, "-F", "qcow2", path)
    refused = lab.run("--rootfs", f"path={path}", command=["true"])
    check_status(refused, 125)
    for name in (path, middle, below, "backing=on"):
        check_says(refused, name)
    run_on_image(lab, lab.minimal, path, "qcow2", "backing=on")
    os.unlink(middle)


@case("image-overlay")
def overlay(lab):
    """A root over an image that stays: what was written is there the next time, and also by its own name."""
    path = os.path.join(place(lab), "root-overlay")
    before = os.stat(lab.debian).st_mtime_ns
    for _ in run_and_keep(lab, f"path={lab.debian},overlay={path}", lab.minimal):
        check_image(path, "qcow2")
    info = json.loads(img("info", "--output=json", path))
    check((info["backing-filename"], info["backing-filename-format"]) == (os.path.realpath(lab.debian), "raw"),
          f"it is over {info['backing-filename']}")
    again = lab.run("--rootfs", f"path={path},backing=on", command=["cat", "/root/file"])
    check_status(again, 0)
    check(again.out == "kept\n", f"stdout is {tail(again.out)}")
    check(os.stat(lab.debian).st_mtime_ns == before, "the image was written to")
    os.unlink(path)


# ---- fio ----

FACTORS = {"bs": [512, 4 * KIB, 64 * KIB, MIB] if LONG else [512, 4 * KIB, 128 * KIB],
           "depth": [1, 8, 64] if LONG else [1, 16], "direct": [0, 1], "op": ["write", "zeroes"]}
# In the end what the guest has read of each is told, for the host to compare.
SUMS = "sync; sha256sum </dev/vdb; sha256sum </dev/vdc\n"


def sums_of(out):
    return [line.split()[0] for line in out.splitlines() if line.endswith("  -")]


def fio_on(lab, transport, images):
    """One guest with two disks. `images`: of each its path, its format and its keys."""
    options, jobs, rows = [], [], []
    for n, (path, form, keys) in enumerate(images):
        mine = [dict(row) for row in pairwise(FACTORS)]
        img("create", "-q", "-f", form, *((path,) if form == "vmdk" else ("-o", "cluster_size=64k", path)),
            str(lay_out(mine)))
        options += ["--disk", f"path={path},format={form},{keys}"]
        jobs.append(Jobs(f"/dev/vd{'bc'[n]}"))
        for i in range(0, len(mine), TOGETHER):
            jobs[n].add_rows(mine[i:i + TOGETHER])
        rows.append(mine)
    result = lab.run("--rootfs", f"path={lab.fio},overlay=memory", "--transport", transport,
                     "--cpus", "2", "--memory", "1024", *options, kernel=lab.cloud,
                     command=["bash", "-c", "cat >/tmp/script; exec bash /tmp/script </dev/null"],
                     stdin=(script_of(jobs, rows[0][0]) + SUMS).encode())
    check_status(result, 0)
    check("fio 0 0\n" in result.out, f"fio: {tail(result.out)} {tail(result.err)}")
    check("found\n" in result.out, f"a changed byte was not found: {tail(result.out)}")
    first, second = result.out.split("====")
    judge(first, jobs[0].want)
    judge(second, jobs[1].want)
    check_same(images, sums_of(result.out))
    return f"{sum(len(j.want) for j in jobs)} jobs"


def check_same(images, sums):
    """QEMU finds nothing wrong, and reads what the guest has read."""
    for (path, form, _), told in zip(images, sums, strict=True):
        check_image(path, form)
        raw = as_raw(path, form)
        with open(raw, "rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        check(found == told, f"{path} has another content than the guest has read")
        os.unlink(raw)
        os.unlink(path)


@case("image-fio")
def fio_mmio(lab):
    names = [os.path.join(place(lab), "fio-image-" + form) for form in ("qcow2", "vmdk")]
    return fio_on(lab, "mmio", [(names[0], "qcow2", "cache=writeback"), (names[1], "vmdk", "cache=writeback")])


@case("image-fio-pci")
def fio_pci(lab):
    direct = "cache=none" if place(lab) == "/scratch" else "cache=writeback"
    names = [os.path.join(place(lab), "fio-direct-" + form) for form in ("qcow2", "vmdk")]
    return fio_on(lab, "pci", [(names[0], "qcow2", f"queues=4,{direct}"), (names[1], "vmdk", direct)])
