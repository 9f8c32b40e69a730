// SPDX-License-Identifier: MIT
// Power management of hardware-reduced ACPI.
#include "hw/pm.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/layout.h"
#include "hw/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SLEEP_ENABLE 0x20u
#define SLEEP_TYPE(v) ((v) >> 2 & 7u)

struct pm {
	struct pm_config cfg;
	_Atomic uint32_t events; /* pending */
	pthread_mutex_t lock;    /* guards the log */
	struct guest_log log;
};

static void complain(struct pm *p, const char *what, unsigned v)
{
	pthread_mutex_lock(&p->lock);
	guest_error(&p->log, "power management", "%s 0x%02x is not supported", what, v);
	pthread_mutex_unlock(&p->lock);
}

/* The machine never sleeps and wakes up again, so that there is no wake status to show. */
static void status_read(void *dev, uint64_t off, void *data, unsigned len)
{
	memset(data, 0, len);
}

static void sleep_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pm *p = dev;
	uint8_t v = *(const uint8_t *)data;

	if (!(v & SLEEP_ENABLE))
		return;
	if (SLEEP_TYPE(v) == PM_SLEEP_TYPE_S5)
		p->cfg.power_off(p->cfg.arg);
	else
		complain(p, "sleep control value", v);
}

static void reset_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pm *p = dev;
	uint8_t v = *(const uint8_t *)data;

	if (v == PM_RESET_VALUE)
		p->cfg.reset(p->cfg.arg);
	else
		complain(p, "reset value", v);
}

/* A read of any part takes all: the guest has been told of what it did not look at. */
static void events_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pm *p = dev;
	uint8_t bytes[8] = {0};

	put_le32(bytes, atomic_exchange(&p->events, 0));
	memcpy(data, bytes + off, len);
}

static void eject_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pm *p = dev;
	unsigned slots = *(const uint8_t *)data;

	if (p->cfg.ejected && off == 0)
		p->cfg.ejected(p->cfg.arg, slots);
}

static const struct bus_ops sleep_ops = {.read = status_read, .write = sleep_write};
static const struct bus_ops status_ops = {.read = status_read};
static const struct bus_ops reset_ops = {.read = status_read, .write = reset_write};
static const struct bus_ops events_ops = {.read = events_read};
static const struct bus_ops eject_ops = {.read = status_read, .write = eject_write};

static const struct bus_range ranges[] = {
	{PORT_SLEEP_CONTROL, 1, &sleep_ops, NULL, "ACPI sleep control"},
	{PORT_SLEEP_STATUS, 1, &status_ops, NULL, "ACPI sleep status"},
	{PORT_RESET, 1, &reset_ops, NULL, "ACPI reset"},
	{PORT_GED, 4, &events_ops, NULL, "ACPI events"},
	{PORT_PCI_EJECT, 4, &eject_ops, NULL, "PCI eject"},
};

/* Removes the first `n` ranges. */
static void remove_ports(struct pm *p, size_t n)
{
	while (n)
		bus_del(p->cfg.pio, ranges[--n].base);
}

static int add_ports(struct pm *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct bus_range r = ranges[i];
		int rc;

		r.dev = p;
		rc = bus_add(p->cfg.pio, &r);
		if (rc) {
			remove_ports(p, i);
			return rc;
		}
	}
	return 0;
}

int pm_create(struct pm **out, const struct pm_config *cfg)
{
	struct pm *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return fail(ENOMEM, "power management: out of memory");
	p->cfg = *cfg;
	pthread_mutex_init(&p->lock, NULL);
	rc = add_ports(p);
	if (rc) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void pm_destroy(struct pm *p)
{
	if (!p)
		return;
	remove_ports(p, ARRAY_SIZE(ranges));
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void pm_raise(struct pm *p, uint32_t event)
{
	atomic_fetch_or(&p->events, event);
	irq_raise(p->cfg.irq);
}

int pm_write_reset_vector(struct mem *m)
{
	static const uint8_t code[] = {
		0xba, PORT_RESET & 0xff, PORT_RESET >> 8, /* mov $PORT_RESET, %dx */
		0xb0, PM_RESET_VALUE,                     /* mov $PM_RESET_VALUE, %al */
		0xee,                                     /* out %al, %dx */
		0xf4,                                     /* hlt */
		0xeb, 0xfd,                               /* jmp to the hlt */
	};

	return mem_write(m, LAYOUT_RESET_VECTOR, code, sizeof(code));
}

void pm_reset(struct pm *p)
{
	atomic_store(&p->events, 0);
}

void pm_save(struct pm *p, struct stream_out *out)
{
	stream_begin(out, "pm", 1);
	stream_put_u32(out, atomic_load(&p->events));
	stream_end(out);
}

int pm_load(struct pm *p, struct stream_in *in)
{
	int rc = stream_open(in, "pm", 1);

	if (rc < 0)
		return rc;
	atomic_store(&p->events, stream_get_u32(in));
	rc = stream_close(in);
	if (!rc && atomic_load(&p->events))
		irq_raise(p->cfg.irq);
	return rc;
}
