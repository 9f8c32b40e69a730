// SPDX-License-Identifier: MIT
// The words of --net: what they say, and what is refused.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "vmm/net_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

static void test_values(void **state)
{
	static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0xab, 0xCD, 0x01};
	struct net_config n;

	assert_int_equal(net_parse(&n, "tap"), 0);
	assert_int_equal(n.kind, NET_TAP);
	assert_int_equal(n.pairs, 1);
	assert_int_equal(n.link, NET_LINK_UP);
	assert_null(n.name);
	assert_int_equal(net_set_defaults(&n, 3), 0);
	assert_string_equal(n.id, "net3");
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "tap,id=a,,b,mac=52:54:00:aB:Cd:01,mtu=9000,queues=4,addr="
				       "0x1f,name=t,link=down"),
		0);
	assert_int_equal(net_set_defaults(&n, 3), 0);
	assert_string_equal(n.id, "a,b");
	assert_memory_equal(n.mac, mac, 6);
	net_set_mac(&n, "vm", 0);
	assert_memory_equal(n.mac, mac, 6);
	assert_int_equal(n.mtu, 9000);
	assert_int_equal(n.pairs, 4);
	assert_int_equal(n.slot, 31);
	assert_string_equal(n.name, "t");
	assert_int_equal(n.link, NET_LINK_DOWN);
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "tap,tx-bw=1M,tx-bw-burst=2K,rx-pps=7,rx-pps-burst=8"), 0);
	assert_int_equal(n.limits.tx.bandwidth, 1 << 20);
	assert_int_equal(n.limits.tx.bandwidth_burst, 2048);
	assert_int_equal(n.limits.tx.packets, 0);
	assert_int_equal(n.limits.rx.packets, 7);
	assert_int_equal(n.limits.rx.packets_burst, 8);
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "tap,fd=5,fd=7"), 0);
	assert_int_equal(n.pairs, 2);
	assert_string_equal(n.fd.items[1], "7");
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "none"), 0);
	assert_int_equal(n.kind, NET_NONE);
	net_config_finish(&n);
}

static void check_address(int family, const void *address, const char *want)
{
	char text[INET6_ADDRSTRLEN];

	assert_string_equal(inet_ntop(family, address, text, sizeof(text)), want);
}

static void test_addresses(void **state)
{
	struct net_config n;

	assert_int_equal(net_parse(&n, "tap,gw=fe80::1,ip=192.168.70.2/24,gw=192.168.70.1,ip="
				       "fd70::2/64,dns=10.9.9.9,dns=fd70::53,dns=192.168.70.1"),
		0);
	check_address(AF_INET, &n.told.resolver[0], "10.9.9.9");
	check_address(AF_INET, &n.told.resolver[1], "192.168.70.1");
	check_address(AF_INET, &n.told.resolver[2], "0.0.0.0");
	check_address(AF_INET6, &n.told.resolver6[0], "fd70::53");
	check_address(AF_INET, &n.told.address, "192.168.70.2");
	check_address(AF_INET, &n.told.gateway, "192.168.70.1");
	check_address(AF_INET6, &n.told.address6, "fd70::2");
	check_address(AF_INET6, &n.told.gateway6, "fe80::1");
	assert_int_equal(n.told.prefix, 24);
	assert_int_equal(n.told.prefix6, 64);
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "tap,ip=10.0.0.254/31,gw=10.0.0.255"), 0);
	check_address(AF_INET, &n.told.gateway, "10.0.0.255");
	assert_int_equal(n.told.prefix6, 0);
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "tap,ip=fd70::2:1/111,gw=fd70::3:1"), 0);
	check_address(AF_INET6, &n.told.gateway6, "fd70::3:1");
	assert_int_equal(n.told.prefix, 0);
	net_config_finish(&n);
	assert_int_equal(net_parse(&n, "bridge,ip=10.86.0.7/24"), 0);
	assert_string_equal(n.ip, "10.86.0.7/24");
	net_config_finish(&n);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *message; /* what is in it */
	} t[] = {
		{"", "a NIC of kind \"\""},
		{"tup", "a NIC of kind \"tup\""},
		{"ta", "a NIC of kind \"ta\""},
		{"tap,", "unknown key \"\""},
		{"tap,nmae=x", "unknown key \"nmae\""},
		{"none,name=x", "none,name=x: none: has no keys"},
		{"tap,name", "name: needs a value, name=TAP"},
		{"tap,mtu=1,mtu=2", "mtu: given twice"},
		{"tap,name=", "name : an interface's name"},
		{"tap,name=0123456789abcdef", "name 0123456789abcdef: an interface's name"},
		{"tap,name=x,fd=3", "name and fd"},
		{"tap,queues=9", "queues 9: must be 1 to 8"},
		{"tap,queues=0", "queues 0: must be 1 to 8"},
		{"tap,queues=2,fd=3", "queues 2: with 1 times fd"},
		{"tap,fd=1,fd=2,fd=3,fd=4,fd=5,fd=6,fd=7,fd=8,fd=9", "fd: given 9 times"},
		{"tap,mtu=67", "mtu 67: must be 68"},
		{"tap,mtu=65522", "mtu 65522: must be"},
		{"tap,addr=0", "addr 0: must be 1 to 31"},
		{"tap,tx-bw-burst=1K", "tx-bw-burst: needs tx-bw"},
		{"tap,rx-pps-burst=1,rx-bw=1", "rx-pps-burst: needs rx-pps"},
		{"tap,rx-pps=many", "rx-pps many: must be"},
		{"tap,id=", "id: must not be empty"},
		{"tap,link=maybe", "link maybe: must be one of up, down"},
		{"tap,ip=", "ip : must be an address and the length"},
		{"tap,ip=10.0.0.2", "ip 10.0.0.2: must be an address and"},
		{"tap,ip=10.0.0.2/", "ip 10.0.0.2/: must be an address and"},
		{"tap,ip=10.0.0/24", "ip 10.0.0/24: must be an address and"},
		{"tap,ip=10.0.0.2/24x", "ip 10.0.0.2/24x: must be an address and"},
		{"tap,ip=0000:0000:0000:0000:0000:0000:00000000000000.2/64", "must be an address"},
		{"tap,ip=10.0.0.2/0", "must be 1 to 32"},
		{"tap,ip=10.0.0.2/33", "must be 1 to 32"},
		{"tap,ip=fd70::2/129", "must be 1 to 128"},
		{"tap,ip=10.0.0.0/24", "ip 10.0.0.0/24: is no host's address"},
		{"tap,ip=10.0.0.255/24", "ip 10.0.0.255/24: is no host's address"},
		{"tap,ip=127.0.0.1/8", "is no host's address"},
		{"tap,ip=224.0.0.1/32", "is no host's address"},
		{"tap,ip=ff02::1/64", "is no host's address"},
		{"tap,ip=::1/64", "is no host's address"},
		{"tap,ip=10.0.0.2/24,ip=10.0.0.3/24", "ip 10.0.0.3/24: there is one of IPv4"},
		{"tap,ip=fd70::2/64,ip=fd70::3/64", "ip fd70::3/64: there is one of IPv6"},
		{"tap,gw=10.0.0.1", "gw 10.0.0.1: needs an ip of IPv4"},
		{"tap,ip=10.0.0.2/24,gw=fd70::1", "gw fd70::1: needs an ip of IPv6"},
		{"tap,ip=10.0.0.2/24,gw=10.0.0.1/24", "gw 10.0.0.1/24: must be an address"},
		{"tap,ip=10.0.0.2/24,gw=10.0.1.1", "gw 10.0.1.1: is no other host in the network"},
		{"tap,ip=10.0.0.2/23,gw=10.0.2.1", "gw 10.0.2.1: is no other host in"},
		{"tap,ip=10.0.0.2/24,gw=10.0.0.2", "gw 10.0.0.2: is no other host in"},
		{"tap,ip=10.0.0.2/24,gw=10.0.0.0", "gw 10.0.0.0: is no other host in"},
		{"tap,ip=fd70::2:1/112,gw=fd70::3:1", "gw fd70::3:1: is no other host in"},
		{"tap,dns=10.0.0.1", "dns 10.0.0.1: needs an ip of IPv4"},
		{"tap,ip=10.0.0.2/24,dns=fd70::1", "dns fd70::1: needs an ip of IPv6"},
		{"tap,ip=10.0.0.2/24,dns=name", "dns name: must be an address"},
		{"tap,ip=10.0.0.2/24,dns=", "dns : must be an address"},
		{"tap,ip=10.0.0.2/24,dns=127.0.0.1", "dns 127.0.0.1: is no host's address"},
		{"tap,ip=10.0.0.2/24,dns=0.0.0.0", "dns 0.0.0.0: is no host's address"},
		{"tap,ip=fd70::2/64,dns=ff02::1", "dns ff02::1: is no host's address"},
		{"tap,ip=10.0.0.2/24,dns=1.1.1.1,dns=1.1.1.2,dns=1.1.1.3,dns=1.1.1.4",
			"dns 1.1.1.4: there are 3 of IPv4 already"},
		{"user,dns=10.0.2.3", "dns: is a key of tap only"},
		{"tap,ip=10.0.0.2/24,gw=10.0.0.1,gw=10.0.0.3", "gw 10.0.0.3: there is one of IPv4"},
		{"tap,ip=fd70::2/64,gw=fd70::1,gw=fe80::1", "gw fe80::1: there is one of IPv6"},
		{"user,ip=10.0.2.9/24", "ip: is a key of tap, bridge only"},
		{"bridge,gw=10.0.2.2", "gw: is a key of tap only"},
		{"tap,mac=", "mac : must be six bytes"},
		{"tap,mac=02:00:00:00:00:0g", "must be six bytes"},
		{"tap,mac=02:00:00:00:00:1", "must be six bytes"},
		{"tap,mac=02-00-00-00-00-01", "must be six bytes"},
		{"tap,mac=02:00:00:00:00:01:", "must be six bytes"},
		{"tap,mac=03:00:00:00:00:01", "is of a group or nobody"},
		{"tap,mac=00:00:00:00:00:00", "is of a group or nobody"},
	};
	struct net_config n;

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(net_parse(&n, t[i].text) < 0, 1);
		if (!strstr(last_error(), t[i].message))
			fail_msg("\"%s\" gave \"%s\"", t[i].text, last_error());
		net_config_finish(&n);
	}
}

/* Locally administered, nobody's group; the same each time, another for another VM or number. */
static void test_mac(void **state)
{
	enum { VMS = 50, NICS = 16 };
	static struct net_config all[VMS * NICS];
	struct net_config again = {0};
	char name[16];

	for (unsigned i = 0; i < VMS * NICS; i++) {
		snprintf(name, sizeof(name), "vm%u", i / NICS);
		net_set_mac(&all[i], name, i % NICS);
		assert_int_equal(all[i].mac[0], 0x02);
		for (unsigned k = 0; k < i; k++)
			assert_memory_not_equal(all[i].mac, all[k].mac, 6);
	}
	net_set_mac(&again, "vm7", 3);
	assert_memory_equal(again.mac, all[7 * NICS + 3].mac, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
