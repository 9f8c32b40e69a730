// SPDX-License-Identifier: MIT
// Places on the PCI bus: who asks for a slot has it, the others have what is left, in their order.
#include "tests/unit/test.h"
#include "vmm/places.h"

#include "base/log.h"
#include "base/util.h"
#include "hw/pci.h"

#include <errno.h>
#include <string.h>

#define MOST (PCI_SLOTS - 2 + PCI_PORTS) /* devices: all slots but the bridge's and the ports' */

static int settle(struct places *p, const unsigned *slot, unsigned count)
{
	places_init(p);
	for (unsigned i = 0; i < count; i++)
		places_ask(p, slot[i]);
	return places_settle(p);
}

static void check(const unsigned *slot, const unsigned *want, unsigned count)
{
	struct places p;

	assert_int_equal(settle(&p, slot, count), 0);
	assert_int_equal(p.ports, 0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(places_take(&p, slot[i]), want[i]);
}

static void test_in_order(void **state)
{
	static const unsigned slot[5], want[] = {1, 2, 3, 4, 5};

	check(slot, want, ARRAY_SIZE(want));
}

/* Also one that is made later. */
static void test_asked_for(void **state)
{
	static const unsigned slot[] = {0, 0, 31, 0, 1, 3, 0};
	static const unsigned want[] = {2, 4, 31, 5, 1, 3, 6};

	check(slot, want, ARRAY_SIZE(want));
}

/* Every number of devices that is possible, and the two last slots asked for: none twice. */
static void test_ports(void **state)
{
	for (unsigned count = 2; count <= MOST; count++) {
		unsigned slot[MOST] = {31, 30};
		uint64_t taken = 1;
		struct places p;

		assert_int_equal(settle(&p, slot, count), 0);
		assert_int_equal(p.ports, count < PCI_SLOTS ? 0 : count - (PCI_SLOTS - 2));
		if (p.ports) {
			assert_int_equal(p.port_slot, 29);
			taken |= 1u << p.port_slot;
		}
		for (unsigned i = 0; i < count; i++) {
			unsigned place = places_take(&p, slot[i]);

			assert_true(place < PCI_SLOTS + p.ports);
			assert_false(taken >> place & 1);
			taken |= 1ull << place;
		}
		assert_int_equal(p.behind, p.ports);
	}
}

static void test_no_room_for_ports(void **state)
{
	unsigned slot[PCI_SLOTS];
	struct places p;

	for (unsigned i = 0; i < PCI_SLOTS; i++)
		slot[i] = (i + 1) % PCI_SLOTS;
	assert_int_equal(settle(&p, slot, PCI_SLOTS - 1), 0);
	assert_int_equal(p.ports, 0);
	assert_int_equal(settle(&p, slot, PCI_SLOTS), -ENOSPC);
	assert_non_null(strstr(last_error(), "no slot of the PCI bus is left"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_asked_for),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_no_room_for_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
