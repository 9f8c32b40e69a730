// SPDX-License-Identifier: MIT
// Uses every device again and again and notices when one of them forgets: for a machine that is
// saved, destroyed, and goes on as another one, at any moment.
//
// The host counts what it sends (bytes 0 to 250 over and over to the serial port, presses of the
// power button) and looks at what it gets (numbered lines without a gap, a word for each press). A
// byte 255 ends the guest, once each task has done its share since the start. A task that waits
// does so until the host's time is over.
#include "tests/guests/vsock.h"

#include <string.h>

enum { VECTOR_TIMER = VECTOR_IRQ, VECTOR_RTC, VECTOR_RNG, VECTOR_GED, VECTOR_COM1 };

#define BYTES 251u
#define END_BYTE 255u

static bool ending;
static unsigned cpus;

/* ---- The processors' own state ---- */

/* Vector registers hold a pattern for a while. */
static void registers(void)
{
	static uint64_t pattern = 0x0123456789abcdefull;
	uint64_t low, high;

	pattern = pattern * 6364136223846793005ull + 1;
	__asm__ volatile("movq %2, %%xmm3; movq %2, %%xmm15; mov $2000, %%ecx\n"
			 "1: pause; dec %%ecx; jnz 1b\n"
			 "movq %%xmm3, %0; movq %%xmm15, %1"
			 : "=&r"(low), "=&r"(high)
			 : "r"(pattern)
			 : "ecx", "cc");
	CHECK_EQUAL(low, pattern);
	CHECK_EQUAL(high, pattern);
}

static volatile uint64_t beats;

static void beat(unsigned number)
{
	for (;;)
		__atomic_store_n(&beats, beats + 1, __ATOMIC_RELEASE);
}

static void other_processor(void)
{
	uint64_t before = beats;

	while (cpus > 1 && beats == before)
		relax();
}

/* ---- Serial port ---- */

static void lines(void)
{
	static uint64_t number;

	print("line ");
	print_number(number++);
	print("\n");
}

static void input(void)
{
	static unsigned expected;

	while (in8(PORT_COM1 + 5) & 1) {
		uint8_t c = in8(PORT_COM1);

		if (c == END_BYTE) {
			ending = true;
			return;
		}
		CHECK_EQUAL(c, expected);
		expected = (expected + 1) % BYTES;
	}
}

/* Enabling "transmitter empty" is one interrupt. */
static void transmitter(void)
{
	uint32_t before = irq_count(VECTOR_COM1);

	out8(PORT_COM1 + 1, 0x02);
	while (irq_count(VECTOR_COM1) == before)
		relax();
	CHECK_EQUAL(in8(PORT_COM1 + 2) & 0x0f, 0x02);
	out8(PORT_COM1 + 1, 0);
}

/* ---- Clock ---- */

static unsigned alarms;

/* Binary, and an alarm in the next second but one; its interrupt may only be late. */
static void set_alarm(void)
{
	rtc_set(0x0b, 0x06);
	rtc_get(0x0c);
	rtc_set(1, (uint8_t)((rtc_get(0) + 2) % 60));
	rtc_set(3, 0xff);
	rtc_set(5, 0xff);
	rtc_set(0x0b, 0x26);
}

/* Between alarms the clock is left alone: whoever reads it makes it look at the time. */
static void clock(void)
{
	static uint32_t seen;
	static uint8_t memory;

	if (irq_count(VECTOR_RTC) == seen)
		return;
	seen = irq_count(VECTOR_RTC);
	/* One too many is what a line costs of which it is not known whether it was seen. */
	if (!(rtc_get(0x0c) & 0x20))
		return;
	alarms++;
	CHECK_EQUAL(rtc_get(0x50), memory);
	rtc_set(0x50, ++memory);
	set_alarm();
}

/* ---- Interrupt controllers' timer, the old timer, keyboard controller, power button ---- */

#define LAPIC_TIMER 0x320u
#define LAPIC_TIMER_START 0x380u

static unsigned ticks;

static void start_tick(void)
{
	mmio_write(LAYOUT_LAPIC + LAPIC_TIMER, VECTOR_TIMER);
	mmio_write(LAYOUT_LAPIC + LAPIC_TIMER_START, 100000);
}

static void tick(void)
{
	static uint32_t seen;

	if (irq_count(VECTOR_TIMER) == seen)
		return;
	seen = irq_count(VECTOR_TIMER);
	ticks++;
	start_tick();
}

static unsigned countdowns;

/* Channel 2, gated by port 0x61: its output, bit 5 there, rises at the end of a count. */
static void start_countdown(void)
{
	out8(0x61, 1);
	out8(0x43, 0xb0);
	out8(0x42, 0xff);
	out8(0x42, 0x1f);
}

static void countdown(void)
{
	if (!(in8(0x61) & 0x20))
		return;
	countdowns++;
	start_countdown();
}

static void keyboard(void)
{
	static uint8_t v;

	v ^= 0x03;
	out8(PORT_I8042_CMD, 0x60);
	out8(PORT_I8042_DATA, 0x34 | v);
	out8(PORT_I8042_CMD, 0x20);
	CHECK(in8(PORT_I8042_CMD) & 1);
	CHECK_EQUAL(in8(PORT_I8042_DATA), 0x34 | v);
}

static void button(void)
{
	if (in32(PORT_GED) & 1)
		print("pressed\n");
}

/* ---- virtio-rng, by interrupts ---- */

#define SIZE 4u
#define CHUNK 48u

static struct virtio rng;
static struct ring ring;
static uint8_t *chunks;

static bool all_zero(const uint8_t *p, unsigned n)
{
	uint8_t any = 0;

	for (unsigned i = 0; i < n; i++)
		any |= p[i];
	return !any;
}

/* Waits as a driver does: asks for an interrupt, looks once more, and only then relies on it. */
static void await_used(void)
{
	uint32_t before = irq_count(VECTOR_RNG);

	ring.avail->ring[ring.size] = ring.reaped;
	fence();
	while (__atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE) == ring.reaped &&
		irq_count(VECTOR_RNG) == before)
		relax();
	virtio_set(&rng, VIRTIO_MMIO_INTERRUPT_ACK, virtio_get(&rng, VIRTIO_MMIO_INTERRUPT_STATUS));
	while (__atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE) == ring.reaped)
		relax();
}

/* Three at once in a ring of four, so that the rings are cut at each place. */
static void entropy(void)
{
	static unsigned next;
	uint32_t head, len;

	memset(chunks, 0, (size_t)SIZE * CHUNK);
	for (unsigned i = 0; i < 3; i++) {
		unsigned d = (next + i) % SIZE;

		ring_desc(&ring, d, chunks + (size_t)d * CHUNK, CHUNK, VRING_DESC_F_WRITE);
		ring_offer(&ring, d);
	}
	ring_kick(&ring);
	for (unsigned i = 0; i < 3; i++) {
		unsigned d = (next + i) % SIZE;

		await_used();
		CHECK(ring_reap(&ring, &head, &len));
		CHECK_EQUAL(head, d);
		CHECK_EQUAL(len, CHUNK);
		CHECK(!all_zero(chunks + (size_t)d * CHUNK, CHUNK));
	}
	CHECK(all_zero(chunks + (size_t)((next + 3) % SIZE) * CHUNK, CHUNK));
	next = (next + 3) % SIZE;
}

static void start_rng(void)
{
	virtio_find(&rng, VIRTIO_ID_RNG);
	chunks = alloc((size_t)SIZE * CHUNK, 64);
	virtio_route(&rng, VECTOR_RNG);
	virtio_start(&rng, RING_EVENT | RING_INDIRECT);
	virtio_queue(&rng, &ring, 0, SIZE);
	virtio_live(&rng);
}

/* ---- virtio-vsock: a stream to an echo of the host's, opened anew after each reset ---- */

#define ECHO_PORT 7000u

static struct vsock vsock;
static enum { CLOSED, ASKED, OPEN, AWAITING } stream;
static uint32_t own_port = 30000, in, out;
static unsigned echoes, resets;

static void stream_packet(uint16_t op)
{
	const struct virtio_vsock_hdr hdr = {.src_port = own_port,
		.dst_port = ECHO_PORT,
		.op = op,
		.buf_alloc = VSOCK_WINDOW,
		.fwd_cnt = in};

	if (op == VIRTIO_VSOCK_OP_RW)
		vsock_send(&vsock, &hdr, &out, sizeof(out));
	else
		vsock_send(&vsock, &hdr, NULL, 0);
}

static void stream_receive(const struct vsock_packet *p)
{
	if (p->hdr.dst_port != own_port) {
		return; /* of a stream that was */
	} else if (p->hdr.op == VIRTIO_VSOCK_OP_RESPONSE) {
		CHECK_EQUAL(stream, ASKED);
		stream = OPEN;
	} else if (p->hdr.op == VIRTIO_VSOCK_OP_RW) {
		CHECK_EQUAL(stream, AWAITING);
		CHECK_EQUAL(p->hdr.len, sizeof(out));
		CHECK(!memcmp(p->data, &out, sizeof(out)));
		in += p->hdr.len;
		echoes++;
		stream = OPEN;
	} else if (p->hdr.op == VIRTIO_VSOCK_OP_RST) {
		stream = CLOSED;
	}
}

static void streams(void)
{
	const struct vsock_packet *p;

	while ((p = vsock_receive(&vsock))) {
		stream_receive(p);
		vsock_release(&vsock);
	}
	if (vsock_was_reset(&vsock)) {
		resets++;
		stream = CLOSED;
	}
	if (stream == CLOSED) {
		own_port++;
		in = 0;
		stream = ASKED;
		stream_packet(VIRTIO_VSOCK_OP_REQUEST);
	} else if (stream == OPEN) {
		out++;
		stream = AWAITING;
		stream_packet(VIRTIO_VSOCK_OP_RW);
	}
}

/* ---- All of it ---- */

static void (*const tasks[])(void) = {registers, other_processor, lines, input, transmitter, clock,
	tick, countdown, keyboard, button, entropy, streams};

static void start(void)
{
	cpus = told("cpus=2") ? 2 : 1;
	serial_init();
	irq_init();
	irq_route(GSI_RTC, VECTOR_RTC);
	irq_route(GSI_GED, VECTOR_GED);
	irq_route(GSI_COM1, VECTOR_COM1);
	irq_enable();
	start_rng();
	vsock_start(&vsock, RING_EVENT, 8);
	set_alarm();
	rtc_set(0x50, 0);
	start_tick();
	start_countdown();
	if (cpus > 1)
		cpu_start(1, beat);
}

static void tell(const char *what, uint64_t n)
{
	print(what);
	print(" ");
	print_number(n);
	print("\n");
}

static void run(void)
{
	for (size_t i = 0; i < sizeof(tasks) / sizeof(tasks[0]); i++)
		tasks[i]();
}

void guest_main(void)
{
	unsigned n[4];

	start();
	while (!ending)
		run();
	n[0] = alarms, n[1] = ticks, n[2] = countdowns, n[3] = echoes;
	while (alarms == n[0] || ticks == n[1] || countdowns == n[2] || echoes == n[3])
		run();
	tell("alarms", alarms);
	tell("ticks", ticks);
	tell("countdowns", countdowns);
	tell("echoes", echoes);
	tell("vsock resets", resets);
}
