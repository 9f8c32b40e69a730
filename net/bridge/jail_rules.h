// SPDX-License-Identifier: MIT
// Which system calls kvick-net makes once it stands guard, and why. As base/jail_rules.h is read.
//
// What is not here is refused: no program is run, no memory is made executable, no thread is
// started, no socket is made but of netlink and the UNIX kind, no device's ioctl is called, no
// process is signalled by its number but this one. Which files it may change is root's own, under
// no capability of root's; which interfaces and rules, CAP_NET_ADMIN.

#define G ROLE(0)
#define WHOLE UINT32_MAX

#define EVERY G
#include "base/jail_shared_rules.h"

/* The watch. */
RULE(G, poll, "waits for the VM's end and for what happens to its NIC")
RULE(G, ppoll, "waits for dnsmasq's end")
RULE(G, pselect6, "libnftables waits for answers")
RULE(G, recvfrom, "the monitor, netlink")
RULE(G, sendto, "as above")
RULE(G, clock_gettime, "where the vDSO cannot tell the time by itself")

/* Interfaces and rules. */
RULE_ARG(G, socket, 0, WHOLE, 16 /* AF_NETLINK */, "rtnetlink, nftables")
RULE_ARG(
	G, socket, 0, WHOLE, 1 /* AF_UNIX */, "what network namespace this is; names of interfaces")
RULE(G, bind, "netlink")
RULE(G, getsockname, "netlink")
RULE(G, getsockopt, "netlink; what network namespace this is")
RULE(G, setsockopt, "netlink")
RULE(G, sendmsg, "nftables")
RULE(G, recvmsg, "netlink")
RULE(G, getuid, "libnftables asks for larger buffers if it is root's")
RULE_ARG(G, ioctl, 1, WHOLE, 0x8910 /* SIOCGIFNAME */, "nftables' names of interfaces")
RULE_ARG(G, ioctl, 1, WHOLE, 0x8933 /* SIOCGIFINDEX */, "as above")
RULE_ARG(G, ioctl, 1, WHOLE, 0x5401 /* TCGETS */, "stdio asks whether it is on a terminal")

/* Files: the state, nftables' lists of names, net.ipv4.ip_forward, dnsmasq's lists of hosts. */
RULE(G, openat, "as above")
RULE(G, close, "as above")
RULE(G, read, "as above")
RULE(G, write, "as above; messages")
RULE(G, lseek, "as above")
RULE(G, fcntl, "locks; streams of descriptors")
RULE(G, newfstatat, "the lock's file; streams, directories")
RULE(G, fstat, "as above")
RULE(G, getdents64, "which bridges and NICs there are")
RULE(G, mkdir, "the state's directories, where another has just removed them")
RULE(G, rmdir, "the same directories, when nothing is in them")
RULE(G, unlinkat, "the state of what is gone; the lock")
RULE(G, faccessat2, "whether net.ipv4.ip_forward is to be put back")
RULE(G, faccessat, "as above, before Linux 5.8")
RULE(G, geteuid, "whose the state has to be")

/* dnsmasq. */
RULE(G, pidfd_open, "its process")
RULE(G, pidfd_send_signal, "it is to read who has left, or to end")

/* Libraries, and abort. */
RULE(G, getrandom, "seeds of malloc and of jansson's tables")
RULE(G, rt_sigaction, "abort")

#undef G
#undef WHOLE
