# SPDX-License-Identifier: MIT
"""A running guest under kvick's other commands, and its vsock streams both ways."""
import json
import os
import socket
import subprocess
import threading

from harness import GUEST, Console, case, check, check_verb, verb

STREAMS = 30
LENGTH = 65536


def pattern(seed, length):
    return subprocess.run([GUEST, "pattern", str(seed), str(length)], stdout=subprocess.PIPE,
                          check=True).stdout


def to_guest(lab, port, bytes_out):
    """One stream from the host to a port of the guest, by the socket's CONNECT line."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(120)
        s.connect(os.path.join(lab.vms, "streams", "vsock"))
        s.sendall(f"CONNECT {port}\n".encode())
        with s.makefile("rb") as reader:
            check(reader.readline().startswith(b"OK "), "CONNECT was refused")
            writer = threading.Thread(target=lambda: (s.sendall(bytes_out),
                                                      s.shutdown(socket.SHUT_WR)))
            writer.start()
            back = reader.read()
            writer.join()
    check(back == bytes_out, f"{len(back)} of {len(bytes_out)} bytes came back, or others")


def echo(connection):
    with connection:
        connection.settimeout(120)
        while True:
            piece = connection.recv(65536)
            if not piece:
                connection.shutdown(socket.SHUT_WR)
                return
            connection.sendall(piece)


def echo_server(listener):
    try:
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],)).start()
    except OSError:
        return  # closed: the test is over


def host_to_guest(lab):
    errors = []
    parts = [pattern(i + 1, LENGTH) for i in range(STREAMS)]

    def one(bytes_out):
        try:
            to_guest(lab, 5000, bytes_out)
        except Exception as e:  # of a thread: told below
            errors.append(e)

    threads = [threading.Thread(target=one, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not errors, f"{len(errors)} of {STREAMS} streams to the guest: {errors[:1]}")


@case("vsock-streams-both-ways")
def streams(lab):
    args = lab.run_args("--name", "streams", "--cpus", "2", command=[
        "sh", "-c", "lab-guest serve 5000 & read x; "
        f"lab-guest connect 6000 {STREAMS} {LENGTH}; echo status $?; read x"])
    with Console(args) as console, socket.socket(socket.AF_UNIX) as listener:
        console.expect("^serving")
        host_to_guest(lab)
        listener.bind(os.path.join(lab.vms, "streams", "vsock_6000"))
        listener.listen(64)
        threading.Thread(target=echo_server, args=(listener,), daemon=True).start()
        console.send("go")
        console.expect(f"^{STREAMS} streams, 0 failed")
        console.expect("^status 0")
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(os.path.join(lab.vms, "streams", "vsock"))
            s.sendall(b"CONNECT 5999\n")
            check(s.recv(64) == b"", "a port without a listener was connected")
        console.send("end")
        console.ends(0)
        listener.shutdown(socket.SHUT_RDWR)


def check_jailed(pid):
    """Every thread is behind a filter of system calls, with nothing asked for."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as f:
            check("Seccomp:\t2\n" in f.read(), "a thread runs without a filter")


def ticks(console):
    """Nothing comes for a while, though the guest's command writes ten times a second."""
    with console.changed:
        console.at = len(console.text)
        console.changed.wait(1.0)
        return console.text[console.at:]


@case("control-verbs")
def verbs(lab):
    args = lab.run_args("--name", "verbs", command=[
        "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; echo tick; done"])
    with Console(args) as console:
        console.expect("^ready")
        row = [vm for vm in json.loads(check_verb("ps", "--json")) if vm["name"] == "verbs"]
        check(len(row) == 1, "ps does not show it")
        check_jailed(console.process.pid)
        check_verb("pause", "verbs")
        check('"paused"' in check_verb("status", "verbs"), "status does not say paused")
        check(verb("pause", "verbs").returncode == 125, "paused twice")
        ticks(console)  # what was under way
        check(not ticks(console), "the guest goes on while paused")
        check_verb("resume", "verbs")
        console.expect("^tick")
        check("exits" in check_verb("stats", "verbs"), "stats do not say exits")
        check_verb("stop", "verbs")
        console.ends(3)


@case("control-kill")
def kill(lab):
    args = lab.run_args("--name", "victim", command=["sh", "-c", "echo ready; sleep 600"])
    with Console(args) as console:
        console.expect("^ready")
        check_verb("kill", "victim")
        console.ends(137)
