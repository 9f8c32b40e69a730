// SPDX-License-Identifier: MIT
// Taps: interfaces of the host whose other end is a descriptor.
#include "net/tap.h"

#include "base/fd.h"
#include "base/field.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define DEVICE "/dev/net/tun"
#define OWN_NAME "kvt%d" /* the kernel's way of asking for the next number */
#define FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/* Linux 6.2 */
#define OFFLOAD_USO (0x20u | 0x40u) /* TUN_F_USO4, TUN_F_USO6: both or none */
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO)

#define BIT(f) (1ull << (f))

/* ---- offloads ---- */

static const struct {
	uint64_t guest, host; /* features: what the guest can receive, what it may send */
	unsigned flag;
} offloads[] = {
	{BIT(VIRTIO_NET_F_GUEST_CSUM), BIT(VIRTIO_NET_F_CSUM), TUN_F_CSUM},
	{BIT(VIRTIO_NET_F_GUEST_TSO4), BIT(VIRTIO_NET_F_HOST_TSO4), TUN_F_TSO4},
	{BIT(VIRTIO_NET_F_GUEST_TSO6), BIT(VIRTIO_NET_F_HOST_TSO6), TUN_F_TSO6},
	{BIT(VIRTIO_NET_F_GUEST_ECN), BIT(VIRTIO_NET_F_HOST_ECN), TUN_F_TSO_ECN},
	{BIT(VIRTIO_NET_F_GUEST_UFO), BIT(VIRTIO_NET_F_HOST_UFO), TUN_F_UFO},
	{BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6), BIT(NET_F_HOST_USO), OFFLOAD_USO},
};

/* All but the first need the first; ECN needs one of those that it is about. */
static unsigned flags_of(uint64_t guest)
{
	unsigned flags = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++)
		if ((guest & offloads[i].guest) == offloads[i].guest)
			flags |= offloads[i].flag;
	if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags &= ~(unsigned)TUN_F_TSO_ECN;
	return flags & TUN_F_CSUM ? flags : 0;
}

static uint64_t features_of(unsigned flags)
{
	uint64_t f = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++)
		if (flags & offloads[i].flag)
			f |= offloads[i].guest | offloads[i].host;
	return f;
}

int tap_set_offloads(int fd, uint64_t guest)
{
	unsigned flags = flags_of(guest);

	return ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags) < 0
		       ? failno(errno, "TUNSETOFFLOAD %#x", flags)
		       : 0;
}

/* What the kernel has: it refuses what it does not know. */
static uint64_t probe_offloads(int fd)
{
	static const unsigned tries[] = {OFFLOADS | OFFLOAD_USO, OFFLOADS, TUN_F_CSUM};
	unsigned i = 0;

	while (i < ARRAY_SIZE(tries) && ioctl(fd, TUNSETOFFLOAD, (unsigned long)tries[i]) < 0)
		i++;
	ioctl(fd, TUNSETOFFLOAD, 0ul);
	return i < ARRAY_SIZE(tries) ? features_of(tries[i]) : 0;
}

int tap_set_queue(int fd, bool attached)
{
	struct ifreq r = {.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	/* EINVAL: it is so already. */
	if (ioctl(fd, TUNSETQUEUE, &r) < 0 && errno != EINVAL)
		return failno(errno, "TUNSETQUEUE");
	return 0;
}

int tap_set_filter(int fd, const uint8_t (*macs)[6], unsigned count, bool groups)
{
	union {
		struct tun_filter head;
		char space[sizeof(struct tun_filter) + TAP_FILTER_MAX * 6];
	} f = {.head = {.flags = groups ? TUN_FLT_ALLMULTI : 0, .count = (uint16_t)count}};

	if (count)
		memcpy(f.space + offsetof(struct tun_filter, addr), macs, count * 6);
	return ioctl(fd, TUNSETTXFILTER, &f) < 0 ? failno(errno, "TUNSETTXFILTER") : 0;
}

/* ---- opening ---- */

static int open_device(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return failno(errno, DEVICE ": the host has no taps; modprobe tun");
	return failno(errno, DEVICE);
}

/* Why an interface could not be attached to. */
static int refused(const char *name, int err, unsigned pairs)
{
	if (err == EPERM && !name)
		return fail(EPERM, "a new tap takes CAP_NET_ADMIN; as root: ip tuntap add dev TAP "
				   "mode tap user USER, then name=TAP");
	if (err == EPERM)
		return fail(EPERM,
			"tap %s: it is not yours; as root: ip tuntap add dev %s mode tap user USER",
			name, name);
	if (err == EBUSY)
		return fail(EBUSY, "tap %s: another process uses it", name);
	if (err == EINVAL && pairs > 1)
		return fail(EINVAL,
			"tap %s: it is no tap, or one queue is all it has; multi_queue at the end "
			"of ip tuntap add gives it more",
			name);
	if (err == EINVAL)
		return fail(EINVAL, "tap %s: it is an interface, but no tap", name);
	return failno(err, "tap %s", name ? name : "of our own");
}

static int attach(int fd, const char *name, unsigned flags)
{
	struct ifreq r = {.ifr_flags = (short)flags};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &r) < 0 ? -errno : 0;
}

/* One queue; a tap with several can do with one of them. */
static int open_queue(const struct net_end *end, const char *name, unsigned pairs)
{
	CLEANUP_FD int fd = open_device();
	unsigned flags = FLAGS | (pairs > 1 ? IFF_MULTI_QUEUE : 0);
	const char *which = *end->name ? end->name : name ? name : OWN_NAME;
	int rc;

	if (fd < 0)
		return fd;
	rc = attach(fd, which, flags);
	if (rc == -EINVAL && pairs == 1)
		rc = attach(fd, which, FLAGS | IFF_MULTI_QUEUE);
	return rc ? refused(name, -rc, pairs) : steal_fd(&fd);
}

static int prepare_queue(int fd, const char *name)
{
	int size = NET_HEADER, one = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 || ioctl(fd, TUNSETVNETLE, &one) < 0)
		return failno(errno, "tap %s: its header", name);
	return 0;
}

static int name_of(int fd, char name[IFNAMSIZ], short *flags)
{
	struct ifreq r = {0};

	if (ioctl(fd, TUNGETIFF, &r) < 0)
		return -errno;
	memcpy(name, r.ifr_name, IFNAMSIZ);
	*flags = r.ifr_flags;
	return 0;
}

/* One of an interface's ioctls. */
static int ask(const char *name, unsigned long what, struct ifreq *r)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(r->ifr_name, sizeof(r->ifr_name), "%s", name);
	return fd < 0 || ioctl(fd, what, r) < 0 ? -errno : 0;
}

static int set_mtu(struct net_end *end, uint32_t mtu)
{
	struct ifreq r = {.ifr_mtu = (int)mtu};
	int rc = mtu ? ask(end->name, SIOCSIFMTU, &r) : ask(end->name, SIOCGIFMTU, &r);

	if (!rc)
		end->mtu = (uint32_t)r.ifr_mtu;
	return rc && mtu ? failno(-rc, "tap %s: mtu %u", end->name, mtu) : 0;
}

static int set_up(const char *name)
{
	struct ifreq r = {0};
	int rc = ask(name, SIOCGIFFLAGS, &r);

	r.ifr_flags |= IFF_UP;
	if (!rc)
		rc = ask(name, SIOCSIFFLAGS, &r);
	return rc ? failno(-rc, "tap %s: to set it up", name) : 0;
}

static void warn_if_down(const char *name)
{
	struct ifreq r = {0};

	if (!ask(name, SIOCGIFFLAGS, &r) && !(r.ifr_flags & IFF_UP))
		log_warn("tap %s is down and takes no packets; ip link set %s up", name, name);
}

static int open_queues(struct net_end *end, const char *name, unsigned pairs)
{
	short flags;
	int rc = 0;

	while (!rc && end->pairs < pairs) {
		int fd = open_queue(end, name, pairs);

		if (fd < 0)
			return fd;
		end->fd[end->pairs++] = fd;
		rc = name_of(fd, end->name, &flags);
		rc = rc ? failno(-rc, DEVICE) : prepare_queue(fd, end->name);
	}
	return rc;
}

/* On an interface that is up the host listens to routers, which a guest could say it is. Where IPv6
 * is not there, or not for us to set, there is nothing to keep. */
static void harden(const char *name)
{
	static const char *const switches[] = {"accept_ra", "accept_redirects"};

	for (unsigned i = 0; i < ARRAY_SIZE(switches); i++) {
		char path[80];
		CLEANUP_FD int fd = -1;

		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, switches[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && fd_write_full(fd, "0", 1))
			log_warn("%s: %s", path, strerror(errno));
	}
}

int tap_open(struct net_end *out, const char *name, unsigned pairs, uint32_t mtu)
{
	int rc;

	*out = (struct net_end){.tap = true};
	if (name && !if_nametoindex(name))
		return fail(ENOENT,
			"tap %s: there is no such interface; as root: ip tuntap add dev %s mode "
			"tap user USER, or leave name= out for a new one",
			name, name);
	rc = open_queues(out, name, pairs);
	if (!rc)
		rc = set_mtu(out, mtu);
	if (!rc && !name) {
		harden(out->name);
		rc = set_up(out->name);
	}
	if (rc) {
		port_close(out);
		return rc;
	}
	if (name)
		warn_if_down(name);
	out->offers = probe_offloads(out->fd[0]);
	return 0;
}

/* Which is not the one of a tap that it is to be. */
static int check(const struct net_end *end, int fd, const char *name, short flags)
{
	if ((flags & (IFF_NO_PI | IFF_VNET_HDR)) != (IFF_NO_PI | IFF_VNET_HDR))
		return fail(EINVAL, "fd %d: tap %s is to be opened with IFF_NO_PI and IFF_VNET_HDR",
			fd, name);
	if (end->pairs && strcmp(name, end->name) != 0)
		return fail(EINVAL, "fd %d: tap %s, where another is %s", fd, name, end->name);
	for (unsigned i = 0; i < end->pairs; i++)
		if (end->fd[i] == fd)
			return fail(EINVAL, "fd %d: given twice", fd);
	return 0;
}

static int adopt(struct net_end *end, int fd)
{
	char name[IFNAMSIZ];
	short flags = 0;
	int rc = 0;

	if (name_of(fd, name, &flags) || !(flags & IFF_TAP))
		return fail(EINVAL, "fd %d: it is no tap", fd);
	rc = check(end, fd, name, flags);
	if (rc)
		return rc;
	memcpy(end->name, name, sizeof(name));
	end->fd[end->pairs++] = fd;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return failno(errno, "fd %d", fd);
	return prepare_queue(fd, name);
}

int tap_take(struct net_end *out, const int *fds, unsigned count)
{
	int rc = 0;

	*out = (struct net_end){.tap = true};
	for (unsigned i = 0; i < count && !rc; i++)
		rc = adopt(out, fds[i]);
	if (!rc)
		out->offers = probe_offloads(out->fd[0]);
	for (unsigned i = 0; rc && i < count; i++)
		close(fds[i]);
	if (rc)
		out->pairs = 0;
	return rc;
}

void tap_learn_mtu(struct net_end *end)
{
	set_mtu(end, 0);
}

static int adopt_open(struct net_end *end, const char *text)
{
	uint32_t fd;

	if (parse_u32(text, &fd) || fd < 3)
		return fail(EINVAL, "fd %s: must be a descriptor's number, from 3 on", text);
	if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return fail(EBADF, "fd %s: no such descriptor is open", text);
	return adopt(end, (int)fd);
}

int tap_adopt(struct net_end *out, const struct field_list *fds)
{
	int rc = 0;

	*out = (struct net_end){.tap = true};
	for (unsigned i = 0; i < fds->count && !rc; i++)
		rc = adopt_open(out, fds->items[i]);
	if (rc) {
		port_close(out);
		return rc;
	}
	set_mtu(out, 0);
	warn_if_down(out->name);
	out->offers = probe_offloads(out->fd[0]);
	return 0;
}
