// SPDX-License-Identifier: Apache-2.0
//
// In libkrunfw's place: its "kernel" is guestd, which the double starts, and beside
// it lies the one program of the guest. GUESTD and PROGRAM are their files.

#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

// Page-aligned, as libkrun demands of a kernel.
#define EMBED(name, file)                        \
	__asm__(".section .rodata\n"             \
		".balign 4096\n"                 \
		"double_" #name ":\n"            \
		".incbin \"" file "\"\n"         \
		"double_" #name "_end:\n"        \
		".byte 0\n"                      \
		".previous\n");                  \
	extern const char double_##name[], double_##name##_end[]

#pragma GCC visibility push(hidden)
EMBED(guestd, GUESTD);
EMBED(program, PROGRAM);
#pragma GCC visibility pop

#ifndef WITHOUT_KERNEL // such a library is not libkrunfw, whatever its name

API const char *krunfw_get_kernel(uint64_t *load, uint64_t *entry, size_t *size)
{
	*load = 0x1000000;
	*entry = 0x1000000;
	*size = (size_t)(double_guestd_end - double_guestd);
	return double_guestd;
}

#endif

API int krunfw_get_version(void)
{
	return 5;
}

API const char *double_get_program(size_t *size)
{
	*size = (size_t)(double_program_end - double_program);
	return double_program;
}
