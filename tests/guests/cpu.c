// SPDX-License-Identifier: MIT
// Processors of a test guest: their tables, interrupts and exceptions, and how more are started.
#include "tests/guests/guest.h"

#include <string.h>

struct tss {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, io_map;
	uint8_t ports[65536 / 8 + 1]; /* all permitted */
} __attribute__((packed));

struct gate {
	uint16_t low, selector;
	uint8_t ist, type;
	uint16_t middle;
	uint32_t high, reserved;
};

struct pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

/* As common_vector in start.S leaves it. */
struct frame {
	uint64_t rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, flags, rsp, ss;
};

extern uint64_t gdt_tss[];
extern char vectors[], stacks[], ap_code[], ap_code_end[];
extern uint32_t ap_number;
void cpu_init(unsigned number);
void cpu_main(unsigned number);
void vector_entry(struct frame *f);

static struct tss tss[CPUS_MAX];
static struct gate idt[VECTORS];
static volatile uint32_t counts[VECTORS];
static void (*mains[CPUS_MAX])(unsigned number);

/* In ring 0: as short as can be. */
void cpu_init(unsigned number)
{
	struct pointer p = {sizeof(idt) - 1, (uint64_t)idt};
	uint64_t at = (uint64_t)&tss[number];

	tss[number].rsp[0] = (uint64_t)stacks + (2ull * number + 1) * STACK_SIZE;
	tss[number].io_map = offsetof(struct tss, ports);
	gdt_tss[2 * number] = (sizeof(struct tss) - 1) | (at & 0xffffff) << 16 | 0x89ull << 40 |
			      (at >> 24 & 0xff) << 56;
	gdt_tss[2 * number + 1] = at >> 32;
	__asm__ volatile("lidt %0" : : "m"(p));
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS + 16 * number));
}

static void fill_idt(void)
{
	for (unsigned i = 0; i < VECTORS; i++) {
		uint64_t at = (uint64_t)vectors + 16ull * i;

		idt[i] = (struct gate){.low = (uint16_t)at,
			.middle = (uint16_t)(at >> 16),
			.high = (uint32_t)(at >> 32),
			.selector = SEL_KERNEL_CODE,
			.type = 0x8e};
	}
}

void cpu_main(unsigned number)
{
	if (number) {
		mains[number](number);
		spin();
	}
	fill_idt();
	guest_main();
	print("\nSUCCESS\n");
	power_off();
}

/* ---- Interrupts ---- */

#define LAPIC_EOI 0xb0u
#define LAPIC_SPURIOUS 0xf0u
#define LAPIC_ENABLE 0x100u
#define VECTOR_SPURIOUS 63u

/* What kernel_call leaves in RAX at the undefined instruction by which it enters ring 0. */
#define CALL_MAGIC 0x6c6c6163u
#define CALL_LENGTH 2 /* of that instruction */
#define VECTOR_UNDEFINED 6u
#define FLAG_IF 0x200u

static uint64_t fault_address(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr2, %0" : "=r"(v));
	return v;
}

static _Noreturn void exception(const struct frame *f)
{
	print("\nexception ");
	print_number(f->vector);
	print(" error ");
	print_hex(f->error);
	print(" cr2 ");
	print_hex(fault_address());
	print(" cs ");
	print_hex(f->cs);
	fail("rip", 0, "an instruction failed", f->rip);
}

void vector_entry(struct frame *f)
{
	if (f->vector >= VECTOR_IRQ) {
		__atomic_fetch_add(&counts[f->vector], 1, __ATOMIC_RELEASE);
		if (f->vector != VECTOR_SPURIOUS)
			mmio_write(LAYOUT_LAPIC + LAPIC_EOI, 0);
	} else if (f->vector == VECTOR_UNDEFINED && f->rax == CALL_MAGIC) {
		void (*function)(void *arg) = (void (*)(void *))f->rdi;

		f->rip += CALL_LENGTH;
		if (function)
			function((void *)f->rsi);
		else
			f->flags |= FLAG_IF;
	} else {
		exception(f);
	}
}

void kernel_call(void (*function)(void *arg), void *arg)
{
	__asm__ volatile("ud2" : : "a"(CALL_MAGIC), "D"(function), "S"(arg) : "memory");
}

void irq_enable(void)
{
	kernel_call(NULL, NULL);
}

uint32_t irq_count(unsigned vector)
{
	return __atomic_load_n(&counts[vector], __ATOMIC_ACQUIRE);
}

void irq_init(void)
{
	out8(0x21, 0xff); /* the two PICs: nothing through them */
	out8(0xa1, 0xff);
	mmio_write(LAYOUT_LAPIC + LAPIC_SPURIOUS, LAPIC_ENABLE | VECTOR_SPURIOUS);
}

static void ioapic_write(unsigned reg, uint32_t v)
{
	mmio_write(LAYOUT_IOAPIC, reg);
	mmio_write(LAYOUT_IOAPIC + 0x10, v);
}

void irq_route(unsigned gsi, unsigned vector)
{
	ioapic_write(0x11 + 2 * gsi, mmio_read(LAYOUT_LAPIC + 0x20) & 0xff000000u);
	ioapic_write(0x10 + 2 * gsi, vector);
}

/* ---- Further processors ---- */

#define ICR_INIT 0x4500u
#define ICR_STARTUP 0x4600u

static void send_ipi(unsigned to, uint32_t what)
{
	mmio_write(LAYOUT_LAPIC + LAPIC_ICR_HIGH, to << 24);
	mmio_write(LAYOUT_LAPIC + LAPIC_ICR_LOW, what);
}

void cpu_start(unsigned number, void (*main)(unsigned number))
{
	CHECK(number > 0 && number < CPUS_MAX);
	irq_init();
	mains[number] = main;
	ap_number = number;
	memcpy((void *)(uint64_t)AP_CODE, ap_code, (size_t)(ap_code_end - ap_code));
	fence();
	send_ipi(number, ICR_INIT);
	send_ipi(number, ICR_STARTUP | AP_CODE >> 12);
}
