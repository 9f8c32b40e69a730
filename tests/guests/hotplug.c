// SPDX-License-Identifier: MIT
// Uses each disk that comes, lets go of each that is wanted back, and ends at the power button.
// Told to be rude it also ejects what it was not asked for, and lets go with requests in flight.
#include "tests/guests/pci.h"
#include "tests/guests/virtio.h"

#include <linux/virtio_blk.h>
#include <string.h>

#define POWER 1u
#define ADDED(n) (0x100u << (n))
#define WANTED(n) (0x10000u << (n))
#define FIRST 3u
#define SLOTS 8u
#define SECTOR 512u
#define PIECES 3u
#define RING 32u

struct disk {
	struct virtio v;
	struct ring ring;
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint32_t *data;
};

static struct disk disks[SLOTS];
static uint32_t uses;

/* The chain that begins at `head`. */
static void offer(struct disk *d, unsigned head, uint32_t type)
{
	unsigned write = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0;

	d->header = (struct virtio_blk_outhdr){.type = type};
	ring_desc(&d->ring, head, &d->header, sizeof(d->header), VRING_DESC_F_NEXT);
	ring_desc(&d->ring, head + 1, d->data, SECTOR, VRING_DESC_F_NEXT | write);
	ring_desc(&d->ring, head + 2, &d->status, 1, VRING_DESC_F_WRITE);
	ring_offer(&d->ring, head);
	ring_kick(&d->ring);
}

static void request(struct disk *d, uint32_t type)
{
	uint32_t head;

	d->status = 0xff;
	offer(d, 0, type);
	ring_wait(&d->ring, &head);
	CHECK_EQUAL(head, 0);
	CHECK_EQUAL(d->status, VIRTIO_BLK_S_OK);
}

static void use(struct disk *d, unsigned n)
{
	CHECK(pci_take_virtio(&d->v, FIRST + n, VIRTIO_ID_BLOCK));
	virtio_start(&d->v, 0);
	virtio_queue(&d->v, &d->ring, 0, RING);
	virtio_live(&d->v);
	if (!d->data)
		d->data = alloc(SECTOR, SECTOR);
	d->data[0] = ++uses;
	request(d, VIRTIO_BLK_T_OUT);
	memset(d->data, 0, SECTOR);
	request(d, VIRTIO_BLK_T_IN);
	CHECK_EQUAL(d->data[0], uses);
	print("used\n");
}

static void eject(unsigned n)
{
	out32(PORT_PCI_EJECT, 1u << n);
}

static void let_go(struct disk *d, unsigned n, bool rude)
{
	if (rude)
		for (unsigned head = 0; head + PIECES <= RING; head += PIECES)
			offer(d, head, VIRTIO_BLK_T_OUT);
	else
		virtio_reset(&d->v);
	eject(n);
	/* It is gone with the instruction, its registers too. */
	CHECK_EQUAL(pci_get(FIRST + n, PCI_VENDOR_ID), UINT32_MAX);
	CHECK_EQUAL(mmio_read(d->v.base), UINT32_MAX);
	print("ejected\n");
}

static void slot_changed(unsigned n, uint32_t events, bool rude)
{
	if (events & ADDED(n)) {
		if (rude)
			eject(n);
		use(&disks[n], n);
	}
	if (events & WANTED(n))
		let_go(&disks[n], n, rude);
}

/* Those that were there before the guest are used, too. */
static void look_around(void)
{
	for (unsigned n = 0; n < SLOTS; n++)
		if (pci_get(FIRST + n, PCI_VENDOR_ID) != UINT32_MAX)
			use(&disks[n], n);
}

void guest_main(void)
{
	bool rude = told("rude"), deaf = told("deaf");
	uint32_t events = 0, seen = 0;

	irq_init();
	irq_route(GSI_GED, VECTOR_IRQ);
	irq_enable();
	look_around();
	print("READY\n");
	while (!(events & POWER)) {
		while (irq_count(VECTOR_IRQ) == seen)
			relax();
		seen = irq_count(VECTOR_IRQ);
		events = in32(PORT_GED);
		for (unsigned n = 0; n < SLOTS && !deaf; n++)
			slot_changed(n, events, rude);
	}
}
