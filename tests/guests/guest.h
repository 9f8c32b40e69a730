// SPDX-License-Identifier: MIT
// What a bare-metal test guest is written with.
//
// A guest is one file with a `guest_main`, which runs at CPL 3 with the right to every port and
// every address (start.S says why). It returns where the property that it is about holds: then
// "SUCCESS" is printed and the machine powered off. Else it calls fail(), or ends the machine in
// the way that it is to test. Nothing is to be waited for with a time limit: who runs the guest
// has one.
#ifndef TESTS_GUESTS_GUEST_H
#define TESTS_GUESTS_GUEST_H

#include "hw/layout.h"
#include "tests/guests/machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Provided by the guest ---- */

void guest_main(void);

/* Optional: in ring 0 on each processor, before its main. */
void guest_kernel(unsigned cpu);

/* ---- Ports and memory-mapped registers ---- */

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* Plain moves, whatever the compiler would rather do: KVM has to emulate them. */
static inline uint32_t mmio_read(uint64_t addr)
{
	uint32_t v;

	__asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(addr) : "memory");
	return v;
}

static inline void mmio_write(uint64_t addr, uint32_t v)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(v), "r"(addr) : "memory");
}

static inline uint16_t mmio_read16(uint64_t addr)
{
	uint16_t v;

	__asm__ volatile("movw (%1), %0" : "=r"(v) : "r"(addr) : "memory");
	return v;
}

static inline void mmio_write16(uint64_t addr, uint16_t v)
{
	__asm__ volatile("movw %0, (%1)" : : "r"(v), "r"(addr) : "memory");
}

static inline uint8_t mmio_read8(uint64_t addr)
{
	uint8_t v;

	__asm__ volatile("movb (%1), %0" : "=q"(v) : "r"(addr) : "memory");
	return v;
}

static inline void mmio_write8(uint64_t addr, uint8_t v)
{
	__asm__ volatile("movb %0, (%1)" : : "q"(v), "r"(addr) : "memory");
}

static inline void relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Another processor may have written to what is read after it, and sees what was written before. */
static inline void fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- The console ---- */

void print(const char *text);
void print_char(char c);
void print_number(uint64_t v); /* decimal */
void print_hex(uint64_t v);

/* After whatever a guest has done to the port. */
void serial_init(void);

/* ---- The clock: a register of it ---- */

static inline uint8_t rtc_get(uint8_t reg)
{
	out8(PORT_RTC, reg);
	return in8(PORT_RTC + 1);
}

static inline void rtc_set(uint8_t reg, uint8_t v)
{
	out8(PORT_RTC, reg);
	out8(PORT_RTC + 1, v);
}

/* ---- The end ---- */

_Noreturn void power_off(void);
_Noreturn void fail(const char *file, int line, const char *what, uint64_t value);
_Noreturn void spin(void);

#define STOP(what) fail(__FILE__, __LINE__, what, 0)
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail(__FILE__, __LINE__, #cond, 0);                                        \
	} while (0)
/* The left side is shown. */
#define CHECK_EQUAL(got, want)                                                                     \
	do {                                                                                       \
		uint64_t got_ = (got);                                                             \
		if (got_ != (uint64_t)(want))                                                      \
			fail(__FILE__, __LINE__, #got " == " #want, got_);                         \
	} while (0)

/* ---- What it was told at its start ---- */

extern uint64_t boot_pvh_info, boot_linux_params; /* 0 where it was not entered that way */

const char *cmdline(void);
bool told(const char *word); /* is it a word of the command line? */

/* The number in the word that begins with `key`, as "seed="; `otherwise` where there is none. */
uint64_t told_number(const char *key, uint64_t otherwise);

/* ---- Memory: `align` is a power of two; zeroed; never given back. ---- */

void *alloc(size_t len, size_t align);

/* ---- Interrupts ---- */

#define VECTOR_IRQ 32u /* and up: what irq_route may be given */

/* Brings up the local APIC of this processor. */
void irq_init(void);

/* Delivers IOAPIC pin `gsi`, edge triggered, to this processor as `vector`. */
void irq_route(unsigned gsi, unsigned vector);

/* How often it has arrived. */
uint32_t irq_count(unsigned vector);

/* Lets this processor take interrupts from here on. */
void irq_enable(void);

/* ---- Ring 0 ---- */

/* Calls it in ring 0, interrupts off: every instruction there may cost half a microsecond. */
void kernel_call(void (*function)(void *arg), void *arg);

/* ---- Further processors ---- */

/* Starts processor `number` (its APIC id), which calls main(number) and must not return from it. */
void cpu_start(unsigned number, void (*main)(unsigned number));

#define LAPIC_ICR_LOW 0x300u
#define LAPIC_ICR_HIGH 0x310u

#endif
