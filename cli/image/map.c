// SPDX-License-Identifier: MIT
// kvick image map: with JSON as `qemu-img map` has it.
#include "base/json.h"
#include "base/log.h"
#include "cli/image/image.h"

#include <stdio.h>

struct stretch {
	uint64_t off;
	struct blk_extent x;
};

/* Whether `next` is more of the same. */
static bool joins(const struct stretch *s, const struct blk_extent *next)
{
	const struct blk_extent *x = &s->x;

	return next->kind == x->kind && next->depth == x->depth &&
	       next->compressed == x->compressed && next->placed == x->placed &&
	       (!x->placed || next->at == x->at + x->len);
}

static void print_line(const struct stretch *s)
{
	static const char *const kinds[] = {"absent", "zero", "data"};

	printf("%#14llx %#14llx %-10s %5u", (unsigned long long)s->off,
		(unsigned long long)s->x.len, s->x.compressed ? "compressed" : kinds[s->x.kind],
		s->x.depth);
	if (s->x.placed)
		printf(" %#14llx", (unsigned long long)s->x.at);
	putchar('\n');
}

static void print_json(const struct stretch *s)
{
	bool data = s->x.kind == BLK_EXTENT_DATA;

	printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, "
	       "\"zero\": %s, \"data\": %s, \"compressed\": %s",
		s->off ? ",\n" : "[", (unsigned long long)s->off, (unsigned long long)s->x.len,
		s->x.depth, s->x.kind == BLK_EXTENT_ABSENT ? "false" : "true",
		data ? "false" : "true", data ? "true" : "false",
		s->x.compressed ? "true" : "false");
	if (s->x.placed)
		printf(", \"offset\": %llu", (unsigned long long)s->x.at);
	putchar('}');
}

static int map(struct blk *b, void (*print)(const struct stretch *s))
{
	struct stretch s = {0};

	for (uint64_t off = 0; off < b->size;) {
		struct blk_extent x;
		int rc = blk_map(b, off, b->size - off, &x);

		if (rc)
			return failno(-rc, "%s: byte %llu: what is there", b->name,
				(unsigned long long)off);
		if (s.x.len && joins(&s, &x)) {
			s.x.len += x.len;
		} else {
			if (s.x.len)
				print(&s);
			s = (struct stretch){off, x};
		}
		off += x.len;
	}
	if (s.x.len)
		print(&s);
	return 0;
}

int image_map(struct tool *t)
{
	const struct image_options *o = t->o;
	const struct tool_image i = {.path = o->words.items[0], .format = o->format};
	struct blk *b;
	int rc = tool_open(t, &b, &i);

	if (rc)
		return rc;
	if (!o->json)
		printf("%14s %14s %-10s %5s %14s\n", "START", "LENGTH", "KIND", "DEPTH",
			"IN FILE AT");
	rc = map(b, o->json ? print_json : print_line);
	if (o->json)
		puts(rc ? "" : "]");
	blk_destroy(b);
	return rc;
}
