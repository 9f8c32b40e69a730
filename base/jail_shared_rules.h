// SPDX-License-Identifier: MIT
// What every thread and every helper needs in order to have memory, and to end. Included by the
// tables, as base/jail_rules.h is read, with EVERY for all the roles of the table.

/* Memory. */
RULE(EVERY, brk, "malloc")
RULE(EVERY, munmap, "free")
RULE(EVERY, madvise, "free; a reset gives guest memory back to the host")
RULE(EVERY, mremap, "realloc")
RULE_ARG(EVERY, mmap, 2, 4 /* PROT_EXEC */, 0, "malloc; never executable")
RULE_ARG(EVERY, mprotect, 2, 4, 0, "malloc grows an arena; never executable")

/* Waiting, ending. */
RULE(EVERY, futex, "mutexes, conditions, joins; locks within libraries")
RULE(EVERY, restart_syscall, "a wait that a stop and continue has interrupted")
RULE(EVERY, rt_sigprocmask, "a thread starts, ends or is signalled; abort")
RULE(EVERY, getpid, "pthread_kill, abort; ports of netlink")
RULE(EVERY, gettid, "pthread_kill, abort")
RULE(EVERY, tgkill, "interrupts another thread's KVM_RUN; abort")
RULE(EVERY, exit_group, "the process ends; glibc aborts on a damaged heap")

#undef EVERY
