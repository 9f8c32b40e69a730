// SPDX-License-Identifier: MIT
// Objects of JSON from plain values.
#include "base/json.h"

void json_add(json_t **object, const char *key, json_t *value)
{
	if (json_object_set_new(*object, key, value) == 0)
		return;
	json_decref(*object);
	*object = NULL;
}

void json_add_string(json_t **object, const char *key, const char *text)
{
	json_add(object, key, json_string(text));
}

void json_add_uint(json_t **object, const char *key, uint64_t n)
{
	json_add(object, key, json_integer((json_int_t)n));
}

void json_add_bool(json_t **object, const char *key, bool on)
{
	json_add(object, key, json_boolean(on));
}

void json_add_real(json_t **object, const char *key, double n)
{
	json_add(object, key, json_real(n));
}
