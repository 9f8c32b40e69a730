// SPDX-License-Identifier: MIT
// kvick mirror-disk, commit-disk and snapshot-disk: another image for a disk of a running VM. The
// image is made and opened here, and passed on. A mirror lives as long as this process wants it:
// what ends early leaves no file behind.
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/lock.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/signals.h"
#include "cli/vm_disk.h"
#include "vmm/disk.h"
#include "vmm/disk_new.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS_MAX 640

static json_t *arguments(const char *id, const char *keys)
{
	json_t *o = json_object();

	json_add_string(&o, "id", id);
	json_add_string(&o, "disk", keys);
	return o;
}

static int ask(const char *vm, struct api_question *question, const char *id, const char *keys)
{
	json_t *args = arguments(id, keys);
	int rc;

	question->args = args;
	rc = args ? control_ask(vm, question, NULL) : fail(EINVAL, "%s: must be text", keys);
	json_decref(args);
	return rc;
}

/* ---- mirror-disk ---- */

struct mirror {
	struct loop *loop;
	struct signals signals;
	struct watch watch;
	uint64_t size;
	bool takes_over, shows;
	bool unsure; /* the VM has been told to take over the image, and has not said that it has */
	int rc;      /* 1 before the end */
};

static void end(struct mirror *m, int rc)
{
	m->rc = rc;
	loop_stop(m->loop);
}

static void interrupted(void *arg, int signo)
{
	struct mirror *m = arg;

	end(m, m->unsure ? fail(EINTR, "interrupted")
			 : fail(EINTR, "given up: the VM goes on with the image it has"));
}

static void hear(struct mirror *m, const char *said)
{
	if (!strncmp(said, "copied ", 7)) {
		if (m->shows)
			fprintf(stderr, "\r%3llu %%", strtoull(said + 7, NULL, 10) * 100 / m->size);
	} else if (!strcmp(said, "same")) {
		const char *word = m->takes_over ? "switch" : "stop";

		m->unsure = m->takes_over;
		if (send(m->watch.fd, word, strlen(word), MSG_NOSIGNAL) < 0)
			end(m, failno(errno, "the VM"));
	} else if (!strcmp(said, "done")) {
		m->unsure = false;
		end(m, 0);
	} else {
		m->unsure = false;
		end(m, fail(EIO, "%s", !strncmp(said, "failed ", 7) ? said + 7 : said));
	}
}

static void ready(void *arg, uint32_t events)
{
	struct mirror *m = arg;
	char said[WORDS_MAX];
	ssize_t n = recv(m->watch.fd, said, sizeof(said) - 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		end(m, fail(EPIPE, "the VM has ended"));
		return;
	}
	said[n] = '\0';
	hear(m, said);
}

static int follow(struct mirror *m, int socket)
{
	int rc;

	m->watch = WATCH_INIT(ready, m);
	m->shows = isatty(STDERR_FILENO);
	m->rc = 1;
	rc = loop_add(m->loop, &m->watch, socket, EPOLLIN);
	rc = rc ? failno(-rc, "the VM's socket") : loop_run(m->loop);
	loop_del(m->loop, &m->watch);
	if (m->shows)
		fputc('\n', stderr);
	return rc ? rc : m->rc;
}

struct question {
	const char *verb, *vm, *id, *keys;
};

/* An image that the VM may have by now is not removed. */
static int say_unsure(int rc)
{
	return fail(-rc,
		"%s: whether the VM has taken over the other image is not known: see kvick status",
		last_error());
}

/* What ends here ends there: our end of the socket is closed. */
static int copy_to(struct mirror *m, const struct question *q, const struct disk_files *files)
{
	struct disk_parts parts;
	int fds[DISK_FDS_MAX + 1], ends[2], n = disk_files_list(files, &parts, fds), rc;
	struct api_question question = {.verb = q->verb, .fds = fds};
	CLEANUP_FD int here = -1;

	if (n < 0)
		return n;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return failno(errno, "socketpair");
	here = ends[0];
	fds[n++] = ends[1];
	question.fd_count = (unsigned)n;
	rc = ask(q->vm, &question, q->id, q->keys);
	close(ends[1]);
	rc = rc ? rc : follow(m, here);
	return rc && m->unsure ? say_unsure(rc) : rc;
}

/* Signals come to the loop before there is a file that would be left behind. */
static int start(struct mirror *m)
{
	int rc = loop_create(&m->loop, "mirror");

	return rc ? rc : signals_start(&m->signals, m->loop, interrupted, m);
}

static int check_target(const struct disk_config *d)
{
	if (disk_has_overlay(d) || d->read_only || d->partition || disk_is_root(d))
		return fail(EINVAL,
			"%s: overlay, ro, partition and root are nothing for an image that is to "
			"be written",
			d->path);
	return 0;
}

/* A new file, or a device that is there: then *made is false. */
static int make_target(const struct disk_config *d, uint64_t size, bool *made)
{
	const struct qcow2_create c = {.size = size};
	struct stat st;
	int rc;

	*made = false;
	if (stat(d->path, &st) == 0)
		return S_ISBLK(st.st_mode)
			       ? 0
			       : fail(EEXIST, "image %s: is there already: a new file is made",
					 d->path);
	rc = disk_new_image(d->path, d->format == IMAGE_QCOW2 ? IMAGE_QCOW2 : IMAGE_RAW, &c);
	*made = !rc;
	return rc;
}

/* As they were given; what has no format gets one that is never guessed. Malloc'd. */
static char *complete(const char *keys, const struct disk_config *d)
{
	char *all = NULL;

	return asprintf(&all, "%s%s", keys, d->format == IMAGE_PROBED ? ",format=raw" : "") < 0
		       ? NULL
		       : all;
}

static int mirror_disk(struct mirror *m, const char *vm, const char *id, const char *given)
{
	CLEANUP_FREE char *keys = NULL;
	struct disk_files files;
	struct disk_config d;
	bool made = false;
	int rc = disk_parse(&d, given);

	rc = rc ? rc : check_target(&d);
	keys = rc ? NULL : complete(given, &d);
	if (!rc && !keys)
		rc = fail(ENOMEM, "out of memory");
	rc = rc ? rc : make_target(&d, m->size, &made);
	rc = rc ? rc : disk_open(&d, &files);
	if (!rc) {
		const struct question q = {"mirror-disk", vm, id, keys};

		rc = copy_to(m, &q, &files);
		disk_hand_over(&files);
	}
	if (rc && made && !m->unsure)
		unlink(d.path);
	disk_config_finish(&d);
	return rc;
}

static int mirror(const struct command_options *o)
{
	const char *vm = o->words.items[0], *id = o->words.items[1], *keys = o->words.items[2];
	struct mirror m = {.takes_over = o->takes_over};
	struct vm_disk f = {0};
	int rc = keys ? vm_disk_find(&f, vm, id) : fail(EINVAL, "to which image? path=FILE");

	m.size = f.size;
	rc = rc ? rc : start(&m);
	rc = rc ? rc : mirror_disk(&m, vm, id, keys);
	signals_finish(&m.signals);
	loop_destroy(m.loop);
	json_decref(f.status);
	return rc;
}

int cmd_mirror_disk(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_SWITCHES,
		.more = 1,
		.missing = "which VM, disk and image? see kvick mirror-disk --help",
		.usage = "usage: kvick mirror-disk [--switch] NAME ID KEYS\n\n"
			 "Copies the image of disk ID of VM NAME to another one, which is made, "
			 "while the\nguest uses it. In the end it has what the disk has at that "
			 "moment; with --switch\nthe VM goes on with it instead of the old one. "
			 "Interrupted, nothing has changed.\nKEYS are path, format (raw, qcow2) "
			 "and cache, as of --disk.\n",
		.act = mirror,
	};

	return command_run(&c, argc, argv);
}

/* ---- snapshot-disk ---- */

/* What has an overlay of its own stands on the image, not on what the image stands on. */
static int check_source(const struct vm_disk *f)
{
	return strcmp(f->overlay, "none")
		       ? fail(ENOTSUP, "it has an overlay, %s, and can only be mirrored",
				 f->overlay)
		       : 0;
}

static bool is_qcow2(const struct vm_disk *f)
{
	return !strcmp(f->format, image_format_names[IMAGE_QCOW2]);
}

/* What a qcow2 image that the VM has stands on, to be looked at. 0 or -errno. */
static int open_chain(struct chain **c, const char *path)
{
	const struct chain_options o = {.path = path,
		.format = IMAGE_QCOW2,
		.read_only = true,
		.no_lock = true,
		.trust = true};

	return chain_open(c, &o);
}

/* A chain that is too long to be opened again would be of no use after the VM's end. */
static int check_depth(const struct vm_disk *f, const char *path)
{
	enum image_format kind;
	struct chain *c;
	bool full;
	int rc;

	if (!is_qcow2(f))
		return 0;
	rc = open_chain(&c, path);
	if (rc)
		return rc;
	full = chain_image_at(c, CHAIN_DEPTH_MAX - 1, &kind);
	chain_close(c);
	return full ? fail(ELOOP,
			      "%s is a chain of %u images, and no longer one can be opened: "
			      "commit-disk makes it shorter",
			      path, CHAIN_DEPTH_MAX)
		    : 0;
}

static void put_doubled(FILE *out, const char *path)
{
	for (; *path; path++)
		fputs(*path == ',' ? ",," : (char[]){*path, '\0'}, out);
}

/* Malloc'd; NULL: there is no memory. */
static char *keys_of(const char *path, const char *format, const struct vm_disk *f)
{
	char *keys = NULL;
	size_t len;
	FILE *out = open_memstream(&keys, &len);

	if (!out)
		return NULL;
	fputs("path=", out);
	put_doubled(out, path);
	fprintf(out, ",format=%s,cache=%s,backing=on", format, f->cache);
	fclose(out);
	return keys;
}

static int pass(const char *vm, const char *id, const struct vm_disk *f, const char *path)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	CLEANUP_FREE char *keys = real ? keys_of(real, "qcow2", f) : NULL;
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct api_question question = {.verb = "snapshot-disk", .fd_count = 1};
	int fds[2], lock, rc;

	if (fd < 0 || !keys)
		return failno(errno, "%s", path);
	lock = lock_image(fd, false, path);
	if (lock < 0)
		return lock;
	fds[0] = fd;
	fds[1] = lock;
	question.fds = fds;
	question.fd_count += lock > 0;
	rc = ask(vm, &question, id, keys);
	if (lock > 0) /* the VM's now, if it has taken it */
		close(lock);
	return rc;
}

/* It has been asked, and has not said no. */
static bool is_unsure(int rc)
{
	return rc == -ETIMEDOUT || rc == -EPIPE || rc == -ECONNRESET;
}

static int snapshot(const struct command_options *o)
{
	const char *vm = o->words.items[0], *id = o->words.items[1], *path = o->words.items[2];
	CLEANUP_FREE char *backing = NULL;
	struct vm_disk f = {0};
	int rc = path ? vm_disk_find(&f, vm, id) : fail(EINVAL, "in which new file?");

	rc = rc ? rc : check_source(&f);
	if (!rc) {
		backing = vm_disk_path(&f);
		rc = backing ? check_depth(&f, backing) : -ENOENT;
	}
	if (!rc) {
		const struct qcow2_create c = {
			.size = f.size, .backing = backing, .backing_format = f.format};

		rc = disk_new_image(path, IMAGE_QCOW2, &c);
	}
	if (!rc) {
		rc = pass(vm, id, &f, path);
		if (is_unsure(rc))
			say_unsure(rc);
		else if (rc)
			unlink(path);
	}
	json_decref(f.status);
	return rc ? fail_context(rc, "%s: disk %s", vm, id) : 0;
}

int cmd_snapshot_disk(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_ASKS,
		.more = 1,
		.missing = "which VM, disk and file? see kvick snapshot-disk --help",
		.usage =
			"usage: kvick snapshot-disk NAME ID FILE\n\n"
			"Keeps the image of disk ID of VM NAME as it is now: what the guest writes "
			"from\nnow on goes to FILE, a new qcow2 image with the old one as its "
			"backing file.\n",
		.act = snapshot,
	};

	return command_run(&c, argc, argv);
}

/* ---- commit-disk ---- */

/* The keys of the file that backs the image which the VM has, malloc'd, or NULL with a message. */
static char *find_backing(const struct vm_disk *f, const char *path)
{
	enum image_format kind;
	const char *name;
	char *keys = NULL;
	struct chain *c;

	if (!is_qcow2(f)) {
		fail(ENOTSUP, "%s is a %s image, which has no backing file", f->path, f->format);
		return NULL;
	}
	if (open_chain(&c, path))
		return NULL;
	name = chain_image_at(c, 1, &kind);
	if (name)
		keys = keys_of(name, image_format_names[kind], f);
	else
		fail(ENOENT, "%s has no backing file", f->path);
	chain_close(c);
	return keys;
}

/* Of that name there may be another file by now, which has nothing of what the VM reads. */
static int check_same(const struct vm_disk *f, const struct disk_files *files, const char *path)
{
	const struct vm_disk below = {.pid = f->pid, .path = path};
	int fds[CHAIN_FDS_MAX];
	struct stat st;

	chain_fds(files->chain, fds);
	return fstat(fds[0], &st) < 0 ? failno(errno, "%s", path) : vm_disk_check(&below, &st);
}

/* The VM has it already, locked, for reading. */
static int open_backing(
	struct disk_files *files, const struct disk_config *d, const struct vm_disk *f)
{
	struct chain_options o = disk_chain(d);
	int rc;

	o.locked = true;
	o.trust = true;
	*files = (struct disk_files){0};
	rc = chain_open(&files->chain, &o);
	if (rc)
		return rc;
	files->format = chain_format(files->chain);
	rc = check_same(f, files, d->path);
	if (rc)
		disk_hand_over(files);
	return rc;
}

static int commit_to(
	struct mirror *m, struct question *q, const struct vm_disk *f, const char *path)
{
	CLEANUP_FREE char *keys = find_backing(f, path);
	struct disk_files files;
	struct disk_config d;
	int rc;

	if (!keys)
		return -ENOENT;
	q->keys = keys;
	rc = disk_parse(&d, keys);
	rc = rc ? rc : open_backing(&files, &d, f);
	if (!rc) {
		rc = copy_to(m, q, &files);
		disk_hand_over(&files);
	}
	disk_config_finish(&d);
	return rc;
}

static int commit(const struct command_options *o)
{
	struct question q = {
		.verb = "commit-disk", .vm = o->words.items[0], .id = o->words.items[1]};
	struct mirror m = {.takes_over = true};
	CLEANUP_FREE char *path = NULL;
	struct vm_disk f = {0};
	int rc = vm_disk_find(&f, q.vm, q.id);

	m.size = f.size;
	if (!rc && check_source(&f))
		rc = fail_context(-ENOTSUP, "%s: disk %s", q.vm, q.id);
	rc = rc ? rc : start(&m);
	if (!rc) {
		path = vm_disk_path(&f);
		rc = path ? commit_to(&m, &q, &f, path) : -ENOENT;
	}
	signals_finish(&m.signals);
	loop_destroy(m.loop);
	json_decref(f.status);
	return rc;
}

int cmd_commit_disk(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_ASKS,
		.missing = "which VM and disk? see kvick commit-disk --help",
		.usage =
			"usage: kvick commit-disk NAME ID\n\n"
			"Brings what the image of disk ID of VM NAME has to its backing file, with "
			"which the\nVM goes on. The image stays as a file that nobody needs. "
			"Interrupted, the VM goes on\nwith both.\n",
		.act = commit,
	};

	return command_run(&c, argc, argv);
}
