# SPDX-License-Identifier: MIT
"""User mode: a guest's network without any right on the host."""
import hashlib
import os
import random
import signal
import subprocess
import tempfile

from harness import KVICK, LONG, Skipped, case, check, tail
from network import (Booted, Guest, IperfServer, Pauses, Server, carrier, check_dhcp, check_iperf,
                     check_ping, helper_of, host, judge_iperf, ping, wait_for)

REQUESTS = 1000
PORT = 5201  # iperf3's


def check_configured(guest):
    """By init, with no round trip: the command finds it all there."""
    said = guest.sh("ip -o addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf")
    for text in ("inet 10.0.2.15/24", "inet6 fec0::15/64", "default via 10.0.2.2 dev eth0",
                 "default via fec0::2 dev eth0", "nameserver 10.0.2.3"):
        check(text in said, f"lacks {text}: {tail(said)}")
    # The address of the link is the kernel's own, and waits for nobody's sake.
    waits = [line for line in said.splitlines() if "tentative" in line and "scope link" not in line]
    check(not waits, f"an address waits: {waits}")


@case("net-user")
def user(lab):
    """iperf3 out of the guest and in through a published port; pings of the gateway."""
    inward, outward = 15201, 15202
    with IperfServer(outward), Guest(
            lab, "net-user", "--net", f"user,host=allow,publish={inward}:{PORT},"
            f"publish={inward}:{PORT}/udp") as guest:
        check_configured(guest)
        check_ping(guest.sh(" ".join(ping("10.0.2.2"))), 20)
        check_ping(guest.sh(" ".join(ping("fec0::2"))), 20)
        guest.sh(f"iperf3 -s -p {PORT} -D")
        published = check_iperf("127.0.0.1", udp="2M", port=inward)

        def from_guest(words):
            return guest.sh(" ".join(words), limit=120)

        out = judge_iperf(from_guest, "10.0.2.2", udp="2M", port=outward)
        guest.end()
    return f"published {published}; out {out}"


@case("net-user-http")
def http_requests(lab):
    """A thousand connections, each for one small file, by both families; and none fails."""
    with tempfile.TemporaryDirectory(dir=lab.scratch) as folder:
        with open(os.path.join(folder, "small"), "w", encoding="ascii") as f:
            f.write("short\n")
        with Server(folder) as server, \
                Guest(lab, "net-http", "--net", "user,host=allow") as guest:
            # With its globbing off for the brackets of an address, curl takes a list of URLs.
            for address, count in (("10.0.2.2", REQUESTS), ("[fec0::2]", 50)):
                url = f"http://{address}:{server.port}/small"
                said = guest.sh(f"for i in $(seq {count}); do echo 'url = \"{url}\"'; "
                                "echo output = /dev/null; done >/tmp/list; "
                                "curl -g -sS -w '%{http_code} %{size_download}\\n' -K /tmp/list | "
                                "sort | uniq -c", limit=400)
                check(said.split() == [str(count), "200", "6"], f"{address}: {tail(said)}")
            check(len(server.http.served) == REQUESTS + 50, f"{len(server.http.served)} served")
            guest.end()


def make_package(folder):
    """A repository with one package, kvick-hello, whose program says so."""
    tree = os.path.join(folder, "tree")
    os.makedirs(os.path.join(tree, "DEBIAN"))
    os.makedirs(os.path.join(tree, "usr/bin"))
    control = ("Package: kvick-hello\nVersion: 1.0\nArchitecture: all\n"
               "Maintainer: Kvick <kvick@localhost>\nDescription: says hello\n")
    with open(os.path.join(tree, "DEBIAN/control"), "w", encoding="ascii") as f:
        f.write(control)
    program = os.path.join(tree, "usr/bin/kvick-hello")
    with open(program, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho hello from a package\n")
    os.chmod(program, 0o755)
    package = os.path.join(folder, "kvick-hello.deb")
    host("dpkg-deb", "--root-owner-group", "-b", tree, package)
    with open(package, "rb") as f:
        content = f.read()
    with open(os.path.join(folder, "Packages"), "w", encoding="ascii") as f:
        f.write(f"{control}Filename: ./kvick-hello.deb\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\n")


@case("net-user-apt")
def apt(lab):
    """apt-get update and install, from a repository that the host serves."""
    with tempfile.TemporaryDirectory(dir=lab.scratch) as folder:
        make_package(folder)
        with Server(folder) as server, \
                Guest(lab, "net-apt", "--net", "user,host=allow") as guest:
            guest.sh(f"echo 'deb [trusted=yes] http://10.0.2.2:{server.port} ./' "
                     ">/etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; apt-get update && "
                     "apt-get install -y kvick-hello", limit=200)
            said = guest.sh("kvick-hello")
            check(said == "hello from a package", f"it says {tail(said)}")
            guest.end()


@case("net-user-dhcp")
def dhcp(lab):
    with Guest(lab, "net-dhcp", "--net", "user,host=allow") as guest:
        check_dhcp(guest, r"10\.0\.2\.15/24", r"10\.0\.2\.2", r"10\.0\.2\.3")
        check_ping(guest.sh(" ".join(ping("10.0.2.2", 5))), 5)
        guest.end()


def open_folders(*paths):
    """Everybody may get to these."""
    for path in paths:
        path = os.path.abspath(path)
        while (path := os.path.dirname(path)) != "/":
            os.chmod(path, os.stat(path).st_mode | 0o055)


@case("net-user-ordinary-user")
def ordinary(lab):
    """By a user with no right but that to /dev/kvm; `run` has user mode without being asked."""
    if "KVICK_LAB" in os.environ:  # where what is changed is thrown away, and no udev is
        os.chmod("/dev/kvm", 0o666)
        open_folders(KVICK, lab.minimal, lab.root)
    if not os.stat("/dev/kvm").st_mode & 0o002:
        raise Skipped("host: /dev/kvm is not for everybody")
    home = tempfile.mkdtemp(dir=lab.scratch)
    os.chown(home, 65534, 65534)
    open_folders(home)
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
         *lab.run_args(command=["sh", "-c", "ip addr show dev eth0; ping -c 2 10.0.2.2"])],
        env={**os.environ, "KVICK_RUNTIME_DIR": os.path.join(home, "vms")},
        capture_output=True, text=True, timeout=120, check=False)
    check(done.returncode == 0, f"status {done.returncode}: {tail(done.stderr)}")
    check("inet 10.0.2.15/24" in done.stdout, f"stdout is {tail(done.stdout)}")


class Data:
    """Random bytes to be got from the host, and their sum."""
    SIZE = (32 if LONG else 4) << 20

    def __init__(self, lab):
        self.folder = tempfile.TemporaryDirectory(dir=lab.scratch)
        data = random.randbytes(self.SIZE)
        with open(os.path.join(self.folder.name, "data"), "wb") as f:
            f.write(data)
        self.sum = hashlib.sha256(data).hexdigest()
        self.server = Server(self.folder.name)
        self.url = f"http://10.0.2.2:{self.server.port}/data"

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.server.__exit__(*what)
        self.folder.cleanup()


@case("net-user-paused")
def paused(lab):
    """Connections outlast pauses, what they carry is whole, and no ping is lost."""
    with Data(lab) as data, Guest(lab, "net-paused", "--net", "user,host=allow") as guest:
        check_ping(guest.sh(" ".join(ping("10.0.2.2", 5))), 5)
        with Pauses("net-paused") as pauses:
            said = guest.sh("ping -q -n -i 0.02 -c 100 10.0.2.2 >/tmp/ping & "
                            f"for i in 1 2 3 4; do curl -sS {data.url} | sha256sum; done; "
                            "wait; cat /tmp/ping")
        check(said.count(data.sum) == 4, f"the guest has got {tail(said)}")
        check_ping(said, 100)
        check(pauses.count > 2, f"paused {pauses.count} times")
        guest.end()
    return f"{pauses.count} times"


# What udhcpc has done once it has an address.
LEASE = """printf '#!/bin/sh\n[ $1 != bound ] || { ip addr add $ip/24 dev eth0; """ \
        """ip route add default via $router; }\n' >/lease; chmod +x /lease"""


@case("net-user-reset")
def reset(lab):
    """While it is served, again and again; each guest asks for its address and has its network."""
    with Data(lab) as data, Booted(lab, "net-reset", "--net", "user,host=allow") as guest:
        for _ in range(10 if LONG else 3):
            guest.sh(f"{LEASE}; ip link set eth0 up; udhcpc -q -n -i eth0 -s /lease")
            said = guest.sh("ping -c 5 -W 5 10.0.2.2")
            check("5 packets transmitted, 5 packets received" in said, f"ping: {tail(said)}")
            said = guest.sh(f"wget -q -O - {data.url} | sha256sum")
            check(data.sum in said, f"the guest has got {tail(said)}")
            guest.sh(f"while wget -q -O /dev/null {data.url}; do :; done & "
                     f"ping -A 10.0.2.2 >/dev/null & sleep 0.2")
            before = len(data.server.http.served)
            guest.reset()
        check(before > 1, f"{before} times got")
        guest.end()


@case("net-user-helper-killed")
def helper_killed(lab):
    """An event with its reason, the link is down, and the guest goes on."""
    with Guest(lab, "net-killed", "--net", "user") as guest:
        check_ping(guest.sh(" ".join(ping("10.0.2.2", 5))), 5)
        os.kill(helper_of(guest.pid(), "kvick-slirp"), signal.SIGKILL)
        wait_for(guest, carrier(0))
        guest.sh("ping -c 2 -i 0.2 -W 1 10.0.2.2", ok=False)
        check(guest.sh("echo still here") == "still here", "the guest is gone")
        said = guest.end()
    check("network: " in said and "kvick-slirp" in said, f"stderr is {tail(said)}")
