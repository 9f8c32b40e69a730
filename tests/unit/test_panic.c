// SPDX-License-Identifier: MIT
// Recognising a panic in console output: whole, in pieces, look-alikes, endless lines.
#include "hw/panic.h"
#include "tests/unit/test.h"

#include <string.h>

/* Feeds `text` in pieces of `step` bytes; how often the panic was told. */
static int feed(struct panic *p, const char *text, size_t step)
{
	size_t len = strlen(text);
	int told = 0;

	for (size_t i = 0; i < len; i += step)
		told += panic_feed(p, text + i, len - i < step ? len - i : step);
	return told;
}

static void test_found(void **state)
{
	static const char text[] = "[    1.100000] VFS: Cannot open root\r\n"
				   "[    1.234567] Kernel panic - not syncing: VFS: no root\r\n"
				   "[    1.234568] Kernel panic - not syncing: again\r\n";

	for (size_t step = 1; step < sizeof(text); step++) {
		struct panic p = {0};

		assert_int_equal(feed(&p, text, step), 1);
		assert_string_equal(p.text, "VFS: no root");
	}
}

static void test_where(void **state)
{
	static const struct {
		const char *text;
		int told;
	} cases[] = {
		{"Kernel panic - not syncing: x\n", 1},
		{"\nKernel panic - not syncing\n", 1},
		{"~ # [   12.3] Kernel panic - not syncing: x\n", 1},
		{"[   12.3][    T1] Kernel panic - not syncing: x\n", 1},
		{"grep 'Kernel panic - not syncing: x'\n", 0},
		{"xKernel panic - not syncing: x\n", 0},
		{"[   12.3] say: Kernel panic - not syncing: x\n", 0},
		{"Kernel panic - not singing: x\n", 0},
		{"Kernel panic - not\nKernel panic - not syncing: x\n", 1},
		{"[   12.3] Kernel pan[   12.3] Kernel panic - not syncing: x\n", 1},
		/* another CPU's bytes in between */
		{"aaaa[a a a12.3a]a aKaearanaeala apaaanaiaca a-a anaoata asayanacaianaga:a ax\n",
			1},
		{"[   12.3] Kernel panaaaaaaaaaaaaaaaa\r\nic - not syncing: x\n", 1},
		{"Kernel pan of 30 bytes, of 60 bytes, and so on, longer than the FIFO could ever "
		 "make it, twiceic - not syncing: x\n",
			0},
		{"Kernel panic - not syncing: unfinished", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct panic p = {0};

		assert_int_equal(feed(&p, cases[i].text, 1), cases[i].told);
	}
}

/* The end of the report is told too, once, after the message. */
static void test_over(void **state)
{
	static const char said[] = "[    1.2] Kernel panic - not syncing: sysrq triggered crash\r\n"
				   "[    1.3] CPU: 0 PID: 1 Comm: sh ---[ end Kernel panic\r\n";
	static const char end[] =
		"[    1.4] ---[ end Kernel panic - not syncing: sysrq triggered crash "
		"]---\r\n";
	struct panic p = {0};

	assert_int_equal(feed(&p, end, 1), 0); /* of what? */
	assert_int_equal(feed(&p, said, 1), 1);
	assert_false(p.over);
	assert_string_equal(p.text, "sysrq triggered crash");
	assert_int_equal(feed(&p, end, 1), 1);
	assert_true(p.over);
	assert_string_equal(p.text, "sysrq triggered crash");
	assert_int_equal(feed(&p, said, 1) + feed(&p, end, 1), 0);
	p = (struct panic){0};
	assert_true(panic_feed(&p, said, sizeof(said) - 1));
	assert_true(panic_feed(&p, end, sizeof(end) - 1));
	assert_true(p.over);
}

static void test_text(void **state)
{
	struct panic p = {0};
	char line[PANIC_TEXT_MAX * 3];

	memset(line, '\x1b', sizeof(line));
	assert_int_equal(feed(&p, "Kernel panic - not syncing: ", 3), 0);
	assert_true(panic_feed(&p, line, sizeof(line)));
	assert_int_equal(strlen(p.text), PANIC_TEXT_MAX);
	assert_int_equal(p.text[0], '?'); /* a terminal does not get to see it */
	p = (struct panic){0};
	assert_int_equal(feed(&p, "Kernel panic - not syncing\n", 5), 1);
	assert_string_equal(p.text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_over),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
