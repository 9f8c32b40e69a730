// SPDX-License-Identifier: MIT
// Power-off, reset, the power button; and the panic port.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/layout.h"
#include "hw/pm.h"
#include "hw/pvpanic.h"
#include "tests/unit/ports.h"

#include <errno.h>

struct fixture {
	struct bus bus;
	struct irq irq;
	struct pm *pm;
	int offs, resets, events;
	unsigned ejected;
};

static void on_off(void *arg)
{
	((struct fixture *)arg)->offs++;
}

static void on_reset(void *arg)
{
	((struct fixture *)arg)->resets++;
}

static void on_ejected(void *arg, unsigned slots)
{
	((struct fixture *)arg)->ejected |= slots;
}

static void on_event(void *arg, uint8_t events)
{
	((struct fixture *)arg)->events = events;
}

static void start(struct fixture *f)
{
	struct pm_config cfg = {.pio = &f->bus,
		.irq = &f->irq,
		.power_off = on_off,
		.reset = on_reset,
		.ejected = on_ejected,
		.arg = f};

	assert_int_equal(irq_init(&f->irq, NULL, GSI_GED), 0);
	assert_int_equal(pm_create(&f->pm, &cfg), 0);
}

static void finish(struct fixture *f)
{
	pm_destroy(f->pm);
	assert_int_equal(f->bus.count, 0);
	irq_finish(&f->irq, NULL);
	bus_finish(&f->bus);
}

static void test_off_and_reset(void **state)
{
	struct fixture f = {0};

	start(&f);
	log_set_level(LOG_LEVEL_ERROR); /* the guest's mistakes below are logged as warnings */
	out8(&f.bus, PORT_SLEEP_CONTROL, 5 << 2); /* without the enable */
	out8(&f.bus, PORT_SLEEP_CONTROL, 3 << 2 | 0x20);
	out8(&f.bus, PORT_RESET, 0);
	out8(&f.bus, PORT_RESET, 0xff);
	out8(&f.bus, PORT_SLEEP_STATUS, 0x80);
	assert_int_equal(in8(&f.bus, PORT_SLEEP_STATUS), 0);
	assert_int_equal(in8(&f.bus, PORT_SLEEP_CONTROL), 0);
	assert_int_equal(f.offs + f.resets, 0);
	out8(&f.bus, PORT_SLEEP_CONTROL, 5 << 2 | 0x20);
	assert_int_equal(f.offs, 1);
	assert_int_equal(f.resets, 0);
	out8(&f.bus, PORT_RESET, 1);
	assert_int_equal(f.resets, 1);
	finish(&f);
}

static void test_button(void **state)
{
	struct fixture f = {0};

	start(&f);
	assert_int_equal(in32(&f.bus, PORT_GED), 0);
	pm_raise(f.pm, PM_EVENT_POWER);
	pm_raise(f.pm, PM_EVENT_POWER);
	assert_int_equal(edges(&f.irq), 2);
	assert_int_equal(in32(&f.bus, PORT_GED), PM_EVENT_POWER);
	assert_int_equal(in32(&f.bus, PORT_GED), 0);
	pm_raise(f.pm, PM_EVENT_POWER);
	assert_int_equal(in8(&f.bus, PORT_GED), PM_EVENT_POWER);
	pm_raise(f.pm, PM_EVENT_POWER);
	pm_reset(f.pm);
	assert_int_equal(in8(&f.bus, PORT_GED), 0);
	finish(&f);
}

static void test_slots(void **state)
{
	struct fixture f = {0};

	start(&f);
	pm_raise(f.pm, PM_EVENT_ADDED(0));
	pm_raise(f.pm, PM_EVENT_ADDED(7));
	pm_raise(f.pm, PM_EVENT_WANTED(0));
	pm_raise(f.pm, PM_EVENT_WANTED(7));
	assert_int_equal(edges(&f.irq), 4);
	assert_int_equal(in32(&f.bus, PORT_GED), 0x818100);
	assert_int_equal(in32(&f.bus, PORT_GED), 0);
	assert_int_equal(in32(&f.bus, PORT_PCI_EJECT), 0);
	bus_write(&f.bus, PORT_PCI_EJECT, "\x05\xff\xff\xff", 4);
	assert_int_equal(f.ejected, 5);
	out8(&f.bus, PORT_PCI_EJECT, 0x80);
	assert_int_equal(f.ejected, 0x85);
	out8(&f.bus, PORT_PCI_EJECT + 1, 0x02);
	assert_int_equal(f.ejected, 0x85);
	finish(&f);
}

static void test_state(void **state)
{
	struct fixture f = {0};
	struct stream_out out;
	struct stream_in in;

	start(&f);
	pm_raise(f.pm, PM_EVENT_POWER);
	stream_out_init(&out);
	pm_save(f.pm, &out);
	assert_int_equal(out.err, 0);
	finish(&f);
	start(&f);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(pm_load(f.pm, &in), 0);
	assert_int_equal(edges(&f.irq), 1);
	assert_int_equal(in32(&f.bus, PORT_GED), PM_EVENT_POWER);
	stream_in_init(&in, out.buf, out.len - 1);
	assert_true(pm_load(f.pm, &in) < 0);
	stream_out_finish(&out);
	finish(&f);
}

/* What has been added is taken away again. */
static void test_port_taken(void **state)
{
	struct fixture f = {0};
	struct bus_range taken = {.base = PORT_RESET, .size = 1, .name = "other"};
	struct pm_config cfg = {.pio = &f.bus};

	assert_int_equal(bus_add(&f.bus, &taken), 0);
	assert_int_equal(pm_create(&f.pm, &cfg), -EEXIST);
	assert_int_equal(f.bus.count, 1);
	bus_finish(&f.bus);
}

static void test_pvpanic(void **state)
{
	struct fixture f = {0};
	struct pvpanic_config cfg = {.pio = &f.bus, .event = on_event, .arg = &f};
	struct pvpanic *p;

	assert_int_equal(pvpanic_create(&p, &cfg), 0);
	assert_int_equal(in8(&f.bus, PORT_PVPANIC), PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
	out8(&f.bus, PORT_PVPANIC, 0xfc);
	assert_int_equal(f.events, 0);
	out8(&f.bus, PORT_PVPANIC, 0xfd);
	assert_int_equal(f.events, PVPANIC_PANICKED);
	pvpanic_destroy(p);
	assert_int_equal(f.bus.count, 0);
	bus_finish(&f.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off_and_reset),
		cmocka_unit_test(test_button),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_port_taken),
		cmocka_unit_test(test_pvpanic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
