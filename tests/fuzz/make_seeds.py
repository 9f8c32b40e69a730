#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small inputs for fuzzers: make_seeds.py FOLDER makes FOLDER/kernel, modules, partition, qcow2 and vmdk."""
import gzip
import lzma
import os
import struct
import subprocess
import sys
import zlib


def elf(note):
    """Two segments and a PT_NOTE, which has a PVH entry or not."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400010, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    load = [(0x200, 0x400000, 0x80, 0x80), (0x280, 0x401000, 0x40, 0x2000)]
    for off, addr, filesz, memsz in load:
        head += struct.pack("<IIQQQQQQ", 1, 7, off, addr, addr, filesz, memsz, 0x1000)
    head += struct.pack("<IIQQQQQQ", 4, 4, 0x1c0, 0, 0, 20, 20, 4)
    head = head.ljust(0x1c0, b"\0")
    head += struct.pack("<III4sI", 4, 4, note, b"Xen\0", 0x400020)
    text = b"Linux version 6.1.0-x (a@b)\0"
    return head.ljust(0x200, b"\0") + text.ljust(0xc0, b"\x90") + bytes(16)


def lz4_legacy(data):
    """One block of literals only: a token, the length's further bytes, the literals."""
    left = len(data) - 15
    block = bytes([0xf0]) + b"\xff" * (left // 255) + bytes([left % 255]) + data
    return struct.pack("<II", 0x184c2102, len(block)) + block


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def bzimage(payload, size):
    payload += struct.pack("<I", size)
    protected = bytes(0x220) + payload
    header = bytearray(0x400)
    struct.pack_into("<B", header, 0x1f1, 1)
    struct.pack_into("<I", header, 0x1f4, (len(protected) + 15) // 16)
    struct.pack_into("<HH4sH", header, 0x1fe, 0xaa55, 0x6aeb, b"HdrS", 0x20f)
    struct.pack_into("<H", header, 0x20e, 0x100)
    struct.pack_into("<B", header, 0x211, 1)
    struct.pack_into("<I", header, 0x22c, 0x7fffffff)
    struct.pack_into("<IBBHI", header, 0x230, 0x200000, 1, 21, 3, 2047)
    struct.pack_into("<II", header, 0x248, 0x220, len(payload))
    struct.pack_into("<QI", header, 0x258, 0x400000, 0x800000)
    header[0x300:0x310] = b"6.1.0-x (a@b) #1"
    return bytes(header) + protected


def mbr(*entries):
    table = b"".join(struct.pack("<BxxxBxxxII", 0, *e) for e in entries)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def gpt_header(sector, entries, table):
    """Of a disk of 2048 sectors and a table of four entries."""
    head = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    rest = struct.pack("<QQQQ16sQIII", sector, 2048 - sector, 6, 2042, b"\x02" * 16, entries, 4, 128,
                       zlib.crc32(table))
    return (head + struct.pack("<II", zlib.crc32(head + bytes(8) + rest), 0) + rest).ljust(512, b"\0")


def gpt():
    """Partitions 1 and 3; the second copy is the last two sectors."""
    table = (b"\x11" * 32 + struct.pack("<QQ", 8, 99)).ljust(256, b"\0") + \
        b"\x22" * 32 + struct.pack("<QQ", 100, 2047)
    table = table.ljust(512, b"\0")
    return mbr((0xee, 1, 2047)) + gpt_header(1, 2, table) + table + table + gpt_header(2047, 2046, table)


def big(disk):
    """The same with sectors of 4 KiB; its sums are put right by the fuzzer."""
    return b"".join(disk[at:at + 512].ljust(4096, b"\0") for at in range(0, len(disk), 512))


def logical():
    """An extended partition with two logical ones, the second of which leads back to the first."""
    empty = bytes(512)
    return mbr((0x83, 1, 1), (5, 2, 100)) + empty + mbr((0x83, 1, 1), (5, 2, 9)) + empty + \
        mbr((0x83, 1, 1), (5, 0, 9))


def vmdk_text(kind, *extents):
    return ("# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n"
            'createType="%s"\n' % kind + "".join(e + "\n" for e in extents)).encode()


def vmdk(flags, at_end=False):
    """Of 64 sectors, in grains of 8, of which the first is there."""
    packed = flags >> 16 & 1
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, flags | 1, 64, 8, 1, 2, 128, 3, 3, 8) + b"\0\n \r\n"
    head = (head + struct.pack("<H", packed)).ljust(512, b"\0")
    text = vmdk_text("streamOptimized" if packed else "monolithicSparse", 'RW 64 SPARSE "a"').ljust(1024, b"\0")
    tables = struct.pack("<I", 4).ljust(512, b"\0") + struct.pack("<II", 8, 1).ljust(512, b"\0")
    grain = struct.pack("<QI", 0, 20) + zlib.compress(b"a" * 4096)
    body = text + tables.ljust(2560, b"\0") + grain.ljust(512, b"\0")
    if not at_end:
        return head + body
    return head[:56] + b"\xff" * 8 + head[64:] + body + struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + \
        head + bytes(512)


def vmdk_seed(what, image, *requests):
    return bytes([what, len(requests)]) + b"".join(struct.pack("<BHB", *r) for r in requests) + image


def qcow2(settings, requests, *patches):
    """For fuzz_qcow2: which bytes of its image are others."""
    data = bytes([settings, 7]) + bytes(requests).ljust(6, b"\0")
    for at, value in patches:
        data += struct.pack("<HB", at // 2, len(value) - 1) + value
    return data


def qcow2_seeds():
    """Offsets are those of clusters of 512 bytes: see tests/unit/qcow2_image.h."""
    every, writes = 0xf8, (2, 14, 15, 16, 5, 8)

    def entry(v):
        return struct.pack(">Q", v)
    return {
        "qcow2/small": qcow2(every, writes),
        "qcow2/large": qcow2(every | 1, writes),
        "qcow2/read-only": qcow2(2, (0, 1, 6, 7, 12, 13)),
        "qcow2/no-block": qcow2(every, writes, (0x200, entry(0))),
        "qcow2/block-in-l1": qcow2(every, writes, (0x200, entry(0x600))),
        "qcow2/l2-in-itself": qcow2(every, writes, (0xe00, entry(0xe00))),
        "qcow2/past-the-end": qcow2(every, writes, (0xe00, entry(0x1e00))),
        "qcow2/leak": qcow2(every, writes, (0x400 + 24, b"\0\7")),
        "qcow2/dirty": qcow2(every, writes, (72, entry(1))),
        "qcow2/order-6": qcow2(every, writes, (96, b"\0\0\0\6")),
        "qcow2/many-l1": qcow2(every, writes, (36, b"\0\x40\0\0")),
        "qcow2/no-snapshot": qcow2(every, writes, (60, b"\0\0\0\0")),
    }


def main():
    requests = [(1, 3, 7), (0, 0, 40), (65, 20, 30), (2, 0, 0), (4, 0, 255), (133, 60000, 9), (3, 8, 8)]
    kernel = elf(18)
    seeds = {
        "kernel/elf-pvh": kernel,
        "kernel/elf": elf(1),
        "modules/chain": b"kernel/a.ko: kernel/b-c.ko kernel/d.ko.xz\nkernel/b-c.ko: kernel/d.ko.xz\nkernel/d.ko.xz:\n",
        "modules/circle": b"a.ko: b.ko\nb.ko: a.ko\n",
        "partition/gpt": b"\x02\0" + gpt(),
        "partition/gpt-second": b"\0\0" + gpt()[:512] + bytes(512) + gpt()[1024:],
        "partition/gpt-4k": b"\x02\x0e" + big(gpt()),
        "partition/logical": b"\x05\0" + logical(),
        "vmdk/sparse": vmdk_seed(1, vmdk(2), *requests),
        "vmdk/zeroed": vmdk_seed(1, vmdk(4), *requests),
        "vmdk/packed": vmdk_seed(3, vmdk(0x30000), (0, 0, 9), (0, 2, 1)),
        "vmdk/footer": vmdk_seed(3, vmdk(0x30000, True), (0, 0, 9)),
        "vmdk/flat": vmdk_seed(1, vmdk_text("monolithicFlat", 'RW 100 FLAT "a" 2'), *requests),
        "vmdk/mixed": vmdk_seed(1, vmdk_text("twoGbMaxExtentSparse", 'RW 1000 SPARSE "a"', "RW 9 ZERO",
                                             'RW 1000 SPARSE "b"'), *requests),
    }
    for shape in range(4):
        what = shape << 2 | (2 if shape == 3 else 0)
        seeds["vmdk/shape-%d" % shape] = vmdk_seed(what, b"", *requests)
        for kind in range(6):
            seeds["vmdk/changed-%d-%d" % (shape, kind)] = \
                vmdk_seed(what, struct.pack("<BHB", kind, 4, 4) + b"\x11\0\0\0", *requests)
    seeds.update(qcow2_seeds())
    packers = {
        "gzip": gzip.compress, "lz4": lz4_legacy, "zstd": zstd, "raw": lambda d: d,
        "xz": lambda d: lzma.compress(d, check=lzma.CHECK_CRC32),
    }
    for name, pack in packers.items():
        seeds["kernel/bzimage-" + name] = bzimage(pack(kernel), len(kernel))
    for path, data in seeds.items():
        path = os.path.join(sys.argv[1], path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)


main()
