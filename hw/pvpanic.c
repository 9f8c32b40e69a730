// SPDX-License-Identifier: MIT
// The port by which a guest's kernel says that it has panicked.
#include "hw/pvpanic.h"

#include "base/log.h"
#include "hw/bus.h"
#include "hw/layout.h"

#include <errno.h>
#include <stdlib.h>

#define SUPPORTED (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
	struct pvpanic_config cfg;
};

static void events_read(void *dev, uint64_t off, void *data, unsigned len)
{
	*(uint8_t *)data = SUPPORTED;
}

static void events_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pvpanic *p = dev;
	uint8_t events = *(const uint8_t *)data & SUPPORTED;

	if (events)
		p->cfg.event(p->cfg.arg, events);
}

static const struct bus_ops ops = {.read = events_read, .write = events_write};

int pvpanic_create(struct pvpanic **out, const struct pvpanic_config *cfg)
{
	struct pvpanic *p = calloc(1, sizeof(*p));
	struct bus_range port = {PORT_PVPANIC, 1, &ops, p, "pvpanic"};
	int rc;

	if (!p)
		return fail(ENOMEM, "pvpanic: out of memory");
	p->cfg = *cfg;
	rc = bus_add(cfg->pio, &port);
	if (rc) {
		free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void pvpanic_destroy(struct pvpanic *p)
{
	if (!p)
		return;
	bus_del(p->cfg.pio, PORT_PVPANIC);
	free(p);
}
