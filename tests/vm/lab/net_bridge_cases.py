# SPDX-License-Identifier: MIT
"""Three guests at once on a bridge that kvick makes: among themselves, with the host, by DHCP."""
import contextlib
import re

from harness import case, check, tail
from network import (Guest, check_dhcp, check_iperf, check_ping, host, iperf_sums, iperf_words,
                     ping)

BRIDGE, NETWORK = "lab-br", "10.78.1"
NAMES = {"net-a": "", "net-b": "", "net-c": ",spoof-guard"}  # which takes nothing that is true


def address_of(guest, family):
    """What init gave the guest, before the first command."""
    said = guest.sh(f"ip -{family} -o addr show dev eth0 scope global")
    found = re.search(r"inet6? (\S+)/(\d+)", said)
    check(found, f"{guest.name} has no address: {tail(said)}")
    return found[1]


def check_reach(guests, addresses):
    """Each pings each of the others, and the host each; the others by name, too."""
    for guest in guests:
        check_ping(host(*ping(addresses[guest])), 20)
        check_ping(guest.sh(" ".join(ping(NETWORK + ".1"))), 20)
        for other in guests:
            if other is not guest:
                check_ping(guest.sh(" ".join(ping(addresses[other], 5))), 5)
                check_ping(guest.sh(" ".join(ping(address_of(other, 6), 5))), 5)
                check_ping(guest.sh(" ".join(ping(other.name, 2))), 2)


def check_ring(guests, addresses):
    """All send to the next one at the same time."""
    for way in ([], ["-R"]):
        for streams in ("1", "8"):
            for guest, other in zip(guests, guests[1:] + guests[:1]):
                guest.start(" ".join(iperf_words(addresses[other], "-P", streams, *way)))
            for guest in guests:
                got = iperf_sums(guest.finish())
                check(got["bytes"] > 100_000, f"{guest.name} {way} {streams}: {got['bytes']} bytes")


@case("net-bridge", alone=True)
def bridge(lab):
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(Guest(
            lab, name, "--net", f"bridge,br={BRIDGE},address={NETWORK}.1/24,dhcp{more}"))
            for name, more in NAMES.items()]
        addresses = {guest: address_of(guest, 4) for guest in guests}
        check(len(set(addresses.values())) == 3, f"addresses {addresses.values()}")
        for guest in guests:
            guest.sh("echo 4000000 >/proc/sys/net/core/rmem_default; iperf3 -s -D")
        check_reach(guests, addresses)
        note = check_iperf(addresses[guests[0]])
        check_ring(guests, addresses)
        check_dhcp(guests[2], re.escape(addresses[guests[2]]) + "/24", re.escape(NETWORK + ".1"),
                   re.escape(NETWORK + ".1"))
        check_ping(guests[2].sh(" ".join(ping(NETWORK + ".1", 5))), 5)
        guests.pop().end()
        host("ip", "link", "del", BRIDGE)
        for guest in guests:
            guest.sh(f"ping -c 2 -i 0.2 -W 1 {NETWORK}.1", ok=False)
            check(guest.sh("echo still here") == "still here", f"{guest.name} is gone")
            said = guest.end()
            check(f"network: net0: bridge {BRIDGE} was deleted" in said, f"stderr is {tail(said)}")
    return note
