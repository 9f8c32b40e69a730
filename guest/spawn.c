// SPDX-License-Identifier: MIT
// Starts the command that a session asks for, as a shell would find and start it.
//
// The child is made by vfork: no page table is copied, and since it shares our memory until it
// executes, it leaves the reason of a failure in *s where a pipe would be needed otherwise.
#include "guest/spawn.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL "/bin/sh"

static const char *const defaults[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"TERM=linux",
};
#define DEFAULTS (sizeof(defaults) / sizeof(defaults[0]))

/* What the child needs and must not allocate. */
struct plan {
	char **envp;
	char **script; /* room for a shell's arguments: the shell, the file, the rest of argv */
	const char *path;
};

static size_t vector_length(char *const *v)
{
	size_t n = 0;

	while (v[n])
		n++;
	return n;
}

static const char *variable(char *const *envp, const char *name, size_t length)
{
	for (; *envp; envp++)
		if (!strncmp(*envp, name, length) && (*envp)[length] == '=')
			return *envp + length + 1;
	return NULL;
}

static int make_plan(struct plan *p, const struct proto_request *q)
{
	size_t n = vector_length(q->envp);

	p->envp = calloc(n + DEFAULTS + 1, sizeof(*p->envp));
	p->script = calloc(vector_length(q->argv) + 2, sizeof(*p->script));
	if (!p->envp || !p->script)
		return ENOMEM;
	memcpy(p->envp, q->envp, n * sizeof(*p->envp));
	for (size_t i = 0; i < DEFAULTS; i++)
		if (!variable(q->envp, defaults[i], strcspn(defaults[i], "=")))
			p->envp[n++] = (char *)(uintptr_t)defaults[i];
	p->path = variable(p->envp, "PATH", 4);
	return 0;
}

/* Executes one file; a text without an interpreter's line goes to the shell. Returns errno. */
static int execute(const struct plan *p, char *file, char **argv)
{
	execve(file, argv, p->envp);
	if (errno != ENOEXEC)
		return errno;
	p->script[0] = (char *)(uintptr_t)SHELL;
	p->script[1] = file;
	memcpy(p->script + 2, argv + 1, vector_length(argv) * sizeof(*argv));
	execve(SHELL, p->script, p->envp);
	return ENOEXEC;
}

/* DIR/NAME, DIR being what *path has before its next colon, moved behind it. False at the end. */
static bool next_candidate(const char **path, const char *name, char file[PATH_MAX])
{
	size_t length, room;

	while (*path) {
		const char *dir = *path;

		length = strcspn(dir, ":");
		*path = dir[length] ? dir + length + 1 : NULL;
		room = strlen(name) + 2;
		if (room > PATH_MAX || length > PATH_MAX - room)
			continue;
		memcpy(file, dir, length);
		if (length)
			file[length++] = '/';
		memcpy(file + length, name, strlen(name) + 1);
		return true;
	}
	return false;
}

/* A file that is there and still gives ENOENT lacks its interpreter or dynamic loader. */
static void blame(struct spawn *s, int error, const char *file)
{
	if (error == ENOENT && !access(file, F_OK))
		s->step = PROTO_STEP_INTERPRETER;
}

static int search(struct spawn *s, const struct plan *p)
{
	char **argv = s->request->argv;
	const char *path = p->path;
	char file[PATH_MAX];
	int error, result = ENOENT;

	while (next_candidate(&path, argv[0], file)) {
		error = execute(p, file, argv);
		blame(s, error, file);
		if (error == EACCES)
			result = EACCES;
		else if ((error != ENOENT && error != ENOTDIR) || s->step != PROTO_STEP_COMMAND)
			return error;
	}
	return result;
}

static int find_and_execute(struct spawn *s, const struct plan *p)
{
	char **argv = s->request->argv;
	int error;

	if (!argv[0][0])
		return ENOENT;
	if (!strchr(argv[0], '/'))
		return search(s, p);
	error = execute(p, argv[0], argv);
	blame(s, error, argv[0]);
	return error;
}

static void clear_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child(struct spawn *s, const struct plan *p)
{
	setsid();
	for (int i = 0; i < PROTO_STREAMS; i++)
		dup2(s->fds[i], i);
	clear_signals();
	if (s->request->cwd && chdir(s->request->cwd)) {
		s->step = PROTO_STEP_CWD;
		s->error = errno;
	} else {
		s->error = find_and_execute(s, p);
	}
	_exit(127);
}

/* Returns once the child has executed the command, or has left the reason why not in *s. */
static pid_t run_child(struct spawn *s, const struct plan *p)
{
	pid_t pid;

	s->step = PROTO_STEP_COMMAND;
	/* The head of this file says why, and what the child may do. */
	pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
	if (!pid)
		child(s, p); /* NOLINT(clang-analyzer-unix.Vfork) */
	if (pid < 0) {
		s->step = PROTO_STEP_RESOURCES;
		s->error = errno;
	} else if (s->error) {
		waitpid(pid, NULL, 0);
	}
	return pid;
}

pid_t spawn_start(struct spawn *s)
{
	struct plan p = {0};
	pid_t pid = -1;

	s->step = PROTO_STEP_RESOURCES;
	s->error = make_plan(&p, s->request);
	if (!s->error)
		pid = run_child(s, &p);
	free(p.envp);
	free(p.script);
	return s->error ? -1 : pid;
}
