// SPDX-License-Identifier: MIT
// kvick-unpack: unpacks kernels, modules and clusters of images for a monitor, and can do nothing
// else.
//
// What it is given may be made to break a decompressor, so it is behind a filter before it reads
// any of it: no file is opened, no socket made, no program run.
#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/clusters.h"
#include "loader/unpack/unpack.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* The next request and the files that come with it: 1, or 0 where there are no more. */
static int receive(struct unpack_request *r, int file[UNPACK_FILES])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(UNPACK_FILES * sizeof(int))];
	} control;
	struct iovec iov = {r, sizeof(*r)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = TEMP_FAILURE_RETRY(recvmsg(STDIN_FILENO, &msg, MSG_CMSG_CLOEXEC));
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (n != sizeof(*r) || !c || c->cmsg_len != CMSG_LEN(UNPACK_FILES * sizeof(int)))
		return 0;
	memcpy(file, CMSG_DATA(c), UNPACK_FILES * sizeof(int));
	return 1;
}

static ssize_t unpack_to(int file, const void *packed, size_t len, size_t max)
{
	const struct unpack_format *f = unpack_detect(packed, len);
	ssize_t made;
	void *to;

	if (!f)
		return -ENOTSUP;
	to = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (to == MAP_FAILED)
		return failno(errno, "memory to unpack to");
	made = f->unpack(packed, len, to, max);
	munmap(to, max);
	return made;
}

/* The packed data is read, as a file that is mapped may be cut while it is looked at. */
static ssize_t serve(const int file[UNPACK_FILES], const struct unpack_request *r)
{
	CLEANUP_FREE void *packed = malloc(r->len);
	ssize_t n;

	if (!packed)
		return fail(ENOMEM, "no memory for %llu packed bytes", (unsigned long long)r->len);
	n = fd_pread_full(file[UNPACK_FROM], packed, r->len, r->off);
	if (n < 0)
		return failno((int)-n, "reading it");
	return unpack_to(file[UNPACK_TO], packed, (size_t)n, r->max);
}

static int answer(const int file[UNPACK_FILES], const struct unpack_request *r)
{
	struct unpack_reply reply = {.made = serve(file, r)};

	if (reply.made < 0)
		snprintf(reply.text, sizeof(reply.text), "%s", last_error());
	return fd_write_full(STDIN_FILENO, &reply, sizeof(reply));
}

static int serve_requests(void)
{
	struct unpack_request r;
	int file[UNPACK_FILES], rc = 0;

	while (!rc && receive(&r, file)) {
		rc = answer(file, &r);
		close(file[UNPACK_FROM]);
		close(file[UNPACK_TO]);
	}
	return rc;
}

int main(int argc, char **argv)
{
	bool clusters = argc == 3 && !strcmp(argv[2], CLUSTERS_WORD);
	struct clusters_memory memory;
	int rc;

	if (argc != 2 && !clusters) {
		fprintf(stderr, "kvick-unpack is run by kvick, to unpack kernels, modules and "
				"clusters of images\n");
		return EXIT_FAILURE;
	}
	prctl(PR_SET_NAME, "kvick-unpack"); /* it was started as a number */
	rc = clusters ? clusters_open(&memory) : 0;
	if (rc || jail_enter(JAIL_UNPACK, (enum jail_mode)atoi(argv[1]))) {
		log_error("kvick-unpack: %s", last_error());
		return EXIT_JAIL;
	}
	rc = clusters ? clusters_serve(&memory) : serve_requests();
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
