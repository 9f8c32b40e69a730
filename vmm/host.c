// SPDX-License-Identifier: MIT
// What this host offers: KVM first, then what makes guests quicker or gives them more.
//
// /dev/kvm alone does not mean that guests run: some cloud machines have one whose module
// interprets the guest's kernel in software, and no stock Linux gets far on that. The processor
// tells: where it shows neither SVM nor VMX, or the module kvm_pvm is loaded without kvm_intel and
// kvm_amd, nothing else can be behind the device.
#include "vmm/host.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define CGROUP2_MAGIC 0x63677270

const char *host_status_name(enum host_status s)
{
	static const char *const names[] = {
		[HOST_OK] = "ok",
		[HOST_LIMITED] = "limited",
		[HOST_MISSING] = "missing",
		[HOST_FORBIDDEN] = "forbidden",
	};
	_Static_assert(ARRAY_SIZE(names) == HOST_STATUSES, "a name for each status");

	return names[s];
}

enum cpu_virt { CPU_NONE, CPU_VMX, CPU_SVM };

static enum cpu_virt cpu_virt(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 5))
		return CPU_VMX;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1u << 2))
		return CPU_SVM;
	return CPU_NONE;
}

static bool in_vm(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 31);
}

static bool module_loaded(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return !access(path, F_OK);
}

/* Whether what answers at /dev/kvm interprets guests in software. */
static bool kvm_is_software(void)
{
	if (cpu_virt() == CPU_NONE)
		return true;
	return module_loaded("kvm_pvm") && !module_loaded("kvm_intel") && !module_loaded("kvm_amd");
}

static const char *advice_no_kvm(void)
{
	switch (cpu_virt()) {
	case CPU_VMX:
		return "load it: sudo modprobe kvm_intel";
	case CPU_SVM:
		return "load it: sudo modprobe kvm_amd";
	default:
		break;
	}
	if (in_vm())
		return "this is a virtual machine whose provider has not enabled nested "
		       "virtualization; "
		       "enable it there, or try Kvick in tools/lab";
	return "enable VT-x or AMD-V in the firmware, or try Kvick in tools/lab";
}

static const char *const advice_software =
	"enable nested virtualization at the provider or use a bare-metal host; "
	"tools/lab -- kvick run ... tries it in an emulated machine";

/* Where no group but root's has it, as in many containers, to be in one is of no use. */
static const char *advice_forbidden(void)
{
	struct stat st;

	if (!stat("/dev/kvm", &st) && ((st.st_mode & 060) != 060 || !st.st_gid))
		return "no group may either: sudo setfacl -m u:$USER:rw /dev/kvm";
	return "sudo usermod -aG kvm $USER, and log in again";
}

/* The descriptor of /dev/kvm or -errno, with what to say in *out. */
static int open_kvm(struct host_finding *out)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	fd = -errno;
	if (fd == -EACCES || fd == -EPERM) {
		out->status = HOST_FORBIDDEN;
		snprintf(out->detail, sizeof(out->detail),
			"/dev/kvm may not be opened by this user");
		snprintf(out->advice, sizeof(out->advice), "%s", advice_forbidden());
	} else {
		out->status = HOST_MISSING;
		snprintf(out->detail, sizeof(out->detail), "/dev/kvm cannot be opened: %s",
			strerror(-fd));
		snprintf(out->advice, sizeof(out->advice), "%s", advice_no_kvm());
	}
	return fd;
}

int host_open_kvm(bool allow_software)
{
	struct host_finding f;
	int fd = open_kvm(&f);

	if (fd < 0)
		return fail(-fd, "%s\n  %s; kvick doctor has the details", f.detail, f.advice);
	if (allow_software || !kvm_is_software())
		return fd;
	close(fd);
	return fail(ENODEV,
		"the KVM of this host is software, which cannot run stock guests\n"
		"  %s; kvick doctor has the details",
		advice_software);
}

bool host_runs_stock_guests(void)
{
	struct host_finding f;
	CLEANUP_FD int fd = open_kvm(&f);

	return fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION &&
	       !kvm_is_software();
}

static void say(
	struct host_finding *out, enum host_status s, const char *detail, const char *advice)
{
	out->status = s;
	snprintf(out->detail, sizeof(out->detail), "%s", detail);
	snprintf(out->advice, sizeof(out->advice), "%s", advice);
}

static void probe_kvm(struct host_finding *out)
{
	CLEANUP_FD int fd = open_kvm(out);
	int version;

	if (fd < 0)
		return;
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION) {
		say(out, HOST_OK, "/dev/kvm opens and speaks version 12", "");
		return;
	}
	out->status = HOST_MISSING;
	snprintf(out->detail, sizeof(out->detail), "/dev/kvm speaks version %d, not 12", version);
	snprintf(out->advice, sizeof(out->advice), "run a stock kernel of 4.11 or later");
}

static void probe_hardware(struct host_finding *out)
{
	static const char *const found[] = {
		[CPU_VMX] = "the processor shows VT-x: stock guests run",
		[CPU_SVM] = "the processor shows AMD-V: stock guests run",
	};
	enum cpu_virt virt = cpu_virt();

	if (!kvm_is_software())
		say(out, HOST_OK, found[virt], "");
	else if (!access("/dev/kvm", F_OK))
		say(out, HOST_LIMITED,
			"KVM here is software: no stock guest runs on it under any monitor",
			advice_software);
	else
		say(out, HOST_MISSING, "the processor shows neither VT-x nor AMD-V",
			advice_no_kvm());
}

static void probe_nested(struct host_finding *out)
{
	if (!in_vm())
		say(out, HOST_OK, "this is no virtual machine: guests run directly on the hardware",
			"");
	else if (cpu_virt() == CPU_NONE)
		say(out, HOST_MISSING, "this is a virtual machine without nested virtualization",
			"enable it at the provider");
	else
		say(out, HOST_LIMITED,
			"this is a virtual machine: guests are nested, exits cost more",
			"use a bare-metal host where speed matters");
}

/* What the monitor asks of KVM. Without a required one no machine can be made. */
static const struct {
	int cap;
	bool required;
	const char *name;
} caps[] = {
	{KVM_CAP_IRQCHIP, true, "irqchip"},
	{KVM_CAP_USER_MEMORY, true, "user_memory"},
	{KVM_CAP_SET_TSS_ADDR, true, "set_tss_addr"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, true, "set_identity_map_addr"},
	{KVM_CAP_EXT_CPUID, true, "ext_cpuid"},
	{KVM_CAP_IRQFD, true, "irqfd"},
	{KVM_CAP_IOEVENTFD, true, "ioeventfd"},
	{KVM_CAP_IMMEDIATE_EXIT, true, "immediate_exit"},
	{KVM_CAP_MP_STATE, true, "mp_state"},
	{KVM_CAP_VCPU_EVENTS, true, "vcpu_events"},
	{KVM_CAP_XSAVE, true, "xsave"},
	{KVM_CAP_XCRS, true, "xcrs"},
	{KVM_CAP_ADJUST_CLOCK, true, "adjust_clock"},
	{KVM_CAP_TSC_DEADLINE_TIMER, false, "tsc_deadline_timer"},
	{KVM_CAP_SYNC_REGS, false, "sync_regs"},
	{KVM_CAP_XSAVE2, false, "xsave2"},
	{KVM_CAP_KVMCLOCK_CTRL, false, "kvmclock_ctrl"},
};

static void probe_caps(struct host_finding *out)
{
	CLEANUP_FD int fd = open_kvm(out);
	size_t used = 0;
	bool required = false;

	if (fd < 0)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		if (ioctl(fd, KVM_CHECK_EXTENSION, caps[i].cap) > 0 || used >= sizeof(out->detail))
			continue;
		used += (size_t)snprintf(out->detail + used, sizeof(out->detail) - used, "%s %s",
			used ? "," : "KVM lacks", caps[i].name);
		required |= caps[i].required;
	}
	if (!used) {
		say(out, HOST_OK, "KVM has every capability that Kvick uses", "");
		return;
	}
	out->status = required ? HOST_MISSING : HOST_LIMITED;
	snprintf(out->advice, sizeof(out->advice), "run a host kernel of 5.10 or later");
}

/* A device that need not be there: opened, and closed again. */
static void probe_device(
	struct host_finding *out, const char *path, const char *use, const char *module)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	bool forbidden = fd < 0 && (errno == EACCES || errno == EPERM);

	out->status = fd >= 0 ? HOST_OK : forbidden ? HOST_FORBIDDEN : HOST_MISSING;
	if (fd >= 0)
		snprintf(out->detail, sizeof(out->detail), "%s opens: %s", path, use);
	else
		snprintf(out->detail, sizeof(out->detail), "%s: %s; it is for %s", path,
			strerror(errno), use);
	if (forbidden)
		snprintf(out->advice, sizeof(out->advice), "sudo setfacl -m u:$USER:rw %s", path);
	else if (fd < 0)
		snprintf(out->advice, sizeof(out->advice), "sudo modprobe %s", module);
}

static void probe_tun(struct host_finding *out)
{
	probe_device(out, "/dev/net/tun", "tap networking", "tun");
}

static void probe_vhost_net(struct host_finding *out)
{
	probe_device(out, "/dev/vhost-net", "networking in the kernel", "vhost_net");
}

static void probe_vhost_vsock(struct host_finding *out)
{
	probe_device(
		out, "/dev/vhost-vsock", "vsock in the kernel; Kvick has its own", "vhost_vsock");
}

static void probe_io_uring(struct host_finding *out)
{
	struct io_uring_params p = {0};
	CLEANUP_FD int fd = (int)syscall(SYS_io_uring_setup, 2, &p);

	if (fd >= 0)
		say(out, HOST_OK, "io_uring works", "");
	else if (errno == EPERM || errno == EACCES)
		say(out, HOST_FORBIDDEN, "io_uring is forbidden: disks are slower without it",
			"sudo sysctl kernel.io_uring_disabled=0, or allow it in the container's "
			"seccomp profile");
	else
		say(out, HOST_MISSING, "this kernel has no io_uring: disks are slower without it",
			"run a host kernel of 5.10 or later");
}

static void probe_userfaultfd(struct host_finding *out)
{
	CLEANUP_FD int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	CLEANUP_FD int user = -1;

	if (fd >= 0) {
		say(out, HOST_OK, "userfaultfd works: memory can be restored on demand", "");
		return;
	}
	user = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (user >= 0)
		say(out, HOST_LIMITED, "userfaultfd is for user-mode faults only, not for KVM's",
			"sudo sysctl vm.unprivileged_userfaultfd=1, or access to "
			"/dev/userfaultfd");
	else
		say(out, errno == EPERM ? HOST_FORBIDDEN : HOST_MISSING,
			"userfaultfd does not work: memory cannot be restored on demand",
			"sudo sysctl vm.unprivileged_userfaultfd=1");
}

/* The first line of a small file of the kernel's, without its newline; false when there is none. */
static bool read_line(const char *path, char *buf, size_t len)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static void probe_huge(struct host_finding *out)
{
	static const char *const advice =
		"echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled";
	char line[96];

	if (!read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line)))
		say(out, HOST_MISSING,
			"this kernel has no transparent huge pages: guests boot slower", "");
	else if (strstr(line, "[never]"))
		say(out, HOST_LIMITED, "transparent huge pages are off: guests boot slower",
			advice);
	else
		say(out, HOST_OK,
			strstr(line, "[always]")
				? "transparent huge pages: always"
				: "transparent huge pages: where asked for, as Kvick does",
			"");
}

static void probe_hugetlb(struct host_finding *out)
{
	char total[32];

	if (!read_line(
		    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", total, sizeof(total)))
		say(out, HOST_MISSING, "this kernel has no reserved huge pages of 2 MiB", "");
	else if (!strcmp(total, "0"))
		say(out, HOST_OK, "no huge pages are reserved; Kvick needs none", "");
	else
		snprintf(out->detail, sizeof(out->detail), "%s huge pages of 2 MiB are reserved",
			total);
}

static void probe_cgroup(struct host_finding *out)
{
	struct statfs s;

	if (!statfs("/sys/fs/cgroup", &s) && s.f_type == CGROUP2_MAGIC)
		say(out, HOST_OK, "cgroup v2 is mounted: limits can be set on a VM's process", "");
	else
		say(out, HOST_MISSING, "cgroup v2 is not mounted: no limits on a VM's process",
			"boot the host with systemd.unified_cgroup_hierarchy=1");
}

static const struct {
	const char *name;
	void (*probe)(struct host_finding *out);
} probes[] = {
	{"kvm", probe_kvm},
	{"hardware", probe_hardware},
	{"nested", probe_nested},
	{"capabilities", probe_caps},
	{"tun", probe_tun},
	{"vhost-net", probe_vhost_net},
	{"vhost-vsock", probe_vhost_vsock},
	{"io_uring", probe_io_uring},
	{"userfaultfd", probe_userfaultfd},
	{"huge-pages", probe_huge},
	{"hugetlb", probe_hugetlb},
	{"cgroup2", probe_cgroup},
};

unsigned host_probes(void)
{
	return ARRAY_SIZE(probes);
}

void host_probe(unsigned i, struct host_finding *out)
{
	*out = (struct host_finding){.name = probes[i].name};
	probes[i].probe(out);
}
