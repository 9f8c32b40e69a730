// SPDX-License-Identifier: MIT
// CPUID: the table of changes on made-up Intel and AMD hosts.
#include "hw/cpuid.h"
#include "tests/unit/test.h"

#include "base/util.h"
#include "hw/kvm.h"

#include <stdlib.h>

static struct kvm_cpuid2 *new_cpuid(void)
{
	struct kvm_cpuid2 *c =
		calloc(1, sizeof(*c) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));

	assert_non_null(c);
	return c;
}

static void leaf(struct kvm_cpuid2 *c, uint32_t function, uint32_t index, uint32_t all)
{
	c->entries[c->nent++] = (struct kvm_cpuid_entry2){.function = function,
		.index = index,
		.eax = all,
		.ebx = all,
		.ecx = all,
		.edx = all};
}

static const struct kvm_cpuid_entry2 *get(const struct kvm_cpuid2 *c, uint32_t f, uint32_t i)
{
	for (uint32_t k = 0; k < c->nent; k++)
		if (c->entries[k].function == f && c->entries[k].index == i)
			return &c->entries[k];
	fail_msg("no leaf %x.%u", f, i);
	return NULL;
}

static void test_topology(void **state)
{
	struct kvm k = {.tsc_deadline = true, .cpuid = new_cpuid()};
	struct kvm_cpuid2 *c = new_cpuid();

	leaf(k.cpuid, 0, 0, 0x1f);
	leaf(k.cpuid, 1, 0, 0);
	leaf(k.cpuid, 4, 1, 1 << 5);
	leaf(k.cpuid, 4, 3, 3 << 5);
	leaf(k.cpuid, 0xa, 0, UINT32_MAX);
	leaf(k.cpuid, 0x80000008, 0, 0);
	leaf(k.cpuid, 0x40000000, 0, 0x40000001);
	cpuid_build(c, &k, 3, 5, 2500000);
	assert_int_equal(get(c, 1, 0)->ebx, 3u << 24 | 5u << 16);
	assert_int_equal(get(c, 1, 0)->ecx, 1u << 31 | 1u << 24);
	assert_int_equal(get(c, 1, 0)->edx, 1u << 28);
	assert_int_equal(get(c, 4, 1)->eax, 4u << 26 | 1 << 5);
	assert_int_equal(get(c, 4, 3)->eax, 4u << 26 | 4u << 14 | 3 << 5);
	assert_int_equal(get(c, 0xa, 0)->eax, 0);
	assert_int_equal(get(c, 0xb, 0)->ebx, 1);
	assert_int_equal(get(c, 0xb, 0)->ecx, 1u << 8);
	assert_int_equal(get(c, 0xb, 0)->edx, 3);
	assert_int_equal(get(c, 0xb, 1)->eax, 3);
	assert_int_equal(get(c, 0xb, 1)->ebx, 5);
	assert_int_equal(get(c, 0xb, 1)->ecx, 2u << 8 | 1);
	assert_int_equal(get(c, 0xb, 2)->ecx, 2);
	assert_int_equal(get(c, 0x80000008, 0)->ecx, 3u << 12 | 4);
	assert_int_equal(get(c, 0x40000000, 0)->eax, 0x40000010);
	assert_int_equal(get(c, 0x40000010, 0)->eax, 2500000);
	assert_int_equal(get(c, 0x40000010, 0)->ebx, 1000000);
	free(c);
	free(k.cpuid);
}

/* One vCPU, no deadline timer, a host that reports nothing of what is optional. */
static void test_single(void **state)
{
	struct kvm k = {.cpuid = new_cpuid()};
	struct kvm_cpuid2 *c = new_cpuid();

	leaf(k.cpuid, 0, 0, 0xa);
	leaf(k.cpuid, 1, 0, UINT32_MAX);
	cpuid_build(c, &k, 0, 1, 0);
	assert_int_equal(c->nent, 2);
	assert_int_equal(get(c, 1, 0)->ebx, 1u << 16 | 0xffff);
	assert_int_equal(get(c, 1, 0)->ecx, UINT32_MAX & ~(1u << 24));
	assert_int_equal(get(c, 1, 0)->edx, UINT32_MAX & ~(1u << 28));
	free(c);
	free(k.cpuid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_single),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
