// SPDX-License-Identifier: MIT
#include "net/bridge/state.h"

#include "base/fd.h"
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LOCK "lock"
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* --- directories --------------------------------------------------------------------------------
 */

/*
 * The directory of this network namespace. Its cookie is a number that no other ever has, where
 * that of its file is given again (Linux before 5.14 has no other).
 */
static int namespace_path(char *buf, size_t len)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	struct stat st;

	if (fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		snprintf(buf, len, STATE_DIR "/%llu", (unsigned long long)cookie);
	else if (!stat("/proc/self/ns/net", &st))
		snprintf(buf, len, STATE_DIR "/ns-%llu", (unsigned long long)st.st_ino);
	else
		return failno(errno, "/proc/self/ns/net");
	return 0;
}

static int make_dir(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return failno(errno, "%s: cannot make it: run as root, or use --net user", path);
	return 0;
}

/* Whether it is the file that is there, and not one that was removed since it was opened. */
static bool is_there(int dir, const char *name, int fd)
{
	struct stat here, there;

	return !fstat(fd, &here) && !fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) &&
	       here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* The locked file, or -errno with a message; -ESTALE, without one, where another took it away. */
static int try_lock(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	CLEANUP_FD int dir = -1;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc = make_dir(STATE_DIR);

	if (rc)
		return rc;
	dir = open(STATE_DIR, DIR_FLAGS);
	if (dir < 0)
		return errno == ENOENT ? -ESTALE : failno(errno, STATE_DIR);
	if (fstat(dir, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022))
		return fail(EPERM,
			STATE_DIR ": must belong to user %u and be writable by no one else",
			geteuid());
	fd = openat(dir, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == ENOENT ? -ESTALE : failno(errno, STATE_DIR "/" LOCK);
	if (TEMP_FAILURE_RETRY(fcntl(fd, F_OFD_SETLKW, &l)) < 0)
		return failno(errno, STATE_DIR "/" LOCK);
	return is_there(dir, LOCK, fd) ? steal_fd(&fd) : -ESTALE;
}

static int take_lock(void)
{
	int fd;

	do
		fd = try_lock();
	while (fd == -ESTALE);
	return fd;
}

/* The lock first: whoever waits for it, or finds a directory that is about to go, sees that, and
 * begins again. */
static void remove_empty(void)
{
	char path[64];

	if (namespace_path(path, sizeof(path)) || (rmdir(path) < 0 && errno != ENOENT))
		return; /* there is something in it */
	unlinkat(AT_FDCWD, STATE_DIR "/" LOCK, 0);
	rmdir(STATE_DIR); /* not while another network namespace has something in it */
}

int state_open_to_look(struct state *s)
{
	char path[64];
	int rc = namespace_path(path, sizeof(path));

	*s = STATE_NONE;
	if (rc)
		return rc;
	s->dir = open(path, DIR_FLAGS);
	return s->dir < 0 && errno != ENOENT ? failno(errno, "%s", path) : 0;
}

int state_open(struct state *s)
{
	char path[64];
	int lock = take_lock(), rc;

	*s = STATE_NONE;
	if (lock < 0)
		return lock;
	rc = namespace_path(path, sizeof(path));
	if (!rc)
		rc = make_dir(path);
	if (!rc)
		rc = state_open_to_look(s);
	s->lock = lock;
	if (rc)
		state_close(s);
	return rc;
}

void state_close(struct state *s)
{
	cleanup_fd_(&s->dir);
	if (s->lock >= 0)
		remove_empty();
	cleanup_fd_(&s->lock);
	*s = STATE_NONE;
}

bool state_name_ok(const char *bridge)
{
	static const char first[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t len = strlen(bridge);

	if (!len || len >= IFNAMSIZ || !strchr(first, bridge[0]))
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!strchr(first, bridge[i]) && !strchr("._-", bridge[i]))
			return false;
	}
	return true;
}

int state_take_name(char to[IFNAMSIZ], const char *bridge)
{
	if (!state_name_ok(bridge))
		return fail(EINVAL,
			"%s: a bridge's name has 1 to %u letters, digits, '.', '_' or '-', of "
			"which "
			"the first is a letter or digit",
			*bridge ? bridge : "\"\"", IFNAMSIZ - 1);
	memcpy(to, bridge, strlen(bridge) + 1);
	return 0;
}

/* The entries of a directory that interfaces could be called by. */
static int is_name(const struct dirent *e)
{
	return state_name_ok(e->d_name);
}

/* Those names, sorted, "" after the last: malloc'd. 0, or -ENOMEM; a directory that is not there
 * has none. */
static int list_names(int at, const char *dir, char (**out)[IFNAMSIZ])
{
	struct dirent **entries;
	int n = scandirat(at, dir, &entries, is_name, versionsort);
	char(*names)[IFNAMSIZ] = calloc((size_t)MAX(n, 0) + 1, IFNAMSIZ);

	for (int i = 0; i < n; i++) {
		if (names)
			memcpy(names[i], entries[i]->d_name, strlen(entries[i]->d_name));
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	*out = names;
	return names ? 0 : fail(ENOMEM, "out of memory");
}

int state_bridges(const struct state *s, char (**out)[IFNAMSIZ])
{
	return list_names(s->dir, ".", out);
}

static int open_bridge(const struct state *s, const char *bridge)
{
	int fd = openat(s->dir, bridge, DIR_FLAGS);

	return fd < 0 ? -errno : fd;
}

int state_file(const struct state *s, const char *bridge, const char *file, int flags)
{
	CLEANUP_FD int dir = open_bridge(s, bridge);
	int fd = dir < 0 ? -1 : openat(dir, file, flags | O_CLOEXEC | O_NOFOLLOW, 0644);

	return fd < 0 ? -errno : fd;
}

void state_path(const struct state *s, const char *bridge, const char *file, char *buf, size_t len)
{
	char dir[64];

	if (namespace_path(dir, sizeof(dir)))
		snprintf(dir, sizeof(dir), STATE_DIR);
	snprintf(buf, len, "%s/%s/%s", dir, bridge, file);
}

/* --- files --------------------------------------------------------------------------------------
 */

static int write_json(int fd, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
	int rc = text ? fd_write_full(fd, text, strlen(text)) : -ENOMEM;

	free(text);
	json_decref(object);
	return rc;
}

static const char *string(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static bool flag(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

static uint32_t number(const json_t *object, const char *key)
{
	return (uint32_t)json_integer_value(json_object_get(object, key));
}

int state_load(const struct state *s, const char *bridge, struct bridge_state *out)
{
	CLEANUP_FD int fd = s->dir < 0 ? -ENOENT : state_file(s, bridge, "bridge", O_RDONLY);
	json_t *o = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);

	*out = (struct bridge_state){0};
	if (!o)
		return -ENOENT;
	snprintf(out->wish.name, sizeof(out->wish.name), "%s", bridge);
	snprintf(out->maker, sizeof(out->maker), "%s", string(o, "maker"));
	out->wish.address.address.s_addr = htonl(number(o, "address"));
	out->wish.address.prefix = number(o, "prefix");
	out->wish.nat = flag(o, "nat");
	out->wish.dhcp = flag(o, "dhcp");
	out->wish.isolate = flag(o, "isolate");
	out->ipv6 = flag(o, "ipv6");
	out->rules = flag(o, "rules");
	out->index = number(o, "index");
	json_decref(o);
	return 0;
}

/* Another file first: whoever is killed leaves the old words or the new ones. */
int state_save(const struct state *s, const struct bridge_state *b)
{
	const struct bridge_wish *w = &b->wish;
	CLEANUP_FD int dir = -1;
	CLEANUP_FD int fd = -1;
	int rc = mkdirat(s->dir, w->name, 0755) < 0 && errno != EEXIST ? -errno : 0;

	dir = rc ? -1 : open_bridge(s, w->name);
	if (dir >= 0)
		fd = openat(dir, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return failno(errno, "%s: cannot keep its state in " STATE_DIR, w->name);
	rc = write_json(fd,
		json_pack("{s:s, s:I, s:i, s:b, s:b, s:b, s:b, s:b, s:i}", "maker", b->maker,
			"address", (json_int_t)ntohl(w->address.address.s_addr), "prefix",
			(int)w->address.prefix, "nat", w->nat, "dhcp", w->dhcp, "isolate",
			w->isolate, "ipv6", b->ipv6, "rules", b->rules, "index", (int)b->index));
	if (!rc && renameat(dir, "new", dir, "bridge") < 0)
		rc = -errno;
	return rc ? failno(-rc, "%s: cannot keep its state in " STATE_DIR, w->name) : 0;
}

/* Empties a directory and removes it; `depth` is how many there may be in it. */
static void remove_dir(int at, const char *name, unsigned depth)
{
	int fd = openat(at, name, DIR_FLAGS);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0 && depth)
			remove_dir(fd, e->d_name, depth - 1);
	}
	if (d)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

void state_remove(const struct state *s, const char *bridge)
{
	remove_dir(s->dir, bridge, 1);
}

/* --- NICs ---------------------------------------------------------------------------------------
 */

#define NIC_FILE 24

static void nic_file(unsigned index, char buf[NIC_FILE])
{
	snprintf(buf, NIC_FILE, "nics/%u", index);
}

int state_add_nic(const struct state *s, const char *bridge, const struct nic_state *n)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	CLEANUP_FD int dir = open_bridge(s, bridge);
	CLEANUP_FD int fd = -1;
	char file[NIC_FILE];
	json_t *mac = json_array();
	int rc;

	nic_file(n->index, file);
	if (dir >= 0 && (!mkdirat(dir, "nics", 0755) || errno == EEXIST))
		fd = openat(dir, file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &l) < 0 || fchmod(fd, 0644) < 0) {
		json_decref(mac);
		return failno(errno, "%s: cannot keep the state of %s", bridge, n->tap);
	}
	for (unsigned i = 0; i < 6; i++)
		json_array_append_new(mac, json_integer(n->mac[i]));
	rc = write_json(
		fd, json_pack("{s:s, s:s, s:s, s:I, s:o, s:b, s:b}", "tap", n->tap, "vm", n->vm,
			    "nic", n->nic, "address", (json_int_t)ntohl(n->address.s_addr), "mac",
			    mac, "isolate", n->isolate, "spoof-guard", n->spoof_guard));
	if (rc) {
		unlinkat(dir, file, 0);
		return failno(-rc, "%s: cannot keep the state of %s", bridge, n->tap);
	}
	return steal_fd(&fd);
}

void state_remove_nic(const struct state *s, const char *bridge, unsigned index)
{
	CLEANUP_FD int dir = open_bridge(s, bridge);
	char file[NIC_FILE];

	nic_file(index, file);
	unlinkat(dir, file, 0);
}

/* Of one that was killed while it wrote there is the number alone, and nothing made yet. */
static void load_nic(int fd, struct nic_state *n)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	json_t *o = json_loadfd(fd, 0, NULL);
	const json_t *mac = json_object_get(o, "mac");

	/* Anyone may look, and with that take a lock to read. */
	n->alive = !fcntl(fd, F_OFD_GETLK, &l) && l.l_type == F_WRLCK;
	snprintf(n->tap, sizeof(n->tap), "%s", string(o, "tap"));
	snprintf(n->vm, sizeof(n->vm), "%s", string(o, "vm"));
	snprintf(n->nic, sizeof(n->nic), "%s", string(o, "nic"));
	n->address.s_addr = htonl(number(o, "address"));
	for (unsigned i = 0; i < 6; i++)
		n->mac[i] = (uint8_t)json_integer_value(json_array_get(mac, i));
	n->isolate = flag(o, "isolate");
	n->spoof_guard = flag(o, "spoof-guard");
	json_decref(o);
}

int state_nics(const struct state *s, const char *bridge, struct nic_list *out)
{
	CLEANUP_FD int dir = open_bridge(s, bridge);
	char(*names)[IFNAMSIZ];
	unsigned n = 0;

	*out = (struct nic_list){0};
	if (list_names(dir, "nics", &names))
		return -ENOMEM;
	while (names[n][0])
		n++;
	out->nics = calloc(n + 1, sizeof(*out->nics));
	for (unsigned i = 0; out->nics && i < n; i++) {
		struct nic_state *nic = &out->nics[out->count];
		char file[NIC_FILE];
		CLEANUP_FD int fd = -1;

		if (parse_u32(names[i], &nic->index))
			continue;
		nic_file(nic->index, file);
		fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		load_nic(fd, nic);
		out->count++;
	}
	free(names);
	return out->nics ? 0 : fail(ENOMEM, "out of memory");
}

void nics_free(struct nic_list *l)
{
	free(l->nics);
	*l = (struct nic_list){0};
}

unsigned nics_alive(const struct nic_list *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->count; i++)
		n += l->nics[i].alive;
	return n;
}

struct in6_addr state_address6(const struct bridge_state *b, struct in_addr address)
{
	const struct bridge_wish *w = &b->wish;

	return subnet6_address(w->name, ntohl(address.s_addr) - subnet_network(&w->address));
}
