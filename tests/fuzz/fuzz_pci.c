// SPDX-License-Identifier: MIT
// A PCI bus with virtio devices, one behind a root port and one that comes and goes, under accesses
// that the input chooses; then saved, loaded, compared.
//
// An access is eight bytes: what (bits 0-1 the width as a power of two, bit 2 write, bits 3-5 where
// the address comes from: configuration space in memory or by ports, a BAR's registers, anywhere in
// the window, a register that places BARs or buses, or the command; 7 is hot-plug), an address (3
// bytes), a value (4). Hot-plug is a device that comes or goes, an event, or what the guest does
// with events and ejects. What is left of the input at a first byte of 0xff is loaded as a state
// stream.
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "hw/pci.h"
#include "hw/pm.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

#include <linux/pci_regs.h>
#include <stdlib.h>

#define ACCESS 8u
#define PORTS 2u
#define DEVICES 4u
#define HOT (DEVICES - 1) /* the one that comes and goes */
#define FUNCTIONS 8u
#define RAM MIB(2)
#define BAR_ROOM 0x8000u
#define DO_WRITE 0x04u

enum {
	WHERE_ECAM,
	WHERE_PORTS,
	WHERE_REGISTERS,
	WHERE_WINDOW,
	WHERE_BAR,
	WHERE_COMMAND,
	WHERE_PORT,
	WHERE_HOTPLUG
};

enum { HOT_ATTACH, HOT_DETACH, HOT_RAISE, HOT_EVENTS, HOT_EJECT, HOT_OPS };

struct board {
	struct bus pio, mmio;
	struct mem *mem;
	struct loop *io;
	struct pci *pci;
	struct virtio_device *dev[DEVICES];
	struct virtio_pci *slot[DEVICES]; /* NULL: not there */
	struct irq irq;
	struct pm *pm;
	bool hot; /* that one is there */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void nothing(void *arg)
{
}

static void ejected(void *arg, unsigned slots)
{
	check(!(slots & ~0xffu));
}

static void plug(struct board *b, unsigned i)
{
	static const unsigned places[DEVICES] = {1, 2, PCI_SLOTS, PCI_HOT_FIRST};
	struct virtio_pci_config cfg = {
		.mem = b->mem, .pci = b->pci, .io = b->io, .place = places[i]};

	check(!rng_create(&b->dev[i], "rng"));
	cfg.dev = b->dev[i];
	check(!virtio_pci_create(&b->slot[i], &cfg));
}

static void unplug(struct board *b, unsigned i)
{
	if (!b->slot[i])
		return;
	virtio_pci_unplug(b->slot[i]);
	virtio_pci_destroy(b->slot[i]);
	rng_destroy(b->dev[i]);
	b->slot[i] = NULL;
}

static void make(struct board *b)
{
	const struct pci_config pci = {
		.pio = &b->pio, .mmio = &b->mmio, .ports = PORTS, .port_slot = PCI_SLOTS - 1};
	const struct pm_config pm = {.pio = &b->pio,
		.irq = &b->irq,
		.power_off = nothing,
		.reset = nothing,
		.ejected = ejected};

	check(!irq_init(&b->irq, NULL, GSI_GED));
	check(!pm_create(&b->pm, &pm));
	check(!pci_create(&b->pci, &pci));
	for (unsigned i = 0; i < DEVICES - !b->hot; i++)
		plug(b, i);
}

static void unmake(struct board *b)
{
	for (unsigned i = 0; i < DEVICES; i++)
		unplug(b, i);
	pci_destroy(b->pci);
	pm_destroy(b->pm);
	irq_finish(&b->irq, NULL);
	check(b->pio.count == 0 && b->mmio.count == 0);
}

static void hotplug(struct board *b, const uint8_t *d, uint8_t *value)
{
	unsigned width = 1u << (d[0] & 3);

	switch (d[1] % HOT_OPS) {
	case HOT_ATTACH:
		if (!b->hot)
			plug(b, HOT);
		b->hot = true;
		break;
	case HOT_DETACH:
		unplug(b, HOT);
		b->hot = false;
		break;
	case HOT_RAISE:
		pm_raise(b->pm, get_le32(value));
		break;
	case HOT_EVENTS:
		bus_read(&b->pio, PORT_GED + (d[2] & 3), value, width);
		break;
	default:
		bus_write(&b->pio, PORT_PCI_EJECT + (d[2] & 3), value, width);
	}
}

static void move(struct bus *bus, uint64_t addr, uint8_t *value, const uint8_t *d)
{
	unsigned width = 1u << (d[0] & 3);

	if (d[0] & DO_WRITE)
		bus_write(bus, addr, value, width);
	else
		bus_read(bus, addr, value, width);
}

/* The slots from 0 on, two ports, and what is on the buses that place_bars gives those. */
static uint64_t function_at(unsigned n)
{
	uint64_t ports = LAYOUT_PCI_ECAM + ((PCI_SLOTS - 1ull) << 15);

	n %= FUNCTIONS;
	if (n < 4)
		return LAYOUT_PCI_ECAM + ((uint64_t)n << 15);
	return n < 4 + PORTS ? ports + ((n - 4ull) << 12) : LAYOUT_PCI_ECAM + ((n - 5ull) << 20);
}

/* The first BARs of the slots from 1 on, where a test that places them first finds registers. */
static uint64_t address(const uint8_t *d)
{
	uint32_t at = d[1] | (uint32_t)d[2] << 8 | (uint32_t)d[3] << 16;
	uint64_t function = function_at(at);

	switch (d[0] >> 3 & 7) {
	case WHERE_REGISTERS:
		return LAYOUT_PCI_WINDOW + at % (DEVICES * BAR_ROOM) + (d[3] & 0x80 ? MIB(1) : 0);
	case WHERE_WINDOW:
		return LAYOUT_PCI_WINDOW + ((uint64_t)at << 4);
	case WHERE_BAR:
		return function + PCI_BASE_ADDRESS_0 + d[2] % 0x18;
	case WHERE_COMMAND:
		return function + PCI_COMMAND;
	default:
		return LAYOUT_PCI_ECAM + at % ((1 + PORTS) << LAYOUT_PCI_BUS_SHIFT);
	}
}

static void one_access(struct board *b, const uint8_t *d)
{
	uint32_t at = 1u << 31 | (d[1] | (uint32_t)d[2] << 8);
	uint8_t value[8];

	memcpy(value, d + 4, 4);
	memcpy(value + 4, d + 4, 4);
	if ((d[0] >> 3 & 7) == WHERE_HOTPLUG) {
		hotplug(b, d, value);
	} else if ((d[0] >> 3 & 7) == WHERE_PORTS) {
		bus_write(&b->pio, PORT_PCI_ADDRESS, &at, 4);
		move(&b->pio, PORT_PCI_DATA + (d[3] & 3), value, d);
	} else if ((d[0] >> 3 & 7) == WHERE_PORT) {
		move(&b->pio, PORT_PCI_ADDRESS + (d[1] & 7), value, d);
	} else {
		move(&b->mmio, address(d), value, d);
	}
}

static void place_bar(struct board *b, uint64_t function, uint32_t base)
{
	bus_write(&b->mmio, function + PCI_BASE_ADDRESS_0, &base, 4);
	bus_write(&b->mmio, function + PCI_COMMAND, "\x06", 2);
}

/* Those on the root bus from the window's start on, a megabyte behind it that of the first port. */
static void place_bars(struct board *b)
{
	uint64_t port = function_at(4);
	uint32_t first = LAYOUT_PCI_WINDOW + MIB(1), window = (first & 0xfff00000) | first >> 16;

	for (unsigned i = 0; i + 1 < DEVICES; i++)
		place_bar(b, function_at(i + 1), LAYOUT_PCI_WINDOW + i * BAR_ROOM);
	bus_write(&b->mmio, port + PCI_PRIMARY_BUS, "\0\1\1", 2);
	bus_write(&b->mmio, port + PCI_SUBORDINATE_BUS, "\1", 1);
	bus_write(&b->mmio, port + PCI_MEMORY_BASE, &window, 4);
	bus_write(&b->mmio, port + PCI_COMMAND, "\x06", 2);
	place_bar(b, function_at(6), first);
}

static void save(struct board *b, struct stream_out *s)
{
	stream_out_init(s);
	pci_save(b->pci, s);
	pm_save(b->pm, s);
	for (unsigned i = 0; i < DEVICES; i++) {
		if (!b->slot[i])
			continue;
		virtio_pci_pause(b->slot[i]);
		virtio_pci_save(b->slot[i], s);
	}
	check(!s->err);
}

static int load(struct board *b, const uint8_t *data, size_t len)
{
	struct stream_in s;
	int rc;

	stream_in_init(&s, data, len);
	rc = pci_load(b->pci, &s);
	if (!rc)
		rc = pm_load(b->pm, &s);
	for (unsigned i = 0; i < DEVICES && !rc; i++)
		if (b->slot[i])
			rc = virtio_pci_load(b->slot[i], &s);
	return rc;
}

/* What was saved, loaded and saved again is the same. */
static void check_state(struct board *b)
{
	struct stream_out before, after;

	save(b, &before);
	unmake(b);
	make(b);
	check(!load(b, before.buf, before.len));
	save(b, &after);
	check(before.len == after.len && !memcmp(before.buf, after.buf, after.len));
	for (unsigned i = 0; i < DEVICES; i++)
		if (b->slot[i])
			virtio_pci_resume(b->slot[i]);
	stream_out_finish(&before);
	stream_out_finish(&after);
}

/* The loop does not run: what is called on it happens at once, and no queue is looked into. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* Made once: no device writes to the one, or leaves anything on the other. */
	static struct mem *mem;
	static struct loop *io;
	struct board b;

	log_set_level(LOG_LEVEL_ERROR);
	if (!mem)
		check(!loop_create(&io, "fuzz") && !mem_create(&mem, RAM, MEM_PRIVATE));
	b = (struct board){.mem = mem, .io = io};
	make(&b);
	place_bars(&b);
	for (; len >= ACCESS && data[0] != 0xff; data += ACCESS, len -= ACCESS)
		one_access(&b, data);
	check_state(&b);
	if (len && data[0] == 0xff) {
		load(&b, data + 1, len - 1);
		place_bars(&b);
		for (uint8_t i = 0; i < 64; i++)
			one_access(&b,
				(uint8_t[]){WHERE_REGISTERS << 3 | (i & 3), i, 0, 0, 0, 0, 0, 0});
	}
	unmake(&b);
	bus_finish(&b.pio);
	bus_finish(&b.mmio);
	return 0;
}
