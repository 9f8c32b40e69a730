// SPDX-License-Identifier: MIT
// kvick image check: with JSON by the names that `qemu-img check` has for it.
#include "base/json.h"
#include "base/log.h"
#include "blk/qcow2_check.h"
#include "cli/image/image.h"

#include <errno.h>
#include <stdio.h>

static void found(void *arg, const char *line)
{
	const struct image_options *o = arg;

	fprintf(o->json ? stderr : stdout, "%s\n", line);
}

static int print_json(const struct qcow2_report *r, const char *path, const char *format)
{
	json_t *o = json_object();

	json_add_string(&o, "filename", path);
	json_add_string(&o, "format", format);
	json_add_uint(&o, "check-errors", r->check_errors);
	json_add_uint(&o, "corruptions", r->corruptions);
	json_add_uint(&o, "leaks", r->leaks);
	json_add_uint(&o, "corruptions-fixed", r->corruptions_fixed);
	json_add_uint(&o, "leaks-fixed", r->leaks_fixed);
	json_add_uint(&o, "total-clusters", r->total_clusters);
	json_add_uint(&o, "allocated-clusters", r->allocated_clusters);
	json_add_uint(&o, "fragmented-clusters", r->fragmented_clusters);
	json_add_uint(&o, "compressed-clusters", r->compressed_clusters);
	json_add_uint(&o, "image-end-offset", r->image_end);
	return tool_print(o);
}

static void print_text(const struct qcow2_report *r, const char *path)
{
	const uint64_t errors = r->corruptions + r->check_errors;

	if (r->corruptions_fixed || r->leaks_fixed)
		printf("%s: repaired: %llu errors, %llu leaked clusters\n", path,
			(unsigned long long)r->corruptions_fixed,
			(unsigned long long)r->leaks_fixed);
	if (errors || r->leaks)
		printf("%s: %llu errors, %llu leaked clusters%s\n", path,
			(unsigned long long)errors, (unsigned long long)r->leaks,
			errors ? ": the image is damaged" : ": storage is lost, and no data");
	else
		printf("%s: no errors\n", path);
	printf("%s: %llu of %llu clusters are allocated, %llu of them compressed\n", path,
		(unsigned long long)r->allocated_clusters, (unsigned long long)r->total_clusters,
		(unsigned long long)r->compressed_clusters);
}

static int check_qcow2(struct tool *t, struct blk *file)
{
	const struct image_options *o = t->o;
	struct qcow2_report r = {.found = found, .arg = (void *)(uintptr_t)o};
	int rc = qcow2_check(&r, file, o->repair ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_NOTHING);

	if (rc)
		return rc;
	if (o->json)
		rc = print_json(&r, file->name, "qcow2");
	else
		print_text(&r, file->name);
	if (!rc && (r.corruptions || r.check_errors))
		rc = STATUS_CORRUPT;
	return rc || !r.leaks ? rc : STATUS_LEAKS;
}

/* Whether each of its tables can be read. There is nothing in it that could be repaired. */
static int check_vmdk(struct tool *t)
{
	const struct image_options *o = t->o;
	const struct tool_image i = {.path = o->words.items[0], .format = IMAGE_VMDK};
	struct blk_extent x;
	struct blk *b;
	int rc = tool_open(t, &b, &i);

	if (rc)
		return rc;
	for (uint64_t off = 0; !rc && off < b->size; off += x.len) {
		rc = blk_map(b, off, b->size - off, &x);
		if (rc)
			failno(-rc, "%s: byte %llu: what is there", b->name,
				(unsigned long long)off);
	}
	blk_destroy(b);
	if (!rc && o->json)
		rc = print_json(&(struct qcow2_report){0}, i.path, "vmdk");
	else if (!rc)
		printf("%s: no errors\n", i.path);
	return rc;
}

int image_check(struct tool *t)
{
	const struct image_options *o = t->o;
	struct tool_file f = {
		.path = o->words.items[0], .format = o->format, .write = o->repair, .lock = true};
	int rc = tool_open_file(t, &f);

	if (rc)
		return rc;
	if (f.format == IMAGE_QCOW2)
		rc = check_qcow2(t, f.blk);
	else if (f.format == IMAGE_RAW)
		rc = fail(ENOTSUP, "%s: a raw image has nothing that could be checked", f.path);
	blk_destroy(f.blk);
	return f.format == IMAGE_VMDK && !rc ? check_vmdk(t) : rc;
}
