// SPDX-License-Identifier: MIT
// All the devices of one machine: made in one order, saved and loaded in it, taken away in reverse.
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/layout.h"
#include "hw/panic.h"
#include "hw/pci.h"
#include "vmm/machine.h"
#include "vmm/places.h"
#include "vmm/slot.h"

#include <stdatomic.h>

struct blk_engine;
struct i8042;
struct kvm;
struct pit;
struct pm;
struct pvpanic;
struct rtc;
struct serial;

/* How it is known that the guest's kernel has panicked. */
enum devices_panic {
	PANIC_SAID, /* its console says so; a trace may follow */
	PANIC_DONE, /* it will do nothing more, or reboot */
};

/* What the guest asks of the machine by way of a device, and what befalls one; called on a vCPU's
 * or the I/O loop's thread, never waits. */
struct devices_host {
	void (*power_off)(void *arg);
	void (*reset)(void *arg);
	void (*panicked)(void *arg, enum devices_panic how);
	/* A disk has had a request held: as in struct disk_host. */
	void (*disk_stopped)(void *arg, const char *why);
	/* These hot-plug slots, a bit each: devices_eject is due. */
	void (*ejected)(void *arg, unsigned slots);
	/* What befalls a disk beside its requests, in words. */
	void (*disk_warned)(void *arg, const char *what);
	/* What befalls a NIC, in words. */
	void (*nic_event)(void *arg, const char *nic, const char *what);
	void *arg;
};

/* As many as either transport has places for. */
#define SLOTS_MAX PCI_PLACES

struct devices {
	struct devices_host host;
	/* Borrowed. */
	const struct machine_config *cfg;
	struct kvm *kvm;
	struct mem *mem;
	struct loop *control;

	struct loop *io;           /* owns the queues; made with the first virtio device */
	struct blk_engine *engine; /* of the disks on it; with PCI made in any case */
	struct bus pio, mmio;
	struct irq com1_irq, rtc_irq, ged_irq;
	struct serial *serial; /* NULL when the machine has none */
	struct pit *pit;
	struct i8042 *i8042;
	struct rtc *rtc;
	struct pm *pm;
	struct pvpanic *pvpanic;
	struct pci *pci;             /* NULL where virtio devices are on virtio-mmio */
	struct panic panic;          /* fed by the serial port */
	struct slot slot[SLOTS_MAX]; /* by place on the PCI bus, or number on virtio-mmio */
	unsigned slots;              /* how many of them have a device */
	struct places places;        /* of those that are made at start */
	struct disk disk[MACHINE_DISKS_MAX];
	unsigned disks;
	struct nic nic[MACHINE_NICS_MAX];
	unsigned nics;
	/* A bit each for the slots from PCI_HOT_FIRST on: those that the guest was asked to let go
	 * of, and of them those that it has ejected. */
	atomic_uint leaving, ejected;
};

/*
 * Makes what `cfg` asks for. `kvm`, `mem` and `control` outlive the devices; of the descriptors in
 * `cfg` those for vsock are taken. On failure devices_finish is still due. 0 or -errno.
 */
int devices_init(struct devices *d, struct kvm *kvm, struct mem *mem, struct loop *control,
	const struct machine_config *cfg, const struct devices_host *host);
void devices_finish(struct devices *d);

/* Where a device is on its transport, in words. */
void devices_address(
	const struct devices *d, const struct virtio_device *dev, char *buf, size_t len);

/*
 * Gives the device a place: with PCI *place, else the next number, which *place is when it returns.
 * The device is taken, also on failure. 0 or -errno.
 */
int devices_plug(struct devices *d, struct virtio_device *dev,
	void (*destroy)(struct virtio_device *dev), unsigned *place);

/* What the machine is to have at its start. Takes the descriptors. 0 or -errno. */
int devices_add_disks(struct devices *d, const struct machine_config *cfg);
int devices_add_nics(struct devices *d, const struct machine_config *cfg);

/* What disks are made on; good for as long as the devices are. */
struct disk_host devices_disk_host(const struct devices *d);

/* A disk is about to go: its job goes before. */
void devices_end_job(struct devices *d, const struct virtio_device *dev);

/* NULL: there is none of that name. */
struct disk *devices_find_disk(struct devices *d, const char *id);
struct nic *devices_find_nic(struct devices *d, const char *id);

/*
 * While vCPUs run or are parked, on the control loop's thread. Attach takes `cfg` and `helper`,
 * which are malloc'd, and the descriptors, also on failure. Detach asks the guest; `told`, as
 * machine_detach has it, is taken on success. 0 or -errno.
 */
int devices_attach_disk(struct devices *d, struct disk_config *cfg, const struct disk_files *files);
int devices_attach_nic(struct devices *d, struct net_config *cfg, const struct net_end *end,
	struct nic_helper *helper);
int devices_detach(struct devices *d, const char *id, int told);

/* Who wants to come, in slot `slot`, or any where that is 0; `full`: there are as many as can be.
 */
struct arrival {
	const char *kind, *name;
	unsigned slot;
	bool full;
};

/* Whether it can, and where to; that the guest is to learn of it, once it is there. */
int devices_check_arrival(struct devices *d, const struct arrival *a, unsigned *place);
void devices_has_come(struct devices *d, unsigned place);

/* That the guest has been asked to let go of what is in this place; no-op where nothing goes. */
void devices_set_leaving(struct devices *d, unsigned place);
bool devices_is_leaving(const struct devices *d, unsigned place);

/* On a vCPU's thread: the guest has ejected these hot-plug slots. False where it was not asked to,
 * and nothing is to be done; else devices_unplug is due. */
bool devices_eject(struct devices *d, unsigned slots);

/*
 * With the vCPUs parked: devices that are leaving are taken from the bus where the guest has
 * ejected them, or all. Then devices_take_away, which waits for the device and for which vCPUs may
 * run again, takes away one of those: false where there is none; `what` is the event.
 */
void devices_unplug(struct devices *d, bool all);
bool devices_take_away(struct devices *d, char *what, size_t len);

/* What there is of it beside its device, which is destroyed; no-op where that was another's. */
void devices_forget_disk(struct devices *d, const struct virtio_device *dev);
void devices_forget_nic(struct devices *d, const struct virtio_device *dev);

/* The process is about to end as it is: images of a format are left in order. */
void devices_leave(struct devices *d);
void devices_close_disks(struct devices *d);

/* Waits a little for the console to accept the last of its output. */
void devices_flush(struct devices *d);

/* Writes the ACPI tables that describe them to guest memory. 0 or -errno. */
int devices_describe(struct devices *d, uint32_t cpus, uint64_t *rsdp);

/* Starts the threads that serve them, behind their filter. 0 or -errno. */
int devices_start(struct devices *d);

/* With the vCPUs parked. Pause and resume: no queue is touched in between. Save and load need a
 * pause. */
void devices_pause(struct devices *d);
void devices_resume(struct devices *d);
void devices_reset(struct devices *d);
int devices_save(struct devices *d, struct stream_out *s);
int devices_load(struct devices *d, struct stream_in *s);

#endif
