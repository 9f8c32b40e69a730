// SPDX-License-Identifier: MIT
// Small steps of the guest's boot: parameters, the loopback interface, the connection to the host.
#include "guest/boot.h"

#include "guest/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strlen(from);

	if (n > size - 1)
		n = size - 1;
	memcpy(to, from, n);
	to[n] = 0;
}

void boot_trouble(struct boot *b, const char *what, const char *name, int error)
{
	struct trouble *t = &b->troubles[b->n_troubles];

	if (b->n_troubles++ >= BOOT_TROUBLES)
		return;
	t->what = what;
	t->error = error;
	copy_text(t->name, sizeof(t->name), name);
}

static void parameter(struct boot *b, const char *word)
{
	if (!strncmp(word, "kvick.port=", 11))
		b->port = (unsigned int)strtoul(word + 11, NULL, 10);
	else if (!strncmp(word, "kvick.root=", 11))
		copy_text(b->root, sizeof(b->root), word + 11);
}

void boot_parameters(struct boot *b)
{
	char line[4096], *rest = line, *word;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	b->port = PROTO_PORT;
	copy_text(b->root, sizeof(b->root), "initramfs");
	if (fd < 0)
		return;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return;
	line[n] = 0;
	while ((word = strsep(&rest, " \n")))
		parameter(b, word);
}

void boot_loopback(struct boot *b)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return; /* a kernel without IPv4 has no 127.0.0.1 to bring up */
	if (ioctl(fd, SIOCSIFFLAGS, &r))
		boot_trouble(b, "interface", r.ifr_name, errno);
	close(fd);
}

int boot_connect(const struct boot *b)
{
	struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = b->port};
	int error, fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&host, sizeof(host)))
		return fd;
	error = errno;
	close(fd);
	return -error;
}
