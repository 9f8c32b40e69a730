// SPDX-License-Identifier: MIT
// The host bridge: configuration space by memory and by ports, and which BAR answers where.
#include "hw/pci_private.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/layout.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

/* A bridge that is found by ACPI alone, and has no registers of its own. */
#define BRIDGE_VENDOR 0x1b36u
#define BRIDGE_DEVICE 0x0008u
#define BRIDGE_CLASS 0x060000u

/* PCI 3.0, 3.2.2.3.2: enable, bus, device and function, register by double words. */
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu

/* ---- Configuration space ---- */

static struct pci_function *find_behind(struct pci *p, uint64_t bus)
{
	for (unsigned i = 0; i < p->ports; i++)
		if (pci_port_bus(&p->port[i]) == bus)
			return atomic_load(&p->at[PCI_SLOTS + i]);
	return NULL;
}

/* `at` is as in memory: bus, device, function and register in 8, 5, 3 and 12 bits. */
static struct pci_function *find_function(struct pci *p, uint64_t at)
{
	unsigned slot = at >> 15 & 31, number = at >> 12 & 7;

	if (at >> 20)
		return slot || number ? NULL : find_behind(p, at >> 20);
	if (number)
		return slot == p->port_slot && number < p->ports ? &p->port[number] : NULL;
	return atomic_load(&p->at[slot]);
}

/* No access crosses a double word, as none does on a bus. */
static bool is_access(uint64_t off, unsigned len)
{
	return len <= 4 && off % len == 0;
}

static void config_read(struct pci *p, uint64_t at, void *data, unsigned len)
{
	struct pci_function *f = find_function(p, at);

	if (f && is_access(at, len))
		pci_function_read(f, at & 0xfff, data, len);
	else
		memset(data, 0xff, len);
}

static void config_write(struct pci *p, uint64_t at, const void *data, unsigned len)
{
	struct pci_function *f = find_function(p, at);

	if (f && is_access(at, len))
		pci_function_write(f, at & 0xfff, data, len);
}

static void ecam_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pci *p = dev;

	pthread_mutex_lock(&p->lock);
	config_read(p, off, data, len);
	pthread_mutex_unlock(&p->lock);
}

static void ecam_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pci *p = dev;

	pthread_mutex_lock(&p->lock);
	config_write(p, off, data, len);
	pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};

/* What the data port refers to where it refers to nothing: a bus past the last. */
#define NOWHERE (256ull << 20)

static uint64_t port_target(const struct pci *p, uint64_t off)
{
	uint32_t a = p->address;

	if (!(a & ADDRESS_ENABLE))
		return NOWHERE;
	return (uint64_t)(a >> 8 & 0xffff) << 12 | (a & 0xfc) | (off & 3);
}

static void port_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct pci *p = dev;

	memset(data, 0xff, len);
	pthread_mutex_lock(&p->lock);
	if (off >= 4)
		config_read(p, port_target(p, off), data, len);
	else if (off == 0 && len == 4)
		put_le32(data, p->address);
	pthread_mutex_unlock(&p->lock);
}

static void port_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct pci *p = dev;

	pthread_mutex_lock(&p->lock);
	if (off >= 4)
		config_write(p, port_target(p, off), data, len);
	else if (off == 0 && len == 4)
		p->address = get_le32(data) & ADDRESS_BITS;
	pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};

/* ---- BARs ---- */

struct map {
	uint64_t base[PCI_PLACES][PCI_BARS];
};

static bool in_window(uint64_t base, uint64_t size)
{
	return base >= LAYOUT_PCI_WINDOW &&
	       range_ok(base - LAYOUT_PCI_WINDOW, size, LAYOUT_PCI_WINDOW_SIZE);
}

static bool is_reached(const struct pci *p, unsigned place, uint64_t base, uint64_t size)
{
	if (place >= PCI_SLOTS && !pci_port_passes(&p->port[place - PCI_SLOTS], base, size))
		return false;
	return in_window(base, size);
}

/* Whether a BAR that has its place already is in the way. */
static bool is_taken(struct pci *p, const struct map *m, uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < PCI_PLACES; i++) {
		const struct pci_function *f = atomic_load(&p->at[i]);

		for (unsigned n = 0; f && n < PCI_BARS; n++) {
			uint64_t other = m->base[i][n];

			if (other && base < other + f->bar[n].size && other < base + size)
				return true;
		}
	}
	return false;
}

static void find_places(struct pci *p, struct map *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < PCI_PLACES; i++) {
		const struct pci_function *f = atomic_load(&p->at[i]);

		for (unsigned n = 0; f && n < PCI_BARS; n++) {
			uint64_t base = pci_function_wanted(f, n), size = f->bar[n].size;

			if (base && is_reached(p, i, base, size) && !is_taken(p, m, base, size))
				m->base[i][n] = base;
		}
	}
}

static void move_bar(struct pci_function *f, unsigned n, uint64_t base)
{
	atomic_store(&f->base[n], base);
	if (f->ops && f->ops->bar_moved)
		f->ops->bar_moved(f->dev, n, base);
}

/* Those that leave their place become silent; or those that have a new one answer there. */
static void move_bars(struct pci *p, const struct map *m, bool answer)
{
	for (unsigned i = 0; i < PCI_PLACES; i++) {
		struct pci_function *f = atomic_load(&p->at[i]);

		for (unsigned n = 0; f && n < PCI_BARS; n++) {
			uint64_t now = atomic_load(&f->base[n]), next = m->base[i][n];

			if (now != next && (now || answer))
				move_bar(f, n, answer ? next : 0);
		}
	}
}

void pci_map(struct pci *p)
{
	struct map m;

	find_places(p, &m);
	/* In this order, so that no two ever answer at one place. */
	move_bars(p, &m, false);
	move_bars(p, &m, true);
}

/* The function whose BAR *n holds all of the access; *off becomes relative to that BAR. */
static struct pci_function *find_bar(struct pci *p, uint64_t *off, unsigned len, unsigned *n)
{
	uint64_t addr = LAYOUT_PCI_WINDOW + *off;

	for (unsigned i = 0; i < PCI_PLACES; i++) {
		struct pci_function *f = atomic_load(&p->at[i]);

		for (*n = 0; f && *n < PCI_BARS; ++*n) {
			uint64_t base = atomic_load(&f->base[*n]);

			*off = addr - base;
			if (base && addr >= base && range_ok(*off, len, f->bar[*n].size))
				return f;
		}
	}
	return NULL;
}

static void window_read(void *dev, uint64_t off, void *data, unsigned len)
{
	unsigned n;
	struct pci_function *f = find_bar(dev, &off, len, &n);

	if (f && f->bar[n].ops->read)
		f->bar[n].ops->read(f->dev, off, data, len);
	else
		memset(data, 0xff, len);
}

static void window_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	unsigned n;
	struct pci_function *f = find_bar(dev, &off, len, &n);

	if (f && f->bar[n].ops->write)
		f->bar[n].ops->write(f->dev, off, data, len);
}

static const struct bus_ops window_ops = {.read = window_read, .write = window_write};

/* ---- The machine's side ---- */

unsigned pci_buses(const struct pci *p)
{
	return 1 + p->ports;
}

bool pci_is_free(struct pci *p, unsigned place)
{
	bool there = place < PCI_SLOTS || place - PCI_SLOTS < p->ports;

	return there && !atomic_load(&p->at[place]);
}

int pci_attach(struct pci *p, struct pci_function *f, unsigned place)
{
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	if (!pci_is_free(p, place)) {
		rc = fail(EBUSY, "%s: slot %u of the PCI bus is taken", f->name, place);
	} else {
		f->pci = p;
		f->place = place;
		atomic_store(&p->at[place], f);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void pci_detach(struct pci_function *f)
{
	struct pci *p = f->pci;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->at[f->place], NULL);
	for (unsigned n = 0; n < PCI_BARS; n++)
		if (atomic_load(&f->base[n]))
			move_bar(f, n, 0);
	f->pci = NULL;
	/* One that it was in the way of may answer now. */
	pci_map(p);
	pthread_mutex_unlock(&p->lock);
}

static int claim(struct pci *p)
{
	const struct bus_range ports = {
		.base = PORT_PCI_ADDRESS, .size = 8, .ops = &port_ops, .dev = p, .name = "pci"};
	const struct bus_range ecam = {.base = LAYOUT_PCI_ECAM,
		.size = (uint64_t)pci_buses(p) << LAYOUT_PCI_BUS_SHIFT,
		.ops = &ecam_ops,
		.dev = p,
		.name = "pci configuration"};
	const struct bus_range window = {.base = LAYOUT_PCI_WINDOW,
		.size = LAYOUT_PCI_WINDOW_SIZE,
		.ops = &window_ops,
		.dev = p,
		.name = "pci window"};
	int rc = bus_add(p->pio, &ports);

	if (rc)
		return rc;
	rc = bus_add(p->mmio, &ecam);
	if (!rc) {
		rc = bus_add(p->mmio, &window);
		if (!rc)
			return 0;
		bus_del(p->mmio, LAYOUT_PCI_ECAM);
	}
	bus_del(p->pio, PORT_PCI_ADDRESS);
	return rc;
}

static void put(struct pci *p, struct pci_function *f, unsigned place)
{
	f->pci = p;
	f->place = place;
	if (place < PCI_PLACES)
		atomic_store(&p->at[place], f);
}

static int add_ports(struct pci *p, unsigned ports)
{
	if (!ports)
		return 0;
	p->port = calloc(ports, sizeof(*p->port));
	if (!p->port)
		return fail(ENOMEM, "no memory for %u PCI root ports", ports);
	for (; p->ports < ports; p->ports++) {
		pci_port_init(&p->port[p->ports], p->ports);
		put(p, &p->port[p->ports], p->ports ? PCI_PLACES + p->ports : p->port_slot);
	}
	return 0;
}

static void free_pci(struct pci *p)
{
	pthread_mutex_destroy(&p->lock);
	free(p->port);
	free(p);
}

int pci_create(struct pci **out, const struct pci_config *cfg)
{
	const struct pci_id id = {
		.vendor = BRIDGE_VENDOR, .device = BRIDGE_DEVICE, .class = BRIDGE_CLASS};
	struct pci *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return fail(ENOMEM, "no memory for a PCI bus");
	p->pio = cfg->pio;
	p->mmio = cfg->mmio;
	p->port_slot = cfg->port_slot;
	p->bridge.name = "host bridge";
	pthread_mutex_init(&p->lock, NULL);
	pci_function_init(&p->bridge, &id);
	put(p, &p->bridge, 0);
	rc = add_ports(p, cfg->ports);
	rc = rc ? rc : claim(p);
	if (rc)
		free_pci(p);
	else
		*out = p;
	return rc;
}

void pci_destroy(struct pci *p)
{
	if (!p)
		return;
	bus_del(p->mmio, LAYOUT_PCI_WINDOW);
	bus_del(p->mmio, LAYOUT_PCI_ECAM);
	bus_del(p->pio, PORT_PCI_ADDRESS);
	free_pci(p);
}

void pci_reset(struct pci *p)
{
	p->address = 0;
	pci_function_reset(&p->bridge);
	for (unsigned i = 0; i < p->ports; i++)
		pci_function_reset(&p->port[i]);
}

void pci_save(struct pci *p, struct stream_out *s)
{
	stream_begin(s, "pci", 1);
	stream_put_u32(s, p->address);
	stream_put_u8(s, (uint8_t)p->ports);
	stream_end(s);
	pci_function_save(&p->bridge, s);
	for (unsigned i = 0; i < p->ports; i++)
		pci_function_save(&p->port[i], s);
}

int pci_load(struct pci *p, struct stream_in *s)
{
	int rc = stream_open(s, "pci", 1);

	if (rc < 0)
		return rc;
	p->address = stream_get_u32(s) & ADDRESS_BITS;
	if (stream_get_u8(s) != p->ports)
		stream_bad(s, "another number of root ports");
	rc = stream_close(s);
	rc = rc ? rc : pci_function_load(&p->bridge, s);
	for (unsigned i = 0; i < p->ports && !rc; i++)
		rc = pci_function_load(&p->port[i], s);
	return rc;
}
