# SPDX-License-Identifier: MIT
"""fio in a guest: what it writes it finds again, in every way of writing and on every kind of disk.

What a disk is given is paired so that any two values meet; KVICK_TEST_LONG=1 has every combination
of more values. A row has a region of its disk. It is written and verified by its checksums; then,
for a discard or write zeroes, its middle half is cut out, which must read as zeroes while what is
beside it is as it was.
"""
import json
import os

from disk_cases import place
from harness import LONG, case, check, check_status, tail
from pairs import all_pairs, pairs_of, pairwise, product

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# Transport, virtqueues, the host's cache: two disks a guest.
DISKS = {"mmio": ["queues=1,cache=none", "queues=4,cache=writeback"],
         "pci": ["queues=4,cache=none", "queues=1,cache=writeback"]}
SHORT_FACTORS = {"bs": [512, 4 * KIB, 64 * KIB, MIB], "depth": [1, 8, 64], "direct": [0, 1],
                 "op": ["write", "trim", "zeroes"]}
LONG_FACTORS = {**SHORT_FACTORS, "bs": [512, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB],
                "depth": [1, 2, 8, 32, 64]}
TOGETHER = 4  # rows of one disk that run at the same time

GLOBAL = """[global]
ioengine=libaio
randrepeat=1
verify_fatal=1
allow_mounted_write=0
"""


def row_size(row):
    """As many blocks as are to be in flight, and four more than a few."""
    most = max(row["depth"], 16) * row["bs"]
    return max(most * 4, MIB) if LONG and row["bs"] < MIB else max(most, 64 * KIB)


class Jobs:
    """A job file, and what each of its jobs must have done."""

    def __init__(self, path):
        self.path, self.text, self.want = path, GLOBAL, {}

    def add(self, name, row, first, more, **want):
        self.want[name] = want
        self.text += (f"[{name}]\nfilename={self.path}\nbs={row['bs']}\niodepth={row['depth']}\n"
                      f"direct={row['direct']}\n" + ("stonewall\n" if first else "")
                      + "".join(f"{k}={v}\n" for k, v in more.items()))

    def write(self, row, first):
        self.add(f"{row['n']}-write", row, first,
                 {"rw": "randwrite", "verify": "crc32c", "offset": row["at"], "size": row["size"]},
                 write=row["size"], read=row["size"])

    def cut(self, row, first):
        half = {"offset": row["at"] + row["size"] // 4, "size": row["size"] // 2}
        if row["op"] == "trim":
            self.add(f"{row['n']}-trim", row, first, {"rw": "trim", **half}, trim=half["size"])
            return
        self.add(f"{row['n']}-cut", row, first,
                 {"rw": "read", "verify": "pattern", "verify_pattern": 0, **half, "exec_prerun":
                  f"blkdiscard -f -z -o {half['offset']} -l {half['size']} {self.path}"},
                 read=half["size"])

    def check(self, row, first):
        quarter = row["size"] // 4
        for n, (name, verify) in enumerate([("low", {"verify": "crc32c"}),
                                            ("gone", {"verify": "pattern", "verify_pattern": 0}),
                                            ("high", {"verify": "crc32c"})]):
            at = row["at"] + quarter * (0, 1, 3)[n]
            size = quarter * (1, 2, 1)[n]
            self.add(f"{row['n']}-{name}", row, first and not n,
                     {"rw": "read", **verify, "offset": at, "size": size}, read=size)

    def add_rows(self, rows):
        """Step by step, with the rows of each step at the same time."""
        cut = [row for row in rows if row["op"] != "write"]
        for step, of in ((self.write, rows), (self.cut, cut), (self.check, cut)):
            for row in of:
                step(row, row is of[0])


def lay_out(rows):
    """Gives each row its number and its region; returns the bytes in all."""
    at = 0
    for n, row in enumerate(rows):
        row.update(n=n, at=at, size=row_size(row))
        at += row["size"]
    return at


def judge(text, want):
    """fio's account of its jobs, against what they should have done."""
    try:
        jobs = json.JSONDecoder().raw_decode(text, text.index("{"))[0]["jobs"]
    except ValueError:
        check(False, f"no JSON of fio's: {tail(text)}")
    check({job["jobname"] for job in jobs} == set(want), f"{len(jobs)} jobs, not {len(want)}")
    for job in jobs:
        check(job["error"] == 0, f"{job['jobname']}: error {job['error']}")
        for way, size in want[job["jobname"]].items():
            got = job[way]["io_bytes"]
            check(got == size, f"{job['jobname']}: {way} {got} bytes, not {size}")


# Both disks at the same time. In the end a byte is changed, which fio must find.
SCRIPT = """
cd /tmp
fio --output-format=json --output=a.json a.fio & first=$!
fio --output-format=json --output=b.json b.fio; second=$?
wait $first; echo "fio $? $second"
echo; cat a.json; echo '====' ; cat b.json
printf x | dd of=/dev/vdb bs=1 seek=100 conv=notrunc,fsync 2>/dev/null
! fio --name=low --filename=/dev/vdb --rw=read --verify=crc32c --bs=%d --size=%d >/dev/null 2>&1 &&
    echo found
"""


def script_of(jobs, low):
    files = "".join(f"cat >/tmp/{name}.fio <<'E'\n{job.text}E\n" for name, job in zip("ab", jobs))
    return files + SCRIPT % (low["bs"], low["size"] // 4)


def run_rows(lab, transport, rows):
    """One guest with the two disks of a transport. `rows`: a list a disk."""
    options, files, jobs = [], [], []
    for n, (keys, mine) in enumerate(zip(DISKS[transport], rows)):
        path = os.path.join(place(lab), f"fio-{transport}-{n}")
        with open(path, "wb") as f:
            f.truncate(lay_out(mine))
        files.append(path)
        options += ["--disk", f"path={path},format=raw,{keys}"]
        jobs.append(Jobs(f"/dev/vd{'bc'[n]}"))
        for i in range(0, len(mine), TOGETHER):
            jobs[n].add_rows(mine[i:i + TOGETHER])
    result = lab.run("--rootfs", f"path={lab.fio},overlay=memory", "--transport", transport,
                     "--cpus", "4", "--memory", "1024", *options, kernel=lab.cloud,
                     limit=7200 if LONG else None,
                     command=["bash", "-c", "cat >/tmp/script; exec bash /tmp/script </dev/null"],
                     stdin=script_of(jobs, rows[0][0]).encode())
    check_status(result, 0)
    check("fio 0 0\n" in result.out, f"fio: {tail(result.out)} {tail(result.err)}")
    check(result.out.endswith("found\n"), f"a changed byte was not found: {tail(result.out)}")
    first, second = result.out.split("====")
    judge(first, jobs[0].want)
    judge(second, jobs[1].want)
    for path in files:
        os.unlink(path)
    return sum(len(j.want) for j in jobs)


def paired_rows():
    """Rows in which the disks are a factor as well, so that both transports' together pair all."""
    factors = {**SHORT_FACTORS, "disk": [(t, n) for t in DISKS for n in (0, 1)]}
    rows = pairwise(factors)
    assert not all_pairs(factors) - set().union(*map(pairs_of, rows))
    return rows


def batches(rows):
    """As many at once as an image of 1 GiB has room for."""
    batch, size = [], 0
    for row in rows:
        if size + row_size(row) > GIB:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size(row)
    yield batch


def fio_case(lab, transport):
    if not LONG:
        rows = paired_rows()
        mine = [[row for row in rows if row["disk"] == (transport, n)] for n in (0, 1)]
        return f"{len(mine[0]) + len(mine[1])} rows, {run_rows(lab, transport, mine)} jobs"
    jobs = guests = 0
    for batch in batches(product(LONG_FACTORS)):
        jobs += run_rows(lab, transport, [[dict(row) for row in batch] for _ in (0, 1)])
        guests += 1
    return f"{jobs} jobs, {guests} guests"


@case("disk-fio-mmio")
def fio_mmio(lab):
    return fio_case(lab, "mmio")


@case("disk-fio-pci")
def fio_pci(lab):
    return fio_case(lab, "pci")
