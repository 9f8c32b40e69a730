// SPDX-License-Identifier: MIT
// Objects of JSON from plain values: what is added is there, and one that fails gives all up.
#include "base/json.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

static void test_each_kind(void **state)
{
	json_t *o = json_object();
	char *text;

	json_add_string(&o, "name", "a \"quoted\" one");
	json_add_uint(&o, "size", 1ull << 40);
	json_add_bool(&o, "yes", true);
	json_add_bool(&o, "no", false);
	json_add_real(&o, "half", 0.5);
	json_add(&o, "list", json_array());
	assert_non_null(o);
	text = json_dumps(o, JSON_COMPACT);
	assert_string_equal(text, "{\"name\":\"a \\\"quoted\\\" one\",\"size\":1099511627776,"
				  "\"yes\":true,\"no\":false,\"half\":0.5,\"list\":[]}");
	free(text);
	json_decref(o);
}

/* The sanitizer sees what is not released. */
static void test_one_that_fails(void **state)
{
	json_t *o = json_object(), *inner = json_object();

	json_add_uint(&o, "before", 1);
	json_add_string(&o, "path", "not \xff UTF-8");
	assert_null(o);
	json_add(&o, "after", json_string("kept by no one"));
	json_add_bool(&o, "after", true);
	assert_null(o);

	json_add_string(&inner, "path", NULL);
	o = json_object();
	json_add(&o, "inner", inner);
	assert_null(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_kind),
		cmocka_unit_test(test_one_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
