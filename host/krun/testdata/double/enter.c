// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "double.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library;

void firmware_load(void)
{
	static bool tried;
	if (!tried)
		library = dlopen("libkrunfw.so.5", RTLD_LAZY | RTLD_LOCAL);
	tried = true;
}

static bool firmware_open(struct firmware *f)
{
	if (library == NULL)
		return false;
	const char *(*kernel)(uint64_t *, uint64_t *, size_t *) = (const char *(*)(uint64_t *, uint64_t *, size_t *))dlsym(library, "krunfw_get_kernel");
	const char *(*program)(size_t *) = (const char *(*)(size_t *))dlsym(library, "double_get_program");
	if (kernel == NULL)
		return false;
	uint64_t load, entry;
	f->kernel = kernel(&load, &entry, &f->kernel_size);
	f->program = program != NULL ? program(&f->program_size) : NULL; // none: a real libkrunfw
	return true;
}

// disks_open opens each twice, as libkrun does, and keeps one.
static bool disks_open(const struct context *x)
{
	for (int i = 0; i < x->ndisks; i++) {
		const struct disk *d = &x->disks[i];
		for (int again = 0; again < 2; again++) {
			struct call c;
			call_open(&c, "open disk");
			int fd = open(d->path, (d->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
			int failed = fd < 0 ? errno : order_is("disks", "lost") ? ENOENT : 0;
			call_text(&c, "path", d->path);
			call_bool(&c, "ro", d->ro);
			call_bool(&c, "writable", access(d->path, W_OK) == 0);
			call_number(&c, "errno", failed);
			call_event(&c);
			if (failed != 0) {
				fprintf(stderr, "double: cannot open disk %s: %s\n", d->path, strerror(failed));
				return false;
			}
		}
	}
	return true;
}

// The host's KVM is looked at only when a test says so: the double needs none.
static void kvm_open(void)
{
	if (order_is("kvm", "check") && open("/dev/kvm", O_RDWR | O_CLOEXEC) < 0) {
		fprintf(stderr, "double: cannot open /dev/kvm: %s\n", strerror(errno));
		abort(); // libkrun panics here
	}
}

static int console_open(const struct context *x)
{
	const char *path = x->console != NULL ? x->console : "/dev/null";
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

// bootable is whether the first disk has the file system that the remount names.
static bool bootable(const struct context *x)
{
	unsigned char magic[2] = {0, 0};
	if (order_is("boot", "panic") || !x->remount)
		return false;
	int fd = open(x->disks[0].path, O_RDONLY | O_CLOEXEC);
	bool read = fd >= 0 && pread(fd, magic, 2, 1024 + 56) == 2;
	close(fd);
	return read && magic[0] == 0x53 && magic[1] == 0xef; // ext4
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

// leave ends the process as libkrun does: at once, and with a code that says
// nothing of the guest.
static _Noreturn void leave(const struct context *x)
{
	const char *code = order_value("exit");
	if (x->empty != NULL)
		nftw(x->empty, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	_exit(code != NULL ? atoi(code) : 0);
}

static _Noreturn void run(const struct context *x, const struct firmware *f, int console)
{
	dprintf(console, "double: booting\n");
	if (order_value("exit") != NULL)
		leave(x);
	if (f->program == NULL || !bootable(x)) {
		dprintf(console, "double: kernel panic: no root file system\n");
		leave(x);
	}
	int sockets = open(x->empty, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sockets < 0 || dup2(sockets, SOCKETS_FD) < 0)
		abort();
	wire_outward(x); // a guest may dial at once
	pid_t pid = guest_start(x, f, console);
	if (pid < 0) {
		dprintf(console, "double: guest does not start: %s\n", strerror((int)-pid));
		fprintf(stderr, "double: guest does not start: %s\n", strerror((int)-pid));
		leave(x);
	}
	wire_inward(x); // late: the guest's driver asks for it
	umask(0);                 // so does its file system
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	dprintf(console, "double: guest has ended, status %d\n", status);
	leave(x);
}

API int32_t krun_start_enter(uint32_t id)
{
	struct firmware f;
	int32_t r;
	prctl(PR_SET_NAME, "libkrun VM");
	surroundings_record();
	struct call c;
	call_open(&c, __func__);
	call_number(&c, "ctx", id);
	struct context *x = context_of(id);
	if (x != NULL)
		context_drop(x); // consumed, also by a failure
	if (call_refused(&c, &r))
		return call_close(&c, r);
	if (x == NULL)
		return call_close(&c, -ENOENT);
	if (!firmware_open(&f)) {
		fprintf(stderr, "Couldn't find or load libkrunfw.so.5\n");
		return call_close(&c, -ENOENT);
	}
	if (!disks_open(x))
		return call_close(&c, -EINVAL);
	kvm_open();
	int console = console_open(x);
	if (console < 0)
		return call_close(&c, -EINVAL);
	call_entered(&c);
	run(x, &f, console);
}
