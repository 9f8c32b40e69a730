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

static int check_members(const json_t *request)
{
	const json_t *verb = json_object_get(request, "verb");
	const json_t *args = json_object_get(request, "args");
	const char *key;
	json_t *v;

	if (!json_is_string(verb))
		return fail(EINVAL, "a request is an object with a string \"verb\"");
	json_object_foreach((json_t *)(uintptr_t)request, key, v)
	{
		if (strcmp(key, "verb") && strcmp(key, "args") && strcmp(key, "id"))
			return fail(EINVAL, "%s: unknown member \"%.64s\"", json_string_value(verb),
				key);
	}
	if (args && !json_is_object(args))
		return fail(EINVAL, "%s: \"args\" must be an object", json_string_value(verb));
	return 0;
}

/* The result, or NULL with a message. */
static json_t *run(struct api *a, const json_t *request, struct api_fds *fds)
{
	json_t *result = NULL;
	int rc = check_members(request);

	if (!rc)
		rc = api_call(a, json_string_value(json_object_get(request, "verb")),
			json_object_get(request, "args"), fds, &result);
	return rc < 0 ? NULL : result;
}

static size_t find(const char *data, size_t len)
{
	const char *end = memchr(data, '\n', len);

	return end ? (size_t)(end - data) + 1 : 0;
}

static void lines_answer(
	struct api *a, const char *data, size_t len, struct api_fds *fds, struct api_out *out)
{
	json_error_t err;
	json_t *request;

	if (strspn(data, " \t\r") == len - 1) {
		api_fds_close(fds);
		return;
	}
	request = json_loadb(data, len - 1, JSON_REJECT_DUPLICATES, &err);
	if (!request)
		fail(EINVAL, "not JSON: %s", err.text);
	answer(out, request ? run(a, request, fds) : NULL, json_object_get(request, "id"));
	api_fds_close(fds);
	json_decref(request);
}

static void refuse(struct api_out *out)
{
	answer(out, NULL, NULL);
}

const struct api_dialect api_lines = {
	.max = KIB(64),
	.find = find,
	.answer = lines_answer,
	.refuse = refuse,
};
