// SPDX-License-Identifier: MIT
// A kernel as far as its file is looked at: an ELF file with a release in it.
#include <stdio.h>

static const char banner[] = "Linux version 0.0.0-kvick-test (someone@somewhere) #1";

int main(void)
{
	return puts(banner) < 0;
}
