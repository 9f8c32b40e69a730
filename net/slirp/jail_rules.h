// SPDX-License-Identifier: MIT
// Which system calls kvick-slirp makes once it serves, and why. As base/jail_rules.h is read.
//
// What is not here is refused: no file is opened for writing, no program is run, no memory is made
// executable, no thread is started, no socket is made but of IPv4 and IPv6, no process is signalled
// but this one.

#define S ROLE(0)
#define WHOLE UINT32_MAX

#define EVERY S
#include "base/jail_shared_rules.h"

/* The loop, and the guest's packets. */
RULE(S, ppoll, "waits for packets, sockets and the end")
RULE(S, recvmmsg, "packets of the guest")
RULE(S, sendmmsg, "packets for the guest")
RULE(S, sendmsg, "as above, large ones")
RULE(S, clock_gettime, "where the vDSO cannot tell the time by itself")
RULE(S, write, "how its start went; messages")

/* Connections, datagrams and pings, which libslirp makes. Raw sockets need a capability, and it has
 * none. */
RULE_ARG(S, socket, 0, WHOLE, 2 /* AF_INET */, "what the guest connects to")
RULE_ARG(S, socket, 0, WHOLE, 10 /* AF_INET6 */, "as above")
RULE(S, connect, "as above; the host's resolver")
RULE(S, accept, "who connects to a published port")
RULE(S, accept4, "as above")
RULE(S, bind, "libslirp binds what it sends from")
RULE(S, sendto, "data to hosts")
RULE(S, recvfrom, "data from hosts")
RULE(S, recvmsg, "datagrams that could not be delivered")
RULE(S, shutdown, "one direction of a connection ends")
RULE(S, close, "a connection ends")
RULE(S, setsockopt, "no delay, urgent data, hop limits")
RULE(S, getsockopt, "how a connect went")
RULE(S, getsockname, "the port of a socket")
RULE(S, getpeername, "whether a connection still has another end")
RULE_ARG(S, ioctl, 1, WHOLE, 0x541b /* FIONREAD */, "the size of a datagram")
RULE_ARG(S, fcntl, 1, WHOLE, 1 /* F_GETFD */, "sockets are not to be inherited")
RULE_ARG(S, fcntl, 1, WHOLE, 2 /* F_SETFD */, "as above")
RULE_ARG(S, fcntl, 1, WHOLE, 3 /* F_GETFL */, "sockets do not block")
RULE_ARG(S, fcntl, 1, WHOLE, 4 /* F_SETFL */, "as above")

/* The host's resolver, which may change: /etc/resolv.conf, read again. */
RULE_ARG(S, openat, 2, 0xffffffff & ~0x88000 /* O_CLOEXEC, O_LARGEFILE */, 0 /* O_RDONLY */,
	"/etc/resolv.conf; Landlock leaves it no other folder")
RULE(S, newfstatat, "whether it has changed")
RULE(S, fstat, "as above")
RULE(S, lseek, "as above")
RULE(S, read, "as above")
RULE_ARG(S, ioctl, 1, WHOLE, 0x8933 /* SIOCGIFINDEX */, "a resolver on one of the host's links")

/* Libraries, and abort. */
RULE(S, getrandom, "numbers of questions to the resolver; seeds of malloc")
RULE(S, rt_sigaction, "abort")

#undef S
#undef WHOLE
