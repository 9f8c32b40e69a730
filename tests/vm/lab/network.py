# SPDX-License-Identifier: MIT
"""What the tests of networks have in common: a guest with a shell, the host's side, iperf3."""
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

from harness import KVICK, Console, Failed, LONG, check, check_verb, program_of, tail

SECONDS = 10 if LONG else 1  # of one iperf3
TSO = 3000  # bytes of a frame that no wire has


def host(*words, ok=True, limit=60):
    """A command on the host's side; its stdout."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)
    check(not ok or done.returncode == 0, f"{' '.join(words)}: {tail(done.stderr + done.stdout)}")
    return done.stdout


class Guest:
    """A guest from the root of networks whose bash takes commands from here, one at a time."""

    def __init__(self, lab, name, *options, kernel=None, arguments=None):
        self.name, self.count = name, 0
        self.console = Console(arguments or lab.run_args(
            "--name", name, "--rootfs", f"path={lab.net},overlay=memory", *options,
            kernel=kernel or lab.cloud, command=["bash"]))

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.console.__exit__(*what)

    def pid(self):
        return self.console.process.pid

    def start(self, script):
        """Has the guest begin; `finish` waits for its end."""
        self.count += 1
        self.console.send(f"{{ {script}\n}} </dev/null 2>&1; echo; echo =={self.count} $?")

    def finish(self, ok=True, limit=120):
        """What the script said. `ok`: it must have ended well."""
        begin = self.console.at
        end = self.console.expect(rf"^=={self.count} (\d+)$", limit)
        said = self.console.text[begin:end.start()].strip("\n")
        check(not ok or end[1] == "0", f"{self.name}: status {end[1]}: {tail(said)}")
        return said

    def sh(self, script, ok=True, limit=120):
        self.start(script)
        return self.finish(ok, limit)

    def end(self):
        """By itself and well. Returns what kvick said."""
        self.console.process.stdin.close()
        return self.console.ends(0)


class Booted(Guest):
    """One with a small kernel and busybox, that has no command to end with, and can be reset."""

    def __init__(self, lab, name, *options):
        super().__init__(lab, name, arguments=[
            KVICK, "boot", "--kernel", lab.minimal, "--initrd", lab.initrd, "--name", name,
            *options])
        self.begin()

    def begin(self):
        """Waits for init, and has a shell take what comes."""
        self.console.expect("^KVICK uptime")
        self.console.send("shell")
        self.sh("stty -F /dev/ttyS0 -onlcr; ip link set lo up")

    def reset(self):
        check_verb("reset", self.name)
        self.begin()

    def end(self):
        self.console.send("poweroff -f")
        return self.console.ends(0)


class Pauses:
    """A VM that is paused again and again. `count`: how often it was."""

    def __init__(self, name):
        self.name, self.count, self.over = name, 0, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.over.wait(0.3):
            check_verb("pause", self.name)
            time.sleep(0.05)
            check_verb("resume", self.name)
            self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Tap:
    """A tap that outlives its VM, with addresses of the host's: .1 of 10.77.N.0/24 and ::1."""

    def __init__(self, number, *words):
        self.name, self.number = f"lab-tap{number}", number
        self.host, self.guest = f"10.77.{number}.1", f"10.77.{number}.2"
        self.host6, self.guest6 = f"fd77:{number}::1", f"fd77:{number}::2"
        host("ip", "tuntap", "add", "dev", self.name, "mode", "tap", *words)
        host("ip", "addr", "add", f"{self.host}/24", "dev", self.name)
        host("ip", "addr", "add", f"{self.host6}/64", "dev", self.name, "nodad")
        host("ip", "link", "set", self.name, "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        host("ip", "link", "del", self.name, ok=False)

    def set_up_guest(self, device="eth0"):
        """What brings up the guest's side."""
        return (f"ip addr add {self.guest}/24 dev {device}; ip link set {device} up; "
                f"ip addr add {self.guest6}/64 dev {device} nodad")


def wait_for(guest, script, limit=20):
    """Until the script ends well in the guest."""
    guest.sh(f"n=0; until {script}; do sleep 0.1; n=$((n + 1)); "
             f"[ $n -lt {limit * 10} ] || break; done; {script}", limit=limit + 120)


def carrier(state):
    return f'[ "$(cat /sys/class/net/eth0/carrier)" = {state} ]'


def check_dhcp(guest, address, router, resolver, device="eth0"):
    """The distribution's client, on an interface that has nothing."""
    guest.sh(f"ip addr flush dev {device}; ip link set {device} down; "
             "umount /etc/resolv.conf; : >/etc/resolv.conf", ok=False)
    guest.sh(f"dhclient -1 -v {device}")
    said = guest.sh(f"ip -4 -o addr show dev {device}; ip route; cat /etc/resolv.conf")
    for pattern in (rf"inet {address}", rf"default via {router} dev {device}",
                    rf"nameserver {resolver}"):
        check(re.search(pattern, said), f"lacks {pattern}: {tail(said)}")


def helper_of(pid, name):
    """The child of kvick that runs the program of that name."""
    for child in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{child}/stat", encoding="utf-8") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            if parent == pid and program_of(child) == name:
                return int(child)
        except OSError:
            continue  # it has ended
    raise Failed(f"kvick has no {name}")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def check_ping(said, sent):
    check(f"{sent} packets transmitted, {sent} received" in said, f"ping: {tail(said)}")


def ping(address, count=20):
    """The words of a quick ping."""
    return ["ping", "-n", "-i", "0.02", "-W", "5", "-c", str(count), address]


def iperf_words(address, *options, port=5201):
    return ["iperf3", "-J", "-c", address, "-p", str(port), "-t", str(SECONDS), *options]


def iperf_sums(text):
    """What the other end got, as iperf3 sums it up."""
    end = json.loads(text)["end"]
    return end.get("sum_received") or end["sum"]


def iperf(address, *options, port=5201):
    """One iperf3 from the host."""
    return iperf_sums(host(*iperf_words(address, *options, port=port), limit=SECONDS + 60))


def judge_iperf(run, address, udp, port):
    """`run`: has a client do what the words say, and returns what it said. Both ways, TCP and UDP,
    one stream and eight; UDP at a rate that does not overrun it."""
    notes = []
    for streams in (1, 8):
        for way in ([], ["-R"]):
            got = iperf_sums(run(iperf_words(address, "-P", str(streams), *way, port=port)))
            check(got["bytes"] > 100_000, f"TCP {streams} {way}: {got['bytes']} bytes")
            notes.append(f"{got['bits_per_second'] / 1e6:.0f}")
    rate = int(udp[:-1])
    for streams in (1, 8):
        for way in ([], ["-R"]):
            got = iperf_sums(run(iperf_words(
                address, "-u", "-b", f"{rate / streams:.2f}{udp[-1]}", "-P", str(streams), *way,
                port=port)))
            check(got["packets"] > 0 and got["lost_percent"] < 1,
                  f"UDP {streams} {way}: {got['lost_packets']} of {got['packets']} lost")
    return "TCP Mbit/s " + " ".join(notes)


def check_iperf(address, udp="4M", port=5201):
    """From the host."""
    return judge_iperf(lambda words: host(*words, limit=SECONDS + 60), address, udp, port)


class IperfServer:
    """iperf3 on the host, for guests."""

    def __init__(self, port):
        self.process = subprocess.Popen(["iperf3", "-s", "-p", str(port)],
                                        stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def pcap_lines(path, *words):
    """tcpdump's lines of a file, without their times."""
    return host("tcpdump", "-n", "-t", "-r", path, *words).splitlines()


class Capture:
    """tcpdump on an interface of the host, into a file."""

    def __init__(self, lab, device, *words):
        self.path = lab.file(".pcap")
        os.chmod(self.path, 0o666)  # tcpdump sheds its rights
        self.process = subprocess.Popen(
            ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-n", "-i", device,
             "-w", self.path, *words],
            stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        check("listening" in line, f"tcpdump did not start: {line}")

    def lines(self):
        self.process.terminate()
        _, said = self.process.communicate(timeout=30)
        check("0 packets dropped by kernel" in said, f"tcpdump: {tail(said)}")
        return pcap_lines(self.path)


def sizes(lines):
    """The lengths of TCP's payloads that tcpdump tells of."""
    return [int(m[1]) for m in (re.search(r"length (\d+)$", line) for line in lines) if m]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """One request a connection, as HTTP/1.0 has it."""

    def log_message(self, *_):  # pylint: disable=arguments-differ
        self.server.served.append(self.path)


class Backlog(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    address_family = socket.AF_INET6  # IPv4 as well

    def handle_error(self, request, client_address):
        """A guest that is reset lets go of what it was getting."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """A folder of the host's by HTTP."""

    def __init__(self, folder):
        def handler(*arguments):
            return Quiet(*arguments, directory=folder)
        self.http = Backlog(("::", 0), handler)
        self.http.served = []
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
