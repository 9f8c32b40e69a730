// SPDX-License-Identifier: MIT
// Writes everything everywhere in PCI's configuration space and BARs, moves these onto each other
// and onto what is not theirs: the devices are broken by that as long as they are left so, and
// nothing else ever.
#include "tests/guests/pci.h"
#include "tests/guests/virtio.h"

#define ROUNDS 3000u

static struct ring ring;

static uint32_t random(void)
{
	static uint64_t seed = 88172645463325252ull;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

/* Whoever moves a BAR there gets nothing that is somebody else's. */
static uint32_t any_place(void)
{
	static const uint32_t places[] = {0, 0x1000, 0x100000, LAYOUT_PCI_WINDOW,
		LAYOUT_PCI_WINDOW + 0x8000, LAYOUT_PCI_WINDOW + LAYOUT_PCI_WINDOW_SIZE - 0x8000,
		LAYOUT_PCI_WINDOW + LAYOUT_PCI_WINDOW_SIZE, LAYOUT_PCI_ECAM, LAYOUT_IOAPIC,
		LAYOUT_LAPIC, UINT32_MAX};

	return places[random() % (sizeof(places) / sizeof(places[0]))];
}

static void any_config_access(void)
{
	unsigned slot = random() % 4, off = random() & 0xfc;
	uint64_t ecam = LAYOUT_PCI_ECAM + (slot << 15) + (random() & 0xfff);

	switch (random() % 6) {
	case 0:
		pci_set(slot, PCI_BASE_ADDRESS_0, any_place());
		break;
	case 1:
		pci_set(slot, PCI_COMMAND, random() & 7);
		break;
	case 2:
		mmio_write(ecam, random());
		break;
	case 3:
		mmio_write16(ecam, (uint16_t)random());
		break;
	case 4:
		pci_set(slot, off, random() % 2 ? random() : UINT32_MAX);
		break;
	default:
		mmio_read(ecam);
		mmio_read8(ecam);
	}
}

/* Not what lies behind the ends of what is used: there is nothing. */
static void any_bar_access(void)
{
	uint64_t at = LAYOUT_PCI_WINDOW + (random() & 0x1fffc);

	if (random() % 2)
		mmio_write(at, random());
	else
		mmio_write8(at + random() % 4, (uint8_t)random());
	mmio_read(at);
	mmio_read16(at + random() % 4);
}

/* A device that was left in any state works once it is set up as after a reset. */
static void works(void)
{
	struct virtio rng;
	uint32_t head, *data = alloc(64, 64);

	for (unsigned slot = 0; slot < 4; slot++)
		pci_set(slot, PCI_COMMAND, 0);
	CHECK(pci_find_virtio(&rng, VIRTIO_ID_RNG));
	virtio_start(&rng, RING_EVENT);
	virtio_queue(&rng, &ring, 0, 8);
	virtio_live(&rng);
	ring_desc(&ring, 0, data, 64, VRING_DESC_F_WRITE);
	ring_offer(&ring, 0);
	ring_kick(&ring);
	CHECK_EQUAL(ring_wait(&ring, &head), 64);
	virtio_reset(&rng);
}

void guest_main(void)
{
	uint32_t memory = mmio_read(0x1000), high = mmio_read(0x100000);

	CHECK(pci_present());
	for (unsigned n = 0; n < 20; n++) {
		for (unsigned i = 0; i < ROUNDS / 20; i++) {
			any_config_access();
			any_bar_access();
		}
		works();
	}
	CHECK_EQUAL(mmio_read(0x1000), memory);
	CHECK_EQUAL(mmio_read(0x100000), high);
}
