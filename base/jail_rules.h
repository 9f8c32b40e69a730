// SPDX-License-Identifier: MIT
// Which system calls each kind of thread makes once the guest runs, and a helper always, and why.
//
// RULE(roles, call, reason) allows a call whatever its arguments. RULE_ARG(roles, call, arg, mask,
// value, reason) allows it where (argument & mask) == value; several rows for one call are
// alternatives. Read by base/jail_gen.c at build time, which turns them into a BPF program a role.
// What is not here is refused: no file is opened by name, no program is run, no memory is made
// executable, no socket is made but of the UNIX kind, no process is traced or signalled but this
// one.

#define V ROLE(JAIL_VCPU)
#define I ROLE(JAIL_IO)
#define C ROLE(JAIL_CONTROL)
#define ALL (V | I | C)
#define U ROLE(JAIL_UNPACK)
#define WHOLE UINT32_MAX

#define EVERY (ALL | U)
#include "base/jail_shared_rules.h"

/* Threads. */
RULE(ALL | U, rt_sigreturn, "return from the signal that interrupts KVM_RUN")
RULE(ALL | U, exit, "a thread ends")
RULE(ALL | U, tkill, "interrupts another thread's KVM_RUN, as musl makes it")
RULE(ALL | U, sched_yield, "glibc's lock elision and thread exit")
RULE(ALL | U, rseq, "glibc unregisters a thread that ends")
RULE(ALL | U, set_robust_list, "as above")

/* Time. */
RULE(ALL, clock_gettime, "where the vDSO cannot tell the time by itself")
RULE(ALL, gettimeofday, "as above")
RULE(ALL, clock_nanosleep, "the end of a run waits for a grace period of its own choosing")

/* Descriptors that are open already. */
RULE(ALL | U, read, "eventfds, signalfd, the console, streams")
RULE(ALL | U, write, "eventfds, messages, the console, streams")
RULE(ALL | U, close, "a stream, an interrupt line, a device")
RULE(V | C, timerfd_settime, "the console gathers bytes before it writes; alarms of the clock")
RULE(I | C, readv, "streams")
RULE(ALL | U, writev, "streams; messages, as musl writes them")
RULE(I | C | U, pread64, "a kernel or initial ramdisk is read again when the machine starts over")
RULE(I | C, preadv, "as above")
RULE(I | C, lseek, "the size of an open file")
RULE(ALL, fstat, "the kind and size of an open file; where an image's ends")
RULE(ALL, newfstatat, "fstat, as glibc 2.36 makes it; nothing can be opened by what it tells")
RULE(I | C, fcntl, "flags of a descriptor")
RULE(I | C, poll, "a writer of the terminal waits for it")
RULE(I | C, ppoll, "as above")
RULE(ALL, epoll_ctl, "the event loop; a kick that is served on the vCPU's thread")
RULE(I | C, epoll_wait, "the event loop")
RULE(I | C, epoll_pwait, "the event loop")
RULE(I | C, epoll_pwait2, "the event loop")
RULE(I | C, eventfd2, "the doorbell of a stream or a device that comes later")
RULE(I | C | U, getrandom, "virtio-rng; seeds of hashes and of malloc")

/* Disks. What a ring does it does as the kernel, on files that are open. */
RULE(I | C, io_uring_enter, "requests of disks; a pause waits for their end")
RULE(I | C, io_uring_register, "a disk that comes or goes enters or leaves the ring's files")
RULE(ALL, preadv2, "a read that may find its data in the page cache; any, without io_uring")
RULE(ALL, pwritev2, "a write to the page cache; any, without io_uring")
RULE(I | C, fdatasync, "a flush, where there is no io_uring")
RULE(I, fallocate, "as above, of zeroes and of what is discarded")
RULE_ARG(ALL, ioctl, 1, WHOLE, 0x1277 /* BLKDISCARD */, "a disk that is a device discards")
RULE_ARG(ALL, ioctl, 1, WHOLE, 0x80081272 /* BLKGETSIZE64 */, "a device that has grown")
RULE_ARG(I, ioctl, 1, WHOLE, 0x125e /* BLKROGET */, "a device that is attached")
RULE_ARG(I, ioctl, 1, WHOLE, 0x1268 /* BLKSSZGET */, "as above")
RULE_ARG(I, ioctl, 1, WHOLE, 0x127b /* BLKPBSZGET */, "as above")
RULE_ARG(I, ioctl, 1, WHOLE, 0x1279 /* BLKIOOPT */, "as above")

/* NICs. */
RULE_ARG(C, ioctl, 1, WHOLE, 0x800454d2 /* TUNGETIFF */, "a tap that is attached")
RULE_ARG(C, ioctl, 1, WHOLE, 0x400454d8 /* TUNSETVNETHDRSZ */, "as above")
RULE_ARG(C, ioctl, 1, WHOLE, 0x400454dc /* TUNSETVNETLE */, "as above")
RULE_ARG(I | C, ioctl, 1, WHOLE, 0x400454d0 /* TUNSETOFFLOAD */, "what the guest's driver can do")
RULE_ARG(I | C, ioctl, 1, WHOLE, 0x400454d9 /* TUNSETQUEUE */, "how many queues it uses")

/* UNIX sockets: the guest's streams, control connections. */
RULE_ARG(I | C, socket, 0, WHOLE, 1 /* AF_UNIX */, "a stream that the guest opens to the host")
RULE_ARG(I | C, socketpair, 0, WHOLE, 1, "as above")
RULE(I, connect, "as above: only UNIX sockets exist here")
RULE(I | C, accept4, "a stream or a control connection that the host opens")
RULE(I | C, recvfrom, "streams")
RULE(I | C | U, recvmsg,
	"streams; control requests and what comes with them; what is to be unpacked")
RULE(ALL, sendto, "streams; a cluster to be decompressed")
RULE(I | C, sendmsg, "streams")
RULE(I | C, shutdown, "one direction of a stream ends")
RULE(I | C, getsockopt, "the outcome of a connect; the peer's user")
RULE(I | C, getsockname, "which port a stream came from")

/* Leaving: the run directory is taken away, the terminal is put back. */
RULE(C, unlinkat, "the run directory's entries, by its open descriptor")
RULE(C, unlink, "as above")
RULE(C, rmdir, "the run directory")
RULE(C, flock, "the run directory's lock")
RULE(I | C, ftruncate, "statistics and state files that are open; the file of an overlay")
RULE(I | C, fallocate, "a discard, zeroes; a reset gives shared guest memory back")
RULE(C, fsync, "as above, kept")
RULE(C, wait4, "a helper has ended")
RULE(C, getdents64, "a directory tree is packed again when the machine starts over")
RULE(C | U, rt_sigaction, "default action again before dying of a signal; the first thread")
RULE(C, getuid, "the control socket compares users")
RULE(C, geteuid, "as above")
RULE(C, sysinfo, "the host's memory")
RULE(U, sched_getaffinity, "how many threads unpack a kernel, or clusters")
RULE(C, prctl, "the name of a thread that a device brings")
RULE_ARG(C | U, clone, 0, 0x10000 /* CLONE_THREAD */, 0x10000, "threads, as musl makes them")
RULE(C | U, clone3, "threads of devices that come later; threads that unpack")
RULE_ARG(C, ioctl, 1, WHOLE, 0x5401 /* TCGETS */, "the terminal's mode")
RULE_ARG(ALL, ioctl, 1, WHOLE, 0x5402 /* TCSETS */, "as above; by a thread that dies, too")
RULE_ARG(C, ioctl, 1, WHOLE, 0x5403 /* TCSETSW */, "as above")
RULE_ARG(C, ioctl, 1, WHOLE, 0x5404 /* TCSETSF */, "as above")
RULE_ARG(C, ioctl, 1, WHOLE, 0x5413 /* TIOCGWINSZ */, "the terminal's size")

/* KVM. All its requests have the type 0xae; a vCPU thread needs but a few. */
RULE_ARG(V, ioctl, 1, WHOLE, 0xae80 /* KVM_RUN */, "runs the guest")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4040ae79 /* KVM_IOEVENTFD */, "a doorbell that is rung often")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4020aea5 /* KVM_SIGNAL_MSI */, "an interrupt the guest unmasks")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4020ae76 /* KVM_IRQFD */, "masks of a queue the kernel has")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4008ae6a /* KVM_SET_GSI_ROUTING */, "its message changes")
RULE_ARG(V, ioctl, 1, WHOLE, 0x8090ae81 /* KVM_GET_REGS */, "says where a guest failed")
RULE_ARG(V, ioctl, 1, WHOLE, 0x8138ae83 /* KVM_GET_SREGS */, "as above")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4040ae77 /* KVM_CREATE_PIT2 */, "a guest asks for the timer")
RULE_ARG(V, ioctl, 1, WHOLE, 0x8070ae9f /* KVM_GET_PIT2 */, "as above")
RULE_ARG(V, ioctl, 1, WHOLE, 0x4070aea0 /* KVM_SET_PIT2 */, "as above")
RULE_ARG(I | C, ioctl, 1, 0xff00, 0xae00, "pause, save, load, reset; interrupt lines of streams")

/* vhost: NICs whose queues the kernel has. All its requests have the type 0xaf. */
RULE_ARG(I | C, ioctl, 1, 0xff00, 0xaf00, "queues are handed over and taken back")
RULE_ARG(I | C, ioctl, 1, WHOLE, 0x400454d1 /* TUNSETTXFILTER */, "addresses of such a NIC")

#undef V
#undef I
#undef C
#undef U
#undef ALL
#undef WHOLE
