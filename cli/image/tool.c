// SPDX-License-Identifier: MIT
// What all commands do: open images, print JSON.
#include "cli/image/image.h"
#include "cli/image/nothing.h"

#include "base/log.h"

#include "base/fd.h"
#include "blk/lock.h"
#include "blk/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int tool_chain(struct tool *t, struct chain **out, const struct tool_image *i)
{
	const struct chain_options c = {
		.path = i->path,
		.format = i->format,
		.read_only = !i->write,
		.trust = t->o->trust,
		.how = "--trust-backing",
		.instead = i->alone ? nothing_create : NULL,
		.no_lock = i->no_lock,
	};

	return chain_open(out, &c);
}

int tool_open(struct tool *t, struct blk **out, const struct tool_image *i)
{
	struct chain *c;
	int rc = tool_chain(t, &c, i);

	return rc ? rc : chain_create(out, c, t->engine, t->decompressor);
}

static int probe_file(struct tool_file *f, int fd)
{
	uint8_t head[PROBE_BYTES];
	ssize_t n = fd_pread_full(fd, head, sizeof(head), 0);
	const char *name = n < 0 ? NULL : probe_format(head, (size_t)n);

	if (n < 0)
		return failno((int)-n, "%s", f->path);
	f->format = IMAGE_RAW;
	while (name && image_format_names[f->format] && strcmp(name, image_format_names[f->format]))
		f->format++;
	if (!image_format_names[f->format])
		return fail(ENOTSUP,
			"%s: it is a %s image, which is not known here; --format raw takes it as "
			"it is",
			f->path, name);
	return 0;
}

static int open_path(const struct tool_file *f)
{
	struct stat st;
	int fd, rc;

	if (stat(f->path, &st) < 0)
		return failno(errno, "%s", f->path);
	rc = raw_check_kind(st.st_mode, f->path);
	if (rc)
		return rc;
	fd = open(f->path, (f->write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
				   (f->write && S_ISBLK(st.st_mode) ? O_EXCL : 0));
	return fd < 0 ? failno(errno, "%s", f->path) : fd;
}

int tool_open_file(struct tool *t, struct tool_file *f)
{
	CLEANUP_FD int fd = open_path(f);
	struct raw_config c = {
		.name = f->path, .fd = fd, .read_only = !f->write, .holds_format = true};
	int rc = MIN(fd, 0);

	if (!rc && f->lock)
		c.lock_fd = rc = lock_image(fd, !f->write, f->path);
	rc = MIN(rc, 0);
	if (!rc && f->format == IMAGE_PROBED)
		rc = probe_file(f, fd);
	rc = rc ? rc : raw_create(&f->blk, t->engine, &c);
	if (rc)
		lock_release(c.lock_fd);
	else
		steal_fd(&fd);
	return rc;
}

int tool_check_name(const char *name)
{
	if (name[strcspn(name, ":/")] != ':')
		return 0;
	return fail(EINVAL,
		"backing file %s: the image's users would not take that for a file's name: "
		"./%s is one",
		name, name);
}

char *tool_beside(const char *of, const char *name)
{
	const char *slash = strrchr(of, '/');
	int dir = name[0] == '/' || !slash ? 0 : (int)(slash + 1 - of);
	char *path = NULL;

	if (asprintf(&path, "%.*s%s", dir, of, name) < 0)
		fail(ENOMEM, "out of memory");
	return path;
}

int tool_backing(struct tool *t, const char *of, char **path, enum image_format *format)
{
	const struct tool_image i = {.path = of, .format = IMAGE_QCOW2, .no_lock = true};
	struct chain *c;
	const char *name;
	int rc = tool_chain(t, &c, &i);

	if (rc)
		return rc;
	name = chain_image_at(c, 1, format);
	*path = name ? strdup(name) : NULL;
	if (name && !*path)
		rc = fail(ENOMEM, "out of memory");
	chain_close(c);
	return rc;
}

unsigned tool_cluster_bits(const struct image_options *o)
{
	if (!o->cluster_size || o->cluster_size & (o->cluster_size - 1)) {
		fail(EINVAL, "--cluster-size: %llu bytes are no power of two",
			(unsigned long long)o->cluster_size);
		return 0;
	}
	return (unsigned)__builtin_ctzll(o->cluster_size);
}

void tool_put(const char *text, int width)
{
	for (; *text; width--) {
		unsigned control = control_length(text);

		putchar(control ? '?' : *text);
		text += control ? control : 1;
	}
	while (width-- > 0)
		putchar(' ');
}

/* Whether it could be written is seen at the end. */
int tool_print(json_t *object)
{
	int rc = object ? 0 : fail(ENOMEM, "out of memory, or a name that is not UTF-8");

	if (object)
		json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
	return rc;
}
