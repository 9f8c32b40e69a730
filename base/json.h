// SPDX-License-Identifier: MIT
// Objects of JSON from plain values. The library's json_pack does this too, and is ten kilobytes.
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Adds `value`, which it owns, to the object. Where that cannot be, or `value` is NULL, the object
 * is released and *object is NULL, with which the other calls do nothing: who makes an object asks
 * once, at the end. NULL is "out of memory", or a text that is not UTF-8.
 */
void json_add(json_t **object, const char *key, json_t *value);

void json_add_string(json_t **object, const char *key, const char *text);
void json_add_uint(json_t **object, const char *key, uint64_t n);
void json_add_bool(json_t **object, const char *key, bool on);
void json_add_real(json_t **object, const char *key, double n);

#endif
