// SPDX-License-Identifier: MIT
// Lines of modules.dep: a module's file, a colon, the files it needs, which come last to first in
// load order.
#include "loader/modules_dep.h"

#include "base/log.h"

#include <errno.h>

#define DEPTH_MAX 32

struct walk {
	const struct dep_text *dep;
	const struct dep_list *list;
};

static char plain(char c)
{
	return c == '-' ? '_' : c;
}

bool dep_is_module(const char *path, size_t path_len, const char *name)
{
	const char *slash = memrchr(path, '/', path_len);
	const char *base = slash ? slash + 1 : path;
	size_t len = path_len - (size_t)(base - path), n = strlen(name);

	if (len < n + 3 || memcmp(base + n, ".ko", 3) != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (plain(base[i]) != plain(name[i]))
			return false;
	return len == n + 3 || base[n + 3] == '.';
}

/* The next line after *pos, without its newline; NULL at the end. */
static const char *next_line(const struct dep_text *t, size_t *pos, size_t *len)
{
	const char *line, *end;

	if (!t->text || *pos >= t->len)
		return NULL;
	line = t->text + *pos;
	end = memchr(line, '\n', t->len - *pos);
	*len = end ? (size_t)(end - line) : t->len - *pos;
	*pos += *len + 1;
	return line;
}

bool dep_is_builtin(const struct dep_text *builtin, const char *name)
{
	size_t pos = 0, len;
	const char *line;

	while ((line = next_line(builtin, &pos, &len)))
		if (dep_is_module(line, len, name))
			return true;
	return false;
}

static size_t path_len(const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);

	return colon ? (size_t)(colon - line) : 0;
}

const char *dep_find(const struct dep_text *dep, const char *name, size_t *len)
{
	size_t pos = 0;
	const char *line;

	while ((line = next_line(dep, &pos, len)))
		if (dep_is_module(line, path_len(line, *len), name))
			return line;
	return NULL;
}

static const char *find_path(const struct dep_text *dep, const char *path, size_t n, size_t *len)
{
	size_t pos = 0;
	const char *line;

	while ((line = next_line(dep, &pos, len)))
		if (path_len(line, *len) == n && memcmp(line, path, n) == 0)
			return line;
	return NULL;
}

static int visit(const struct walk *w, const char *line, size_t len, unsigned depth);

static int visit_path(const struct walk *w, const char *path, size_t n, unsigned depth)
{
	size_t len;
	const char *line;

	/* Each line names all that is needed, so that the same ones come again and again. */
	if (w->list->is_listed(w->list->arg, path, n))
		return 0;
	line = find_path(w->dep, path, n, &len);
	if (!line)
		return fail(
			ENOENT, "modules.dep has no line for %.*s, which is needed", (int)n, path);
	return visit(w, line, len, depth);
}

static int visit(const struct walk *w, const char *line, size_t len, unsigned depth)
{
	size_t own = path_len(line, len), end = len;

	if (depth == DEPTH_MAX)
		return fail(ELOOP, "modules.dep goes round in circles at %.*s", (int)own, line);
	while (end > own + 1) {
		size_t start;
		int rc = 0;

		while (end > own + 1 && line[end - 1] == ' ')
			end--;
		for (start = end; start > own + 1 && line[start - 1] != ' ';)
			start--;
		if (start < end)
			rc = visit_path(w, line + start, end - start, depth + 1);
		if (rc)
			return rc;
		end = start;
	}
	return w->list->is_listed(w->list->arg, line, own) ? 0
							   : w->list->add(w->list->arg, line, own);
}

int dep_each(const struct dep_text *dep, const char *line, size_t len, const struct dep_list *list)
{
	const struct walk w = {.dep = dep, .list = list};

	return visit(&w, line, len, 0);
}
