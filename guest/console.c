// SPDX-License-Identifier: MIT
// What init has to say where no host listens yet.
#include "guest/console.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LINE 256

static void append(char line[LINE], const char *s)
{
	size_t at = strlen(line), n = strlen(s);

	if (n > LINE - 1 - at)
		n = LINE - 1 - at;
	memcpy(line + at, s, n);
	line[at + n] = 0;
}

void console_say(const char *what, const char *name, int error)
{
	char line[LINE] = "<3>kvick-init: "; /* <3>: an error, shown on a quiet console too */
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	const char *parts[] = {what, " ", name, error ? ": " : "", error ? strerror(error) : ""};
	ssize_t n;

	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		append(line, parts[i]);
	append(line, "\n");
	n = write(fd >= 0 ? fd : STDERR_FILENO, line, strlen(line));
	(void)n; /* there is no one left to tell */
	if (fd >= 0)
		close(fd);
}
