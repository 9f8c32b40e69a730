// SPDX-License-Identifier: MIT
// A bare-metal guest that outlives its machines: what tests of save and load are written with.
#ifndef TESTS_VM_LIFE_H
#define TESTS_VM_LIFE_H

#include "base/loop.h"
#include "base/stream.h"
#include "vmm/disk.h"
#include "vmm/machine.h"

#define LIFE_MEMORY MIB(16)

#define LIFE_DISKS 4u

/* Zero-initialised but for the first eight. */
struct life {
	const char *kernel, *cmdline;
	uint32_t cpus;
	enum machine_transport transport;
	bool restart; /* as of --on-reboot=restart */
	/* As of --disk, of files that outlast the machines; NULL after the last. */
	const char *disk_keys[LIFE_DISKS + 1];
	const char *nic;                            /* as of --net; NULL: none */
	const char *slirp;                          /* kvick-slirp, of a NIC in user mode */
	void (*event)(void *arg, const char *what); /* the machine's; arg is this */

	struct loop *loop;
	struct machine *machine;
	struct disk_config disk[LIFE_DISKS]; /* of the machine at hand */
	unsigned disks;
	struct net_config net;
	struct nic_helper helper;
	struct stream_out state; /* of the machine that was, with `ram` */
	uint8_t *ram;
	enum machine_end end;

	int console[2], input[2]; /* pipes, from and to the guest */
	struct watch console_watch;
	char *text; /* all that the guest has written, NUL at the end */
	size_t text_len;
	unsigned next_byte; /* to be sent */

	char dir[64]; /* with the socket of an echo, for the guest's stream */
	int listener;
	struct watch listener_watch;
	struct echo *echoes;
	unsigned connections;
};

/* Makes what outlasts the machines, or takes it away. */
void life_init(struct life *l);
void life_finish(struct life *l);

/* A machine: fresh, or what the last one was. life_begin also starts it. */
void life_create(struct life *l);
/* The two parts of the first: fresh, and what the last one was. The second: 0 or -errno. */
void life_make(struct life *l);
int life_load(struct life *l);
void life_begin(struct life *l);

/* Saves it and destroys it. life_cut pauses it before. */
void life_save(struct life *l);
void life_cut(struct life *l);

void life_destroy(struct life *l);

/* Runs the loop for so long, or until the machine has ended. */
void life_run(struct life *l, uint64_t ns);

/* Runs it until the guest has written these words `count` times; fails after 30 s. */
void life_await(struct life *l, const char *words, unsigned count);

/* Fails, with what it said last, if it has ended. */
void life_check(struct life *l);

/* How often it has. */
unsigned life_said(const struct life *l, const char *words);

/* As many bytes as the pipe takes without waiting; the last one of all, once it is taken. */
void life_feed(struct life *l);
void life_send_end(struct life *l);

#endif
