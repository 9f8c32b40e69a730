// SPDX-License-Identifier: MIT
// A machine: from plain values to a running VM, its states, and why it ended.
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include "base/jail.h"
#include "hw/mem.h"
#include "vmm/disk_job.h"
#include "vmm/nic.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct loop;
struct loader_initrd;
struct machine;
struct stream_in;
struct stream_out;
struct unpacker;

/*
 * The life of a machine. Every change is made on the control loop's thread.
 *
 *   CREATED --start--> RUNNING <--pause / resume--> PAUSED
 *      |                  |                            |
 *      +------------------+------ an end --------------+----> ENDED
 *
 * CREATED: memory, devices and vCPUs exist, nothing has run; may be started, loaded, destroyed.
 * RUNNING: may be paused, reset in place, sent the power button, ended.
 * PAUSED:  no guest code runs and no queue is touched; may be saved, loaded, reset, resumed, ended.
 * ENDED:   for one of the reasons below; may only be destroyed. The first reason stands.
 */
enum machine_state { MACHINE_CREATED, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_ENDED };

/* What virtio devices are on. */
enum machine_transport { TRANSPORT_MMIO, TRANSPORT_PCI };

enum machine_end {
	END_NONE,
	END_POWEROFF,     /* the guest powered off */
	END_RESET,        /* the guest asked for a reset and the machine was not to restart */
	END_PANIC,        /* the guest's kernel said that it panicked */
	END_TRIPLE_FAULT, /* the vCPU shut down */
	END_KVM_ERROR,    /* KVM could not run the guest; machine_end_text says why */
	END_KILLED,       /* on request */
	END_COUNT,
};

const char *machine_state_name(enum machine_state s);
const char *machine_end_name(enum machine_end e);

/* What the host's socket for the guest's streams is called in the directory of a running VM. */
#define MACHINE_VSOCK_NAME "vsock"

#define MACHINE_DISKS_MAX 31u
#define MACHINE_NICS_MAX 16u
#define MACHINE_PLUGGED_MAX 36u /* disks and NICs, beside vsock and rng on PCI */
#define MACHINE_DISKS_MMIO                                                                         \
	6u /* with NICs, beside vsock and rng on the lines that virtio-mmio has */

/*
 * Everything a machine is made of, opened by the caller: descriptors and names for messages, no
 * paths. Descriptors are taken by machine_create, also when it fails, unless marked borrowed. -1:
 * none.
 */
struct machine_config {
	const char *name;
	uint64_t memory; /* bytes */
	enum mem_backing backing;
	uint32_t cpus;
	int kvm_fd; /* /dev/kvm */

	int kernel_fd;
	const char *kernel_name;
	const struct unpacker *unpacker; /* borrowed; of a packed kernel; NULL: it unpacks itself */
	const struct loader_initrd
		*initrd; /* NULL: none; if resettable, borrowed as long as the machine */
	const char *cmdline;

	bool serial;     /* whether there is a COM1 at all */
	int serial_in;   /* borrowed; bytes to the guest; -1: none */
	int serial_out;  /* borrowed; bytes from the guest; -1: dropped */
	bool resettable; /* can be loaded once more: kernel and initrd are files, kept at hand */
	bool restart;    /* on a guest's reset: start again in place; needs resettable */
	bool vsock;
	uint32_t vsock_cid; /* 3 and up */
	int vsock_dir;      /* O_PATH directory in which host sockets are found */
	int vsock_listen;   /* listening UNIX socket for host-initiated connections */
	bool rng;
	const struct disk_config *disks; /* disk_count of them; borrowed as long as the machine */
	struct disk_files disk_files[MACHINE_DISKS_MAX];
	unsigned disk_count;
	unsigned disk_engine;                 /* enum engine_kind */
	struct decompress_helper *decompress; /* borrowed; NULL: no disk of the start needs one */
	const struct net_config *nics; /* nic_count of them; borrowed as long as the machine */
	struct net_end nic_ends[MACHINE_NICS_MAX];
	unsigned nic_count;
	enum machine_transport transport;
	enum jail_mode jail; /* of the vCPU and I/O threads; the caller enters its own after
				machine_start */

	/* On the control loop's thread, once, when the machine has ended. */
	void (*ended)(void *arg, enum machine_end why);
	/* On the control loop's thread, at each line of state or event worth telling. */
	void (*event)(void *arg, const char *what);
	void *arg;
};

/*
 * Builds it: state CREATED. `control` is the loop of the calling thread and outlives the machine.
 * 0 or -errno with a message that names what could not be had.
 */
int machine_create(struct machine **out, struct loop *control, const struct machine_config *cfg);

/* In reverse order of creation, from any state. NULL is fine. */
void machine_destroy(struct machine *m);

/*
 * For a process that ends now, in place of machine_destroy: no guest code runs any more, and what
 * the console has said is out. The kernel takes the rest apart with the process. NULL is fine.
 */
void machine_leave(struct machine *m);

int machine_start(struct machine *m);
int machine_pause(struct machine *m);
int machine_resume(struct machine *m);
int machine_reset(struct machine *m);        /* as if the reset button were pressed */
int machine_power_button(struct machine *m); /* the guest may or may not act on it */
void machine_end(struct machine *m, enum machine_end why);

/*
 * Tells the guest that the file of the disk of that id (without one: its path) has grown; *size is
 * what it has now, in bytes. RUNNING or PAUSED. 0 or -errno.
 */
int machine_resize_disk(struct machine *m, const char *id, uint64_t *size);

/*
 * Why a disk with on-error=stop has had the machine paused; "" where none has. A resume tries
 * again.
 */
const char *machine_why_stopped(const struct machine *m);

/* What can be said of a disk; texts are borrowed as long as the machine has it. */
struct machine_disk {
	const char *id, *path, *format, *overlay, *cache, *on_error;
	const char *engine; /* "io_uring" or "sync" */
	char address[32];   /* where it is on its transport: "pci 00:03.0", "mmio 0xfeb00000" */
	uint64_t size;      /* bytes */
	uint64_t errors;    /* requests that the host could not do */
	unsigned held;      /* of them, those that wait for a resume */
	bool read_only;
	bool detaching; /* the guest has been asked to let go of it */
	struct disk_limits limits;
};

/*
 * Begins what vmm/disk_job.h has with a disk. The target is taken, also on failure; the socket on
 * success. RUNNING or PAUSED. 0 or -errno.
 */
int machine_begin_job(struct machine *m, const char *id, enum disk_job_kind kind,
	struct disk_target *target, int socket);

/* How many disks there are, and up to MACHINE_DISKS_MAX of them, in the order of their creation. */
unsigned machine_disks(struct machine *m, struct machine_disk *disks);

/* The limits of a disk as they are, and others from now on. 0 or -errno. */
int machine_disk_limits(struct machine *m, const char *id, struct disk_limits *limits);
int machine_limit_disk(struct machine *m, const char *id, const struct disk_limits *limits);

/*
 * Attaches a disk, which the guest sees at once or, where it is paused, once it goes on. `disk` of
 * disk_config_create and `files` are taken, also on failure. RUNNING or PAUSED, with PCI. 0 or
 * -errno.
 */
int machine_attach_disk(
	struct machine *m, struct disk_config *disk, const struct disk_files *files);

/*
 * The same of a NIC: `nic` of net_config_create, with its id and address, an open end, and the
 * process that it has, malloc'd; NULL: none.
 */
int machine_attach_nic(struct machine *m, struct net_config *nic, const struct net_end *end,
	struct nic_helper *helper);

/*
 * Asks the guest to let go of the disk of that id (without one: its path), or NIC. Once it has, the
 * event "disk detached ID" follows, or "NIC detached ID", what was open of it no longer is, and
 * `told` hears of it: a socket that gets a byte, and is closed without one where the machine ends
 * before that, or another asks after this; -1: nobody; taken on success. A guest may never let go;
 * only a reset takes the device away without it. RUNNING or PAUSED. 0 or -errno.
 */
int machine_detach(struct machine *m, const char *id, int told);

/*
 * Something of the VM's surroundings that is worth a line: logged as a warning at once, told as an
 * event soon. From any thread.
 */
void machine_note(struct machine *m, const char *text);

/* Plugs the cable of a NIC in or out; `id` NULL: it has but one. 0 or -errno. */
int machine_set_link(struct machine *m, const char *id, bool up);

/* The limits of a NIC as they are, and others from now on. 0 or -errno. */
int machine_nic_limits(struct machine *m, const char *id, struct net_limits *limits);
int machine_limit_nic(struct machine *m, const char *id, const struct net_limits *limits);

/* Writes what can be said of its NICs, as a JSON array. */
void machine_put_nics(struct machine *m, FILE *f);

/*
 * What is at the other end of a NIC does no more, and why: the event "network: ID: WHY; its link is
 * down", and so it is from then on. `arg` is the machine. On the control loop's thread. No-op where
 * it has no such NIC.
 */
void machine_lose_nic(void *arg, const char *id, const char *why);

/* From now on what befalls a NIC by its process is an event, "network: ID: WHAT", and its end as
 * above. On the control loop's thread. 0 or -errno. */
int machine_watch_nic(struct machine *m, struct nic_helper *helper);

enum machine_state machine_state(const struct machine *m);
enum machine_end machine_end_reason(const struct machine *m);
const char *machine_end_text(const struct machine *m); /* more words, or "" */

/*
 * True when every vCPU halts with interrupts off, so that nothing will ever happen again. Pauses
 * and resumes the machine to look. `where` (NULL is fine) gets a line about vCPU 0.
 */
bool machine_is_dead(struct machine *m, char *where, unsigned len);

/* All state but guest RAM, in creation order. PAUSED only; load also in CREATED. 0 or -errno. */
int machine_save(struct machine *m, struct stream_out *s);
int machine_load(struct machine *m, struct stream_in *s);

struct mem *machine_mem(struct machine *m);

/* The command line, nanoseconds since machine_create of each phase, exits by cause: as JSON text,
 * malloc'd, caller frees. */
char *machine_stats(struct machine *m);

#endif
