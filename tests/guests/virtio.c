// SPDX-License-Identifier: MIT
// A driver for virtio that polls.
#include "tests/guests/virtio.h"

#include "tests/guests/pci.h"

#include <string.h>

#define MAGIC 0x74726976u

uint32_t virtio_get(const struct virtio *v, unsigned reg)
{
	return v->pci ? pci_virtio_get(v, reg) : mmio_read(v->base + reg);
}

void virtio_set(const struct virtio *v, unsigned reg, uint32_t value)
{
	if (v->pci)
		pci_virtio_set(v, reg, value);
	else
		mmio_write(v->base + reg, value);
}

void virtio_route(struct virtio *v, unsigned vector)
{
	if (v->pci)
		pci_virtio_route(v, vector);
	else
		irq_route(v->gsi, vector);
}

/* With MSI-X a queue's interrupt is all there is: no status tells of it. */
void virtio_acknowledge(const struct virtio *v)
{
	CHECK_EQUAL(
		virtio_get(v, VIRTIO_MMIO_INTERRUPT_STATUS), v->pci ? 0 : VIRTIO_MMIO_INT_VRING);
	virtio_set(v, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static bool find_mmio(struct virtio *v, unsigned id)
{
	*v = (struct virtio){0};
	for (unsigned i = 0; i < LAYOUT_VIRTIO_MMIO_MAX; i++) {
		v->base = LAYOUT_VIRTIO_MMIO + (uint64_t)i * LAYOUT_VIRTIO_MMIO_STRIDE;
		v->gsi = GSI_VIRTIO + i;
		if (virtio_get(v, VIRTIO_MMIO_MAGIC_VALUE) != MAGIC)
			break;
		if (virtio_get(v, VIRTIO_MMIO_DEVICE_ID) == id)
			return true;
	}
	return false;
}

void virtio_find(struct virtio *v, unsigned id)
{
	if (!(pci_present() ? pci_find_virtio(v, id) : find_mmio(v, id)))
		fail(__FILE__, __LINE__, "no such device", id);
}

void virtio_reset(const struct virtio *v)
{
	virtio_set(v, VIRTIO_MMIO_STATUS, 0);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_STATUS), 0);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

uint64_t virtio_offered(const struct virtio *v)
{
	uint64_t all = 0;

	for (unsigned word = 0; word < 2; word++) {
		virtio_set(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
		all |= (uint64_t)virtio_get(v, VIRTIO_MMIO_DEVICE_FEATURES) << (32 * word);
	}
	return all;
}

uint64_t virtio_config(const struct virtio *v)
{
	return v->pci ? v->config : v->base + VIRTIO_MMIO_CONFIG;
}

void virtio_start(const struct virtio *v, uint64_t features)
{
	uint32_t status = STATUS_LIVE & ~VIRTIO_CONFIG_S_DRIVER_OK;

	virtio_reset(v);
	virtio_set(v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set(v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	features |= 1ull << VIRTIO_F_VERSION_1;
	for (unsigned word = 0; word < 2; word++) {
		uint32_t bits = (uint32_t)(features >> (32 * word));

		virtio_set(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
		CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_DEVICE_FEATURES) & bits, bits);
		virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
		virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES, bits);
	}
	virtio_set(v, VIRTIO_MMIO_STATUS, status);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_STATUS), status);
}

static void set_address(const struct virtio *v, unsigned low, const void *at)
{
	virtio_set(v, low, (uint32_t)(uint64_t)at);
	virtio_set(v, low + 4, (uint32_t)((uint64_t)at >> 32));
}

#define AVAIL_AT (VIRTIO_SIZE_MAX * sizeof(struct vring_desc))
#define USED_AT (AVAIL_AT + 4096)
#define RING_BYTES (USED_AT + 3 * 4096)

void virtio_queue(const struct virtio *v, struct ring *r, unsigned index, unsigned size)
{
	char *memory = r->desc ? (char *)r->desc : alloc(RING_BYTES, 4096);

	memset(memory, 0, RING_BYTES);
	*r = (struct ring){.v = v,
		.desc = (void *)memory,
		.avail = (void *)(memory + AVAIL_AT),
		.used = (void *)(memory + USED_AT),
		.index = index,
		.size = size};
	virtio_set(v, VIRTIO_MMIO_QUEUE_SEL, index);
	CHECK(virtio_get(v, VIRTIO_MMIO_QUEUE_NUM_MAX) >= size);
	virtio_set(v, VIRTIO_MMIO_QUEUE_NUM, size);
	set_address(v, VIRTIO_MMIO_QUEUE_DESC_LOW, r->desc);
	set_address(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, r->avail);
	set_address(v, VIRTIO_MMIO_QUEUE_USED_LOW, r->used);
	if (v->pci)
		pci_virtio_queue_vector(v, index);
	virtio_set(v, VIRTIO_MMIO_QUEUE_READY, 1);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_QUEUE_READY), 1);
}

void virtio_live(const struct virtio *v)
{
	virtio_set(v, VIRTIO_MMIO_STATUS, STATUS_LIVE);
	CHECK_EQUAL(virtio_get(v, VIRTIO_MMIO_STATUS), STATUS_LIVE);
}

bool virtio_broken(const struct virtio *v)
{
	return virtio_get(v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

void ring_desc(struct ring *r, unsigned i, const void *addr, uint32_t len, unsigned flags)
{
	r->desc[i] = (struct vring_desc){.addr = (uint64_t)addr,
		.len = len,
		.flags = (uint16_t)flags,
		.next = (uint16_t)(i + 1)};
}

void ring_offer(struct ring *r, unsigned head)
{
	r->avail->ring[r->offered++ % r->size] = (uint16_t)head;
	__atomic_store_n(&r->avail->idx, r->offered, __ATOMIC_RELEASE);
}

/* Always: whether the device wants it is for those guests to look at that are about that. */
void ring_kick(struct ring *r)
{
	fence();
	virtio_set(r->v, VIRTIO_MMIO_QUEUE_NOTIFY, r->index);
}

bool ring_reap(struct ring *r, uint32_t *head, uint32_t *len)
{
	const struct vring_used_elem *e = &r->used->ring[r->reaped % r->size];

	if (__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) == r->reaped)
		return false;
	*head = e->id;
	*len = e->len;
	r->reaped++;
	return true;
}

uint32_t ring_wait(struct ring *r, uint32_t *head)
{
	uint32_t len;

	while (!ring_reap(r, head, &len))
		relax();
	return len;
}
