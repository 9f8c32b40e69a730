// SPDX-License-Identifier: MIT
// CPUID as a table of changes on what the host supports.
//
// Each row names a leaf, a register, the bits it governs and where their value comes from. Subleaf
// ANY stands for every subleaf the host reports. A row for a leaf that the host does not report
// does nothing: an Intel row is harmless on AMD and the other way round. Leaves that must exist
// whatever the host says (extended topology, the hypervisor's timing leaf) are added first.
//
// Topology is one socket of `count` single-threaded cores; Intel SDM vol. 2A CPUID, AMD APM vol. 3
// app. E.
#include "hw/cpuid.h"

#include "base/util.h"
#include "hw/kvm.h"

#include <asm/kvm_para.h>

#include <stdbool.h>

#define ANY UINT32_MAX

enum reg { EAX, EBX, ECX, EDX };

enum value {
	CLEAR,     /* 0 */
	SET,       /* all ones */
	APIC_ID,   /* this vCPU's */
	COUNT,     /* how many there are */
	LAST,      /* COUNT - 1 */
	ID_BITS,   /* how many bits of APIC id tell the cores apart */
	MULTI,     /* 1 when there are several */
	DEADLINE,  /* 1 when KVM emulates the TSC deadline timer */
	TSC_KHZ,   /* of the guest's TSC */
	SHARED_L3, /* LAST for the third level of cache, 0 for what a core has for itself */
};

struct row {
	uint32_t leaf, sub;
	enum reg reg;
	uint8_t high, low; /* bits, inclusive */
	enum value value;
};

static const struct row rows[] = {
	{0x1, ANY, EBX, 31, 24, APIC_ID},
	{0x1, ANY, EBX, 23, 16, COUNT},
	{0x1, ANY, ECX, 24, 24, DEADLINE},
	{0x1, ANY, ECX, 31, 31, SET}, /* there is a hypervisor */
	{0x1, ANY, EDX, 28, 28, MULTI},
	{0x4, ANY, EAX, 31, 26, LAST},
	{0x4, ANY, EAX, 25, 14, SHARED_L3},
	{0x6, ANY, EAX, 1, 1, CLEAR},  /* no turbo to control */
	{0x6, ANY, ECX, 3, 3, CLEAR},  /* no energy bias MSR */
	{0xa, ANY, EAX, 31, 0, CLEAR}, /* no counters: probing them costs exits at each boot */
	{0xa, ANY, EBX, 31, 0, CLEAR},
	{0xa, ANY, ECX, 31, 0, CLEAR},
	{0xa, ANY, EDX, 31, 0, CLEAR},
	{0xb, 0, EAX, 4, 0, CLEAR},
	{0xb, 0, EBX, 0, 0, SET}, /* one thread a core */
	{0xb, 0, ECX, 8, 8, SET}, /* level type 1: thread */
	{0xb, 1, EAX, 4, 0, ID_BITS},
	{0xb, 1, EBX, 15, 0, COUNT},
	{0xb, 1, ECX, 0, 0, SET},
	{0xb, 1, ECX, 9, 9, SET}, /* level type 2: core */
	{0xb, ANY, EDX, 31, 0, APIC_ID},
	{0x80000001, ANY, ECX, 1, 1, MULTI},   /* CmpLegacy */
	{0x80000001, ANY, ECX, 23, 23, CLEAR}, /* no core performance counters, as leaf 0xa */
	{0x80000008, ANY, ECX, 7, 0, LAST},
	{0x80000008, ANY, ECX, 15, 12, ID_BITS},
	{0x8000001d, ANY, EAX, 25, 14, SHARED_L3},
	{0x8000001e, ANY, EAX, 31, 0, APIC_ID},
	{0x8000001e, ANY, EBX, 7, 0, APIC_ID},
	{0x8000001e, ANY, EBX, 15, 8, CLEAR},
	{0x8000001e, ANY, ECX, 10, 0, CLEAR},
	{0x40000010, ANY, EAX, 31, 0, TSC_KHZ},
};

/* One nanosecond a tick of the local APIC's bus, as KVM emulates it. */
#define APIC_BUS_KHZ 1000000u
#define TIMING_LEAF 0x40000010u

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf, uint32_t sub)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == leaf && c->entries[i].index == sub)
			return &c->entries[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *ensure(
	struct kvm_cpuid2 *c, uint32_t leaf, uint32_t sub, uint32_t flags)
{
	struct kvm_cpuid_entry2 *e = find(c, leaf, sub);

	if (!e) {
		e = &c->entries[c->nent++];
		*e = (struct kvm_cpuid_entry2){.function = leaf, .index = sub, .flags = flags};
	}
	return e;
}

/* Leaf 0xb exists where leaf 0 says that leaves go that far. */
static void add_topology(struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *max = find(c, 0, 0);

	if (!max || max->eax < 0xb)
		return;
	for (uint32_t sub = 0; sub < 3; sub++) {
		struct kvm_cpuid_entry2 *e = ensure(c, 0xb, sub, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);

		e->eax = e->ebx = 0;
		e->ecx = sub;
	}
}

static void add_timing(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *first = find(c, KVM_CPUID_SIGNATURE, 0);
	struct kvm_cpuid_entry2 *e;

	if (!first)
		return;
	e = ensure(c, TIMING_LEAF, 0, 0);
	e->ebx = APIC_BUS_KHZ;
	first->eax = MAX(first->eax, TIMING_LEAF);
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg reg)
{
	uint32_t *regs[] = {&e->eax, &e->ebx, &e->ecx, &e->edx};

	return regs[reg];
}

struct vcpu_facts {
	uint32_t id, count, tsc_khz;
	bool deadline;
};

static uint32_t id_bits(uint32_t count)
{
	return count > 1 ? 32 - (uint32_t)__builtin_clz(count - 1) : 0;
}

static uint32_t value_of(const struct kvm_cpuid_entry2 *e, enum value v, const struct vcpu_facts *f)
{
	switch (v) {
	case CLEAR:
		return 0;
	case SET:
		return UINT32_MAX;
	case APIC_ID:
		return f->id;
	case COUNT:
		return f->count;
	case LAST:
		return f->count - 1;
	case ID_BITS:
		return id_bits(f->count);
	case MULTI:
		return f->count > 1;
	case DEADLINE:
		return f->deadline;
	case TSC_KHZ:
		return f->tsc_khz;
	case SHARED_L3:
		return (e->eax >> 5 & 7) == 3 ? f->count - 1 : 0;
	}
	return 0;
}

static void apply(struct kvm_cpuid_entry2 *e, const struct row *r, const struct vcpu_facts *f)
{
	uint32_t width = r->high - r->low + 1u;
	uint32_t mask = (width == 32 ? UINT32_MAX : (1u << width) - 1) << r->low;
	uint32_t *reg = reg_of(e, r->reg);

	*reg = (*reg & ~mask) | (value_of(e, r->value, f) << r->low & mask);
}

void cpuid_build(struct kvm_cpuid2 *out, const struct kvm *kvm, uint32_t id, uint32_t count,
	uint32_t tsc_khz)
{
	const struct vcpu_facts facts = {id, count, tsc_khz, kvm->tsc_deadline};

	*out = (struct kvm_cpuid2){.nent = kvm->cpuid->nent};
	memcpy(out->entries, kvm->cpuid->entries, out->nent * sizeof(out->entries[0]));
	add_topology(out);
	add_timing(out);
	for (uint32_t i = 0; i < out->nent; i++)
		for (unsigned k = 0; k < ARRAY_SIZE(rows); k++)
			if (rows[k].leaf == out->entries[i].function &&
				(rows[k].sub == ANY || rows[k].sub == out->entries[i].index))
				apply(&out->entries[i], &rows[k], &facts);
}
