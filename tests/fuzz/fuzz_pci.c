// SPDX-License-Identifier: MIT
// A PCI bus with two virtio devices under accesses that the input chooses; then saved, loaded,
// compared.
//
// An access is eight bytes: what (bits 0-1 the width as a power of two, bit 2 write, bits 3-5 where
// the address comes from: configuration space in memory or by ports, a BAR's registers, anywhere in
// the window, or a register that places BARs), an address (3 bytes), a value (4). What is left of
// the input at a first byte of 0xff is loaded as a state stream.
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "hw/pci.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

#include <linux/pci_regs.h>
#include <stdlib.h>

#define ACCESS 8u
#define DEVICES 2u
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
	WHERE_PORT
};

struct board {
	struct bus pio, mmio;
	struct mem *mem;
	struct loop *io;
	struct pci *pci;
	struct virtio_device *dev[DEVICES];
	struct virtio_pci *slot[DEVICES];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void make(struct board *b)
{
	check(!pci_create(&b->pci, &(struct pci_config){.pio = &b->pio, .mmio = &b->mmio}));
	for (unsigned i = 0; i < DEVICES; i++) {
		struct virtio_pci_config cfg = {.mem = b->mem, .pci = b->pci, .io = b->io};

		check(!rng_create(&b->dev[i], "rng"));
		cfg.dev = b->dev[i];
		check(!virtio_pci_create(&b->slot[i], &cfg));
	}
}

static void unmake(struct board *b)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		virtio_pci_destroy(b->slot[i]);
		rng_destroy(b->dev[i]);
	}
	pci_destroy(b->pci);
	check(b->pio.count == 0 && b->mmio.count == 0);
}

static void move(struct bus *bus, uint64_t addr, uint8_t *value, const uint8_t *d)
{
	unsigned width = 1u << (d[0] & 3);

	if (d[0] & DO_WRITE)
		bus_write(bus, addr, value, width);
	else
		bus_read(bus, addr, value, width);
}

/* The first BARs of the slots from 1 on, where a test that places them first finds registers. */
static uint64_t address(const uint8_t *d)
{
	uint32_t at = d[1] | (uint32_t)d[2] << 8 | (uint32_t)d[3] << 16;
	uint64_t function = LAYOUT_PCI_ECAM + ((uint64_t)(at % (DEVICES + 2)) << 15);

	switch (d[0] >> 3 & 7) {
	case WHERE_REGISTERS:
		return LAYOUT_PCI_WINDOW + at % (DEVICES * BAR_ROOM);
	case WHERE_WINDOW:
		return LAYOUT_PCI_WINDOW + ((uint64_t)at << 4);
	case WHERE_BAR:
		return function + PCI_BASE_ADDRESS_0 + (d[2] & 3);
	case WHERE_COMMAND:
		return function + PCI_COMMAND;
	default:
		return LAYOUT_PCI_ECAM + at % LAYOUT_PCI_ECAM_SIZE;
	}
}

static void one_access(struct board *b, const uint8_t *d)
{
	uint32_t at = 1u << 31 | (d[1] | (uint32_t)d[2] << 8);
	uint8_t value[8];

	memcpy(value, d + 4, 4);
	memcpy(value + 4, d + 4, 4);
	if ((d[0] >> 3 & 7) == WHERE_PORTS) {
		bus_write(&b->pio, PORT_PCI_ADDRESS, &at, 4);
		move(&b->pio, PORT_PCI_DATA + (d[3] & 3), value, d);
	} else if ((d[0] >> 3 & 7) == WHERE_PORT) {
		move(&b->pio, PORT_PCI_ADDRESS + (d[1] & 7), value, d);
	} else {
		move(&b->mmio, address(d), value, d);
	}
}

static void place_bars(struct board *b)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		uint64_t function = LAYOUT_PCI_ECAM + ((uint64_t)(i + 1) << 15);
		uint32_t base = LAYOUT_PCI_WINDOW + i * BAR_ROOM;

		bus_write(&b->mmio, function + PCI_BASE_ADDRESS_0, &base, 4);
		bus_write(&b->mmio, function + PCI_COMMAND, "\x06", 2);
	}
}

static void save(struct board *b, struct stream_out *s)
{
	stream_out_init(s);
	pci_save(b->pci, s);
	for (unsigned i = 0; i < DEVICES; i++) {
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
	for (unsigned i = 0; i < DEVICES && !rc; i++)
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
		virtio_pci_resume(b->slot[i]);
	stream_out_finish(&before);
	stream_out_finish(&after);
}

/* The loop does not run: what is called on it happens at once, and no queue is looked into. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct board b = {0};

	log_set_level(LOG_LEVEL_ERROR);
	check(!loop_create(&b.io, "fuzz") && !mem_create(&b.mem, RAM, MEM_PRIVATE));
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
	loop_destroy(b.io);
	mem_destroy(b.mem);
	bus_finish(&b.pio);
	bus_finish(&b.mmio);
	return 0;
}
