# SPDX-License-Identifier: MIT
"""NICs under stress and misfortune: the driver reloaded, cables pulled, taps deleted."""
import json
import os
import threading
import time

from harness import LONG, Skipped, case, check, check_verb, tail, verb
from network import (Guest, Tap, carrier, check_dhcp, check_ping, cpu_seconds, host, ping,
                     wait_for)

RELOADS = 100 if LONG else 10
PLUGS = 50 if LONG else 4


class Flood:
    """Hundreds of pings a second, answered or not."""

    def __init__(self, address):
        self.address, self.over = address, False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.over:
            host("ping", "-q", "-n", "-i", "0.003", "-w", "1", "-s", "1400", self.address,
                 ok=False)

    def stop(self):
        self.over = True
        self.thread.join()


@case("net-driver-reloaded")
def reloaded(lab):
    """Under traffic from outside, again and again; then it works as before."""
    with Tap(10) as tap, Guest(lab, "net-reload", "--net",
                            f"tap,name={tap.name},vhost=off") as guest:
        guest.sh(tap.set_up_guest())
        # A neighbour that is known is sent to also while it does not answer.
        mac = guest.sh("cat /sys/class/net/eth0/address")
        host("ip", "neigh", "replace", tap.guest, "lladdr", mac, "dev", tap.name)
        flood = Flood(tap.guest)
        try:
            guest.sh(f"i=0; while [ $i -lt {RELOADS} ] && rmmod virtio_net && "
                     f"insmod /virtio_net.ko && {{ {tap.set_up_guest()}; }} && "
                     f"ping -q -c 2 -i 0.01 {tap.host} >/dev/null; do i=$((i + 1)); done; "
                     f"[ $i = {RELOADS} ]", limit=30 + RELOADS * 10)
        finally:
            flood.stop()
        check_ping(host(*ping(tap.guest)), 20)
        guest.end()
    return f"{RELOADS} times"


def link(lab, number, vhost):
    name = f"net-link{number}"
    with Tap(number) as tap, Guest(lab, name, "--net",
                                   f"tap,name={tap.name},vhost={vhost}") as guest:
        guest.sh(tap.set_up_guest())
        check_ping(host(*ping(tap.guest, 5)), 5)
        check_verb("link", name, "down")
        wait_for(guest, carrier(0))
        said = host("ping", "-n", "-q", "-c", "3", "-i", "0.1", "-W", "1", tap.guest, ok=False)
        check(" 0 received" in said, f"an answer over a link that is down: {tail(said)}")
        check_verb("link", name, "up")
        wait_for(guest, carrier(1))
        check_ping(host(*ping(tap.guest, 5)), 5)
        check(verb("link", name, "sideways").returncode != 0, "a link that is sideways")
        guest.end()


@case("net-link-down-up")
def link_ours(lab):
    link(lab, 11, "off")


@case("net-link-down-up-vhost")
def link_vhost(lab):
    link(lab, 15, "on")


@case("net-tap-deleted")
def tap_deleted(lab):
    """The link goes down, kvick says so once, and the VM goes on."""
    with Tap(12) as tap, Guest(lab, "net-deleted", "--net",
                               f"tap,name={tap.name},vhost=off") as guest:
        guest.sh(tap.set_up_guest())
        check_ping(host(*ping(tap.guest, 5)), 5)
        host("ip", "link", "del", tap.name)
        guest.sh("ping -c 3 -i 0.2 -W 1 " + tap.host, ok=False)
        wait_for(guest, carrier(0))
        before = cpu_seconds(guest.pid())
        time.sleep(1)
        took = cpu_seconds(guest.pid()) - before
        check(took < 0.5, f"{took:.2f} s of processor in a second with nothing to do")
        said = guest.end()
    check(said.count("network: net0: ") == 1, f"stderr is {tail(said)}")


def nic_of(name):
    """What kvick tells of its NIC."""
    return json.loads(check_verb("status", name))["nics"][0]


@case("net-tap-deleted-vhost")
def tap_deleted_vhost(lab):
    """The host's kernel says nothing: it is known once the queues are back, and the VM goes on."""
    if not os.path.exists("/dev/vhost-net"):
        raise Skipped("no /dev/vhost-net")
    name = "net-deleted-vhost"
    with Tap(16) as tap, Guest(lab, name, "--net", f"tap,name={tap.name},vhost=on") as guest:
        guest.sh(tap.set_up_guest())
        check_ping(host(*ping(tap.guest, 5)), 5)
        check(nic_of(name)["vhost"], "the kernel does not move its packets")
        flood = Flood(tap.guest)
        host("ip", "link", "del", tap.name)
        flood.stop()
        guest.sh("ping -c 3 -i 0.2 -W 1 " + tap.host, ok=False)
        before = cpu_seconds(guest.pid())
        time.sleep(1)
        took = cpu_seconds(guest.pid()) - before
        check(took < 0.5, f"{took:.2f} s of processor in a second with nothing to do")
        known = nic_of(name)["link"]
        check_verb("pause", name)
        check_verb("resume", name)
        wait_for(guest, carrier(0))
        check(nic_of(name)["link"] == "lost" and not nic_of(name)["vhost"], f"{nic_of(name)}")
        check(verb("link", name, "up").returncode != 0, "a link to nowhere is up")
        check(guest.sh("echo still here") == "still here", "the guest is gone")
        said = guest.end()
    check(said.count("network: net0: ") == 1 and f"tap {tap.name} has gone" in said,
          f"stderr is {tail(said)}")
    return f"the link was {known} until the queues came back"


@case("net-attach-detach")
def attach(lab):
    """A second NIC comes and goes, with traffic on both."""
    with Tap(13) as tap, Tap(14) as second, \
            Guest(lab, "net-plug", "--net", f"tap,name={tap.name}") as guest:
        guest.sh(tap.set_up_guest())
        floods = [Flood(tap.guest), Flood(second.guest)]
        try:
            for _ in range(PLUGS):
                check_verb("attach-nic", "net-plug", f"tap,name={second.name},id=second")
                wait_for(guest, "[ -e /sys/class/net/eth1 ]")
                guest.sh(second.set_up_guest("eth1"))
                check_ping(host(*ping(second.guest)), 20)
                check_verb("detach", "net-plug", "second")
                guest.sh("[ ! -e /sys/class/net/eth1 ]")
        finally:
            for flood in floods:
                flood.stop()
        check_ping(host(*ping(tap.guest)), 20)
        guest.end()
    return f"{PLUGS} times"


def use_plugged(guest, keys, network, resolver):
    """A NIC that comes: the guest asks for its address, and has its network until it goes."""
    check_verb("attach-nic", guest.name, keys)
    wait_for(guest, "[ -e /sys/class/net/eth1 ]")
    check_dhcp(guest, rf"{network}\.\d+/24", rf"{network}\.\d+", resolver, "eth1")
    way_out = guest.sh("ip route show default dev eth1").split()[2]
    check_ping(guest.sh(" ".join(ping(way_out))), 20)
    guest.sh("pkill dhclient", ok=False)
    check_verb("detach", guest.name, "more")
    guest.sh("[ ! -e /sys/class/net/eth1 ]")


@case("net-attach-user-bridge", alone=True)
def attach_user_and_bridge(lab):
    """What is at the other end of these is of the command that attaches them, and outlives it."""
    with Tap(17) as tap, Guest(lab, "net-more", "--net", f"tap,name={tap.name}") as guest:
        guest.sh(tap.set_up_guest())
        for _ in range(PLUGS // 2):
            use_plugged(guest, "user,id=more", r"10\.0\.2", r"10\.0\.2\.3")
            use_plugged(guest, "bridge,id=more,br=lab-more,address=10.79.1.1/24,nat,dhcp",
                        r"10\.79\.1", r"10\.79\.1\.1")
        check_ping(host(*ping(tap.guest)), 20)
        guest.end()
    return f"{PLUGS // 2} times each"
