// SPDX-License-Identifier: MIT
#include "base/output.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

void output_begin(void)
{
	/* Else musl writes the first line at once, and what became of that is not known any more.
	 */
	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
}

int output_end(void)
{
	errno = EIO;
	return fflush(stdout) || ferror(stdout) ? failno(errno, "standard output") : 0;
}
