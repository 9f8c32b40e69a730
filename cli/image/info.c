// SPDX-License-Identifier: MIT
// kvick image info: with JSON by the names that `qemu-img info` has for it.
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/qcow2.h"
#include "blk/vmdk.h"
#include "cli/image/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What is of the formats. */
static int add_qcow2(json_t *o, const char *path, struct blk *file)
{
	struct qcow2_info q;
	json_t *more = json_object(), *data = json_object();
	int rc = qcow2_look(&q, file);

	if (!rc) {
		json_object_set_new(o, "virtual-size", json_integer((json_int_t)q.size));
		json_object_set_new(o, "cluster-size", json_integer(1ll << q.cluster_bits));
		json_object_set_new(o, "dirty-flag", json_boolean(q.dirty));
		json_object_set_new(o, "snapshots", json_integer(q.snapshots));
		json_add_string(&data, "compat", q.version == 2 ? "0.10" : "1.1");
		json_add_string(&data, "compression-type", q.zstd ? "zstd" : "zlib");
		json_add_bool(&data, "lazy-refcounts", q.lazy_refcounts);
		json_add_uint(&data, "refcount-bits", q.refcount_bits);
		json_add_bool(&data, "corrupt", q.corrupt);
		json_add_bool(&data, "extended-l2", q.extended_l2);
	}
	if (!rc && q.backing[0]) {
		CLEANUP_FREE char *full = tool_beside(path, q.backing);

		json_object_set_new(o, "backing-filename", json_string(q.backing));
		json_object_set_new(o, "full-backing-filename", json_string(full ? full : ""));
		if (q.backing_format[0])
			json_object_set_new(
				o, "backing-filename-format", json_string(q.backing_format));
	}
	json_add_string(&more, "type", "qcow2");
	json_add(&more, "data", data);
	json_object_set_new(o, "format-specific", more);
	return rc;
}

static int add_vmdk(json_t *o, struct blk *file)
{
	static struct vmdk_info v;
	json_t *more = json_object(), *data = json_object(), *extents = json_array();
	int rc = vmdk_look(&v, file);
	static const char *const kinds[] = {"FLAT", "SPARSE", "ZERO"};

	for (unsigned i = 0; i < v.count && !rc; i++) {
		json_t *x = json_object();

		json_add_string(&x, "format", kinds[v.extent[i].kind]);
		json_add_uint(&x, "virtual-size", v.extent[i].size);
		json_add_string(&x, "filename", v.extent[i].name);
		json_array_append_new(extents, x);
	}
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)v.size));
	json_add_string(&data, "create-type", v.type);
	json_add(&data, "extents", extents);
	json_add_string(&more, "type", "vmdk");
	json_add(&more, "data", data);
	json_object_set_new(o, "format-specific", more);
	return rc;
}

static int describe(struct tool *t, const char *path, enum image_format format, json_t **out)
{
	struct tool_file f = {.path = path, .format = format};
	json_t *o = json_object();
	struct stat st = {0};
	int rc = tool_open_file(t, &f);

	if (!rc && stat(path, &st) < 0)
		rc = failno(errno, "%s", path);
	if (!rc) {
		json_add_string(&o, "filename", path);
		json_add_string(&o, "format", image_format_names[f.format]);
		json_add_uint(&o, "actual-size", (uint64_t)st.st_blocks * 512);
		if (!o)
			rc = fail(ENOMEM, "%s: out of memory, or its name is not UTF-8", path);
	}
	if (!rc && f.format == IMAGE_RAW)
		json_object_set_new(o, "virtual-size", json_integer(raw_file_size(f.blk)));
	if (!rc && f.format == IMAGE_QCOW2)
		rc = add_qcow2(o, path, f.blk);
	if (!rc && f.format == IMAGE_VMDK)
		rc = add_vmdk(o, f.blk);
	blk_destroy(f.blk);
	*out = o;
	return rc;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void print_member(const char *key, const json_t *v)
{
	if (!json_is_string(v) && !json_is_integer(v) && !json_is_boolean(v))
		return;
	printf("%-24s", key);
	if (json_is_string(v))
		tool_put(json_string_value(v), 0);
	else if (json_is_integer(v))
		printf("%lld", (long long)json_integer_value(v));
	else
		fputs(json_is_true(v) ? "yes" : "no", stdout);
	putchar('\n');
}

static void print_extents(const json_t *extents)
{
	size_t i;
	json_t *x;

	json_array_foreach(extents, i, x)
	{
		printf("extent, %-16s%lld ", text_of(x, "format"),
			(long long)json_integer_value(json_object_get(x, "virtual-size")));
		tool_put(text_of(x, "filename"), 0);
		putchar('\n');
	}
}

static void print_text(json_t *o)
{
	json_t *data = json_object_get(json_object_get(o, "format-specific"), "data");
	const char *key;
	json_t *v;

	json_object_foreach(o, key, v)
	{
		print_member(key, v);
	}
	json_object_foreach(data, key, v)
	{
		print_member(key, v);
	}
	print_extents(json_object_get(data, "extents"));
}

static int print(struct tool *t, json_t *all)
{
	size_t i;
	json_t *o;

	if (t->o->json)
		return tool_print(json_incref(t->o->chain ? all : json_array_get(all, 0)));
	json_array_foreach(all, i, o)
	{
		if (i)
			putchar('\n');
		print_text(o);
	}
	return 0;
}

static int describe_chain(struct tool *t, const struct tool_image *i, json_t *all)
{
	enum image_format format;
	struct chain *c;
	int rc = tool_chain(t, &c, i);
	const char *name;

	if (rc)
		return rc;
	for (unsigned n = 0; !rc && (name = chain_image_at(c, n, &format)); n++) {
		json_t *o = NULL;

		rc = describe(t, name, format, &o);
		json_array_append_new(all, o);
	}
	chain_close(c);
	return rc;
}

int image_info(struct tool *t)
{
	const struct image_options *o = t->o;
	const struct tool_image i = {
		.path = o->words.items[0], .format = o->format, .no_lock = true};
	json_t *all = json_array(), *one = NULL;
	int rc;

	if (o->chain) {
		rc = describe_chain(t, &i, all);
	} else {
		rc = describe(t, i.path, i.format, &one);
		json_array_append_new(all, one);
	}
	rc = rc ? rc : print(t, all);
	json_decref(all);
	return rc;
}
