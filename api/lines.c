// SPDX-License-Identifier: MIT
// The dialect of JSON lines.
#include "api/dialect.h"
#include "api/verbs.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>

static int put_chunk(const char *data, size_t len, void *arg)
{
	struct api_out *out = arg;

	api_out_put(out, data, len);
	return out->err;
}

/* Takes `result` (or, where it is NULL, last_error()) and `id` (borrowed; may be NULL). */
static void answer(struct api_out *out, json_t *result, json_t *id)
{
	json_t *root = json_object(), *error;

	json_object_set_new(root, "ok", json_boolean(result != NULL));
	if (result) {
		json_object_set_new(root, "result", result);
	} else {
		/* A name cut in the middle of a character is not UTF-8 any more. */
		error = json_string(last_error());
		json_object_set_new(root, "error", error ? error : json_string("bad request"));
	}
	if (id)
		json_object_set(root, "id", id);
	if (!root || json_dump_callback(root, put_chunk, out, JSON_COMPACT) < 0)
		out->err = -ENOMEM;
	api_out_put(out, "\n", 1);
	json_decref(root);
}

static int run(struct api *a, const json_t *request, json_t **result)
{
	const json_t *verb = json_object_get(request, "verb");
	const char *key;
	json_t *v;

	if (!json_is_string(verb))
		return fail(EINVAL, "a request is an object with a string \"verb\"");
	json_object_foreach((json_t *)(uintptr_t)request, key, v)
	{
		if (strcmp(key, "verb") && strcmp(key, "id"))
			return fail(EINVAL, "%s: unknown member \"%.64s\"", json_string_value(verb),
				key);
	}
	return api_call(a, json_string_value(verb), result);
}

static void handle(struct api *a, const char *line, size_t len, struct api_out *out)
{
	json_error_t err;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err);
	json_t *result = NULL;

	if (!request)
		fail(EINVAL, "not JSON: %s", err.text);
	else if (run(a, request, &result) < 0)
		result = NULL;
	answer(out, result, json_object_get(request, "id"));
	json_decref(request);
}

static size_t take(struct api *a, const char *data, size_t len, struct api_out *out)
{
	const char *end = memchr(data, '\n', len);
	size_t line = end ? (size_t)(end - data) : 0;

	if (!end)
		return 0;
	if (strspn(data, " \t\r") < line)
		handle(a, data, line, out);
	return line + 1;
}

static void too_long(struct api_out *out)
{
	fail(EMSGSIZE, "a request has at most %zu bytes", api_lines.max);
	answer(out, NULL, NULL);
}

const struct api_dialect api_lines = {
	.max = KIB(64),
	.take = take,
	.too_long = too_long,
};
