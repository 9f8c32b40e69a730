// SPDX-License-Identifier: MIT
// Any text as modules.dep: what is resolved is within it, and it ends.
#include "base/util.h"
#include "loader/modules_dep.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEEN_MAX 1000u

struct seen {
	const struct dep_text *dep;
	unsigned count;
	struct {
		const char *path;
		size_t len;
	} listed[SEEN_MAX];
};

static bool is_listed(const void *arg, const char *path, size_t len)
{
	const struct seen *s = arg;

	for (unsigned i = 0; i < s->count; i++)
		if (s->listed[i].len == len && !memcmp(s->listed[i].path, path, len))
			return true;
	return false;
}

static int see(void *arg, const char *path, size_t len)
{
	struct seen *s = arg;

	if (path < s->dep->text || !range_ok((uint64_t)(path - s->dep->text), len, s->dep->len))
		abort();
	if (is_listed(s, path, len))
		abort();
	if (s->count == SEEN_MAX)
		return -1;
	s->listed[s->count].path = path;
	s->listed[s->count++].len = len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dep_text dep = {.text = malloc(size + 1), .len = size};
	struct seen s = {.dep = &dep};
	const char *line;
	size_t len;

	if (size)
		memcpy(dep.text, data, size);
	dep.text[size] = '\0';
	line = dep_find(&dep, "a", &len);
	if (line)
		dep_each(&dep, line, len, &(struct dep_list){see, is_listed, &s});
	dep_is_builtin(&dep, "b_c");
	free(dep.text);
	return 0;
}
