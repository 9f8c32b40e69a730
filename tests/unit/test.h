// SPDX-License-Identifier: MIT
// What every unit test includes, in the order cmocka wants.
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#undef fail /* the name is base/log.h's; fail_msg, which is made of it, says more */
#undef fail_msg
#define fail_msg(...)                                                                              \
	do {                                                                                       \
		print_error(__VA_ARGS__);                                                          \
		print_error("\n");                                                                 \
		_fail(__FILE__, __LINE__);                                                         \
	} while (0)

#endif
