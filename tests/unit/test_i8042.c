// SPDX-License-Identifier: MIT
// The keyboard controller: the reset line, and what Linux's driver asks where ACPI does not stop
// it.
#include "tests/unit/test.h"

#include "base/stream.h"
#include "base/util.h"
#include "hw/i8042.h"
#include "hw/layout.h"
#include "tests/unit/ports.h"

#include <errno.h>

struct fixture {
	struct bus bus;
	struct i8042 *k;
	int resets;
};

static void on_reset(void *arg)
{
	((struct fixture *)arg)->resets++;
}

static void create(struct fixture *f)
{
	struct i8042_config cfg = {.pio = &f->bus, .reset = on_reset, .arg = f};

	assert_int_equal(i8042_create(&f->k, &cfg), 0);
}

static void finish(struct fixture *f)
{
	i8042_destroy(f->k);
	assert_int_equal(f->bus.count, 0);
	bus_finish(&f->bus);
}

static void command(struct fixture *f, uint8_t v)
{
	assert_int_equal(
		in8(&f->bus, PORT_I8042_CMD) & 0x02, 0); /* it always takes the next byte */
	out8(&f->bus, PORT_I8042_CMD, v);
}

/* The answer must be there at once. */
static uint8_t answer(struct fixture *f)
{
	assert_int_equal(in8(&f->bus, PORT_I8042_CMD) & 0x01, 1);
	return in8(&f->bus, PORT_I8042_DATA);
}

static int is_silent(struct fixture *f)
{
	return !(in8(&f->bus, PORT_I8042_CMD) & 0x01);
}

static void test_reset_line(void **state)
{
	static const struct {
		uint8_t cmd;
		int data; /* -1: none */
		int resets;
	} cases[] = {
		{0xfe, -1, 1},
		{0xf0, -1, 1},
		{0xff, -1, 0},
		{0xfd, -1, 0},
		{0xd1, 0xfe, 1},
		{0xd1, 0xdf, 0},
		{0x60, 0x00, 0},
		{0xd4, 0xfe, 0},
	};
	struct fixture f = {0};

	create(&f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		f.resets = 0;
		command(&f, cases[i].cmd);
		if (cases[i].data >= 0)
			out8(&f.bus, PORT_I8042_DATA, (uint8_t)cases[i].data);
		assert_int_equal(f.resets, cases[i].resets);
		assert_true(is_silent(&f));
	}
	out8(&f.bus, PORT_I8042_DATA, 0xfe); /* for the keyboard */
	assert_int_equal(f.resets, 0);
	finish(&f);
}

static void test_probe(void **state)
{
	struct fixture f = {0};

	create(&f);
	assert_true(is_silent(&f));
	command(&f, 0xaa);
	assert_int_equal(answer(&f), 0x55);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x34);
	command(&f, 0x60);
	out8(&f.bus, PORT_I8042_DATA, 0x74);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x74);
	/* The mouse's loop-back comes out at the keyboard's side, its test fails: there is none. */
	command(&f, 0xd3);
	out8(&f.bus, PORT_I8042_DATA, 0x5a);
	assert_int_equal(in8(&f.bus, PORT_I8042_CMD) & 0x21, 0x01);
	assert_int_equal(answer(&f), 0x5a);
	command(&f, 0xa9);
	assert_int_not_equal(answer(&f), 0);
	command(&f, 0xab);
	assert_int_not_equal(answer(&f), 0);
	command(&f, 0xd0);
	assert_int_equal(answer(&f) & 3, 3);
	command(&f, 0xa8);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x54);
	command(&f, 0xa7);
	command(&f, 0xae);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x64);
	assert_true(is_silent(&f));
	assert_int_equal(f.resets, 0);
	finish(&f);
}

static void test_state(void **state)
{
	struct fixture f = {0};
	struct stream_out out;
	struct stream_in in;

	create(&f);
	command(&f, 0x60); /* its data byte is still to come */
	stream_out_init(&out);
	i8042_save(f.k, &out);
	assert_int_equal(out.err, 0);
	finish(&f);
	create(&f);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(i8042_load(f.k, &in), 0);
	out8(&f.bus, PORT_I8042_DATA, 0x11);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x11);
	stream_in_init(&in, out.buf, out.len - 1);
	assert_true(i8042_load(f.k, &in) < 0);
	i8042_reset(f.k);
	command(&f, 0x20);
	assert_int_equal(answer(&f), 0x34);
	stream_out_finish(&out);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_line),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
