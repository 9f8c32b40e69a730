// SPDX-License-Identifier: MIT
// The control socket's dialect on any bytes: it takes what it says it takes, and every answer is a
// line of JSON.
#include "api/dialect.h"
#include "api/verbs.h"
#include "base/util.h"
#include "tests/unit/fake_machine.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answers(const struct api_out *out)
{
	const char *at = out->buf, *end = out->buf + out->len;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		json_t *answer = newline ? json_loadb(at, (size_t)(newline - at), 0, NULL) : NULL;

		if (!json_is_boolean(json_object_get(answer, "ok")))
			abort();
		json_decref(answer);
		at = newline + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine m = {.state = MACHINE_RUNNING};
	struct api api = {.machine = &m, .name = "fuzz", .cpus = 1, .memory = MIB(1)};
	struct api_out out = {0};
	size_t at = 0, n;

	do {
		n = api_lines.take(&api, (const char *)data + at, size - at, &out);
		if (n > size - at)
			abort();
		at += n;
	} while (n);
	if (memchr(data + at, '\n', size - at))
		abort();
	check_answers(&out);
	free(out.buf);
	return 0;
}
