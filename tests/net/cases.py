# SPDX-License-Identifier: MIT
"""What holds of bridges and of the NICs on them, case by case."""
import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import random
import re
import socket
import struct
import subprocess
import tempfile
import time

from bridge import BROADCAST, JAIL, Nic, Refused, checksum, echo, ip_packet, mac_of, udp

FORWARD = "/proc/sys/net/ipv4/ip_forward"
STATE = "/run/kvick-net"
LOCK = f"{STATE}/lock"


class Skip(Exception):
    pass


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def sh(*words, status=0):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    check(done.returncode == status, f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def links(kind=None):
    all_links = json.loads(sh("ip", "-j", "-d", "link", *(["show", "type", kind] if kind else [])))
    return {l["ifname"]: l for l in all_links if l}


def tables():
    return sorted(line.split(maxsplit=1)[1] for line in sh("nft", "list", "tables").splitlines())


def kernel_is(*least):
    return tuple(int(w) for w in re.findall(r"\d+", os.uname().release)[:2]) >= least


def forward():
    with open(FORWARD, encoding="ascii") as f:
        return f.read().strip()


def set_forward(value):
    with open(FORWARD, "w", encoding="ascii") as f:
        f.write(value)


def processes(name):
    """Those that run: one that has ended and was not waited for is none."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            line = f.read()
            if f"({name})" in line and line.rpartition(") ")[2][0] != "Z":
                found.append(int(pid))
    return found


class Lab:
    def __init__(self, program):
        self.program, self.number = program, 0
        sh("mount", "-t", "tmpfs", "run", "/run")
        sh("ip", "link", "set", "lo", "up")

    def nic(self, vm=None, **options):
        self.number += 1
        return Nic(self.program, vm or f"vm{self.number}", self.number, **options)

    def net(self, *words, status=0):
        return sh(self.program, *words, status=status)

    def refused(self, words, **options):
        try:
            self.nic(**options).end()
        except Refused as error:
            check(words in str(error), f"it says \"{error}\" and not \"{words}\"")
            check("\n" not in str(error), "it says more than one line")
            return
        raise AssertionError(f"it is not refused: {words}")

    def listed(self):
        return {b["name"]: b for b in json.loads(self.net("ls", "--json"))}

    def check_nothing_left(self):
        left = [n for n in links() if n != "lo"]
        check(not left, f"interfaces {left}")
        check(not tables(), f"tables {tables()}")
        check(not processes("dnsmasq"), "dnsmasq")
        check(not processes("kvick-net"), "kvick-net")
        check(forward() == "0", "ip_forward is 1")
        check(not os.path.exists(STATE), f"{STATE} is left")

    def clean_up(self):
        for name in ("kvick-net", "dnsmasq"):
            for pid in processes(name):
                os.kill(pid, 9)
        sh("nft", "flush", "ruleset")
        for name in [n for n in links() if n != "lo"]:
            subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)
        sh("rm", "-rf", STATE)
        set_forward("0")


def is_from(mac):
    return lambda f: f[6:12] == mac


def end_all(*nics):
    for nic in nics:
        check(nic.end() == 0, "the guardian's status")


# --- bridges and NICs ------------------------------------------------------------------------------


def test_one(lab):
    a = lab.nic(vm="web")
    check(a.gateway == "10.86.0.1" and a.reply.prefix == 24, f"gateway {a.gateway}")
    check(a.address6.startswith("fd") and a.reply.prefix6 == 64, f"IPv6 {a.address6}")
    check(a.ping(a.gateway), "the host does not answer")
    b = lab.listed()["kvick0"]
    check(b["made-by"] == "VM web" and b["nics"][0]["address"] == a.address, f"{b}")
    check(links()[a.tap]["master"] == "kvick0", "the tap is not on the bridge")
    end_all(a)


def test_the_host_reaches_it_by_ipv6(lab):
    a = lab.nic()
    sh("ip", "-6", "neigh", "add", a.address6, "lladdr", a.mac.hex(":"), "dev", "kvick0")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(b"by IPv6", (a.address6, 9))
    seen = a.receive(lambda f: f[12:14] == b"\x86\xdd" and f.endswith(b"by IPv6"))
    check(seen and seen[:6] == a.mac, "no packet")
    end_all(a)


def test_three_share_it(lab):
    a, b, c = (lab.nic() for _ in range(3))
    check(len({a.address, b.address, c.address}) == 3, "addresses collide")
    a.arp(b.address)
    check(b.receive(lambda f: f[:6] == BROADCAST and f[12:14] == b"\x08\x06" and f[6:12] == a.mac),
          "no broadcast")
    b.ip(a.mac, a.address, 17, udp(1, 2, b"for a alone"))
    check(a.receive(lambda f: f.endswith(b"for a alone")), "no frame from b")
    check(not c.receive(lambda f: f.endswith(b"for a alone"), 0.2), "c has seen it too")
    end_all(a, b)
    check("kvick0" in links() and c.ping(c.gateway), "the bridge is gone before its last VM")
    end_all(c)
    check("kvick0" not in links(), "the bridge is still there")


def test_same_address_each_time(lab):
    number = lab.number
    a = lab.nic()
    first = a.address
    end_all(a)
    lab.number = number
    a = lab.nic()
    check(a.address == first, f"{a.address} after {first}")
    end_all(a)


def test_queues(lab):
    a, b = lab.nic(pairs=4), lab.nic(mtu=9000)
    check(len(a.files) == 5, f"{len(a.files)} descriptors")
    for i in range(4):
        flags, header = a.flags(i)
        check(flags & 0x5102 == 0x5102 and header == 12, f"flags {flags:x} header {header}")
    check(b.flags()[0] & 0x0100 == 0, "one queue is made as several")
    check(links()[b.tap]["mtu"] == 9000, "the tap's MTU")
    end_all(a, b)


def test_many_at_once(lab):
    for _ in range(3):
        nics = [lab.nic(wait=False, dhcp=True, nat=True, stderr=subprocess.DEVNULL) for _ in range(16)]
        for nic in nics:
            nic.await_reply()
        check(len({n.address for n in nics}) == 16, "addresses collide")
        check(len({n.tap for n in nics}) == 16, "taps collide")
        check(len(lab.listed()["kvick0"]["nics"]) == 16, "not all are listed")
        random.shuffle(nics)
        for nic in nics:
            nic.drop()
        for nic in nics:
            check(nic.process.wait(20) == 0, "a guardian's status")
        lab.check_nothing_left()


def test_every_address_is_taken(lab):
    nics = [lab.nic(address="10.5.0.1/29") for _ in range(5)]
    lab.refused("every address of 10.5.0.1/29 is taken", address="10.5.0.1/29")
    check(sorted(n.address for n in nics) == [f"10.5.0.{i}" for i in range(2, 7)], "addresses")
    end_all(*nics)


def test_chosen_addresses(lab):
    a = lab.nic(address="10.5.1.1/24", ip="10.5.1.77/24")
    check(a.address == "10.5.1.77" and a.gateway == "10.5.1.1", f"{a.address} {a.gateway}")
    lab.refused("ip 10.5.1.77/24: net0 of VM", ip="10.5.1.77/24")
    lab.refused("ip 10.5.1.1/24: is the address of kvick0 itself", ip="10.5.1.1/24")
    lab.refused("ip 10.5.2.7/24: is not in the network of kvick0, 10.5.1.1/24", ip="10.5.2.7/24")
    lab.refused("mac 02:00:00:00:00:", mac=a.mac)
    lab.refused("kvick0: its own mac is this", mac=a.resolve(a.gateway))
    end_all(a)


def test_a_guest_of_many_senders(lab):
    """The host keeps no more of them than it wants to, and the others are not lost for it."""
    if not kernel_is(6, 8):
        raise Skip("this kernel's bridges have no limit")
    a, b = lab.nic(), lab.nic()
    for i in range(10000):
        a.send(0x88b5, bytes(46), source=b"\x02\x01" + struct.pack("!I", i))
    known = sh("bridge", "fdb", "show", "br", "kvick0").count("02:01:")
    check(1000 < known <= 4096, f"it knows {known} senders")
    list(b.frames(0.1))
    check(b.ping(b.gateway), "the host does not answer")
    check(not a.receive(lambda f: f[:6] == b.mac, 0.2), "it has seen another's frames")
    end_all(a, b)


# --- ends ------------------------------------------------------------------------------------------


def test_guardian_killed(lab):
    a, b = lab.nic(nat=True, spoof_guard=True), lab.nic(spoof_guard=True)
    a.kill_guardian()
    check(a.ping(a.gateway), "the VM's network ended with the guardian")
    check(len(lab.listed()["kvick0"]["nics"]) == 2, "the VM is not counted as there")
    b.end()
    check("kvick0" in links(), "the bridge is gone while a VM is on it")
    a.drop()
    end_all(lab.nic())  # takes away what a has left


def test_both_killed(lab):
    a = lab.nic(nat=True, dhcp=True, spoof_guard=True, isolate=True)
    a.kill_guardian()
    a.drop()
    check("kvick0" in links() and tables() and processes("dnsmasq"), "nothing was left to take away")
    b = lab.nic(bridge="kvick1")
    check(list(links("bridge")) == ["kvick1"], f"left: {list(links('bridge'))}")
    check(not tables() and not processes("dnsmasq") and forward() == "0", "rules or processes are left")
    end_all(b)


def test_both_killed_and_started_again(lab):
    a = lab.nic(nat=True, dhcp=True, spoof_guard=True)
    a.kill_guardian()
    a.drop()
    b = lab.nic(address="10.7.0.1/24")
    check(b.gateway == "10.7.0.1" and b.ping(b.gateway), "the old bridge was used")
    check(lab.listed()["kvick0"]["nat"] is False, "it still has nat")
    end_all(b)


def test_killed_at_any_point(lab):
    """Wherever it was, the next one comes to nothing left."""
    for i in range(40):
        a = lab.nic(wait=False, nat=True, dhcp=True, spoof_guard=True, isolate=True,
                    stderr=subprocess.DEVNULL)
        time.sleep(i * 0.002)
        a.kill_guardian()
        a.drop()
        if i % 4 == 3:
            end_all(lab.nic(bridge="kvick9"))
            lab.check_nothing_left()


def state_dir():
    return next(f"{STATE}/{name}" for name in os.listdir(STATE) if name != "lock")


def test_killed_before_forward_is_put_back(lab):
    a = lab.nic(nat=True, stderr=subprocess.DEVNULL)
    a.kill_guardian()
    a.drop()
    sh("ip", "link", "del", "kvick0")
    sh("nft", "flush", "ruleset")
    sh("rm", "-r", f"{state_dir()}/kvick0")
    end_all(lab.nic())


def test_two_vms_and_a_kill_while_ending(lab):
    for i in range(10):
        a, b = lab.nic(spoof_guard=True, nat=True, stderr=subprocess.DEVNULL), lab.nic(spoof_guard=True)
        a.drop()
        time.sleep(i * 0.001)
        a.kill_guardian()
        check(b.ping(b.gateway), "the other VM's network")
        end_all(b)
        end_all(lab.nic())
        lab.check_nothing_left()


def test_bridge_deleted(lab):
    a, b = lab.nic(nat=True, stderr=subprocess.DEVNULL), lab.nic()
    sh("ip", "link", "del", "kvick0")
    for nic in (a, b):
        check(nic.line() == "bridge kvick0 was deleted", "no word of it")
        check(nic.line(0.2) is None, "more words than one")
    check(lab.listed()["kvick0"]["present"] is False, "it is listed as there")
    c = lab.nic()
    check(c.gateway == a.gateway and c.ping(c.gateway) and a.ping(a.gateway),
          "the bridge was not made anew for all")
    end_all(a, b, c)


def test_making_it_anew_is_cut_short(lab):
    """Its maker is killed at any point: it is made by the next one, and goes with the last."""
    for i in range(12):
        a = lab.nic(nat=True, isolate=True, stderr=subprocess.DEVNULL)
        sh("ip", "link", "del", "kvick0")
        b = lab.nic(wait=False, nat=True, stderr=subprocess.DEVNULL)
        time.sleep(0.01 + i * 0.001)
        b.kill_guardian()
        b.drop()
        c = lab.nic(nat=True, isolate=True)
        check(c.ping(c.gateway) and a.ping(a.gateway), "it was not made anew for all")
        check(not a.resolve(c.address, 1, 0.05), "isolated ones reach each other")
        end_all(a, c)
        lab.check_nothing_left()


def test_foreign_bridge_deleted(lab):
    sh("ip", "link", "add", "br0", "type", "bridge")
    a = lab.nic(bridge="br0")
    sh("ip", "link", "del", "br0")
    lab.refused("br0: was deleted, and is not ours to make anew", bridge="br0")
    end_all(a)


def edit_state(bridge, **members):
    """As one who was killed has left it."""
    path = f"{state_dir()}/{bridge}/bridge"
    with open(path, encoding="utf-8") as f:
        state = json.load(f)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**state, **members}, f)


def test_killed_before_its_number_was_written(lab):
    lab.net("create", "lan")
    edit_state("lan", index=0)
    a = lab.nic(bridge="lan")
    check(a.ping(a.gateway), "the host does not answer")
    end_all(a)
    lab.net("rm", "lan")
    a = lab.nic()
    a.kill_guardian()
    sh("ip", "link", "del", "kvick0")
    edit_state("kvick0", index=0)
    sh("ip", "link", "add", "kvick0", "type", "bridge")
    a.drop()
    end_all(lab.nic(bridge="kvick1"))
    check("kvick0" in links(), "another's bridge was taken away")
    sh("ip", "link", "del", "kvick0")


def test_create_killed(lab):
    """At any point: there is all of the bridge, or nothing of it."""
    for i in range(14):
        with subprocess.Popen([lab.program, "create", "--nat", "--dhcp", "lan"], stderr=subprocess.DEVNULL) as p:
            time.sleep(i * 0.006)
            p.kill()
        end_all(lab.nic())
        if "lan" in lab.listed():
            a = lab.nic(bridge="lan", nat=True, dhcp=True)
            check(a.ping(a.gateway) and processes("dnsmasq"), "not all of it is there")
            end_all(a)
            lab.net("rm", "lan")
        lab.check_nothing_left()


def test_bridge_replaced(lab):
    a = lab.nic()
    sh("ip", "link", "del", "kvick0")
    sh("ip", "link", "add", "kvick0", "type", "bridge")
    lab.refused("kvick0: was deleted and made anew by someone else")
    end_all(a)
    check("kvick0" in links(), "another's bridge was taken away")
    sh("ip", "link", "del", "kvick0")


def test_tap_deleted(lab):
    a, b = lab.nic(), lab.nic()
    sh("ip", "link", "set", b.tap, "nomaster")
    check(b.line() == f"tap {b.tap} was taken off kvick0", "no word of it")
    sh("ip", "link", "del", a.tap)
    check(a.line() == f"tap {a.tap} was deleted", "no word of it")
    end_all(a, b)


# --- what is done when it is asked for -----------------------------------------------------------------


def test_forward(lab):
    a, b = lab.nic(nat=True, stderr=subprocess.PIPE), lab.nic(nat=True, bridge="kvick1")
    check(forward() == "1", "ip_forward")
    end_all(a)
    said = a.process.stderr.read().decode()
    check(said.startswith("kvick: net.ipv4.ip_forward was 0 and is 1"), f"it says {said!r}")
    check(forward() == "1", "ip_forward is put back while another bridge has nat")
    end_all(b)
    check(forward() == "0", "ip_forward is not put back")
    set_forward("1")
    end_all(lab.nic(nat=True))
    check(forward() == "1", "ip_forward was not ours to change")
    set_forward("0")


@contextlib.contextmanager
def beyond():
    """Another machine, 192.0.2.2, as a process that holds its network namespace."""
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as p:
        while os.readlink(f"/proc/{p.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        inside = ["nsenter", f"--net=/proc/{p.pid}/ns/net"]
        sh("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(p.pid))
        sh("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
        sh("ip", "link", "set", "up0", "up")
        sh(*inside, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
        sh(*inside, "ip", "link", "set", "eth0", "up")
        try:
            yield inside
        finally:
            subprocess.run(["ip", "link", "del", "up0"], check=True)
            p.kill()


SEND = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"unasked", (sys.argv[1], 9))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0))
"""


def answer(data):
    """To an echo request that nobody has sent."""
    body = struct.pack("!BBHHH", 0, 0, 0, 7, 1) + data
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def test_nat(lab):
    with beyond() as inside:
        a, b = lab.nic(nat=True), lab.nic(bridge="kvick1")
        check(a.ping("192.0.2.2", a.gateway), "what is beyond does not answer")
        check(not b.ping("192.0.2.2", b.gateway, 0.5), "it does without nat")
        sh(*inside, "ip", "route", "add", "10.86.0.0/16", "via", "192.0.2.1")
        sh("ip", "neigh", "replace", a.address, "lladdr", a.mac.hex(":"), "dev", "kvick0")
        sh(*inside, "python3", "-c", SEND, a.address, answer(b"unasked!").hex())
        check(not a.receive(lambda f: b"unasked" in f, 0.3), "it was reached from beyond")
        end_all(a, b)


def test_isolate(lab):
    a, b, c = lab.nic(isolate=True), lab.nic(isolate=True), lab.nic()
    check(not a.resolve(b.address, 1, 0.3) and not b.receive(is_from(a.mac), 0.2),
          "isolated ones reach each other")
    a.arp(c.address)
    check(c.receive(is_from(a.mac)), "one that is not isolated is not reached")
    set_forward("1")
    host = a.resolve(a.gateway)
    a.ip(host, b.address, 17, udp(1, 2, b"by way of the host"))
    check(not b.receive(lambda f: f.endswith(b"by way of the host"), 0.3), "the host routes past it")
    set_forward("0")
    check(a.ping(a.gateway), "the host is not reached")
    end_all(a, b, c)


def test_isolated_bridge(lab):
    lab.net("create", "--isolate", "br3")
    a, b = lab.nic(bridge="br3"), lab.nic(bridge="br3")
    check(not a.resolve(b.address, 1, 0.3) and not b.receive(is_from(a.mac), 0.2),
          "guests reach each other")
    end_all(a, b)
    lab.net("rm", "br3")


def test_spoof_guard(lab):
    """Each lie in turn: none gets to the other guest, and the truth does."""
    a, b = lab.nic(spoof_guard=True), lab.nic()
    lie, other = mac_of(999), "10.86.0.250"
    local = b"\xfe\x80" + bytes(6) + bytes([a.mac[0] ^ 2, *a.mac[1:3], 0xff, 0xfe, *a.mac[3:]])

    def ip6(source, next_header, payload):
        return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255) + source + \
            socket.inet_pton(socket.AF_INET6, "ff02::1") + payload

    def solicit(target):
        return struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, target)

    def advert(target):
        return struct.pack("!BBHI", 136, 0, 0, 0) + target

    lies = {
        "a MAC": lambda: a.send(0x800, bytes(40), source=lie),
        "ARP for another's address": lambda: a.arp(b.address, sender=other),
        "ARP for another's MAC": lambda: a.arp(b.address, mac=lie),
        "IPv4": lambda: a.ip(b.mac, b.address, 1, echo(1), source=other),
        "IPv4 without a source": lambda: a.ip(b.mac, b.address, 1, echo(1), source="0.0.0.0"),
        "a DHCP server": lambda: a.ip(b.mac, b.address, 17, udp(67, 68, b"offer")),
        "IPv6": lambda: a.send(0x86dd, ip6(local[:-1] + b"\x99", 17, udp(1, 2, b"x"))),
        "a router": lambda: a.send(0x86dd, ip6(local, 58, struct.pack("!BBH", 134, 0, 0) + bytes(12))),
        "another's neighbour": lambda: a.send(0x86dd, ip6(local, 58, advert(local[:-1] + b"\x99"))),
        "a VLAN": lambda: a.send(0x8100, struct.pack("!HH", 5, 0x800) + ip_packet(
            a.address, b.address, 1, echo(1))),
        "a VLAN of number 0": lambda: a.send(0x88a8, struct.pack("!HH", 0, 0x800) + ip_packet(
            a.address, b.address, 1, echo(1))),
        "another protocol": lambda: a.send(0x88cc, bytes(40)),
        "a probe for another's address": lambda: a.arp(b.address, sender="0.0.0.0"),
        "a probe for another's IPv6": lambda: a.send(0x86dd, ip6(bytes(16), 58, solicit(b.address6))),
        "a DHCP client": lambda: a.send(0x800, dhcp_discover(b.mac)),
        "a DHCP client's fragment": lambda: a.send(0x800, ip_packet(
            a.address, b.address, 17, udp(68, 67, bytes(600))[:8], fragment=0x2000)),
        "a client that leaves": lambda: a.ip(b.mac, b.gateway, 17, dhcp_packet(b.mac, 7)),
        "a DHCPv6 server behind a fragment": lambda: a.send(0x86dd, ip6(
            local, 44, struct.pack("!BBHI", 60, 0, 1, 7) + bytes([17, 0, 1, 4]) + bytes(4))),
        "a querier": lambda: a.ip(BROADCAST, "224.0.0.1", 2, bytes([0x11, 10, 0xee, 0xf5]) + bytes(4)),
        "a querier of IPv6": lambda: a.send(0x86dd, ip6(local, 58, bytes([130]) + bytes(23))),
        "a redirect": lambda: a.ip(b.mac, b.address, 1, bytes([5]) + bytes(35)),
        "a short frame": lambda: a.send(0x800, b""),
    }
    for name, tell in lies.items():
        list(b.frames(0.02))
        tell()
        check(not b.receive(lambda f: f[6:12] in (a.mac, lie), 0.15), f"{name} gets through")
    truths = {
        "ARP": lambda: a.arp(b.address),
        "ARP that asks for its own": lambda: a.arp(a.address, sender="0.0.0.0"),
        "IPv4": lambda: a.ip(b.mac, b.address, 1, echo(1)),
        "DHCP": lambda: a.send(0x800, dhcp_discover(a.mac)),
        "DHCP again": lambda: a.ip(b.mac, b.address, 17, dhcp_packet(a.mac, 3)),
        "a fragment": lambda: a.send(0x86dd, ip6(
            local, 44, struct.pack("!BBHI", 17, 0, 1, 7) + udp(1, 2, b"x" * 8))),
        "the next fragment": lambda: a.send(0x86dd, ip6(
            local, 44, struct.pack("!BBHI", 17, 0, 16, 7) + b"x" * 8)),
        "IPv6 that asks for its own": lambda: a.send(0x86dd, ip6(bytes(16), 58, solicit(a.address6))),
        "IPv6": lambda: a.send(0x86dd, ip6(local, 17, udp(1, 2, b"x"))),
        "its own neighbour": lambda: a.send(0x86dd, ip6(local, 58, advert(local))),
    }
    for name, tell in truths.items():
        list(b.frames(0.02))
        tell()
        check(b.receive(is_from(a.mac), 2), f"{name} does not get through")
    check(a.ping(a.gateway), "the host is not reached")
    end_all(a)
    check(tables() == ["bridge kvick-kvick0"] and "nic" not in sh("nft", "list", "ruleset"), "its rules")
    end_all(b)


GROUP = bytes.fromhex("0180c200000e")  # frames to it a bridge leaves to the port's own interface


def test_spoof_guard_and_groups(lab):
    """No rule of the bridge's sees frames to its groups, and yet it would learn from them."""
    a, b, c = lab.nic(spoof_guard=True), lab.nic(), lab.nic(spoof_guard=True)
    check(b.ping(b.gateway) and c.ping(c.gateway), "the host does not answer")
    for nic in (b, c):
        a.send(0x88cc, bytes(46), to=GROUP, source=nic.mac)
    b.send(0x88cc, bytes(46), source=c.mac)  # b is not guarded, and c does not lose its place
    for nic, name in ((b, b"for b"), (c, b"for c")):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(name, (nic.address, 9))
        check(nic.receive(lambda f, name=name: f.endswith(name)), "its frames are led away")
    check(not a.receive(lambda f: b"for " in f, 0.2), "it has seen another's frames")
    end_all(a, b, c)


def test_spoof_guard_and_stp(lab):
    """On a bridge that speaks STP a guest is no bridge."""
    sh("ip", "link", "add", "br0", "type", "bridge", "stp_state", "1")
    sh("ip", "link", "set", "br0", "up")
    a, b = lab.nic(bridge="br0", ip="10.1.0.5/24", spoof_guard=True), lab.nic(bridge="br0")
    for nic in (a, b):
        me = bytes(2) + nic.mac  # the best there is
        body = b"\x42\x42\x03" + bytes(5) + me + bytes(4) + me + struct.pack("<HHHHH", 0x80, 0, 20, 2, 15)
        nic.send(len(body), body + bytes(8), to=bytes.fromhex("0180c2000000"))
        time.sleep(0.1)
        port = links()["br0"]["linkinfo"]["info_data"]["root_port"]
        check((port == 0) == (nic is a), f"the root is behind port {port}")
    end_all(a, b)
    sh("ip", "link", "del", "br0")


def router_advert(mac):
    """With a default route, and a network of which each takes an address."""
    local = b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2, *mac[1:3], 0xff, 0xfe, *mac[3:]])
    to = socket.inet_pton(socket.AF_INET6, "ff02::1")
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    body += struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 3600, 3600, 0)
    body += socket.inet_pton(socket.AF_INET6, "2001:db8:66::") + b"\x01\x01" + mac
    body = body[:2] + struct.pack(
        "!H", checksum(local + to + struct.pack("!II", len(body), 58) + body)) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + local + to + body


def test_the_host_takes_nothing_from_a_tap(lab):
    """What goes to the bridge's groups comes to the host as the tap's, past the bridge."""
    a = lab.nic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 7777))
        s.settimeout(5)
        for to in (GROUP, BROADCAST):
            a.send(0x86dd, router_advert(a.mac), to=to)
            for source in ("192.0.2.9", a.address):
                a.send(0x800, ip_packet(source, a.gateway, 17, udp(1, 7777, to)), to=to)
        check(s.recv(64) == BROADCAST, "it takes a datagram from the tap")
    check(a.ping(a.gateway), "the host does not answer")
    check("kvt" not in sh("ip", "-6", "route") and "default" not in sh("ip", "-6", "route"),
          f"a guest is the host's router: {sh('ip', '-6', 'route')}")
    end_all(a)


def dhcp_packet(mac, kind, options=b""):
    body = struct.pack("!BBBBIHH16s16s", 1, 1, 6, 0, 0x1234, 0, 0x8000, bytes(16), mac) + bytes(192)
    body += b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + options + b"\xff"
    return udp(68, 67, body)


def dhcp_discover(mac, more=b""):
    return ip_packet("0.0.0.0", "255.255.255.255", 17, dhcp_packet(mac, 1, more))


def dhcp_answer(nic, seconds=5):
    """The address and the options of what a DHCP server answers."""
    seen = nic.receive(lambda f: f[12:14] == b"\x08\x00" and f[23] == 17 and
                       struct.unpack_from("!HH", f, 34) == (67, 68) and
                       f[70:76] == nic.mac, seconds)
    if not seen:
        return None, {}
    options, at = {}, 42 + 240
    while at < len(seen) and seen[at] != 255:
        if seen[at]:
            options[seen[at]] = seen[at + 2:at + 2 + seen[at + 1]]
        at += 2 + seen[at + 1] if seen[at] else 1
    return socket.inet_ntoa(seen[58:62]), options


def take_lease(nic, more=b""):
    for _ in range(5):  # as clients do: dnsmasq is told of the NIC by a signal
        nic.send(0x800, dhcp_discover(nic.mac, more))
        address, options = dhcp_answer(nic, 1)
        if address:
            break
    check(address == nic.address, f"DHCP offers {address} and not {nic.address}")
    check(options[3] == socket.inet_aton(nic.gateway) and options[6] == options[3], f"{options}")
    wish = bytes([50, 4]) + socket.inet_aton(address) + bytes([54, 4]) + options[54] + more
    nic.send(0x800, ip_packet("0.0.0.0", "255.255.255.255", 17, dhcp_packet(nic.mac, 3, wish)))
    address, options = dhcp_answer(nic)
    check(address == nic.address and options[53] == b"\x05", f"DHCP answers {address} {options}")


def ask_name(server, name, record=1):
    question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0)
    question += b"".join(bytes([len(w)]) + w.encode() for w in name.split("."))
    question += struct.pack("!BHH", 0, record, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(question, (server, 53))
        answer = s.recv(512)
    if not struct.unpack_from("!H", answer, 6)[0]:
        return None
    return str(ipaddress.ip_address(answer[-4:] if record == 1 else answer[-16:]))


def test_dhcp(lab):
    a, b = lab.nic(vm="web", dhcp=True), lab.nic(vm="db", dhcp=True)
    check(a.resolver == a.gateway, f"resolver {a.resolver}")
    for nic in (a, b):
        take_lease(nic)
    check(ask_name(a.gateway, "db") == b.address, "its name does not answer")
    check(ask_name(a.gateway, "db", 28) == b.address6, "its name does not answer for IPv6")
    end_all(b)
    end = time.monotonic() + 5  # it is told by a signal
    while ask_name(a.gateway, "db"):
        check(time.monotonic() < end, "it answers after it has gone")
    check(len(processes("dnsmasq")) == 1, "dnsmasq")
    end_all(a)


def test_dhcp_gives_an_address_again(lab):
    """To another MAC, at once: as a lease it would be kept for the first one."""
    a, b = lab.nic(dhcp=True, ip="10.86.0.9/24"), lab.nic(dhcp=True)
    take_lease(a)
    end_all(a)
    c = lab.nic(dhcp=True, ip="10.86.0.9/24")
    take_lease(c)
    end_all(b, c)


def test_no_guest_names_itself(lab):
    """By DHCP: what a VM is called the host says."""
    a = lab.nic(dhcp=True)
    take_lease(a, bytes([12, 4]) + b"wpad")
    check(ask_name(a.gateway, "wpad") is None, "a guest has the name that it asked for")
    end_all(a)


def test_dhcp_after_the_bridge_was_deleted(lab):
    a = lab.nic(dhcp=True)
    sh("ip", "link", "del", "kvick0")
    b = lab.nic(dhcp=True)
    for nic in (a, b):
        take_lease(nic)
    end_all(a, b)


def test_dnsmasq_of_another_bridge(lab):
    """A guardian that may not end it leaves it, and all else, to one that may."""
    a, b = lab.nic(dhcp=True, nat=True, stderr=subprocess.DEVNULL), lab.nic(bridge="kvick1")
    a.kill_guardian()
    a.drop()
    end_all(b)
    end_all(lab.nic())


def test_dnsmasq_without_its_number(lab):
    """As it is if its starter is killed before it has written it."""
    a = lab.nic(dhcp=True)
    sh("find", STATE, "-name", "dnsmasq.pid", "-delete")
    a.kill_guardian()
    a.drop()
    end_all(lab.nic())


def test_dnsmasq_killed(lab):
    a = lab.nic(dhcp=True)
    os.kill(processes("dnsmasq")[0], 9)
    while processes("dnsmasq"):
        time.sleep(0.01)
    b = lab.nic(dhcp=True)
    take_lease(b)
    end_all(a, b)


# --- bridges that are there, and that stay ---------------------------------------------------------------


def test_foreign(lab):
    sh("ip", "link", "add", "br0", "type", "bridge")
    sh("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
    sh("ip", "link", "set", "br0", "up")
    sh("ip", "link", "add", "port0", "master", "br0", "address", "02:aa:00:00:00:01", "type", "veth", "peer", "name", "port1")
    before = links()["br0"]
    a = lab.nic(bridge="br0", ip="10.1.0.5/24", spoof_guard=True, isolate=True)
    check(a.ping("10.1.0.1"), "the host does not answer")
    check(lab.listed()["br0"]["made-by"] == "another", "who made it")
    check("is no bridge that kvick made" in lab.net("rm", "--force", "br0", status=125), "rm")
    for what in ("nat", "dhcp"):
        lab.refused(f"br0: {what} is for bridges that kvick makes", bridge="br0", **{what: True})
    lab.refused("br0: address is for bridges", bridge="br0", address="10.1.0.1/24")
    lab.refused("spoof-guard: what address the guest has on br0 is not known", bridge="br0", spoof_guard=True)
    end_all(a)
    b = lab.nic(bridge="br0")
    check(b.address == "0.0.0.0" and b.gateway == "0.0.0.0", "an address was made up")
    end_all(b)
    after = links()["br0"]
    for key in ("address", "mtu", "ifindex"):
        check(before[key] == after[key], f"its {key} was {before[key]} and is {after[key]}")
    check("10.1.0.1/24" in sh("ip", "addr", "show", "br0"), "its address")
    sh("ip", "link", "del", "port0")
    sh("ip", "link", "del", "br0")


def test_stays(lab):
    lab.net("create", "--address", "10.8.0.1/24", "--nat", "--dhcp", "lan")
    check("there already, made by kvick net create" in lab.net("create", "lan", status=125), "twice")
    a = lab.nic(bridge="lan", vm="web")
    check(a.gateway == "10.8.0.1" and a.resolver == "10.8.0.1", f"{a.gateway} {a.resolver}")
    take_lease(a)
    check("lan             10.8.0.1/24        yes  yes   no       kvick net create     web/net0\n" in
          lab.net("ls"), f"{lab.net('ls')}")
    check("1 NIC is of VMs on it" in lab.net("rm", "lan", status=125) or
          "lan: 1 NIC" in lab.net("rm", "lan", status=125), "rm")
    end_all(a)
    check("lan" in links() and len(processes("dnsmasq")) == 1 and forward() == "1", "it did not stay")
    check("none: is no bridge" in lab.net("rm", "none", "lan", status=125), "rm of what is not there")
    check("lan" not in links(), "rm of the second")


def test_rm_may_not_end_dnsmasq(lab):
    lab.net("create", "--dhcp", "lan")
    out = sh("setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill", lab.program, "rm", "lan", status=125)
    check("lan: ending its dnsmasq takes CAP_KILL" in out, out)
    a = lab.nic(bridge="lan", dhcp=True)
    take_lease(a)
    end_all(a)
    lab.net("rm", "lan")


def test_deleted_by_another(lab):
    """Words that help."""
    lab.net("create", "lan")
    sh("ip", "link", "del", "lan")
    check("lan: was deleted, and is still known: kvick net rm lan first" in lab.net("create", "lan", status=125),
          "create")
    sh("ip", "link", "add", "lan", "type", "bridge")
    lab.refused("made anew by someone else; kvick net rm --force lan forgets ours", bridge="lan")
    lab.net("rm", "lan")
    end_all(lab.nic(bridge="lan"))
    check("lan" in links(), "another's bridge was taken away")
    sh("ip", "link", "del", "lan")


def test_removed_by_force(lab):
    lab.net("create", "--nat", "--dhcp", "lan")
    a = lab.nic(bridge="lan", spoof_guard=True)
    lab.net("rm", "--force", "lan")
    check(a.line() == "bridge lan was deleted", "no word of it")
    check(not processes("dnsmasq") and not tables() and forward() == "0", "rules or processes are left")
    end_all(a)


# --- the lock --------------------------------------------------------------------------------------


def make_lock():
    """Held, as by one who makes or removes something."""
    os.mkdir(STATE, 0o755)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    return lock


def await_waiter(lock):
    inode, end = f":{os.fstat(lock).st_ino} ", time.monotonic() + 10
    while time.monotonic() < end:
        with open("/proc/locks", encoding="ascii") as f:
            if any("->" in line and inode in line for line in f):
                return
        time.sleep(0.005)
    raise AssertionError("nobody waits for the lock that is there")


def test_lock_goes_while_one_waits(lab):
    first = make_lock()
    with subprocess.Popen([lab.program, "create", "lan"]) as waiter:
        await_waiter(first)
        os.unlink(LOCK)
        os.rmdir(STATE)
        second = make_lock()
        os.close(first)
        await_waiter(second)
        check("lan" not in links(), "it was made without the lock")
        os.close(second)
        check(waiter.wait(20) == 0, "it did not go on")
    lab.net("rm", "lan")


def test_first_ones_and_last_ones_at_once(lab):
    script = 'for i in $(seq 15); do "$0" create $1 && "$0" rm $1 || exit 1; done'
    several = [subprocess.Popen(["sh", "-c", script, lab.program, f"lan{i}"]) for i in range(4)]
    check([p.wait(60) for p in several] == [0] * 4, "one has failed")


def test_two_namespaces(lab):
    script = '"$0" create lan && echo made && read go && "$0" rm lan'
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script, lab.program], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        check(other.stdout.readline() == "made\n", "no bridge in the other one")
        end_all(lab.nic())
        check(len(os.listdir(STATE)) == 1, f"{os.listdir(STATE)}")
        other.communicate("go\n")
        check(other.returncode == 0, "the other one's bridge did not go")


def test_anyone_may_look(lab):
    a = lab.nic(nat=False)
    out = sh("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", lab.program, "ls")
    check("kvick0" in out and f"{a.vm}/net0" in out, out)
    end_all(a)


READ_LOCK = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("opened", flush=True)
fcntl.fcntl(fd, 38, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 0, 0))  # F_OFD_SETLKW
print("locked", flush=True)
sys.stdin.read()
"""


def test_who_looks_keeps_nothing(lab):
    """A lock that anyone may take on a NIC's file says nothing of the NIC."""
    a = lab.nic()
    folder = f"{state_dir()}/kvick0/nics"
    with subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c",
                           READ_LOCK, f"{folder}/{os.listdir(folder)[0]}"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        check(p.stdout.readline() == "opened\n", "it may not look")
        a.kill_guardian()
        a.drop()
        check(p.stdout.readline() == "locked\n", "no lock")
        end_all(lab.nic(bridge="kvick1"))
        lab.check_nothing_left()
        p.communicate("")


# --- bad input -------------------------------------------------------------------------------------------


def test_bad_input(lab):
    sh("ip", "link", "add", "dum0", "type", "veth", "peer", "name", "dum1")
    sh("ip", "addr", "add", "10.3.0.1/16", "dev", "dum0")
    sh("ip", "link", "set", "dum0", "up")
    sh("ip", "link", "add", "br5", "type", "bridge")
    lab.refused("dum0: is no bridge", bridge="dum0")
    lab.refused("\"\": a bridge's name has 1 to 15", bridge="")
    lab.refused("-x: a bridge's name has 1 to 15", bridge="-x")
    lab.refused("a/b: a bridge's name has 1 to 15", bridge="a/b")
    lab.refused("..: a bridge's name has 1 to 15", bridge="..")
    lab.refused("address 10.3.7.1/24 collides with the route to 10.3.0.0/16 dev dum0: choose another",
                address="10.3.7.1/24")
    for address, words in {"10.5.0.0/24": "is no host's address", "10.5.0.255/24": "is no host's address",
                           "10.5.0.1/31": "the length must be 8 to 30",
                           "10.5.0.1/7": "the length must be 8 to 30",
                           "127.0.0.5/24": "is no address that a host may have",
                           "224.0.0.5/24": "is no address that a host may have"}.items():
        lab.refused(words, address=address)
        check(words in lab.net("create", "--address", address, "x", status=125), f"create {address}")
    lab.refused("queues 9: must be 1 to 8", pairs=9)
    lab.refused("queues 0: must be 1 to 8", pairs=0)
    lab.refused("cannot put kvt0 on it", mtu=70000)
    a = lab.nic(address="10.4.0.1/24")
    lab.refused(f"it has 10.4.0.1/24 already, made by VM {a.vm}", address="10.4.0.2/24")
    lab.refused(f"it is there without nat, made by VM {a.vm}", nat=True)
    lab.refused(f"it is there without dhcp, made by VM {a.vm}", dhcp=True)
    end_all(a)
    for words, args in {"a bridge's name has 1 to 15": ("create", "a-name-of-16-byte"), "needs one name": ("create",),
                        "there is an interface of that name": ("create", "br5"),
                        "is no bridge that kvick made": ("rm", "br5"), "needs a name": ("rm",),
                        "no IPv4 address": ("create", "--address", "x/24", "y"),
                        "is no length of a network": ("create", "--address", "10.5.0.1/x", "y"),
                        "no command \"make\"": ("make",)}.items():
        out = lab.net(*args, status=125)
        check(words in out and out.startswith("kvick: ") and out.count("\n") == 1, f"{args}: {out}")
    sh("ip", "link", "del", "dum0")
    sh("ip", "link", "del", "br5")


def test_every_default_address_collides(lab):
    sh("ip", "link", "add", "dum0", "type", "veth", "peer", "name", "dum1")
    sh("ip", "addr", "add", "10.0.0.1/8", "dev", "dum0")
    sh("ip", "link", "set", "dum0", "up")
    lab.refused("collide with routes, as that to 10.0.0.0/8 dev dum0: choose one by address=")
    end_all(lab.nic(address="172.31.0.1/24"))
    sh("ip", "link", "del", "dum0")


def test_routes_and_addresses_collide(lab):
    """Those too that lead through no interface, or are of the host alone."""
    for what, kind in (("route", "blackhole"), ("addr", "local")):
        to = [kind, "10.86.0.0/24"] if kind == "blackhole" else ["10.86.0.9/32", "dev", "lo"]
        sh("ip", what, "add", *to)
        a = lab.nic()
        check(a.gateway == "10.86.1.1", f"{what}: it has {a.gateway}")
        end_all(a)
        lab.refused(f"address 10.86.0.1/24 collides with the route to {to[kind == 'blackhole']}",
                    address="10.86.0.1/24")
        sh("ip", what, "del", *to)


def test_not_root(lab):
    launch = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    lab.refused("a bridge needs CAP_NET_ADMIN: run as root, or use --net user", launch=launch)
    out = sh(*launch, lab.program, "create", "x", status=125)
    check("needs CAP_NET_ADMIN" in out, out)


def test_no_dnsmasq(lab):
    with tempfile.TemporaryDirectory() as empty:
        hide = ["unshare", "--mount", "sh", "-c", f'mount --bind {empty} /usr/sbin && exec "$0" "$@"']
        lab.refused("kvick0: dhcp needs dnsmasq, which is not there: apt-get install dnsmasq-base",
                    launch=hide, dhcp=True)


def test_dnsmasq_fails(lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 53))
        lab.refused("kvick0: dnsmasq: failed to create listening socket for 10.86.0.1", dhcp=True)


NO_NFTABLES = """
import ctypes, os, struct, sys
# Load the call, unless it is socket(AF_NETLINK, _, NETLINK_NETFILTER) allow it.
code = [(0x20, 0, 0, 0), (0x15, 0, 5, 41), (0x20, 0, 0, 16), (0x15, 0, 3, 16), (0x20, 0, 0, 32),
        (0x15, 0, 1, 12), (0x06, 0, 0, 0x0005005d), (0x06, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *c) for c in code)
buffer = ctypes.create_string_buffer(program)
prog = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(prog), 0, 0):
    sys.exit("no filter")
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_no_nftables(lab):
    for option in ("nat", "isolate"):
        lab.refused("kvick0: nftables: not in this kernel (modprobe nf_tables)", **{option: True},
                    launch=["python3", "-c", NO_NFTABLES], stderr=subprocess.DEVNULL)
    end_all(lab.nic(launch=["python3", "-c", NO_NFTABLES]))  # without it there is no need


def test_gives_up_power(lab):
    for dhcp, caps in ((False, 1 << 12), (True, 1 << 12 | 1 << 5)):
        a = lab.nic(dhcp=dhcp)
        with open(f"/proc/{a.process.pid}/status", encoding="utf-8") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f)
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            check(int(status[kind], 16) == caps, f"{kind} {status[kind]}")
        check(status["NoNewPrivs"] == "1", "it may gain privileges")
        check(JAIL != "0" or status["Seccomp"] == "2", "it is behind no filter")
        check(os.getsid(a.process.pid) == a.process.pid, "it is of our session")
        end_all(a)


def test_request_of_another_size(lab):
    for size in (1, ctypes.sizeof(ctypes.c_uint64) * 100):
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, other, subprocess.Popen([lab.program, "guard", "0"], stdin=other) as p:
            ours.send(bytes(size))
            check(p.wait(5) == 1, "status")
