// SPDX-License-Identifier: MIT
// Clusters of images, by a few threads: whichever is free takes the next job from the socket.
#include "loader/unpack/clusters.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/util.h"
#include "blk/decompress_here.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#define THREADS_MAX 4u

struct job {
	struct decompress_job job;
	int rc;
};

static void done(struct decompress_job *j, int rc)
{
	container_of(j, struct job, job)->rc = rc;
}

static int run(const struct clusters_memory *m, struct decompressor *d, const struct cluster_job *c)
{
	struct job j = {.job = {.kind = (enum decompress_kind)c->kind,
				.from = m->at + c->from,
				.from_len = c->from_len,
				.to = m->at + c->to,
				.to_len = c->to_len,
				.done = done}};

	if (!range_ok(c->from, c->from_len, m->len) || !range_ok(c->to, c->to_len, m->len))
		return -EFAULT;
	d->submit(d, &j.job);
	return j.rc;
}

static void *serve(void *arg)
{
	const struct clusters_memory *m = arg;
	struct decompressor *d;
	struct cluster_job j;

	if (decompress_here_create(&d))
		return arg;

	while (TEMP_FAILURE_RETRY(read(STDIN_FILENO, &j, sizeof(j))) == sizeof(j)) {
		struct cluster_answer a = {j.number, run(m, d, &j)};

		if (write(STDIN_FILENO, &a, sizeof(a)) != sizeof(a))
			break;
	}
	decompress_here_destroy(d);
	return NULL;
}

static unsigned threads_wanted(void)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	return MIN((unsigned)CPU_COUNT(&cpus), THREADS_MAX);
}

int clusters_open(struct clusters_memory *m)
{
	off_t len = lseek(CLUSTERS_MEMORY, 0, SEEK_END);

	if (len <= 0)
		return fail(EINVAL, "there is no memory for clusters");
	m->len = (uint64_t)len;
	m->at = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, CLUSTERS_MEMORY, 0);
	return m->at == MAP_FAILED ? failno(errno, "memory for clusters") : 0;
}

int clusters_serve(struct clusters_memory *m)
{
	pthread_t thread;

	/* One that cannot be had is not missed. They end with the process. */
	for (unsigned n = threads_wanted(); n > 1; n--)
		thread_start(&thread, 0, serve, m);
	return serve(m) ? -ENOMEM : 0;
}
