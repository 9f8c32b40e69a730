// SPDX-License-Identifier: MIT
// A guest's view of PCI without a guest: configuration space over the two buses.
#ifndef TESTS_UNIT_PCI_GUEST_H
#define TESTS_UNIT_PCI_GUEST_H

#include "hw/bus.h"
#include "hw/layout.h"
#include "hw/pci.h"
#include "tests/unit/test.h"

#include <linux/pci_regs.h>

/* Both buses with a host bridge between them. */
struct pci_rig {
	struct bus pio, mmio;
	struct pci *pci;
};

static inline uint64_t ecam(unsigned slot, unsigned off)
{
	return LAYOUT_PCI_ECAM + (slot << 15) + off;
}

static inline uint32_t mem_get_len(struct pci_rig *r, uint64_t addr, unsigned len)
{
	uint32_t v = 0;

	bus_read(&r->mmio, addr, &v, len);
	return v;
}

static inline uint32_t config_get(struct pci_rig *r, unsigned slot, unsigned off, unsigned len)
{
	return mem_get_len(r, ecam(slot, off), len);
}

static inline void config_set(
	struct pci_rig *r, unsigned slot, unsigned off, unsigned len, uint32_t v)
{
	bus_write(&r->mmio, ecam(slot, off), &v, len);
}

static inline void config_address(struct pci_rig *r, unsigned slot, unsigned off)
{
	uint32_t v = 1u << 31 | slot << 11 | (off & 0xfc);

	bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
}

static inline uint32_t port_get(struct pci_rig *r, unsigned slot, unsigned off, unsigned len)
{
	uint32_t v = 0;

	config_address(r, slot, off);
	bus_read(&r->pio, PORT_PCI_DATA + (off & 3), &v, len);
	return v;
}

static inline void port_set(
	struct pci_rig *r, unsigned slot, unsigned off, unsigned len, uint32_t v)
{
	config_address(r, slot, off);
	bus_write(&r->pio, PORT_PCI_DATA + (off & 3), &v, len);
}

/* A function anywhere: its address as in memory, register and all. */
static inline uint64_t ecam_at(unsigned bus, unsigned slot, unsigned number, unsigned off)
{
	return LAYOUT_PCI_ECAM + ((uint64_t)bus << 20 | slot << 15 | number << 12 | off);
}

static inline void set_at(struct pci_rig *r, uint64_t addr, unsigned len, uint32_t v)
{
	bus_write(&r->mmio, addr, &v, len);
}

/* Where the capability of that kind is, past `after` in the list (0: from its start); 0: none. */
static inline unsigned find_capability(struct pci_rig *r, unsigned slot, uint8_t id, unsigned after)
{
	unsigned at = config_get(r, slot, after ? after + 1 : PCI_CAPABILITY_LIST, 1);

	while (at && config_get(r, slot, at, 1) != id)
		at = config_get(r, slot, at + 1, 1);
	return at;
}

static inline void place_bar(struct pci_rig *r, unsigned slot, unsigned n, uint32_t base)
{
	config_set(r, slot, PCI_BASE_ADDRESS_0 + 4 * n, 4, base);
}

static inline void decode(struct pci_rig *r, unsigned slot, bool on)
{
	config_set(r, slot, PCI_COMMAND, 2, on ? PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER : 0);
}

static inline void pci_rig_init_with(struct pci_rig *r, unsigned ports, unsigned port_slot)
{
	const struct pci_config cfg = {
		.pio = &r->pio, .mmio = &r->mmio, .ports = ports, .port_slot = port_slot};

	*r = (struct pci_rig){0};
	assert_int_equal(pci_create(&r->pci, &cfg), 0);
}

static inline void pci_rig_init(struct pci_rig *r)
{
	pci_rig_init_with(r, 0, 0);
}

static inline void pci_rig_finish(struct pci_rig *r)
{
	pci_destroy(r->pci);
	assert_int_equal(r->pio.count, 0);
	assert_int_equal(r->mmio.count, 0);
	bus_finish(&r->pio);
	bus_finish(&r->mmio);
}

#endif
