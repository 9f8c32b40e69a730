// SPDX-License-Identifier: MIT
// The timer on the host's own KVM: made by the first access, which takes effect; saved, loaded,
// reset.
#include "hw/pit.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/stream.h"
#include "hw/bus.h"
#include "hw/kvm.h"
#include "hw/layout.h"

#include <fcntl.h>
#include <sys/ioctl.h>

struct rig {
	struct kvm kvm;
	struct bus pio;
	struct pit *pit;
};

static void rig_init(struct rig *r)
{
	*r = (struct rig){0};
	assert_int_equal(kvm_create(&r->kvm, open("/dev/kvm", O_RDWR | O_CLOEXEC)), 0);
	assert_int_equal(pit_create(&r->pit, &r->kvm, &r->pio), 0);
}

static void rig_finish(struct rig *r)
{
	pit_destroy(r->pit);
	kvm_finish(&r->kvm);
	bus_finish(&r->pio);
}

static bool made(const struct rig *r, struct kvm_pit_state2 *s)
{
	return ioctl(r->kvm.vm, KVM_GET_PIT2, s) == 0;
}

static void test_control_first(void **state)
{
	struct kvm_pit_state2 s;
	struct rig r;

	rig_init(&r);
	assert_false(made(&r, &s));
	bus_write(&r.pio, PORT_PIT_CONTROL, "\xb4", 1); /* channel 2, both bytes, mode 2 */
	assert_true(made(&r, &s));
	assert_int_equal(s.channels[2].mode, 2);
	assert_int_equal(s.channels[2].rw_mode, 3);
	bus_write(&r.pio, PORT_PIT_CONTROL, "\xb0", 1); /* no longer ours to hear */
	assert_true(made(&r, &s));
	assert_int_equal(s.channels[2].mode, 2);
	rig_finish(&r);
}

static void test_gate_first(void **state)
{
	struct kvm_pit_state2 s;
	struct rig r;

	rig_init(&r);
	bus_write(&r.pio, PORT_SPEAKER, "\x01", 1);
	assert_true(made(&r, &s));
	assert_int_equal(s.channels[2].gate, 1);
	rig_finish(&r);
}

static void test_read_first(void **state)
{
	struct kvm_pit_state2 s;
	struct rig r;
	uint8_t v = 0xff;

	rig_init(&r);
	assert_true(bus_read(&r.pio, PORT_SPEAKER, &v, 1));
	assert_int_equal(v, 0);
	assert_true(made(&r, &s));
	rig_finish(&r);
}

static void test_save_load(void **state)
{
	struct kvm_pit_state2 s;
	struct stream_out o;
	struct stream_in i;
	struct rig a, b;

	rig_init(&a);
	rig_init(&b);
	stream_out_init(&o);
	pit_save(a.pit, &o); /* none */
	bus_write(&a.pio, PORT_PIT_CONTROL, "\xb4", 1);
	pit_save(a.pit, &o);
	assert_int_equal(o.err, 0);
	stream_in_init(&i, o.buf, o.len);
	assert_int_equal(pit_load(b.pit, &i), 0);
	assert_false(made(&b, &s));
	assert_int_equal(pit_load(b.pit, &i), 0);
	assert_true(made(&b, &s));
	assert_int_equal(s.channels[2].mode, 2);
	pit_reset(b.pit);
	assert_true(made(&b, &s));
	assert_int_equal(s.channels[2].mode, 0);
	stream_out_finish(&o);
	rig_finish(&a);
	rig_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_first),
		cmocka_unit_test(test_gate_first),
		cmocka_unit_test(test_read_first),
		cmocka_unit_test(test_save_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
