// SPDX-License-Identifier: MIT
// The host's probes: each gives a finding that can be shown, and the quick check agrees with them.
#include "tests/unit/test.h"

#include "base/log.h"
#include "vmm/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct host_finding find(const char *name)
{
	struct host_finding f = {0};

	for (unsigned i = 0; i < host_probes(); i++) {
		host_probe(i, &f);
		if (!strcmp(f.name, name))
			break;
	}
	assert_string_equal(f.name, name);
	return f;
}

static void findings(void **state)
{
	assert_true(host_probes() >= 12);
	for (unsigned i = 0; i < host_probes(); i++) {
		struct host_finding f;

		host_probe(i, &f);
		assert_true(f.status < HOST_STATUSES);
		assert_true(f.name[0] && f.detail[0]);
		assert_non_null(host_status_name(f.status));
		/* What is not as it could be, KVM foremost, comes with what to do. */
		if (f.status == HOST_FORBIDDEN || (f.status == HOST_MISSING && i < 4))
			assert_true(f.advice[0]);
	}
}

static void quick_check(void **state)
{
	struct host_finding kvm = find("kvm");
	int any = host_open_kvm(true);

	assert_int_equal(any >= 0, kvm.status == HOST_OK);
	if (any < 0)
		assert_non_null(strstr(last_error(), "/dev/kvm"));
	else
		close(any);
}

static void software_is_refused(void **state)
{
	struct host_finding hardware = find("hardware");
	int fd = host_open_kvm(false);

	assert_int_equal(fd >= 0, host_runs_stock_guests());
	if (fd >= 0) {
		assert_int_equal(hardware.status, HOST_OK);
		close(fd);
		return;
	}
	/* Two lines: what is wrong, what to do. */
	assert_non_null(strchr(last_error(), '\n'));
	assert_ptr_equal(strchr(last_error(), '\n'), strrchr(last_error(), '\n'));
	assert_non_null(strstr(last_error(), "kvick doctor"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings),
		cmocka_unit_test(quick_check),
		cmocka_unit_test(software_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
