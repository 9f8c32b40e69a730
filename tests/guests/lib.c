// SPDX-License-Identifier: MIT
// The console, the end, the command line and memory of a test guest.
#include "tests/guests/guest.h"

#include <string.h>

/* Programs that want a kernel look for this. */
const char banner[] __attribute__((used)) = "Linux version 0.0.0-guest (bare metal) #1";

/* ---- What the compiler calls ---- */

void *memset(void *to, int c, size_t n)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* ---- The console ---- */

void serial_init(void)
{
	out8(PORT_COM1 + 3, 0x03); /* 8 bits, no access to the divisor */
	out8(PORT_COM1 + 1, 0);
	out8(PORT_COM1 + 2, 0x01);
	out8(PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2; not looped back */
}

/* Whether a burst of 16 may follow is asked once for each. */
void print_char(char c)
{
	static unsigned left;

	while (!left) {
		if (in8(PORT_COM1 + 5) & 0x20)
			left = 16;
		else
			relax();
	}
	left--;
	out8(PORT_COM1, (uint8_t)c);
}

void print(const char *text)
{
	while (*text)
		print_char(*text++);
}

static void print_digits(uint64_t v, unsigned base)
{
	char text[24], *at = text + sizeof(text) - 1;

	*at = '\0';
	do
		*--at = "0123456789abcdef"[v % base];
	while (v /= base);
	print(at);
}

void print_number(uint64_t v)
{
	print_digits(v, 10);
}

void print_hex(uint64_t v)
{
	print("0x");
	print_digits(v, 16);
}

/* ---- The end ---- */

_Noreturn void spin(void)
{
	for (;;)
		relax();
}

_Noreturn void power_off(void)
{
	out8(PORT_SLEEP_CONTROL, 5u << 2 | 0x20u);
	spin();
}

_Noreturn void fail(const char *file, int line, const char *what, uint64_t value)
{
	print("\nFAILURE: ");
	print(file);
	print(":");
	print_number((uint64_t)line);
	print(": ");
	print(what);
	print(" (");
	print_hex(value);
	print(")\n");
	power_off();
}

/* ---- What it was told ---- */

/* hvm_start_info has the command line's address at 24, boot_params at 0x228. */
const char *cmdline(void)
{
	uint64_t at = boot_pvh_info ? *(const uint64_t *)(boot_pvh_info + 24)
				    : *(const uint32_t *)(boot_linux_params + 0x228);

	return (const char *)at;
}

static size_t word_length(const char *s)
{
	size_t n = 0;

	while (s[n] && s[n] != ' ')
		n++;
	return n;
}

static const char *next_word(const char *s)
{
	s += word_length(s);
	while (*s == ' ')
		s++;
	return s;
}

bool told(const char *word)
{
	size_t n = strlen(word);

	for (const char *s = cmdline(); *s; s = next_word(s))
		if (word_length(s) == n && !memcmp(s, word, n))
			return true;
	return false;
}

uint64_t told_number(const char *key, uint64_t otherwise)
{
	size_t n = strlen(key);

	for (const char *s = cmdline(); *s; s = next_word(s)) {
		uint64_t v = 0;

		if (word_length(s) <= n || memcmp(s, key, n))
			continue;
		for (s += n; *s >= '0' && *s <= '9'; s++)
			v = v * 10 + (uint64_t)(*s - '0');
		return v;
	}
	return otherwise;
}

/* ---- Memory ---- */

/* From 4 MiB up, past every image and all that loaders put below; 16 MiB are the least used. */
void *alloc(size_t len, size_t align)
{
	static uint64_t next = MIB(4);
	uint64_t at = align_up(next, align);

	CHECK(at + len <= MIB(14));
	next = at + len;
	return memset((void *)at, 0, len);
}
