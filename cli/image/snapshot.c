// SPDX-License-Identifier: MIT
// kvick image snapshot
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/qcow2_snapshot.h"
#include "cli/image/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct verb {
	const char *name;
	bool named; /* a word for the snapshot follows */
	bool writes;
	int (*act)(const struct image_options *o, struct blk *file, const char *name);
};

static json_t *describe(const struct qcow2_snapshot *s)
{
	json_t *o = json_object();

	json_add_string(&o, "id", s->id);
	json_add_string(&o, "name", s->name);
	json_add_uint(&o, "disk-size", s->disk_size);
	json_add_uint(&o, "vm-state-size", s->vm_state_size);
	json_add_uint(&o, "date-sec", s->date_s);
	json_add_uint(&o, "date-nsec", s->date_ns);
	json_add_uint(&o, "vm-clock-sec", s->vm_clock_ns / NSEC_PER_SEC);
	json_add_uint(&o, "vm-clock-nsec", s->vm_clock_ns % NSEC_PER_SEC);
	return o;
}

static int print_json(const struct qcow2_snapshots *all)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < all->count; i++)
		json_array_append_new(list, describe(&all->list[i]));
	return tool_print(list);
}

static void print_text(const struct qcow2_snapshots *all)
{
	printf("%-6s %-19s %12s %12s  %s\n", "ID", "DATE", "DISK", "VM STATE", "NAME");
	for (unsigned i = 0; i < all->count; i++) {
		const struct qcow2_snapshot *s = &all->list[i];
		time_t when = s->date_s;
		char date[32] = "";
		struct tm tm;

		if (localtime_r(&when, &tm))
			strftime(date, sizeof(date), "%F %T", &tm);
		tool_put(s->id, 6);
		printf(" %-19s %12llu %12llu  ", date, (unsigned long long)s->disk_size,
			(unsigned long long)s->vm_state_size);
		tool_put(s->name, 0);
		putchar('\n');
	}
}

static int list(const struct image_options *o, struct blk *file, const char *name)
{
	struct qcow2_snapshots all = {0};
	int rc = qcow2_snapshot_list(&all, file);

	if (!rc && o->json)
		rc = print_json(&all);
	else if (!rc)
		print_text(&all);
	qcow2_snapshot_finish(&all);
	return rc;
}

static int create(const struct image_options *o, struct blk *file, const char *name)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return qcow2_snapshot_create(file, name, (uint32_t)now.tv_sec, (uint32_t)now.tv_nsec);
}

static int apply(const struct image_options *o, struct blk *file, const char *name)
{
	return qcow2_snapshot_apply(file, name);
}

static int delete (const struct image_options *o, struct blk *file, const char *name)
{
	return qcow2_snapshot_delete(file, name);
}

static const struct verb verbs[] = {
	{"list", false, false, list},
	{"create", true, true, create},
	{"apply", true, true, apply},
	{"delete", true, true, delete},
};

static int act(struct tool *t, const struct verb *v)
{
	char *const *words = t->o->words.items;
	struct tool_file f = {
		.path = words[1], .format = t->o->format, .write = v->writes, .lock = true};
	int rc = tool_open_file(t, &f);

	if (rc)
		return rc;
	if (f.format == IMAGE_QCOW2)
		rc = v->act(t->o, f.blk, words[2]);
	else
		rc = fail(ENOTSUP, "%s: a %s image has no snapshots", f.path,
			image_format_names[f.format]);
	blk_destroy(f.blk);
	return rc;
}

int image_snapshot(struct tool *t)
{
	const struct field_list *words = &t->o->words;
	const struct verb *v = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(words->items[0], verbs[i].name))
			v = &verbs[i];
	if (!v)
		return fail(EINVAL, "snapshot %s: list, create, apply or delete", words->items[0]);
	if (words->count != 2u + v->named)
		return fail(EINVAL, "usage: kvick image snapshot %s FILE%s", v->name,
			v->named ? " NAME" : "");
	return act(t, v);
}
