// SPDX-License-Identifier: MIT
// What the distribution's static libraries call beyond C: they were compiled against glibc,
// fortified.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the Linux Standard Base has them: `room` is what the compiler knew of the buffer. */
int __snprintf_chk(char *to, size_t size, int flag, size_t room, const char *fmt, ...);
int __vsnprintf_chk(char *to, size_t size, int flag, size_t room, const char *fmt, va_list ap);
char *__strncpy_chk(char *to, const char *from, size_t size, size_t room);

int __vsnprintf_chk(char *to, size_t size, int flag, size_t room, const char *fmt, va_list ap)
{
	if (size > room)
		abort();
	return vsnprintf(to, size, fmt, ap);
}

int __snprintf_chk(char *to, size_t size, int flag, size_t room, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __vsnprintf_chk(to, size, flag, room, fmt, ap);
	va_end(ap);
	return n;
}

char *__strncpy_chk(char *to, const char *from, size_t size, size_t room)
{
	if (size > room)
		abort();
	return strncpy(to, from, size);
}
