// SPDX-License-Identifier: MIT
// A root port: a bridge whose bus numbers and window of memory the guest sets (PCI-to-PCI Bridge
// 1.2, 3.2.5), with a PCI Express capability that says that its link is up and has one device
// (PCI Express 4.0, 7.5.3).
//
// It has no I/O window and none for prefetchable memory, no hot-plug and no interrupt, and what its
// capability could control is not there to be controlled.
#include "hw/pci_private.h"

#include "base/util.h"

#include <linux/pci_regs.h>

#define PORT_VENDOR 0x1b36u
#define PORT_DEVICE 0x000cu
#define PORT_CLASS 0x060400u

#define MULTIFUNCTION 0x80u
#define BUS_NUMBERS 0x00ffffffu /* primary, secondary, subordinate */
#define WINDOW_BITS 0xfff0fff0u /* base and limit, in units of 1 MiB */

#define EXPRESS_SIZE 60u
#define EXPRESS_VERSION 2u
#define LINK_WIDTH_1 (1u << 4)
#define LINK (PCI_EXP_LNKCAP_SLS_2_5GB | LINK_WIDTH_1)
#define LINK_PORT_SHIFT 24 /* 7.5.3.6 */

static void add_express(struct pci_function *port, unsigned number)
{
	uint8_t cap[EXPRESS_SIZE] = {0};

	put_le16(cap + PCI_EXP_FLAGS, EXPRESS_VERSION | PCI_EXP_TYPE_ROOT_PORT << 4);
	put_le32(cap + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	put_le32(cap + PCI_EXP_LNKCAP, LINK | (number + 1) << LINK_PORT_SHIFT);
	put_le16(cap + PCI_EXP_LNKSTA, LINK);
	put_le16(cap + PCI_EXP_LNKCTL2, PCI_EXP_LNKCTL2_TLS_2_5GT);
	/* Its first two bytes are PCI's own. */
	pci_function_add_capability(port, PCI_CAP_ID_EXP, cap + 2, sizeof(cap) - 2);
}

void pci_port_init(struct pci_function *port, unsigned number)
{
	const struct pci_id id = {
		.vendor = PORT_VENDOR, .device = PORT_DEVICE, .class = PORT_CLASS};

	port->name = "root port";
	pci_function_init(port, &id);
	port->space[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE | MULTIFUNCTION;
	pci_function_let_write(port, PCI_PRIMARY_BUS, BUS_NUMBERS);
	pci_function_let_write(port, PCI_MEMORY_BASE, WINDOW_BITS);
	add_express(port, number);
}

unsigned pci_port_bus(const struct pci_function *port)
{
	return port->space[PCI_SECONDARY_BUS];
}

bool pci_port_passes(const struct pci_function *port, uint64_t base, uint64_t size)
{
	uint64_t first = (uint64_t)get_le16(port->space + PCI_MEMORY_BASE) << 16;
	uint64_t last = (uint64_t)get_le16(port->space + PCI_MEMORY_LIMIT) << 16 | 0xfffff;

	return pci_port_bus(port) && (port->space[PCI_COMMAND] & PCI_COMMAND_MEMORY) &&
	       base >= first && size - 1 <= last && base <= last - (size - 1);
}
