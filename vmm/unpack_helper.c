// SPDX-License-Identifier: MIT
#include "vmm/unpack_helper.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define PROGRAM "kvick-unpack"

static int start(struct unpack_helper *h)
{
	char mode[16], name[] = PROGRAM;
	char *argv[] = {name, mode, NULL};
	int memory CLEANUP_FD = memfd_create("unpacked", MFD_CLOEXEC);
	int program, rc;

	if (memory < 0)
		return failno(errno, PROGRAM);
	program = h->open_program(PROGRAM);
	if (program < 0)
		return -ENOTSUP;
	snprintf(mode, sizeof(mode), "%d", h->jail);
	rc = helper_start(&h->process, program, argv, NULL, 0);
	if (!rc)
		h->memory = steal_fd(&memory);
	return rc;
}

static int send_request(const struct unpack_helper *h, struct unpack_request *r, int fd)
{
	const int files[UNPACK_FILES] = {[UNPACK_FROM] = fd, [UNPACK_TO] = h->memory};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(files))];
	} control = {.align = {.cmsg_len = CMSG_LEN(sizeof(files)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {r, sizeof(*r)};
	const struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.align), files, sizeof(files));
	return TEMP_FAILURE_RETRY(sendmsg(h->process.socket, &msg, MSG_NOSIGNAL)) < 0 ? -errno : 0;
}

/* One question, one answer. */
static int ask(
	const struct unpack_helper *h, struct unpack_request *r, int fd, struct unpack_reply *reply)
{
	ssize_t n;
	int rc = send_request(h, r, fd);

	if (!rc) {
		n = TEMP_FAILURE_RETRY(recv(h->process.socket, reply, sizeof(*reply), 0));
		rc = n == sizeof(*reply) ? 0 : n < 0 ? -errno : -EPIPE;
	}
	reply->text[sizeof(reply->text) - 1] = '\0';
	return rc ? fail(-rc, PROGRAM " ended before it had answered") : 0;
}

static int64_t begin(void *arg, int fd, uint64_t off, uint64_t len, uint64_t max)
{
	struct unpack_helper *h = arg;
	struct unpack_request r = {off, len, max};
	struct unpack_reply reply = {0};
	int rc = 0;

	if (!h->process.pid)
		rc = h->sealed ? fail(ENOTSUP, "nothing more can be unpacked now") : start(h);
	if (!rc && ftruncate(h->memory, (off_t)max) < 0)
		rc = failno(errno, "memory to unpack to");
	if (!rc)
		rc = ask(h, &r, fd, &reply);
	if (!rc && reply.made < 0)
		rc = fail((int)-reply.made, "%s", reply.text);
	if (!rc && (uint64_t)reply.made > max)
		rc = fail(EPROTO, PROGRAM " has made more than it may");
	if (rc)
		h->unpacker.end(h);
	return rc ? rc : reply.made;
}

static int take(void *arg, uint64_t off, void *to, size_t len)
{
	const struct unpack_helper *h = arg;
	ssize_t n = fd_pread_full(h->memory, to, len, off);

	if (n < 0)
		return failno((int)-n, "reading what was unpacked");
	return (size_t)n == len ? 0 : fail(EPROTO, PROGRAM " has made less than it said");
}

static void end(void *arg)
{
	struct unpack_helper *h = arg;

	if (h->memory >= 0 && ftruncate(h->memory, 0) < 0)
		log_warn(PROGRAM ": %s", strerror(errno)); /* no more than memory kept for longer */
}

void unpack_helper_init(
	struct unpack_helper *h, enum jail_mode jail, int (*open_program)(const char *name))
{
	*h = (struct unpack_helper){
		.unpacker = {.begin = begin, .read = take, .end = end, .arg = h},
		.open_program = open_program,
		.jail = jail,
		.process = {.socket = -1},
		.memory = -1,
	};
}

void unpack_helper_seal(struct unpack_helper *h)
{
	h->sealed = true;
}

void unpack_helper_finish(struct unpack_helper *h)
{
	if (!h->process.pid)
		return;
	close(steal_fd(&h->memory));
	helper_finish(&h->process);
	h->sealed = true;
}
