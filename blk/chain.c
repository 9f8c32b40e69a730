// SPDX-License-Identifier: MIT
// Which files are an image: found by what each says, opened and locked, from the disk's own down to
// the last backing file.
//
// Names are resolved as QEMU does it: an absolute one is as it is, another is beside the file that
// has it, by that file's name as text. What QEMU would take for the name of something else than a
// file ("nbd:...", "json:...") is refused.
#include "blk/chain_parts.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/engine.h"
#include "blk/lock.h"
#include "blk/probe.h"
#include "blk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const image_format_names[] = {"auto", "raw", "qcow2", "vmdk", NULL};

/* ---- files ---- */

static int check_named_once(const struct chain *c, const struct chain_file *f)
{
	for (unsigned i = 0; i < c->files; i++)
		if (c->file[i].dev == f->dev && c->file[i].ino == f->ino)
			return fail(ELOOP, "disk %s: is in the chain of %s already, as %s", f->name,
				c->o.path, c->file[i].name);
	return 0;
}

/* To open one of another kind may do something, or fail in words that say nothing. */
static int check_kind(const struct chain *c, struct chain_file *f, const struct stat *st)
{
	f->dev = st->st_dev;
	f->ino = st->st_ino;
	if (c->refused && !S_ISREG(st->st_mode))
		return fail(EPERM, "disk %s: is not looked at", f->name);
	return raw_check_kind(st->st_mode, f->name);
}

static int open_file(const struct chain *c, struct chain_file *f, bool write)
{
	int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat st;
	int rc;

	if (stat(f->name, &st) < 0)
		return failno(errno, "disk %s", f->name);
	rc = check_kind(c, f, &st);
	if (rc)
		return rc;
	/* A device that someone has mounted or opened so is left alone. */
	if (S_ISBLK(st.st_mode) && write)
		flags |= O_EXCL;
	f->fd = open(f->name, flags);
	return f->fd < 0 ? failno(errno, "disk %s", f->name) : 0;
}

static int take_file(struct chain *c, struct chain_file *f)
{
	if (c->files == c->count)
		return fail(EINVAL, "disk %s: %u descriptors have come, and this file has none",
			f->name, c->count);
	f->fd = c->fds[c->files];
	return 0;
}

static int look_at_file(const struct chain *c, struct chain_file *f, bool write)
{
	struct stat st;
	int rc = fstat(f->fd, &st) < 0 ? failno(errno, "disk %s", f->name) : 0;

	rc = rc ? rc : check_kind(c, f, &st);
	rc = rc ? rc : check_named_once(c, f);
	if (rc || c->fds || c->o.no_lock || c->refused)
		return rc;
	/* Those who count on a lock's descriptor get one. */
	if (c->o.locked && !c->files)
		f->lock = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
	else
		f->lock = lock_image(f->fd, !write, f->name);
	return MIN(f->lock, 0);
}

/* Takes the name. */
static int add_file(struct chain *c, char *name, bool write)
{
	struct chain_file *f = &c->file[c->files];
	int rc;

	if (!name)
		return fail(ENOMEM, "disk %s: no memory", c->o.path);
	if (c->files == CHAIN_FILES_MAX) {
		free(name);
		return fail(ELOOP, "disk %s: is made of more than %u files", c->o.path,
			CHAIN_FILES_MAX);
	}
	*f = (struct chain_file){.name = name, .fd = -1};
	rc = c->fds ? take_file(c, f) : open_file(c, f, write);
	rc = rc ? rc : look_at_file(c, f, write);
	c->files++;
	return rc;
}

/* ---- names ---- */

/* Of a stranger, and to be shown on a terminal. */
static bool printable(const char *name)
{
	while (*name && !control_length(name))
		name++;
	return !*name;
}

/* What file the image `of` means by `name`: malloc'd. 0 or -errno. */
static int resolve(char **out, const char *of, const char *name)
{
	const char *slash = strrchr(of, '/');
	int dir = name[0] == '/' || !slash ? 0 : (int)(slash + 1 - of);

	if (!printable(name))
		return fail(EINVAL, "disk %s: names a file whose name has control characters", of);
	if (name[strcspn(name, ":/")] == ':')
		return fail(ENOTSUP,
			"disk %s: names \"%s\": only files and devices of this host can be used",
			of, name);
	if (asprintf(out, "%.*s%s", dir, of, name) < 0) {
		*out = NULL;
		return fail(ENOMEM, "disk %s: no memory", of);
	}
	return 0;
}

/* ---- images ---- */

static int start_engine(struct chain *c)
{
	int rc = c->engine ? 0 : loop_create(&c->loop, "images");

	return rc || c->engine ? rc : engine_create(&c->engine, c->loop, ENGINE_SYNC);
}

/* What a format's header is read with: another disk of the file, for a moment. */
static int peek(struct blk **out, struct chain *c, const struct chain_file *f)
{
	CLEANUP_FD int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
	struct raw_config raw = {
		.name = f->name, .fd = fd, .read_only = true, .holds_format = true};
	int rc = fd < 0 ? failno(errno, "disk %s", f->name) : start_engine(c);

	rc = rc ? rc : raw_create(out, c->engine, &raw);
	if (!rc)
		steal_fd(&fd);
	return rc;
}

/* The format of that name; IMAGE_PROBED: there is none. */
static enum image_format find_format(const char *name)
{
	for (unsigned i = IMAGE_RAW; image_format_names[i]; i++)
		if (!strcmp(name, image_format_names[i]))
			return (enum image_format)i;
	return IMAGE_PROBED;
}

static int probe(const struct chain_file *f, enum image_format *out)
{
	uint8_t head[PROBE_BYTES];
	ssize_t n = fd_pread_full(f->fd, head, sizeof(head), 0);
	const char *name;

	if (n < 0)
		return failno((int)-n, "disk %s", f->name);
	name = probe_format(head, (size_t)n);
	*out = name ? find_format(name) : IMAGE_RAW;
	if (*out)
		return 0;
	return fail(ENOTSUP,
		"disk %s: it is a %s image, which cannot be used; format=raw takes it as it is",
		f->name, name);
}

static int named_format(const struct chain_file *f, const char *name, enum image_format *out)
{
	*out = find_format(name);
	if (*out || !*name)
		return 0;
	return fail(ENOTSUP,
		"disk %s: says that its backing file is a %s image, which cannot be used", f->name,
		printable(name) ? name : "strange");
}

static int look_qcow2(struct chain *c, struct chain_image *i, enum image_format *next)
{
	const struct chain_file *f = &c->file[i->own];
	struct qcow2_info info;
	struct blk *file;
	int rc = peek(&file, c, f);

	if (rc)
		return rc;
	rc = qcow2_look(&info, file);
	blk_destroy(file);
	if (!rc && info.dirty && c->images == 1 && !c->o.read_only)
		rc = fail(EUCLEAN,
			"disk %s: was not closed by who wrote to it last: repair it with `kvick "
			"image check --repair`",
			f->name);
	if (rc || !info.backing[0])
		return rc;
	c->left = c->o.instead != NULL;
	if (c->left)
		return 0;
	rc = resolve(&i->backing, f->name, info.backing);
	return rc ? rc : named_format(f, info.backing_format, next);
}

/* An extent without a name is in the image's own file. */
static int add_extents(struct chain *c, const struct chain_image *i)
{
	bool write = c->images == 1 && !c->o.read_only;
	int rc = 0;

	for (unsigned n = 0; n < i->vmdk->count && !rc; n++) {
		const struct vmdk_extent *x = &i->vmdk->extent[n];
		char *name;

		if (x->kind == VMDK_ZERO || !x->name[0])
			continue;
		c->refused = c->refused || !c->o.trust;
		rc = resolve(&name, c->file[i->own].name, x->name);
		rc = rc ? rc : add_file(c, name, write && !x->read_only);
	}
	return rc;
}

static int look_vmdk(struct chain *c, struct chain_image *i)
{
	struct blk *file;
	int rc = peek(&file, c, &c->file[i->own]);

	if (rc)
		return rc;
	i->vmdk = calloc(1, sizeof(*i->vmdk));
	rc = i->vmdk ? vmdk_look(i->vmdk, file) : fail(ENOMEM, "disk %s: no memory", c->o.path);
	blk_destroy(file);
	return rc ? rc : add_extents(c, i);
}

/* Takes the name. What it is backed by is in its entry, and in *format which format that is of. */
static int add_image(struct chain *c, char *name, enum image_format *format)
{
	struct chain_image *i = &c->image[c->images];
	int rc;

	if (c->images == CHAIN_DEPTH_MAX) {
		free(name);
		return fail(ELOOP, "disk %s: is a chain of more than %u images", c->o.path,
			CHAIN_DEPTH_MAX);
	}
	i->format = *format;
	i->own = c->files;
	c->images++;
	rc = add_file(c, name, c->images == 1 && !c->o.read_only);
	if (!rc && i->format == IMAGE_PROBED)
		rc = probe(&c->file[i->own], &i->format);
	if (!rc && i->format == IMAGE_QCOW2)
		rc = look_qcow2(c, i, format);
	if (!rc && i->format == IMAGE_VMDK)
		rc = look_vmdk(c, i);
	return rc;
}

static int walk(struct chain *c)
{
	enum image_format format = c->o.format;
	int rc = add_image(c, strdup(c->o.path), &format);

	while (!rc && c->image[c->images - 1].backing) {
		c->refused = c->refused || !c->o.trust;
		rc = add_image(c, strdup(c->image[c->images - 1].backing), &format);
	}
	return rc;
}

/* ---- the message ---- */

static void say_image(const struct chain *c, unsigned n, FILE *out)
{
	const struct chain_image *i = &c->image[n];
	const char *name = c->file[i->own].name;
	unsigned next = n + 1 < c->images ? c->image[n + 1].own : c->files;

	fprintf(out, "\n  %s (%s)", name, image_format_names[i->format]);
	for (unsigned f = i->own + 1; f < next; f++)
		fprintf(out, "%s %s", f == i->own + 1 ? " has extents" : ",", c->file[f].name);
	if (i->backing)
		fprintf(out, " is backed by %s", i->backing);
}

/* `rc` and its message are why the walk has ended where it did. */
static int refuse(const struct chain *c, int rc)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return fail(ENOMEM, "disk %s: no memory", c->o.path);
	for (unsigned n = 0; n < c->images; n++)
		say_image(c, n, out);
	if (rc)
		fprintf(out, "\n  %s", last_error());
	if (fclose(out))
		return fail(ENOMEM, "disk %s: no memory", c->o.path);
	return fail(EPERM,
		"disk %s: names other files of this host, which are used only with %s:%s",
		c->o.path, c->o.how, text);
}

/* ---- the chain ---- */

static int create(struct chain **out, const struct chain_options *o)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return fail(ENOMEM, "disk %s: no memory", o->path);
	(*out)->o = *o;
	return 0;
}

int chain_open(struct chain **out, const struct chain_options *o)
{
	struct chain *c;
	int rc = create(&c, o);

	if (rc)
		return rc;
	rc = walk(c);
	if (c->refused)
		rc = refuse(c, rc);
	if (c->loop) {
		engine_destroy(steal_ptr(&c->engine));
		loop_destroy(steal_ptr(&c->loop));
	}
	if (rc)
		chain_close(c);
	else
		*out = c;
	return rc;
}

unsigned chain_fds(const struct chain *c, int *fds)
{
	for (unsigned i = 0; i < c->files; i++) {
		fds[i] = c->file[i].fd;
		fds[c->files + i] = c->file[i].lock;
	}
	return c->o.no_lock ? c->files : 2 * c->files;
}

/* Those of the files come first, then those of the locks. */
static int take_all(struct chain *c)
{
	int rc = walk(c);

	if (!rc && c->refused)
		rc = refuse(c, 0);
	if (!rc && c->count != c->files && c->count != 2 * c->files)
		rc = fail(EINVAL,
			"disk %s: %u descriptors have come with it; its %u files and "
			"their locks are wanted",
			c->o.path, c->count, c->files);
	for (unsigned i = 0; i < c->files; i++) {
		if (rc)
			c->file[i].fd = -1;
		else if (c->count > c->files)
			c->file[i].lock = c->fds[c->files + i];
	}
	for (unsigned i = 0; i < c->count && !rc; i++)
		c->fds[i] = -1;
	return rc;
}

int chain_take(struct chain **out, const struct chain_options *o, struct blk_engine *e, int *fds,
	unsigned count)
{
	struct chain *c;
	int rc = create(&c, o);

	if (rc)
		return rc;
	c->engine = e;
	c->fds = fds;
	c->count = count;
	rc = take_all(c);
	c->fds = NULL;
	c->engine = NULL;
	if (rc)
		chain_close(c);
	else
		*out = c;
	return rc;
}

enum image_format chain_format(const struct chain *c)
{
	return c->image[0].format;
}

const char *chain_image_at(const struct chain *c, unsigned depth, enum image_format *format)
{
	if (depth >= c->images)
		return NULL;
	*format = c->image[depth].format;
	return c->file[c->image[depth].own].name;
}

void chain_hand_over(struct chain *c)
{
	for (unsigned i = 0; i < c->files; i++) {
		if (c->file[i].lock)
			close(c->file[i].lock);
		c->file[i].lock = 0;
	}
	chain_close(c);
}

void chain_close(struct chain *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->images; i++) {
		free(c->image[i].vmdk);
		free(c->image[i].backing);
	}
	for (unsigned i = 0; i < c->files; i++) {
		cleanup_fd_(&c->file[i].fd);
		lock_release(c->file[i].lock);
		free(c->file[i].name);
	}
	free(c);
}
