// SPDX-License-Identifier: MIT
// A NIC in user mode: kvick-slirp, started early and waited for late, so that it starts while the
// machine is made.
#ifndef VMM_NET_USER_H
#define VMM_NET_USER_H

#include "base/jail.h"
#include "base/loop.h"
#include "net/port.h"
#include "vmm/helper.h"
#include "vmm/net_config.h"

/* What a helper is started with. */
struct net_host {
	int (*open_program)(const char *name); /* a descriptor, or -errno with a message */
	enum jail_mode jail;
	const char *vm;  /* its name */
	bool configured; /* the guest is told its addresses, and does not choose them */
	bool pci;        /* what the NIC will be on */
	int messages;    /* what they say goes there; 0: to our standard error */
};

/* All zeroes: none. */
struct net_user {
	const struct net_config *cfg;      /* borrowed; NULL: none */
	struct helper process;             /* its socket has its answer, and its end */
	const volatile uint64_t *counters; /* SLIRP_COUNTS of them, which it keeps up to date */
	int counters_fd;                   /* the file they are in; 0: closed */
	struct loop *loop;
	struct watch watch;
	void (*lost)(void *arg, const char *id, const char *why); /* it has ended */
	void *arg;
};

/* Starts the process. *end is its packets' and counters', which are borrowed, and *guest what a
 * guest of it is to have. 0 or -errno with a message; net_user_finish is due in each case. */
int net_user_open(struct net_user *u, const struct net_config *n, const struct net_host *host,
	struct net_end *end, struct net_guest *guest);

/* Waits until it serves: 0, or -errno with what kept it from that, a port in use say. No-op where
 * there is none, as the next. */
int net_user_await(struct net_user *u);

/* From now on its end is told to u->lost, which is set before, by `loop`, which is this thread's. 0
 * or -errno. */
int net_user_watch(struct net_user *u, struct loop *loop);

/*
 * What another process needs in order to have it, NET_USER_FILES beside the end's own, which are
 * borrowed; and there: the end's *packets and the socket are taken, -1 left in their place. 0, or
 * -errno with a message where they are not such, and nothing is taken.
 */
#define NET_USER_FILES 2u
void net_user_files(const struct net_user *u, int files[NET_USER_FILES]);
int net_user_adopt(struct net_user *u, const struct net_config *n, int *packets,
	int files[NET_USER_FILES], struct net_end *end);

/* Ends the process, and waits for it; or lets another have it that has its files. */
void net_user_finish(struct net_user *u);
void net_user_hand_over(struct net_user *u);

#endif
