// SPDX-License-Identifier: MIT
// The bus: order, overlap, edges of the address space, accesses that straddle a range's end.
#include "hw/bus.h"
#include "tests/unit/test.h"

#include "base/log.h"

#include <errno.h>

static uint64_t last_off;

static void dev_read(void *dev, uint64_t off, void *data, unsigned len)
{
	last_off = off;
	memset(data, *(uint8_t *)dev, len);
}

static void dev_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	last_off = off;
	memcpy(dev, data, 1);
}

static const struct bus_ops ops = {dev_read, dev_write};

static int add(struct bus *b, uint64_t base, uint64_t size, void *dev)
{
	const struct bus_range r = {base, size, &ops, dev, "device", 0};

	return bus_add(b, &r);
}

static void test_dispatch(void **state)
{
	struct bus b = {0};
	uint8_t dev[40];
	uint32_t v;

	/* Added in an order that is not that of the addresses. */
	for (unsigned i = 0; i < 40; i++) {
		unsigned k = i * 7 % 40;

		dev[k] = (uint8_t)k;
		assert_int_equal(add(&b, 0x1000 + k * 0x10, 0x10, &dev[k]), 0);
	}
	for (unsigned k = 0; k < 40; k++) {
		assert_true(bus_read(&b, 0x1000 + k * 0x10 + 0xc, &v, 4));
		assert_int_equal(v, k * 0x01010101u);
		assert_int_equal(last_off, 0xc);
	}
	assert_false(bus_read(&b, 0x1000 + 0xe, &v, 4)); /* straddles */
	assert_int_equal(v, 0xffffffff);
	assert_false(bus_read(&b, 0xfff, &v, 1));
	assert_false(bus_read(&b, 0x1000 + 40 * 0x10, &v, 1));
	assert_false(bus_read(&b, UINT64_MAX, &v, 4));
	assert_int_equal(b.missed, 4);
	bus_del(&b, 0x1010);
	assert_false(bus_read(&b, 0x1010, &v, 1));
	assert_true(bus_write(&b, 0x1020, "\x55", 1));
	assert_int_equal(dev[2], 0x55);
	bus_finish(&b);
}

static void test_refusals(void **state)
{
	struct bus b = {0};
	uint8_t dev = 0;

	assert_int_equal(add(&b, 0x100, 0x10, &dev), 0);
	assert_int_equal(add(&b, 0x10f, 1, &dev), -EEXIST);
	assert_int_equal(add(&b, 0xff, 2, &dev), -EEXIST);
	assert_int_equal(add(&b, 0, UINT64_MAX, &dev), -EEXIST);
	assert_int_equal(add(&b, 0x110, 0, &dev), -EINVAL);
	assert_int_equal(add(&b, UINT64_MAX - 3, 5, &dev), -EINVAL);
	assert_int_equal(add(&b, UINT64_MAX - 3, 4, &dev), 0);
	assert_int_equal(add(&b, 0x110, 1, &dev), 0);
	assert_int_equal(add(&b, 0xff, 1, &dev), 0);
	bus_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
