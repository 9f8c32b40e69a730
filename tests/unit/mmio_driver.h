// SPDX-License-Identifier: MIT
// A driver for a virtio-mmio device without a guest: its registers over a bus, its queues in guest
// memory.
#ifndef TESTS_UNIT_MMIO_DRIVER_H
#define TESTS_UNIT_MMIO_DRIVER_H

#include "base/loop.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "tests/unit/driver.h"
#include "tests/unit/test.h"
#include "virtio/device.h"
#include "virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <unistd.h>

#define MMIO_BASE 0xd0000000u
#define MMIO_RAM MIB(16)
#define MMIO_RING(i) (0x10000u + 0x10000u * (i)) /* where queue i's rings lie */

#define S_ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define S_DRIVER VIRTIO_CONFIG_S_DRIVER
#define S_FEATURES VIRTIO_CONFIG_S_FEATURES_OK
#define S_OK VIRTIO_CONFIG_S_DRIVER_OK
#define S_BROKEN VIRTIO_CONFIG_S_NEEDS_RESET

struct rig {
	struct mem *mem;
	struct bus bus;
	struct irq irq;
	struct loop *io;
	struct virtio_device *dev;
	struct virtio_mmio *mmio;
	struct driver q[8];
};

static inline uint32_t reg_read(struct rig *r, uint32_t off)
{
	uint32_t v = 0;

	assert_true(bus_read(&r->bus, MMIO_BASE + off, &v, 4));
	return v;
}

static inline void reg_write(struct rig *r, uint32_t off, uint32_t v)
{
	assert_true(bus_write(&r->bus, MMIO_BASE + off, &v, 4));
}

static inline void set_status(struct rig *r, uint32_t v)
{
	reg_write(r, VIRTIO_MMIO_STATUS, v);
}

static inline uint32_t get_status(struct rig *r)
{
	return reg_read(r, VIRTIO_MMIO_STATUS);
}

static inline void accept_features(struct rig *r, uint64_t f)
{
	for (unsigned sel = 0; sel < 2; sel++) {
		reg_write(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		reg_write(r, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(f >> (32 * sel)));
	}
}

/* As far as FEATURES_OK, which the device may refuse. */
static inline void negotiate(struct rig *r, uint64_t features)
{
	set_status(r, S_ACK);
	set_status(r, S_ACK | S_DRIVER);
	accept_features(r, features | 1ull << VIRTIO_F_VERSION_1);
	set_status(r, S_ACK | S_DRIVER | S_FEATURES);
}

static inline void write_address(struct rig *r, uint32_t low, uint64_t addr)
{
	reg_write(r, low, (uint32_t)addr);
	reg_write(r, low + 4, (uint32_t)(addr >> 32));
}

static inline void describe_queue(struct rig *r, unsigned i, const struct queue_setup *s)
{
	reg_write(r, VIRTIO_MMIO_QUEUE_SEL, i);
	reg_write(r, VIRTIO_MMIO_QUEUE_NUM, s->size);
	write_address(r, VIRTIO_MMIO_QUEUE_DESC_LOW, s->desc);
	write_address(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, s->avail);
	write_address(r, VIRTIO_MMIO_QUEUE_USED_LOW, s->used);
	reg_write(r, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* A live device with all its queues, `size` entries each. */
static inline void go_live(struct rig *r, uint64_t features, uint16_t size)
{
	negotiate(r, features);
	for (unsigned i = 0; i < r->dev->queue_count; i++) {
		driver_init(&r->q[i], r->mem, MMIO_RING(i), size, 0);
		describe_queue(r, i, &r->q[i].setup);
	}
	set_status(r, S_ACK | S_DRIVER | S_FEATURES | S_OK);
}

static inline void kick(struct rig *r, unsigned queue)
{
	reg_write(r, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

/*
 * Waits for an edge of the line and acknowledges what it was for, which may be nothing: a bit that
 * an earlier look has found set already. False when none came within ms.
 */
static inline bool wait_edge(struct rig *r, int ms, uint32_t *why)
{
	struct pollfd p = {.fd = r->irq.fd, .events = POLLIN};
	uint64_t edges;

	if (poll(&p, 1, ms) <= 0)
		return false;
	assert_int_equal(read(r->irq.fd, &edges, sizeof(edges)), sizeof(edges));
	*why = reg_read(r, VIRTIO_MMIO_INTERRUPT_STATUS);
	reg_write(r, VIRTIO_MMIO_INTERRUPT_ACK, *why);
	return true;
}

/* What the next interrupt is for; 0 when none comes within ms. */
static inline uint32_t wait_interrupt(struct rig *r, int ms)
{
	uint32_t why = 0;

	while (!why && wait_edge(r, ms, &why))
		;
	return why;
}

/* Waits until an entry of queue i is used. */
static inline void wait_used(struct rig *r, unsigned i, uint32_t *id, uint32_t *len)
{
	uint32_t why;

	driver_want_call(&r->q[i], r->q[i].used_next);
	while (!driver_reap(&r->q[i], id, len))
		assert_true(wait_edge(r, 5000, &why));
}

static inline void rig_attach(struct rig *r, struct virtio_device *dev)
{
	const struct virtio_mmio_config cfg = {
		.dev = dev,
		.mem = r->mem,
		.bus = &r->bus,
		.base = MMIO_BASE,
		.irq = &r->irq,
		.io = r->io,
	};

	r->dev = dev;
	assert_int_equal(virtio_mmio_create(&r->mmio, &cfg), 0);
}

/* Memory, bus, line and a loop on a thread of its own; the device is the test's. */
static inline void rig_init(struct rig *r)
{
	*r = (struct rig){0};
	assert_int_equal(mem_create(&r->mem, MMIO_RAM, MEM_PRIVATE), 0);
	assert_int_equal(irq_init(&r->irq, NULL, 16), 0);
	assert_int_equal(loop_create(&r->io, "io"), 0);
	assert_int_equal(loop_spawn(r->io, NULL, NULL), 0);
}

static inline void rig_finish(struct rig *r)
{
	virtio_mmio_destroy(r->mmio);
	loop_destroy(r->io);
	irq_finish(&r->irq, NULL);
	bus_finish(&r->bus);
	mem_destroy(r->mem);
}

#endif
