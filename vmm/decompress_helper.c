// SPDX-License-Identifier: MIT
#include "vmm/decompress_helper.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/clusters.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PROGRAM "kvick-unpack"
#define PAGE KIB(4)
/* Where the file ends is not for the other side to say. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* A cluster takes milliseconds: who waits for it is not to wait for a process that does nothing. */
#define ANSWER_NS (30 * NSEC_PER_SEC)

static struct decompress_helper *of(struct decompressor *d)
{
	return container_of(d, struct decompress_helper, decompressor);
}

/* ---- jobs ---- */

static struct decompress_job *take_first(struct decompress_helper *h)
{
	struct decompress_job *j = h->first;

	if (j)
		h->first = j->next;
	return j;
}

static struct decompress_job *take_number(struct decompress_helper *h, uint32_t n)
{
	struct decompress_job *j = n < DECOMPRESS_JOBS ? h->job[n] : NULL;

	if (j) {
		h->job[n] = NULL;
		h->flying--;
	}
	return j;
}

/* It is of no use any more. Who has something done now may ask for more, which fails at once. */
static void lose(struct decompress_helper *h, const char *why)
{
	struct decompress_job *j;

	if (h->lost)
		return;
	h->lost = true;
	decompress_helper_unwatch(h);
	shutdown(h->process.socket, SHUT_RDWR); /* of which it ends, if it has not */
	if (h->ended)
		h->ended(h->arg, why);
	for (uint32_t n = 0; n < DECOMPRESS_JOBS; n++)
		if ((j = take_number(h, n)))
			j->done(j, -EIO);
	while ((j = take_first(h)))
		j->done(j, -EIO);
}

static int send_job(struct decompress_helper *h, uint32_t n, struct decompress_job *j)
{
	const struct cluster_job m = {.number = n,
		.kind = j->kind,
		.from = (uint64_t)((const uint8_t *)j->from - h->at),
		.from_len = j->from_len,
		.to = (uint64_t)((uint8_t *)j->to - h->at),
		.to_len = j->to_len};

	if (send(h->process.socket, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	h->job[n] = j;
	h->flying++;
	return 0;
}

/* Gives the process what it has room for. Where it takes nothing there are answers to come, or its
 * end is told on the loop: this may be another thread. */
static void go_on(struct decompress_helper *h)
{
	int rc = 0;

	for (uint32_t n = 0; n < DECOMPRESS_JOBS && h->first && !rc; n++) {
		if (h->job[n])
			continue;
		rc = send_job(h, n, h->first);
		if (!rc)
			take_first(h);
	}
}

static void submit(struct decompressor *d, struct decompress_job *j)
{
	struct decompress_helper *h = of(d);

	if (h->lost) {
		j->done(j, -EIO);
		return;
	}
	j->next = NULL;
	if (h->first)
		h->last->next = j;
	else
		h->first = j;
	h->last = j;
	go_on(h);
}

/* One answer, if there is one: 1, 0 where there is none yet, or -errno. */
static int take_answer(struct decompress_helper *h)
{
	struct cluster_answer a;
	struct decompress_job *j;
	ssize_t n = recv(h->process.socket, &a, sizeof(a), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	j = n == sizeof(a) ? take_number(h, a.number) : NULL;
	if (!j)
		return n ? -EPROTO : -EPIPE;
	j->done(j, a.rc ? -EINVAL : 0);
	return 1;
}

static void take_answers(struct decompress_helper *h)
{
	int rc;

	do
		rc = h->lost ? 0 : take_answer(h);
	while (rc > 0);
	if (rc < 0)
		lose(h, rc == -EPROTO ? PROGRAM " makes no sense" : PROGRAM " has ended");
	else if (!h->lost)
		go_on(h);
}

static void ready(void *arg, uint32_t events)
{
	take_answers(arg);
}

static int drain(struct decompressor *d)
{
	struct decompress_helper *h = of(d);

	while ((h->flying || h->first) && !h->lost) {
		if (fd_await(h->process.socket, POLLIN, now_ns() + ANSWER_NS))
			lose(h, PROGRAM " does not answer");
		else
			take_answers(h);
	}
	return 0;
}

static void *buffer(struct decompressor *d, size_t len)
{
	struct decompress_helper *h = of(d);
	void *p = h->at + h->used;

	if (len > DECOMPRESS_MEMORY - h->used)
		return NULL;
	h->used += align_up(len, PAGE);
	return p;
}

/* ---- birth and death ---- */

static int map_memory(struct decompress_helper *h, int fd)
{
	void *p = mmap(NULL, DECOMPRESS_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return failno(errno, PROGRAM ": memory");
	h->at = p;
	h->memory = fd;
	h->decompressor = (struct decompressor){.submit = submit, .drain = drain, .buffer = buffer};
	return 0;
}

static int make_memory(struct decompress_helper *h)
{
	int fd = memfd_create("clusters", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return failno(errno, PROGRAM ": memory");
	rc = ftruncate(fd, (off_t)DECOMPRESS_MEMORY) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0
		     ? failno(errno, PROGRAM ": memory")
		     : map_memory(h, fd);
	if (rc)
		close(fd);
	return rc;
}

int decompress_helper_start(struct decompress_helper *h, enum jail_mode jail,
	int (*open_program)(const char *name), int messages)
{
	char name[] = PROGRAM, mode[16], word[] = CLUSTERS_WORD;
	char *argv[] = {name, mode, word, NULL};
	int program, rc;

	*h = (struct decompress_helper){.process = {.socket = -1}};
	program = open_program(PROGRAM);
	if (program < 0)
		return -ENOTSUP;
	rc = make_memory(h);
	if (rc) {
		close(program);
		return rc;
	}
	snprintf(mode, sizeof(mode), "%d", jail);
	rc = helper_start(&h->process, program, argv,
		(const struct helper_fd[]){{h->memory, CLUSTERS_MEMORY}, {messages, STDERR_FILENO}},
		messages ? 2 : 1);
	if (rc)
		decompress_helper_finish(h);
	return rc;
}

int decompress_helper_watch(struct decompress_helper *h, struct loop *loop)
{
	int rc;

	h->watch = WATCH_INIT(ready, h);
	rc = loop_add(loop, &h->watch, h->process.socket, EPOLLIN);
	if (rc)
		return failno(-rc, PROGRAM);
	h->loop = loop;
	return 0;
}

void decompress_helper_unwatch(struct decompress_helper *h)
{
	if (h->loop)
		loop_del(h->loop, &h->watch);
	h->loop = NULL;
}

void decompress_helper_files(const struct decompress_helper *h, int files[DECOMPRESS_FILES])
{
	files[0] = h->process.socket;
	files[1] = h->memory;
}

int decompress_helper_adopt(struct decompress_helper *h, int files[DECOMPRESS_FILES])
{
	socklen_t len = sizeof(int);
	struct stat st;
	int type, rc;

	*h = (struct decompress_helper){.process = {.socket = -1}};
	if (getsockopt(files[0], SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return fail(EINVAL, "a descriptor is no socket of " PROGRAM);
	if (fcntl(files[1], F_GET_SEALS) != SEALS || fstat(files[1], &st) < 0 ||
		st.st_size != (off_t)DECOMPRESS_MEMORY)
		return fail(EINVAL, "a descriptor has not the memory of " PROGRAM);
	rc = map_memory(h, files[1]);
	if (rc)
		return rc;
	files[1] = -1;
	h->process = (struct helper){.pid = HELPER_ADOPTED, .socket = steal_fd(&files[0])};
	return 0;
}

static void unwatch_child(struct decompress_helper *h)
{
	int fd = h->child.fd;

	if (!h->parent)
		return;
	loop_del(h->parent, &h->child);
	close(fd);
	h->parent = NULL;
}

static void has_ended(void *arg, uint32_t events)
{
	struct decompress_helper *h = arg;

	unwatch_child(h);
	helper_wait(&h->process);
}

int decompress_helper_reap(struct decompress_helper *h, struct loop *loop)
{
	int fd, rc;

	if (h->process.pid <= 0)
		return 0;
	fd = (int)syscall(SYS_pidfd_open, h->process.pid, 0);
	if (fd < 0)
		return failno(errno, PROGRAM);
	h->child = WATCH_INIT(has_ended, h);
	rc = loop_add(loop, &h->child, fd, EPOLLIN);
	if (rc) {
		close(fd);
		return failno(-rc, PROGRAM);
	}
	h->parent = loop;
	return 0;
}

void decompress_helper_finish(struct decompress_helper *h)
{
	if (!h->at)
		return;
	unwatch_child(h);
	munmap(h->at, DECOMPRESS_MEMORY);
	close(h->memory);
	helper_finish(&h->process);
	*h = (struct decompress_helper){0};
}

void decompress_helper_hand_over(struct decompress_helper *h)
{
	h->process.pid = 0;
	decompress_helper_finish(h);
}
