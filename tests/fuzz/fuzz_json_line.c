// SPDX-License-Identifier: MIT
// The control socket's dialect on any bytes: it finds what is there, every answer is a line of
// JSON, and no descriptor that came with a request is left open.
#include "api/dialect.h"
#include "api/verbs.h"
#include "base/util.h"
#include "tests/unit/fake_machine.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

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

/* A request of these bytes, with as many descriptors as its length says: most have none. */
static void answer(struct api *api, const char *line, size_t len, struct api_out *out)
{
	unsigned count = len % 16 <= API_FDS_MAX ? (unsigned)(len % 16) : 0;
	struct api_fds fds = {.count = count};
	int fd[API_FDS_MAX];

	for (unsigned i = 0; i < count; i++)
		fd[i] = fds.fd[i] = eventfd(0, EFD_CLOEXEC);
	api_lines.answer(api, line, len, &fds, out);
	for (unsigned i = 0; i < count; i++)
		if (fcntl(fd[i], F_GETFD) >= 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine m = {.state = MACHINE_RUNNING};
	struct api api = {.machine = &m, .name = "fuzz", .cpus = 1, .memory = MIB(1)};
	struct api_out out = {0};
	const char *text = (const char *)data;
	size_t at = 0, n;

	while ((n = api_lines.find(text + at, size - at)) > 0) {
		if (n > size - at)
			abort();
		answer(&api, text + at, n, &out);
		at += n;
	}
	if (memchr(data + at, '\n', size - at))
		abort();
	check_answers(&out);
	free(out.buf);
	return 0;
}
