// SPDX-License-Identifier: MIT
// What is known of bridges and of the NICs on them, as files that outlive any one process.
//
// /run/kvick-net/NETNS/BRIDGE/ is there while we have to do with a bridge: `bridge` says who made
// it and as what, `nics/N` says whose NIC is on it, N being its tap's interface: a number that the
// kernel does not give a second time, as it does with names. NETNS is the number of the network
// namespace, in which alone these names mean something. A NIC's file is locked by an open file
// description that its guardian makes and gives to the process of the VM: the kernel drops the lock
// with that one, however it ends, and then the file says what is left to be taken away. What a
// file tells of is made after the file and taken away before it, so that whoever is killed at any
// point leaves nothing that the next one does not find.
//
// /run/kvick-net/lock is held by who changes any of it, or the host's network in its sense. With
// the last of a network namespace's bridges it goes, and /run/kvick-net with the last namespace:
// whoever has waited for it looks whether it is still there.
#ifndef NET_BRIDGE_STATE_H
#define NET_BRIDGE_STATE_H

#include "net/bridge/bridge.h"
#include "net/bridge/subnet.h"

#define STATE_DIR "/run/kvick-net"

struct state {
	int dir;  /* that of the network namespace; -1: there is none yet */
	int lock; /* -1: only looked at */
};

#define STATE_NONE ((struct state){.dir = -1, .lock = -1})

/* What a bridge is made as, or has to be like if it is there. */
struct bridge_wish {
	char name[IFNAMSIZ];
	struct subnet address; /* none: one that is free, or the one that it has */
	bool nat, dhcp, isolate;
};

struct bridge_state {
	struct bridge_wish wish;      /* what it is; of one that is not ours, its name */
	char maker[BRIDGE_LABEL + 8]; /* "VM web", STATE_ADMIN; "": it is not ours */
	unsigned index;               /* of the interface; 0: who makes it is not done */
	bool ipv6;                    /* it has its state_address6 */
	bool rules;                   /* there are rules of nftables for it */
};

#define STATE_ADMIN "kvick net create"
#define STATE_MAKING STATE_ADMIN ", not done" /* nobody's, should that one be killed */

struct nic_state {
	unsigned index; /* of the tap */
	char tap[IFNAMSIZ];
	char vm[BRIDGE_LABEL], nic[BRIDGE_LABEL];
	uint8_t mac[6];
	struct in_addr address;
	bool isolate, spoof_guard;
	bool alive; /* someone holds its lock */
};

struct nic_list {
	struct nic_state *nics;
	unsigned count;
};

/* Takes the lock, waiting for it, and makes the directory. 0, or -errno with a message. */
int state_open(struct state *s);

/* For looking alone: fine where there is nothing at all, and for any user. */
int state_open_to_look(struct state *s);

/* Removes what there is nothing in, and drops the lock. */
void state_close(struct state *s);

/* 1 to 15 letters, digits, '.', '_' or '-', of which the first is a letter or digit. */
bool state_name_ok(const char *bridge);

/* The same, and copies it. 0, or -EINVAL with a message. */
int state_take_name(char to[IFNAMSIZ], const char *bridge);

/* The bridges that we have to do with: malloc'd names, "" at the end. 0 or -ENOMEM. */
int state_bridges(const struct state *s, char (**out)[IFNAMSIZ]);

/* -ENOENT, without a message, where we have nothing to do with a bridge of that name. */
int state_load(const struct state *s, const char *bridge, struct bridge_state *out);
int state_save(const struct state *s, const struct bridge_state *b);

/* Removes all that is there of the bridge, whatever it is. */
void state_remove(const struct state *s, const char *bridge);

/* A file that belongs to the bridge, opened; `flags` as of open(2). The descriptor or -errno. */
int state_file(const struct state *s, const char *bridge, const char *file, int flags);

/* The same file's path, into `len` bytes. */
void state_path(const struct state *s, const char *bridge, const char *file, char *buf, size_t len);

/* Locked: the descriptor, which is the lock, or -errno with a message. */
int state_add_nic(const struct state *s, const char *bridge, const struct nic_state *n);
void state_remove_nic(const struct state *s, const char *bridge, unsigned index);

/* All of a bridge's, dead ones too; free with nics_free. 0, or -errno with a message. */
int state_nics(const struct state *s, const char *bridge, struct nic_list *out);
void nics_free(struct nic_list *l);

/* The address in the bridge's IPv6 network of the host that has that IPv4 address. */
struct in6_addr state_address6(const struct bridge_state *b, struct in_addr address);

/* How many of them live. */
unsigned nics_alive(const struct nic_list *l);

#endif
