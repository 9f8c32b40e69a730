# SPDX-License-Identifier: MIT
"""kvick run: statuses, streams, roots, and that nothing is left behind."""
import os
import re
import subprocess
import threading
import time

from harness import (GUEST, LONG, SIGTERM, Console, Failed, case, check, check_says, check_status,
                     status_of, tail)

MIB = 1 << 20


@case("run-vmlinux-exit-7", alone=True)
def first(lab):
    """Also tells how long a guest takes to start here, which others wait in proportion to."""
    result = lab.run("-e", "A=b", "-w", "/tmp", "--hostname", "box", stdin=b"word\n", command=[
        "sh", "-c", 'read x; echo "$x $A $PWD $(hostname)"; echo err >&2; exit 7'])
    check_status(result, 7)
    check(result.out == "word b /tmp box\n", f"stdout is {tail(result.out)}")
    check(result.err == "err\n", f"stderr is {tail(result.err)}")
    lab.boot_seconds = result.stats["run_ns"]["started"] / 1e9
    return f"the command started after {lab.boot_seconds:.1f} s"


def image(lab, kind):
    return os.path.join(lab.minimal_dir, "bzImage." + kind)


@case("run-bzImage-gzip-killed-137")
def killed(lab):
    result = lab.run(command=["sh", "-c", "kill -9 $$"], kernel=image(lab, "gzip"))
    check_status(result, 137)
    check(not result.out + result.err, f"output {tail(result.out + result.err)}")


@case("run-bzImage-xz-missing-127")
def missing(lab):
    result = lab.run(command=["/nonexistent"], kernel=image(lab, "xz"))
    check_status(result, 127)
    check_says(result, "/nonexistent: not found")


@case("run-bzImage-zstd-denied-126")
def denied(lab):
    result = lab.run(command=["/data"], kernel=image(lab, "zstd"))
    check_status(result, 126)
    check_says(result, "/data")


@case("run-bzImage-lz4-2cpu")
def lz4(lab):
    result = lab.run("--cpus", "2", command=["nproc"], kernel=image(lab, "lz4"))
    check_status(result, 0)
    check(result.out == "2\n", f"nproc is {tail(result.out)}")


@case("run-cloud")
def cloud(lab):
    """The cloud kernel has its vsock in modules, which init loads."""
    result = lab.run(command=["sh", "-c", "uname -r; exit 7"], kernel=lab.cloud)
    check_status(result, 7)
    check("cloud" in result.out, f"uname is {tail(result.out)}")


@case("run-cloud-pci")
def cloud_pci(lab):
    """virtio on PCI: each queue has an interrupt of its own, and they arrive."""
    result = lab.run("--transport", "pci", "--cpus", "2", "--net", "none", kernel=lab.cloud,
                     command=["cat", "/proc/interrupts"])
    check_status(result, 0)
    counts = {line.split()[-1]: sum(map(int, line.split()[1:3]))
              for line in result.out.splitlines() if "PCI-MSI" in line}
    check(set(counts) == {"virtio0-config", "virtio0-rx", "virtio0-tx", "virtio0-event",
                          "virtio1-config", "virtio1-input"}, f"interrupts are {sorted(counts)}")
    check(counts["virtio0-rx"] and counts["virtio0-tx"], f"interrupts are {counts}")


@case("run-debian")
def debian(lab):
    where = os.path.join(lab.scratch, "debian")
    os.mkdir(where)
    subprocess.run(["mount", "-o", "loop,ro", lab.debian, where], check=True)
    try:
        result = lab.run("--rootfs", where, command=[
            "bash", "-c", "cat /etc/debian_version; dpkg --print-architecture; exit 7"])
    finally:
        subprocess.run(["umount", where], check=True)
    check_status(result, 7)
    check(re.fullmatch(r"12\.\d+\namd64\n", result.out), f"stdout is {tail(result.out)}")


@case("run-timeout-124")
def timeout(lab):
    result = lab.run("--timeout", "2", command=["sleep", "60"])
    check_status(result, 124)
    check_says(result, "did not end within 2 s")
    took = result.ran_seconds()
    check(2 <= took < 3, f"ended after {took:.2f} s")


@case("run-no-stdin")
def no_stdin(lab):
    result = lab.run("-n", stdin=b"unwanted", command=["cat"])
    check_status(result, 0)
    check(result.out == "", f"stdout is {tail(result.out)}")


@case("run-term-passed-on")
def term(lab):
    args = lab.run_args(command=[
        "sh", "-c", "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done"])
    with Console(args) as console:
        console.expect("^ready")
        console.signal(SIGTERM)
        console.expect("^caught")
        console.ends(9)


@case("run-console-apart")
def console_apart(lab):
    """Kernel messages, asked for on stderr, are there and not among the output."""
    script = "for i in 1 2 3; do echo h >/proc/sysrq-trigger; echo $i; done"
    result = lab.run("--console", "serial", command=["sh", "-c", script])
    check_status(result, 0)
    check(result.out == "1\n2\n3\n", f"stdout is {tail(result.out)}")
    check(result.err.count("sysrq: HELP") == 3, f"stderr is {tail(result.err)}")


# ---- streams ----

def check_pattern(lab, length, rate=0, stdin=False):
    """A guest's stdout against the same bytes made here. Returns MB/s; `stdin`: both ways."""
    make = ["pattern", "5", str(length)]
    command = ["cat"] if stdin else ["lab-guest", *make]
    stats = lab.file(".stats")
    args = lab.run_args("--stats", stats, command=command)
    source = subprocess.Popen([GUEST, *make], stdout=subprocess.PIPE) if stdin else None
    with subprocess.Popen(args, stdin=source.stdout if stdin else subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as vm:
        start = time.monotonic()
        done = subprocess.run([GUEST, "check", "5", str(length), str(rate)], stdin=vm.stdout,
                              stderr=subprocess.PIPE, text=True, check=False)
        vm.stdout.close()
    if source:
        source.stdout.close()
        source.wait()
    check(done.returncode == 0, tail(done.stderr))
    check(status_of(vm) == 0, f"status {status_of(vm)}")
    seconds = time.monotonic() - start - lab.boot_seconds
    return f"{length / 1e6:.0f} MB, about {length / 1e6 / max(seconds, 0.1):.1f} MB/s"


@case("run-stdout-100MB", alone=True)
def stdout_bytes(lab):
    return check_pattern(lab, 100_000_000)


@case("run-stdout-slow-reader")
def slow_reader(lab):
    """The guest writes faster than it is read: 1 GiB in the long form."""
    if LONG:
        return check_pattern(lab, 1 << 30, rate=4 * MIB)
    return check_pattern(lab, 24 * MIB, rate=3 * MIB)


@case("run-stdin-and-back")
def stdin_and_back(lab):
    return check_pattern(lab, 16 * MIB, stdin=True)


@case("run-closed-stdout")
def closed_stdout(lab):
    """As in a pipe: SIGPIPE ends the command."""
    with subprocess.Popen(lab.run_args(command=["yes"]), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as vm:
        line = vm.stdout.readline()
        vm.stdout.close()
        vm.wait(60)
    check(line == b"y\n", f"the first line is {line}")
    check(status_of(vm) == 141, f"status {status_of(vm)}, not 141")


# ---- many ----

@case("run-8-at-once")
def at_once(lab):
    results = [None] * 8

    def one(i):
        try:
            results[i] = lab.run(command=["sh", "-c", f"echo {i}; exit {i}"]).status
        except Failed as e:
            results[i] = e

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(results == list(range(8)), f"statuses {results}")


@case("run-in-a-row")
def in_a_row(lab):
    count = 200 if LONG else 4
    for i in range(count):
        check_status(lab.run(command=["sh", "-c", f"exit {i % 100}"]), i % 100)
    return f"{count} runs"
