// SPDX-License-Identifier: MIT
// vCPUs on the host's own KVM: ports, parking under load, state carried from one VM into another.
#include "hw/vcpu.h"
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/kvm.h"
#include "hw/mem.h"

#include <fcntl.h>
#include <pthread.h>

struct rig {
	struct kvm kvm;
	struct mem *mem;
	struct bus pio, mmio;
	struct vcpu *cpu;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t last;  /* written to port 0x80 */
	unsigned count; /* how often */
	bool ended;
	enum vcpu_end why;
};

static void port_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct rig *r = dev;

	assert_int_equal(len, 4);
	pthread_mutex_lock(&r->lock);
	r->last = get_le32(data);
	r->count++;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops port_ops = {.write = port_write};

static void on_end(void *arg, struct vcpu *v, enum vcpu_end why)
{
	struct rig *r = arg;

	pthread_mutex_lock(&r->lock);
	r->ended = true;
	r->why = why;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void rig_init(struct rig *r, const void *code, size_t len)
{
	const struct bus_range range = {0x80, 4, &port_ops, r, "test port", 0};
	const struct boot_entry entry = {BOOT_LONG64, MIB(1), 0};
	struct vcpu_config cfg = {.kvm = &r->kvm,
		.pio = &r->pio,
		.mmio = &r->mmio,
		.count = 1,
		.ended = on_end,
		.arg = r};

	*r = (struct rig){0};
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	assert_int_equal(mem_create(&r->mem, MIB(2), MEM_PRIVATE), 0);
	assert_int_equal(kvm_create(&r->kvm, open("/dev/kvm", O_RDWR | O_CLOEXEC)), 0);
	assert_int_equal(mem_attach(r->mem, &r->kvm), 0);
	assert_int_equal(bus_add(&r->pio, &range), 0);
	assert_int_equal(mem_write(r->mem, MIB(1), code, len), 0);
	assert_int_equal(vcpu_create(&r->cpu, &cfg), 0);
	assert_int_equal(vcpu_set_boot(r->cpu, &entry, r->mem), 0);
	assert_int_equal(vcpu_start(r->cpu), 0);
}

static void rig_finish(struct rig *r)
{
	vcpu_destroy(r->cpu);
	kvm_finish(&r->kvm);
	mem_destroy(r->mem);
	bus_finish(&r->pio);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}

static void wait_count(struct rig *r, unsigned n)
{
	pthread_mutex_lock(&r->lock);
	while (r->count < n)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void wait_end(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->ended)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* inc %eax; out %eax, $0x80; jmp back */
static const uint8_t counting[] = {0xff, 0xc0, 0xe7, 0x80, 0xeb, 0xfa};

static void test_park(void **state)
{
	struct rig r;
	unsigned seen = 0;

	rig_init(&r, counting, sizeof(counting));
	for (int i = 0; i < 200; i++) {
		vcpu_resume(r.cpu);
		wait_count(&r, seen + 1);
		vcpu_park(r.cpu);
		seen = r.count;
		assert_int_equal(r.last, seen); /* none lost, none doubled */
		assert_false(vcpu_is_dead(r.cpu));
	}
	assert_true(vcpu_exits(r.cpu, EXIT_IO) == seen);
	rig_finish(&r);
}

/* Parked, saved, loaded into another VM: the count goes on where it was. */
static void test_move(void **state)
{
	struct rig a, b;
	struct stream_out out;
	struct stream_in in;
	uint32_t at;

	rig_init(&a, counting, sizeof(counting));
	vcpu_resume(a.cpu);
	wait_count(&a, 100);
	vcpu_park(a.cpu);
	at = a.last;
	stream_out_init(&out);
	assert_int_equal(kvm_save(&a.kvm, &out), 0);
	assert_int_equal(vcpu_save(a.cpu, &out), 0);
	rig_finish(&a);

	rig_init(&b, counting, sizeof(counting));
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(kvm_load(&b.kvm, &in), 0);
	assert_int_equal(vcpu_load(b.cpu, &in), 0);
	vcpu_resume(b.cpu);
	wait_count(&b, 1);
	vcpu_park(b.cpu);
	assert_int_equal(b.last, at + b.count);
	rig_finish(&b);
	stream_out_finish(&out);
}

static void test_triple_fault(void **state)
{
	static const uint8_t code[] = {0x0f, 0x0b}; /* ud2 without an IDT */
	struct rig r;

	rig_init(&r, code, sizeof(code));
	vcpu_resume(r.cpu);
	wait_end(&r);
	assert_int_equal(r.why, VCPU_END_TRIPLE_FAULT);
	rig_finish(&r);
}

static void test_dead(void **state)
{
	static const uint8_t code[] = {
		0xe7, 0x80, 0xfa, 0xf4, 0xeb, 0xfd}; /* out; cli; hlt; jmp hlt */
	struct rig r;
	char where[100];

	rig_init(&r, code, sizeof(code));
	vcpu_resume(r.cpu);
	wait_count(&r, 1);
	do {
		vcpu_park(r.cpu);
		if (vcpu_is_dead(r.cpu))
			break;
		vcpu_resume(r.cpu);
	} while (true);
	assert_non_null(strstr(vcpu_where(r.cpu, where, sizeof(where)), "rip 0x100004 "));
	rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_park),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
