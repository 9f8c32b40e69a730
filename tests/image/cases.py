# SPDX-License-Identifier: MIT
"""The tests of kvick image: each begins with test_ and is given a Place."""
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

MIB = 1 << 20


class Skip(Exception):
    """This machine cannot run it."""


class Failure(Exception):
    """What was expected has not come."""


def expect(fine, text):
    if not fine:
        raise Failure(text)


class Place:
    """A folder for images, and the programs that work there."""

    def __init__(self, program):
        self.program = program
        self.folder = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="kvick-image-")
        return self

    def __exit__(self, *unused):
        subprocess.run(["umount", "-R", self.path("mount")], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def names(self):
        return sorted(os.listdir(self.folder))

    def run(self, *words, status=0):
        """Any program; what it prints."""
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=100, check=False)
        expect(done.returncode == status,
               f"{' '.join(words)}: status {done.returncode}, not {status}: {done.stderr or done.stdout}")
        return done.stdout

    def image(self, *words):
        return self.run(self.program, "image", *words)

    def json(self, *words):
        return json.loads(self.image(*words, "--json"))

    def refused(self, text, *words):
        """It fails, says this, and leaves no file."""
        before = self.names()
        done = subprocess.run([self.program, "image", *words], cwd=self.folder, capture_output=True, text=True,
                              timeout=100, check=False)
        expect(done.returncode == 125, f"{' '.join(words)}: status {done.returncode}: {done.stderr}")
        expect(text in done.stderr, f"{' '.join(words)}: \"{text}\" is not in: {done.stderr}")
        expect(not done.stdout, f"{' '.join(words)}: prints {done.stdout}")
        expect(self.names() == before, f"{' '.join(words)}: leaves {self.names()}")

    def qemu_info(self, name):
        return json.loads(self.run("qemu-img", "info", "--output=json", "-U", name))

    def peek(self, name, off, length):
        with open(self.path(name), "rb") as file:
            file.seek(off)
            return file.read(length)

    def poke(self, name, off, data):
        with open(self.path(name), "r+b") as file:
            file.seek(off)
            file.write(data)

    def check(self, name):
        self.run("qemu-img", "check", "-q", name)

    def equal(self, one, other):
        self.run("qemu-img", "compare", "-q", one, other)

    def fill(self, name, fmt, size, seed, count=40):
        """Writes, zeroes and discards in random places, the same for the same seed."""
        dice = random.Random(seed)
        words = []
        for _ in range(count):
            length = dice.choice([512, 4096, 65536, 300 * 1024, 2 * MIB])
            off = dice.randrange((size - length) // 512) * 512
            verb = dice.choice(["write -P %d" % dice.randrange(1, 256)] * 6 + ["write -z -u", "discard"])
            words += ["-c", f"{verb} {off} {length}"]
        out = self.run("qemu-io", "-t", "unsafe", "-f", fmt, *words, name)
        expect("rror" not in out, f"qemu-io {name}: {out}")

    def on_disk(self, name):
        return os.stat(self.path(name)).st_blocks * 512


# ---- create and info ----

def test_create(place):
    place.image("create", "--size", "3G", "a.raw")
    expect(os.stat(place.path("a.raw")).st_size == 3 << 30, "the size of a.raw")
    expect(place.on_disk("a.raw") == 0, "a.raw has storage")
    for bits in (9, 12, 16, 21):
        name = f"{bits}.qcow2"
        place.image("create", "--format", "qcow2", "--size", "100M", "--cluster-size", f"{1 << bits}B", name)
        info = place.qemu_info(name)
        expect(info["virtual-size"] == 100 * MIB and info["cluster-size"] == 1 << bits, f"{name}: {info}")
        place.check(name)
    place.image("create", "-f", "vmdk", "-s", "100M", "a.vmdk")
    expect(place.qemu_info("a.vmdk")["virtual-size"] == 100 * MIB, "the size of a.vmdk")


def test_create_backing(place):
    os.mkdir(place.path("sub"))
    place.run("qemu-img", "create", "-q", "-f", "qcow2", "sub/base.qcow2", "7M")
    place.fill("sub/base.qcow2", "qcow2", 7 * MIB, 1)
    place.image("create", "--backing", "base.qcow2", "sub/top.qcow2")
    info = place.qemu_info("sub/top.qcow2")
    expect(info["backing-filename"] == "base.qcow2" and info["backing-filename-format"] == "qcow2" and
           info["virtual-size"] == 7 * MIB, str(info))
    place.equal("sub/base.qcow2", "sub/top.qcow2")
    place.image("create", "--backing", place.path("sub/base.qcow2"), "--backing-format", "qcow2", "--size", "9M", "big.qcow2")
    expect(place.qemu_info("big.qcow2")["virtual-size"] == 9 * MIB, "the size of big.qcow2")
    place.run("truncate", "-s", "5M", "raw.img")
    place.image("create", "-b", "raw.img", "-F", "raw", "over.qcow2")
    expect(place.qemu_info("over.qcow2")["backing-filename-format"] == "raw", "the format of raw.img")
    place.refused("backing file: disk none", "create", "-b", "none", "x.qcow2")
    os.rename(place.path("raw.img"), place.path("raw:img"))
    place.refused("./raw:img is one", "create", "-b", "raw:img", "-F", "raw", "x.qcow2")
    place.refused("./raw:img is one", "rebase", "-u", "-b", "raw:img", "-F", "raw", "over.qcow2")
    place.image("rebase", "-u", "-b", "./raw:img", "-F", "raw", "over.qcow2")
    place.image("info", "--chain", "--trust-backing", "over.qcow2")
    place.refused("a raw image has no backing file", "create", "-f", "raw", "-b", "raw.img", "x")


FLAVOURS = {
    "plain": [],
    "v2": ["compat=0.10"],
    "small": ["cluster_size=512"],
    "large": ["cluster_size=2M"],
    "lazy": ["lazy_refcounts=on"],
    "zstd": ["compression_type=zstd"],
    "refcounts": ["refcount_bits=1"],
    "full": ["preallocation=full"],
    "metadata": ["preallocation=metadata"],
    "extended": ["extended_l2=on"],
}


# Not "extended": that is refused.
WRITABLE = [name for name in FLAVOURS if name != "extended"]


def flavour(place, name, size="16M"):
    options = [word for option in FLAVOURS[name] for word in ("-o", option)]
    place.run("qemu-img", "create", "-q", "-f", "qcow2", *options, f"{name}.qcow2", size)
    return f"{name}.qcow2"


def test_info(place):
    for name in FLAVOURS:
        image = flavour(place, name)
        ours, theirs = place.json("info", image), place.qemu_info(image)
        for key in ("filename", "format", "virtual-size", "cluster-size", "dirty-flag", "actual-size"):
            expect(ours[key] == theirs[key], f"{image}: {key} is {ours[key]}, not {theirs[key]}")
        ours, theirs = ours["format-specific"]["data"], theirs["format-specific"]["data"]
        for key in ("compat", "lazy-refcounts", "refcount-bits", "corrupt", "extended-l2", "compression-type"):
            expect(ours[key] == theirs.get(key, False), f"{image}: {key} is {ours[key]}, not {theirs.get(key)}")
        expect("qcow2" in place.image("info", image), "the text")
    for kind in ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse"):
        place.run("qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={kind}", f"{kind}.vmdk", "16M")
        ours, theirs = place.json("info", f"{kind}.vmdk"), place.qemu_info(f"{kind}.vmdk")
        expect(ours["virtual-size"] == theirs["virtual-size"], f"{kind}: the size")
        expect(ours["format-specific"]["data"]["create-type"] == kind, f"{kind}: {ours}")


def test_info_chain(place):
    place.run("truncate", "-s", "5M", "base")
    place.image("create", "-b", "base", "-F", "raw", "mid.qcow2")
    place.image("create", "-b", "mid.qcow2", "top.qcow2")
    place.refused("mid.qcow2 (qcow2) is backed by base\n  base (raw)", "info", "--chain", "top.qcow2")
    chain = place.json("info", "--chain", "--trust-backing", "top.qcow2")
    theirs = json.loads(place.run("qemu-img", "info", "--backing-chain", "--output=json", "top.qcow2"))
    expect([i["filename"] for i in chain] == [i["filename"] for i in theirs], str(chain))
    expect([i["format"] for i in chain] == ["qcow2", "qcow2", "raw"], str(chain))
    # To describe the image itself nothing else is opened.
    os.unlink(place.path("mid.qcow2"))
    expect(place.json("info", "top.qcow2")["full-backing-filename"] == "mid.qcow2", "the name")


# ---- convert ----

def source(place, fmt, size=24 * MIB, options=(), seed=7):
    name = f"src.{fmt}"
    place.run("qemu-img", "create", "-q", "-f", fmt, *options, name, str(size))
    place.fill(name, fmt, size, seed)
    return name


TARGETS = [("raw", []), ("qcow2", []), ("vmdk", []), ("qcow2", ["--compress", "zlib"]),
           ("qcow2", ["--compress", "zstd"]), ("qcow2", ["--cluster-size", "4K", "--compress", "zlib"]),
           ("qcow2", ["--cluster-size", "2M"])]


def to_all(place, name, *more, targets=tuple(TARGETS)):
    for fmt, options in targets:
        place.image("convert", *more, "--to", fmt, *options, name, "dst")
        expect(place.qemu_info("dst")["format"] == fmt, f"{fmt}: {place.qemu_info('dst')}")
        place.equal(name, "dst")
        if fmt == "qcow2":
            place.check("dst")
        os.unlink(place.path("dst"))


def test_convert_from_raw(place):
    to_all(place, source(place, "raw"))


def test_convert_from_qcow2(place):
    place.refused("subclusters", "convert", flavour(place, "extended"), "dst.raw")
    for name in WRITABLE:
        image = flavour(place, name)
        place.fill(image, "qcow2", 16 * MIB, 3)
        place.image("convert", image, "dst.raw")
        place.equal(image, "dst.raw")
    to_all(place, source(place, "qcow2"))


def test_convert_compressed(place):
    name = source(place, "raw")
    for kind in ("zlib", "zstd"):
        place.run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", f"compression_type={kind}", name, f"{kind}.qcow2")
        to_all(place, f"{kind}.qcow2", targets=TARGETS[:2])
        place.image("convert", "-t", "qcow2", "-c", kind, name, "ours.qcow2")
        ours, theirs = place.on_disk("ours.qcow2"), place.on_disk(f"{kind}.qcow2")
        expect(ours <= theirs * 1.05, f"{kind}: ours has {ours} bytes, theirs {theirs}")
        os.unlink(place.path("ours.qcow2"))


def test_convert_from_vmdk(place):
    name = source(place, "raw")
    for kind in ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse"):
        place.run("qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={kind}", name, f"{kind}.vmdk")
        other = "Flat" in kind or "Extent" in kind
        if other:
            place.refused("has extents", "convert", f"{kind}.vmdk", "dst")
        to_all(place, f"{kind}.vmdk", *(["--trust-backing"] if other else []), targets=TARGETS[:3])


def test_convert_chain(place):
    base = source(place, "raw", 5 * MIB + 512 * 3)
    place.image("create", "-b", base, "-F", "raw", "-s", "24M", "mid.qcow2")
    place.fill("mid.qcow2", "qcow2", 24 * MIB, 11)
    place.image("create", "-b", "mid.qcow2", "top.qcow2")
    place.fill("top.qcow2", "qcow2", 24 * MIB, 12, 10)
    place.refused("  mid.qcow2 (qcow2) is backed by src.raw", "convert", "top.qcow2", "dst")
    to_all(place, "top.qcow2", "--trust-backing")


def test_convert_sparse(place):
    """No more storage than qemu-img takes, holes and written zeroes both."""
    with open(place.path("src"), "wb") as out:
        out.truncate(200 * MIB)
        for off in (0, 30, 31, 99):
            out.seek(off * MIB)
            out.write(os.urandom(MIB))
            out.write(bytes(3 * MIB))
            out.write(b"x")
    for fmt in ("raw", "qcow2", "vmdk"):
        place.image("convert", "--to", fmt, "src", "ours")
        place.run("qemu-img", "convert", "-O", fmt, "src", "theirs")
        ours, theirs = place.on_disk("ours"), place.on_disk("theirs")
        expect(ours <= theirs + 256 * 1024, f"{fmt}: ours has {ours} bytes, theirs {theirs}")
        place.equal("src", "ours")


def test_convert_json(place):
    source(place, "raw")
    told = place.json("convert", "--to", "qcow2", "src.raw", "dst.qcow2")
    expect(told["format"] == "qcow2" and told["virtual-size"] == 24 * MIB and
           told["actual-size"] == place.on_disk("dst.qcow2"), str(told))


def test_convert_no_sync(place):
    source(place, "qcow2")
    to_all(place, "src.qcow2", "--no-sync", targets=TARGETS[:4])
    expect(place.names() == ["src.qcow2"], str(place.names()))


def test_convert_replaces(place):
    source(place, "raw")
    with open(place.path("real"), "wb") as out:
        out.write(b"old" * 1000)
    os.chmod(place.path("real"), 0o640)
    os.symlink("real", place.path("link"))
    place.image("convert", "--to", "qcow2", "src.raw", "link")
    expect(os.path.islink(place.path("link")), "the link is gone")
    expect(os.stat(place.path("real")).st_mode & 0o777 == 0o640, "the mode is another")
    place.equal("src.raw", "real")
    expect(place.names() == ["link", "real", "src.raw"], str(place.names()))
    os.mkdir(place.path("folder"))
    place.refused("is no file", "convert", "src.raw", "folder")
    place.refused("in use", "convert", "src.raw", "src.raw")
    place.refused("No such file", "convert", "src.raw", "none/dst")


def test_convert_in_use(place):
    source(place, "raw")
    place.run("truncate", "-s", "1M", "dst")
    user = subprocess.Popen(["stdbuf", "-oL", "qemu-io", "-f", "raw", "-c", "read 0 512", "-c", "sleep 60000", place.path("dst")],
                            stdout=subprocess.PIPE)
    user.stdout.readline()
    place.refused("is in use by qemu-io", "convert", "src.raw", "dst")
    user.kill()
    user.wait()
    place.image("convert", "src.raw", "dst")


def interrupt(place, signo, old):
    """Ends ten converts in the middle of it, as early and late as the dice have it; one that was quicker is done."""
    words = ["env", "--default-signal=INT", place.program, "image", "convert", "--to", "qcow2", "--compress",
             "zlib", "big", "dst"]
    ended = tries = 0
    while ended < 10 and tries < 30:
        tries += 1
        if old:
            with open(place.path("dst"), "w", encoding="ascii") as out:
                out.write("old")
        before = place.names()
        child = subprocess.Popen(words, cwd=place.folder, stderr=subprocess.DEVNULL)
        time.sleep(0.01 + 0.02 * ended)
        child.send_signal(signo)
        status = child.wait(60)
        if status == 0:
            os.unlink(place.path("dst"))
            continue
        expect(status == -signo, f"signal {signo}: status {status}")
        ended += 1
        expect(place.names() == before, f"signal {signo} leaves {place.names()}")
        if old:
            with open(place.path("dst"), encoding="ascii") as file:
                expect(file.read() == "old", "what was there is damaged")
    expect(ended == 10, f"only {ended} of {tries} were ended by signal {signo}")


def test_convert_interrupted(place):
    with open(place.path("big"), "wb") as out:
        for _ in range(64):
            out.write(os.urandom(MIB))
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        interrupt(place, signo, False)
    interrupt(place, signal.SIGINT, True)
    interrupt(place, signal.SIGKILL, True)


def test_convert_no_room(place):
    if os.geteuid():
        raise Skip("host: needs root, for a small file system")
    os.mkdir(place.path("mount"))
    place.run("mount", "-t", "tmpfs", "-o", "size=8M", "none", "mount")
    with open(place.path("big"), "wb") as out:
        out.write(os.urandom(16 * MIB))
    for words in (["--to", "raw"], ["--to", "qcow2"], ["--to", "vmdk"], ["--to", "qcow2", "--compress", "zlib"]):
        place.refused("No space left on device", "convert", *words, "big", "mount/dst")
        expect(os.listdir(place.path("mount")) == [], f"{words}: {os.listdir(place.path('mount'))} is left")
    place.refused("mount/dst: byte ", "convert", "big", "mount/dst")


def test_convert_reading_fails(place):
    """A compressed cluster that makes no sense: the file and the byte are named."""
    place.run("truncate", "-s", "4M", "src")
    place.run("qemu-io", "-f", "raw", "-c", "write -P 5 1M 64k", "src")
    place.run("qemu-img", "convert", "-c", "-O", "qcow2", "src", "bad.qcow2")
    with open(place.path("bad.qcow2"), "r+b") as file:
        data = file.read()
        at = max(i for i in range(len(data)) if data[i])
        file.seek(at - 64)
        file.write(b"\xff" * 64)
    place.refused("bad.qcow2: byte 1048576: reading", "convert", "bad.qcow2", "dst")


def test_progress(place):
    with open(place.path("big"), "wb") as out:
        out.write(os.urandom(48 * MIB))

    def seen(*words):
        master, slave = pty.openpty()
        done = subprocess.run([place.program, "image", "convert", *words], cwd=place.folder, stderr=slave,
                              stdout=subprocess.PIPE, check=True)
        os.write(slave, b"\n.")
        os.close(slave)
        text = os.read(master, 100000).decode()
        os.close(master)
        return text, done.stdout

    text, out = seen("--to", "qcow2", "--compress", "zlib", "big", "dst")
    expect(re.search(r"\[#+ *\] +\d+%", text) and not out, f"shown is {text!r}")
    text, out = seen("--json", "--to", "qcow2", "--compress", "zlib", "big", "dst")
    expect("%" not in text and json.loads(out), f"with --json: {text!r}")


# ---- the others ----

def test_resize(place):
    place.run("truncate", "-s", "8M", "a.raw")
    place.image("resize", "a.raw", "+2M")
    expect(os.stat(place.path("a.raw")).st_size == 10 * MIB, "a.raw is not 10M")
    place.refused("--shrink", "resize", "a.raw", "-1M")
    place.image("resize", "--shrink", "a.raw", "-1M")
    place.image("resize", "--shrink", "a.raw", "5M")
    expect(os.stat(place.path("a.raw")).st_size == 5 * MIB, "a.raw is not 5M")
    for text in ("5X", "+", "-5G", "3B", "0"):
        place.refused("", "resize", "--shrink", "a.raw", text)
    for name in WRITABLE:
        image = flavour(place, name)
        place.fill(image, "qcow2", 16 * MIB, 5)
        place.run("qemu-img", "convert", "-O", "raw", image, "want.raw")
        for text, size in (("+3M", 19 * MIB), ("-7M", 12 * MIB), ("300M", 300 * MIB), ("64K", 65536)):
            place.image("resize", "--shrink", image, text)
            os.truncate(place.path("want.raw"), size)
            place.check(image)
            expect(place.qemu_info(image)["virtual-size"] == size, image)
            place.equal(image, "want.raw")


def test_resize_over_backing(place):
    """What is new reads as zeroes, also where the backing file has something there."""
    source(place, "raw", 8 * MIB)
    place.image("create", "-b", "src.raw", "-F", "raw", "-s", "2M", "top.qcow2")
    shutil.copy(place.path("top.qcow2"), place.path("theirs.qcow2"))
    place.refused("--trust-backing", "resize", "top.qcow2", "6M")
    place.image("resize", "--trust-backing", "top.qcow2", "6M")
    place.run("qemu-img", "resize", "-q", "theirs.qcow2", "6M")
    place.equal("top.qcow2", "theirs.qcow2")
    place.check("top.qcow2")


def stretches(place, words, keys):
    """A map with what is alike joined."""
    out = []
    for x in json.loads(place.run(*words)):
        kind = {key: x.get(key) for key in keys if key != "depth" or x["present"]}
        if out and out[-1][1] == kind:
            out[-1][0][1] += x["length"]
        else:
            out.append(([x["start"], x["length"]], kind))
    return out


def same_map(place, name, keys=("depth", "zero", "data")):
    ours = stretches(place, [place.program, "image", "map", "--json", "--trust-backing", name], keys)
    theirs = stretches(place, ["qemu-img", "map", "--output=json", name], keys)
    expect(ours == theirs, f"{name}: {[(a, b) for a, b in zip(ours, theirs) if a != b][:3]}")


def test_map(place):
    source(place, "raw")
    same_map(place, "src.raw")
    for name in WRITABLE:
        image = flavour(place, name)
        place.fill(image, "qcow2", 16 * MIB, 9)
        # QEMU looks whether the file has a hole there.
        same_map(place, image, ("depth", "data") if name == "metadata" else ("depth", "zero", "data"))
    place.image("create", "-b", "src.raw", "-F", "raw", "-s", "30M", "mid.qcow2")
    place.fill("mid.qcow2", "qcow2", 30 * MIB, 21, 10)
    place.image("create", "-b", "mid.qcow2", "top.qcow2")
    place.fill("top.qcow2", "qcow2", 30 * MIB, 22, 10)
    same_map(place, "top.qcow2")
    place.run("qemu-img", "create", "-q", "-f", "vmdk", "some.vmdk", "20M")
    place.fill("some.vmdk", "vmdk", 20 * MIB, 23, 10)
    same_map(place, "some.vmdk", ("data",))
    expect("data" in place.image("map", "src.raw"), "the text")


def test_commit(place):
    for i, (fmt, size) in enumerate((("raw", "20M"), ("qcow2", "20M"), ("raw", "33M"))):
        place.run("qemu-img", "create", "-q", "-f", fmt, "base", "20M")
        place.fill("base", fmt, 20 * MIB, 30 + i)
        place.image("create", "-b", "base", "-F", fmt, "-s", size, "top.qcow2")
        place.fill("top.qcow2", "qcow2", 20 * MIB, 40 + i)
        place.run("qemu-img", "convert", "-O", "raw", "top.qcow2", "want.raw")
        place.refused("is backed by base", "commit", "top.qcow2")
        place.image("commit", "--trust-backing", "top.qcow2")
        place.equal("base", "want.raw")
        place.equal("top.qcow2", "want.raw")
        place.check("top.qcow2")
        if fmt == "qcow2":
            place.check("base")
        for name in ("base", "top.qcow2", "want.raw"):
            os.unlink(place.path(name))
    place.run("qemu-img", "create", "-q", "-f", "qcow2", "alone.qcow2", "1M")
    place.refused("has no backing file", "commit", "alone.qcow2")


def test_rebase(place):
    source(place, "raw")
    place.run("cp", "src.raw", "new.raw")
    place.fill("new.raw", "raw", 24 * MIB, 50, 5)
    place.run("truncate", "-s", "20M", "new.raw")
    for cluster in ("512B", "64K", "2M"):
        place.image("create", "-b", "src.raw", "-F", "raw", "--cluster-size", cluster, "top.qcow2")
        place.fill("top.qcow2", "qcow2", 24 * MIB, 51, 5)
        place.run("qemu-img", "convert", "-O", "raw", "top.qcow2", "want.raw")
        place.refused("--trust-backing", "rebase", "-b", "new.raw", "top.qcow2")
        place.image("rebase", "--trust-backing", "-b", "new.raw", "-F", "raw", "top.qcow2")
        info = place.qemu_info("top.qcow2")
        expect(info["backing-filename"] == "new.raw" and info["backing-filename-format"] == "raw", str(info))
        place.check("top.qcow2")
        place.equal("top.qcow2", "want.raw")
        place.image("rebase", "--trust-backing", "--backing", "", "top.qcow2")
        expect("backing-filename" not in place.qemu_info("top.qcow2"), "there is a backing file")
        place.check("top.qcow2")
        place.equal("top.qcow2", "want.raw")
        os.unlink(place.path("top.qcow2"))


def test_rebase_unsafe(place):
    source(place, "raw")
    place.image("create", "-b", "src.raw", "-F", "raw", "top.qcow2")
    place.run("mv", "src.raw", "moved.raw")
    for name in ("a" * 1000, "moved.raw", "x", "moved.raw"):
        place.image("rebase", "--unsafe", "-b", name, "-F", "raw", "top.qcow2")
        expect(place.qemu_info("top.qcow2")["backing-filename"] == name, name)
    place.check("top.qcow2")
    place.equal("top.qcow2", "moved.raw")
    place.refused("which file?", "rebase", "top.qcow2")
    place.refused("has no room", "rebase", "-u", "-b", "a" * 1024, "-F", "raw", "top.qcow2")


def test_check(place):
    for name in FLAVOURS:
        image = flavour(place, name)
        place.fill(image, "qcow2", 16 * MIB, 60)
        ours = place.json("check", image)
        theirs = json.loads(place.run("qemu-img", "check", "--output=json", image))
        for key in ("total-clusters", "allocated-clusters", "fragmented-clusters", "compressed-clusters",
                    "image-end-offset"):
            expect(ours[key] == theirs.get(key, 0), f"{image}: {key} is {ours[key]}, not {theirs.get(key, 0)}")
        expect(ours["corruptions"] == ours["leaks"] == ours["check-errors"] == 0, str(ours))
        expect("no errors" in place.image("check", image), image)
    place.run("truncate", "-s", "1M", "a.raw")
    place.refused("has nothing that could be checked", "check", "a.raw")
    for kind in ("monolithicSparse", "streamOptimized"):
        place.run("qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={kind}", "plain.qcow2", "a.vmdk")
        expect("no errors" in place.image("check", "a.vmdk"), kind)


def test_check_repair(place):
    """A leak, then a cluster that is used and not counted: found, told of by status, repaired."""
    image = flavour(place, "plain")
    place.fill(image, "qcow2", 16 * MIB, 61)
    place.run("qemu-img", "convert", "-O", "raw", image, "want.raw")
    table = int.from_bytes(place.peek(image, 48, 8), "big")
    counts = int.from_bytes(place.peek(image, table, 8), "big")
    used = (os.stat(place.path(image)).st_size + 65535) // 65536
    place.poke(image, counts + 2 * used, b"\0\1")
    place.run(place.program, "image", "check", image, status=3)
    place.poke(image, counts + 2 * (used - 1), b"\0\0")
    place.run(place.program, "image", "check", image, status=2)
    place.run("qemu-img", "check", "-q", image, status=2)
    place.image("check", "--repair", image)
    place.image("check", image)
    place.check(image)
    place.equal(image, "want.raw")


def test_snapshot(place):
    image = flavour(place, "plain")
    for i in range(3):
        place.fill(image, "qcow2", 16 * MIB, 70 + i, 10)
        place.run("qemu-img", "convert", "-O", "raw", image, f"{i}.raw")
        place.image("snapshot", "create", image, f"state {i}")
        place.check(image)
    names = [s["name"] for s in place.json("snapshot", "list", image)]
    expect(names == ["state 0", "state 1", "state 2"], str(names))
    expect([s["name"] for s in place.qemu_info(image)["snapshots"]] == names, "qemu-img has others")
    expect("state 1" in place.image("snapshot", "list", image), "the text")
    for i in (0, 2, 1):
        place.image("snapshot", "apply", image, f"state {i}")
        place.check(image)
        place.equal(image, f"{i}.raw")
    place.image("snapshot", "delete", image, "state 1")
    place.run("qemu-img", "snapshot", "-a", "state 0", image)
    place.equal(image, "0.raw")
    place.check(image)
    place.run("qemu-img", "snapshot", "-c", "\x1b[2J\x9b2J\u00e9", image)
    expect("?[2J?2J\u00e9\n" in place.image("snapshot", "list", image), "a name is no more than text")
    place.refused("state 1", "snapshot", "apply", image, "state 1")
    place.run("truncate", "-s", "1M", "a.raw")
    place.refused("a raw image has no snapshots", "snapshot", "list", "a.raw")


def test_options(place):
    place.run("truncate", "-s", "1M", "a")
    for words, text in (
            (["create", "x"], "how large?"),
            (["create", "-s", "1X", "x"], "--size 1X"),
            (["create", "-s", "100B", "x"], "whole sectors"),
            (["create", "-s", "9000000T", "x"], "too many"),
            (["create", "-f", "vdi", "-s", "1M", "x"], "--format vdi"),
            (["create", "-f", "qcow2", "-s", "1M", "--cluster-size", "3K", "x"], "power of two"),
            (["create", "-f", "qcow2", "-s", "1M", "--cluster-size", "4M", "x"], "--cluster-size 4M"),
            (["create", "-F", "raw", "-s", "1M", "x"], "--backing-format"),
            (["create", "-s", "1M", "a"], "is there already"),
            (["create", "-s", "1M"], "usage: kvick image create"),
            (["create", "-s", "1M", "x", "y"], "usage: kvick image create"),
            (["info"], "usage: kvick image info"),
            (["info", "none"], "none: No such file"),
            (["info", "."], "is a directory"),
            (["info", "-f", "qcow2", "a"], "is no qcow2 image"),
            (["convert", "a"], "usage: kvick image convert"),
            (["convert", "--to", "vhdx", "a", "b"], "--to vhdx"),
            (["convert", "--compress", "zlib", "a", "b"], "--compress is for --to qcow2"),
            (["convert", "--compress", "lz4", "--to", "qcow2", "a", "b"], "--compress lz4"),
            (["convert", "--fast", "a", "b"], "unknown option --fast"),
            (["check", "--repiar", "a"], "did you mean --repair?"),
            (["snapshot", "lost", "a"], "snapshot"),
            (["snapshot", "list", "a"], "a: "),
            (["commit", "a"], "a: "),
            (["rebase", "-b", "x", "a"], "a: is no qcow2 image"),
            (["conver", "a", "b"], "did you mean convert?"),
            (["frob"], "no command \"frob\"")):
        place.refused(text, *words)
    for command in ("create", "info", "check", "convert", "resize", "map", "commit", "rebase", "snapshot"):
        expect(f"usage: kvick image {command}" in place.image(command, "--help"), command)
        expect(command in place.image("--help"), command)


def test_full_output(place):
    """What cannot be written is told, whichever way it was made, and is no other's fault."""
    place.image("create", "-f", "qcow2", "-s", "1M", "a")
    for words in (["--help"], ["info", "--help"], ["info", "a"], ["info", "--json", "a"], ["map", "a"],
                  ["map", "--json", "a"], ["check", "a"], ["snapshot", "list", "a"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([place.program, "image", *words], cwd=place.folder, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=100, check=False)
        expect(done.returncode == 125, f"{' '.join(words)}: status {done.returncode}")
        expect(done.stderr == "kvick: standard output: No space left on device\n", f"{words}: {done.stderr}")
