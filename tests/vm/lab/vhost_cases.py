# SPDX-License-Identifier: MIT
"""vhost-net under a stock kernel: the queues go to the host's kernel and come back under traffic, and nothing is lost."""
import hashlib
import http.server
import os
import random
import signal
import subprocess
import threading

from harness import LONG, Console, Skipped, case, check
from network import Pauses

SIZE = 4 << 20
CYCLES = 100 if LONG else 10

# A word a line: what it is done with is one line as well. The driver's reload is its device's
# unbinding, which stops and resets it as a module's removal does.
SCRIPT = """
set_up() { ip addr add $1/24 dev eth0 && ip link set eth0 up; }
there() { [ -e /sys/class/net/eth0 ]; }
get() { wget -q -O - http://$2:8000/data | sha256sum | sed 's/ .*//; s/^/got /'; }
device=$(basename "$(readlink /sys/class/net/eth0/device)")
driver=/sys/bus/virtio/drivers/virtio_net
set_up $1
echo up
while read -r word; do
	case $word in
	get) get $1 $2 ;;
	ping) ping -q -c 20 $2 | grep received ;;
	reload)
		get $1 $2 >/dev/null 2>&1 &
		echo "$device" >$driver/unbind
		while there; do :; done
		kill $! 2>/dev/null
		echo "$device" >$driver/bind
		until there; do :; done
		set_up $1
		echo reloaded ;;
	esac
done
"""


class Network:
    """A tap, and a file for the guest to get."""

    def __init__(self, lab, number):
        self.tap, self.host, self.guest = f"vhost{number}", f"10.79.{number}.1", f"10.79.{number}.2"
        for words in (f"tuntap add dev {self.tap} mode tap multi_queue",
                      f"addr add {self.host}/24 dev {self.tap}", f"link set {self.tap} up"):
            subprocess.run(["ip", *words.split()], check=True)
        folder = lab.file(".d")
        os.unlink(folder)
        os.mkdir(folder)
        data = random.randbytes(SIZE)
        with open(folder + "/data", "wb") as f:
            f.write(data)
        self.sum = hashlib.sha256(data).hexdigest()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *words):
                super().__init__(*words, directory=folder)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer((self.host, 8000), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        subprocess.run(["ip", "link", "del", self.tap], check=True)


def start(lab, net, mode, name):
    return Console(lab.run_args(
        "--name", name, "--cpus", "2", "--net", f"tap,name={net.tap},vhost={mode},queues=2",
        command=["sh", "-c", SCRIPT, "sh", net.guest, net.host]))


def kernel_threads(pid):
    """The kernel's threads that serve this process's NICs."""
    found = 0
    for task in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{task}/comm", encoding="utf-8") as f:
                found += f.read().strip() == f"vhost-{pid}"
        except OSError:
            pass  # it has ended
    return found


def get(console, net):
    console.send("get")
    got = console.expect(r"^got (\w+)$")[1]
    check(got == net.sum, f"the guest has got {got}, not {net.sum}")


def work(lab, mode, number):
    name = "vhost-" + mode
    with Network(lab, number) as net, start(lab, net, mode, name) as console:
        console.expect("^up$")
        count = kernel_threads(console.process.pid)
        check((count > 0) == (mode == "on"), f"vhost={mode} and {count} threads of the kernel")
        get(console, net)
        console.send("ping")
        console.expect("20 packets received")
        with Pauses(name) as pauses:  # while it is paused the queues are the monitor's
            for _ in range(4):
                get(console, net)
        check(pauses.count, "it was not paused")
        for _ in range(CYCLES):
            console.send("reload")
            console.expect("^reloaded$")
        get(console, net)
        console.process.stdin.close()
        console.ends(0)


@case("vhost-on")
def with_vhost(lab):
    if not os.path.exists("/dev/vhost-net"):
        raise Skipped("no /dev/vhost-net")
    work(lab, "on", 1)


@case("vhost-off")
def without_vhost(lab):
    work(lab, "off", 2)


@case("vhost-killed")
def killed(lab):
    """Under traffic: nothing is left of it, and the tap is free for the next."""
    if not os.path.exists("/dev/vhost-net"):
        raise Skipped("no /dev/vhost-net")
    with Network(lab, 3) as net, start(lab, net, "on", "vhost-killed") as console:
        console.expect("^up$")
        console.send("get")
        console.signal(signal.SIGKILL)
        console.process.wait(60)
        check(kernel_threads(console.process.pid) == 0, "the kernel's threads are left")
    with Network(lab, 3) as net, start(lab, net, "on", "vhost-killed") as console:
        console.expect("^up$")
        get(console, net)
        console.process.stdin.close()
        console.ends(0)
