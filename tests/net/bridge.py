# SPDX-License-Identifier: MIT
"""Speaks to kvick-net as a monitor does, and for a guest through its tap."""
import array
import ctypes
import fcntl
import ipaddress
import os
import select
import signal
import socket
import struct
import subprocess
import time

HEADER = bytes(12)  # struct virtio_net_hdr_v1: nothing offloaded
BROADCAST = b"\xff" * 6
JAIL = {"kill": "0", "log": "1", "off": "2"}[os.environ.get("KVICK_SECCOMP", "kill")]
MONITOR_BLOCKS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # when it starts a helper
TUNGETIFF, TUNGETVNETHDRSZ = 0x800454d2, 0x800454d7


class Request(ctypes.Structure):
    _fields_ = [("bridge", ctypes.c_char * 64), ("address", ctypes.c_char * 32),
                ("vm", ctypes.c_char * 64), ("nic", ctypes.c_char * 64), ("ip", ctypes.c_char * 32),
                ("pairs", ctypes.c_uint32), ("mtu", ctypes.c_uint32), ("mac", ctypes.c_uint8 * 6),
                ("nat", ctypes.c_bool), ("dhcp", ctypes.c_bool), ("isolate", ctypes.c_bool),
                ("spoof_guard", ctypes.c_bool)]


class Reply(ctypes.Structure):
    _fields_ = [("error", ctypes.c_int32), ("text", ctypes.c_char * 256),
                ("tap", ctypes.c_char * 16), ("address", ctypes.c_uint8 * 4),
                ("gateway", ctypes.c_uint8 * 4), ("resolver", ctypes.c_uint8 * 12),
                ("address6", ctypes.c_uint8 * 16), ("prefix", ctypes.c_uint32),
                ("prefix6", ctypes.c_uint32)]


class Refused(Exception):
    pass


def mac_of(number):
    return bytes([2, 0, 0, 0, number >> 8, number & 255])


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def ip_packet(source, to, protocol, payload, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(source_port, port, payload):
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def echo(number):
    body = struct.pack("!BBHHH", 8, 0, 0, 7, number) + b"kvick's echo"
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


class Nic:
    """A NIC, whose guardian is `process` and whose VM is this object: `files` are all it holds."""

    def __init__(self, program, vm, number, bridge="kvick0", pairs=1, wait=True, launch=(), **options):
        self.vm, self.mac = vm, mac_of(number)
        self.socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        signal.pthread_sigmask(signal.SIG_BLOCK, MONITOR_BLOCKS)
        self.process = subprocess.Popen([*launch, program, "guard", JAIL], stdin=other,
                                        stderr=options.pop("stderr", None), env={})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, MONITOR_BLOCKS)
        other.close()
        self.files, self.reply = [], None
        self.socket.send(self.request(bridge, pairs, options))
        if wait:
            self.await_reply()

    def request(self, bridge, pairs, options):
        request = Request(bridge=bridge.encode(), vm=self.vm.encode(), pairs=pairs,
                          nic=options.pop("nic", "net0").encode(), mtu=options.pop("mtu", 0))
        request.mac[:] = options.pop("mac", self.mac)
        for key in ("address", "ip"):
            setattr(request, key, options.pop(key, "").encode())
        for key in ("nat", "dhcp", "isolate", "spoof_guard"):
            setattr(request, key, options.pop(key, False))
        assert not options, options
        return bytes(request)

    def await_reply(self):
        data, files, _, _ = socket.recv_fds(self.socket, ctypes.sizeof(Reply), 16)
        self.files = files
        if not data:
            raise Refused(f"kvick-net ended with status {self.process.wait()} and no answer")
        self.reply = Reply.from_buffer_copy(data)
        if self.reply.error:
            self.end()
            raise Refused(self.reply.text.decode())
        return self

    tap = property(lambda self: self.reply.tap.decode())
    address = property(lambda self: str(ipaddress.ip_address(bytes(self.reply.address))))
    address6 = property(lambda self: str(ipaddress.ip_address(bytes(self.reply.address6))))
    gateway = property(lambda self: str(ipaddress.ip_address(bytes(self.reply.gateway))))
    resolver = property(lambda self: str(ipaddress.ip_address(bytes(self.reply.resolver)[:4])))

    def drop(self):
        """The VM is gone, as a kill leaves it: everything it had is closed."""
        for fd in self.files:
            os.close(fd)
        self.files = []
        self.socket.close()

    def end(self):
        self.drop()
        return self.process.wait(20)

    def kill_guardian(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def line(self, seconds=5):
        """What the guardian says next."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return None
        return self.socket.recv(256).decode()

    def flags(self, queue=0):
        """The tap's flags and the size of its header, as the kernel has them."""
        ifr = bytearray(40)
        fcntl.ioctl(self.files[1 + queue], TUNGETIFF, ifr)
        size = array.array("i", [0])
        fcntl.ioctl(self.files[1 + queue], TUNGETVNETHDRSZ, size)
        return struct.unpack_from("H", ifr, 16)[0], size[0]

    # --- as the guest ---

    def send(self, kind, payload, to=BROADCAST, source=None):
        os.write(self.files[1], HEADER + to + (source or self.mac) + struct.pack("!H", kind) + payload)

    def arp(self, ask, sender=None, mac=None):
        self.send(0x806, struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac or self.mac,
                                     socket.inet_aton(sender or self.address), bytes(6),
                                     socket.inet_aton(ask)))

    def ip(self, to_mac, to, protocol, payload, source=None):
        self.send(0x800, ip_packet(source or self.address, to, protocol, payload), to_mac)

    def frames(self, seconds):
        """What comes within that time."""
        end = time.monotonic() + seconds
        while select.select([self.files[1]], [], [], max(0, end - time.monotonic()))[0]:
            yield os.read(self.files[1], 65536)[len(HEADER):]

    def receive(self, wanted, seconds=5):
        """The first frame that is wanted, or None."""
        return next((f for f in self.frames(seconds) if wanted(f)), None)

    def resolve(self, address, tries=5, wait=1, **options):
        """The MAC that answers for an address, as ARP tells it; or None. It is asked again, as hosts
        do: a bridge that has just got its first port may drop what it is to send."""
        for _ in range(tries):
            self.arp(address, **options)
            answer = self.receive(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02" and
                                  f[28:32] == socket.inet_aton(address), wait)
            if answer:
                return answer[22:28]
        return None

    def ping(self, to, via=None, seconds=5, **options):
        """Whether there is an answer to an echo request."""
        mac = self.resolve(via or to)
        if not mac:
            return False
        self.ip(mac, to, 1, echo(1), **options)
        return self.receive(lambda f: f[12:14] == b"\x08\x00" and f[23] == 1 and f[34] == 0 and
                            f[26:30] == socket.inet_aton(to), seconds) is not None
