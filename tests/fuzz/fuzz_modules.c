// SPDX-License-Identifier: MIT
// Any text as modules.dep: what is resolved is within it, and it ends.
#include "base/util.h"
#include "loader/modules_dep.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	const struct dep_text *dep;
	unsigned count;
};

/* A list without any sense may have each module need all the others, so there is an end to
 * patience. */
static int see(void *arg, const char *path, size_t len)
{
	struct seen *s = arg;

	if (path < s->dep->text || !range_ok((uint64_t)(path - s->dep->text), len, s->dep->len))
		abort();
	return ++s->count > 1000 ? -1 : 0;
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
		dep_each(&dep, line, len, see, &s);
	dep_is_builtin(&dep, "b_c");
	free(dep.text);
	return 0;
}
