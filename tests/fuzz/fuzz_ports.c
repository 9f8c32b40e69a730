// SPDX-License-Identifier: MIT
// Every legacy device on one bus, under port accesses that the input chooses; then saved, loaded,
// compared.
//
// An access is three bytes: which port (an index into the list below), what (bits 0-1 the width as
// a power of two, bit 2 write, bit 3 press the power button, bit 4 type the value at the terminal,
// bit 5 let the clock go on), the value. What is left of the input at a first byte of 0xff is
// loaded as a state stream.
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/i8042.h"
#include "hw/irq.h"
#include "hw/layout.h"
#include "hw/panic.h"
#include "hw/pm.h"
#include "hw/pvpanic.h"
#include "hw/rtc.h"
#include "hw/serial.h"

#include <stdlib.h>

#define DO_WRITE 0x04u
#define DO_BUTTON 0x08u
#define DO_TYPE 0x10u
#define DO_CLOCK 0x20u

static const uint16_t ports[] = {PORT_COM1, PORT_COM1 + 1, PORT_COM1 + 2, PORT_COM1 + 3,
	PORT_COM1 + 4, PORT_COM1 + 5, PORT_COM1 + 6, PORT_COM1 + 7, PORT_RTC, PORT_RTC + 1,
	PORT_I8042_DATA, PORT_I8042_CMD, PORT_PVPANIC, PORT_SLEEP_CONTROL, PORT_SLEEP_STATUS,
	PORT_RESET, PORT_GED, PORT_GED + 1, PORT_GED + 2, PORT_GED + 3};

struct board {
	struct bus bus;
	struct irq irq;
	struct loop *loop;
	struct serial *serial;
	struct i8042 *i8042;
	struct rtc *rtc;
	struct pm *pm;
	struct pvpanic *pvpanic;
	struct panic panic;
	int64_t clock;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void nothing(void *arg)
{
}

static void panicked(void *arg, uint8_t events)
{
	check(events && !(events & ~3u));
}

static void output(void *arg, const char *data, size_t len)
{
	panic_feed(&((struct board *)arg)->panic, data, len);
}

static int64_t clock_ns(void *arg)
{
	return ((struct board *)arg)->clock;
}

static void make(struct board *b)
{
	struct serial_config serial = {.pio = &b->bus,
		.irq = &b->irq,
		.loop = b->loop,
		.in_fd = -1,
		.out_fd = -1,
		.output = output,
		.arg = b};
	struct i8042_config i8042 = {.pio = &b->bus, .reset = nothing};
	struct rtc_config rtc = {
		.pio = &b->bus, .irq = &b->irq, .loop = b->loop, .clock_ns = clock_ns, .arg = b};
	struct pm_config pm = {
		.pio = &b->bus, .irq = &b->irq, .power_off = nothing, .reset = nothing};
	struct pvpanic_config pvpanic = {.pio = &b->bus, .event = panicked};

	check(!serial_create(&b->serial, &serial) && !i8042_create(&b->i8042, &i8042) &&
		!rtc_create(&b->rtc, &rtc) && !pm_create(&b->pm, &pm) &&
		!pvpanic_create(&b->pvpanic, &pvpanic));
}

static void unmake(struct board *b)
{
	pvpanic_destroy(b->pvpanic);
	pm_destroy(b->pm);
	rtc_destroy(b->rtc);
	i8042_destroy(b->i8042);
	serial_destroy(b->serial);
	check(b->bus.count == 0);
}

static void save(struct board *b, struct stream_out *s)
{
	stream_out_init(s);
	serial_save(b->serial, s);
	i8042_save(b->i8042, s);
	rtc_save(b->rtc, s);
	pm_save(b->pm, s);
	check(!s->err);
}

static int load(struct board *b, const uint8_t *data, size_t len)
{
	struct stream_in s;
	int rc;

	stream_in_init(&s, data, len);
	rc = serial_load(b->serial, &s);
	rc = rc ? rc : i8042_load(b->i8042, &s);
	rc = rc ? rc : rtc_load(b->rtc, &s);
	return rc ? rc : pm_load(b->pm, &s);
}

static void access_port(struct board *b, const uint8_t *d)
{
	uint16_t port = ports[d[0] % ARRAY_SIZE(ports)];
	unsigned width = 1u << (d[1] & 3);
	uint8_t value[8];

	memset(value, d[2], sizeof(value));
	if (d[1] & DO_BUTTON)
		pm_raise(b->pm, PM_EVENT_POWER);
	if (d[1] & DO_TYPE)
		serial_input(b->serial, value, sizeof(value));
	if (d[1] & DO_CLOCK)
		b->clock += ((int64_t)d[2] << d[0] % 40) - 1000;
	if (d[1] & DO_WRITE)
		bus_write(&b->bus, port, value, width);
	else
		bus_read(&b->bus, port, value, width);
}

/* What was saved, loaded and saved again is the same; a look at the clock brings its flags up to
 * date. */
static void check_state(struct board *b)
{
	struct stream_out before, after;
	uint8_t v;

	bus_read(&b->bus, PORT_RTC + 1, &v, 1);
	save(b, &before);
	unmake(b);
	make(b);
	check(!load(b, before.buf, before.len));
	save(b, &after);
	check(before.len == after.len && !memcmp(before.buf, after.buf, after.len));
	stream_out_finish(&before);
	stream_out_finish(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct board b = {.clock = 1700000000000000000};

	log_set_level(LOG_LEVEL_ERROR);
	check(!irq_init(&b.irq, NULL, 0) && !loop_create(&b.loop, "fuzz"));
	make(&b);
	for (; len >= 3 && data[0] != 0xff; data += 3, len -= 3)
		access_port(&b, data);
	check_state(&b);
	if (len && data[0] == 0xff) {
		load(&b, data + 1, len - 1);
		for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
			access_port(&b, (uint8_t[]){(uint8_t)i, 0, 0});
	}
	unmake(&b);
	loop_destroy(b.loop);
	irq_finish(&b.irq, NULL);
	bus_finish(&b.bus);
	return 0;
}
