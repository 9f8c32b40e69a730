// SPDX-License-Identifier: MIT
// What every unit test includes, in the order cmocka wants.
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#undef fail /* the name is base/log.h's; fail_msg says more */

#endif
