# SPDX-License-Identifier: MIT
"""Real work over a tap: ping, iperf3, offloads, and captures that agree."""
import os
import re

from harness import case, check, tail
from network import (TSO, Capture, Guest, Tap, check_iperf, check_ping, host, iperf,
                     pcap_lines, ping, sizes)

OFFLOADS = ("rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload",
            "tx-tcp-segmentation", "tx-tcp6-segmentation", "rx-gro-hw")


def check_pings(guest, tap):
    """Both ways, both families, and what has to be sent in pieces."""
    for address in (tap.guest, tap.guest6):
        check_ping(host(*ping(address)), 20)
    for address in (tap.host, tap.host6):
        check_ping(guest.sh(" ".join(ping(address))), 20)
    check_ping(host(*ping(tap.guest, 5), "-s", "20000"), 5)


def check_offloads(guest):
    said = guest.sh("ethtool -k eth0")
    for name in OFFLOADS:
        check(re.search(rf"^\s*{name}: on", said, re.M), f"{name} is not on: {tail(said)}")


def check_segments(lab, guest, tap):
    """With TSO frames are longer than the MTU, both ways; without, none that the guest sends."""
    for state in ("on", "off"):
        guest.sh(f"ethtool -K eth0 tso {state} gso {state}")
        capture = Capture(lab, tap.name, "-s", "96", "tcp", "port", "5201")
        iperf(tap.guest)
        iperf(tap.guest, "-R")
        lines = capture.lines()
        sent = sizes(line for line in lines if line.startswith(f"IP {tap.guest}."))
        got = sizes(line for line in lines if line.startswith(f"IP {tap.host}."))
        check(max(got) > TSO, f"tso {state}: the host's longest is {max(got)}")
        check(max(sent) > TSO if state == "on" else max(sent) <= 1460,
              f"tso {state}: the guest's longest is {max(sent)} bytes")
    guest.sh("ethtool -K eth0 tso on gso on")


def tap_work(lab, number, vhost):
    with Tap(number) as tap, Guest(lab, f"net-tap{number}", "--net",
                                   f"tap,name={tap.name},vhost={vhost}") as guest:
        guest.sh(tap.set_up_guest())
        check_pings(guest, tap)
        check_offloads(guest)
        # A guest that is kept waiting is to have room for what comes meanwhile.
        guest.sh("echo 4000000 >/proc/sys/net/core/rmem_default; iperf3 -s -D")
        note = check_iperf(tap.guest)
        check_segments(lab, guest, tap)
        guest.end()
    return note


@case("net-tap")
def tap_ours(lab):
    return tap_work(lab, 1, "off")


@case("net-tap-vhost")
def tap_vhost(lab):
    return tap_work(lab, 4, "on")


@case("net-tap-ip")
def told(lab):
    """The first command has the addresses, the way out and the resolvers that are said."""
    with Tap(5) as tap, Guest(
            lab, "net-told", "--net",
            f"tap,name={tap.name},ip={tap.guest}/24,gw={tap.host},ip={tap.guest6}/64,"
            f"gw={tap.host6},dns={tap.host},dns=10.76.5.3") as guest:
        said = guest.sh("ip -o addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf")
        for text in (f"inet {tap.guest}/24", f"inet6 {tap.guest6}/64",
                     f"default via {tap.host} dev eth0", f"default via {tap.host6} dev eth0",
                     f"nameserver {tap.host}\nnameserver 10.76.5.3"):
            check(text in said, f"lacks {text}: {tail(said)}")
        check_pings(guest, tap)
        # What is on no network of its own goes to the router.
        host("ip", "addr", "add", "10.76.5.1/32", "dev", "lo")
        check_ping(guest.sh(" ".join(ping("10.76.5.1", 5))), 5)
        host("ip", "addr", "del", "10.76.5.1/32", "dev", "lo")
        guest.end()


@case("net-captures-agree")
def captures(lab):
    """tcpdump on the tap, in the guest, and pcap= have the same packets, each way in one order."""
    ours = lab.file(".pcap")
    os.unlink(ours)
    with Tap(2) as tap, Guest(lab, "net-captures", "--net",
                              f"tap,name={tap.name},pcap={ours}") as guest:
        guest.sh(tap.set_up_guest())
        guest.sh("tcpdump -Z root --immediate-mode -U -n -i eth0 -w /tmp/g.pcap icmp "
                 ">/tmp/said 2>&1 & until grep -q listening /tmp/said; do sleep 0.1; done")
        capture = Capture(lab, tap.name, "icmp")
        check_ping(host(*ping(tap.guest, 10)), 10)
        check_ping(guest.sh(" ".join(ping(tap.host, 10)) + " -s 4000"), 10)
        outside = capture.lines()
        inside = guest.sh("kill -INT %1; wait; tcpdump -n -t -r /tmp/g.pcap 2>/dev/null")
        guest.end()
    check(len(outside) == 2 * 10 + 2 * 10 * 3, f"{len(outside)} packets on the host")
    for name, lines in (("the guest", inside.splitlines()), ("pcap=", pcap_lines(ours, "icmp"))):
        for source in (tap.host, tap.guest):
            there, here = ([line for line in all_lines if line.startswith(f"IP {source} ")]
                           for all_lines in (lines, outside))
            check(there == here, f"from {source}: {len(there)} in {name}: {tail(str(there[-3:]))}, "
                                 f"{len(here)} on the host: {tail(str(here[-3:]))}")


@case("net-multi-queue")
def multi_queue(lab):
    """Two pairs of queues with two vCPUs, each used."""
    with Tap(3, "multi_queue") as tap, Guest(lab, "net-mq", "--cpus", "2", "--net",
                                             f"tap,name={tap.name},queues=2") as guest:
        guest.sh(tap.set_up_guest())
        said = guest.sh("ethtool -L eth0 combined 2; ethtool -l eth0")
        check(re.search(r"Current.*Combined:\s+2", said, re.S), f"channels: {tail(said)}")
        guest.sh("iperf3 -s -D")
        iperf(tap.guest, "-P", "8")
        iperf(tap.guest, "-P", "8", "-R")
        said = guest.sh("cat /proc/interrupts")
        for queue in ("input.0", "input.1", "output.0", "output.1"):
            counts = re.search(rf"^ *\d+:([\d ]+).*{re.escape(queue)}$", said, re.M)
            check(counts and sum(map(int, counts[1].split())) > 10, f"{queue}: {tail(said)}")
        guest.end()
