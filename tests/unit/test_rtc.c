// SPDX-License-Identifier: MIT
// The clock: dates against the C library's, formats, setting, flags, interrupts in real time.
#include "tests/unit/test.h"

#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/layout.h"
#include "hw/rtc.h"
#include "hw/rtc_time.h"
#include "tests/unit/ports.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define SEC ((int64_t)NSEC_PER_SEC)
#define NOON (1700000000 - 1700000000 % 86400 + 43200) /* 2023-11-14 12:00:00 */

struct fixture {
	struct bus bus;
	struct irq irq;
	struct loop *loop;
	struct rtc *r;
	int64_t now; /* ns; the host's time unless `real` */
	bool real;
};

static int64_t clock_now(void *arg)
{
	return ((struct fixture *)arg)->now;
}

static void create(struct fixture *f)
{
	struct rtc_config cfg = {.pio = &f->bus,
		.irq = &f->irq,
		.loop = f->loop,
		.clock_ns = f->real ? NULL : clock_now,
		.arg = f};

	assert_int_equal(rtc_create(&f->r, &cfg), 0);
}

static int start(void **state, bool real)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->now = NOON * SEC;
	f->real = real;
	assert_int_equal(irq_init(&f->irq, NULL, GSI_RTC), 0);
	assert_int_equal(loop_create(&f->loop, "clock"), 0);
	create(f);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return start(state, false);
}

static int setup_real(void **state)
{
	return start(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rtc_destroy(f->r);
	assert_int_equal(f->bus.count, 0);
	loop_destroy(f->loop);
	irq_finish(&f->irq, NULL);
	bus_finish(&f->bus);
	free(f);
	return 0;
}

static uint8_t get(struct fixture *f, uint8_t reg)
{
	out8(&f->bus, PORT_RTC, reg);
	return in8(&f->bus, PORT_RTC + 1);
}

static void set(struct fixture *f, uint8_t reg, uint8_t v)
{
	uint16_t both = (uint16_t)(v << 8 | reg);

	bus_write(&f->bus, PORT_RTC, &both, 2); /* as old code does: index and value in one */
}

static void assert_regs(struct fixture *f, const uint8_t regs[7])
{
	static const uint8_t which[] = {
		RTC_SECONDS, RTC_MINUTES, RTC_HOURS, RTC_DAY, RTC_MONTH, RTC_YEAR, RTC_CENTURY};

	for (size_t i = 0; i < ARRAY_SIZE(which); i++)
		assert_int_equal(get(f, which[i]), regs[i]);
}

static void test_dates(void **state)
{
	static const uint8_t formats[] = {0, RTC_B_24H, RTC_B_BINARY, RTC_B_24H | RTC_B_BINARY};
	uint8_t ram[RTC_RAM_SIZE];

	for (time_t t = 0; t < 5680281600; t += 86400 * 3 + 12345) {
		struct tm tm;

		ram[RTC_B] = RTC_B_24H | RTC_B_BINARY;
		rtc_time_put(ram, t);
		assert_non_null(gmtime_r(&t, &tm));
		assert_int_equal(ram[RTC_SECONDS], tm.tm_sec);
		assert_int_equal(ram[RTC_MINUTES], tm.tm_min);
		assert_int_equal(ram[RTC_HOURS], tm.tm_hour);
		assert_int_equal(ram[RTC_WEEKDAY], tm.tm_wday + 1);
		assert_int_equal(ram[RTC_DAY], tm.tm_mday);
		assert_int_equal(ram[RTC_MONTH], tm.tm_mon + 1);
		assert_int_equal(ram[RTC_CENTURY] * 100 + ram[RTC_YEAR], tm.tm_year + 1900);
		for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
			ram[RTC_B] = formats[i];
			rtc_time_put(ram, t);
			assert_int_equal(rtc_time_get(ram), t);
		}
	}
}

static void test_no_dates(void **state)
{
	uint8_t ram[RTC_RAM_SIZE];
	int64_t t;

	for (int v = 0; v < 256; v++) {
		memset(ram, v, sizeof(ram));
		t = rtc_time_get(ram);
		assert_true(t >= 0 && t < 5711904000); /* 2151 */
		t = rtc_time_alarm(ram, NOON);
		assert_true(t == -1 || (t > NOON && t <= NOON + 86400));
	}
}

static void test_alarm_times(void **state)
{
	uint8_t ram[RTC_RAM_SIZE] = {[RTC_B] = RTC_B_24H};

	ram[RTC_HOURS_ALARM] = 0x12;
	assert_int_equal(rtc_time_alarm(ram, NOON - 1), NOON);
	assert_int_equal(rtc_time_alarm(ram, NOON), NOON + 86400);
	ram[RTC_SECONDS_ALARM] = 0xff;
	assert_int_equal(rtc_time_alarm(ram, NOON), NOON + 1);
	assert_int_equal(rtc_time_alarm(ram, NOON + 59), NOON + 86400);
	ram[RTC_HOURS_ALARM] = ram[RTC_MINUTES_ALARM] = 0xc0;
	assert_int_equal(rtc_time_alarm(ram, NOON + 59), NOON + 60);
	ram[RTC_SECONDS_ALARM] = 0x59;
	assert_int_equal(rtc_time_alarm(ram, NOON), NOON + 59);
	ram[RTC_SECONDS_ALARM] = 0x77;
	assert_int_equal(rtc_time_alarm(ram, NOON), -1);
	ram[RTC_B] = 0; /* 12 hours: 12 with the high bit is noon, without it is midnight */
	ram[RTC_SECONDS_ALARM] = ram[RTC_MINUTES_ALARM] = 0;
	ram[RTC_HOURS_ALARM] = 0x92;
	assert_int_equal(rtc_time_alarm(ram, NOON - 1), NOON);
	ram[RTC_HOURS_ALARM] = 0x12;
	assert_int_equal(rtc_time_alarm(ram, NOON), NOON + 43200);
}

static void test_reading(void **state)
{
	struct fixture *f = *state;

	assert_regs(f, (uint8_t[]){0x00, 0x00, 0x12, 0x14, 0x11, 0x23, 0x20});
	assert_int_equal(get(f, RTC_WEEKDAY), 3); /* Tuesday */
	assert_int_equal(get(f, RTC_D), 0x80);
	assert_int_equal(get(f, RTC_A), 0x26);
	f->now += 59 * SEC + SEC - 244000;
	assert_int_equal(get(f, RTC_A), 0xa6); /* an update is about to come */
	assert_int_equal(get(f, RTC_SECONDS), 0x59);
	f->now += 244000;
	assert_int_equal(get(f, RTC_A), 0x26);
	assert_int_equal(get(f, RTC_SECONDS), 0);
	assert_int_equal(get(f, RTC_MINUTES), 1);
	set(f, RTC_B, RTC_B_BINARY);
	assert_regs(f, (uint8_t[]){0, 1, 0x8c, 14, 11, 23, 20});
	assert_int_equal(in8(&f->bus, PORT_RTC), 0xff);
}

/* As Linux sets the clock: everything stands still, and the divider starts anew half a second
 * before. */
static void test_setting(void **state)
{
	struct fixture *f = *state;
	static const uint8_t date[] = {0x30, 0x59, 0x23, 0x29, 0x02, 0x24, 0x20};
	static const uint8_t which[] = {
		RTC_SECONDS, RTC_MINUTES, RTC_HOURS, RTC_DAY, RTC_MONTH, RTC_YEAR, RTC_CENTURY};

	set(f, RTC_B, 0x82);
	set(f, RTC_A, 0x76);
	for (size_t i = 0; i < ARRAY_SIZE(which); i++)
		set(f, which[i], date[i]);
	f->now += 3 * SEC;
	assert_regs(f, date);
	set(f, RTC_B, 0x02);
	set(f, RTC_A, 0x26);
	assert_regs(f, date);
	f->now += SEC / 2;
	assert_int_equal(get(f, RTC_SECONDS), 0x31);
	f->now += 29 * SEC;
	assert_regs(f, (uint8_t[]){0x00, 0x00, 0x00, 0x01, 0x03, 0x24, 0x20});
	set(f, RTC_HOURS, 0x07); /* one register, without stopping the clock */
	assert_regs(f, (uint8_t[]){0x00, 0x00, 0x07, 0x01, 0x03, 0x24, 0x20});
	rtc_reset(f->r);
	assert_regs(f, (uint8_t[]){0x00, 0x00, 0x07, 0x01, 0x03, 0x24, 0x20});
	f->now -= 86400 *
		  SEC; /* the host's clock is set back: the guest's follows, no flag comes of it */
	get(f, RTC_C);
	assert_regs(f, (uint8_t[]){0x00, 0x00, 0x07, 0x29, 0x02, 0x24, 0x20});
	assert_int_equal(get(f, RTC_C), 0);
}

static void test_flags(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, RTC_C), 0);
	f->now += SEC / 1024 + 1;
	assert_int_equal(get(f, RTC_C), 0x40); /* a tick */
	assert_int_equal(get(f, RTC_C), 0);
	set(f, RTC_SECONDS_ALARM, 0x02);
	set(f, RTC_MINUTES_ALARM, 0xff);
	set(f, RTC_HOURS_ALARM, 0xff);
	f->now += SEC;
	assert_int_equal(get(f, RTC_C), 0x50); /* and an update */
	f->now += SEC;
	assert_int_equal(get(f, RTC_C), 0x70); /* and the alarm */
	assert_int_equal(edges(&f->irq), 0);
	f->now += 60 * SEC;
	assert_int_equal(get(f, RTC_A), 0x26);
	set(f, RTC_B, 0x22); /* the flag is up already */
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, RTC_C), 0xf0);
	set(f, RTC_A, 0x20); /* no rate, no ticks */
	f->now += SEC / 2;
	assert_int_equal(get(f, RTC_C), 0);
	set(f, RTC_B, 0xd2);
	assert_int_equal(
		get(f, RTC_B), 0xc2); /* setting the time takes back the update interrupt */
	assert_int_equal(edges(&f->irq), 0);
}

static void test_memory(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = RTC_D + 1; i < RTC_RAM_SIZE; i++)
		if (i != RTC_CENTURY)
			set(f, (uint8_t)i, (uint8_t)~i);
	set(f, RTC_D, 0);
	set(f, RTC_C, 0xff);
	rtc_reset(f->r);
	for (unsigned i = RTC_D + 1; i < RTC_RAM_SIZE; i++)
		if (i != RTC_CENTURY)
			assert_int_equal(get(f, (uint8_t)i | 0x80), (uint8_t)~i);
	assert_int_equal(get(f, RTC_D), 0x80);
	assert_int_equal(get(f, RTC_C), 0);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void run_ms(struct fixture *f, uint64_t ms)
{
	struct timer t = TIMER_INIT(stop, f->loop);

	loop_arm(f->loop, &t, ms * 1000000);
	assert_int_equal(loop_run(f->loop), 0);
}

/* Ticks of 256 Hz, each after the one before was acknowledged; none while one is pending. */
static void test_ticks(void **state)
{
	struct fixture *f = *state;
	unsigned got = 0;

	set(f, RTC_A, 0x28);
	set(f, RTC_B, 0x42);
	run_ms(f, 100);
	assert_int_equal(edges(&f->irq), 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(get(f, RTC_C) & 0xc0, 0xc0);
		run_ms(f, 8);
		got += (unsigned)edges(&f->irq);
	}
	assert_int_equal(got, 20);
	set(f, RTC_B, 0x02);
	get(f, RTC_C);
	run_ms(f, 20);
	assert_int_equal(edges(&f->irq), 0);
}

/* The update and an alarm for the next second both come, within that second. */
static void test_second(void **state)
{
	struct fixture *f = *state;
	uint8_t second = get(f, RTC_SECONDS), flags = 0;

	set(f, RTC_SECONDS_ALARM, 0xff);
	set(f, RTC_MINUTES_ALARM, 0xff);
	set(f, RTC_HOURS_ALARM, 0xff);
	get(f, RTC_C);
	set(f, RTC_B, 0x32);
	for (int i = 0; i < 60 && !flags; i++) {
		run_ms(f, 20);
		if (edges(&f->irq))
			flags = get(f, RTC_C);
	}
	assert_int_equal(flags & 0xb0, 0xb0);
	assert_int_not_equal(get(f, RTC_SECONDS), second);
}

static void test_state(void **state)
{
	struct fixture *f = *state;
	struct stream_out out;
	struct stream_in in;

	set(f, RTC_HOURS, 0x03);
	set(f, RTC_SECONDS_ALARM, 0x30);
	set(f, RTC_MINUTES_ALARM, 0);
	set(f, RTC_HOURS_ALARM, 0x03);
	set(f, 0x40, 0x99);
	get(f, RTC_C);
	set(f, RTC_B, 0x22);
	stream_out_init(&out);
	rtc_save(f->r, &out);
	assert_int_equal(out.err, 0);
	rtc_destroy(f->r);
	f->now += 40 * SEC; /* the alarm was due meanwhile */
	create(f);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(rtc_load(f->r, &in), 0);
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, RTC_C) & 0xa0, 0xa0);
	assert_regs(f, (uint8_t[]){0x40, 0x00, 0x03, 0x14, 0x11, 0x23, 0x20});
	assert_int_equal(get(f, 0x40), 0x99);
	out.buf[out.len - 1] = 0x7f; /* a time that does not fit */
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(rtc_load(f->r, &in), -EINVAL);
	stream_out_finish(&out);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_no_dates),
		cmocka_unit_test(test_alarm_times),
		T(test_reading),
		T(test_setting),
		T(test_flags),
		T(test_memory),
		cmocka_unit_test_setup_teardown(test_ticks, setup_real, teardown),
		cmocka_unit_test_setup_teardown(test_second, setup_real, teardown),
		T(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
