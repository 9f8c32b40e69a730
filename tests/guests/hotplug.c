// SPDX-License-Identifier: MIT
// Uses each disk and NIC that comes, lets go of each that is wanted back, and ends at the power
// button.
// Told to be rude it also ejects what it was not asked for, and lets go with requests in flight.
#include "tests/guests/net.h"
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
static struct net nics[SLOTS];
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

/* Sends a frame to everybody. */
static void use_nic(struct net *nic, unsigned n)
{
	uint8_t packet[NET_HEADER + 60] = {0};

	net_take(nic, FIRST + n);
	net_start(nic, 0);
	memset(packet + NET_HEADER, 0xff, 6);
	memcpy(packet + NET_HEADER + 6, nic->mac, 6);
	packet[NET_HEADER + 12] = NET_TEST >> 8;
	packet[NET_HEADER + 13] = NET_TEST & 0xff;
	net_send(nic, packet, sizeof(packet));
	print("used\n");
}

static void use_disk(struct disk *d, unsigned n)
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

static bool is_nic(unsigned n)
{
	return pci_get(FIRST + n, PCI_VENDOR_ID) >> 16 == PCI_VIRTIO + VIRTIO_ID_NET;
}

static void use(unsigned n)
{
	if (is_nic(n))
		use_nic(&nics[n], n);
	else
		use_disk(&disks[n], n);
}

static void eject(unsigned n)
{
	out32(PORT_PCI_EJECT, 1u << n);
}

static void let_go(unsigned n, bool rude)
{
	struct disk *d = &disks[n];
	const struct virtio *v = is_nic(n) ? &nics[n].v : &d->v;

	if (rude && v == &d->v)
		for (unsigned head = 0; head + PIECES <= RING; head += PIECES)
			offer(d, head, VIRTIO_BLK_T_OUT);
	else
		virtio_reset(v);
	eject(n);
	/* It is gone with the instruction, its registers too. */
	CHECK_EQUAL(pci_get(FIRST + n, PCI_VENDOR_ID), UINT32_MAX);
	CHECK_EQUAL(mmio_read(v->base), UINT32_MAX);
	print("ejected\n");
}

static void slot_changed(unsigned n, uint32_t events, bool rude)
{
	if (events & ADDED(n)) {
		if (rude)
			eject(n);
		use(n);
	}
	if (events & WANTED(n))
		let_go(n, rude);
}

/* Those that were there before the guest are used, too. */
static void look_around(void)
{
	for (unsigned n = 0; n < SLOTS; n++)
		if (pci_get(FIRST + n, PCI_VENDOR_ID) != UINT32_MAX)
			use(n);
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
