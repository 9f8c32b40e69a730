// SPDX-License-Identifier: MIT
// Configuration space by the ports, and virtio's registers in it.
#include "tests/guests/pci.h"

#include "tests/guests/virtio.h"

#include <linux/virtio_pci.h>

#define VENDOR 0x1af4u
#define BAR_ROOM 0x10000u /* more than a device's BAR takes */

uint32_t pci_get(unsigned slot, unsigned off)
{
	out32(PORT_PCI_ADDRESS, 1u << 31 | slot << 11 | off);
	return in32(PORT_PCI_DATA);
}

void pci_set(unsigned slot, unsigned off, uint32_t v)
{
	out32(PORT_PCI_ADDRESS, 1u << 31 | slot << 11 | off);
	out32(PORT_PCI_DATA, v);
}

bool pci_present(void)
{
	return pci_get(0, PCI_VENDOR_ID) != UINT32_MAX;
}

static uint8_t get_byte(unsigned slot, unsigned off)
{
	return (uint8_t)(pci_get(slot, off & ~3u) >> 8 * (off & 3));
}

static void take_virtio_capability(struct virtio *v, unsigned at)
{
	uint64_t place = v->base + pci_get(v->slot, at + 8);

	switch (get_byte(v->slot, at + 3)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		v->common = place;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		v->notify = place;
		v->notify_stride = pci_get(v->slot, at + 16);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		v->isr = place;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		v->config = place;
		break;
	default:
		break;
	}
}

static void take_capabilities(struct virtio *v)
{
	unsigned at = get_byte(v->slot, PCI_CAPABILITY_LIST);

	for (; at; at = get_byte(v->slot, at + 1)) {
		if (get_byte(v->slot, at) == PCI_CAP_ID_VNDR)
			take_virtio_capability(v, at);
		if (get_byte(v->slot, at) == PCI_CAP_ID_MSIX)
			v->msix = at;
	}
	CHECK(v->common && v->notify && v->isr && v->msix);
}

static bool is_virtio(unsigned slot, unsigned id)
{
	return pci_get(slot, PCI_VENDOR_ID) == ((PCI_VIRTIO + id) << 16 | VENDOR);
}

bool pci_find_virtio(struct virtio *v, unsigned id)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && !is_virtio(slot, id))
		slot++;
	return slot < PCI_SLOTS && pci_take_virtio(v, slot, id);
}

bool pci_take_virtio(struct virtio *v, unsigned slot, unsigned id)
{
	*v = (struct virtio){.pci = true, .slot = slot};
	if (!is_virtio(slot, id))
		return false;
	v->base = LAYOUT_PCI_WINDOW + v->slot * BAR_ROOM;
	pci_set(v->slot, PCI_BASE_ADDRESS_0, (uint32_t)v->base);
	pci_set(v->slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	take_capabilities(v);
	return true;
}

/* ---- Registers ---- */

static const struct {
	uint16_t mmio;
	uint8_t pci, width;
} registers[] = {
	{VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_PCI_COMMON_DF, 4},
	{VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_PCI_COMMON_DFSELECT, 4},
	{VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_PCI_COMMON_GF, 4},
	{VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_PCI_COMMON_GFSELECT, 4},
	{VIRTIO_MMIO_QUEUE_SEL, VIRTIO_PCI_COMMON_Q_SELECT, 2},
	{VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_PCI_COMMON_Q_SIZE, 2},
	{VIRTIO_MMIO_QUEUE_NUM, VIRTIO_PCI_COMMON_Q_SIZE, 2},
	{VIRTIO_MMIO_QUEUE_READY, VIRTIO_PCI_COMMON_Q_ENABLE, 2},
	{VIRTIO_MMIO_STATUS, VIRTIO_PCI_COMMON_STATUS, 1},
	{VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_PCI_COMMON_Q_DESCLO, 4},
	{VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_PCI_COMMON_Q_DESCHI, 4},
	{VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_PCI_COMMON_Q_AVAILLO, 4},
	{VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_PCI_COMMON_Q_AVAILHI, 4},
	{VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_PCI_COMMON_Q_USEDLO, 4},
	{VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_PCI_COMMON_Q_USEDHI, 4},
};

#define REGISTERS (sizeof(registers) / sizeof(registers[0]))

static unsigned find_register(unsigned reg)
{
	unsigned i = 0;

	while (i < REGISTERS && registers[i].mmio != reg)
		i++;
	CHECK(i < REGISTERS);
	return i;
}

static uint32_t read_width(uint64_t addr, unsigned width)
{
	if (width == 1)
		return mmio_read8(addr);
	return width == 2 ? mmio_read16(addr) : mmio_read(addr);
}

static void write_width(uint64_t addr, unsigned width, uint32_t v)
{
	if (width == 1)
		mmio_write8(addr, (uint8_t)v);
	else if (width == 2)
		mmio_write16(addr, (uint16_t)v);
	else
		mmio_write(addr, v);
}

uint32_t pci_virtio_get(const struct virtio *v, unsigned reg)
{
	unsigned i;

	if (reg >= VIRTIO_MMIO_CONFIG)
		return mmio_read(v->config + reg - VIRTIO_MMIO_CONFIG);
	if (reg == VIRTIO_MMIO_INTERRUPT_STATUS)
		return mmio_read8(v->isr);
	i = find_register(reg);
	return read_width(v->common + registers[i].pci, registers[i].width);
}

void pci_virtio_set(const struct virtio *v, unsigned reg, uint32_t value)
{
	unsigned i;

	if (reg == VIRTIO_MMIO_INTERRUPT_ACK)
		return; /* reading the status has done it */
	if (reg == VIRTIO_MMIO_QUEUE_NOTIFY) {
		mmio_write16(
			v->notify + (uint64_t)(value & 0x3ff) * v->notify_stride, (uint16_t)value);
		return;
	}
	i = find_register(reg);
	write_width(v->common + registers[i].pci, registers[i].width, value);
}

/* ---- Interrupts ---- */

void pci_virtio_route(struct virtio *v, unsigned vector)
{
	uint32_t control = pci_get(v->slot, v->msix);
	unsigned count = (control >> 16 & PCI_MSIX_FLAGS_QSIZE) + 1;
	uint64_t table = v->base + (pci_get(v->slot, v->msix + PCI_MSIX_TABLE) & ~7u);
	uint32_t apic = mmio_read(LAYOUT_LAPIC + 0x20) >> 24;

	for (unsigned i = 0; i < count; i++, table += PCI_MSIX_ENTRY_SIZE) {
		mmio_write(table, LAYOUT_LAPIC | apic << 12);
		mmio_write(table + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
		mmio_write(table + PCI_MSIX_ENTRY_DATA, vector);
		mmio_write(table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	}
	pci_set(v->slot, v->msix, control | (uint32_t)PCI_MSIX_FLAGS_ENABLE << 16);
	v->routed = true;
}

void pci_virtio_queue_vector(const struct virtio *v, unsigned queue)
{
	if (!v->routed)
		return;
	mmio_write16(v->common + VIRTIO_PCI_COMMON_MSIX, 0);
	mmio_write16(v->common + VIRTIO_PCI_COMMON_Q_MSIX, (uint16_t)(queue + 1));
	CHECK_EQUAL(mmio_read16(v->common + VIRTIO_PCI_COMMON_Q_MSIX), queue + 1);
}
