// SPDX-License-Identifier: MIT
// /etc/resolv.conf, which tells the guest's programs whom to ask for names.
//
// A root in memory gets the file itself. On a root that stays, its own file is the owner's and is
// covered, for as long as the guest runs, by one in /run, which is in memory there.
#include "guest/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESOLV "/etc/resolv.conf"
#define COVER "/run/kvick-resolv.conf"
#define LINES 3u /* more are not read by any C library */

/* 0 or errno. */
static int write_file(const char *path, const char *text)
{
	size_t length = strlen(text);
	int error, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t n;

	if (fd < 0)
		return errno;
	n = write(fd, text, length);
	error = n < 0 ? errno : (size_t)n < length ? ENOSPC : 0;
	close(fd);
	return error;
}

static int write_in_memory(const char *text)
{
	mkdir("/etc", 0755);
	unlink(RESOLV); /* it may be a link to what a daemon would make */
	return write_file(RESOLV, text);
}

/* The folders above the file. */
static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
}

/* Of a daemon's that does not run here: the link leads to nothing yet, in /run. */
static bool write_where_link_leads(const char *text)
{
	char to[PATH_MAX];
	ssize_t n = readlink(RESOLV, to, sizeof(to) - 1);
	char *path = to;

	if (n < 0)
		return false;
	to[n] = 0;
	if (!strncmp(to, "../run/", 7))
		path += 2;
	if (strncmp(path, "/run/", 5) != 0 || !access(RESOLV, F_OK))
		return false;
	make_folders(path);
	return !write_file(path, text);
}

static int cover(const char *text)
{
	int fd, error;

	if (write_where_link_leads(text))
		return 0;
	error = write_file(COVER, text);
	if (error)
		return error;
	if (!mount(COVER, RESOLV, NULL, MS_BIND, NULL))
		return 0;
	if (errno != ENOENT)
		return errno;
	/* There is nothing to cover: an empty file is what has to stay. */
	fd = open(RESOLV, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno;
	close(fd);
	return mount(COVER, RESOLV, NULL, MS_BIND, NULL) ? errno : 0;
}

static const char *address_text(const uint8_t address[16], char *text, size_t size)
{
	static const uint8_t mapped[12] = {[10] = 0xff, 0xff};

	if (!memcmp(address, mapped, sizeof(mapped)))
		return inet_ntop(AF_INET, address + sizeof(mapped), text, (socklen_t)size);
	return inet_ntop(AF_INET6, address, text, (socklen_t)size);
}

/* Of all interfaces, in their order, as many as are read. False: there are none. */
static bool make_text(const struct proto_request *q, char *text, size_t size)
{
	static const uint8_t none[16];
	char name[INET6_ADDRSTRLEN];
	unsigned int lines = 0;
	size_t n = 0;

	for (unsigned int i = 0; i < q->n_nets * PROTO_RESOLVERS && lines < LINES; i++) {
		const uint8_t *address =
			q->nets[i / PROTO_RESOLVERS].resolvers[i % PROTO_RESOLVERS];

		if (!memcmp(address, none, sizeof(none)))
			continue;
		n += (size_t)snprintf(text + n, size - n, "nameserver %s\n",
			address_text(address, name, sizeof(name)));
		lines++;
	}
	return lines > 0;
}

void net_resolvers(struct boot *b, const struct proto_request *q)
{
	char text[LINES * (INET6_ADDRSTRLEN + 16)];
	int error;

	if (!make_text(q, text, sizeof(text)))
		return;
	error = b->root_in_memory ? write_in_memory(text) : cover(text);
	if (error)
		boot_trouble(b, "resolvers in", RESOLV, error);
}
