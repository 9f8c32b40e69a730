// SPDX-License-Identifier: MIT
// Registers of a vCPU.
//
// Order of loading. The APIC base (in sregs) decides how the local APIC's page is read; the local
// APIC decides whether the TSC deadline means anything, so MSRs come after it; events come after
// what they interrupt; the multiprocessor state comes first, as setting it may reset what waits for
// a start-up IPI.
#include "hw/vcpu_state.h"

#include "base/log.h"
#include "base/stream.h"
#include "hw/kvm.h"
#include "hw/layout.h"
#include "hw/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define MSR_IA32_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_FAST_STRING 1u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MTRR_ENABLE_WRITE_BACK 0x806u

int vcpu_state_init_msrs(int fd, uint32_t id)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.head.nmsrs = 2,
		.entry = {{.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
			{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITE_BACK}},
	};
	int n = ioctl(fd, KVM_SET_MSRS, &msrs);

	if (n < 0)
		return failno(errno, "vCPU %u: MSRs", id);
	if (n < 2)
		return fail(ENOTSUP, "vCPU %u: KVM refuses MSR 0x%x", id, msrs.entry[n].index);
	return 0;
}

/* Boot segments: selectors as the Linux 64-bit protocol wants them (boot.rst: CS 0x10, DS 0x18). */
enum { SEL_CODE32 = 0x08, SEL_CODE64 = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20 };

static const uint64_t gdt[] = {
	0, 0x00cf9b000000ffff, /* 32-bit code, flat */
	0x00af9b000000ffff,    /* 64-bit code */
	0x00cf93000000ffff,    /* data, flat */
	0x00008b0000000067,    /* TSS at 0 */
};

static struct kvm_segment segment(uint16_t selector)
{
	uint64_t d = gdt[selector / 8];

	return (struct kvm_segment){
		.selector = selector,
		.limit = d >> 55 & 1 ? 0xffffffffu : 0x67u,
		.type = d >> 40 & 0xf,
		.s = d >> 44 & 1,
		.dpl = d >> 45 & 3,
		.present = d >> 47 & 1,
		.l = d >> 53 & 1,
		.db = d >> 54 & 1,
		.g = d >> 55 & 1,
	};
}

#define PTE_PRESENT_WRITE 0x3u
#define PTE_HUGE 0x80u
#define PAGE 4096u
#define IDENTITY_GIB 4u

/* 2 MiB pages over the first 4 GiB: a PML4, a page of PDPTEs, and a page directory a GiB. */
static int write_page_tables(struct mem *m)
{
	uint64_t *t = mem_get(m, LAYOUT_PAGE_TABLES, (2 + IDENTITY_GIB) * PAGE);
	uint64_t *pd;

	if (!t)
		return fail(EFAULT, "no RAM for the boot page tables");
	pd = t + 1024;
	t[0] = (LAYOUT_PAGE_TABLES + PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < IDENTITY_GIB; i++)
		t[512 + i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < IDENTITY_GIB * 512; i++)
		pd[i] = i * MIB(2) | PTE_HUGE | PTE_PRESENT_WRITE;
	mem_dirty(m, LAYOUT_PAGE_TABLES, (2 + IDENTITY_GIB) * PAGE);
	return 0;
}

#define CR0_PE 1u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

static void set_segments(struct kvm_sregs *s, uint16_t code)
{
	s->cs = segment(code);
	s->ds = s->es = s->fs = s->gs = s->ss = segment(SEL_DATA);
	s->tr = segment(SEL_TSS);
	s->gdt.base = LAYOUT_GDT;
	s->gdt.limit = sizeof(gdt) - 1;
	s->idt.base = s->idt.limit = 0;
}

static int set_mode(struct kvm_sregs *s, enum boot_mode mode, struct mem *m)
{
	s->cr0 = CR0_PE | CR0_ET | CR0_NE;
	s->cr4 = 0;
	s->efer = 0;
	if (mode == BOOT_PVH) {
		set_segments(s, SEL_CODE32);
		return 0;
	}
	set_segments(s, SEL_CODE64);
	s->cr3 = LAYOUT_PAGE_TABLES;
	s->cr4 = CR4_PAE;
	s->cr0 |= CR0_PG;
	s->efer = EFER_LME | EFER_LMA;
	return write_page_tables(m);
}

int vcpu_state_boot(int fd, const struct boot_entry *b, struct mem *m)
{
	struct kvm_regs regs = {.rip = b->entry, .rflags = 2};
	struct kvm_sregs sregs;
	int rc;

	if (b->mode == BOOT_PVH)
		regs.rbx = b->info;
	else
		regs.rsi = b->info;
	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		return failno(errno, "reading the boot vCPU's registers");
	rc = set_mode(&sregs, b->mode, m);
	if (!rc)
		rc = mem_write(m, LAYOUT_GDT, gdt, sizeof(gdt));
	if (rc)
		return rc;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0)
		return failno(errno, "setting the boot vCPU's registers");
	return 0;
}

/* What is one ioctl each way, in the order of loading. */
union state {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
};

#define STATE(name, type)                                                                          \
	{                                                                                          \
#name, KVM_GET_##name, KVM_SET_##name, sizeof(type)                                \
	}

static const struct part {
	const char *name;
	unsigned long get, set;
	size_t size;
} before_msrs[] =
	{
		STATE(MP_STATE, struct kvm_mp_state),
		STATE(REGS, struct kvm_regs),
		STATE(SREGS, struct kvm_sregs),
		STATE(XSAVE, struct kvm_xsave),
		STATE(XCRS, struct kvm_xcrs),
		STATE(DEBUGREGS, struct kvm_debugregs),
		STATE(LAPIC, struct kvm_lapic_state),
},
  after_msrs[] = {
	  STATE(VCPU_EVENTS, struct kvm_vcpu_events),
};

static int save_parts(int fd, struct stream_out *s, const struct part *p, size_t n)
{
	union state st;

	for (size_t i = 0; i < n; i++) {
		memset(&st, 0, sizeof(st));
		if (ioctl(fd, p[i].get, &st) < 0)
			return failno(errno, "KVM_GET_%s", p[i].name);
		stream_put(s, &st, p[i].size);
	}
	return 0;
}

static int load_parts(int fd, struct stream_in *s, const struct part *p, size_t n)
{
	union state st;

	for (size_t i = 0; i < n; i++) {
		memset(&st, 0, sizeof(st));
		stream_get(s, &st, p[i].size);
		if (s->err)
			return s->err;
		if (p[i].set == KVM_SET_XCRS && !st.xcrs.nr_xcrs)
			continue; /* a host without XSAVE has none, and refuses to set none */
		if (ioctl(fd, p[i].set, &st) < 0)
			return failno(errno, "KVM_SET_%s", p[i].name);
	}
	return 0;
}

/* More than any host lists today (about 120); bounds what a saved state may ask for. */
#define MSRS_MAX 1024u

struct msr_buffer {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[];
};

static struct msr_buffer *new_msrs(uint32_t n)
{
	struct msr_buffer *b = calloc(1, sizeof(*b) + n * sizeof(b->entry[0]));

	if (b)
		b->head.nmsrs = n;
	else
		fail(ENOMEM, "no memory for %u MSRs", n);
	return b;
}

static int list_msrs(const struct kvm *kvm, struct msr_buffer **out)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
	struct msr_buffer *b = NULL;
	int rc = -ENOMEM;

	if (!list)
		return fail(ENOMEM, "no memory for the list of MSRs");
	list->nmsrs = MSRS_MAX;
	if (ioctl(kvm->dev, KVM_GET_MSR_INDEX_LIST, list) < 0)
		rc = failno(errno, "KVM_GET_MSR_INDEX_LIST");
	else
		b = new_msrs(list->nmsrs);
	for (uint32_t i = 0; b && i < list->nmsrs; i++)
		b->entry[i].index = list->indices[i];
	free(list);
	*out = b;
	return b ? 0 : rc;
}

/* KVM stops at the first MSR that this vCPU's CPUID does not grant: drop it and go on. */
static int read_msrs(int fd, struct msr_buffer *b)
{
	uint32_t done = 0;

	while (done < b->head.nmsrs) {
		struct msr_buffer *rest = new_msrs(b->head.nmsrs - done);
		int n;

		if (!rest)
			return -ENOMEM;
		memcpy(rest->entry, b->entry + done, rest->head.nmsrs * sizeof(b->entry[0]));
		n = ioctl(fd, KVM_GET_MSRS, rest);
		if (n > 0)
			memcpy(b->entry + done, rest->entry, (size_t)n * sizeof(b->entry[0]));
		free(rest);
		if (n < 0)
			return failno(errno, "KVM_GET_MSRS");
		done += (uint32_t)n;
		if (done < b->head.nmsrs) {
			memmove(b->entry + done, b->entry + done + 1,
				(b->head.nmsrs - done - 1) * sizeof(b->entry[0]));
			b->head.nmsrs--;
		}
	}
	return 0;
}

static int save_msrs(int fd, const struct kvm *kvm, struct stream_out *s)
{
	struct msr_buffer *b;
	int rc = list_msrs(kvm, &b);

	if (rc)
		return rc;
	rc = read_msrs(fd, b);
	if (!rc) {
		stream_put_u32(s, b->head.nmsrs);
		for (uint32_t i = 0; i < b->head.nmsrs; i++) {
			stream_put_u32(s, b->entry[i].index);
			stream_put_u64(s, b->entry[i].data);
		}
	}
	free(b);
	return rc;
}

/*
 * One at a time past a refusal: some MSRs can be read but not written with the value read (a host's
 * own choice, as of its feature registers), and the guest has not been able to change those either.
 */
static int write_msrs(int fd, struct msr_buffer *b)
{
	uint32_t done = 0, total = b->head.nmsrs;

	while (done < total) {
		int n;

		b->head.nmsrs = total - done;
		n = ioctl(fd, KVM_SET_MSRS, b);
		if (n < 0)
			return failno(errno, "KVM_SET_MSRS");
		if (done + (uint32_t)n < total)
			log_debug("MSR 0x%x keeps its value", b->entry[n].index), n++;
		done += (uint32_t)n;
		memmove(b->entry, b->entry + n, (total - done) * sizeof(b->entry[0]));
	}
	return 0;
}

static int load_msrs(int fd, struct stream_in *s)
{
	uint32_t n = stream_get_u32(s);
	struct msr_buffer *b;
	int rc;

	if (n > MSRS_MAX)
		return stream_bad(s, "number of MSRs");
	b = new_msrs(n);
	if (!b)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		b->entry[i].index = stream_get_u32(s);
		b->entry[i].data = stream_get_u64(s);
	}
	rc = s->err ? s->err : write_msrs(fd, b);
	free(b);
	return rc;
}

int vcpu_state_save(int fd, const struct kvm *kvm, struct stream_out *s)
{
	int khz = ioctl(fd, KVM_GET_TSC_KHZ, 0);
	int rc;

	stream_begin(s, "vcpu", 1);
	stream_put_u32(s, khz > 0 ? (uint32_t)khz : 0);
	rc = save_parts(fd, s, before_msrs, ARRAY_SIZE(before_msrs));
	if (!rc)
		rc = save_msrs(fd, kvm, s);
	if (!rc)
		rc = save_parts(fd, s, after_msrs, ARRAY_SIZE(after_msrs));
	stream_end(s);
	return rc ? rc : s->err;
}

/* Only a host whose TSC runs at another rate needs to be told; not every host can be. */
static int match_tsc(int fd, uint32_t khz)
{
	int own = ioctl(fd, KVM_GET_TSC_KHZ, 0);

	if (!khz || own <= 0 || (uint32_t)own == khz)
		return 0;
	if (ioctl(fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		return failno(errno, "TSC of %u kHz on a host of %d kHz", khz, own);
	return 0;
}

int vcpu_state_load(int fd, const struct kvm *kvm, struct stream_in *s)
{
	int rc = stream_open(s, "vcpu", 1);

	if (rc < 0)
		return rc;
	rc = match_tsc(fd, stream_get_u32(s));
	if (!rc)
		rc = load_parts(fd, s, before_msrs, ARRAY_SIZE(before_msrs));
	if (!rc)
		rc = load_msrs(fd, s);
	if (!rc)
		rc = load_parts(fd, s, after_msrs, ARRAY_SIZE(after_msrs));
	return rc ? rc : stream_close(s);
}
