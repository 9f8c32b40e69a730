# SPDX-License-Identifier: MIT
"""kvick boot: kernels with a console, what they find, and the ways in which they end."""
import json
import os
import re

from harness import KVICK, SIGTERM, Console, case, check, check_verb, tail

# What a stock kernel says when a device that it looks for does not answer in time.
PROBE_TROUBLE = re.compile(
    r"timed out|timeout|i8042: (No controller|Can't|.*failed)|rtc_cmos.*(broken|not accessible)|"
    r"soft lockup|rcu.*stall|Call Trace|WARNING:|BUG:|unchecked MSR|clocksource: .*unstable", re.I)


def boot_args(lab, name, *options, kernel=None):
    return [KVICK, "boot", "--kernel", kernel or lab.cloud, "--initrd", lab.initrd,
            "--name", name, *options]


def fact(console, name):
    return console.expect(rf"^KVICK {name} (\S+)\r?\n")[1]


def check_facts(console, cpus, memory):
    """What the guest has found is what it was given (memory in MiB)."""
    check(int(fact(console, "nproc")) == cpus, f"not {cpus} processors")
    total = int(fact(console, "memory")) / 1024
    least = memory - 64 - memory * 0.02
    check(least <= total <= memory, f"MemTotal {total:.0f} MiB of {memory}")
    clock = fact(console, "clock")
    check(clock == "kvm-clock", f"clocksource {clock}")
    console.expect("^KVICK listens on [1-9]")


def check_probes(console, stats):
    """No message of a time-out, and no device's register asked over and over."""
    before_end = console.text.partition("sysrq: Trigger a crash")[0]
    trouble = [line for line in before_end.splitlines() if PROBE_TROUBLE.search(line)]
    check(not trouble, f"the kernel says {trouble[:1]}")
    with open(stats, encoding="utf-8") as f:
        ports = json.load(f)["ports"]
    for port in ports:
        busy = port["name"].startswith(("keyboard", "nobody"))
        check(not busy or port["accesses"] < 1000, f"{port['accesses']} accesses: {port['name']}")


def boot_cloud(lab, name, cpus, memory, end):
    """The cloud kernel as packaged, to user space and out again by `end`."""
    stats = lab.file(".stats")
    args = boot_args(lab, name, "--cpus", str(cpus), "--memory", str(memory), "--stats", stats)
    with Console(args) as console:
        check_facts(console, cpus, memory)
        uptime = re.search(r"KVICK uptime (\S+)", console.text)[1]
        status = end(console, name)
        err = console.ends(status)
    check_probes(console, stats)
    # Bytes of the program that writes may have come in between.
    told = re.search(".*?".join("panic: sysrq triggered crash"), err)
    check(status != 11 or told, f"the panic is not told: {tail(err)}")
    return f"user space after {uptime} s of guest time"


def end_poweroff(console, _):
    console.send("poweroff")
    return 0


def end_reboot(console, _):
    console.send("reboot")
    return 10


def end_panic(console, _):
    console.send("panic")
    return 11


def end_stop(console, name):
    check_verb("stop", name)
    console.expect("^KVICK power button")
    return 0


@case("cloud-1cpu-128M-poweroff")
def cloud_poweroff(lab):
    return boot_cloud(lab, "c1", 1, 128, end_poweroff)


@case("cloud-2cpu-5G-power-button")
def cloud_stop(lab):
    return boot_cloud(lab, "c2", 2, 5120, end_stop)


@case("cloud-1cpu-5G-reboot")
def cloud_reboot(lab):
    return boot_cloud(lab, "c3", 1, 5120, end_reboot)


@case("cloud-2cpu-128M-panic")
def cloud_panic(lab):
    return boot_cloud(lab, "c4", 2, 128, end_panic)


@case("boot-restart")
def restart(lab):
    """Restarted in place, as often as it reboots, and its console and button still work."""
    kernel = os.path.join(lab.minimal_dir, "bzImage.lz4")
    args = boot_args(lab, "restart", "--on-reboot", "restart", "--cpus", "2", kernel=kernel)
    with Console(args) as console:
        for _ in range(2):
            check_facts(console, 2, 256)
            console.send("reboot")
        check_facts(console, 2, 256)
        console.send("hello")
        console.expect("^KVICK heard hello")
        console.signal(SIGTERM)
        console.expect("^KVICK power button")
        console.ends(0)


@case("boot-panic-without-console")
def panic_pvpanic(lab):
    """Nothing shows on a console that is not there: pvpanic tells."""
    args = [KVICK, "run", "--kernel", lab.minimal, "--rootfs", lab.root, "--", "sh", "-c",
            "echo c >/proc/sysrq-trigger; sleep 60"]
    with Console(args) as console:
        err = console.ends(125)
    check("panic" in err, f"the panic is not told: {tail(err)}")


@case("memtest")
def memtest(_):
    """memtest86+ paints its screen on the serial console and begins its first pass."""
    args = [KVICK, "boot", "--kernel", "/boot/memtest86+x64.bin", "--append",
            "console=ttyS0,115200", "--memory", "64", "--name", "memtest"]
    with Console(args) as console:
        console.expect(r"Memtest86\+")
        console.expect(r"Pass.*#\s*0|Test.*#\s*0|\[Address test|Testing:")
        check_verb("kill", "memtest")
        console.ends(137)
