// SPDX-License-Identifier: MIT
// Modules of a guest's kernel: where they are, which are needed, and their bytes.
#include "loader/modules.h"

#include "base/fd.h"
#include "base/log.h"
#include "loader/modules_dep.h"
#include "loader/unpacker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define TEXT_MAX MIB(64)
#define MODULE_MAX MIB(64)

struct module {
	char *path; /* relative to the directory */
	char *file; /* its last part, without the suffix of a compression */
	void *data; /* once read */
	size_t size;
};

struct modules {
	char *dir;
	char *version;
	int fd;
	const struct unpacker *unpacker;
	struct module *v;
	size_t count;
};

/* Opens dir/sub/version, if it is there and `m` has none yet. `sub` and `version` may be "". */
static int try_dir(struct modules *m, const char *dir, const char *sub, const char *version)
{
	char *path;

	if (m->dir)
		return 0;
	if (asprintf(&path, "%s%s%s%s", dir, sub, *version ? "/" : "", version) < 0)
		return fail(ENOMEM, "no memory for the path of the modules");
	m->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->fd >= 0) {
		m->dir = path;
		return 0;
	}
	free(path);
	return errno == ENOENT || errno == ENOTDIR
		       ? 0
		       : failno(errno, "modules of kernel %s: %s", version, dir);
}

static int find_named(struct modules *m, const struct modules_config *cfg)
{
	char *dep;
	int rc;

	if (asprintf(&dep, "%s/modules.dep", cfg->dir) < 0)
		return fail(ENOMEM, "no memory for the path of the modules");
	rc = access(dep, F_OK) == 0 ? try_dir(m, cfg->dir, "", "") : 0;
	free(dep);
	if (!rc)
		rc = try_dir(m, cfg->dir, "/lib/modules", cfg->version);
	if (!rc)
		rc = try_dir(m, cfg->dir, "", cfg->version);
	if (!rc && !m->dir)
		rc = fail(ENOENT,
			"modules directory %s: it has neither a modules.dep nor a directory %s "
			"for this kernel",
			cfg->dir, cfg->version);
	return rc;
}

/* The folder that holds `path`; of "/" itself, "". In place. */
static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		*slash = '\0';
}

static int find_around(struct modules *m, const struct modules_config *cfg)
{
	char *beside CLEANUP_FREE = cfg->kernel_path ? realpath(cfg->kernel_path, NULL) : NULL;
	int rc = 0;

	if (beside) {
		go_up(beside);
		go_up(beside);
		rc = try_dir(m, beside, "/lib/modules", cfg->version);
	}
	return rc ? rc : try_dir(m, "/lib/modules", "", cfg->version);
}

/* 0 with t->text NULL where there is no such file. */
static int read_text(const struct modules *m, const char *name, struct dep_text *t)
{
	int fd CLEANUP_FD = openat(m->fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : failno(errno, "%s/%s", m->dir, name);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size > TEXT_MAX)
		return fail(EINVAL, "%s/%s: not a list of modules", m->dir, name);
	t->text = malloc((size_t)st.st_size + 1);
	if (!t->text)
		return fail(ENOMEM, "no memory for %s/%s", m->dir, name);
	n = fd_pread_full(fd, t->text, (size_t)st.st_size, 0);
	if (n < 0)
		return failno((int)-n, "reading %s/%s", m->dir, name);
	t->text[n] = '\0';
	t->len = (size_t)n;
	return 0;
}

static bool is_listed(const void *arg, const char *path, size_t len)
{
	const struct modules *m = arg;

	for (size_t i = 0; i < m->count; i++)
		if (strlen(m->v[i].path) == len && memcmp(m->v[i].path, path, len) == 0)
			return true;
	return false;
}

/* "virtio_mmio.ko" of "kernel/drivers/virtio/virtio_mmio.ko.xz"; NULL with a message. */
static char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	const char *suffix = strstr(base, ".ko");
	char *name = suffix ? strndup(base, (size_t)(suffix + 3 - base)) : NULL;

	if (!suffix)
		fail(EINVAL, "modules.dep lists %s, which is no module", path);
	else if (!name)
		fail(ENOMEM, "no memory for a list of modules");
	return name;
}

/* For dep_each: paths come with all they need before them. */
static int list_module(void *arg, const char *path, size_t len)
{
	struct modules *m = arg;
	struct module *v = reallocarray(m->v, m->count + 1, sizeof(*v));

	if (!v)
		return fail(ENOMEM, "no memory for a list of modules");
	m->v = v;
	v[m->count] = (struct module){.path = strndup(path, len)};
	v = &v[m->count++];
	if (!v->path)
		return fail(ENOMEM, "no memory for a list of modules");
	v->file = file_name(v->path);
	return v->file ? 0 : -EINVAL;
}

static int want_module(struct modules *m, const struct dep_text *dep,
	const struct dep_text *builtin, const struct module_want *want)
{
	const struct dep_list list = {list_module, is_listed, m};
	size_t len;
	const char *line = dep_find(dep, want->name, &len);

	if (line)
		return dep_each(dep, line, len, &list);
	if (want->optional || dep_is_builtin(builtin, want->name))
		return 0;
	return fail(ENOENT, "kernel %s needs module %s, which is neither built in nor in %s",
		m->version, want->name, m->dir);
}

static int resolve(struct modules *m, const struct modules_config *cfg)
{
	struct dep_text dep = {0}, builtin = {0};
	int rc = read_text(m, "modules.dep", &dep);

	if (!rc && !dep.text)
		rc = fail(ENOENT, "%s has no modules.dep; depmod makes it", m->dir);
	if (!rc)
		rc = read_text(m, "modules.builtin", &builtin);
	for (size_t i = 0; !rc && i < cfg->nwant; i++)
		rc = want_module(m, &dep, &builtin, &cfg->want[i]);
	free(dep.text);
	free(builtin.text);
	return rc;
}

/* A directory that the user named may be of any kernel. The first module tells; all are looked at
 * when read. */
static int check_version(struct modules *m)
{
	const void *data;
	size_t size;

	return m->count ? modules_read(m, 0, &data, &size) : 0;
}

int modules_resolve(struct modules **out, const struct modules_config *cfg)
{
	struct modules *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return fail(ENOMEM, "no memory for a list of modules");
	m->fd = -1;
	m->unpacker = cfg->unpacker;
	m->version = strdup(cfg->version);
	rc = !m->version ? fail(ENOMEM, "no memory for a list of modules")
	     : cfg->dir  ? find_named(m, cfg)
			 : find_around(m, cfg);
	if (!rc && m->dir)
		rc = resolve(m, cfg);
	if (!rc && cfg->dir)
		rc = check_version(m);
	if (rc) {
		modules_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

void modules_destroy(struct modules *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->count; i++) {
		free(m->v[i].path);
		free(m->v[i].file);
		free(m->v[i].data);
	}
	if (m->fd >= 0)
		close(m->fd);
	free(m->v);
	free(m->version);
	free(m->dir);
	free(m);
}

const char *modules_dir(const struct modules *m)
{
	return m->dir;
}

size_t modules_count(const struct modules *m)
{
	return m->count;
}

const char *modules_file(const struct modules *m, size_t i)
{
	return m->v[i].file;
}

static int check_vermagic(const struct modules *m, const struct module *v)
{
	static const char key[] = "\0vermagic=";
	const char *magic = memmem(v->data, v->size, key, sizeof(key) - 1);
	size_t left, n = strlen(m->version);

	if (!magic)
		return 0;
	magic += sizeof(key) - 1;
	left = v->size - (size_t)(magic - (const char *)v->data);
	if (left > n && memcmp(magic, m->version, n) == 0 && magic[n] == ' ')
		return 0;
	for (n = 0; n < left && n < 64 && magic[n] > ' ';)
		n++;
	return fail(EINVAL, "it was built for kernel %.*s, not for %s", (int)n, magic, m->version);
}

static int read_plain(struct module *v, int fd, size_t size)
{
	ssize_t n;

	v->data = malloc(size);
	n = v->data ? fd_pread_full(fd, v->data, size, 0) : -ENOMEM;
	if (n < 0)
		return failno((int)-n, "reading it");
	v->size = (size_t)n;
	return 0;
}

static int read_packed(struct module *v, int fd, size_t size, const struct unpacker *u)
{
	int64_t made = -ENOTSUP;
	int rc;

	if (u)
		made = u->begin(u->arg, fd, 0, size, MODULE_MAX);
	else
		fail(ENOTSUP, "there is nothing to unpack it with");
	if (made < 0)
		return (int)made;
	v->size = (size_t)made;
	v->data = malloc(v->size);
	rc = v->data ? u->read(u->arg, 0, v->data, v->size) : fail(ENOMEM, "no memory for it");
	u->end(u->arg);
	return rc;
}

static int read_module(const struct modules *m, struct module *v)
{
	int fd CLEANUP_FD = openat(m->fd, v->path, O_RDONLY | O_CLOEXEC);
	const char *suffix = strrchr(v->path, '.');
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failno(errno, "opening it");
	if (st.st_size == 0 || (uint64_t)st.st_size > MODULE_MAX)
		return fail(EINVAL, "%llu bytes are no module", (unsigned long long)st.st_size);
	if (suffix && strcmp(suffix, ".ko") == 0)
		return read_plain(v, fd, (size_t)st.st_size);
	return read_packed(v, fd, (size_t)st.st_size, m->unpacker);
}

int modules_read(struct modules *m, size_t i, const void **data, size_t *size)
{
	struct module *v = &m->v[i];
	int rc = 0;

	if (!v->data) {
		rc = read_module(m, v);
		if (!rc)
			rc = check_vermagic(m, v);
		if (rc) {
			free(v->data);
			v->data = NULL;
			return fail_context(rc, "module %s/%s", m->dir, v->path);
		}
	}
	*data = v->data;
	*size = v->size;
	return 0;
}
