// SPDX-License-Identifier: MIT
#include "vmm/disk_job.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/blk.h"
#include "blk/commit.h"
#include "blk/mirror.h"
#include "blk/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORD_MAX 16
#define TEXT_MAX 600

struct disk_job {
	struct disk *disk;
	struct disk_config *target; /* owned */
	const char *format;         /* of the target */
	struct loop *loop;
	struct watch watch; /* of a socket that is ours */
	unsigned percent;   /* said so far */
	bool same;
};

void disk_target_finish(struct disk_target *t)
{
	disk_close(&t->files);
	disk_config_free(t->cfg);
}

/* Who does not read misses it. */
static void say(const struct disk_job *j, const char *text)
{
	if (send(j->watch.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("disk %s: its job: %s", disk_name(j->disk->cfg), strerror(errno));
}

static void say_failed(const struct disk_job *j, const char *why)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "failed %s", why);
	say(j, text);
}

static void finish(struct disk_job *j)
{
	int socket = j->watch.fd;

	j->disk->job = NULL;
	loop_del(j->loop, &j->watch);
	close(socket);
	disk_config_free(j->target);
	free(j);
}

void disk_job_end(struct disk *disk)
{
	if (!disk->job)
		return;
	say_failed(disk->job, "the disk or its VM is at its end");
	mirror_stop(disk->mirror);
	finish(disk->job);
}

/* ---- while it is copied ---- */

static void moved(void *arg, uint64_t done)
{
	struct disk_job *j = arg;
	unsigned percent = (unsigned)(done / (j->disk->blk->size / 100 + 1));
	char text[40];

	if (percent == j->percent)
		return;
	j->percent = percent;
	snprintf(text, sizeof(text), "copied %llu", (unsigned long long)done);
	say(j, text);
}

static void told(void *arg, int rc)
{
	struct disk_job *j = arg;

	if (!rc) {
		j->same = true;
		say(j, "same");
		return;
	}
	say_failed(j, strerror(-rc));
	finish(j);
}

/* The disk's image is the target from now on. */
static void has_become(struct disk *disk, struct disk_config *cfg, const char *format)
{
	disk_config_free(disk->now);
	disk->now = cfg;
	disk->format = format;
	disk->has_books = strcmp(format, image_format_names[IMAGE_RAW]) != 0;
}

static int act(struct disk_job *j, const char *word)
{
	int rc;

	if (!j->same || (strcmp(word, "switch") && strcmp(word, "stop")))
		return fail(EINVAL, "%s: is not for now", word);
	if (strcmp(word, "switch") == 0) {
		rc = mirror_switch(j->disk->mirror);
		if (!rc)
			has_become(j->disk, steal_ptr(&j->target), j->format);
	} else {
		rc = mirror_stop(j->disk->mirror);
		if (rc)
			failno(-rc, "disk %s", disk_name(j->disk->cfg));
	}
	return rc;
}

static void ready(void *arg, uint32_t events)
{
	struct disk_job *j = arg;
	char word[WORD_MAX];
	ssize_t n = recv(j->watch.fd, word, sizeof(word) - 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		word[n] = '\0';
		if (act(j, word))
			say_failed(j, last_error());
		else
			say(j, "done");
	}
	mirror_stop(j->disk->mirror);
	finish(j);
}

/* ---- beginnings ---- */

static struct disk_job *new_job(struct disk *disk, struct loop *loop, int socket)
{
	struct disk_job *j = calloc(1, sizeof(*j));
	int rc = j ? 0 : fail(ENOMEM, "out of memory");

	if (!rc) {
		*j = (struct disk_job){.disk = disk, .loop = loop, .watch = WATCH_INIT(ready, j)};
		rc = loop_add(loop, &j->watch, socket, EPOLLIN);
	}
	if (!rc)
		return j;
	failno(-rc, "disk %s: the socket of its job", disk_name(disk->cfg));
	free(j);
	return NULL;
}

static int start(struct disk *disk, enum disk_job_kind kind, struct disk_target *t,
	const struct disk_host *host, int socket)
{
	bool commits = kind == DISK_JOB_COMMIT;
	struct mirror_job job = {
		.differing = commits, .commits = commits, .told = told, .moved = moved};
	struct blk *b = NULL;
	int rc = commits ? commit_prepare(mirror_below(disk->mirror)) : 0;

	rc = rc ? rc : disk_create_image(&b, t->cfg, &t->files, host);
	if (rc)
		return rc;
	disk->job = job.arg = new_job(disk, host->loop, socket);
	rc = disk->job ? mirror_start(disk->mirror, b, &job) : -ENOMEM;
	if (!rc) {
		disk->job->target = steal_ptr(&t->cfg);
		disk->job->format = image_format_names[t->files.format];
		return 0;
	}
	blk_destroy(b);
	if (disk->job) {
		loop_del(host->loop, &disk->job->watch);
		free(steal_ptr(&disk->job));
	}
	return rc;
}

static int put_on(struct disk *disk, struct disk_target *t, const struct disk_host *host)
{
	const struct qcow2_config c = {.decompressor = host->decompressor};
	struct blk *below, *file = NULL, *top;
	struct qcow2_info info;
	int rc = disk_create_file(&file, t->cfg, &t->files, host);

	if (rc)
		return rc;
	below = mirror_hold(disk->mirror);
	rc = below ? qcow2_look(&info, file) : -EIO;
	if (!rc && (info.size != below->size || !*info.backing))
		rc = fail(EINVAL, "disk %s: is no overlay of a disk of %llu bytes", t->cfg->path,
			(unsigned long long)below->size);
	rc = rc ? rc : qcow2_open(&top, file, below, &c);
	if (rc) {
		blk_destroy(file);
		return rc;
	}
	mirror_put(disk->mirror, top);
	commit_cancel(top); /* others may read what is below now */
	return 0;
}

static int snapshot(struct disk *disk, struct disk_target *t, const struct disk_host *host)
{
	int rc = put_on(disk, t, host);

	if (!rc)
		has_become(disk, steal_ptr(&t->cfg), image_format_names[IMAGE_QCOW2]);
	return rc;
}

int disk_job_begin(struct disk *disk, enum disk_job_kind kind, struct disk_target *t,
	const struct disk_host *host, int socket)
{
	const char *name = disk_name(disk->cfg);
	int rc = 0;

	if (disk->job)
		rc = fail(EBUSY, "disk %s: a job is at work on it", name);
	else if (kind != DISK_JOB_MIRROR && disk->cfg->read_only)
		rc = fail(EROFS, "disk %s: is read-only, and stays as it is", name);
	else if (kind != DISK_JOB_MIRROR && disk_has_overlay(disk->now ? disk->now : disk->cfg))
		rc = fail(ENOTSUP, "disk %s: has an overlay, and can only be mirrored", name);
	else if (kind == DISK_JOB_SNAPSHOT)
		rc = snapshot(disk, t, host);
	else
		rc = start(disk, kind, t, host, socket);
	disk_target_finish(t);
	return rc;
}
