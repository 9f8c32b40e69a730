# SPDX-License-Identifier: MIT
"""Guests whose init breaks the session: each is told from the others, and none does harm."""
from harness import case, check_says, check_status


def evil(lab, how, *options):
    """The minimal kernel with our tool as process 1 instead of kvick's init."""
    return lab.run("--append", f"rdinit=/bin/lab-guest -- evil {how}", *options, command=["true"])


def add(how, says, waits=0):
    """`waits`: gives up after so many times what a guest takes to start."""
    @case(f"init-{how}")
    def _(lab):
        options = ["--boot-timeout", f"{lab.boot_seconds * waits:.1f}"] if waits else []
        result = evil(lab, how, *options)
        check_status(result, 125)
        check_says(result, says)


add("absent", "guest's init did not connect within", waits=1)
add("silent", "guest's init connected and said nothing within", waits=3)
add("dies", "the guest ended before its command did: panic")
add("garbage", "guest's init sent a frame of 2779096485 bytes")
add("unknown", "guest's init sent a frame of unknown type 77")
add("version", "version 2")
add("flood", "bytes of stdout where")
add("half", "closed the connection before the command ended")
add("cut", "closed the connection 3 bytes into a frame")
add("early", "guest's init sent EXIT before the command was started")
