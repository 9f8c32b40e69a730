// SPDX-License-Identifier: MIT
// The virtio-mmio transport, version 2 (virtio 1.2, 4.2.2).
//
// Doorbells. No queue has an ioeventfd from the start (transport_kick.c). Changing KVM's bus means
// waiting for a grace period, milliseconds on many kernels: paid for each queue before the guest
// starts that would be most of the start, and a queue that is kicked ten times never earns it back.
//
// Interrupts. The driver reads InterruptStatus to learn what an interrupt was for, so a bit is set
// there first and then the line is raised. The line is raised each time, also when the bit was
// still set: an edge that came while the line was masked is lost, and must not silence the device
// for good.
#include "virtio/mmio.h"

#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/kvm.h"
#include "virtio/transport.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>

#define MAGIC 0x74726976u /* "virt" */
#define VERSION 2u
#define VENDOR 0x6b63766bu /* "kvck" */

struct virtio_mmio {
	struct virtio_mmio_config cfg;
	struct transport t;
	atomic_uint interrupts; /* InterruptStatus */
	/* Under the transport's lock. */
	uint32_t offered_sel, accept_sel, queue_sel;
};

/* ---- To the driver ---- */

static void interrupt(struct virtio_mmio *m, unsigned why)
{
	atomic_fetch_or(&m->interrupts, why);
	irq_raise(m->cfg.irq);
}

static void queue_interrupt(void *arg, unsigned queue)
{
	interrupt(arg, VIRTIO_MMIO_INT_VRING);
}

static void config_interrupt(void *arg)
{
	interrupt(arg, VIRTIO_MMIO_INT_CONFIG);
}

static void no_interrupts(void *arg)
{
	struct virtio_mmio *m = arg;

	atomic_store(&m->interrupts, 0);
}

static int bind_doorbell(void *arg, unsigned queue, bool add)
{
	struct virtio_mmio *m = arg;

	if (!m->cfg.kvm)
		return -EAGAIN;
	return kvm_ioeventfd(m->cfg.kvm, transport_kick_fd(&m->t, queue),
		m->cfg.base + VIRTIO_MMIO_QUEUE_NOTIFY, queue, add);
}

static const struct transport_ops transport_ops = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.reset = no_interrupts,
	.bind = bind_doorbell,
};

/* ---- From the driver ---- */

static void kick(struct virtio_mmio *m, uint32_t queue)
{
	if (transport_kick(&m->t, queue))
		return;
	pthread_mutex_lock(&m->t.lock);
	guest_error(&m->t.log, m->cfg.dev->name, "queue %u kicked: there is none", queue);
	pthread_mutex_unlock(&m->t.lock);
}

static uint32_t read_register(struct virtio_mmio *m, uint64_t off)
{
	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return m->cfg.dev->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return transport_offered(&m->t, m->offered_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return transport_queue_max(&m->t, m->queue_sel);
	case VIRTIO_MMIO_QUEUE_READY:
		return transport_queue_ready(&m->t, m->queue_sel);
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return atomic_load(&m->interrupts);
	case VIRTIO_MMIO_STATUS:
		return transport_status(&m->t);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no such shared memory region, whichever is selected */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return virtio_config_generation(m->cfg.dev);
	default:
		return 0;
	}
}

static void write_ring(struct virtio_mmio *m, enum transport_ring ring, bool high, uint32_t v)
{
	transport_set_queue_ring(&m->t, m->queue_sel, ring, high, v);
}

static void write_register(struct virtio_mmio *m, uint64_t off, uint32_t v)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->offered_sel = v;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		transport_accept(&m->t, m->accept_sel, v);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->accept_sel = v;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->queue_sel = v;
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
		transport_set_queue_size(&m->t, m->queue_sel, v);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		transport_set_queue_ready(&m->t, m->queue_sel, v);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and(&m->interrupts, ~v);
		break;
	case VIRTIO_MMIO_STATUS:
		transport_set_status(&m->t, v);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		write_ring(m, RING_DESC, off == VIRTIO_MMIO_QUEUE_DESC_HIGH, v);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		write_ring(m, RING_AVAIL, off == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, v);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		write_ring(m, RING_USED, off == VIRTIO_MMIO_QUEUE_USED_HIGH, v);
		break;
	case VIRTIO_MMIO_SHM_SEL:
		break; /* there are none to select */
	default:
		guest_error(&m->t.log, m->cfg.dev->name, "%#x written to register %#lx", v, off);
	}
}

/* Registers are 32 bits wide, aligned (4.2.2.2); others are mistakes that read as zero. */
static bool is_register(struct virtio_mmio *m, uint64_t off, unsigned len)
{
	if (len == 4 && off % 4 == 0)
		return true;
	pthread_mutex_lock(&m->t.lock);
	guest_error(&m->t.log, m->cfg.dev->name, "%u bytes accessed at register %#lx", len, off);
	pthread_mutex_unlock(&m->t.lock);
	return false;
}

static void mmio_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct virtio_mmio *m = dev;
	uint32_t v;

	memset(data, 0, len);
	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_read(m->cfg.dev, (unsigned)off - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	if (!is_register(m, off, len))
		return;
	pthread_mutex_lock(&m->t.lock);
	v = read_register(m, off);
	pthread_mutex_unlock(&m->t.lock);
	put_le32(data, v);
}

static void mmio_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct virtio_mmio *m = dev;
	bool config = off >= VIRTIO_MMIO_CONFIG;

	if (!config && !is_register(m, off, len))
		return;
	if (off == VIRTIO_MMIO_QUEUE_NOTIFY) {
		kick(m, get_le32(data));
		return;
	}
	pthread_mutex_lock(&m->t.lock);
	if (config)
		transport_config_write(&m->t, (uint32_t)off - VIRTIO_MMIO_CONFIG, data, len);
	else
		write_register(m, off, get_le32(data));
	pthread_mutex_unlock(&m->t.lock);
}

static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write};

/* ---- The machine's side ---- */

static int put_on_bus(struct virtio_mmio *m)
{
	const struct bus_range range = {
		.base = m->cfg.base,
		.size = VIRTIO_MMIO_SIZE,
		.ops = &mmio_ops,
		.dev = m,
		.name = m->cfg.dev->name,
	};
	const struct transport_config t = {
		.dev = m->cfg.dev,
		.mem = m->cfg.mem,
		.io = m->cfg.io,
		.ops = &transport_ops,
		.arg = m,
	};
	int rc = transport_init(&m->t, &t);

	if (rc < 0)
		return rc;
	rc = bus_add(m->cfg.bus, &range);
	if (rc < 0)
		transport_finish(&m->t);
	return rc;
}

int virtio_mmio_create(struct virtio_mmio **out, const struct virtio_mmio_config *cfg)
{
	struct virtio_mmio *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return fail(ENOMEM, "%s: no memory for its registers", cfg->dev->name);
	m->cfg = *cfg;
	rc = put_on_bus(m);
	if (rc < 0) {
		free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void virtio_mmio_destroy(struct virtio_mmio *m)
{
	if (!m)
		return;
	bus_del(m->cfg.bus, m->cfg.base);
	transport_finish(&m->t);
	free(m);
}

void virtio_mmio_reset(struct virtio_mmio *m)
{
	pthread_mutex_lock(&m->t.lock);
	transport_reset(&m->t);
	m->offered_sel = m->accept_sel = m->queue_sel = 0;
	pthread_mutex_unlock(&m->t.lock);
}

void virtio_mmio_pause(struct virtio_mmio *m)
{
	pthread_mutex_lock(&m->t.lock);
	transport_pause(&m->t);
	pthread_mutex_unlock(&m->t.lock);
}

void virtio_mmio_resume(struct virtio_mmio *m)
{
	pthread_mutex_lock(&m->t.lock);
	transport_resume(&m->t);
	pthread_mutex_unlock(&m->t.lock);
}

void virtio_mmio_save(struct virtio_mmio *m, struct stream_out *s)
{
	pthread_mutex_lock(&m->t.lock);
	stream_begin(s, "virtio-mmio", 1);
	stream_put_u32(s, atomic_load(&m->interrupts));
	stream_put_u32(s, m->offered_sel);
	stream_put_u32(s, m->accept_sel);
	stream_put_u32(s, m->queue_sel);
	stream_end(s);
	transport_save(&m->t, s);
	pthread_mutex_unlock(&m->t.lock);
}

static int load_registers(struct virtio_mmio *m, struct stream_in *s, uint32_t *interrupts)
{
	int rc = stream_open(s, "virtio-mmio", 1);

	if (rc < 0)
		return rc;
	*interrupts = stream_get_u32(s);
	m->offered_sel = stream_get_u32(s);
	m->accept_sel = stream_get_u32(s);
	m->queue_sel = stream_get_u32(s);
	return stream_close(s);
}

static int load_locked(struct virtio_mmio *m, struct stream_in *s)
{
	uint32_t interrupts = 0;
	int rc;

	transport_pause(&m->t);
	transport_reset(&m->t);
	rc = load_registers(m, s, &interrupts);
	if (rc == 0)
		rc = transport_load(&m->t, s);
	if (rc < 0)
		transport_reset(&m->t);
	/* Whether an edge was lost on the way is not known: one more does no harm. */
	else if (interrupts)
		interrupt(m, interrupts & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG));
	return rc;
}

int virtio_mmio_load(struct virtio_mmio *m, struct stream_in *s)
{
	int rc;

	pthread_mutex_lock(&m->t.lock);
	rc = load_locked(m, s);
	pthread_mutex_unlock(&m->t.lock);
	return rc;
}
