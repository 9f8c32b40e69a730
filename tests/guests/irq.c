// SPDX-License-Identifier: MIT
// Interrupts of the serial port, the clock and virtio arrive by the IOAPIC, each as often as it
// should.
#include "tests/guests/virtio.h"

enum { VECTOR_COM1 = VECTOR_IRQ, VECTOR_RTC, VECTOR_RNG };

static void await(unsigned vector, uint32_t count)
{
	while (irq_count(vector) < count)
		relax();
}

/* "Transmitter empty": once when it is enabled, once after each byte, and reading IIR takes it. */
static void com1(void)
{
	irq_route(GSI_COM1, VECTOR_COM1);
	out8(PORT_COM1 + 1, 0x02);
	for (uint32_t n = 1; n <= 50; n++) {
		await(VECTOR_COM1, n);
		CHECK_EQUAL(in8(PORT_COM1 + 2) & 0x0f, 0x02);
		CHECK_EQUAL(in8(PORT_COM1 + 2) & 0x0f, 0x01);
		CHECK_EQUAL(irq_count(VECTOR_COM1), n);
		out8(PORT_COM1, '.');
	}
	out8(PORT_COM1 + 1, 0);
}

/* Periodic, 1024 a second; reading register C lets the next one through. */
static void rtc(void)
{
	irq_route(GSI_RTC, VECTOR_RTC);
	rtc_set(0x0a, 0x26);
	rtc_set(0x0b, rtc_get(0x0b) | 0x40);
	for (uint32_t n = 1; n <= 50; n++) {
		await(VECTOR_RTC, n);
		CHECK_EQUAL(rtc_get(0x0c) & 0xc0, 0xc0);
	}
	rtc_set(0x0b, rtc_get(0x0b) & ~0x40u);
}

static void virtio_request(struct ring *ring, const struct virtio *v)
{
	static uint32_t data[16];
	uint32_t head, before = irq_count(VECTOR_RNG);

	ring_desc(ring, 0, data, sizeof(data), VRING_DESC_F_WRITE);
	ring_offer(ring, 0);
	ring_kick(ring);
	await(VECTOR_RNG, before + 1);
	virtio_acknowledge(v);
	CHECK_EQUAL(ring_wait(ring, &head), sizeof(data));
	CHECK_EQUAL(irq_count(VECTOR_RNG), before + 1);
}

/* With EVENT_IDX the driver says after which buffer it wants one. */
static void virtio(uint64_t features)
{
	static struct ring ring;
	struct virtio rng;

	virtio_find(&rng, VIRTIO_ID_RNG);
	virtio_route(&rng, VECTOR_RNG);
	virtio_start(&rng, features);
	virtio_queue(&rng, &ring, 0, 8);
	virtio_live(&rng);
	for (unsigned n = 0; n < 100; n++) {
		ring.avail->ring[ring.size] = ring.reaped;
		virtio_request(&ring, &rng);
	}
}

void guest_main(void)
{
	irq_init();
	irq_enable();
	com1();
	rtc();
	virtio(0);
	virtio(RING_EVENT);
}
